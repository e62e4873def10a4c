"""Error of the partially coherent lens against explicit sums: `python benchmarks/coherence.py`, 8 minutes of one core.

Particles of data/agco-reference, spread evenly over the numbers of atoms, each in a drawn orientation under drawn
optics. One exit wave on the campaign's grid goes through our lens and camera and through those of imaging/reference.py,
which sum the intensities of foci and tilts in double precision. The rest is the error of our lens and camera alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import harness
import numpy as np
from harness import Figure
from imaging_cases import SEED, particles

from alloyscope.imaging import reference
from alloyscope.imaging.box import slabs
from alloyscope.imaging.gates import rms_difference, share_of_contrast
from alloyscope.imaging.hrtem import imager_for
from alloyscope.imaging.reference import DEFAULT, Sums
from alloyscope.microscope.arrays import CPU
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view

PRESETS = ("corrected", "uncorrected")
FINER = Sums(foci=31, rings=4, spokes=12)


@dataclass(frozen=True)
class Compared:
    """One image: rms errors as shares of the beam or of the image's contrast.

    Attributes:
        beam, contrast: Of our lens and camera.
        deficit: Electrons that our image lacks, 1 − mean, as a multiple of those that the reference lacks.
        sums: Of the reference's own sums, against `FINER`; None when not asked for.
        aperture: Of a reference whose aperture moves with the tilt; None when not asked for.
    """

    beam: float
    contrast: float
    deficit: float
    sums: float | None
    aperture: float | None


def compared(preset: str, count: int, most: int) -> Iterator[Compared]:
    """Compare the images of a preset; `most` of them also with the finer sums and with the moving aperture."""
    imaging, optics, detector = (section(preset=preset) for section in (ImagingSection, OpticsSection, DetectorSection))
    imager = imager_for(imaging.model_copy(update={"device": "cpu"}))
    every = max(1, count // most)
    for number, structure in enumerate(particles(count)):
        view = drawn_view(number, 0, imaging, optics, detector, SEED)
        waves = imager.engine.exit_waves(slabs([structure], view, imaging))
        intensity = image_intensity(waves, [view], imager.lens, CPU)
        ours = camera_image(intensity, [view], imaging.pixels, imaging.field_A, CPU)[0]

        def truth(sums: Sums = DEFAULT, shifts_aperture: bool = True, wave=waves[0], view=view) -> np.ndarray:
            intensity = reference.lens_image(
                wave, view, imaging.field_A, imaging.voltage_kV, sums=sums, shifts_aperture=shifts_aperture
            )
            return reference.camera_image(intensity, view, imaging.pixels, imaging.field_A)

        theirs, asked = truth(), number % every == every // 2
        yield Compared(
            rms_difference(ours, theirs),
            share_of_contrast(theirs, ours),
            float((1 - ours.mean(dtype=np.float64)) / (1 - theirs.mean())),
            rms_difference(theirs, truth(FINER)) if asked else None,
            rms_difference(theirs, truth(shifts_aperture=False)) if asked else None,
        )


def percent(values: list[float], against: str) -> Figure:
    """The worst of several values, with the range."""
    return Figure(1e2 * max(values), "%", against, 1e2 * min(values), 1e2 * max(values), len(values))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--images", type=int, default=100, metavar="N", help="of each preset (default: 100)")
    parser.add_argument("--finer", type=int, default=6, metavar="N", help="of them against finer sums (default: 6)")
    arguments = parser.parse_args()
    found: dict[str, list[Compared]] = {}
    for preset in PRESETS:
        found[preset] = []
        for one in compared(preset, arguments.images, arguments.finer):
            found[preset].append(one)
            if len(found[preset]) % 10 == 0:
                print(f"{preset}: {len(found[preset])} images", flush=True)
    both = [one for each in found.values() for one in each]
    against = (
        f"{DEFAULT.foci} foci × {DEFAULT.rings * DEFAULT.spokes} tilts, {arguments.images} images each of "
        f"{' and '.join(PRESETS)}, 60 to 1000 atoms"
    )
    figures = {
        "coherence_error_of_beam": percent([one.beam for one in both], f"worst; {against}"),
        "coherence_error_of_contrast": percent([one.contrast for one in both], f"worst; {against}"),
        "coherence_deficit_error": percent(
            [abs(one.deficit - 1) for one in both], f"worst deviation of 1 − mean(I) from the sum's; {against}"
        ),
        "coherence_sum_error_of_beam": percent(
            [one.sums for one in both if one.sums is not None],
            f"worst; the sums against {FINER.foci} foci × {FINER.rings * FINER.spokes} tilts",
        ),
        "coherence_aperture_shift_of_beam": percent(
            [one.aperture for one in both if one.aperture is not None],
            "worst; an aperture that moves with the tilt, against one that stays",
        ),
    }
    for preset, each in found.items():
        for name in ("beam", "contrast"):
            values = [1e2 * getattr(one, name) for one in each]
            figures[f"coherence_median_of_{name}_{preset}"] = Figure.median(values, "%", f"{preset}; {against}")
    harness.publish("coherence", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
