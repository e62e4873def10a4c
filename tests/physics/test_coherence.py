"""Partially coherent images against explicit sums over foci and tilts, and against closed forms of weak objects."""

from dataclasses import replace

import numpy as np
import pytest

from alloyscope.contracts import View
from alloyscope.errors import ContractError
from alloyscope.imaging import reference
from alloyscope.imaging.gates import rms_difference
from alloyscope.microscope import coherence
from alloyscope.microscope.arrays import CPU, torch_backend
from alloyscope.microscope.coherence import Band, coherent_transfers, image_intensity
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.optics import Lens, intensity_grid
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from tests.physics.test_optics import LENS, cosine, plain

FIELD = Lens(size=384, field_A=ImagingSection().field_A, voltage_kV=200.0)


def speckle(strength: float, seed: int = 0) -> np.ndarray:
    """Exit wave of a round object 20 Å wide, whose random phase has spots of 1 Å and the given standard deviation."""
    x = (np.arange(FIELD.size) / FIELD.size - 0.5) * FIELD.field_A
    r2 = x[:, None] ** 2 + x[None] ** 2
    k = np.fft.fftfreq(FIELD.size, FIELD.field_A / FIELD.size)
    noise = np.random.default_rng(seed).standard_normal((FIELD.size, FIELD.size))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-2 * np.pi**2 * 0.4**2 * (k[:, None] ** 2 + k[None] ** 2))).real
    return np.exp(1j * strength * smooth / smooth.std() * np.exp(-((r2 / 10**2) ** 4))).astype(np.complex64)


def drawn(preset: str, number: int) -> View:
    return drawn_view(number, 0, ImagingSection(), OpticsSection(preset=preset), DetectorSection(), seed=5)


def image(intensity: np.ndarray, view: View) -> np.ndarray:
    return camera_image(intensity.astype(np.float32)[None], [view], 128, FIELD.field_A, CPU)[0]


@pytest.mark.parametrize("preset", ["corrected", "uncorrected", "orleans-2026"])
@pytest.mark.parametrize("strength", [0.05, 0.3])
def test_images_are_those_of_the_explicit_sum(preset: str, strength: float) -> None:
    """Within 0.05 % of the beam; the electrons that the aperture stops, within 3 %."""
    wave = speckle(strength)
    for number in range(3):
        view = drawn(preset, number)
        truth = reference.lens_image(wave, view, FIELD.field_A, FIELD.voltage_kV)
        ours = image_intensity(wave[None], [view], FIELD, CPU)[0]
        assert rms_difference(image(ours, view), image(truth, view)) < 5e-4
        assert 1 - ours.mean() == pytest.approx(1 - truth.mean(), rel=0.03, abs=1e-5)
        coherent = reference.lens_image(
            wave, replace(view, focal_spread_A=0.0, angular_spread_mrad=0.0), FIELD.field_A, FIELD.voltage_kV
        )
        assert rms_difference(image(coherent, view), image(truth, view)) > 3 * rms_difference(
            image(ours, view), image(truth, view)
        )


def test_a_wide_spread_of_focus_and_tilt_needs_more_images_and_is_right() -> None:
    view = replace(drawn("uncorrected", 1), focal_spread_A=150.0, angular_spread_mrad=0.5)
    wave = speckle(0.3)
    truth = reference.lens_image(
        wave, view, FIELD.field_A, FIELD.voltage_kV, sums=reference.Sums(foci=25, rings=4, spokes=12)
    )
    ours = image_intensity(wave[None], [view], FIELD, CPU)[0]
    assert rms_difference(image(ours, view), image(truth, view)) < 1e-3


def test_a_spread_of_focus_damps_a_weak_object_by_its_envelope() -> None:
    wave, k = cosine(14)
    waves = (1 + 1e-3j * wave)[None].astype(np.complex64)
    blurred, sharp = (
        image_intensity(waves, [plain(defocus_A=80.0, focal_spread_A=spread)], LENS, CPU) for spread in (60.0, 0.0)
    )
    damping = np.exp(-((np.pi * LENS.wavelength_A * 60.0 * k**2 / 2) ** 2))
    assert damping < 0.7
    assert np.ptp(blurred) / np.ptp(sharp) == pytest.approx(damping, rel=0.01)


def test_damped_electrons_are_diffuse_not_lost() -> None:
    # 1 + a cos(2πkx): the wave's own intensity, a²/2, stays in the mean, whatever the spread of the focus
    wave, k = cosine(14)
    amplitude = 0.3
    view = plain(defocus_A=80.0, focal_spread_A=300.0)
    blurred = image_intensity((1 + amplitude * wave)[None].astype(np.complex64), [view], LENS, CPU)
    assert np.exp(-((np.pi * LENS.wavelength_A * 300.0 * k**2 / 2) ** 2)) < 1e-3
    assert blurred.mean() == pytest.approx(1 + amplitude**2 / 2, abs=1e-4)
    # the beats of the two side bands are of one focus: cos² survives
    expected = 1 + amplitude**2 * np.asarray(wave) ** 2
    np.testing.assert_allclose(blurred[0], expected, atol=2e-3)


def test_open_lens_keeps_the_beam() -> None:
    wave, _ = cosine(5)
    waves = np.exp(0.8j * wave)[None].astype(np.complex64)
    for spread in (0.0, 80.0):
        view = plain(defocus_A=70.0, aperture_mrad=1e3, focal_spread_A=spread)
        assert image_intensity(waves, [view], LENS, CPU).mean() == pytest.approx(1.0, abs=1e-5)  # Parseval


