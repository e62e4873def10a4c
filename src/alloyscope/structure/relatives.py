"""Groups of related structures, which must share a split: copies of a structure, and frames of one trajectory.

Structures are related when their atoms are the same and their fingerprints nearly so (docs/decisions/0018).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from alloyscope.structure.fingerprint import DISTANCES, PROJECTIONS

# Root mean square differences of fingerprints (docs/decisions/0018). Copies whose positions are rounded to 1 mÅ differ
# by less than EQUAL_A in their mean distances; the other limits are those of the projections.
EQUAL_A = 1e-3
RELATED = 0.25  # structures that are nearer are related
TWINS = 0.15  # the gate refuses structures of two splits that are nearer; unrelated ones are not (0018-relatives.md)
APART = 1e3  # between structures of other composition; far above the distances of all fingerprints
BLOCK = 256  # structures of which all pairs are compared

Points = NDArray[np.float64]


def spaces(compositions: NDArray[np.int64], fingerprints: NDArray[np.floating], limit: float) -> tuple[Points, Points]:
    """Points in two spaces; those of related structures are nearer than 1 in one of them.

    Args:
        compositions: Number of atoms of each species, shape (n, 2).
        fingerprints: Values of `FINGERPRINT`, shape (n, numbers).
        limit: Limit of the projections, `RELATED` or `TWINS`.
    """
    distances, projected = np.split(fingerprints.astype(np.float64), [len(DISTANCES)], axis=1)
    far = APART * compositions
    return (
        np.hstack([far, distances / (EQUAL_A * np.sqrt(len(DISTANCES)))]),
        np.hstack([far, projected / (limit * np.sqrt(len(PROJECTIONS)))]),
    )


def groups(
    compositions: NDArray[np.int64], fingerprints: NDArray[np.floating], names: NDArray[np.object_]
) -> NDArray[np.int64]:
    """The group of each structure: the place of its first member, shape (n,).

    A structure joins the group of the first one of the same name. If it is the first of its name, or has none, it joins
    the group of the most similar one before it, if that is related. So no structure changes the groups of earlier ones.

    Args:
        compositions: Number of atoms of each species, shape (n, 2).
        fingerprints: Values of `FINGERPRINT`, shape (n, numbers).
        names: Name of the group that the user gave, or None, shape (n,).
    """
    places = np.arange(len(names))
    joined = places.copy()
    for points in reversed(spaces(compositions, fingerprints, RELATED)):  # equal structures are the better answer
        nearest = nearest_before(points)
        joined = np.where(nearest >= 0, nearest, joined)
    named = np.flatnonzero([name is not None for name in names])
    if len(named):
        _, first, same = np.unique(names[named].astype(str), return_index=True, return_inverse=True)
        joined[named] = np.where(first[same] == np.arange(len(named)), joined[named], named[first[same]])
    while (further := joined[joined]).tolist() != joined.tolist():
        joined = further
    return joined


def nearest_before(points: Points) -> NDArray[np.int64]:
    """Place of the nearest earlier point within the distance 1 of each point, or −1, shape (n,)."""
    nearest, best = np.full(len(points), -1), np.ones(len(points))

    def compare(start: int, stop: int) -> None:
        if stop - start <= BLOCK:
            distances = cdist(points[start:stop], points[start:stop])
            distances[np.triu_indices(stop - start)] = np.inf
            found, at = distances.min(axis=1, initial=np.inf), distances.argmin(axis=1) + start
            later = slice(start, stop)
        else:
            middle = (start + stop) // 2
            compare(start, middle)
            compare(middle, stop)
            found, at = cKDTree(points[start:middle]).query(points[middle:stop], distance_upper_bound=1.0)
            at, later = at + start, slice(middle, stop)
        nearer = found < best[later]
        best[later][nearer] = found[nearer]
        nearest[later][nearer] = at[nearer]

    if len(points):
        compare(0, len(points))
    return nearest


def has_twin_elsewhere(points: Points, parts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a point of another part lies within the distance 1 of each point, shape (n,).

    Args:
        points: Points, shape (n, dimensions).
        parts: Number of the part of each point, shape (n,).
    """
    found = np.zeros(len(points), dtype=bool)
    for part in np.unique(parts).tolist():
        others = np.flatnonzero(parts != part)
        distances, _ = cKDTree(points[parts == part]).query(points[others], distance_upper_bound=1.0)
        found[others] |= np.isfinite(distances)
    return found
