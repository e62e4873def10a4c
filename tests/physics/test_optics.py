"""The lens against abTEM's and against closed forms of weak objects."""

from dataclasses import replace

import abtem
import numpy as np
import pytest

from alloyscope.contracts import ABERRATIONS, Structure, View
from alloyscope.imaging.box import MARGIN_A, slabs
from alloyscope.imaging.multislice import Multislice
from alloyscope.microscope.arrays import CPU, frequencies
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.optics import Lens, Phase, aberrations
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.sections import bounds
from alloyscope.units import scherzer_defocus_A

LENS = Lens(size=96, field_A=24.0, voltage_kV=200.0)
NAMES = [f"C{n}{m}" for n, m in ABERRATIONS]
FULL = OpticsSection(
    **{f"C3{m}_A": (1e3, 1e4) for m in (2, 4)},
    **{f"C4{m}_A": (1e4, 2e5) for m in (1, 3, 5)},
    **{f"C5{m}_A": (1e6, 1e7) for m in (0, 2, 4, 6)},
)


def a_view(number: int = 0, optics: OpticsSection = FULL) -> View:
    return drawn_view(number, 0, ImagingSection(), optics, DetectorSection(), seed=3)


def plain(**changed: float) -> View:
    """No aberrations, coherent, wide aperture."""
    view = a_view(optics=OpticsSection(**dict.fromkeys((f"{name}_A" for name in NAMES), 0.0)))
    return replace(
        view, **{"defocus_A": 0.0, "focal_spread_A": 0.0, "angular_spread_mrad": 0.0, "aperture_mrad": 45.0, **changed}
    )


def cosine(index: int) -> tuple[np.ndarray, float]:
    """cos(2πkx) on the grid and k [1/Å]."""
    x = np.arange(LENS.size) / LENS.size
    return np.broadcast_to(np.cos(2 * np.pi * index * x), (LENS.size, LENS.size)), index / LENS.field_A


def transfer_function(view: View, lens: Lens) -> np.ndarray:
    """Transfer function of a coherent wave with an aperture, shape (k_y, k_x), from the functions of optics.py."""
    w = lens.angles(CPU)
    phase = aberrations(w[0].real, w[:, 0].imag, [view], lens.wavelength_A, CPU)
    opened = np.clip((1e-3 * view.aperture_mrad - np.abs(w)) / lens.step_rad + 0.5, 0, 1)
    return opened * np.exp(-1j * phase.chi[0].T)


@pytest.mark.parametrize("number", [0, 1])
def test_every_aberration_agrees_with_abtem(number: int) -> None:
    view = a_view(number)
    rng = np.random.default_rng(1)
    wave = (rng.normal(size=(2, LENS.size, LENS.size)) * [[[1]], [[1j]]]).sum(0).astype(np.complex64)
    coefficients = {name: getattr(view, f"{name}_A") for name in NAMES}
    angles = {f"phi{name[1:]}": getattr(view, f"phi{name[1:]}_rad") for name in NAMES if name[2] != "0"}
    ctf = abtem.CTF(energy=200e3, defocus=view.defocus_A, semiangle_cutoff=view.aperture_mrad, **coefficients, **angles)
    theirs = abtem.Waves(wave.T.copy(), energy=200e3, extent=LENS.field_A).apply_ctf(ctf).array.T
    assert all(coefficients.values())
    ours = np.fft.ifft2(np.fft.fft2(wave) * transfer_function(view, LENS))
    assert np.abs(ours).std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_derivatives_of_the_aberration_function_are_its_differences() -> None:
    x, y = np.array([0.004, -0.02, 0.0]), np.array([0.011, 0.003, 0.0])

    def at(dx: float, dy: float) -> Phase:
        moved = ((axis + step).astype(np.float32) for axis, step in ((x, dx), (y, dy)))
        return aberrations(*moved, [a_view()], LENS.wavelength_A, CPU)

    def chi(dx: float, dy: float) -> np.ndarray:
        return at(dx, dy).chi[0].astype(float)

    phase, step, wide = at(0, 0), 1e-4, 1e-3
    for slope, dx, dy in ((phase.x, step, 0), (phase.y, 0, step)):
        np.testing.assert_allclose(slope[0], (chi(dx, dy) - chi(-dx, -dy)) / (2 * step), atol=3, rtol=3e-3)
    for curvature, dx, dy in ((phase.xx, wide, 0), (phase.yy, 0, wide)):
        differences = (chi(dx, dy) - 2 * chi(0, 0) + chi(-dx, -dy)) / wide**2
        np.testing.assert_allclose(curvature[0], differences, rtol=0.02, atol=200)
    mixed = (chi(wide, wide) - chi(wide, -wide) - chi(-wide, wide) + chi(-wide, -wide)) / (4 * wide**2)
    np.testing.assert_allclose(phase.xy[0], mixed, rtol=0.02, atol=200)


def test_weak_phase_cosine_images_as_its_closed_form() -> None:
    # ψ = 1 + iε cos(2πkx) gives I = 1 + 2ε sin χ(k) cos(2πkx) with χ = −π λ Δf k²
    epsilon, defocus_A = 1e-3, 150.0
    wave, k = cosine(9)
    image = image_intensity(
        (1 + 1j * epsilon * wave)[None].astype(np.complex64), [plain(defocus_A=defocus_A)], LENS, CPU
    )
    chi = -np.pi * LENS.wavelength_A * defocus_A * k**2
    np.testing.assert_allclose(image[0] - 1, 2 * epsilon * np.sin(chi) * wave, atol=5e-6)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_defocus_alone_transfers_nothing_where_its_sine_is_zero(zero: int) -> None:
    # λ Δf k² = whole number, sin(π λ Δf k²) = 0
    wave, k = cosine(9)
    waves = (1 + 1e-3j * wave)[None].astype(np.complex64)
    defocus_A = zero / (LENS.wavelength_A * k**2)
    silent, full = (
        np.ptp(image_intensity(waves, [plain(defocus_A=value)], LENS, CPU))
        for value in (defocus_A, defocus_A * (1 + 0.5 / zero))
    )
    assert full == pytest.approx(4e-3, rel=0.01)
    assert silent < 0.01 * full


