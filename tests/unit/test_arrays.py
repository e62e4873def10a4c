"""Backends do the same transforms, and the device of the config finds its backend."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyfftw
import pytest

from alloyscope.errors import ConfigError
from alloyscope.microscope import arrays, gpu
from alloyscope.microscope.arrays import CPU, Backend, CupyBackend, NumpyBackend, TorchBackend, backend_for


class NumpyAsCupy:
    """CuPy's names are NumPy's: the lines written for it run on NumPy itself."""

    asnumpy = staticmethod(np.asarray)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def backends() -> list[Backend]:
    return [CPU, Backend(NumpyAsCupy()), arrays.torch_backend("cpu")]


@pytest.fixture(params=backends(), ids=["numpy", "cupy's lines", "torch"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


def complex_rows(shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def on(backend: Backend, array: np.ndarray) -> Any:
    placed = backend.empty(array.shape, str(array.dtype))
    placed[...] = backend.asarray(array)
    return placed


def test_rows_are_transformed_without_a_factor(backend: Backend) -> None:
    rows = complex_rows((2, 5, 24))
    out = backend.empty(rows.shape, "complex64")
    there = backend.fft(on(backend, rows), out)
    np.testing.assert_allclose(backend.to_numpy(there), np.fft.fft(rows), atol=1e-4)
    back = backend.ifft(on(backend, rows), backend.empty(rows.shape, "complex64"))
    np.testing.assert_allclose(backend.to_numpy(back), 24 * np.fft.ifft(rows), atol=1e-4)


def test_transforms_of_rows_leave_their_argument(backend: Backend) -> None:
    rows = on(backend, complex_rows((1, 6, 24)))
    backend.fft(rows, backend.empty((1, 6, 24), "complex64"))
    backend.ifft(rows, backend.empty((1, 6, 24), "complex64"))
    np.testing.assert_array_equal(backend.to_numpy(rows), complex_rows((1, 6, 24)))


def test_planes_are_scaled_as_numpys(backend: Backend) -> None:
    plane = complex_rows((2, 8, 12))
    for name in ("fft2", "ifft2"):
        found = backend.to_numpy(getattr(backend, name)(on(backend, plane)))
        np.testing.assert_allclose(found, getattr(np.fft, name)(plane), atol=1e-4)
    half = backend.rfft2(on(backend, plane.real.copy()))
    np.testing.assert_allclose(backend.to_numpy(half), np.fft.rfft2(plane.real), atol=1e-4)
    np.testing.assert_allclose(backend.to_numpy(backend.irfft2(half, (8, 12))), plane.real, atol=1e-5)


def test_transmission(backend: Backend) -> None:
    waves = on(backend, complex_rows((1, 4, 4)))
    phase = 0.5 * complex_rows((1, 4, 4))[:, ::-1]
    backend.transmit(waves, on(backend, phase))
    expected = complex_rows((1, 4, 4)) * np.exp(1j * phase)
    np.testing.assert_allclose(backend.to_numpy(waves), expected, atol=2e-5)


@pytest.mark.parametrize("size", [8, 9])
def test_the_sum_over_a_lattice_is_the_sum_over_its_atoms(backend: Backend, size: int) -> None:
    rng = np.random.default_rng(4)
    k = np.fft.fftfreq(size, 1 / size)
    low = np.arange(size // 2 + 1)
    k2 = k[:, None] ** 2 + k[None] ** 2
    species, expected = [], np.zeros((2, size, size), complex)
    for number, atoms in enumerate((5, 3)):
        x, y = rng.uniform(size=(2, 2, atoms))
        factor = ((1 + number + 2j * k2) * (k2 < size**2 / 4)).astype(np.complex64)
        harmonics = (np.exp(-2j * np.pi * low * at[:, :, None]).astype(np.complex64) for at in (x, y))
        species.append((*(on(backend, each) for each in harmonics), on(backend, factor)))
        phase = k[:, None, None] * x[:, None, None] + k[None, :, None] * y[:, None, None]
        expected += factor * np.exp(-2j * np.pi * phase).sum(-1)
    out = backend.zeros(expected.shape, "complex64")
    for _ in range(2):  # a sum that stands in `out` is overwritten
        backend.lattice_sum(species, out)
        np.testing.assert_allclose(backend.to_numpy(out), expected, atol=2e-4)


def test_bits_do_not_depend_on_what_was_planned_before() -> None:
    rows = on(CPU, complex_rows((1, 96, 96)))
    first = NumpyBackend().fft(rows, CPU.empty((1, 96, 96), "complex64"))
    # another part of the process measures its plans, and FFTW remembers the winners
    measured = pyfftw.empty_aligned((1, 96, 96), "complex64")
    pyfftw.FFTW(measured, measured, axes=(-1,), flags=("FFTW_MEASURE",))
    again = NumpyBackend().fft(rows, CPU.empty((1, 96, 96), "complex64"))
    np.testing.assert_array_equal(first, again)


def test_bits_do_not_depend_on_where_rows_lie() -> None:
    rows = complex_rows((1, 4, 24))
    shifted = CPU.empty((4 * 24 + 1,), "complex64")[1:].reshape(1, 4, 24)
    shifted[...] = rows
    expected = CPU.fft(on(CPU, rows), CPU.empty((1, 4, 24), "complex64"))
    np.testing.assert_array_equal(CPU.fft(shifted, CPU.empty((1, 4, 24), "complex64")), expected)
    spread = np.repeat(rows, 2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(CPU.fft(spread, CPU.empty((1, 4, 24), "complex64")), expected)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends which of driver, CuPy and torch finds a GPU."""

    def pretend(driver: bool, cupy: bool | None, torch: bool) -> None:
        arrays.gpu_backend.cache_clear()
        monkeypatch.setattr(gpu, "driver_fault", lambda: None if driver else "there is no CUDA driver here")
        count = SimpleNamespace(getDeviceCount=lambda: int(bool(cupy)))
        answer = None if cupy is None else SimpleNamespace(cuda=SimpleNamespace(runtime=count))
        monkeypatch.setitem(sys.modules, "cupy", answer)  # None: import fails
        monkeypatch.setattr("torch.version.cuda", "12.8")
        monkeypatch.setattr("torch.cuda.is_available", lambda: torch)
        monkeypatch.setattr("torch.cuda.init", lambda: None)

    yield pretend
    arrays.gpu_backend.cache_clear()


@pytest.mark.parametrize(
    ("driver", "cupy", "torch", "expected"),
    [
        (True, True, True, CupyBackend),
        (True, False, True, TorchBackend),
        (True, None, True, TorchBackend),
        (True, None, False, NumpyBackend),
        (False, True, True, NumpyBackend),
    ],
)
def test_auto_takes_cupy_then_torch_then_the_processor(
    machine: Any, driver: bool, cupy: bool | None, torch: bool, expected: type[Backend]
) -> None:
    machine(driver, cupy, torch)
    assert type(backend_for("auto")) is expected
    assert backend_for("cpu") is CPU


def test_no_gpu_is_said(machine: Any) -> None:
    machine(True, None, False)
    message = (
        r"execution.device: gpu is asked for, but CuPy is not installed .*, and torch .* finds no device; mend that"
    )
    with pytest.raises(ConfigError, match=message):
        backend_for("gpu")
