"""Checks of a particle: it must be one cluster, with finite energy, and at the right temperature."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.special import ndtri

Positions = NDArray[np.float64]

FEWEST_ATOMS = 13  # an atom and its shell, the same limit as for simulated particles
OVERLAP_A = 1.5  # ASSUME no metal bond is shorter: this is 0.6 of the shortest r0, where the repulsion is strong
FALSE_ALARM = 1e-4  # probability that the temperature of a good run is refused; a refused run is made again
NEIGHBOUR_A = 3.6  # ASSUME between the first and second shell of Ag (2.89, 4.09 Å), and so of Au, Cu and Co


def largest_cluster(positions_A: Positions) -> NDArray[np.bool_]:
    """Mask of the atoms in the largest connected cluster, shape (n,)."""
    pairs = cKDTree(positions_A).query_pairs(NEIGHBOUR_A, output_type="ndarray")
    n_atoms = len(positions_A)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_atoms, n_atoms))
    labels = connected_components(graph, directed=False)[1]
    return np.asarray(labels == np.bincount(labels).argmax())


@dataclass(frozen=True)
class OneCluster:
    """Tests whether one cluster holds at least `fraction` of the atoms."""

    fraction: float

    def __call__(self, positions_A: Positions) -> bool:
        return float(largest_cluster(positions_A).mean()) >= self.fraction


def foreign_fault(
    elements: Sequence[str], positions_A: Positions, species: tuple[str, str], min_cluster_fraction: float
) -> str | None:
    """Why a structure of the user's own cannot be used, or None; positions have shape (n, 3)."""
    if foreign := sorted(set(elements) - set(species)):
        return f"holds {', '.join(foreign)}; particles.species are {', '.join(species)}"
    if len(elements) < FEWEST_ATOMS:
        return f"has {len(elements)} atoms, fewer than {FEWEST_ATOMS}"
    if not np.isfinite(positions_A).all():
        return "positions are not finite"
    closest_A = float(cKDTree(positions_A).query(positions_A, k=2)[0][:, 1].min())
    if closest_A < OVERLAP_A:
        return f"two atoms are {closest_A:.2f} Å apart, closer than {OVERLAP_A:g} Å; positions must be in Å"
    fraction = float(largest_cluster(positions_A).mean())
    if fraction < min_cluster_fraction:
        return f"largest cluster holds {fraction:.0%} of the atoms, below {min_cluster_fraction:.0%}"
    return None


def temperature_error_K(temperature_K: float, n_atoms: int, sampled_ps: float, damp_ps: float) -> float:
    """Standard error of a mean kinetic temperature under Langevin dynamics [K].

    σ_T = T √(2 / (3n − 3)); kinetic energy decorrelates in damp/2, so a run holds sampled/damp independent samples.
    """
    independent = max(1.0, sampled_ps / damp_ps)
    return float(temperature_K * np.sqrt(2 / (3 * n_atoms - 3) / independent))


def temperature_bound_K(temperature_K: float, n_atoms: int, sampled_ps: float, damp_ps: float) -> float:
    """Deviation of the mean temperature that a good run exceeds with the probability `FALSE_ALARM` [K].

    The mean is nearly normal: it is that of (3n − 3) · sampled/damp squares. A normal variable is further than 3.89
    standard errors from its mean, on either side, once in ten thousand times.
    """
    quantile = -float(ndtri(FALSE_ALARM / 2))
    return quantile * temperature_error_K(temperature_K, n_atoms, sampled_ps, damp_ps)


def verdict(
    *,
    snapshots_A: NDArray[np.float64],
    energies_eV: NDArray[np.float64],
    temperature_K: float,
    target_K: float,
    sampled_ps: float,
    damp_ps: float,
    min_cluster_fraction: float,
) -> str | None:
    """Why a finished run cannot be used, or None; snapshots have shape (k, n, 3)."""
    if not (np.isfinite(snapshots_A).all() and np.isfinite(energies_eV).all()):
        return "positions or energy are not finite"
    fraction = min(float(largest_cluster(frame).mean()) for frame in snapshots_A)
    if fraction < min_cluster_fraction:
        return f"largest cluster holds {fraction:.0%} of the atoms, below {min_cluster_fraction:.0%}"
    bound_K = temperature_bound_K(target_K, snapshots_A.shape[1], sampled_ps, damp_ps)
    if abs(temperature_K - target_K) > bound_K:
        return f"mean temperature {temperature_K:.1f} K is not within {bound_K:.1f} K of {target_K:g} K"
    return None
