"""Snapshots without the particle's motion as a rigid body: positions, and the fringes of their mean image."""

from dataclasses import replace

import numpy as np
import pytest
from ase.cluster import Octahedron
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Structure
from alloyscope.imaging.hrtem import imager_for, plain_optics
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.structure.alignment import aligned, matched_in_order

ATOMS = Octahedron("Ag", 6, cutoff=1)  # a truncated octahedron
THERMAL_A = 0.08  # B = 8π² 0.08² = 0.5 Å²
IMAGING = ImagingSection(pixels=80, grid=240, n_slices=10, max_shift_A=0.0, device="cpu")


def thermal(count: int) -> list[Structure]:
    """Snapshots at rest: every atom has its own displacement, and none of them rotates or shifts the particle."""
    rng = np.random.default_rng(3)
    at_rest = ATOMS.positions - ATOMS.positions.mean(axis=0)
    elements = tuple(["Co", "Ag"][place % 2] for place in range(len(ATOMS)))
    found = []
    for number in range(count):
        moved = at_rest + rng.normal(0, THERMAL_A, at_rest.shape)
        turn, _ = Rotation.align_vectors(at_rest, moved - moved.mean(axis=0))
        found.append(Structure(elements, turn.apply(moved - moved.mean(axis=0)), {"particle": 0, "snapshot": number}))
    return found


def moving(snapshots: list[Structure]) -> list[Structure]:
    """The snapshots of a particle that rotates by 1.5° and drifts by 0.1 Å along each axis between them."""
    axis = np.array([1.0, 2.0, 2.0]) / 3
    return [
        replace(each, positions_A=Rotation.from_rotvec(np.deg2rad(1.5 * k) * axis).apply(each.positions_A) + 0.1 * k)
        for k, each in enumerate(snapshots)
    ]


def rigid_motion(target: NDArray[np.float64], moved: NDArray[np.float64]) -> tuple[float, float]:
    """Angle [rad] and length [Å] of the rotation and the shift that bring one onto the other best."""
    shift_A = float(np.linalg.norm(target.mean(axis=0) - moved.mean(axis=0)))
    turn, _ = Rotation.align_vectors(target - target.mean(axis=0), moved - moved.mean(axis=0))
    return float(turn.magnitude()), shift_A


def test_aligned_snapshots_neither_rotate_nor_drift() -> None:
    still, moved = thermal(8), moving(thermal(8))
    assert rigid_motion(moved[0].positions_A, moved[7].positions_A)[0] == pytest.approx(np.deg2rad(10.5), rel=0.05)
    for stayed, found in zip(still, aligned(moved)):
        angle, shift_A = rigid_motion(moved[0].positions_A, found.positions_A)
        assert angle < 1e-6
        assert shift_A < 1e-9
        assert found.elements == stayed.elements
        assert found.info == stayed.info
        # thermal displacements are kept: distances between atoms are those of before
        np.testing.assert_allclose(distances_A(found), distances_A(stayed), atol=1e-9)


def distances_A(structure: Structure) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = np.linalg.norm(structure.positions_A[:, None] - structure.positions_A, axis=-1)
    return distances


def test_one_snapshot_keeps_its_bits() -> None:
    (only,) = moving(thermal(1))
    assert aligned([only]) == [only]
    first, _ = aligned(moving(thermal(2)))
    assert first.positions_A.tobytes() == only.positions_A.tobytes()


def test_a_mirror_image_stays_one() -> None:
    """The best improper rotation would make the two equal; a particle does not become its mirror image."""
    first = thermal(1)[0]
    distorted = replace(first, positions_A=first.positions_A + np.abs(first.positions_A[:, [1, 2, 0]]) * 0.3)
    mirrored = replace(distorted, positions_A=distorted.positions_A * [-1, 1, 1])
    found = aligned([distorted, mirrored])[1]
    assert np.abs(found.positions_A - distorted.positions_A).max() > 0.5
    triple = slice(0, 3)
    handed = [np.sign(np.linalg.det(each.positions_A[triple])) for each in (mirrored, found)]
    assert handed[0] == handed[1]


@pytest.mark.parametrize("gone", [[(), (4,)], [(4,), ()], [(), (0, 41, 90)], [(7,), (8,)], [(3, 60), ()]])
def test_evaporated_atoms_do_not_shift_the_others(gone: list[tuple[int, ...]]) -> None:
    """One snapshot lacks atoms of the other; each species may be missing in one of the two."""
    still = thermal(1)[0]
    turn = Rotation.from_rotvec([0.1, -0.2, 0.3])
    pair = [
        Structure(
            tuple(np.delete(still.elements, list(lost)).tolist()),
            np.delete(positions_A, list(lost), axis=0),
        )
        for lost, positions_A in zip(gone, (still.positions_A, turn.apply(still.positions_A) + 2.0))
    ]
    found = aligned(pair)[1]
    np.testing.assert_allclose(found.positions_A, np.delete(still.positions_A, list(gone[1]), axis=0), atol=1e-6)


def test_values_are_matched_in_their_order() -> None:
    longer = np.array([[5.0], [1.0], [4.0], [2.0], [3.0]])
    assert matched_in_order(longer, longer).tolist() == [0, 1, 2, 3, 4]
    assert matched_in_order(longer, np.array([[5.1], [4.1], [2.1]])).tolist() == [0, 2, 3]
    assert matched_in_order(longer, np.array([[3.0]])).tolist() == [4]
    assert matched_in_order(longer, np.empty((0, 1))).tolist() == []


def fringe_power(image: NDArray[np.float32]) -> float:
    """Power in the ring from 0.40 to 0.52 1/Å, which holds the fringes of both species."""
    frequencies = np.fft.fftfreq(len(image), IMAGING.pixel_size_A)
    radius = np.hypot(*np.meshgrid(frequencies, frequencies))
    return float((np.abs(np.fft.fft2(image.astype(np.float64)))[(radius > 0.40) & (radius < 0.52)] ** 2).sum())


def test_alignment_brings_the_fringes_of_the_mean_image_back() -> None:
    """Seen along [110]. The image of the snapshots at rest holds what thermal motion leaves of the fringes."""
    turned, _ = Rotation.align_vectors([[0, 0, 1], [1, 0, 0]], [[1, 1, 0], [0, 0, 1]])
    still = [replace(each, positions_A=turned.apply(each.positions_A)) for each in thermal(8)]
    moved = moving(still)
    view = plain_optics(drawn_view(0, 0, IMAGING, OpticsSection(), DetectorSection(), seed=1))
    view = replace(view, rotation=(0.0, 0.0, 0.0, 1.0), snapshots=())
    imager = imager_for(IMAGING)
    at_rest, stored, back = (
        fringe_power(next(imager.images([(shown, view)]))) for shown in (still, moved, aligned(moved))
    )
    single = fringe_power(next(imager.images([(still[:1], view)])))
    assert stored < 0.7 * at_rest
    assert back == pytest.approx(at_rest, rel=0.02)
    assert 0.6 < back / single < 1.0
