"""HRTEM images of particles: box → exit wave → lens → camera, with either engine."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from alloyscope.config import ImagingSection
from alloyscope.contracts import Structure, View
from alloyscope.imaging import gates
from alloyscope.imaging.box import Slab, slabs
from alloyscope.imaging.multislice import Multislice
from alloyscope.imaging.reference import Reference, device_for
from alloyscope.microscope.arrays import CPU, backend_for
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.optics import Lens, image_intensity, intensity_grid

# Share of the beam, rms over the camera image under plain optics, against abTEM on a finer grid. Measured on 405
# atoms, 20 slices, looking down [001], the hardest case: Ag 0.54 / 0.31 / 0.20 % at 256² / 384² / 512², Au 1.44 /
# 0.69 / 0.37 %; tilted Ag 0.24 / 0.13 / 0.08 %, Au 0.38 / 0.21 / 0.13 %; mostly abTEM's own share
# (docs/decisions/0006-grid.md). ASSUME 1 %: below half a pixel's shot noise at 1e4 e/Å² (2.3 %).
REFERENCE_BOUND = 0.01

Job = tuple[Sequence[Structure], View]  # a particle's snapshots, and one view of them


def plain_optics(view: View) -> View:
    """The same particle under one fixed, sharp lens and a camera without MTF: what engines are compared with."""
    return replace(
        view,
        defocus_A=50.0,
        C12_A=0.0,
        C21_A=0.0,
        C23_A=0.0,
        C30_A=0.0,
        C32_A=0.0,
        C34_A=0.0,
        C50_A=0.0,
        focal_spread_A=30.0,
        angular_spread_mrad=0.1,
        aperture_mrad=30.0,
        n_foci=1,
        vibration_A=0.0,
        mtf_c1=1.0,
    )


class Imager:
    """Expected images of one campaign's microscope."""

    def __init__(self, imaging: ImagingSection, engine: Multislice | Reference) -> None:
        self.imaging = imaging
        self.engine = engine
        self.backend = engine.backend if isinstance(engine, Multislice) else CPU
        self.lens = Lens(self.engine.size, imaging.field_A, imaging.voltage_kV)

    def images(self, jobs: Sequence[Job]) -> Iterator[NDArray[np.float32]]:
        """Expected camera images in the order of the jobs, each (pixels, pixels).

        The image is the mean intensity over the particle's snapshots: each is one frozen-phonon sample.

        Raises:
            GateError: an atom lies outside the field of view, or an exit wave loses its norm.
        """
        boxes = [slabs(snapshots, view, self.imaging.field_A) for snapshots, view in jobs]
        for start in range(0, len(jobs), self.backend.batch):
            batch = slice(start, start + self.backend.batch)
            yield from self._batch(boxes[batch], [view for _, view in jobs[batch]])

    def _batch(self, boxes: Sequence[list[Slab]], views: Sequence[View]) -> NDArray[np.float32]:
        most = max(len(box) for box in boxes)
        size = intensity_grid(views, self.lens)
        total = self.backend.zeros((len(views), size, size), "float32")
        for snapshot in range(most):
            rows = [row for row, box in enumerate(boxes) if snapshot < len(box)]
            waves = self.engine.exit_waves([boxes[row][snapshot] for row in rows])
            kept = self.backend.to_numpy((abs(waves) ** 2).mean((1, 2)))
            for row, norm in zip(rows, kept.tolist()):
                gates.exit_wave_keeps_norm(norm, views[row].particle, views[row].view)
            intensity = image_intensity(waves, [views[row] for row in rows], self.lens, self.backend, size)
            for place, row in enumerate(rows):
                total[row] += intensity[place] / len(boxes[row])
        return camera_image(total, views, self.imaging.pixels, self.imaging.field_A, self.backend)


def imager_for(imaging: ImagingSection) -> Imager:
    """The imager with the engine and device of the config."""
    match imaging.engine:
        case "batched":
            return Imager(imaging, Multislice(imaging, backend_for(imaging.device)))
        case "abtem":
            return Imager(imaging, Reference(imaging, device_for(imaging.device)))
        case _:
            assert_never(imaging.engine)


def check_against_reference(imager: Imager, job: Job) -> float:
    """Compare one wave's image, under plain optics, with abTEM's on a twice finer grid.

    Returns:
        Rms difference, as a share of the beam.

    Raises:
        GateError: it exceeds `REFERENCE_BOUND`.
    """
    snapshots, view = job
    plain = (snapshots[:1], plain_optics(view))
    reference = Imager(imager.imaging, Reference(imager.imaging, device_for(imager.imaging.device), refine=2))
    ours, theirs = next(imager.images([plain])), next(reference.images([plain]))
    gates.agrees_with_reference(ours, theirs, REFERENCE_BOUND, view.particle, view.view)
    return gates.rms_difference(ours, theirs)
