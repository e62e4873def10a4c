"""The film step: what it writes, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from alloyscope.cli import main
from alloyscope.errors import SimulationError, StoreError
from alloyscope.microscope.settings import FilmSection
from alloyscope.stages import film
from alloyscope.store.structures import read_film

SMALL = FilmSection(edge_A=12, thickness_A=12, melt_ps=0.5, quench_ps=2, settle_ps=0.3)


def test_block_and_its_checks(tmp_path: Path) -> None:
    out = tmp_path / "film" / "carbon.extxyz"
    assert main(["film", "--film", SMALL.as_json(), "--seed", "3", "--out", str(out)]) == 0
    block = read_film(out)
    assert block.edges_A == (12.0, 12.0, 12.0)
    assert len(block.positions_A) == 173  # 2 g/cm³
    account = json.loads(out.with_suffix(".json").read_text())
    assert all(row["passed"] and row["source"] for row in account["checks"])


def test_gas_is_refused(tmp_path: Path) -> None:
    hot = SMALL.model_copy(update={"melt_K": 20_000.0, "quench_ps": 0.001, "settle_ps": 0.001})
    with pytest.raises(
        SimulationError, match=r"film: .* outside the bounds of amorphous carbon; raise imaging\.film\.melt_ps"
    ):
        film.run(film=hot, seed=1, out=tmp_path / "carbon.extxyz")
    assert not list(tmp_path.iterdir())


def test_thinnest_film_has_a_block_thick_enough_for_the_potential() -> None:
    assert FilmSection(thickness_A=3).block_A == (60, 60, 10)
    assert FilmSection(thickness_A=[10, 45]).block_A == (60, 60, 45)


@pytest.mark.parametrize(("content", "message"), [("", "not a film"), ("1\n\nAg 0 0 0\n", "only carbon; got Ag")])
def test_files_that_hold_no_film(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "carbon.extxyz"
    with pytest.raises(StoreError, match=r"cannot be read .*run the stage `film` first"):
        read_film(path)
    path.write_text(content)
    with pytest.raises(StoreError, match=message):
        read_film(path)


def test_atoms_on_the_far_face_belong_to_the_near_one(tmp_path: Path) -> None:
    path = tmp_path / "carbon.extxyz"
    path.write_text('1\nLattice="10 0 0 0 10 0 0 0 10" Properties=species:S:1:pos:R:3 pbc="T T T"\nC 10.0 1.0 -1.0\n')
    np.testing.assert_allclose(read_film(path).positions_A, [[0, 1, 9]])
