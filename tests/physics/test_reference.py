"""The reference's lens and camera against closed forms, abTEM's own lens, and the sums' own convergence."""

from dataclasses import replace

import abtem
import numpy as np
import pytest

from alloyscope.contracts import ABERRATIONS, View
from alloyscope.imaging.reference import Sums, camera_image, coefficients_of, foci_A, lens_image, tilts_rad
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.units import electron_wavelength_A

SIZE, FIELD_A, VOLTAGE_kV = 96, 24.0, 200.0
PIXELS = 32
WAVELENGTH_A = electron_wavelength_A(VOLTAGE_kV)
ALL = OpticsSection(
    **{f"C3{m}_A": (1e3, 1e4) for m in (2, 4)},
    **{f"C4{m}_A": (1e4, 2e5) for m in (1, 3, 5)},
    **{f"C5{m}_A": (1e6, 1e7) for m in (0, 2, 4, 6)},
)


def a_view(optics: OpticsSection = ALL, **changed: float) -> View:
    drawn = drawn_view(0, 0, ImagingSection(), optics, DetectorSection(), seed=3)
    return replace(drawn, **changed)


def plain(**changed: float) -> View:
    none = {f"C{n}{m}_A": 0.0 for n, m in ABERRATIONS}
    sharp = {"defocus_A": 0.0, "focal_spread_A": 0.0, "angular_spread_mrad": 0.0, "aperture_mrad": 45.0}
    return replace(a_view(), **{**none, **sharp, **changed})


def image(wave: np.ndarray, view: View, size: int = SIZE, **options: object) -> np.ndarray:
    """The intensity on `size` points, to compare it with sums on other grids."""
    found = lens_image(wave, view, FIELD_A, VOLTAGE_kV, **options)
    spectrum = np.fft.fft2(found) / found.size
    half = (min(size, found.shape[0]) - 1) // 2
    index = np.concatenate([np.arange(half + 1), np.arange(-half, 0)])
    whole = np.zeros((size, size), complex)
    whole[np.ix_(index, index)] = spectrum[np.ix_(index, index)]
    return np.fft.ifft2(whole * size**2).real


def cosine(index: int) -> np.ndarray:
    return np.broadcast_to(np.cos(2 * np.pi * index * np.arange(SIZE) / SIZE), (SIZE, SIZE))


def test_coherent_lens_is_abtems() -> None:
    view = a_view(focal_spread_A=0.0, angular_spread_mrad=0.0, aperture_mrad=20.0)
    rng = np.random.default_rng(1)
    wave = (rng.normal(size=(2, SIZE, SIZE)) * [[[1]], [[1j]]]).sum(0)
    assert all(coefficients_of(view).values())
    with abtem.config.set({"precision": "float64"}):
        ctf = abtem.CTF(
            energy=200e3, defocus=view.defocus_A, semiangle_cutoff=view.aperture_mrad, **coefficients_of(view)
        )
        theirs = abtem.Waves(wave.T.copy(), energy=200e3, extent=FIELD_A).apply_ctf(ctf).array.T
    np.testing.assert_allclose(image(wave, view), np.abs(theirs) ** 2, rtol=0, atol=1e-9)


def test_foci_damp_a_weak_cosine_as_their_distribution_says() -> None:
    # 1 + iε cos(2πkx): amplitude 2ε sin χ, averaged over a Gaussian of foci with σ = Δ/√2: exp(−(πλk²Δ/2)²)
    epsilon, index, spread_A = 1e-4, 14, 60.0
    k = index / FIELD_A
    seen = image(1 + 1j * epsilon * cosine(index), plain(defocus_A=80.0, focal_spread_A=spread_A))
    damping = np.exp(-((np.pi * WAVELENGTH_A * spread_A * k**2 / 2) ** 2))
    assert damping < 0.7
    expected = -2 * epsilon * damping * np.sin(np.pi * WAVELENGTH_A * 80.0 * k**2) * cosine(index)
    np.testing.assert_allclose(seen - 1, expected, atol=1e-7)


def test_tilts_damp_a_weak_cosine_as_their_distribution_says() -> None:
    # a tilt τ shifts the fringe of a defocused wave by Δf τ; over a Gaussian with 1/e width δ: exp(−(π δ Δf k)²)
    epsilon, index = 1e-4, 12
    seen = image(1 + 1j * epsilon * cosine(index), plain(defocus_A=310.0, angular_spread_mrad=0.8))
    sharp = image(1 + 1j * epsilon * cosine(index), plain(defocus_A=310.0))
    assert np.ptp(seen) / np.ptp(sharp) == pytest.approx(
        np.exp(-((np.pi * 0.8e-3 * 310.0 * index / FIELD_A) ** 2)), 1e-4
    )


def test_no_electron_is_lost_by_incoherence() -> None:
    wave = np.exp(0.5j * (cosine(5) + cosine(11).T))
    seen = image(wave, a_view(aperture_mrad=60.0, focal_spread_A=90.0, angular_spread_mrad=0.3))
    assert seen.mean() == pytest.approx(1.0, abs=1e-12)  # Parseval: every mode passes whole


