"""Objective lens: aberrations and aperture, with abTEM's names and signs.

Each wave of a batch has its own optics. With w = α e^{iφ} (scattering angle and azimuth) every aberration
is a monomial, χ = (2π/λ) Σ Re(c̄ w^a w̄^b) / (n + 1) with c = C_nm e^{imφ_nm},
a = (n + 1 + m) / 2, b = (n + 1 − m) / 2 (Krivanek's notation; Uhlemann & Haider 1998 write the same in complex form).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import ABERRATIONS, View
from alloyscope.microscope.arrays import Array, Backend, fast_length, frequencies
from alloyscope.units import electron_wavelength_A


def coefficient(view: View, n: int, m: int) -> complex:
    """Aberration coefficient C_nm e^{imφ_nm} [Å]; C10 = −defocus."""
    if (n, m) == (1, 0):
        return -view.defocus_A
    angle_rad: float = getattr(view, f"phi{n}{m}_rad") if m else 0.0
    return complex(getattr(view, f"C{n}{m}_A") * np.exp(1j * m * angle_rad))


@dataclass(frozen=True)
class Lens:
    """The grid of scattering angles in the lens.

    Attributes:
        size: Grid points along each edge.
        field_A: Edge of the field of view [Å].
        voltage_kV: Acceleration voltage.
    """

    size: int
    field_A: float
    voltage_kV: float

    @property
    def wavelength_A(self) -> float:
        return electron_wavelength_A(self.voltage_kV)

    @property
    def step_rad(self) -> float:
        """Angle between neighbouring grid points."""
        return self.wavelength_A / self.field_A

    def angles(self, backend: Backend) -> Array:
        """Scattering angles w = λ (k_x + i k_y) [rad], shape (y, x), complex64."""
        k = self.wavelength_A * frequencies(self.size, self.field_A)
        return backend.asarray((k[None, :] + 1j * k[:, None]).astype(np.complex64))


@dataclass(frozen=True)
class Phase:
    """The aberration function χ of each wave and its derivatives by angle, float32, shapes (batch, …).

    Attributes:
        chi: χ [rad].
        x: ∂χ/∂α_x.
        y: ∂χ/∂α_y.
        xx: ∂²χ/∂α_x².
        xy: ∂²χ/∂α_x∂α_y.
        yy: ∂²χ/∂α_y².
    """

    chi: Array
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: Array


TERMS = ((1, 0), *ABERRATIONS)
DEGREE = max(n for n, _ in TERMS) + 1


def _expansions() -> NDArray[np.complex128]:
    """w^a w̄^b / (n + 1) of each term as a polynomial: coefficients of α_x^p α_y^q, shape (terms, p, q)."""
    result = np.zeros((len(TERMS), DEGREE + 1, DEGREE + 1), np.complex128)
    for term, (n, m) in enumerate(TERMS):
        roots = [1j] * ((n + 1 + m) // 2) + [-1j] * ((n + 1 - m) // 2)
        result[term, n + 1 - np.arange(n + 2), np.arange(n + 2)] = np.poly(-np.array(roots)) / (n + 1)
    return result


_EXPANSIONS = _expansions()


def aberrations(x: Array, y: Array, views: Sequence[View], wavelength_A: float, backend: Backend) -> Phase:
    """Aberration function of each view on a grid of scattering angles; a polynomial needs two small matrix products.

    Args:
        x: Angles α_x [rad], shape (nx,), float32.
        y: Angles α_y [rad], shape (ny,), float32.
        views: Optics of each wave.
        wavelength_A: Electron wavelength [Å].
        backend: Backend of the angles and of the result, whose shapes are (batch, nx, ny).
    """
    values = np.array([[coefficient(view, n, m) for n, m in TERMS] for view in views])
    chi = 2 * np.pi / wavelength_A * np.einsum("bt,tpq->bpq", values.conj(), _EXPANSIONS).real
    power = np.arange(DEGREE + 1)
    by_x, by_y = np.diag(power[1:], -1).T, np.diag(power[1:], -1)  # of polynomials: derivatives
    x_chi, chi_y = by_x @ chi, chi @ by_y
    all_six = np.stack([chi, x_chi, chi_y, by_x @ x_chi, x_chi @ by_y, chi_y @ by_y]).astype(np.float32)
    powers = backend.asarray(power.astype(np.float32))
    along_x = backend.xp.matmul(x[:, None] ** powers, backend.asarray(all_six))
    return Phase(*backend.xp.matmul(along_x, y ** powers[:, None]))


def flown_back(waves: Array, heights_A: Sequence[float], lens: Lens, backend: Backend) -> Array:
    """Propagate waves back through vacuum by the heights h [Å], one per wave: exp(+iπ h α² / λ) in frequency.

    Shapes are (batch, y, x), complex64; `waves` are not changed.
    """
    phase = backend.asarray((np.pi / lens.wavelength_A * np.array(heights_A)[:, None, None]).astype(np.float32))
    return backend.ifft2(backend.fft2(1 * waves) * backend.xp.exp(1j * phase * abs(lens.angles(backend)) ** 2))


def reach(views: Sequence[View], lens: Lens) -> int:
    """Largest frequency index that passes an aperture of the views, whose edge ends half a step beyond the radius."""
    widest_rad = 1e-3 * max(view.aperture_mrad for view in views)
    return min(int(widest_rad / lens.step_rad + 0.5), (lens.size - 1) // 2)


def intensity_grid(views: Sequence[View], lens: Lens) -> int:
    """Points along each edge that represent the intensities of all views.

    An intensity has frequencies up to twice those of its wave, 4 · reach + 1 along each edge. The last sixteenth holds
    only beats between opposite edges of the aperture and may alias (tests/physics/test_coherence.py bounds the error).
    """
    return min(lens.size, fast_length(int(3.75 * reach(views, lens)) + 1))
