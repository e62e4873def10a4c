"""HRTEM images of particles: box → exit wave → lens → camera, with either engine."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import ABERRATIONS, Film, Structure, View, require
from alloyscope.imaging import gates
from alloyscope.imaging.abtem_engine import AbtemEngine, device_for, reference_device
from alloyscope.imaging.box import Slab, film_slab, slabs
from alloyscope.imaging.multislice import Multislice
from alloyscope.microscope.arrays import CPU, Array, backend_for
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.optics import Lens, flown_back, intensity_grid
from alloyscope.microscope.settings import ImagingSection
from alloyscope.microscope.waves import WaveBand

LOOK_AHEAD = 512  # images among which batches of nearly equal boxes are chosen

Job = tuple[Sequence[Structure], View]  # a particle's snapshots, and one view of them


def plain_optics(view: View) -> View:
    """The view under one fixed, sharp lens and with a camera without MTF; engines are compared with these optics."""
    no_aberration: dict[str, Any] = {f"C{n}{m}_A": 0.0 for n, m in ABERRATIONS}
    return replace(
        view,
        **no_aberration,
        defocus_A=50.0,
        focal_spread_A=30.0,
        angular_spread_mrad=0.1,
        aperture_mrad=30.0,
        vibration_A=0.0,
        drift_A=0.0,
        mtf_c1=1.0,
    )


class Imager:
    """Computes the expected images of one campaign's microscope.

    Attributes:
        band: Band to which stored exit waves are limited; None when none are stored.
        film: Block of the film below the particles, for views with a film.
    """

    def __init__(
        self,
        imaging: ImagingSection,
        engine: Multislice | AbtemEngine,
        band: WaveBand | None = None,
        film: Film | None = None,
    ) -> None:
        self.imaging = imaging
        self.band = band
        self.engine = engine
        self.film = film
        self.backend = engine.backend if isinstance(engine, Multislice) else CPU
        self.lens = Lens(self.engine.size, imaging.field_A, imaging.voltage_kV)

    def images(self, jobs: Sequence[Job]) -> Iterator[NDArray[np.float32]]:
        """Expected camera images in the order of the jobs, each (pixels, pixels).

        The image is the mean intensity over the view's snapshots, each of which is one frozen-phonon sample.

        Raises:
            GateError: an atom lies outside the field of view, or an exit wave loses its norm.
        """
        return (image for image, _ in self.images_and_waves(jobs))

    def images_and_waves(self, jobs: Sequence[Job]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.complex64]]]:
        """Expected camera images, and the exit waves to store, which have size 0 without a `band`.

        The wave is that of the last snapshot; with a band, particles have only one.

        Raises:
            GateError: as `images`.
        """
        for start in range(0, len(jobs), LOOK_AHEAD):
            yield from self._sorted_by_size(jobs[start : start + LOOK_AHEAD])

    def _sorted_by_size(self, jobs: Sequence[Job]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.complex64]]]:
        """Images of the jobs in their order; batches are of boxes of nearly the same size."""
        boxes = [slabs(shown(job), job[1], self.imaging) for job in jobs]
        step = self.backend.batch
        if step == 1:
            for box, (_, view) in zip(boxes, jobs):
                yield from zip(*self._batch([box], [view]))
            return
        order = sorted(range(len(jobs)), key=lambda row: boxes[row][0].extent_A)
        made: dict[int, tuple[NDArray[np.float32], NDArray[np.complex64]]] = {}
        for start in range(0, len(jobs), step):
            rows = order[start : start + step]
            made |= dict(zip(rows, zip(*self._batch([boxes[row] for row in rows], [jobs[row][1] for row in rows]))))
        yield from (made[row] for row in range(len(jobs)))

    def _batch(
        self, boxes: Sequence[list[Slab]], views: Sequence[View]
    ) -> tuple[NDArray[np.float32], NDArray[np.complex64]]:
        most = max(len(box) for box in boxes)
        size = intensity_grid(views, self.lens)
        total = self.backend.zeros((len(views), size, size), "float32")
        stored = np.empty((len(views), 0, 0), np.complex64)
        for snapshot in range(most):
            rows = [row for row, box in enumerate(boxes) if snapshot < len(box)]
            waves = self.engine.exit_waves([boxes[row][snapshot] for row in rows])
            seen = [views[row] for row in rows]
            waves = self._through_film(waves, seen)
            kept = self.backend.to_numpy(self.backend.mean_intensity(waves))
            for row, norm in zip(rows, kept.tolist()):
                gates.exit_wave_keeps_norm(norm, views[row].particle, views[row].view)
            intensity = image_intensity(waves, seen, self.lens, self.backend, size)
            for place, row in enumerate(rows):
                total[row] += intensity[place] / len(boxes[row])
            if self.band is not None:
                stored = self.backend.to_numpy(self.band.limited(waves, self.lens, self.backend))
        return camera_image(total, views, self.imaging.pixels, self.imaging.field_A, self.backend), stored

    def _through_film(self, waves: Array, views: Sequence[View]) -> Array:
        """Waves after the films, propagated back to the particles' lower faces, from which defocus is measured."""
        rows = [row for row, view in enumerate(views) if view.film_thickness_A > 0]
        if not rows:
            return waves
        require(self.film is not None, "views with a film need its block")
        assert self.film is not None
        films = [film_slab(self.film, views[row], self.imaging) for row in rows]
        for n_slices in {slab.n_slices for slab in films}:  # incident waves pass as many slices each
            alike = [(row, slab) for row, slab in zip(rows, films) if slab.n_slices == n_slices]
            which = [row for row, _ in alike]
            behind = self.engine.exit_waves([slab for _, slab in alike], waves[which])
            waves[which] = flown_back(behind, [slab.height_A for _, slab in alike], self.lens, self.backend)
        return waves


def shown(job: Job) -> Sequence[Structure]:
    """The snapshots over which a view averages."""
    snapshots, view = job
    return [snapshots[number] for number in view.snapshots] if view.snapshots else snapshots


def imager_for(imaging: ImagingSection, band: WaveBand | None = None, film: Film | None = None) -> Imager:
    """Make the imager with the engine and device of the config; with a band it also returns the exit waves."""
    match imaging.engine:
        case "batched":
            return Imager(imaging, Multislice(imaging, backend_for(imaging.device)), band, film)
        case "abtem":
            return Imager(imaging, AbtemEngine(imaging, device_for(imaging.device)), band, film)
        case _:
            assert_never(imaging.engine)


def finer_reference(imager: Imager) -> Imager:
    """Make an imager with abTEM on a twice finer grid, for the same campaign."""
    engine = AbtemEngine(imager.imaging, reference_device(imager.imaging.device), refine=2)
    return Imager(imager.imaging, engine, film=imager.film)


def check_against_reference(imager: Imager, job: Job) -> tuple[float, float]:
    """Compare one wave's image, under plain optics, with abTEM's on a twice finer grid.

    Returns:
        Rms difference, as a share of the beam and of the image's contrast.

    Raises:
        GateError: the difference is too large a share of the contrast.
    """
    view = job[1]
    plain = (shown(job)[:1], replace(plain_optics(view), snapshots=()))
    ours, theirs = next(imager.images([plain])), next(finer_reference(imager).images([plain]))
    share = gates.agrees_with_reference(ours, theirs, view.particle, view.view).value
    return gates.rms_difference(ours, theirs), share
