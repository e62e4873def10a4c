"""Random streams depend on their address alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyscope import ids
from alloyscope.ids import chunk_name, draw_value, image_id, particle_id, rng_for, seed_for, uniform_for
from alloyscope.sections import LogUniform


def test_names_sort_as_numbers() -> None:
    numbers = [0, 9, 10, 99_999, 1_999_999]
    assert sorted(map(particle_id, numbers)) == [particle_id(number) for number in numbers]
    assert chunk_name(42) == "000042"
    assert image_id(7, 3) == "p0000007-v03"


def test_streams_do_not_depend_on_order() -> None:
    forward = {n: rng_for("dose", 1, n).random(3).tolist() for n in range(20)}
    backward = {n: rng_for("dose", 1, n).random(3).tolist() for n in reversed(range(20))}
    assert forward == backward


def test_each_part_of_the_address_counts() -> None:
    addresses = [("dose", 1, 2, 3), ("dose", 1, 3, 2), ("dose", 12, 3), ("dose", 1, 23), ("noise", 1, 2, 3), ("dose",)]
    firsts = [float(rng_for(purpose, *parts).random()) for purpose, *parts in addresses]
    assert len(set(firsts)) == len(addresses)


@pytest.mark.parametrize("first", [b"\x00" * 4, b"\x00" * 9, b"\x01" * 4])
def test_streams_begin_with_the_whole_digest_as_one_number(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = first + bytes(range(7, 39 - len(first)))
    monkeypatch.setattr(ids, "_digest", lambda *_: digest)
    seeds = np.random.SeedSequence(int.from_bytes(digest))
    assert rng_for("x").random() == np.random.Generator(np.random.Philox(seeds)).random()


def test_streams_of_neighbours_are_uncorrelated() -> None:
    """Correlation of 2 × 4000 independent numbers has a standard deviation of 1/√4000; five of them is the bound."""
    a = np.array([rng_for("x", n).random() for n in range(4000)])
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 5 / math.sqrt(4000)
    assert abs(a.mean() - 0.5) < 5 / math.sqrt(12 * 4000)


@given(st.lists(st.integers(0, 2**40), max_size=4))
def test_a_single_number_is_the_first_of_its_stream(parts: list[int]) -> None:
    assert uniform_for("dose", *parts) == rng_for("dose", *parts).random()


@given(st.lists(st.integers(0, 2**40), max_size=4))
def test_seeds_suit_lammps(parts: list[int]) -> None:
    assert 1 <= seed_for("velocities", *parts) < 900_000_000


def test_draws() -> None:
    assert draw_value(4.5, rng_for("a")) == 4.5
    uniform = [draw_value((2.0, 4.0), rng_for("a", n)) for n in range(2000)]
    assert 2 <= min(uniform) < 2.02
    assert 3.98 < max(uniform) <= 4
    logs = [math.log10(draw_value(LogUniform(log_uniform=(1e2, 1e4)), rng_for("a", n))) for n in range(2000)]
    assert np.mean(logs) == pytest.approx(3, abs=5 * (2 / math.sqrt(12)) / math.sqrt(2000))


def test_every_kind_of_draw_takes_one_number() -> None:
    left = set()
    for draw in (4.5, (2.0, 4.0), LogUniform(log_uniform=(1, 2))):
        rng = rng_for("a")
        draw_value(draw, rng)
        left.add(float(rng.random()))
    assert len(left) == 1
