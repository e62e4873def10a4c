"""The imaging box: a particle turned, centred and shifted as a view asks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Structure, View
from alloyscope.imaging import gates

MARGIN_A = 2.0  # ASSUME vacuum above and below the outermost nuclei, so that no atom sits on a face


@dataclass(frozen=True)
class Slab:
    """Atoms inside a square box; the beam runs along +z.

    Attributes:
        particle: Number of the particle.
        elements: Chemical symbol of every atom, length n.
        positions_A: x, y, z within the box [Å], shape (n, 3).
        field_A: Edge of the box across the beam [Å].
        height_A: Height of the box along the beam [Å].
    """

    particle: int
    elements: tuple[str, ...]
    positions_A: NDArray[np.float64]
    field_A: float
    height_A: float

    def __post_init__(self) -> None:
        gates.atoms_inside_box(self.positions_A, self.field_A, self.height_A, self.particle)

    def slices(self, n_slices: int) -> NDArray[np.intp]:
        """Slice of every atom, slice 0 first in the beam, shape (n,)."""
        return np.minimum(self.positions_A[:, 2] / self.height_A * n_slices, n_slices - 1).astype(np.intp)


def slabs(snapshots: Sequence[Structure], view: View, field_A: float) -> list[Slab]:
    """One box per snapshot. All share height and shift, so that the particle's own motion stays in the images.

    Raises:
        GateError: an atom lies outside the field of view.
    """
    rotation = Rotation.from_quat(view.rotation)
    turned = [rotation.apply(snapshot.positions_A) for snapshot in snapshots]
    low = np.min([positions.min(axis=0) for positions in turned], axis=0)
    high = np.max([positions.max(axis=0) for positions in turned], axis=0)
    height_A = float(high[2] - low[2]) + 2 * MARGIN_A
    shift_y, shift_x = view.shift_A
    centre = np.array([field_A / 2 + shift_x, field_A / 2 + shift_y, height_A / 2])
    return [
        Slab(view.particle, snapshot.elements, positions - (low + high) / 2 + centre, field_A, height_A)
        for snapshot, positions in zip(snapshots, turned)
    ]