def test_aperture_stops_what_lies_outside() -> None:
    wave, k = cosine(9)
    angle_mrad = 1e3 * LENS.wavelength_A * k
    waves = np.exp(0.3j * wave)[None].astype(np.complex64)
    stopped = image_intensity(waves, [plain(defocus_A=70.0, aperture_mrad=0.8 * angle_mrad)], LENS, CPU)
    assert np.ptp(stopped) < 1e-5


def test_tilts_of_the_illumination_blur_the_edge_of_the_aperture() -> None:
    # a wave at the very edge passes for half of the tilts; its beat with the beam keeps half of its amplitude
    wave, k = cosine(9)
    angle_mrad = 1e3 * LENS.wavelength_A * k
    waves = (1 + 1e-3 * wave)[None].astype(np.complex64)
    wide, edge = (
        np.ptp(image_intensity(waves, [plain(aperture_mrad=at, angular_spread_mrad=0.3)], LENS, CPU))
        for at in (2 * angle_mrad, angle_mrad)
    )
    assert edge / wide == pytest.approx(0.5, abs=0.01)


def test_the_compiled_interference_is_that_of_all_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the determinant under its root has a negative real part, as with wide tilts of a strong lens."""
    views = [drawn("corrected", 0), drawn("uncorrected", 1), replace(drawn("uncorrected", 2), angular_spread_mrad=2.0)]
    band = Band.of(views, FIELD, 256)
    powers = np.full((len(views), band.w.size), 0.01 / band.w.size, np.float32)

    def first_image() -> np.ndarray:
        return next(coherent_transfers(powers, views, band, FIELD, CPU))

    compiled = first_image()
    monkeypatch.setattr(coherence, "compiled_kernels", lambda: None)
    np.testing.assert_allclose(first_image(), compiled, atol=2e-5)
    assert np.abs(compiled).min(axis=1).max() < 1e-3 < np.abs(compiled).max(axis=1).min()


def test_sharp_optics_need_one_image_and_weak_objects_two() -> None:
    band = Band.of([plain()], LENS, 96)

    def images(view: View, power: float) -> int:
        powers = np.full((1, band.w.size), power / band.w.size, np.float32)
        return len(list(coherent_transfers(powers, [view], band, LENS, CPU)))

    assert images(plain(), 0.1) == 1
    spread = plain(focal_spread_A=60.0, angular_spread_mrad=0.2)
    assert images(spread, 1e-6) == 2
    assert 2 < images(spread, 0.01) < images(spread, 0.3)


def test_each_point_passes_as_much_as_the_aperture_in_all_images_together() -> None:
    view = plain(focal_spread_A=60.0, angular_spread_mrad=0.2)
    band = Band.of([view], LENS, 96)
    powers = np.full((1, band.w.size), 0.3 / band.w.size, np.float32)
    passed = sum(np.abs(transfer) ** 2 for transfer in coherent_transfers(powers, [view], band, LENS, CPU))[0]
    inside = np.abs(band.w) < 1e-3 * view.aperture_mrad - 2 * LENS.step_rad
    np.testing.assert_allclose(passed[inside], 1, atol=1e-4)


def test_the_smaller_grid_of_intensities_aliases_less_than_a_hundred_thousandth() -> None:
    wave = speckle(0.6)
    for number in range(3):
        view = drawn("corrected", number)
        small = intensity_grid([view], FIELD)
        assert small == 256
        coarse, fine = (image_intensity(wave[None], [view], FIELD, CPU, size)[0] for size in (small, 384))
        assert rms_difference(image(coarse, view), image(fine, view)) < 1e-5


def test_the_same_image_on_torch_and_in_a_batch() -> None:
    views = [drawn("corrected", 0), drawn("orleans-2026", 1), drawn("corrected", 2)]
    waves = np.stack([speckle(strength, seed) for seed, strength in enumerate((0.1, 0.3, 0.6))])
    size = intensity_grid(views, FIELD)
    alone = np.concatenate([image_intensity(w[None], [v], FIELD, CPU, size) for w, v in zip(waves, views)])
    torch = torch_backend("cpu")
    together = torch.to_numpy(image_intensity(torch.asarray(waves), views, FIELD, torch, size))
    np.testing.assert_allclose(together, alone, atol=2e-3)
    assert rms_difference(together, alone) < 1e-4


def test_needs_one_view_per_wave() -> None:
    with pytest.raises(ContractError, match="one view per wave; got 1 for 2"):
        image_intensity(np.ones((2, LENS.size, LENS.size), np.complex64), [plain()], LENS, CPU)


def test_a_looser_residual_is_seen_by_the_explicit_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on what is left out is what makes the image right."""
    view, wave = drawn("corrected", 1), speckle(0.6)
    truth = reference.lens_image(wave, view, FIELD.field_A, FIELD.voltage_kV)
    errors = []
    for residual in (coherence.RESIDUAL, 1.0):
        monkeypatch.setattr(coherence, "RESIDUAL", residual)
        ours = image_intensity(wave[None], [view], FIELD, CPU)[0]
        errors.append(rms_difference(image(ours, view), image(truth, view)))
    assert errors[1] > 5 * errors[0]
