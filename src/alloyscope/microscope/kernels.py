"""Fused loops over arrays in main memory, compiled when they are first imported (numba)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import int32, njit

# π/2 in three parts, so that quarter turns are subtracted without loss (Cody & Waite 1980), and the polynomials of sine
# and cosine on ±π/4 of the Cephes library (Moshier); errors stay below 1e-6.
_QUARTERS = np.float32(2 / np.pi)
_TURN = (np.float32(1.5703125), np.float32(4.837512969970703125e-4), np.float32(7.54978995489188216e-8))
_SINE = (np.float32(-1.6666654611e-1), np.float32(8.3321608736e-3), np.float32(-1.9515295891e-4))
_COSINE = (np.float32(4.166664568298827e-2), np.float32(-1.388731625493765e-3), np.float32(2.443315711809948e-5))
_HALF, _ONE, _EIGHTH = np.float32(0.5), np.float32(1), np.float32(1 / 8)
_EXP = (np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120))
_BLOCK = 16


def _compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function at once, and keep the machine code between processes where there is a place for it."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = njit(signature, fastmath=True, error_model="numpy", cache=True)(function)
        except (RuntimeError, OSError):  # neither the package's folder nor the user's cache can be written
            compiled = njit(signature, fastmath=True, error_model="numpy")(function)
        return compiled

    return wrap


@_compiled("void(float32[::1], float32[::1], float32[::1])")
def transmit(waves: Any, phase: Any, log_amplitude: Any) -> None:
    """waves *= exp(log_amplitude + i · phase), in place.

    Args:
        waves: Real and imaginary parts in turn, shape (2 n,), float32.
        phase: [rad], shape (n,), float32.
        log_amplitude: Above −8, shape (n,), float32; the error of exp grows to 1e-4 at ±8.
    """
    for i in range(phase.size):
        quarter = np.floor(phase[i] * _QUARTERS + _HALF)
        angle = ((phase[i] - quarter * _TURN[0]) - quarter * _TURN[1]) - quarter * _TURN[2]
        square = angle * angle
        sine = angle + angle * square * (_SINE[0] + square * (_SINE[1] + square * _SINE[2]))
        cosine = _ONE - _HALF * square
        cosine += square * square * (_COSINE[0] + square * (_COSINE[1] + square * _COSINE[2]))
        which = int32(quarter)
        real = cosine if which & 1 == 0 else sine
        imaginary = sine if which & 1 == 0 else cosine
        real = real if (which + 1) & 2 == 0 else -real
        imaginary = imaginary if which & 2 == 0 else -imaginary
        y = log_amplitude[i] * _EIGHTH
        size = _ONE + y * (_ONE + y * (_EXP[0] + y * (_EXP[1] + y * (_EXP[2] + y * _EXP[3]))))
        size *= size
        size *= size
        size *= size
        u, v = waves[2 * i], waves[2 * i + 1]
        waves[2 * i] = size * (u * real - v * imaginary)
        waves[2 * i + 1] = size * (u * imaginary + v * real)


@_compiled("void(float32[::1], float32[::1])")
def add_intensity(total: Any, waves: Any) -> None:
    """total += |waves|², in place; `waves` as in `transmit`, total with shape (n,), float32."""
    for i in range(total.size):
        total[i] += waves[2 * i] * waves[2 * i] + waves[2 * i + 1] * waves[2 * i + 1]


@_compiled("void(complex64[:, :], complex64[:, :])")
def transpose(source: Any, out: Any) -> None:
    """out[j, i] = source[i, j], block by block, so that both stay in the cache; shapes (n, m) and (m, n)."""
    rows, columns = source.shape
    for top in range(0, rows, _BLOCK):
        for left in range(0, columns, _BLOCK):
            for i in range(top, min(top + _BLOCK, rows)):
                for j in range(left, min(left + _BLOCK, columns)):
                    out[j, i] = source[i, j]
