"""Alignment of snapshots: the motion of a particle as a rigid body is removed, and its thermal motion is left.

Least squares over the atoms: Kabsch, Acta Cryst. A 32, 922 (1976).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Structure

Indices = NDArray[np.intp]


def aligned(snapshots: Sequence[Structure]) -> list[Structure]:
    """Rotate and shift every later snapshot onto the first one, which stays as it is.

    Each rotation is proper, so a particle does not become its mirror image. Atoms keep their order.

    Args:
        snapshots: Snapshots of one particle, one or more. A snapshot may lack atoms that another one has, because atoms
            evaporate; the order of the others must be the same.
    """
    first, *later = snapshots
    return [first, *(onto(first, snapshot) for snapshot in later)]


def onto(target: Structure, moved: Structure) -> Structure:
    """Rotate and shift a snapshot so that its atoms lie as near as possible to the same atoms of another one.

    Where one snapshot lacks atoms, they are found first by the distances of all atoms from the centre, which do not
    depend on the rotation, and then, after this rotation, by their positions.
    """
    if target.elements == moved.elements:
        every = np.arange(len(target.elements))
        return _fitted(target, moved, every, every)
    near = _fitted(target, moved, *common_atoms(target, _radii_A(target), moved, _radii_A(moved)))
    return _fitted(target, near, *common_atoms(target, target.positions_A, near, near.positions_A))


def _fitted(target: Structure, moved: Structure, places: Indices, same: Indices) -> Structure:
    to_A, from_A = target.positions_A[places], moved.positions_A[same]
    rotation, _ = Rotation.align_vectors(to_A - to_A.mean(axis=0), from_A - from_A.mean(axis=0))
    return replace(moved, positions_A=rotation.apply(moved.positions_A - from_A.mean(axis=0)) + to_A.mean(axis=0))


def _radii_A(structure: Structure) -> NDArray[np.float64]:
    centred_A = structure.positions_A - structure.positions_A.mean(axis=0)
    radii_A: NDArray[np.float64] = np.linalg.norm(centred_A, axis=1, keepdims=True)
    return radii_A


def common_atoms(
    one: Structure, known_by: NDArray[np.float64], other: Structure, likewise: NDArray[np.float64]
) -> tuple[Indices, Indices]:
    """Indices of the atoms that two snapshots have in common, in both, shape (common,) each.

    Args:
        one: A snapshot.
        known_by: Values by which its atoms are known, shape (n, values).
        other: Another snapshot of the same particle; of each species, one of the two holds all atoms of the other.
        likewise: The same values of its atoms.
    """
    symbols = np.array(one.elements), np.array(other.elements)
    found: list[tuple[Indices, Indices]] = []
    for element in sorted(set(one.elements) & set(other.elements)):
        first, second = (np.flatnonzero(of == element) for of in symbols)
        if len(first) >= len(second):
            first = first[matched_in_order(known_by[first], likewise[second])]
        else:
            second = second[matched_in_order(likewise[second], known_by[first])]
        found.append((first, second))
    of_one, of_other = zip(*found)
    return np.concatenate(of_one), np.concatenate(of_other)


def matched_in_order(longer: NDArray[np.float64], shorter: NDArray[np.float64]) -> Indices:
    """Indices of the rows of `longer`, in their order, that equal those of `shorter` best by least squares.

    The first rows are matched without a shift, later ones with a shift of one, two and so on. `reached[k][i]` is the
    least cost of the first i rows if the last of them has the shift k.
    """
    count = len(shorter)
    shifted = range(len(longer) - count + 1)
    costs = np.array([((longer[shift : shift + count] - shorter) ** 2).sum(axis=1) for shift in shifted])
    sums = np.pad(np.cumsum(costs, axis=1), ((0, 0), (1, 0)))
    reached = [sums[0]]
    for row in sums[1:]:
        reached.append(row + np.minimum.accumulate(reached[-1] - row))
    shifts, end = np.zeros(count, np.intp), count
    for shift in range(len(sums) - 1, 0, -1):
        start = int(np.argmin((reached[shift - 1] - sums[shift])[: end + 1]))
        shifts[start:end] = shift
        end = start
    return np.arange(count) + shifts
