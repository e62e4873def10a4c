"""Projected maps: how many atoms of either species lie in each cell of the field of an image."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Structure
from alloyscope.errors import ContractError
from alloyscope.store.structures import by_particle, read_structures

ROTATION = ["rotation_x", "rotation_y", "rotation_z", "rotation_w"]
SHIFT = ["shift_x_A", "shift_y_A"]


def read_particles(folder: Path) -> dict[int, list[Structure]]:
    """Snapshots of every particle of a campaign, from its folder of structures.

    Raises:
        StoreError: a file is damaged.
    """
    return {
        particle: found
        for path in sorted(folder.glob("chunk-*.extxyz"))
        for particle, found in by_particle(read_structures(path)).items()
    }


def projected_maps(
    table: pd.DataFrame,
    particles: Mapping[int, Sequence[Structure]],
    species: Sequence[str],
    field_A: float,
    cells: int,
) -> NDArray[np.float16]:
    """Atoms of each species in the cells of the images' fields, placed as imaging/box.slabs places them.

    An atom is shared among the four cells whose centres surround it, bilinearly; at the borders the outermost cells
    take all of it. Several snapshots are averaged.

    Args:
        table: Rows of images.parquet.
        particles: Snapshots by the number of the particle.
        species: The species, in order.
        field_A: Edge of the field of view [Å].
        cells: Cells along an edge of the field.

    Returns:
        Shape (n, species, cells, cells), the cells by row (y) and column (x).

    Raises:
        ContractError: a particle has no structure, or the table lacks rotations or shifts.
    """
    if lacking := [name for name in (*ROTATION, *SHIFT) if name not in table]:
        raise ContractError(f"images.parquet must have {lacking} for the projected maps")
    if missing := sorted(set(table["particle"]) - particles.keys()):
        raise ContractError(f"particle {missing[0]}: has images but no structure; run the stage `structures` again")
    numbers = [table["particle"], table["snapshots"] if "snapshots" in table else [""] * len(table)]
    maps = np.empty((len(table), len(species), cells, cells), np.float16)
    rows = zip(*numbers, table[ROTATION].to_numpy(), table[SHIFT].to_numpy())
    for place, (particle, chosen, quaternion, shift_A) in enumerate(rows):
        snapshots = particles[particle]
        shown = [snapshots[int(number)] for number in chosen.split()] or snapshots
        turned = [Rotation.from_quat(quaternion).apply(snapshot.positions_A)[:, :2] for snapshot in shown]
        every = np.concatenate(turned)
        middle = (every.min(axis=0) + every.max(axis=0)) / 2
        kinds = np.concatenate([np.array([species.index(name) for name in snapshot.elements]) for snapshot in shown])
        maps[place] = _shared((every - middle + shift_A) / field_A + 0.5, kinds, len(species), cells) / len(shown)
    return maps


def _shared(places: NDArray[np.float64], kinds: NDArray[np.int64], species: int, cells: int) -> NDArray[np.float64]:
    """Sum atoms at `places` (x, y) in fractions of the field into cells, shape (species, cells, cells)."""
    scaled = places * cells - 0.5
    low = np.floor(scaled).astype(np.int64)
    part = scaled - low
    total = np.zeros(species * cells**2)
    for right, down in product((0, 1), repeat=2):
        column, row = (low + np.array([right, down])).clip(0, cells - 1).T
        weights = np.abs(1 - right - part[:, 0]) * np.abs(1 - down - part[:, 1])
        total += np.bincount((kinds * cells + row) * cells + column, weights, len(total))
    return total.reshape(species, cells, cells)
