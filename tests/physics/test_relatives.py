"""Fingerprints and groups: which structures count as related, and which do not."""

from dataclasses import replace

import numpy as np
import pytest
from ase.cluster import Icosahedron, Octahedron
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Structure
from alloyscope.structure import relatives
from alloyscope.structure.fingerprint import DISTANCES, FINGERPRINT, PROJECTIONS, fingerprint
from alloyscope.structure.relatives import groups, has_twin_elsewhere, nearest_before

SPECIES = ("Ag", "Co")


def random_alloy(seed: int, shape: type = Icosahedron, thermal_A: float = 0.0) -> Structure:
    """147 atoms of a perfect cluster: 100 Ag and 47 Co at random places."""
    atoms = Icosahedron("Ag", 4) if shape is Icosahedron else Octahedron("Ag", 7, cutoff=3)
    rng = np.random.default_rng(seed)
    elements = tuple(rng.permutation(["Ag"] * 100 + ["Co"] * 47).tolist())
    return Structure(elements, atoms.positions + rng.normal(0, thermal_A, atoms.positions.shape), {})


def moved(structure: Structure, seed: int, thermal_A: float = 0.0) -> Structure:
    rng = np.random.default_rng(seed)
    turned = Rotation.random(rng=seed).apply(structure.positions_A) + rng.uniform(-9, 9, 3)
    return replace(structure, positions_A=turned + rng.normal(0, thermal_A, turned.shape))


def reordered(structure: Structure, seed: int) -> Structure:
    order = np.random.default_rng(seed).permutation(len(structure.elements))
    return Structure(tuple(np.array(structure.elements)[order].tolist()), structure.positions_A[order], {})


def groups_of(structures: list[Structure], names: list[str | None] | None = None) -> list[int]:
    values = np.array([list(fingerprint(structure, SPECIES).values()) for structure in structures])
    counts = np.array([[structure.elements.count(element) for element in SPECIES] for structure in structures])
    found = groups(counts, values.astype(np.float32), np.array(names or [None] * len(structures), object))
    return found.tolist()


def test_distances_by_hand() -> None:
    """One Co on a line with five Ag: ten distances Ag–Ag in quarters of 3, 3, 2 and 2, five of Ag–Co, none of Co."""
    places = {"Ag": (0.0, 2.0, 5.0, 9.0, 14.0), "Co": (20.0,)}
    line = [(element, (x, 0.0, 0.0)) for element, along in places.items() for x in along]
    found = fingerprint(Structure(tuple(e for e, _ in line), np.array([r for _, r in line]), {}), SPECIES)
    assert list(found) == list(FINGERPRINT)
    of_silver = [(2 + 3 + 4) / 3, (5 + 5 + 7) / 3, (9 + 9) / 2, (12 + 14) / 2]
    assert [found[name] for name in DISTANCES] == pytest.approx([*of_silver, (6 + 11) / 2, 15, 18, 20, 0, 0, 0, 0])


def test_projections_of_unrelated_structures_are_independent() -> None:
    """Their variance is ⅓, and that of their differences ⅔: 3 products of normal numbers of variance ⅓ each."""
    rng = np.random.default_rng(5)
    elements = ("Ag",) * 100 + ("Co",) * 50
    found = [fingerprint(Structure(elements, rng.normal(0, 5, (150, 3)), {}), SPECIES) for _ in range(400)]
    values = np.array([[one[name] for name in PROJECTIONS] for one in found])
    assert values.mean() == pytest.approx(0, abs=4 * np.sqrt(1 / 3 / values.size))
    assert values.var() == pytest.approx(1 / 3, rel=0.1)
    correlations = np.corrcoef(values.T) - np.eye(len(PROJECTIONS))
    assert np.abs(correlations).max() < 5 / np.sqrt(len(values))


