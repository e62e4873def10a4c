"""Image error against the band of the sliced potential: `python benchmarks/potential_band.py` (docs/decisions/0003)."""

from dataclasses import replace

import numpy as np
from ase.cluster import Octahedron

from alloyscope import plan
from alloyscope.config import DetectorSection, ImagingSection, OpticsSection
from alloyscope.contracts import Structure
from alloyscope.imaging.gates import rms_difference
from alloyscope.imaging.hrtem import Imager, plain_optics
from alloyscope.imaging.multislice import Multislice
from alloyscope.microscope.arrays import CPU

ORIENTATIONS = 3


class TwoThirds(Multislice):
    """The potential cut at two thirds of the Nyquist frequency."""

    def __init__(self, imaging: ImagingSection) -> None:
        super().__init__(imaging, CPU)
        self._reach = self.size // 3


def image(engine: Multislice, imaging: ImagingSection, structure: Structure, number: int) -> np.ndarray:
    view = plan.view(0, number, imaging, OpticsSection(), DetectorSection(), seed=1)
    return next(Imager(imaging, engine).images([([structure], plain_optics(replace(view, shift_A=(0.0, 0.0))))]))


def main() -> None:
    fine = ImagingSection(grid=1024)
    print(
        "element  grid  to Nyquist [% of beam]  to 2/3 [% of beam]   (rms of the camera image, median of orientations)"
    )
    for element, lattice_A in (("Ag", 4.086), ("Au", 4.078)):
        cluster = Octahedron(element, 9, 3, latticeconstant=lattice_A)
        structure = Structure((element,) * len(cluster), cluster.positions - cluster.positions.mean(axis=0))
        truth = [image(Multislice(fine, CPU), fine, structure, number) for number in range(ORIENTATIONS)]
        for grid in (256, 384, 512):
            imaging = ImagingSection(grid=grid)
            errors = [
                np.median([rms_difference(image(engine, imaging, structure, n), truth[n]) for n in range(ORIENTATIONS)])
                for engine in (Multislice(imaging, CPU), TwoThirds(imaging))
            ]
            print(
                f"{element:7s}  {grid:4d}  {1e2 * errors[0]:22.2f}  {1e2 * errors[1]:18.2f}   {len(cluster)} atoms",
                flush=True,
            )


if __name__ == "__main__":
    main()
