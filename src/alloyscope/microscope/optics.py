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


def column(values: Sequence[complex] | Sequence[float], dtype: str, backend: Backend) -> Array:
    """One value per wave, shape (batch, 1)."""
    single: NDArray[np.generic] = np.array(values, dtype)[:, None]
    return backend.asarray(single)


@dataclass(frozen=True)
class Phase:
    """The aberration function χ of each wave and its derivatives by angle, at the same points; shapes (batch, points).

    Attributes:
        chi: χ [rad], float32.
        gradient: ∂χ/∂α_x + i ∂χ/∂α_y, complex64.
        ww: ∂²χ/∂w², complex64.
        ww_conj: ∂²χ/∂w∂w̄, a quarter of the Laplacian, float32.
    """

    chi: Array
    gradient: Array
    ww: Array
    ww_conj: Array


def aberrations(w: Array, views: Sequence[View], wavelength_A: float, backend: Backend) -> Phase:
    """Aberration function of each view.

    Args:
        w: Complex scattering angles [rad], shape (points,), complex64.
        views: Optics of each wave.
        wavelength_A: Electron wavelength [Å].
        backend: Backend of `w`.
    """
    conj = backend.xp.conj
    shape = (len(views), *w.shape)
    chi, ww_conj = (backend.zeros(shape, "float32") for _ in range(2))
    gradient, ww = (backend.zeros(shape, "complex64") for _ in range(2))
    powers = [backend.ones(tuple(w.shape), "complex64")]  # powers of w, as repeated products
    for n, m in ((1, 0), *ABERRATIONS):
        values = [coefficient(view, n, m) * 2 * np.pi / wavelength_A / (n + 1) for view in views]
        if not any(values):
            continue
        c = column(values, "complex64", backend)
        a, b = (n + 1 + m) // 2, (n + 1 - m) // 2
        while len(powers) <= a:
            powers.append(powers[-1] * w)
        # χ = ½ (c̄ w^a w̄^b + c w^b w̄^a); ∂χ/∂α_x + i ∂χ/∂α_y = 2 ∂χ/∂w̄
        chi += (conj(c) * powers[a] * conj(powers[b])).real
        gradient += a * c * (conj(powers[a - 1]) * powers[b])
        if a > 1:
            ww += 0.5 * a * (a - 1) * conj(c) * (powers[a - 2] * conj(powers[b]))
        if b:
            gradient += b * conj(c) * (powers[a] * conj(powers[b - 1]))
            ww_conj += a * b * (conj(c) * (powers[a - 1] * conj(powers[b - 1]))).real
        if b > 1:
            ww += 0.5 * b * (b - 1) * c * (powers[b - 2] * conj(powers[a]))
    return Phase(chi, gradient, ww, ww_conj)


def flown_back(waves: Array, heights_A: Sequence[float], lens: Lens, backend: Backend) -> Array:
    """Propagate waves back through vacuum by the heights h [Å], one per wave: exp(+iπ h α² / λ) in frequency.

    Shapes are (batch, y, x), complex64; `waves` are not changed.
    """
    phase = column([np.pi / lens.wavelength_A * height for height in heights_A], "float32", backend)[..., None]
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
