"""The structure-factor multislice engine: exact projected potentials on any grid.

Each slice's potential is built in reciprocal space, V(k) = Σ_Z f_Z(k) Σ_j exp(−2πi k·r_j). The phase factor is
separable, so the sum over atoms is the matrix product (k_y × atoms)·(atoms × k_x), up to the Nyquist frequency.
Conventions are abTEM's: transmission exp(iσV), then Fresnel propagation exp(−iπλ Δz k²) by the slice thickness, wave
band-limited at two thirds of the Nyquist frequency with the same taper. The exit wave is that of the box's lower face.

The potential is not cut at two thirds, nor the transmission function: docs/decisions/0003-potential-band.md.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from abtem.parametrizations import LobatoParametrization
from numpy.typing import NDArray

from alloyscope.imaging.box import Slab
from alloyscope.instrument import ImagingSection
from alloyscope.microscope.arrays import Array, Backend, frequencies
from alloyscope.units import electron_wavelength_A, interaction_constant_rad_per_VA

CUTOFF, TAPER = 2 / 3, 0.01  # abTEM's defaults, in units of the Nyquist frequency and of 1 / pixel


@cache
def _lobato() -> LobatoParametrization:
    return LobatoParametrization()


def projected_factor_VA2(element: str, k2_per_A2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fourier transform of an atom's projected potential [V Å²].

    Lobato & Van Dyck, Acta Cryst. A 70, 636 (2014): 8π Σ a (1/(b (q² + b²)) + b/(q² + b²)²), q = 2πk, with abTEM's
    scaled parameters.
    """
    a, b = np.asarray(_lobato().scaled_parameters(element, "projected_scattering_factor"), np.float64)[:, :, None, None]
    q2 = (4 * np.pi**2 * k2_per_A2)[None]
    terms: NDArray[np.float64] = a / (b * (q2 + b**2)) + a * b / (q2 + b**2) ** 2
    factor: NDArray[np.float64] = 8 * np.pi * terms.sum(axis=0)
    return factor


def band_limit(size: int, field_A: float) -> NDArray[np.float32]:
    """1 inside two thirds of the Nyquist frequency, 0 outside, shape (size, size) in FFT order."""
    k = frequencies(size, field_A)
    radius = np.hypot(k[:, None], k[None, :])
    cutoff, taper = CUTOFF * size / (2 * field_A), TAPER * size / field_A
    edge = 0.5 * (1 + np.cos(np.pi * np.clip((radius - cutoff + taper) / taper, 0, 1)))
    return np.where(radius > cutoff, 0, edge).astype(np.float32)


