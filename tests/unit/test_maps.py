"""Projected maps, against places worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from alloyscope.contracts import Structure
from alloyscope.errors import ContractError
from alloyscope.learn.maps import projected_maps

PARTICLE = Structure(("Ag", "Co", "Co"), np.array([[-2.0, 0, 5], [2.0, 0, 0], [2.0, 0, 3]]))


def table(**changes: object) -> pd.DataFrame:
    plain = {"particle": [0], "rotation_x": 0.0, "rotation_y": 0.0, "rotation_z": 0.0, "rotation_w": 1.0}
    return pd.DataFrame(plain | {"shift_x_A": 0.5, "shift_y_A": 0.5} | changes)


def test_atoms_lie_where_the_image_shows_them():
    """A field of 16 Å: cells of 1 Å whose centres are at half integers; the middle lies at (8.5, 8.5) Å."""
    maps = projected_maps(table(), {0: [PARTICLE]}, ("Ag", "Co"), 16.0, 16)
    wanted = np.zeros((2, 16, 16))
    wanted[0, 8, 6], wanted[1, 8, 10] = 1, 2
    np.testing.assert_array_equal(maps[0], wanted)
    turned = projected_maps(table(rotation_z=0.5**0.5, rotation_w=0.5**0.5), {0: [PARTICLE]}, ("Ag", "Co"), 16.0, 16)
    np.testing.assert_allclose(turned[0], wanted.transpose(0, 2, 1), atol=1e-3)  # x becomes y
    shifted = projected_maps(table(shift_y_A=-2.0), {0: [PARTICLE]}, ("Ag", "Co"), 16.0, 16)[0]
    assert (shifted[0, 5, 6], shifted[0, 6, 6], shifted[1].sum()) == (0.5, 0.5, 2)


def test_several_snapshots_are_averaged():
    moved = Structure(("Co", "Ag", "Ag"), PARTICLE.positions_A)
    maps = projected_maps(table(snapshots=["0 1"]), {0: [PARTICLE, moved]}, ("Ag", "Co"), 16.0, 16)
    assert (maps[0, 0, 8, 6], maps[0, 1, 8, 6], maps[0, 0, 8, 10], maps[0, 1, 8, 10]) == (0.5, 0.5, 1, 1)


def test_what_has_no_structure_is_named():
    with pytest.raises(ContractError, match="particle 0: has images but no structure"):
        projected_maps(table(), {}, ("Ag", "Co"), 16.0, 16)
    with pytest.raises(ContractError, match=r"images.parquet must have \['shift_x_A'\]"):
        projected_maps(table().drop(columns="shift_x_A"), {0: [PARTICLE]}, ("Ag", "Co"), 16.0, 16)
