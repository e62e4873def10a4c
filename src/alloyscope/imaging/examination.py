"""The gates applied to a campaign: to its engine, and to images that are simulated again from their structures."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ParamSpec

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import ABERRATIONS, Structure, View
from alloyscope.errors import GateError
from alloyscope.ids import rng_for
from alloyscope.imaging import gates, noise
from alloyscope.imaging.box import Slab, slabs
from alloyscope.imaging.hrtem import Imager, Job, finer_reference, imager_for, plain_optics, shown
from alloyscope.imaging.reference import Reference, lens_image
from alloyscope.imaging.reference import camera_image as reference_camera
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.optics import aberrations
from alloyscope.microscope.settings import DetectorSection, ImagingSection
from alloyscope.units import electron_wavelength_A

P = ParamSpec("P")
FLIGHT_SLICES = 10
FLIGHT_A = 20.0  # free flight and defocus with which the wavelength is measured
FREQUENCY_per_A = 0.5
STRONG_rad = 0.012  # 12 mrad, between the {111} fringes of Ag and Co at 200 kV
PROBE_per_A = 0.25  # frequency that measures depth: its phase stays below π up to 380 Å at 80 kV, 640 Å at 200 kV


@dataclass
class Examination:
    """Applies all gates and collects those that passed, the messages of those that failed, and what no gate checked."""

    passed: list[tuple[str, gates.Passed]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def ask(
        self, of: str, gate: Callable[P, gates.Passed | tuple[gates.Passed, ...]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Apply a gate to the thing named `of`."""
        try:
            passed = gate(*args, **kwargs)
            self.passed += [(of, one) for one in (passed if isinstance(passed, tuple) else (passed,))]
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
    x, y = (
        imager.backend.asarray(np.array([angle_rad], np.float32)) for angle_rad in (index * imager.lens.step_rad, 0.0)
    )
    chi = aberrations(x, y, [view], imager.lens.wavelength_A, imager.backend).chi
    return float(-imager.backend.to_numpy(chi)[0, 0, 0] / (np.pi * FLIGHT_A * (index / imager.imaging.field_A) ** 2))


def with_half_slices(imaging: ImagingSection) -> ImagingSection:
    """The same settings with slices of half the thickness."""
    finer = {"slice_A": imaging.slice_A / 2} if imaging.n_slices is None else {"n_slices": 2 * imaging.n_slices}
    return imaging.model_copy(update=finer)


def swapped(structure: Structure) -> Structure:
    """The same structure with the two species swapped."""
    first, second = sorted(set(structure.elements))
    other = {first: second, second: first}
    return replace(structure, elements=tuple(other[element] for element in structure.elements))


def strong_optics(view: View, wavelength_A: float) -> View:
    """The view with coherent optics and every aberration so strong that its phase is 1 rad at `STRONG_rad`.

    A campaign may draw an aberration too weak for its sign to show; these do not.
    """
    strong: dict[str, float] = {}
    for place, (n, m) in enumerate(ABERRATIONS):
        strong[f"C{n}{m}_A"] = (n + 1) * wavelength_A / (2 * np.pi * STRONG_rad ** (n + 1))
        if m:
            strong[f"phi{n}{m}_rad"] = 0.4 + 0.7 * place
    return replace(
        view,
        **strong,  # type: ignore[arg-type]
        defocus_A=wavelength_A / (np.pi * STRONG_rad**2),
        focal_spread_A=0.0,
        angular_spread_mrad=0.0,
        aperture_mrad=1.3e3 * STRONG_rad,
        vibration_A=0.3,
        vibration_ratio=0.3,
        vibration_angle_rad=0.5,
    )


def lens_images(imager: Imager, view: View) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Images of the same made-up wave by our lens and camera and by the reference's, each (pixels, pixels)."""
    imaging = imager.imaging
    noise_of = rng_for("lens gate").normal(size=(imager.lens.size,) * 2)
    wave = np.exp(0.2j * noise_of)[None].astype(np.complex64)
    ours = image_intensity(imager.backend.asarray(wave), [view], imager.lens, imager.backend)
    theirs = lens_image(wave[0], view, imaging.field_A, imaging.voltage_kV)
    return (
        camera_image(ours, [view], imaging.pixels, imaging.field_A, imager.backend)[0],
        reference_camera(theirs, view, imaging.pixels, imaging.field_A),
    )


