"""Objective lens: aberrations, aperture and partial coherence of exit waves, with abTEM's names and signs.

Each wave of a batch (batch, y, x) has its own optics. With w = α e^{iφ} (scattering angle and azimuth) every aberration
is a monomial, χ = (2π/λ) Σ Re(c̄ w^a w̄^b) / (n + 1) with c = C_nm e^{imφ_nm},
a = (n + 1 + m) / 2, b = (n + 1 − m) / 2 (Krivanek's notation; Uhlemann & Haider 1998 write the same in complex form).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from alloyscope.contracts import ABERRATIONS, View, require
from alloyscope.microscope.arrays import Array, Backend, frequencies
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

    def angles(self, backend: Backend) -> Array:
        """Scattering angles w = λ (k_x + i k_y) [rad], shape (y, x), complex64."""
        k = self.wavelength_A * frequencies(self.size, self.field_A)
        return backend.asarray((k[None, :] + 1j * k[:, None]).astype(np.complex64))


def _column(values: Sequence[complex] | Sequence[float], dtype: str, backend: Backend) -> Array:
    """One value per wave, shape (batch, 1, 1)."""
    column: NDArray[np.generic] = np.array(values, dtype)[:, None, None]
    return backend.asarray(column)


def aberrations(w: Array, views: Sequence[View], wavelength_A: float, backend: Backend) -> tuple[Array, Array]:
    """Aberration function χ and its gradient.

    Args:
        w: Complex scattering angles [rad], shape (y, x).
        views: Optics of each wave.
        wavelength_A: Electron wavelength [Å].
        backend: Backend of `w`.

    Returns:
        χ [rad], shape (batch, y, x), and ∂χ/∂α_x + i ∂χ/∂α_y, complex, same shape.
    """
    conj = backend.xp.conj
    chi = backend.zeros((len(views), *w.shape), "float32")
    gradient = backend.zeros((len(views), *w.shape), "complex64")
    powers = [backend.ones(tuple(w.shape), "complex64")]  # powers of w, as repeated products
    for n, m in ((1, 0), *ABERRATIONS):
        values = [coefficient(view, n, m) * 2 * np.pi / wavelength_A for view in views]
        if not any(values):
            continue
        c = _column(values, "complex64", backend)
        a, b = (n + 1 + m) // 2, (n + 1 - m) // 2
        while len(powers) <= a:
            powers.append(powers[-1] * w)
        # ∂χ/∂α_x + i ∂χ/∂α_y = 2 ∂χ/∂w̄
        outer = c * (a / (n + 1)) * conj(powers[a - 1])
        if b:
            inner = conj(c) * (b / (n + 1)) * powers[a] * conj(powers[b - 1])
            chi += (inner * conj(w)).real / b
            gradient += outer * powers[b] + inner
        else:
            chi += (conj(c) * powers[a]).real / (n + 1)
            gradient += outer
    return chi, gradient


def aperture(w: Array, cutoffs_rad: Array, step_rad: float, backend: Backend) -> Array:
    """Round objective aperture, whose edge is softened over one grid step, as in abTEM."""
    return backend.xp.clip((cutoffs_rad - abs(w)) / step_rad + 0.5, 0, 1)


def temporal_envelope(w: Array, focal_spreads_A: Array, wavelength_A: float, backend: Backend) -> Array:
    """exp(−(π Δ α² / 2λ)²), where Δ = √2 σ is the 1/e width of the focal distribution [Å]."""
    return backend.xp.exp(-((np.pi / (2 * wavelength_A) * focal_spreads_A * abs(w) ** 2) ** 2))


def spatial_envelope(gradient: Array, angular_spreads_rad: Array, backend: Backend) -> Array:
    """exp(−(δ/2)² |∇χ|²), where δ = √2 σ is the 1/e width of the illumination angles [rad]."""
    return backend.xp.exp(-((angular_spreads_rad / 2 * abs(gradient)) ** 2))


def transfer_function(views: Sequence[View], lens: Lens, backend: Backend, temporal: bool = True) -> Array:
    """exp(−iχ) times aperture and envelopes, shape (batch, y, x), complex64."""
    xp = backend.xp
    w = lens.angles(backend)
    chi, gradient = aberrations(w, views, lens.wavelength_A, backend)
    amplitude = spatial_envelope(
        gradient, _column([1e-3 * v.angular_spread_mrad for v in views], "float32", backend), backend
    )
    cutoffs = _column([1e-3 * v.aperture_mrad for v in views], "float32", backend)
    amplitude = amplitude * aperture(w, cutoffs, lens.wavelength_A / lens.field_A, backend)
    if temporal:
        spreads = _column([v.focal_spread_A for v in views], "float32", backend)
        amplitude = amplitude * temporal_envelope(w, spreads, lens.wavelength_A, backend)
    result = backend.zeros(tuple(chi.shape), "complex64")
    result.real[...] = amplitude * xp.cos(chi)
    result.imag[...] = -amplitude * xp.sin(chi)
    return result


def flown_back(waves: Array, heights_A: Sequence[float], lens: Lens, backend: Backend) -> Array:
    """Propagate waves back through vacuum by the heights h [Å], one per wave: exp(+iπ h α² / λ) in frequency.

    Shapes are (batch, y, x), complex64; `waves` are not changed.
    """
    phase = _column([np.pi / lens.wavelength_A * height for height in heights_A], "float32", backend)
    return backend.ifft2(backend.fft2(1 * waves) * backend.xp.exp(1j * phase * abs(lens.angles(backend)) ** 2))


def reach(views: Sequence[View], lens: Lens) -> int:
    """Largest frequency index that passes an aperture of the views, whose edge ends half a step beyond the radius."""
    widest_rad = 1e-3 * max(view.aperture_mrad for view in views)
    return min(int(widest_rad / lens.wavelength_A * lens.field_A + 0.5), (lens.size - 1) // 2)


def intensity_grid(views: Sequence[View], lens: Lens) -> int:
    """Points along each edge that represent the intensities of all views, whose frequencies are twice the waves'."""
    return min(lens.size, int(next_fast_len(4 * reach(views, lens) + 1)))


