"""The imaging box of a view: the rotated, centred and shifted particle, and the supporting film below it.

The beam runs along +z: it passes first the particle, then the film.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Film, Structure, View
from alloyscope.imaging import gates

FILM_MARGIN_A = 1.0  # ASSUME this plus MARGIN_A, 3 Å, is about the contact distance of the lowest nucleus and the film
MARGIN_A = 2.0  # ASSUME vacuum above and below the outermost nuclei, so that no atom lies on a face of the box


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
        """Number of every atom's slice, shape (n,); the beam passes slice 0 first."""
        return np.minimum(self.positions_A[:, 2] / self.height_A * n_slices, n_slices - 1).astype(np.intp)


def slabs(snapshots: Sequence[Structure], view: View, field_A: float) -> list[Slab]:
    """One box per snapshot. All have the same height and shift, so that the images keep the particle's own motion.

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


def film_slab(film: Film, view: View, field_A: float) -> Slab:
    """The box of the film below a particle.

    The block is shifted, cut to the film's thickness, repeated, rotated, and cut to the field of view. ASSUME the seam
    at the edges of the periodic field is not visible in amorphous carbon.
    """
    edges = np.array(film.edges_A)
    block = np.mod(film.positions_A + np.array(view.film_offset) * edges, edges)
    block = block[block[:, 2] < view.film_thickness_A]
    # The corners of the field have the distance field/√2 from its centre, at any angle.
    tiles = [range(-count, count) for count in np.ceil(field_A / np.sqrt(2) / edges[:2]).astype(int).tolist()]
    sheet = np.concatenate([block + np.array([i * edges[0], j * edges[1], 0.0]) for i, j in product(*tiles)])
    turned = Rotation.from_euler("z", view.film_angle_rad).apply(sheet)
    placed = turned + np.array([field_A / 2, field_A / 2, FILM_MARGIN_A])
    inside = placed[((placed[:, :2] >= 0) & (placed[:, :2] < field_A)).all(axis=1)]
    height_A = view.film_thickness_A + 2 * FILM_MARGIN_A
    return Slab(view.particle, ("C",) * len(inside), inside, field_A, height_A)
