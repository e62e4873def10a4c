"""The gates applied to a campaign: to its engine, and to images that are simulated again from their structures."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ParamSpec

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import Structure
from alloyscope.errors import GateError
from alloyscope.imaging import gates
from alloyscope.imaging.box import Slab, slabs
from alloyscope.imaging.hrtem import Imager, Job, finer_reference, imager_for, plain_optics, shown
from alloyscope.microscope.optics import aberrations
from alloyscope.microscope.settings import ImagingSection
from alloyscope.units import electron_wavelength_A

P = ParamSpec("P")
FLIGHT_SLICES = 10
FLIGHT_A = 20.0  # free flight and defocus with which the wavelength is measured
FREQUENCY_per_A = 0.5
PROBE_per_A = 0.25  # frequency that measures depth: its phase stays below π up to 380 Å at 80 kV, 640 Å at 200 kV


@dataclass
class Examination:
    """Collects the gates that passed and the messages of those that failed, so that all gates are applied."""

    passed: list[tuple[str, gates.Passed]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def ask(self, of: str, gate: Callable[P, gates.Passed], *args: P.args, **kwargs: P.kwargs) -> None:
        """Apply a gate to the thing named `of`."""
        try:
            self.passed.append((of, gate(*args, **kwargs)))
        except GateError as error:
            self.faults.append(f"{of}: {error}")


def engine_wavelength_A(imager: Imager) -> float:
    """Wavelength with which the engine propagates, from the phase −πλ Δz k² of a wave in vacuum."""
    field_A = imager.imaging.field_A
    index = round(FREQUENCY_per_A * field_A)
    x = np.arange(imager.lens.size) / imager.lens.size
    incident = np.broadcast_to(np.exp(2j * np.pi * index * x), (1, imager.lens.size, imager.lens.size))
    vacuum = Slab(0, (), np.zeros((0, 3)), field_A, FLIGHT_A, FLIGHT_SLICES)
    leaving = imager.engine.exit_waves([vacuum], imager.backend.asarray(incident.astype(np.complex64)))
    phase = np.angle(np.vdot(incident, imager.backend.to_numpy(leaving)))
    return float(-phase / (np.pi * FLIGHT_A * (index / field_A) ** 2))


def flight_between_A(imager: Imager, box: Slab) -> float:
    """Depth between the highest and the lowest atom, from the phase −πλ Δz k² between the waves that they scatter."""
    field_A, index = box.field_A, round(PROBE_per_A * box.field_A)
    alone = [
        Slab(0, box.elements[:1], np.array([[field_A / 2, field_A / 2, z_A]]), field_A, box.height_A, box.n_slices)
        for z_A in (box.positions_A[:, 2].min(), box.positions_A[:, 2].max())
    ]
    scattered = imager.backend.to_numpy(imager.engine.exit_waves(alone)) - 1
    first, last = np.fft.fft2(scattered)[:, 0, index]
    wavelength_A = electron_wavelength_A(imager.imaging.voltage_kV)
    turns = np.pi * wavelength_A * (index / field_A) ** 2
    return float(np.angle(first * np.conj(last)) / -turns)


def fringe_kept(imager: Imager, frequency_per_A: float) -> float:
    """Share of the amplitude that a plane wave of this frequency keeps when the engine propagates it in vacuum."""
    n, field_A = imager.lens.size, imager.imaging.field_A
    index = int(np.ceil(frequency_per_A * field_A))
    incident = np.broadcast_to(np.exp(2j * np.pi * index * np.arange(n) / n), (1, n, n)).astype(np.complex64)
    vacuum = Slab(0, (), np.zeros((0, 3)), field_A, FLIGHT_A, FLIGHT_SLICES)
    leaving = imager.backend.to_numpy(imager.engine.exit_waves([vacuum], imager.backend.asarray(incident)))
    return float(abs(np.vdot(incident, leaving)) / n**2)


def lens_wavelength_A(imager: Imager, job: Job) -> float:
    """Wavelength with which the lens defocuses, from the phase πλ Δf k² of its transfer function."""
    index = round(FREQUENCY_per_A * imager.imaging.field_A)
    view = replace(plain_optics(job[1]), defocus_A=FLIGHT_A, aperture_mrad=1e3)
    angle = imager.backend.asarray(np.array([index * imager.lens.step_rad], np.complex64))
    chi = aberrations(angle, [view], imager.lens.wavelength_A, imager.backend).chi
    return float(-imager.backend.to_numpy(chi)[0, 0] / (np.pi * FLIGHT_A * (index / imager.imaging.field_A) ** 2))


def with_half_slices(imaging: ImagingSection) -> ImagingSection:
    """The same settings with slices of half the thickness."""
    finer = {"slice_A": imaging.slice_A / 2} if imaging.n_slices is None else {"n_slices": 2 * imaging.n_slices}
    return imaging.model_copy(update=finer)


def swapped(structure: Structure) -> Structure:
    """The same structure with the two species swapped."""
    first, second = sorted(set(structure.elements))
    other = {first: second, second: first}
    return replace(structure, elements=tuple(other[element] for element in structure.elements))


def examine_microscope(found: Examination, imager: Imager, job: Job) -> None:
    """Check the wavelength that the engine and the lens use."""
    voltage_kV, tolerance = imager.imaging.voltage_kV, 1e-3  # phases of ½ rad in single precision
    measured = {"engine": engine_wavelength_A(imager), "lens": lens_wavelength_A(imager, job)}
    for part, value in measured.items():
        found.ask(part, gates.wavelength_is_relativistic, value, voltage_kV, "wavelength", tolerance)


def examine_image(found: Examination, name: str, imager: Imager, job: Job, stored: NDArray[np.floating]) -> None:
    """Simulate a stored image again from its structure and parameters, and apply every gate to it.

    Args:
        found: Collects the results.
        name: Id of the image.
        imager: Imager of the campaign, with its film.
        job: The particle's snapshots, and the view.
        stored: The stored image, before noise.
    """
    imaging = imager.imaging
    try:
        box = slabs(shown(job)[:1], job[1], imaging)[0]
        found.ask(name, gates.image_is_remade, stored, next(imager.images([job])))
        structure = shown(job)[0]
        view = replace(plain_optics(job[1]), snapshots=(), film_thickness_A=0.0)
        plain = next(imager.images([([structure], view)]))
        halved = imager_for(with_half_slices(imaging))
        finer = finer_reference(imager)
        found.ask(name, gates.slices_converged, plain, next(halved.images([([structure], view)])))
        found.ask(name, gates.finer_grid_agrees, plain, next(finer.images([([structure], view)])))
        if len(set(structure.elements)) == 2:
            found.ask(name, gates.species_matter, plain, next(imager.images([([swapped(structure)], view)])))
    except GateError as error:  # an atom lies outside, or the norm is lost: there is no image
        found.faults.append(f"{name}: {error}")
        return
    depth_A = float(np.ptp(box.positions_A[:, 2]))
    found.ask(name, gates.atoms_scatter_at_their_depth, flight_between_A(imager, box), depth_A, box.slice_A)
    frequency_per_A, _ = gates.finest_fringe_per_A(structure)
    found.ask(name, gates.fringe_passes_engine, fringe_kept(imager, frequency_per_A), frequency_per_A)