def image_intensity(
    waves: Array, views: Sequence[View], lens: Lens, backend: Backend, size: int | None = None
) -> Array:
    """Image intensity after the lens, in units of the incident beam.

    With `n_foci` = 1 the focal spread is an envelope on the wave. With a larger number the result is the mean intensity
    over as many Gauss–Hermite foci, which is valid for strong objects, too.

    Args:
        waves: Exit waves, shape (batch, y, x), complex64; not changed.
        views: Optics of each wave; all have the same n_foci.
        lens: Grid and voltage.
        backend: Backend of `waves`.
        size: Points along each edge of the result (default: `intensity_grid` of the views); fewer points alias.

    Returns:
        Intensity, shape (batch, size, size), float32.

    Raises:
        ContractError: the numbers of views and waves differ, or n_foci differs within the batch.
    """
    require(len(views) == waves.shape[0], f"needs one view per wave; got {len(views)} for {waves.shape[0]} waves")
    n_foci = {view.n_foci for view in views}
    require(len(n_foci) == 1, f"the views of a batch must share n_foci; got {sorted(n_foci)}")
    size = size or intensity_grid(views, lens)
    inside = reach(views, lens)
    index = backend.asarray(np.concatenate([np.arange(inside + 1), np.arange(-inside, 0)]))
    passed = replace(lens, size=2 * inside + 1)  # only the frequencies that the apertures pass
    spectrum = backend.fft2(1 * waves)[:, index[:, None], index[None, :]] * (size / lens.size) ** 2

    def intensity(transfer: Array) -> Array:
        full = backend.zeros((len(views), size, size), "complex64")
        full[:, index[:, None], index[None, :]] = spectrum * transfer
        return abs(backend.ifft2(full)) ** 2

    if n_foci == {1}:
        return intensity(transfer_function(views, passed, backend))
    nodes, weights = np.polynomial.hermite.hermgauss(n_foci.pop())
    total = backend.zeros((len(views), size, size), "float32")
    for node, weight in zip(nodes.tolist(), (weights / np.sqrt(np.pi)).tolist()):
        foci = [replace(view, defocus_A=view.defocus_A + node * view.focal_spread_A) for view in views]
        total += weight * intensity(transfer_function(foci, passed, backend, temporal=False))
    return total