def examine_microscope(found: Examination, imager: Imager, job: Job) -> None:
    """Check the wavelength that the engine and the lens use, and every aberration of the lens."""
    voltage_kV, tolerance = imager.imaging.voltage_kV, 1e-3  # phases of ½ rad in single precision
    measured = {"engine": engine_wavelength_A(imager), "lens": lens_wavelength_A(imager, job)}
    for part, value in measured.items():
        found.ask(part, gates.wavelength_is_relativistic, value, voltage_kV, "wavelength", tolerance)
    ours, theirs = lens_images(imager, strong_optics(job[1], electron_wavelength_A(voltage_kV)))
    found.ask("lens", gates.lens_agrees, ours, theirs)


def examine_image(
    found: Examination,
    name: str,
    imager: Imager,
    detector: DetectorSection,
    job: Job,
    stored: NDArray[np.floating],
    counts: NDArray[np.uint16],
) -> None:
    """Simulate a stored image again from its structure and parameters, and apply every gate to it.

    Args:
        found: Collects the results.
        name: Id of the image.
        imager: Imager of the campaign, with its film.
        detector: Kind of camera, gain, offset.
        job: The particle's snapshots, and the view.
        stored: The stored image, before noise.
        counts: The stored counts.
    """
    imaging, view = imager.imaging, job[1]
    try:
        remade = next(imager.images([job]))
        found.ask(name, gates.image_is_remade, stored, remade)
        contrast = examine_engine(found, name, imager, job)
        reference = Reference(imaging, imager.film).image(shown(job), view)
        found.ask(name, gates.whole_image_agrees, stored, reference, contrast)
    except GateError as error:  # an atom lies outside, or the norm is lost: there is no image
        found.faults.append(f"{name}: {error}")
        return
    # The image made again is float32: float16 would shift the expected counts of a bright vacuum by more than the
    # standard error of their mean.
    electrons = remade.astype(np.float64) * (view.dose_e_per_A2 * imaging.pixel_size_A**2)
    if reason := noise.untestable(electrons, view, detector):
        found.unchecked.append(f"{name}: the noise of the counts, because {reason}")
    else:
        found.ask(name, gates.noise_is_the_cameras, noise.p_values(counts, electrons, view, detector))


def examine_engine(found: Examination, name: str, imager: Imager, job: Job) -> float:
    """Check the engine on one snapshot under plain optics: species, slices, grid, depth, finest fringe.

    Returns:
        The particle's contrast under plain optics, as a share of the beam.

    Raises:
        GateError: an atom lies outside the field of view, or an exit wave loses its norm.
    """
    imaging = imager.imaging
    box = slabs(shown(job)[:1], job[1], imaging)[0]
    structure = shown(job)[0]
    view = replace(plain_optics(job[1]), snapshots=(), film_thickness_A=0.0)
    plain = next(imager.images([([structure], view)]))
    halved = imager_for(with_half_slices(imaging))
    finer = next(finer_reference(imager).images([([structure], view)]))
    found.ask(name, gates.slices_converged, plain, next(halved.images([([structure], view)])))
    found.ask(name, gates.agrees_with_reference, plain, finer, view.particle, view.view)
    if len(set(structure.elements)) == 2:
        found.ask(name, gates.species_matter, plain, next(imager.images([([swapped(structure)], view)])))
    else:
        found.unchecked.append(f"{name}: the scattering of the other species, because the particle has one species")
    depth_A = float(np.ptp(box.positions_A[:, 2]))
    found.ask(name, gates.atoms_scatter_at_their_depth, flight_between_A(imager, box), depth_A, box.slice_A)
    frequency_per_A, _ = gates.finest_fringe_per_A(structure)
    if frequency_per_A > 0:
        found.ask(name, gates.fringe_passes_engine, fringe_kept(imager, frequency_per_A), frequency_per_A)
    else:
        found.unchecked.append(f"{name}: the finest fringe, because no species has 13 atoms")
    return float(plain.std(dtype=np.float64))