def test_copies_form_a_group() -> None:
    one, other = random_alloy(0), random_alloy(1)
    copies = [moved(one, 1), reordered(moved(one, 2), 3), replace(one, positions_A=one.positions_A * [-1, 1, 1])]
    rounded = [replace(each, positions_A=np.round(each.positions_A, 3)) for each in copies]
    assert groups_of([one, other, *copies, *rounded]) == [0, 1, *[0] * 6]


def test_thermal_displacements_do_not_separate_a_structure_from_its_copies() -> None:
    """0.1 Å along each axis, more than the 0.09 Å of Ag at 300 K (B = 0.74 Å²), and in every copy anew."""
    one, other = random_alloy(0), random_alloy(1)
    mixed = [moved((one, other)[number % 2], number, thermal_A=0.1) for number in range(40)]
    assert groups_of(mixed) == [number % 2 for number in range(40)]


def test_other_structures_of_the_same_atoms_stay_apart() -> None:
    """Random alloys on one lattice, and another lattice with the same atoms."""
    for shape in (Icosahedron, Octahedron):
        alloys = [random_alloy(seed, shape) for seed in range(60)]
        assert groups_of(alloys) == list(range(60))
    elements = tuple(["Ag"] * 100 + ["Co"] * 47)
    balls = [replace(random_alloy(0, shape), elements=elements) for shape in (Icosahedron, Octahedron)]
    assert groups_of(balls) == [0, 1]


def test_other_composition_is_another_structure() -> None:
    one = random_alloy(0)
    changed = ("Co" if one.elements[0] == "Ag" else "Ag", *one.elements[1:])
    assert groups_of([one, replace(one, elements=changed)]) == [0, 1]


def test_a_name_makes_a_group_of_any_structures() -> None:
    alloys = [random_alloy(seed) for seed in range(5)]
    assert groups_of(alloys, [None, "a", None, "a", "b"]) == [0, 1, 2, 1, 4]
    # a copy draws its whole group to the group of the original
    named = [alloys[0], moved(alloys[0], 1), alloys[2]]
    assert groups_of(named, [None, "a", "a"]) == [0, 0, 0]


def test_a_trajectory_is_followed_from_frame_to_frame() -> None:
    """The last frame has nothing in common with the first, but each is near the one before."""
    start, end = random_alloy(0).positions_A, random_alloy(0, Octahedron).positions_A
    elements = random_alloy(0).elements
    frames = [Structure(elements, (1 - share) * start + share * end, {}) for share in np.linspace(0, 1, 30)]
    assert groups_of([frames[0], frames[-1]]) == [0, 1]
    assert groups_of(frames) == [0] * 30


def test_more_structures_change_no_earlier_group() -> None:
    """A later structure between two groups joins the nearer one; they stay two."""
    rng = np.random.default_rng(0)
    structures = [moved(random_alloy(int(seed)), number, 0.1) for number, seed in enumerate(rng.integers(0, 6, 40))]
    whole = groups_of(structures)
    for count in (1, 7, 20, 39):
        assert groups_of(structures[:count]) == whole[:count]
    names = np.full(3, None, object)
    values = np.zeros((3, len(FINGERPRINT)), np.float32)
    values[:] = np.array([0.0, 0.4, 0.21])[:, None]
    assert groups(np.full((3, 2), 9), values, names).tolist() == [0, 1, 1]


def test_nearest_before_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relatives, "BLOCK", 8)
    points = np.random.default_rng(0).uniform(0, 6, (150, 3))
    expected = []
    for place, point in enumerate(points):
        distances = np.linalg.norm(points[:place] - point, axis=1)
        expected.append(int(distances.argmin()) if place and distances.min() < 1 else -1)
    assert nearest_before(points).tolist() == expected
    assert -1 in expected
    assert nearest_before(np.empty((0, 3))).tolist() == []


def test_twins_elsewhere_are_those_of_another_part() -> None:
    points: NDArray[np.float64] = np.array([[0.0], [0.5], [5.0], [5.1], [9.0]])
    assert has_twin_elsewhere(points, np.array([0, 1, 1, 1, 2])).tolist() == [True, True, False, False, False]
