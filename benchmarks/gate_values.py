"""What sound and faulty images come to at the gates, behind their bounds: `python benchmarks/gate_values.py`.

Shares of a particle's own contrast under plain optics, over AgCo and AuCu particles of 20 to 577 atoms, species at
random places, in random orientations: sound ones must lie on one side of the bounds of imaging/gates.py, faulty ones on
the other. Whole images have drawn optics, and are compared with imaging/reference.py.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import harness
import numpy as np
from harness import Figure
from imaging_cases import LATTICE_A, SEED, truncated_octahedron, view

from alloyscope.contracts import Structure, View
from alloyscope.imaging.box import slabs
from alloyscope.imaging.examination import swapped, with_half_slices
from alloyscope.imaging.gates import rms_difference, share_of_contrast
from alloyscope.imaging.hrtem import finer_reference, imager_for
from alloyscope.imaging.reference import Reference
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view, rotation

PAIRS = (("Ag", "Co"), ("Au", "Cu"))
COARSE = 128  # carries no fringe of Co


def shares(structure: Structure, seen: View) -> Iterator[tuple[str, float]]:
    """Name of the quantity, value."""
    imaging = ImagingSection()
    jobs = [([structure], seen)]
    image = {
        grid: next(imager_for(imaging.model_copy(update={"grid": grid})).images(jobs))
        for grid in (COARSE, 256, imaging.grid)
    }
    sound = image[imaging.grid]

    def sliced(n_slices: int) -> np.ndarray:
        return next(imager_for(imaging.model_copy(update={"n_slices": n_slices})).images(jobs))

    halved = next(imager_for(with_half_slices(imaging)).images(jobs))

    yield "swapped", share_of_contrast(sound, next(imager_for(imaging).images([([swapped(structure)], seen)])))
    yield "slices_halved", share_of_contrast(sound, halved)
    yield "slices_halved_from_4", share_of_contrast(sliced(4), sliced(8))
    for grid, coarse in image.items():
        finer = finer_reference(imager_for(imaging.model_copy(update={"grid": grid})))
        yield f"abtem_from_{grid}", share_of_contrast(coarse, next(finer.images(jobs)))
    imager = imager_for(imaging)
    wave = imager.backend.to_numpy(imager.engine.exit_waves(slabs([structure], seen, imaging)))
    yield "norm", float((abs(wave) ** 2).mean())
    drawn = drawn_view(len(structure.elements), 0, imaging, OpticsSection(), DetectorSection(), SEED)
    drawn = replace(drawn, rotation=seen.rotation, shift_A=seen.shift_A)
    truth = Reference(imaging).image([structure], drawn)
    difference = rms_difference(next(imager.images([([structure], drawn)])), truth)
    yield "whole_of_beam", difference
    yield "whole_of_contrast", difference / float(sound.std())
    flipped = replace(drawn, defocus_A=-drawn.defocus_A)
    wrong = next(imager.images([([structure], flipped)]))
    yield "whole_defocus_flipped", rms_difference(wrong, truth) / float(sound.std())


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--atoms", type=int, nargs="+", default=[20, 60, 150, 300, 577], metavar="N")
    parser.add_argument("--views", type=int, default=3, metavar="N", help="orientations of each (default: 3)")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    for pair in PAIRS:
        for count in arguments.atoms:
            structure = truncated_octahedron(pair, LATTICE_A[pair[0]], count)
            for number in range(arguments.views):
                seen = replace(view("tilted"), rotation=rotation(number, 0, SEED))
                for name, value in shares(structure, seen):
                    found[name].append(value)
            print(f"{''.join(pair)}, {count} atoms: done", flush=True)
    against = (
        f"AgCo and AuCu, {arguments.atoms[0]} to {arguments.atoms[-1]} atoms, {ImagingSection().grid}², slices of 2 Å"
    )
    figures = {f"gate_{name}": Figure.median(values, "", against) for name, values in found.items()}
    harness.publish("gate_values", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
