"""The second-moment approximation to tight binding (SMA), evaluated analytically.

E = Σ_i { Σ_{j≠i} A e^{−p(r/r0−1)} − √( Σ_{j≠i} ξ² e^{−2q(r/r0−1)} ) }, sums over neighbours of both species.
Source: Cleri and Rosato, PRB 48, 22 (1993); cutoff polynomial as in LAMMPS's smatb and in LoDiS.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from alloyscope.potential.sets import PairParameters, ParameterSet

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decay:
    """The function amplitude · e^{−rate (r/r0 − 1)}, which goes smoothly to zero between `start_A` and `end_A`.

    There it is c3 d³ + c4 d⁴ + c5 d⁵ with d = r − end; value and two derivatives are continuous at `start_A`.
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
    """Repulsion A e^{−p(r/r0−1)}."""
    return Decay(pair.A_eV, pair.p, pair.r0_A, pair.cut_start_A, pair.cut_end_A)


def hopping(pair: PairParameters) -> Decay:
    """Hopping integral Ξ = ξ e^{−q(r/r0−1)}, before squaring."""
    return Decay(pair.xi_eV, pair.q, pair.r0_A, pair.cut_start_A, pair.cut_end_A)


@dataclass(frozen=True)
class Pairs:
    """All ordered pairs (i, j) of atoms within the longest cutoff, with both terms of the energy.

    Attributes:
        i, j: Atom numbers, shape (pairs,).
        distances_A, bonds_A: |r_j − r_i| and r_j − r_i, shapes (pairs,) and (pairs, 3).
        repulsion_eV, repulsion_slope: A e^{…} and its derivative [eV/Å], shape (pairs,).
        density_eV2, density_slope: Ξ² and its derivative [eV²/Å], shape (pairs,).
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    distances_A: Array
    bonds_A: Array
    repulsion_eV: Array
    repulsion_slope: Array
    density_eV2: Array
    density_slope: Array

    @classmethod
    def of(cls, atoms: Atoms, parameters: ParameterSet) -> "Pairs":
        longest_A = max(pair.cut_end_A for pair in parameters.pairs.values())
        i, j, distances_A, bonds_A = neighbor_list("ijdD", atoms, longest_A)
        names = np.array(atoms.get_chemical_symbols())
        terms = np.zeros((4, len(distances_A)))
        for first, second in product(np.unique(names), repeat=2):
            block = (names[i] == first) & (names[j] == second)
            pair = parameters.pair(first, second)
            terms[:2, block] = repulsion(pair)(distances_A[block])
            amplitude, slope = hopping(pair)(distances_A[block])
            terms[2:, block] = amplitude**2, 2 * amplitude * slope
        return cls(i, j, distances_A, bonds_A, *terms)

    def densities_eV2(self, n_atoms: int) -> Array:
        """ρ_i = Σ_j Ξ², shape (n,)."""
        return np.bincount(self.i, self.density_eV2, n_atoms).astype(np.float64)


def energy_and_forces(atoms: Atoms, parameters: ParameterSet) -> tuple[float, Array]:
    """Potential energy [eV] and forces [eV/Å], shape (n, 3), of a cluster or a periodic crystal."""
    pairs = Pairs.of(atoms, parameters)
    bond = np.sqrt(pairs.densities_eV2(len(atoms)))
    # d(−√ρ_i)/dρ_i; it is 0 for an atom without neighbours, which feels no force.
    embedding_slope = -0.5 / np.where(bond > 0, bond, np.inf)
    both_ends = embedding_slope[pairs.i] + embedding_slope[pairs.j]
    radial = (2 * pairs.repulsion_slope + both_ends * pairs.density_slope) / pairs.distances_A
    forces = [np.bincount(pairs.i, radial * pairs.bonds_A[:, axis], len(atoms)) for axis in range(3)]
    return float(pairs.repulsion_eV.sum() - bond.sum()), np.stack(forces, axis=1)
