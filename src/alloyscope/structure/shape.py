"""Size and shape of a particle: radius of gyration, neighbours, largest cluster, surface."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from alloyscope.contracts import Structure, require
from alloyscope.units import NEAREST_NEIGHBOUR_A

# Neighbour cutoff: halfway between the first two shells of close-packed spheres, at 1 and √2 times their distance.
SHELL_GAP = (1 + math.sqrt(2)) / 2
# ASSUME the minimum between two maxima: in AgCo particles at 300 K, the sum of unit bond vectors is near 0.6 for inner
# atoms and near 3 for outer ones (852 particles; docs/decisions/0001). An ideal (111) facet gives √6, (100) 2√2.
SURFACE_ASYMMETRY = 1.75
# Coordination on a (100) facet. An atom with at most as many neighbours is at the surface, even if bond vectors cancel.
SURFACE_COORDINATION = 8


@dataclass(frozen=True)
class Nanoparticle:
    """Atoms of two species, with their nearest neighbours.

    Attributes:
        positions_A: Cartesian positions [Å], shape (n, 3).
        first: Which atoms are of the first species, shape (n,), bool.
        diameters_A: Nearest-neighbour distance in each atom's own crystal [Å], shape (n,).
    """

    positions_A: NDArray[np.float64]
    first: NDArray[np.bool_]
    diameters_A: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.positions_A)
        require(n > 0 and self.positions_A.shape == (n, 3), f"positions must be (n, 3); got {self.positions_A.shape}")
        require(self.first.shape == (n,), f"first must be ({n},); got {self.first.shape}")
        require(self.diameters_A.shape == (n,), f"diameters must be ({n},); got {self.diameters_A.shape}")

    @classmethod
    def of(cls, structure: Structure, species: tuple[str, str]) -> "Nanoparticle":
        """Make it from a snapshot.

        Raises:
            ContractError: the snapshot holds an element that is neither species.
        """
        elements = np.array(structure.elements)
        foreign = sorted(set(structure.elements) - set(species))
        require(not foreign, f"structure must hold {' and '.join(species)} only; got {', '.join(foreign)} as well")
        first = elements == species[0]
        diameters = np.where(first, NEAREST_NEIGHBOUR_A[species[0]], NEAREST_NEIGHBOUR_A[species[1]])
        return cls(structure.positions_A, first, diameters)

    @property
    def n_atoms(self) -> int:
        return len(self.positions_A)

    @cached_property
    def distances_A(self) -> NDArray[np.float64]:
        """Distance of every atom from the particle's centre [Å], shape (n,). All atoms have the same weight."""
        distances: NDArray[np.float64] = np.linalg.norm(self.positions_A - self.positions_A.mean(axis=0), axis=1)
        return distances

    @property
    def radius_of_gyration_A(self) -> float:
        """R_g = √⟨|r − ⟨r⟩|²⟩ over atoms [Å]."""
        return math.sqrt(float(np.mean(self.distances_A**2)))

    @cached_property
    def _close(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Pairs within the reach of the largest species, shape (pairs, 2), and their distances [Å]."""
        tree = cKDTree(self.positions_A)
        pairs: NDArray[np.intp] = tree.query_pairs(SHELL_GAP * float(self.diameters_A.max()), output_type="ndarray")
        return pairs, np.linalg.norm(self.positions_A[pairs[:, 0]] - self.positions_A[pairs[:, 1]], axis=1)

    @cached_property
    def pairs(self) -> NDArray[np.intp]:
        """Pairs of nearest neighbours, each pair once, shape (pairs, 2); each pair of species has its own cutoff."""
        pairs, distances_A = self._close
        near: NDArray[np.bool_] = distances_A < SHELL_GAP * self.diameters_A[pairs].mean(axis=1)
        return pairs[near]

    @property
    def pairs_by_one_cutoff(self) -> NDArray[np.intp]:
        """Pairs of nearest neighbours by one cutoff for all, each pair once, shape (pairs, 2).

        The cutoff lies halfway between the first shell of the larger species and the second shell of the smaller one,
        as in common-neighbour analysis (`neighbours.shell_cutoff_A`).
        """
        pairs, distances_A = self._close
        cutoff_A = float(self.diameters_A.max() + math.sqrt(2) * self.diameters_A.min()) / 2
        return pairs[distances_A < cutoff_A]

    @cached_property
    def surface(self) -> NDArray[np.bool_]:
        """Mask of the atoms at the surface, shape (n,): they have few neighbours, or neighbours on one side only.

        An atom with at most SURFACE_COORDINATION neighbours is at the surface, and so is one whose unit bond vectors
        have a sum longer than SURFACE_ASYMMETRY. Coordination alone is not sufficient: at 300 K, many inner atoms at
        the interface of two species have 10 or 11 neighbours.
        """
        i, j = self.pairs.T
        bonds = self.positions_A[j] - self.positions_A[i]
        bonds /= np.linalg.norm(bonds, axis=1, keepdims=True)
        n = self.n_atoms
        sums = [np.bincount(i, bonds[:, k], n) - np.bincount(j, bonds[:, k], n) for k in range(3)]
        coordination = np.bincount(self.pairs.ravel(), minlength=n)
        asymmetry = np.linalg.norm(sums, axis=0)
        at_surface: NDArray[np.bool_] = (coordination <= SURFACE_COORDINATION) | (asymmetry > SURFACE_ASYMMETRY)
        return at_surface


def largest_cluster_fraction(particle: Nanoparticle) -> float:
    """Share of the atoms in the largest set of atoms that are connected through nearest neighbours."""
    n = particle.n_atoms
    i, j = particle.pairs.T
    graph = coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    return float(np.bincount(labels).max()) / n


def surface_fraction(particle: Nanoparticle, of: NDArray[np.bool_]) -> float:
    """Share of the atoms of one species, given as a mask, that lie at the surface; NaN if there are none."""
    return float(particle.surface[of].mean()) if of.any() else math.nan
