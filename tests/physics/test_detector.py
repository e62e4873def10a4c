"""Camera and noise against closed forms and Poisson statistics."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alloyscope.contracts import View
from alloyscope.errors import ContractError
from alloyscope.ids import rng_for
from alloyscope.microscope.arrays import CPU
from alloyscope.microscope.detector import camera_image, expose, gain_map, mtf
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view

PIXELS, FIELD_A = 32, 16.0
PIXEL_A = FIELD_A / PIXELS


def view(**changed: float) -> View:
    drawn = drawn_view(0, 0, ImagingSection(), OpticsSection(), DetectorSection(), seed=3)
    return replace(drawn, **{"vibration_A": 0.0, "mtf_c1": 1.0, **changed})


def counts(clean: np.ndarray, stream: int = 0, detector: DetectorSection | None = None, **changed: Any) -> np.ndarray:
    settings = {
        "dose_e_per_A2": 400.0,
        "readout_e": 0.0,
        "gain_map_rms": 0.0,
        "mtf_parameters": (0.0, 0.5, 2.0),
        **changed,
    }
    return expose(
        clean,
        pixel_size_A=PIXEL_A,
        detector=detector or DetectorSection(),
        rng=rng_for("test", stream),
        **settings,
    )


def centres(size: int) -> np.ndarray:
    return (np.arange(size) + 0.5) * FIELD_A / size


def test_mtf_by_hand() -> None:
    assert mtf(1.0, 0.0, 0.5, 2.5) == pytest.approx(0.5)  # k = 2 c2 at Nyquist
    assert mtf(1.0, 0.2, 0.5, 2.5) == pytest.approx(0.8 / 2 + 0.2)
    assert mtf(0.0, 0.3, 0.4, 2.4) == 1.0
    assert mtf(1.0, 0.0, 0.35, 2.5) == pytest.approx(0.29077, abs=1e-5)  # 1 / (1 + 0.7⁻²·⁵)


@pytest.mark.parametrize("grid", [64, 75, 96, 192])
def test_cosine_is_damped_by_mtf_vibration_and_pixel(grid: int) -> None:
    index = 10
    k = index / FIELD_A
    x = np.arange(grid) * FIELD_A / grid  # waves are sampled at the grid points themselves
    fine = np.broadcast_to(1 + 0.5 * np.cos(2 * np.pi * k * x), (1, grid, grid)).astype(np.float32)
    optics = view(vibration_A=0.2, vibration_ratio=1.0, mtf_c1=0.1, mtf_c2=0.4, mtf_c3=2.0)
    image = camera_image(fine.copy(), [optics], PIXELS, FIELD_A, CPU)[0]
    nyquist = k * 2 * PIXEL_A
    damping = (0.9 / (1 + (nyquist / 0.8) ** 2) + 0.1) * np.exp(-2 * (np.pi * 0.2 * k) ** 2) * np.sinc(k * PIXEL_A)
    expected = 1 + 0.5 * damping * np.cos(2 * np.pi * k * centres(PIXELS))
    np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=2e-5)


def test_vibration_damps_along_its_direction_and_less_across() -> None:
    # closed form: exp(−2 π² σ² k²) along 30° from x towards y, σ/4 across; a cosine of either direction
    index = np.array([7, 4])  # (x, y): 29.74°
    angle, k = np.arctan2(index[1], index[0]), np.hypot(*index) / FIELD_A
    y, x = np.meshgrid(*[np.arange(64) * FIELD_A / 64] * 2, indexing="ij")
    along = 1 + 0.5 * np.cos(2 * np.pi * (index[0] * x + index[1] * y) / FIELD_A)
    across = 1 + 0.5 * np.cos(2 * np.pi * (index[0] * y - index[1] * x) / FIELD_A)
    fine = np.stack([along, across]).astype(np.float32)
    moving = view(vibration_A=0.4, vibration_ratio=0.25, vibration_angle_rad=float(angle))
    still, moved = (camera_image(fine.copy(), [v, v], PIXELS, FIELD_A, CPU) - 1 for v in (view(), moving))
    damping = moved.std(axis=(1, 2)) / still.std(axis=(1, 2))
    expected = [np.exp(-2 * (np.pi * sigma * k) ** 2) for sigma in (0.4, 0.1)]
    np.testing.assert_allclose(damping, expected, rtol=1e-4)


def test_drift_smears_along_its_path_and_not_across() -> None:
    # closed form: sin(π k d) / (π k d) along 29.74° from x towards y, 1 across; the position stays
    index = np.array([7, 4])  # (x, y)
    angle, k, path_A = np.arctan2(index[1], index[0]), np.hypot(*index) / FIELD_A, 1.3
    y, x = np.meshgrid(*[np.arange(64) * FIELD_A / 64] * 2, indexing="ij")
    along = 1 + 0.5 * np.cos(2 * np.pi * (index[0] * x + index[1] * y) / FIELD_A)
    across = 1 + 0.5 * np.cos(2 * np.pi * (index[0] * y - index[1] * x) / FIELD_A)
    fine = np.stack([along, across]).astype(np.float32)
    drifting = view(drift_A=path_A, drift_angle_rad=float(angle))
    still, moved = (camera_image(fine.copy(), [v, v], PIXELS, FIELD_A, CPU) - 1 for v in (view(), drifting))
    damping = np.sin(np.pi * k * path_A) / (np.pi * k * path_A)
    assert 0.3 < damping < 0.7
    np.testing.assert_allclose(moved, np.array([damping, 1.0])[:, None, None] * still, atol=1e-5)


def test_a_drifting_image_is_the_mean_of_those_along_its_path() -> None:
    rng = np.random.default_rng(4)
    fine = rng.uniform(0.5, 1.5, (1, 64, 64)).astype(np.float32)
    step_A, count = FIELD_A / 64, 9  # the mean over 9 grid points along x is an even path of 9 steps, sampled
    shifts = np.arange(count) - count // 2
    smooth = np.fft.irfft2(np.fft.rfft2(fine) * (np.abs(np.fft.rfftfreq(64)) < 0.1), s=(64, 64)).astype(np.float32)
    mean = np.mean([np.roll(smooth, shift, axis=-1) for shift in shifts], axis=0).astype(np.float32)
    drifting = view(drift_A=count * step_A, drift_angle_rad=0.0)
    found, expected = (
        camera_image(each.copy(), [optics], PIXELS, FIELD_A, CPU)
        for each, optics in ((smooth, drifting), (mean, view()))
    )
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=0.02 * np.ptp(expected))


def test_an_image_beside_a_drifting_one_keeps_its_bits() -> None:
    fine = np.random.default_rng(0).uniform(0.5, 1.5, (2, 96, 96)).astype(np.float32)
    alone = camera_image(fine.copy(), [view(), view()], PIXELS, FIELD_A, CPU)
    beside = camera_image(fine.copy(), [view(), view(drift_A=2.0)], PIXELS, FIELD_A, CPU)
    np.testing.assert_array_equal(beside[0], alone[0])
    assert beside[1].std() < alone[1].std()


@pytest.mark.parametrize("c3", [0.05, 2.5, 200.0])
def test_a_uniform_image_keeps_its_mean_under_any_mtf(c3: float) -> None:
    blurred = view(mtf_c1=0.4, mtf_c2=0.3, mtf_c3=c3)
    seen = camera_image(np.full((1, 96, 96), 2.0, np.float32), [blurred], PIXELS, FIELD_A, CPU)
    np.testing.assert_allclose(seen, 2.0, rtol=1e-5)


def test_c1_of_1_is_a_camera_without_mtf() -> None:
    assert (mtf(np.linspace(0, 2, 9), 1.0, 0.3, 2.5) == 1).all()


def test_vacuum_is_one_and_electrons_are_conserved() -> None:
    rng = np.random.default_rng(0)
    fine = rng.uniform(0.5, 1.5, (2, 96, 96)).astype(np.float32)
    sharp, blurred = view(), view(vibration_A=0.3, mtf_c1=0.0)
    image = camera_image(fine.copy(), [sharp, blurred], PIXELS, FIELD_A, CPU)
    np.testing.assert_allclose(image.mean((1, 2)), fine.mean((1, 2)), rtol=1e-5)
    assert image[1].std() < 0.5 * image[0].std()


def test_nothing_below_zero() -> None:
    fine = np.zeros((1, 96, 96), np.float32)
    fine[0, 48, 48] = 100.0
    assert camera_image(fine, [view()], PIXELS, FIELD_A, CPU).min() == 0.0


def test_counting_camera_is_poisson() -> None:
    clean = np.full((256, 256), 0.5, np.float32)
    electrons = 0.5 * 400.0 * PIXEL_A**2
    drawn = counts(clean).astype(float)
    error = np.sqrt(electrons / drawn.size)
    assert drawn.mean() == pytest.approx(electrons, abs=4 * error)
    assert drawn.var() == pytest.approx(electrons, rel=4 * np.sqrt(2 / drawn.size) + 0.01)


def test_scintillator_keeps_the_mean_and_blurs_the_noise() -> None:
    clean = np.full((256, 256), 1.0, np.float32)
    electrons = 1600.0 * PIXEL_A**2
    detector = DetectorSection(camera="scintillator")
    drawn = counts(clean, detector=detector, dose_e_per_A2=1600.0).astype(float)
    assert drawn.mean() == pytest.approx(electrons, abs=4 * np.sqrt(electrons / drawn.size))
    power = np.abs(np.fft.fft2(drawn - drawn.mean())) ** 2 / drawn.size / electrons
    k = 2 * np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    rounding = 1 / 12 / electrons
    for low, high in ((0.02, 0.1), (0.95, 1.05)):
        ring = (k > low) & (k < high)
        expected = np.mean(mtf(k[ring], 0.0, 0.5, 2.0) ** 2) + rounding
        assert power[ring].mean() == pytest.approx(expected, rel=5 / np.sqrt(ring.sum()))


@pytest.mark.parametrize("rms", [0.01, 0.05, 0.4])
def test_gains_of_pixels_add_the_variance_of_their_map(rms: float) -> None:
    # of N = g n with Poisson n: E N = μ, var N = μ (1 + r²) + μ² r²; rounding adds 1/12
    clean = np.full((512, 512), 1.0, np.float32)
    electrons = 1600.0 * PIXEL_A**2
    drawn = counts(clean, dose_e_per_A2=1600.0, gain_map_rms=rms).astype(float)
    variance = electrons * (1 + rms**2) + (electrons * rms) ** 2 + 1 / 12
    assert drawn.mean() == pytest.approx(electrons, abs=4 * np.sqrt(variance / drawn.size))
    assert drawn.var() == pytest.approx(variance, rel=0.015 if rms < 0.1 else 0.05)
    beside = (drawn[:, 1:] - drawn.mean()) * (drawn[:, :-1] - drawn.mean())
    assert abs(beside.mean()) < 5 * variance / np.sqrt(drawn.size)  # pixels are independent


def test_gains_are_above_zero_and_have_mean_1_and_their_deviation() -> None:
    gains = gain_map((1000, 1000), 0.3, rng_for("test", 5))
    assert gains.min() > 0
    assert gains.mean() == pytest.approx(1, abs=4 * 0.3e-3)
    assert gains.std() == pytest.approx(0.3, rel=0.01)


def test_gains_multiply_what_is_there_and_not_the_readout() -> None:
    dark = np.zeros((200, 200), np.float32)
    detector = DetectorSection(offset=100)
    drawn = counts(dark, detector=detector, readout_e=3.0, gain_map_rms=0.5).astype(float)
    assert drawn.std() == pytest.approx(3, rel=0.02)
    assert (counts(dark, gain_map_rms=0.5) == 0).all()


@pytest.mark.parametrize("camera", ["counting", "scintillator"])
def test_a_camera_with_equal_gains_draws_the_counts_of_before(camera: str) -> None:
    clean = np.full((64, 64), 0.8, np.float32)
    detector = DetectorSection(camera=camera)
    with_gains, without = (counts(clean, detector=detector, gain_map_rms=rms).astype(int) for rms in (1e-9, 0.0))
    np.testing.assert_array_equal(with_gains, without)  # the shot noise is drawn first


def test_gain_offset_and_readout() -> None:
    detector = DetectorSection(gain=4.0, offset=100)
    drawn = counts(np.zeros((200, 200), np.float32), detector=detector, readout_e=3.0).astype(float)
    assert drawn.mean() == pytest.approx(100, abs=4 * 12 / 200)
    assert drawn.std() == pytest.approx(12, rel=0.02)


def test_saturated_pixels_stop_at_the_largest_count() -> None:
    assert (counts(np.full((8, 8), 1.0, np.float32), dose_e_per_A2=1e7) == 65_535).all()


def test_noise_is_addressed() -> None:
    clean = np.full((16, 16), 0.7, np.float32)
    np.testing.assert_array_equal(counts(clean, stream=1), counts(clean, stream=1))
    assert (counts(clean, stream=1) != counts(clean, stream=2)).any()


@pytest.mark.parametrize("fault", [np.nan, -1e-3])
def test_clean_must_be_an_intensity(fault: float) -> None:
    clean = np.ones((4, 4), np.float32)
    clean[1, 2] = fault
    with pytest.raises(ContractError, match="finite and ≥ 0"):
        counts(clean)
    with pytest.raises(ContractError, match=r"must be \(y, x\); got \(2, 4, 4\)"):
        counts(np.ones((2, 4, 4), np.float32))
