"""The second-moment approximation to tight binding (SMA), evaluated analytically.

E = Σ_i { Σ_{j≠i} A e^{−p(r/r0−1)} − √( Σ_{j≠i} ξ² e^{−2q(r/r0−1)} ) }, sums over neighbours of both species.
Source: Cleri and Rosato, PRB 48, 22 (1993); cutoff polynomial as in LAMMPS's smatb and in LoDiS.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from alloyscope.parameters import PairParameters, ParameterSet

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decay:
    """amplitude · e^{−rate (r/r0 − 1)}, taken smoothly to zero between `start_A` and `end_A`.

    There it is c3 d³ + c4 d⁴ + c5 d⁵ with d = r − end: value and two derivatives agree at `start_A`.
    """

    amplitude_eV: float
    rate: float
    r0_A: float
    start_A: float
    end_A: float

    def _polynomial(self) -> Array:
        d = self.start_A - self.end_A
        slope = -self.rate / self.r0_A
        value = self.amplitude_eV * np.exp(-self.rate * (self.start_A / self.r0_A - 1))
        matching = np.array([[d**3, d**4, d**5], [3 * d**2, 4 * d**3, 5 * d**4], [6 * d, 12 * d**2, 20 * d**3]])
        return np.linalg.solve(matching, value * np.array([1, slope, slope**2]))

    def __call__(self, r_A: Array) -> tuple[Array, Array]:
        """Value [eV] and derivative [eV/Å] at each distance."""
        c3, c4, c5 = self._polynomial()
        d = r_A - self.end_A
        inner = self.amplitude_eV * np.exp(-self.rate * (r_A / self.r0_A - 1))
        where = [r_A <= self.start_A, r_A < self.end_A]
        value = np.select(where, [inner, d**3 * (c3 + d * (c4 + d * c5))], 0.0)
        slope = np.select(where, [-self.rate / self.r0_A * inner, d**2 * (3 * c3 + d * (4 * c4 + d * 5 * c5))], 0.0)
        return value, slope


def repulsion(pair: PairParameters) -> Decay:
    """A e^{−p(r/r0−1)}."""
    return Decay(pair.A_eV, pair.p, pair.r0_A, pair.cut_start_A, pair.cut_end_A)


def hopping(pair: PairParameters) -> Decay:
    """ξ e^{−q(r/r0−1)}: the amplitude before squaring."""
    return Decay(pair.xi_eV, pair.q, pair.r0_A, pair.cut_start_A, pair.cut_end_A)


def energy_and_forces(elements: tuple[str, ...], positions_A: Array, parameters: ParameterSet) -> tuple[float, Array]:
    """Potential energy [eV] and forces [eV/Å], shape (n, 3), of a free cluster."""
    distances = squareform(pdist(positions_A))
    np.fill_diagonal(distances, np.inf)
    names = np.array(elements)
    pair_energy, pair_slope = np.zeros_like(distances), np.zeros_like(distances)
    density, density_slope = np.zeros_like(distances), np.zeros_like(distances)
    for first in dict.fromkeys(elements):
        for second in dict.fromkeys(elements):
            block = np.ix_(names == first, names == second)
            pair = parameters.pair(first, second)
            pair_energy[block], pair_slope[block] = repulsion(pair)(distances[block])
            amplitude, slope = hopping(pair)(distances[block])
            density[block], density_slope[block] = amplitude**2, 2 * amplitude * slope
    bond = np.sqrt(density.sum(axis=1))
    energy = float(pair_energy.sum() - bond.sum())
    # d(−√ρ_i)/dρ_i; an atom without neighbours has no bond and no force
    embedding_slope = -0.5 / np.where(bond > 0, bond, np.inf)
    radial = 2 * pair_slope + (embedding_slope[:, None] + embedding_slope[None, :]) * density_slope
    separation = positions_A[:, None, :] - positions_A[None, :, :]
    return energy, -np.einsum("ij,ijk->ik", radial / distances, separation)
