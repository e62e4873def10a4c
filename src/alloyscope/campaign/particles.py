"""The plan of a particle, which follows from its number: protocol, atoms, split."""

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from alloyscope.config.model import SPLIT_BLOCK, ParticlesSection, SplitsSection
from alloyscope.contracts import Particle, Split
from alloyscope.ids import rng_for


def split_of(particle: int, splits: SplitsSection, seed: int) -> Split:
    """Split of a particle; it depends only on the particle's rank within a shuffled block of SPLIT_BLOCK particles."""
    return splits_of(np.array([particle]), splits, seed)[0]


def splits_of(particles: NDArray[np.int64], splits: SplitsSection, seed: int) -> list[Split]:
    """Splits of many particles, shape (n,); each block is shuffled once."""
    names: tuple[Split, ...] = get_args(Split)
    edges = np.cumsum([getattr(splits, name) for name in names])
    by_rank = np.searchsorted(edges, (np.arange(SPLIT_BLOCK) + 0.5) / SPLIT_BLOCK).clip(max=len(names) - 1)
    blocks, which = np.unique(particles // SPLIT_BLOCK, return_inverse=True)
    ranks = np.array([rng_for("split", seed, block).permutation(SPLIT_BLOCK) for block in blocks.tolist()])
    found = by_rank[ranks[which, particles % SPLIT_BLOCK]]
    return [names[place] for place in found.tolist()]


def planned_particle(number: int, particles: ParticlesSection, seed: int) -> Particle:
    """The planned particle of a number. All protocols draw size and composition from the same distribution."""
    rng = rng_for("particle", seed, number)
    low, high = particles.n_atoms
    n_atoms = int(rng.integers(low, high + 1))
    fraction = float(rng.uniform(*particles.fraction_first))
    n_first = min(max(round(fraction * n_atoms), 1), n_atoms - 1)
    names = sorted(particles.protocols)
    weights = np.cumsum([particles.protocols[name] for name in names])
    protocol = names[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
    return Particle(number, protocol, particles.species, (n_first, n_atoms - n_first))
