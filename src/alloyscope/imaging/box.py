"""The imaging box of a view: the rotated, centred and shifted particle, and the supporting film below it.

The beam runs along +z: it passes first the particle, then the film.

An engine lets the atoms of a slice scatter at the slice's upper face, on average half a slice above their places, which
acts as a defocus of half a slice. The boxes therefore hold all atoms half a slice lower, which halves the error of the
slices (docs/decisions/0015-slices.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Film, Structure, View
from alloyscope.imaging import gates
from alloyscope.microscope.settings import ImagingSection

FILM_MARGIN_A = 1.0  # ASSUME this plus MARGIN_A, 3 Å, is about the contact distance of the lowest nucleus and the film
MARGIN_A = 2.0  # ASSUME vacuum above and below the outermost nuclei, so that no atom lies on a face of the box


@dataclass(frozen=True)
class Slab:
    """Atoms inside a square box that is cut into slices; the beam runs along +z.

    Attributes:
        particle: Number of the particle.
        elements: Chemical symbol of every atom, length n.
        positions_A: x, y, z within the box [Å], shape (n, 3).
        field_A: Edge of the box across the beam [Å].
        height_A: Height of the box along the beam [Å].
        n_slices: Number of slices, which are equally thick.
    """

    particle: int
    elements: tuple[str, ...]
    positions_A: NDArray[np.float64]
    field_A: float
    height_A: float
    n_slices: int

    def __post_init__(self) -> None:
        gates.atoms_inside_box(self.positions_A, self.field_A, self.height_A, self.particle)

    @property
    def slice_A(self) -> float:
        """Thickness of a slice."""
        return self.height_A / self.n_slices

    @property
    def extent_A(self) -> float:
        """Largest extent of the atoms across the beam."""
        return float(np.ptp(self.positions_A[:, :2], axis=0).max()) if len(self.positions_A) else 0.0

    def slices(self) -> NDArray[np.intp]:
        """Number of every atom's slice, shape (n,); the beam passes slice 0 first."""
        return np.minimum(self.positions_A[:, 2] / self.slice_A, self.n_slices - 1).astype(np.intp)


def sliced(height_A: float, imaging: ImagingSection) -> tuple[float, int]:
    """Height and slices of a box that is at least so high: whole slices of `slice_A`, or `n_slices` of equal height."""
    if imaging.n_slices is not None:
        return height_A, imaging.n_slices
    n_slices = max(1, ceil(height_A / imaging.slice_A - 1e-9))
    return n_slices * imaging.slice_A, n_slices


def slabs(snapshots: Sequence[Structure], view: View, imaging: ImagingSection) -> list[Slab]:
    """One box per snapshot. All have the same height and shift, so that the images keep the particle's own motion.

    The lower face, from which defocus is measured, lies MARGIN_A below the lowest nucleus, whose place in the box is
    half a slice lower. What whole slices add to the height is vacuum above the particle.

    Raises:
        GateError: an atom lies outside the field of view.
    """
    rotation = Rotation.from_quat(view.rotation)
    turned = [rotation.apply(snapshot.positions_A) for snapshot in snapshots]
    low = np.min([positions.min(axis=0) for positions in turned], axis=0)
    high = np.max([positions.max(axis=0) for positions in turned], axis=0)
    height_A, n_slices = sliced(float(high[2] - low[2]) + 2 * MARGIN_A, imaging)
    shift_y, shift_x = view.shift_A
    across = np.array([imaging.field_A / 2 + shift_x, imaging.field_A / 2 + shift_y]) - (low + high)[:2] / 2
    depth = height_A - MARGIN_A - high[2] + _half_slice_A(height_A, n_slices, MARGIN_A)
    moved = [positions + np.array([*across, depth]) for positions in turned]
    return [
        Slab(view.particle, snapshot.elements, positions, imaging.field_A, height_A, n_slices)
        for snapshot, positions in zip(snapshots, moved)
    ]


def _half_slice_A(height_A: float, n_slices: int, margin_A: float) -> float:
    """How much lower the atoms are placed; slices thicker than twice the margin are not made up for completely."""
    return min(height_A / n_slices / 2, margin_A * (1 - 1e-6))


def film_slab(film: Film, view: View, imaging: ImagingSection) -> Slab:
    """The box of the film below a particle.

    The block is shifted, cut to the film's thickness, repeated, rotated, and cut to the field of view. ASSUME the seam
    at the edges of the periodic field is not visible in amorphous carbon. What whole slices add to the height is vacuum
    below the film.
    """
    edges, field_A = np.array(film.edges_A), imaging.field_A
    block = np.mod(film.positions_A + np.array(view.film_offset) * edges, edges)
    block = block[block[:, 2] < view.film_thickness_A]
    # The corners of the field have the distance field/√2 from its centre, at any angle.
    tiles = [range(-count, count) for count in np.ceil(field_A / np.sqrt(2) / edges[:2]).astype(int).tolist()]
    sheet = np.concatenate([block + np.array([i * edges[0], j * edges[1], 0.0]) for i, j in product(*tiles)])
    turned = Rotation.from_euler("z", view.film_angle_rad).apply(sheet)
    # There is room for half a slice below the film, behind which the wave is propagated back by the height of the box.
    above_A = view.film_thickness_A + FILM_MARGIN_A
    half_A = imaging.slice_A / 2 if imaging.n_slices is None else above_A / (2 * imaging.n_slices - 1)
    below_A = max(FILM_MARGIN_A, half_A)
    height_A, n_slices = sliced(above_A + below_A, imaging)
    depth = FILM_MARGIN_A + _half_slice_A(height_A, n_slices, below_A)
    placed = turned + np.array([field_A / 2, field_A / 2, depth])
    inside = placed[((placed[:, :2] >= 0) & (placed[:, :2] < field_A)).all(axis=1)]
    return Slab(view.particle, ("C",) * len(inside), inside, field_A, height_A, n_slices)
