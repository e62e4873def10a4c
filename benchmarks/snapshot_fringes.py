r"""Fringe power in the mean image of a particle's snapshots, before and after they are aligned onto the first.

    alloyscope potential --potential '{}' --set AgCo --out potential
    alloyscope md --chunk 0 --first 0 --count 1 --seed 2026 --md '{"snapshots":10}' \
        --particles '{"n_atoms":[300,300],"fraction_first":[0.5,0.5]}' \
        --potential-set AgCo --potential potential/AgCo.eam.fs --manifest one/chunk-000000.json
    python benchmarks/snapshot_fringes.py one

The fringe power of an image is its power in the ring of spatial frequencies from 0.40 to 0.52 1/Å, which holds
Ag{111}, Ag{200} and Co{111}. Each ratio is that of the mean image to a single snapshot's image, both summed over random
orientations.
"""

from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
from harness import Figure
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Structure
from alloyscope.imaging.hrtem import Imager, imager_for, plain_optics
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.store.chunks import snapshots_in
from alloyscope.store.manifests import Manifest, manifest_name
from alloyscope.structure.alignment import aligned

RING_per_A = (0.40, 0.52)
IMAGING = ImagingSection(max_shift_A=0.0, device="cpu")


def fringe_power(image: NDArray[np.floating]) -> float:
    """Power of an image in the ring of the lattice fringes."""
    frequencies = np.fft.fftfreq(len(image), IMAGING.pixel_size_A)
    radius = np.hypot(*np.meshgrid(frequencies, frequencies))
    ring = (radius >= RING_per_A[0]) & (radius <= RING_per_A[1])
    return float((np.abs(np.fft.fft2(image.astype(np.float64)))[ring] ** 2).sum())


def powers(imager: Imager, snapshots: list[Structure], view: int) -> tuple[float, float]:
    """Fringe power of the mean image, and the mean fringe power of the images of single snapshots."""
    drawn = plain_optics(drawn_view(0, view, IMAGING, OpticsSection(), DetectorSection(), seed=1))
    images = np.stack(list(imager.images([([snapshot], replace(drawn, snapshots=())) for snapshot in snapshots])))
    return fringe_power(images.mean(axis=0)), float(np.mean([fringe_power(image) for image in images]))


def rotation_deg(snapshots: list[Structure]) -> float:
    """Angle by which the last snapshot is rotated against the first."""
    first, last = (each.positions_A - each.positions_A.mean(axis=0) for each in (snapshots[0], snapshots[-1]))
    return float(np.rad2deg(Rotation.align_vectors(first, last)[0].magnitude()))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("structures", type=Path, help="folder of an md chunk 0 with several snapshots a particle")
    parser.add_argument("--views", type=int, default=12, metavar="N", help="orientations (default: 12)")
    arguments = parser.parse_args()
    manifest = Manifest.read(arguments.structures / manifest_name(0))
    snapshots = next(iter(snapshots_in(manifest, arguments.structures).values()))
    imager = imager_for(IMAGING)
    against = f"{len(snapshots)} snapshots of {len(snapshots[0].elements)} atoms, {arguments.views} orientations"
    figures = {"snapshots_rotation_deg": Figure(rotation_deg(snapshots), "°", f"last against first; {against}")}
    for name, shown in (("stored", snapshots), ("aligned", aligned(snapshots))):
        found = np.array([powers(imager, shown, view) for view in range(arguments.views)])
        mean, single = found.sum(axis=0)
        figures[f"snapshots_fringe_power_{name}"] = Figure(float(mean / single), "", f"of one snapshot's; {against}")
    harness.publish("snapshot_fringes", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
