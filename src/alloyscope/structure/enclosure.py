"""Chemical order by enclosure: which species is seen from outside, in which directions (docs/decisions/0012).

One species encloses the other (core-shell), or both stand at the surface on opposite sides (Janus), or neither holds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alloyscope.structure.shape import Nanoparticle

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

DIRECTIONS = 256  # ASSUME sufficient: one direction is 0.4 % of the sphere, about one surface atom of 800 atoms
# Radius with which an atom hides what lies behind it, in nearest-neighbour distances. The widest gap of a dense
# surface, between four atoms of a (100) facet, is 1/√2 = 0.71 away from their centres.
HIDES = 0.75

# Limits of the label. ASSUME all: each lies where the AgCo particles change least (docs/decisions/0012).
SHELL_SEEN = 0.85  # least share of the directions in which the shell's species is seen
HIDDEN = 0.25  # a species is hidden if the share of directions in which it is seen is below so much of its atoms' share
APART = 0.15  # least Warren–Cowley α of bond ends of species that are apart; 0 is a random alloy
PURE_INSIDE = 0.8  # least share of the core's species inside a particle too small for that α
CUT_OFF = 0.05  # most of the shell's species that the core cuts off from the surface
ONE_SIDE = 0.7  # least sidedness of a Janus particle
DOPANT = 0.04  # a species with a smaller share of the atoms is a dopant: no order is stated

NUMBERS = (  # descriptors from which the label is made
    *("fraction_first", "seen_first", "sidedness", "warren_cowley_bond_ends"),
    *("surface_fraction_first", "surface_fraction_second", "cut_off_first", "cut_off_second"),
)


@cache
def sphere(n: int) -> Floats:
    """Unit vectors spread evenly over the sphere, on a Fibonacci spiral, shape (n, 3)."""
    k = np.arange(n) + 0.5
    z, angle = 1 - 2 * k / n, math.pi * (1 + math.sqrt(5)) * k
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


@dataclass(frozen=True)
class Outside:
    """The species seen from outside, looking at the particle's centre.

    Attributes:
        directions: Unit vectors from the centre, shape (m, 3); those along which no atom lies are left out.
        first: Whether the outermost atom along each is of the first species, shape (m,).
    """

    directions: Floats
    first: Mask

    @classmethod
    def of(cls, particle: Nanoparticle) -> "Outside":
        directions = sphere(DIRECTIONS)
        positions_A = particle.positions_A - particle.positions_A.mean(axis=0)
        along = positions_A @ directions.T  # (atoms, directions)
        reach = (HIDES * particle.diameters_A) ** 2 - (positions_A**2).sum(axis=1)
        square = along**2 + reach[:, None]  # of half the chord of a line through the atom's sphere
        outer = np.where(square > 0, along + np.sqrt(np.maximum(square, 0)), -np.inf)
        outermost = outer.argmax(axis=0)
        met = outer.max(axis=0) > 0
        return cls(directions[met], particle.first[outermost[met]])

    @property
    def seen_first(self) -> float:
        """Share of the directions in which the first species is seen."""
        return float(self.first.mean()) if len(self.first) else math.nan

    @property
    def sidedness(self) -> float:
        """Distance between the mean directions in which the species are seen; NaN if only one is seen.

        It is 1 where a circle divides the sphere of directions, however unequal the parts: the mean over a cap of share
        f is at 1 − f on its axis, that over the rest at −f. It is 0 for a belt, for two equal caps, and in the mean
        for a random surface.
        """
        if self.first.all() or not self.first.any():
            return math.nan
        sides = self.directions[self.first].mean(axis=0) - self.directions[~self.first].mean(axis=0)
        return float(np.linalg.norm(sides))


def cut_off(particle: Nanoparticle, of: Mask) -> float:
    """Share of a species' atoms from which no path through neighbours of that species leads to the surface.

    Args:
        particle: The particle.
        of: The atoms of the species, shape (n,); NaN if there are none.
    """
    if not of.any():
        return math.nan
    i, j = particle.pairs[of[particle.pairs].all(axis=1)].T
    graph = coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(particle.n_atoms, particle.n_atoms))
    _, bodies = connected_components(graph, directed=False)
    return float((~np.isin(bodies[of], bodies[of & particle.surface])).mean())


def label_by_enclosure(numbers: Mapping[str, Floats]) -> NDArray[np.object_]:
    """Core-shell, Janus or other; None for a particle of one species or without descriptors.

    Args:
        numbers: The columns `NUMBERS`, shape (n,) each, one value per particle.

    Returns:
        An `Ordering` or None for each particle, shape (n,).
    """
    first, seen_first = numbers["fraction_first"], numbers["seen_first"]
    share, seen = {"first": first, "second": 1 - first}, {"first": seen_first, "second": 1 - seen_first}
    inside = {name: share[name] * (1 - numbers[f"surface_fraction_{name}"]) for name in share}
    hidden = {name: seen[name] <= HIDDEN * share[name] for name in share}
    apart = numbers["warren_cowley_bond_ends"] >= APART

    def enclosed(core: str, shell: str) -> Mask:
        pure = (inside[core] > 0) & (inside[core] >= PURE_INSIDE * (inside[core] + inside[shell]))
        closed: Mask = hidden[core] & (seen[shell] >= SHELL_SEEN) & (numbers[f"cut_off_{shell}"] <= CUT_OFF)
        return closed & (apart | pure)

    labels = np.full(len(first), "other", dtype=np.object_)
    labels[apart & (numbers["sidedness"] >= ONE_SIDE) & ~hidden["first"] & ~hidden["second"]] = "janus"
    labels[enclosed("first", "second") | enclosed("second", "first")] = "core_shell"
    labels[np.minimum(first, 1 - first) < DOPANT] = "other"
    labels[~((first > 0) & (first < 1)) | np.isnan(seen_first)] = None
    return labels
