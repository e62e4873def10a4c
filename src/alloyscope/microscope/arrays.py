"""Array backends: the same lines compute on NumPy arrays and on torch tensors of a GPU."""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from alloyscope.errors import ConfigError

Array = Any  # numpy.ndarray or torch.Tensor: their common operators are all that is used


@dataclass(frozen=True)
class Backend:
    """Where arrays live, with the FFTs over their last two axes. FFTs may overwrite their argument.

    Attributes:
        xp: Array namespace.
        device: torch's device; None for NumPy.
        batch: Waves computed together. On a CPU batching does not pay.
    """

    xp: Any
    device: str | None = None
    batch: int = 1

    def asarray(self, array: NDArray[Any]) -> Array:
        return array if self.device is None else self.xp.asarray(array, device=self.device)

    def ones(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self.asarray(np.ones(shape, dtype))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self.asarray(np.zeros(shape, dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        result: NDArray[Any] = array if self.device is None else array.cpu().numpy()
        return result

    # scipy.fft rather than pyfftw: measured plans of FFTW differ from run to run, and the last bits with them
    def fft2(self, array: Array) -> Array:
        return scipy.fft.fft2(array, overwrite_x=True) if self.device is None else self.xp.fft.fft2(array)

    def ifft2(self, array: Array) -> Array:
        return scipy.fft.ifft2(array, overwrite_x=True) if self.device is None else self.xp.fft.ifft2(array)

    def rfft2(self, array: Array) -> Array:
        return scipy.fft.rfft2(array, overwrite_x=True) if self.device is None else self.xp.fft.rfft2(array)

    def irfft2(self, array: Array, size: int) -> Array:
        shape = (size, size)
        if self.device is None:
            return scipy.fft.irfft2(array, s=shape, overwrite_x=True)
        return self.xp.fft.irfft2(array, s=shape)


CPU = Backend(np)


def torch_backend(device: str, batch: int = 32) -> Backend:
    import torch

    return Backend(torch, device, batch)


@cache
def gpu_present() -> bool:
    """A CUDA driver answers and torch can use it; torch is imported only where there is a driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def backend_for(device: Literal["auto", "cpu", "gpu"]) -> Backend:
    """The backend of `imaging.device`.

    Raises:
        ConfigError: a GPU is asked for and none is usable.
    """
    if device == "cpu" or (device == "auto" and not gpu_present()):
        return CPU
    if not gpu_present():
        raise ConfigError("imaging.device: gpu is asked for, torch finds no CUDA device; use auto or cpu")
    return torch_backend("cuda")


def frequencies(size: int, field_A: float) -> NDArray[np.float64]:
    """Spatial frequencies of a grid in FFT order [1/Å], shape (size,)."""
    return np.fft.fftfreq(size, field_A / size).astype(np.float64)
