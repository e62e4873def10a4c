"""Pictures of particles show the right atoms in the right place and size."""

import numpy as np
import pytest

from alloyscope.contracts import Structure
from alloyscope.errors import ContractError, SimulationError
from alloyscope.figures import rendering
from alloyscope.figures.rendering import Scene, render
from alloyscope.lammps.start import load_lammps
from alloyscope.units import NEAREST_NEIGHBOUR_A

FIELD_A, PIXELS = 20.0, 100
PER_A = PIXELS / FIELD_A


@pytest.fixture(scope="module")
def lmp():
    loaded = load_lammps()
    yield loaded
    loaded.close()


def scene(positions, types):
    return Scene(np.array(positions, dtype=float), np.array(types), ("Ag", "Co"))


def masks(picture):
    """Where silver (grey-blue) and where cobalt (vermilion) is seen."""
    red, _, blue = (picture[..., channel].astype(int) for channel in range(3))
    return blue - red > 3, red - blue > 30


def centre(mask):
    """Right of and above the middle of the picture [Å]."""
    rows, columns = np.nonzero(mask)
    middle = (PIXELS - 1) / 2
    return (columns.mean() - middle) / PER_A, (middle - rows.mean()) / PER_A


def test_atoms_stand_where_they_are(lmp):
    silver, cobalt = masks(render(lmp, scene([(-5, 0, 2), (4, 0, -3)], [0, 1]), FIELD_A, PIXELS))
    assert centre(silver) == pytest.approx((-5, 2), abs=0.15)
    assert centre(cobalt) == pytest.approx((4, -3), abs=0.15)


def test_atoms_have_the_diameters_of_their_crystals(lmp):
    silver, cobalt = masks(render(lmp, scene([(-5, 0, 0), (5, 0, 0)], [0, 1]), FIELD_A, PIXELS))
    for mask, element in ((silver, "Ag"), (cobalt, "Co")):
        assert np.ptp(np.nonzero(mask)[1]) + 1 == pytest.approx(NEAREST_NEIGHBOUR_A[element] * PER_A, abs=1.5)


def test_background_is_white(lmp):
    picture = render(lmp, scene([(0, 0, 0)], [0]), FIELD_A, PIXELS)
    assert picture.shape == (PIXELS, PIXELS, 3)
    assert picture.dtype == np.uint8
    assert (picture[:20] == 255).all()


@pytest.mark.parametrize("front", [0, 1])
def test_viewer_looks_along_y(lmp, front):
    """Of two atoms one behind the other, the one with the smaller y hides the other."""
    picture = render(lmp, scene([(0, -4, 0), (0, 4, 0)], [front, 1 - front]), FIELD_A, PIXELS)
    assert [mask[PIXELS // 2, PIXELS // 2] for mask in masks(picture)] == [front == 0, front == 1]


def test_scale_does_not_depend_on_the_particle(lmp):
    """The same two atoms, alone and with one far behind them."""
    pair = [(-5, 0, 2), (4, 0, -3)]
    alone = render(lmp, scene(pair, [0, 1]), FIELD_A, PIXELS)
    far = render(lmp, scene([*pair, (4, 60, -3)], [0, 1, 1]), FIELD_A, PIXELS)
    for one, other in zip(masks(alone), masks(far)):
        assert centre(one) == pytest.approx(centre(other), abs=0.15)


def test_the_same_particle_gives_the_same_picture(lmp):
    first = render(lmp, scene([(-1, 0, 0), (1, 0, 0)], [0, 1]), FIELD_A, PIXELS)
    assert (first == render(lmp, scene([(-1, 0, 0), (1, 0, 0)], [0, 1]), FIELD_A, PIXELS)).all()


def cloud(n_first=30, n=50):
    rng = np.random.default_rng(5)
    positions = rng.normal(size=(n, 3)) * (3, 2, 1) + 10
    positions[n_first:] += (4, -3, 2)
    return Structure(("Ag",) * n_first + ("Co",) * (n - n_first), positions)


def test_centres_lie_in_the_cut_from_left_to_right():
    turned = Scene.of(cloud(), ("Ag", "Co"))
    first, second = (turned.positions_A[turned.types == which].mean(axis=0) for which in (0, 1))
    assert first[1] == pytest.approx(0, abs=1e-12)
    assert second - first == pytest.approx([np.linalg.norm(second - first), 0, 0], abs=1e-12)


def test_particle_is_turned_not_mirrored():
    structure = cloud()
    turned = Scene.of(structure, ("Ag", "Co")).positions_A
    before, after = (points - points.mean(axis=0) for points in (structure.positions_A, turned))
    rotation = np.linalg.lstsq(before, after, rcond=None)[0]
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_particle_stands_in_the_middle_with_its_width_shown():
    turned = Scene.of(cloud(), ("Ag", "Co"))
    spread = turned.positions_A[:, [0, 2]]
    assert spread.max(axis=0) == pytest.approx(-spread.min(axis=0))
    assert turned.extent_A == pytest.approx(np.ptp(spread, axis=0).max() + 2.89)
    assert turned.positions_A[:, 2].std() > turned.positions_A[:, 1].std()


def test_cut_takes_away_what_is_in_front():
    whole = scene([(0, -1, 0), (1, 0, 0), (2, 1, 0)], [0, 1, 1])
    assert whole.cut.positions_A.tolist() == [[1, 0, 0], [2, 1, 0]]
    assert whole.cut.types.tolist() == [1, 1]


def test_core_of_a_shell_is_seen_only_when_cut(lmp):
    """A cobalt atom inside a closed shell of silver atoms on a Fibonacci lattice."""
    place = np.arange(40) + 0.5
    polar, azimuth = np.arccos(1 - place / 20), place * np.pi * (1 + 5**0.5)
    shell = 3.5 * np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1)
    turned = Scene.of(Structure(("Co", *["Ag"] * 40), np.concatenate([np.zeros((1, 3)), shell])), ("Ag", "Co"))
    assert not masks(render(lmp, turned, FIELD_A, PIXELS))[1].any()
    silver, cobalt = masks(render(lmp, turned.cut, FIELD_A, PIXELS))
    assert centre(cobalt) == pytest.approx(centre(silver), abs=0.5)


def test_particle_of_one_species_shows_its_long_side():
    positions = np.random.default_rng(6).normal(size=(40, 3)) * (1, 5, 2)
    turned = Scene.of(Structure(("Ag",) * 40, positions), ("Ag", "Co"))
    assert turned.positions_A.std(axis=0).argsort().tolist() == [1, 2, 0]


def test_every_element_has_a_colour():
    assert rendering.COLOUR.keys() == NEAREST_NEIGHBOUR_A.keys()


def test_foreign_element_is_refused():
    with pytest.raises(ContractError, match="picture needs Au and Cu only; got Ag, Co as well"):
        Scene.of(cloud(), ("Au", "Cu"))


def test_lammps_that_cannot_draw_is_an_expected_error():
    class Broken:
        def commands_list(self, commands):
            raise Exception("ERROR: Unknown command: clear\n(src/input.cpp:1)")

    with pytest.raises(SimulationError, match=r"LAMMPS cannot draw a particle \(ERROR: Unknown command: clear \(src"):
        render(Broken(), scene([(0, 0, 0)], [0]), FIELD_A, PIXELS)