def test_a_tilt_moves_the_pattern_against_the_aperture() -> None:
    """Half of the tilts push a beam at the very edge out of the aperture; a moving aperture would cut none."""
    index = 20
    edge_mrad = 1e3 * WAVELENGTH_A * index / FIELD_A
    wave = np.exp(2j * np.pi * index * np.arange(SIZE) / SIZE) * np.ones((SIZE, SIZE))
    view = plain(angular_spread_mrad=3.0, aperture_mrad=edge_mrad + 0.5 * 1e3 * WAVELENGTH_A / FIELD_A)
    assert image(wave, view, shifts_aperture=False).mean() == pytest.approx(1.0)
    # the tilt along x is Gaussian with σ = 3/√2 mrad; the curved edge bends by less than a hundredth
    assert image(wave, view, sums=Sums(1, 8, 24)).mean() == pytest.approx(0.5, abs=0.1)


def test_weights_are_those_of_the_distributions() -> None:
    view = a_view(focal_spread_A=50.0, angular_spread_mrad=0.2)
    foci, weights = foci_A(view, 15)
    assert weights.sum() == pytest.approx(1)
    assert weights @ foci**2 == pytest.approx(50.0**2 / 2)
    tilts, weights = tilts_rad(view, Sums())
    assert weights.sum() == pytest.approx(1)
    # degree 7 in the plane: ⟨x²⟩ = δ²/2, ⟨x⁴⟩ = 3δ⁴/4, ⟨x²y²⟩ = δ⁴/4, ⟨x⁶⟩ = 15δ⁶/8, ⟨x⁴y²⟩ = 3δ⁶/8
    x, y = (tilts / 0.2e-3).T
    moments = [weights @ m for m in (x**2, y**4, x**2 * y**2, x**6, x**4 * y**2, x**5 * y, x**3)]
    np.testing.assert_allclose(moments, [1 / 2, 3 / 4, 1 / 4, 15 / 8, 3 / 8, 0, 0], atol=1e-12)
    assert weights @ x**8 != pytest.approx(105 / 16, rel=1e-3)  # and no further


def test_sums_have_converged() -> None:
    rng = np.random.default_rng(1)
    wave = np.exp(0.2j * rng.normal(size=(SIZE, SIZE)))  # harder than a particle: as strong at 1.2 1/Å as at 0
    view = a_view(OpticsSection(), focal_spread_A=60.0, angular_spread_mrad=0.3, aperture_mrad=30.0)
    rough, fine = (image(wave, view, sums=sums) for sums in (Sums(), Sums(31, 4, 12)))
    assert np.sqrt(np.mean((rough - fine) ** 2)) < 2e-3 * fine.std()


def test_flight_back_undoes_propagation() -> None:
    k2 = np.fft.fftfreq(SIZE, FIELD_A / SIZE)[:, None] ** 2 + np.fft.fftfreq(SIZE, FIELD_A / SIZE)[None] ** 2
    wave = np.exp(0.3j * (cosine(6) + cosine(9).T))
    flown = np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * np.pi * WAVELENGTH_A * 40.0 * k2))
    view = a_view(aperture_mrad=30.0)
    np.testing.assert_allclose(image(flown, view, flight_A=40.0), image(wave, view), atol=1e-9)


@pytest.mark.parametrize("grid", [64, 75])
def test_camera_damps_a_cosine_by_motion_mtf_and_pixel(grid: int) -> None:
    index = np.array([5, 3])  # x, y
    k = np.hypot(*index) / FIELD_A
    y, x = np.meshgrid(*[np.arange(grid) * FIELD_A / grid] * 2, indexing="ij")
    intensity = 1 + 0.5 * np.cos(2 * np.pi * (index[0] * x + index[1] * y) / FIELD_A)
    angle = float(np.arctan2(index[1], index[0]))
    view = plain(vibration_A=0.4, vibration_ratio=0.25, vibration_angle_rad=angle, mtf_c1=0.1, mtf_c2=0.4, mtf_c3=2.0)
    pixel_A = FIELD_A / PIXELS
    mtf = 0.9 / (1 + (k * 2 * pixel_A / 0.8) ** 2) + 0.1
    pixel = np.sinc(index[0] / PIXELS) * np.sinc(index[1] / PIXELS)
    y, x = np.meshgrid(*[(np.arange(PIXELS) + 0.5) * pixel_A] * 2, indexing="ij")
    wave = np.cos(2 * np.pi * (index[0] * x + index[1] * y) / FIELD_A)
    for turned, sigma_A in ((0.0, 0.4), (np.pi / 2, 0.1)):
        damping = mtf * pixel * np.exp(-2 * (np.pi * sigma_A * k) ** 2)
        seen = camera_image(intensity, replace(view, vibration_angle_rad=angle + turned), PIXELS, FIELD_A)
        np.testing.assert_allclose(seen, 1 + 0.5 * damping * wave, atol=1e-12)


def test_camera_counts_no_negative_electrons() -> None:
    intensity = np.zeros((96, 96))
    intensity[32, 32] = 100.0  # band-limited, it has lobes below 0
    seen = camera_image(intensity, plain(vibration_A=0.0, mtf_c1=1.0), PIXELS, FIELD_A)
    assert seen.min() == 0.0
    assert seen.max() > 1
