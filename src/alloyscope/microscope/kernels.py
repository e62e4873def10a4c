"""Fused loops over arrays in main memory, compiled when they are first imported (numba)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import int32, njit

# π/2 in three parts, so that quarter turns are subtracted without loss (Cody & Waite 1980), and the polynomials of sine
# and cosine on ±π/4 of the Cephes library (Moshier); errors stay below 1e-6 for angles below 1e6 rad.
_QUARTERS = np.float32(2 / np.pi)
_TURN = (np.float32(1.5703125), np.float32(4.837512969970703125e-4), np.float32(7.54978995489188216e-8))
_SINE = (np.float32(-1.6666654611e-1), np.float32(8.3321608736e-3), np.float32(-1.9515295891e-4))
_COSINE = (np.float32(4.166664568298827e-2), np.float32(-1.388731625493765e-3), np.float32(2.443315711809948e-5))
_HALF, _ONE, _TWO, _FOUR, _EIGHTH = np.float32(0.5), np.float32(1), np.float32(2), np.float32(4), np.float32(1 / 8)
_FAST = {"nnan", "ninf", "nsz", "arcp", "contract"}  # not "reassoc", which would merge the three parts of π/2
_EXP = (np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120))


def _compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function at once, and keep the machine code between processes where there is a place for it."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = njit(signature, fastmath=_FAST, error_model="numpy", cache=True)(function)
        except (RuntimeError, OSError):  # neither the package's folder nor the user's cache can be written
            compiled = njit(signature, fastmath=_FAST, error_model="numpy")(function)
        return compiled

    return wrap


@njit(inline="always")
def _cosine_sine(turn: Any) -> Any:
    """Cosine and sine of an angle [rad], float32."""
    quarter = np.floor(turn * _QUARTERS + _HALF)
    angle = ((turn - quarter * _TURN[0]) - quarter * _TURN[1]) - quarter * _TURN[2]
    square = angle * angle
    sine = angle + angle * square * (_SINE[0] + square * (_SINE[1] + square * _SINE[2]))
    cosine = _ONE - _HALF * square
    cosine += square * square * (_COSINE[0] + square * (_COSINE[1] + square * _COSINE[2]))
    which = int32(quarter)
    real = cosine if which & 1 == 0 else sine
    imaginary = sine if which & 1 == 0 else cosine
    return real if (which + 1) & 2 == 0 else -real, imaginary if which & 2 == 0 else -imaginary


@_compiled("void(float32[::1], float32[::1])")
def unit_circle(angle: Any, out: Any) -> None:
    """exp(i · angle): angles [rad], shape (n,), to real and imaginary parts in turn, shape (2 n,), float32."""
    for i in range(angle.size):
        out[2 * i], out[2 * i + 1] = _cosine_sine(angle[i])


@_compiled("void(float32[::1], float32[::1])")
def transmit(waves: Any, phase: Any) -> None:
    """waves *= exp(i · phase), in place.

    Args:
        waves: Real and imaginary parts in turn, shape (2 n,), float32.
        phase: Complex phase, likewise; the amplitude exp(−Im phase) has a relative error below 1e-4 for
            |Im phase| < 3.
    """
    for i in range(phase.size // 2):
        real, imaginary = _cosine_sine(phase[2 * i])
        y = -phase[2 * i + 1] * _EIGHTH
        size = _ONE + y * (_ONE + y * (_EXP[0] + y * (_EXP[1] + y * (_EXP[2] + y * _EXP[3]))))
        size *= size
        size *= size
        size *= size
        u, v = waves[2 * i], waves[2 * i + 1]
        waves[2 * i] = size * (u * real - v * imaginary)
        waves[2 * i + 1] = size * (u * imaginary + v * real)


@_compiled("void(" + "float32[::1], " * 7 + "float32, float32, int64, " + "float32[::1], " * 3 + "float32[::1])")
def interfere(
    x: Any,
    y: Any,
    by_x: Any,
    by_y: Any,
    xx: Any,
    xy: Any,
    yy: Any,
    spread: Any,
    blur: Any,
    beam: Any,
    focus: Any,
    tilt_x: Any,
    tilt_y: Any,
    out: Any,
) -> None:
    """Interference with the beam under tilts, as `coherence._interference` computes it for all backends.

    Args:
        x, y: Angles [rad], shape (n,), float32, as all arrays.
        by_x, by_y, xx, xy, yy: Derivatives of the aberration function there.
        spread: 1/e width of the tilts [rad].
        blur: Factor of α² in G₁, π Δ / 2λ.
        beam: Which of the points is the beam.
        focus, tilt_x, tilt_y: The three components of G, overwritten, shape (n,) each.
        out: The interference, real and imaginary parts in turn, overwritten, shape (2 n,).
    """
    coupled, tilting, curving = _FOUR * (blur * spread) ** 2, _FOUR * blur * spread, _HALF * spread * spread
    for i in range(x.size):
        g = blur * (x[i] * x[i] + y[i] * y[i])
        focus[i], tilt_x[i], tilt_y[i] = g, _HALF * spread * by_x[i], _HALF * spread * by_y[i]
        xx_re, xx_im = _ONE + coupled * x[i] * x[i], curving * (xx[i] - xx[beam])  # N
        xy_re, xy_im = coupled * x[i] * y[i], curving * (xy[i] - xy[beam])
        yy_re, yy_im = _ONE + coupled * y[i] * y[i], curving * (yy[i] - yy[beam])
        det_re = xx_re * yy_re - xx_im * yy_im - xy_re * xy_re + xy_im * xy_im
        det_im = xx_re * yy_im + xx_im * yy_re - _TWO * xy_re * xy_im
        x_re, x_im, y_re, y_im = tilting * g * x[i], _TWO * tilt_x[i], tilting * g * y[i], _TWO * tilt_y[i]  # b
        square_re, square_im = x_re * x_re - x_im * x_im, _TWO * x_re * x_im
        other_re, other_im = y_re * y_re - y_im * y_im, _TWO * y_re * y_im
        mixed_re, mixed_im = x_re * y_re - x_im * y_im, x_re * y_im + x_im * y_re
        top_re = square_re * yy_re - square_im * yy_im + other_re * xx_re - other_im * xx_im
        top_re -= _TWO * (mixed_re * xy_re - mixed_im * xy_im)
        top_im = square_re * yy_im + square_im * yy_re + other_re * xx_im + other_im * xx_re
        top_im -= _TWO * (mixed_re * xy_im + mixed_im * xy_re)
        size2 = det_re * det_re + det_im * det_im
        real, imaginary = _cosine_sine((top_im * det_re - top_re * det_im) * (_HALF * _HALF / size2))
        damping = (top_re * det_re + top_im * det_im) * (_HALF * _HALF / size2) - g * g
        larger = math.sqrt((math.sqrt(size2) + abs(det_re)) * _HALF)  # of the two parts of √det
        smaller = det_im / (_TWO * larger)
        if det_re < 0:
            larger, smaller = abs(smaller), larger if det_im >= 0 else -larger
        scale = math.exp(damping) / math.sqrt(size2)
        out[2 * i] = scale * (real * larger + imaginary * smaller)
        out[2 * i + 1] = scale * (imaginary * larger - real * smaller)


@_compiled("void(float32[::1], float32[::1])")
def add_intensity(total: Any, waves: Any) -> None:
    """total += |waves|², in place; `waves` as in `transmit`, total with shape (n,), float32."""
    for i in range(total.size):
        total[i] += waves[2 * i] * waves[2 * i] + waves[2 * i + 1] * waves[2 * i + 1]


@_compiled("void(complex64[:, ::1], float32[:, ::1], complex64[:, ::1], boolean)")
def add_lattice(total: Any, products: Any, factor: Any, more: Any) -> None:
    """Add the atoms of one species to a Fourier transform, or overwrite it with them.

    With a = exp(−2πi k_x x) and b = exp(−2πi k_y y) for k_x, k_y ≥ 0, the real products of their parts give all four
    quarters: the sums over the atoms of ab, of its conjugate, and of a b̄ and its conjugate.

    Args:
        total: Fourier transform (k_x, k_y) in FFT order, shape (n, n), complex64; only points below the Nyquist
            frequency, k_x² + k_y² < (n / 2)², are written.
        products: Σ_atoms of products of real and imaginary parts in turn, of a along the first axis and of b along the
            second, for k < n / 2, shape (2 ⌈n / 2⌉, 2 ⌈n / 2⌉), float32.
        factor: Fourier transform of one atom, shape (n, n), complex64, of which the quarter k_x, k_y ≥ 0 is read.
        more: Whether to add.
    """
    size, half = total.shape[0], products.shape[0] // 2
    for i in range(half):
        minus_i = (size - i) % size
        inside = min(half, int32(np.sqrt(size * size / 4 - i * i)) + 1)
        for j in range(inside):
            minus_j = size - j if j else 0
            real, imaginary = products[2 * i, 2 * j], products[2 * i + 1, 2 * j + 1]
            mixed, other = products[2 * i + 1, 2 * j], products[2 * i, 2 * j + 1]
            along, across = complex(real - imaginary, mixed + other), complex(real + imaginary, mixed - other)
            here, there = along * factor[i, j], along.conjugate() * factor[i, j]
            left, right = across * factor[i, j], across.conjugate() * factor[i, j]
            if more:  # on an axis two of the four are one point, so all are read before one is written
                here += total[i, j]
                there += total[minus_i, minus_j]
                left += total[i, minus_j]
                right += total[minus_i, j]
            total[i, j], total[minus_i, minus_j] = here, there
            total[i, minus_j], total[minus_i, j] = left, right


@_compiled("void(complex64[:, :, :], complex64[:, :, :])")
def transpose(source: Any, out: Any) -> None:
    """out[b, j, i] = source[b, i, j], eight rows at once; shapes (batch, n, m) and (batch, m, n)."""
    batch, rows, columns = source.shape
    whole = rows - rows % 8
    for b in range(batch):
        for top in range(0, whole, 8):
            for j in range(columns):
                for i in range(8):
                    out[b, j, top + i] = source[b, top + i, j]
        for i in range(whole, rows):
            for j in range(columns):
                out[b, j, i] = source[b, i, j]
