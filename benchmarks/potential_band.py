"""Image error against the band of the sliced potential: `python benchmarks/potential_band.py` (docs/decisions/0003)."""

from dataclasses import replace
from typing import Any

import harness
import numpy as np
from ase.cluster import Octahedron
from harness import Figure

from alloyscope.contracts import Structure
from alloyscope.imaging.gates import rms_difference
from alloyscope.imaging.hrtem import Imager, plain_optics
from alloyscope.imaging.multislice import Multislice, Square
from alloyscope.microscope.arrays import CPU
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view

FINE = 1024
GRIDS = (256, 384, 512)


class TwoThirdsSquare(Square):
    """The potential cut at two thirds of the Nyquist frequency."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.potential_reach *= 2 / 3


class TwoThirds(Multislice):
    def __init__(self, imaging: ImagingSection) -> None:
        super().__init__(imaging, CPU)
        self.kind = TwoThirdsSquare


def image(engine: Multislice, imaging: ImagingSection, structure: Structure, number: int) -> np.ndarray:
    view = drawn_view(0, number, imaging, OpticsSection(), DetectorSection(), seed=1)
    return next(Imager(imaging, engine).images([([structure], plain_optics(replace(view, shift_A=(0.0, 0.0))))]))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--orientations", type=int, default=3, metavar="N", help="random ones (default: 3)")
    arguments = parser.parse_args()
    fine = ImagingSection(grid=FINE)
    orientations = range(arguments.orientations)
    figures = {}
    print(
        "element  grid  to Nyquist [% of beam]  to 2/3 [% of beam]   (rms of the camera image, median of orientations)"
    )
    for element, lattice_A in (("Ag", 4.086), ("Au", 4.078)):
        cluster = Octahedron(element, 9, 3, latticeconstant=lattice_A)
        structure = Structure((element,) * len(cluster), cluster.positions - cluster.positions.mean(axis=0))
        against = f"the same engine at {FINE}², {len(cluster)} atoms"
        truth = [image(Multislice(fine, CPU), fine, structure, number) for number in orientations]
        for grid in GRIDS:
            imaging = ImagingSection(grid=grid)
            medians = []
            for band, engine in (("nyquist", Multislice(imaging, CPU)), ("two_thirds", TwoThirds(imaging))):
                errors = [rms_difference(image(engine, imaging, structure, n), truth[n]) for n in orientations]
                figure = Figure.median([1e2 * float(error) for error in errors], "% of beam", against)
                figures[f"potential_band_{band}_{element}_{grid}"] = figure
                medians.append(figure.value)
            print(f"{element:7s}  {grid:4d}  {medians[0]:22.2f}  {medians[1]:18.2f}   {len(cluster)} atoms", flush=True)
    harness.publish("potential_band", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