class Multislice:
    """Exit waves on one grid: the tables are made once, the waves are many."""

    def __init__(self, imaging: ImagingSection, backend: Backend) -> None:
        self.size = imaging.grid
        self.field_A = imaging.field_A
        self.n_slices = imaging.n_slices
        self.voltage_kV = imaging.voltage_kV
        self.backend = backend
        self._reach = (self.size - 1) // 2  # largest index below the Nyquist frequency
        self._factors: dict[str, Array] = {}

    def exit_waves(self, slabs: Sequence[Slab], incident: Array | None = None) -> Array:
        """Exit waves of plane waves, or of the given incident waves, through different slabs.

        Returns:
            Waves on the backend, shape (batch, y, x), complex64; |ψ|² of an incident plane wave is 1.
        """
        waves = self.backend.ones((len(slabs), self.size, self.size), "complex64") if incident is None else 1 * incident
        slices = [slab.slices(self.n_slices) for slab in slabs]
        occupied = sorted(set(np.concatenate(slices).tolist()) | ({0} if incident is not None else set()))
        kernels: dict[int, Array] = {}
        # vacuum between atoms is one longer propagation; before the first atom it changes no plane wave
        for here, following in pairwise([*occupied, self.n_slices]):
            waves *= self._transmission(slabs, [which == here for which in slices])
            steps = following - here
            if steps not in kernels:
                kernels[steps] = self._propagator(slabs, steps)
            spectrum = self.backend.fft2(waves)
            spectrum *= kernels[steps]
            waves = self.backend.ifft2(spectrum)
        return waves

    def _transmission(self, slabs: Sequence[Slab], members: Sequence[NDArray[np.bool_]]) -> Array:
        """exp(iσV) of one slice, shape (batch, y, x)."""
        xp, reach = self.backend.xp, self._reach
        half = self.backend.zeros((len(slabs), self.size, self.size // 2 + 1), "complex64")
        for element in sorted({element for slab in slabs for element in slab.elements}):
            rows, columns = self._phase_factors(slabs, members, element)
            if rows.shape[-1] == 0:
                continue
            block = xp.matmul(rows, columns) * self._factor(element)
            half[:, : reach + 1, : reach + 1] += block[:, : reach + 1]
            half[:, self.size - reach :, : reach + 1] += block[:, reach + 1 :]
        phase = self.backend.irfft2(half, self.size)
        result = self.backend.zeros(tuple(phase.shape), "complex64")
        result.real[...] = xp.cos(phase)
        result.imag[...] = xp.sin(phase)
        return result

    def _phase_factors(
        self, slabs: Sequence[Slab], members: Sequence[NDArray[np.bool_]], element: str
    ) -> tuple[Array, Array]:
        """exp(−2πi k_y y) and exp(−2πi k_x x) of a species' atoms: (batch, k_y, atom) and (batch, atom, k_x).

        Slabs with fewer atoms are filled up with atoms of weight 0.
        """
        chosen = [
            slab.positions_A[member & (np.array(slab.elements) == element), :2] for slab, member in zip(slabs, members)
        ]
        most = max(len(positions) for positions in chosen)
        turns = np.zeros((len(slabs), most, 2))
        weight = np.zeros((len(slabs), most))
        for row, positions in enumerate(chosen):
            turns[row, : len(positions)] = positions / self.field_A
            weight[row, : len(positions)] = 1
        index = np.concatenate([np.arange(self._reach + 1), np.arange(-self._reach, 0)])
        rows = _unit_circle(index[None, :, None] * turns[:, None, :, 1]) * weight[:, None, :]
        columns = _unit_circle(turns[:, :, 0, None] * np.arange(self._reach + 1))
        return self.backend.asarray(rows.astype(np.complex64)), self.backend.asarray(columns)

    def _factor(self, element: str) -> Array:
        """σ f_Z(k) / pixel area below the Nyquist frequency, in the block's order: σV [rad] after `irfft2`."""
        if element not in self._factors:
            index = np.concatenate([np.arange(self._reach + 1), np.arange(-self._reach, 0)]) / self.field_A
            k2 = index[:, None] ** 2 + (np.arange(self._reach + 1) / self.field_A)[None, :] ** 2
            factor = projected_factor_VA2(element, k2) * (k2 < (self.size / (2 * self.field_A)) ** 2)
            scale = interaction_constant_rad_per_VA(self.voltage_kV) * (self.size / self.field_A) ** 2
            self._factors[element] = self.backend.asarray((factor * scale).astype(np.float32))
        return self._factors[element]

    @cached_property
    def _band_limit(self) -> Array:
        return self.backend.asarray(band_limit(self.size, self.field_A))

    def _propagator(self, slabs: Sequence[Slab], steps: int) -> Array:
        """exp(−iπλ Δz k²) over `steps` slices of each slab, band-limited as often, shape (batch, y, x)."""
        lengths_A = np.array([slab.height_A / self.n_slices * steps for slab in slabs])
        k2 = frequencies(self.size, self.field_A) ** 2
        edge = _unit_circle(0.5 * electron_wavelength_A(self.voltage_kV) * lengths_A[:, None] * k2)
        return self.backend.asarray(edge[:, :, None] * edge[:, None, :]) * self._band_limit**steps


def _unit_circle(turns: NDArray[np.float64]) -> NDArray[np.complex64]:
    """exp(−2πi · turns), the whole turns taken off in double precision first."""
    angle = (-2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    result = np.empty(angle.shape, np.complex64)
    result.real, result.imag = np.cos(angle), np.sin(angle)
    return result
