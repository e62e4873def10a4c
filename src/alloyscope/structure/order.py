"""Chemical order of a two-species particle, and the labels that come from protocol, η and the centres.

Descriptors that compare the two species are NaN for a particle of one species.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import Ordering
from alloyscope.structure.shape import Nanoparticle

Floats = NDArray[np.float64]  # (n,), one per particle
Labels = NDArray[np.object_]  # (n,), an Ordering or None each

Aims = Mapping[str, Ordering | None]  # the order that a protocol usually makes
OUTER_SHELL = 0.8  # docs/physics.md §2: the outer region begins at this distance from the centre, in units of R_g


def centre_distance_A(particle: Nanoparticle) -> float:
    """d_com: distance between the centres of the two species [Å]."""
    if particle.first.all() or not particle.first.any():
        return math.nan
    centres = [particle.positions_A[mask].mean(axis=0) for mask in (particle.first, ~particle.first)]
    return float(np.linalg.norm(centres[0] - centres[1]))


def eta(particle: Nanoparticle) -> float:
    """η = 2|x_out − x| + 2|x_in − x| − d_com / (2 R_g) (docs/physics.md §2); η > 0 is core-shell, with any core.

    x is the fraction of first-species atoms in the whole particle, x_out that beyond 0.8 R_g from the centre, and x_in
    that within. A region without atoms is taken to have the composition of the whole.
    """
    x = particle.first.mean()
    outer = particle.distances_A > OUTER_SHELL * particle.radius_of_gyration_A
    excess = sum(abs(particle.first[region].mean() - x) for region in (outer, ~outer) if region.any())
    return float(2 * excess - centre_distance_A(particle) / (2 * particle.radius_of_gyration_A))


def radial_segregation_A(particle: Nanoparticle) -> float:
    """Mean distance of first-species atoms from the centre minus that of the second [Å]; > 0: the first is outside."""
    if particle.first.all() or not particle.first.any():
        return math.nan
    return float(particle.distances_A[particle.first].mean() - particle.distances_A[~particle.first].mean())


def coverage(particle: Nanoparticle) -> float:
    """Share of the surface atoms that are of the first species; 1 when it covers the second completely."""
    return float(particle.first[particle.surface].mean()) if particle.surface.any() else math.nan


@dataclass(frozen=True)
class Bonds:
    """Numbers of nearest-neighbour pairs by species."""

    first_first: int
    second_second: int
    unlike: int

    @classmethod
    def of(cls, particle: Nanoparticle) -> "Bonds":
        return cls.between(particle.first, particle.pairs)

    @classmethod
    def between(cls, first: NDArray[np.bool_], pairs: NDArray[np.intp]) -> "Bonds":
        """Count pairs, shape (pairs, 2), of atoms of which `first`, shape (n,), are of the first species."""
        n_first = first[pairs].sum(axis=1)
        second_second, unlike, first_first = np.bincount(n_first, minlength=3).tolist()
        return cls(first_first, second_second, unlike)

    @property
    def total(self) -> int:
        return self.first_first + self.second_second + self.unlike

    @property
    def mixing(self) -> float:
        """σ = (N_11 + N_22 − N_12) / N: 1 separated, about 0 mixed, negative ordered (Jellinek & Krissinel 1996)."""
        return (self.first_first + self.second_second - self.unlike) / self.total if self.total else math.nan

    @property
    def warren_cowley(self) -> float:
        """α = 1 − P(second | neighbour of first) / x, x the second's share of the bond ends; 0 random, 1 separated.

        It is −1/3 in bulk L1₀. In bulk, shares of bond ends and of atoms are equal. With bond ends, α is the same for
        both species, and it is 0 for a random particle even if one species prefers the surface, where atoms have fewer
        bonds.
        """
        ends_first = 2 * self.first_first + self.unlike
        ends_second = 2 * self.second_second + self.unlike
        if not ends_first or not ends_second:
            return math.nan
        return 1 - self.unlike * 2 * self.total / (ends_first * ends_second)


def warren_cowley(particle: Nanoparticle) -> float:
    """α = 1 − P(second | neighbour of first) / x, x the second's share of the atoms (Cowley, Phys. Rev. 77, 669, 1950).

    It is 0 in a random alloy, 1 for separated species, and −1/3 in bulk L1₀. Neighbours are those within one cutoff for
    all pairs. NaN for a particle of one species, or when no first-species atom has a neighbour.
    """
    bonds = Bonds.between(particle.first, particle.pairs_by_one_cutoff)
    ends, x = 2 * bonds.first_first + bonds.unlike, 1 - particle.first.mean()
    return float(1 - bonds.unlike / (ends * x)) if ends and 0 < x < 1 else math.nan


def label_by_protocol(protocols: Iterable[str], aims: Aims) -> Labels:
    """The order that each protocol aims at; None for an unknown protocol."""
    return np.array([aims.get(protocol) for protocol in protocols], dtype=np.object_)


def label_by_eta(eta: Floats) -> Labels:
    """Core-shell if η > 0, else Janus; None if η is NaN."""
    return _label(eta > 0, eta)


def label_by_centres(d_com_over_Rg: Floats, limit: float) -> Labels:
    """Core-shell if the centres of the species nearly coincide, else Janus; None for a particle of one species."""
    return _label(d_com_over_Rg < limit, d_com_over_Rg)


def _label(core_shell: NDArray[np.bool_], criterion: Floats) -> Labels:
    labels = np.where(core_shell, "core_shell", "janus").astype(np.object_)
    labels[np.isnan(criterion)] = None
    return labels