def test_scherzer_focus_opens_the_widest_band() -> None:
    # χ = π C λ³ k⁴ / 2 − π λ Δf k² falls to −2π/3, rises and comes back to 0 at k = √(2 Δf / C λ²)
    spherical_A = 1e7
    lens = Lens(size=512, field_A=512.0, voltage_kV=200.0)
    defocus_A = scherzer_defocus_A(spherical_A, 200.0)
    assert defocus_A == pytest.approx(578.3, abs=0.1)  # 1 mm at 200 kV
    view = plain(C30_A=spherical_A, defocus_A=defocus_A, aperture_mrad=20.0)
    transfer = transfer_function(view, lens)[0, :256]
    k = np.arange(256) / lens.field_A
    first_zero = np.sqrt(2 * defocus_A / spherical_A) / lens.wavelength_A
    band = (k > 0.02) & (k < first_zero - 0.01)
    contrast = transfer.imag  # −sin χ: above 0 throughout
    assert (contrast[band] > 0).all()
    assert contrast[np.argmin(np.abs(k - first_zero / np.sqrt(2)))] == pytest.approx(np.sin(2 * np.pi / 3), abs=1e-3)
    assert contrast[np.argmin(np.abs(k - first_zero * 1.05))] < 0
    assert 1 / first_zero == pytest.approx(0.66 * (spherical_A * lens.wavelength_A**3) ** 0.25, rel=0.01)


def test_negative_spherical_aberration_wants_overfocus() -> None:
    assert scherzer_defocus_A(-1.5e5, 200.0) == -scherzer_defocus_A(1.5e5, 200.0) < 0


def test_spread_of_angles_damps_where_the_phase_is_steep() -> None:
    # χ = −π Δf α² / λ, so |∇χ| = 2π Δf k and the beat of the wave k with the beam falls to exp(−(π δ Δf k)²)
    wave, k = cosine(12)
    waves = (1 + 1e-3j * wave)[None].astype(np.complex64)
    views = [plain(defocus_A=310.0, angular_spread_mrad=spread) for spread in (0.0, 0.8)]
    sharp, damped = (np.ptp(image_intensity(waves, [view], LENS, CPU)) for view in views)
    expected = np.exp(-((np.pi * 0.8e-3 * 310.0 * k) ** 2))
    assert 0.5 < expected < 0.9
    assert damped / sharp == pytest.approx(expected, rel=0.005)


def test_orleans_2026_has_the_defocus_of_its_own_exit_plane() -> None:
    """Its C10 of −20 … −10 Å acts on the wave at the face of its box, here 36 and 40 Å below our exit plane."""
    imaging = ImagingSection(grid=256)
    optics = OpticsSection(preset="orleans-2026", angular_spread_mrad=0.0)
    drawn = drawn_view(0, 0, imaging, optics, DetectorSection(preset="orleans-2026"), seed=3)
    rng = np.random.default_rng(5)
    structure = Structure(("Ag",) * 20 + ("Co",) * 20, rng.uniform(-8, 8, (40, 3)))
    (slab,) = slabs([structure], drawn, imaging)
    lowest_A = slab.positions_A[:, 2].max()  # the beam runs along +z
    exit_A = slab.height_A - lowest_A + slab.slice_A / 2  # atoms lie half a slice lower in their box
    assert exit_A == pytest.approx(MARGIN_A)
    ours = Multislice(imaging, CPU).exit_waves([slab])
    lens = Lens(imaging.grid, imaging.field_A, imaging.voltage_kV)
    k = frequencies(lens.size, lens.field_A)
    k2 = k[:, None] ** 2 + k[None, :] ** 2
    found = []
    for below_A, C10_A in ((36.0, -20.0), (36.0, -10.0), (40.0, -20.0), (40.0, -10.0)):
        flight = np.exp(-1j * np.pi * lens.wavelength_A * below_A * k2)
        theirs = np.fft.ifft2(np.fft.fft2(ours) * flight).astype(np.complex64)
        defocus_A = -(C10_A + below_A)
        images = [
            image_intensity(waves, [replace(drawn, defocus_A=value)], lens, CPU)
            for waves, value in ((theirs, -C10_A), (ours, defocus_A))
        ]
        np.testing.assert_allclose(images[0], images[1], atol=1e-4)
        assert np.ptp(images[0]) > 0.3
        found.append(defocus_A)
    low, high = bounds(optics.defocus_A)
    assert [min(found), max(found)] == pytest.approx([low, high])
    wrong = image_intensity(ours, [replace(drawn, defocus_A=-defocus_A)], lens, CPU)
    assert np.abs(images[0] - wrong).max() > 0.1


def test_underfocus_shows_atoms_dark() -> None:
    wave, _ = cosine(9)
    image = image_intensity(np.exp(0.01j * wave)[None].astype(np.complex64), [plain(defocus_A=100.0)], LENS, CPU)
    assert image[0][wave > 0.9].mean() < 1 < image[0][wave < -0.9].mean()


def test_frequencies_are_those_of_the_field() -> None:
    np.testing.assert_allclose(frequencies(4, 8.0), [0, 1 / 8, -2 / 8, -1 / 8])
