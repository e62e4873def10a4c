"""The compiled loops against NumPy, and NumPy in their place where numba does not work."""

import numpy as np
import pytest

from alloyscope.microscope import arrays, kernels
from alloyscope.microscope.arrays import NumpyBackend

RNG = np.random.default_rng(3)


def waves(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)).astype(np.complex64)


def test_transmit_turns_and_damps() -> None:
    before = waves(1, 40, 30)
    phase = (RNG.uniform(-40, 40, before.shape) + 1j * RNG.uniform(-0.5, 3, before.shape)).astype(np.complex64)
    after = before.copy()
    NumpyBackend().transmit(after, phase)
    np.testing.assert_allclose(after, before * np.exp(1j * phase.astype(complex)), atol=1e-5)


def test_angles_go_around_the_unit_circle() -> None:
    angle = RNG.uniform(-400, 400, (3, 2, 50)).astype(np.float32)[:, ::-1]
    np.testing.assert_allclose(NumpyBackend().unit_circle(angle), np.exp(1j * angle.astype(float)), atol=2e-6)


def test_transmit_is_exact_for_nothing() -> None:
    before = waves(2, 5, 7)
    after = before.copy()
    NumpyBackend().transmit(after, np.zeros_like(before))
    np.testing.assert_array_equal(after, before)


def test_intensities_add_up() -> None:
    wave, total = waves(2, 9, 11), np.ones((2, 9, 11), np.float32)
    NumpyBackend().add_intensity(total, wave)
    np.testing.assert_allclose(total, 1 + np.abs(wave) ** 2, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 40), (3, 200)])
def test_transpose_of_any_part(shape: tuple[int, int]) -> None:
    source = waves(2, shape[0], shape[1] + 5)[:, :, 2:-3]
    out = np.zeros((2, shape[1], shape[0] + 4), np.complex64)
    NumpyBackend().transpose(source, out[:, :, 1:-3])
    np.testing.assert_array_equal(out[:, :, 1:-3], source.swapaxes(1, 2))
    assert not out[:, :, 0].any()
    assert not out[:, :, -3:].any()


def test_numpy_does_the_same_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    wave, phase = waves(1, 12, 10), 0.5 * waves(1, 12, 10)

    k2 = np.fft.fftfreq(8, 1 / 8)[:, None] ** 2 + np.fft.fftfreq(8, 1 / 8) ** 2
    harmonics = [np.exp(-2j * np.pi * RNG.uniform(size=(1, 3, 1)) * np.arange(5)).astype(np.complex64) for _ in "xyxy"]
    factor = (k2 < 16).astype(np.complex64)
    species = [(*harmonics[:2], factor), (*harmonics[2:], 1j * factor)]

    def results() -> tuple[np.ndarray, ...]:
        after, total, out = wave.copy(), np.zeros(wave.shape, np.float32), np.zeros((1, 10, 12), np.complex64)
        backend, lattice = NumpyBackend(), np.zeros((1, 8, 8), np.complex64)
        backend.lattice_sum(species, lattice)
        backend.transmit(after, phase)
        backend.add_intensity(total, wave)
        backend.transpose(wave, out)
        return after, total, out, lattice, backend.unit_circle(wave.real)

    compiled = results()
    monkeypatch.setattr(arrays, "compiled_kernels", lambda: None)
    for with_numba, without in zip(compiled, results()):
        np.testing.assert_allclose(without, with_numba, atol=1e-5)
    assert kernels.transmit.signatures
