"""Start structures: a gas in a sphere, and two solid droplets that are later moved into contact."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

Positions = NDArray[np.float64]
Types = NDArray[np.int64]

CLOSEST_A = 2.0  # ASSUME smallest start distance of gas atoms: 0.8 of the shortest r0, a few eV of repulsion
GAP_A = 12.0  # more than twice the longest cutoff (5.0 Å), so that the droplets do not interact


def sphere_radius_A(n_atoms: int, volume_per_atom_A3: float) -> float:
    return float((3 * n_atoms * volume_per_atom_A3 / (4 * np.pi)) ** (1 / 3))


def gas(n_atoms: int, radius_A: float, rng: np.random.Generator) -> Positions:
    """Random positions in a sphere with distances above CLOSEST_A, shape (n, 3)."""
    positions = np.empty((n_atoms, 3))
    placed = 0
    while placed < n_atoms:
        point = rng.uniform(-radius_A, radius_A, 3)
        if np.linalg.norm(point) > radius_A:
            continue
        if placed == 0 or np.min(np.linalg.norm(positions[:placed] - point, axis=1)) > CLOSEST_A:
            positions[placed] = point
            placed += 1
    return positions


def solid_ball(n_atoms: int, nearest_neighbour_A: float, rng: np.random.Generator) -> Positions:
    """The n atoms nearest to the origin of a randomly shifted and rotated fcc lattice, shape (n, 3), centred."""
    reach = int(np.ceil((n_atoms / 4) ** (1 / 3))) + 2
    cells = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    lattice = (cells + basis).reshape(-1, 3) + rng.uniform(0, 1, 3)
    nearest = lattice[np.argsort(np.linalg.norm(lattice, axis=1), kind="stable")[:n_atoms]]
    turn = Rotation.from_quat(rng.standard_normal(4))
    positions = turn.apply(np.sqrt(2) * nearest_neighbour_A * nearest)
    return np.asarray(positions - positions.mean(axis=0))


def two_droplets(counts: tuple[int, int], nearest_A: tuple[float, float], rng: np.random.Generator) -> Positions:
    """A solid ball of each species, GAP_A apart along z, shape (n, 3); atoms of the first species come first."""
    first, second = (solid_ball(count, nearest, rng) for count, nearest in zip(counts, nearest_A, strict=True))
    if not (len(first) and len(second)):
        return np.vstack([first, second])
    lift = first[:, 2].max() - second[:, 2].min() + GAP_A
    positions = np.vstack([first, second + np.array([0.0, 0.0, lift])])
    return np.asarray(positions - positions.mean(axis=0))


@dataclass(frozen=True)
class Contact:
    """Moves the second droplet along the line of centres until the closest atoms are `distance_A` apart."""

    distance_A: float

    def __call__(self, positions: Positions, types: Types) -> Positions:
        first, second = positions[types == 0], positions[types == 1]
        if not (len(first) and len(second)):
            return positions
        axis = first.mean(axis=0) - second.mean(axis=0)
        axis /= np.linalg.norm(axis)
        tree = cKDTree(first)

        def excess(shift_A: float) -> float:
            return float(tree.query(second + shift_A * axis)[0].min()) - self.distance_A

        # Find the first shift, from far away, at which the droplets touch.
        shifts = np.arange(0.0, np.ptp(positions @ axis), 0.25)
        touching = next((i for i, shift in enumerate(shifts) if excess(shift) <= 0), None)
        if not touching:  # the droplets are in contact already
            return positions
        moved = positions.copy()
        moved[types == 1] += brentq(excess, shifts[touching - 1], shifts[touching]) * axis
        return np.asarray(moved - moved.mean(axis=0))
