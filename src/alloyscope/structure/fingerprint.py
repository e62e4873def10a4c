"""Numbers by which related structures are found: copies, and frames of one trajectory (docs/decisions/0018).

All of them stay the same when a structure is rotated, shifted or mirrored.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from alloyscope.contracts import Structure
from alloyscope.ids import rng_for

QUARTERS = 4
DISTANCES = tuple(f"distances_{number:02d}" for number in range(3 * QUARTERS))
PROJECTIONS = tuple(f"projection_{number:02d}" for number in range(24))
FINGERPRINT = (*DISTANCES, *PROJECTIONS)


def fingerprint(structure: Structure, species: tuple[str, str]) -> dict[str, float]:
    """The numbers of a structure, by the names of `FINGERPRINT`."""
    elements = np.array(structure.elements)
    centred_A = structure.positions_A - structure.positions_A.mean(axis=0)
    parts = [centred_A[elements == element] for element in species]
    return dict(zip(FINGERPRINT, (*distances_A(parts), *projections(parts)), strict=True))


def distances_A(parts: Sequence[NDArray[np.float64]]) -> list[float]:
    """Mean of each quarter of the sorted distances between atoms, for each pair of species [Å]; 0 for an empty quarter.

    They do not depend on the order of the atoms. Unlike quantiles, they also differ between two random alloys on one
    lattice, on which there are few different distances.

    Args:
        parts: Positions of the atoms of each species [Å], shape (n, 3) each.
    """
    found: list[float] = []
    for one, other in combinations_with_replacement(range(len(parts)), 2):
        between = pdist(parts[one]) if one == other else cdist(parts[one], parts[other]).ravel()
        quarters = np.array_split(np.sort(between), QUARTERS)
        found += [float(quarter.mean()) if len(quarter) else 0.0 for quarter in quarters]
    return found


def projections(parts: Sequence[NDArray[np.float64]]) -> list[float]:
    """Scalar products of random sums of the positions: (Σ s_i r_i) · (Σ t_i r_i) / Σ r_i², with signs s_i, t_i = ±1.

    Thermal displacements u change them by about u/R_g, because most of them cancel in the sums. For structures that
    have nothing in common they are independent numbers of variance ⅓. They depend on the order of the atoms of each
    species, which all frames of a trajectory share.

    Args:
        parts: Positions of the atoms of each species, from the centre of all [Å], shape (n, 3) each.
    """
    sums = np.zeros((2, len(PROJECTIONS), 3))
    for number, positions_A in enumerate(parts):
        signs = rng_for("fingerprint", number).choice([-1.0, 1.0], (len(positions_A), 2 * len(PROJECTIONS)))
        sums += (signs.T @ positions_A).reshape(sums.shape)
    extent = sum(float((positions_A**2).sum()) for positions_A in parts)
    found: list[float] = ((sums[0] * sums[1]).sum(axis=1) / extent).tolist()
    return found
