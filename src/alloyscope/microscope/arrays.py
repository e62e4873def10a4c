"""Array backends, with which the same code works on NumPy arrays and on CuPy arrays or torch tensors of a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pyfftw
import scipy.fft
from numpy.typing import NDArray

from alloyscope.microscope import gpu

Array = Any  # numpy.ndarray, cupy.ndarray or torch.Tensor, of which only the common methods are used

# Lengths at which FFTW without measured plans is fast: 1.0 to 1.9 ns a point; others, as 270, 288 or 352, take twice to
# six times as much (benchmarks/transforms.py).
FAST_LENGTHS = (32, 48, 64, 80, 96, 128, 144, 160, 192, 200, 240, 256, 320, 384, 400, 512)

GPU_BATCH = 64  # ASSUME enough work to hide the launch of each kernel; an array of 64 waves of 384² has 75 MB


@dataclass(frozen=True)
class Backend:
    """The memory that holds arrays, and their transforms; this class uses NumPy's names, which CuPy shares.

    `fft` and `ifft` run over the last axis and leave out every factor 1 / n. They return their result, which may or may
    not be `out`. `fft2`, `ifft2`, `rfft2` and `irfft2` run over the last two axes, are scaled as NumPy's, and may
    overwrite their argument.

    Attributes:
        xp: Array namespace.
        batch: Number of waves computed together; on a CPU, batches are not faster.
    """

    xp: Any
    batch: int = 1

    def asarray(self, array: NDArray[Any]) -> Array:
        return self.xp.asarray(array)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        result: NDArray[Any] = self.xp.asnumpy(array)
        return result

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self.xp.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def ones(self, shape: tuple[int, ...], dtype: str) -> Array:
        array = self.empty(shape, dtype)
        array[...] = 1
        return array

    def transmit(self, waves: Array, phase: Array) -> None:
        """waves *= exp(i · phase), in place, for a complex phase."""
        waves *= self.unit_circle(phase.real) * self.xp.exp(-phase.imag)

    def lattice_sum(self, species: Sequence[tuple[Array, Array, Array]], out: Array) -> None:
        """Fourier transform of a sum of atoms: the sum over species of factor · Σ_atoms exp(−2πi (k_x x + k_y y)).

        Args:
            species: For each one exp(−2πi k_x x) for k_x ≥ 0, shape (batch, atoms, size // 2 + 1), complex64; the same
                of k_y and y; and the factor of one atom, which depends on |k_x| and |k_y| and is 0 from the Nyquist
                frequency on, shape (size, size), complex64.
            out: Overwritten with the sum below the Nyquist frequency and zero from there on, shape (batch, size, size),
                complex64.
        """
        xp, mirrored = self.xp, (out.shape[-1] + 1) // 2

        def whole(half: Array) -> Array:
            return xp.concatenate([half, xp.conj(xp.flip(half[:, :, 1:mirrored], (2,)))], 2)

        out[...] = 0
        for columns, rows, factor in species:
            out += xp.matmul(whole(columns).swapaxes(1, 2), whole(rows)) * factor

    def unit_circle(self, angle: Array) -> Array:
        """exp(i · angle), complex64, for angles [rad] in float32."""
        result = self.empty(tuple(angle.shape), "complex64")
        result.real[...] = self.xp.cos(angle)  # contiguous sines and cosines are several times faster than complex exp
        result.imag[...] = self.xp.sin(angle)
        return result

    def transpose(self, source: Array, out: Array) -> None:
        """Write the transposes of matrices (…, n, m) into `out`, shape (…, m, n), complex64."""
        out[...] = source.swapaxes(-1, -2)

    def add_intensity(self, total: Array, waves: Array) -> None:
        """total += |waves|², in place."""
        total += waves.real**2
        total += waves.imag**2

    def mean_intensity(self, waves: Array) -> Array:
        """Mean of |ψ|² of each wave, shape (batch,)."""
        return (waves.real**2 + waves.imag**2).mean((1, 2))

    def fft(self, array: Array, out: Array) -> Array:
        return self.xp.fft.fft(array)

    def ifft(self, array: Array, out: Array) -> Array:
        return self.xp.fft.ifft(array, norm="forward")

    def fft2(self, array: Array) -> Array:
        return self.xp.fft.fft2(array)

    def ifft2(self, array: Array) -> Array:
        return self.xp.fft.ifft2(array)

    def rfft2(self, array: Array) -> Array:
        return self.xp.fft.rfft2(array)

    def irfft2(self, array: Array, shape: tuple[int, int]) -> Array:
        return self.xp.fft.irfft2(array, s=shape)


@cache
def compiled_kernels() -> ModuleType | None:
    """The module `kernels`, or None where numba does not work with the installed NumPy."""
    try:
        from alloyscope.microscope import kernels
    except ImportError:
        return None
    return kernels


@dataclass(frozen=True)
class NumpyBackend(Backend):
    """NumPy arrays in main memory: FFTW transforms rows, with plans, and scipy transforms planes.

    FFTW chooses its plans without timing and without wisdom, because measured plans, and with them the last bits,
    differ from run to run. Such plans are good for contiguous rows out of place: 384 rows of 384 take 0.14 ms, 0.12 ms
    with measured plans, and 0.26 ms with scipy. In two dimensions they are four times slower than measured plans.
    """

    xp: Any = np
    plans: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)
    products: dict[int, Array] = field(default_factory=dict, repr=False, compare=False)  # scratch of `lattice_sum`

    def asarray(self, array: NDArray[Any]) -> Array:
        return array

    def to_numpy(self, array: Array) -> NDArray[Any]:
        result: NDArray[Any] = array
        return result

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return pyfftw.empty_aligned(shape, dtype)  # FFTW's plan, and so the last bits, depend on the alignment

    def unit_circle(self, angle: Array) -> Array:
        if (kernels := compiled_kernels()) is None:
            return super().unit_circle(angle)
        result = self.empty(angle.shape, "complex64")
        kernels.unit_circle(np.ascontiguousarray(angle).reshape(-1), result.view(np.float32).reshape(-1))
        return result

    def transmit(self, waves: Array, phase: Array) -> None:
        if (kernels := compiled_kernels()) is None:
            super().transmit(waves, phase)
        else:
            kernels.transmit(waves.view(np.float32).reshape(-1), phase.view(np.float32).reshape(-1))

    def lattice_sum(self, species: Sequence[tuple[Array, Array, Array]], out: Array) -> None:
        if (kernels := compiled_kernels()) is None:
            super().lattice_sum(species, out)
            return
        half = (out.shape[-1] + 1) // 2
        if half not in self.products:
            self.products[half] = self.empty((2 * half, 2 * half), "float32")
        for place, (columns, rows, factor) in enumerate(species):
            for column, row, total in zip(columns[..., :half], rows[..., :half], out):
                np.matmul(column.view(np.float32).T, row.view(np.float32), out=self.products[half])
                kernels.add_lattice(total, self.products[half], factor, place > 0)

    def transpose(self, source: Array, out: Array) -> None:
        if (kernels := compiled_kernels()) is None:
            super().transpose(source, out)
        else:
            kernels.transpose(source, out)

    def add_intensity(self, total: Array, waves: Array) -> None:
        if (kernels := compiled_kernels()) is None:
            super().add_intensity(total, waves)
        else:
            kernels.add_intensity(total.reshape(-1), waves.view(np.float32).reshape(-1))

    def mean_intensity(self, waves: Array) -> Array:
        return np.array([np.vdot(wave, wave).real / wave.size for wave in waves])

    def _planned(self, array: Array, out: Array, direction: str) -> Array:
        key = (array.shape, out.shape, out.dtype, direction)
        if key not in self.plans:
            pyfftw.forget_wisdom()
            samples = (self.empty(a.shape, a.dtype) for a in (array, out))
            self.plans[key] = pyfftw.FFTW(*samples, axes=(-1,), direction=direction, flags=("FFTW_ESTIMATE",))
        plan = self.plans[key]
        if array.strides != plan.input_strides or not pyfftw.is_byte_aligned(array, plan.input_alignment):
            moved = self.empty(array.shape, array.dtype)
            moved[...] = array
            array = moved
        plan.update_arrays(array, out)
        plan.execute()
        return out

    def fft(self, array: Array, out: Array) -> Array:
        return self._planned(array, out, "FFTW_FORWARD")

    def ifft(self, array: Array, out: Array) -> Array:
        return self._planned(array, out, "FFTW_BACKWARD")

    def fft2(self, array: Array) -> Array:
        return scipy.fft.fft2(array, overwrite_x=True)

    def ifft2(self, array: Array) -> Array:
        return scipy.fft.ifft2(array, overwrite_x=True)

    def rfft2(self, array: Array) -> Array:
        return scipy.fft.rfft2(array, overwrite_x=True)

    def irfft2(self, array: Array, shape: tuple[int, int]) -> Array:
        return scipy.fft.irfft2(array, s=shape, overwrite_x=True)


@dataclass(frozen=True)
class CupyBackend(Backend):
    """CuPy arrays on an NVIDIA GPU."""

    def transmit(self, waves: Array, phase: Array) -> None:
        kernel = self.xp.ElementwiseKernel(  # CuPy caches the compiled kernel
            "complex64 before, complex64 phase",
            "complex64 after",
            "float s, c; sincosf(phase.real(), &s, &c); after = before * expf(-phase.imag()) * complex<float>(c, s);",
            "transmit",
        )
        kernel(waves, phase, waves)


@dataclass(frozen=True)
class TorchBackend(Backend):
    """torch tensors on one of torch's devices."""

    device: str = "cpu"

    def asarray(self, array: NDArray[Any]) -> Array:
        return self.xp.asarray(array, device=self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        result: NDArray[Any] = array.cpu().numpy()
        return result

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self.xp.empty(shape, dtype=getattr(self.xp, dtype), device=self.device)

    def fft(self, array: Array, out: Array) -> Array:
        return self.xp.fft.fft(array, out=out)

    def ifft(self, array: Array, out: Array) -> Array:
        return self.xp.fft.ifft(array, norm="forward", out=out)


CPU = NumpyBackend()


def torch_backend(device: str, batch: int = GPU_BATCH) -> Backend:
    import torch

    return TorchBackend(torch, batch, device)


@cache
def gpu_backend() -> Backend | None:
    """Backend of a GPU with CuPy or else with torch; None when neither can use a GPU.

    CuPy and torch are imported only if there is a CUDA driver.
    """
    if gpu.cupy_fault() is None:
        import cupy

        return CupyBackend(cupy, GPU_BATCH)
    return torch_backend("cuda") if gpu.torch_fault() is None else None


def backend_for(device: Literal["auto", "cpu", "gpu"]) -> Backend:
    """Backend for the value of `execution.device`.

    Raises:
        ConfigError: no GPU can be used, but one is asked for, or this job was given one.
    """
    found = None if device == "cpu" else gpu_backend()
    return found if gpu.chosen(device, found is not None, gpu.images_fault) and found else CPU


def fast_length(least: int) -> int:
    """Smallest length of at least `least` points with fast transforms."""
    return next((length for length in FAST_LENGTHS if length >= least), 0) or scipy.fft.next_fast_len(least)


def frequencies(size: int, field_A: float) -> NDArray[np.float64]:
    """Spatial frequencies of a grid in FFT order [1/Å], shape (size,)."""
    return np.fft.fftfreq(size, field_A / size).astype(np.float64)
