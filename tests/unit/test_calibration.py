"""Intervals and probabilities of known distributions have the coverage that theory says."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alloyscope.learn import calibration
from alloyscope.learn.calibration import (
    Calibration,
    Readings,
    coverage,
    hierarchical_quantile,
    ranges,
    reliability,
    temperature,
    tempered,
)

NORMAL_90 = 1.6448536  # 95 % quantile of the normal distribution: ± this holds 90 %


def readings(n_groups: int = 400, views: int = 5, *, scale_known: bool = True, seed: int = 0) -> Readings:
    """Errors of ln n are normal with σ = 0.1 below 100 electrons and 0.02 above; half of it is common to a group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), views)
    n = len(group)
    electrons = np.exp(rng.uniform(math.log(10), math.log(1000), n))
    sigma = np.where(electrons < 100, 0.1, 0.02)
    common, own = np.repeat(rng.standard_normal(n_groups), views), rng.standard_normal(n)
    error = math.sqrt(0.5) * (common + own)
    truth = np.repeat(rng.uniform(60, 1000, n_groups), views)
    share = np.repeat(rng.uniform(0.3, 0.7, n_groups), views)
    p = rng.uniform(0.02, 0.98, n)
    return Readings(
        group=group,
        electrons=electrons,
        predicted={"n_atoms": truth * np.exp(sigma * error), "fraction_first": share + sigma * error},
        truth={"n_atoms": truth, "fraction_first": share},
        scale={name: sigma if scale_known else np.ones(n) for name in calibration.TRANSFORMS},
        p_janus=p,
        janus=(rng.random(n) < p).astype(float),
        strata=calibration.strata(electrons, truth),
    )


def test_quantile_with_one_image_a_group_is_that_of_split_conformal() -> None:
    scores = np.array([5.0, 1, 9, 3, 7, 2, 8, 4, 6])
    # ⌈(9 + 1) 0.9⌉ = 9th smallest, ⌈(9 + 1) 0.75⌉ = 8th
    assert hierarchical_quantile(scores, np.arange(9), 0.9) == 9
    assert hierarchical_quantile(scores, np.arange(9), 0.75) == 8
    # eight particles cannot say where 9 of 10 lie
    assert hierarchical_quantile(scores[:8], np.arange(8), 0.9) == math.inf
    assert hierarchical_quantile(scores[:0], np.arange(0), 0.9) == math.inf


def test_a_particle_counts_once_however_many_images_it_has() -> None:
    scores, groups = np.array([1.0, 2, 3, 10, 10, 10, 10, 10, 10]), np.array([0, 1, 2, 3, 3, 3, 3, 3, 3])
    # weights 1/5 for each of four particles: three quarters of what is finite lies below 10
    assert hierarchical_quantile(scores, groups, 0.6) == 3
    assert hierarchical_quantile(scores, groups, 0.61) == 10
    assert hierarchical_quantile(scores, groups, 0.81) == math.inf


def test_ranges_hold_equally_many_images_and_enough_particles() -> None:
    found = readings()
    edges = ranges(found.electrons, found.group)
    counts = np.bincount(np.searchsorted(edges, found.electrons, side="right"))
    assert len(counts) == calibration.MOST_RANGES
    assert counts.max() - counts.min() <= 1
    few = found.only(found.group < calibration.LEAST_PARTICLES - 1)
    assert len(ranges(few.electrons, few.group)) == 0


def test_quantiles_are_those_of_the_normal_distribution() -> None:
    found = Calibration.of(readings(4000, 2))
    assert found.particles == 4000
    assert found.images == 8000
    assert found.quantiles["n_atoms"] == pytest.approx([NORMAL_90] * len(found.quantiles["n_atoms"]), abs=0.15)
    assert np.mean(found.quantiles["n_atoms"]) == pytest.approx(NORMAL_90, abs=0.05)


@pytest.mark.parametrize("scale_known", [True, False])
def test_intervals_hold_in_every_dose_and_their_widths_are_known(scale_known: bool) -> None:
    found = coverage(readings(scale_known=scale_known), 0.5)
    assert found["particles"] == {"calibration": 200, "test": 200}
    size, composition = found["n_atoms"], found["fraction_first"]
    assert size["coverage"] == pytest.approx(0.9, abs=0.015)
    assert composition["coverage"] == pytest.approx(0.9, abs=0.015)
    # a range of electrons without a scale may hold both noises; the ranges below and above 100 do not
    for stratum in ("10", "316.2"):
        assert size["by_dose"][stratum]["coverage"] == pytest.approx(0.9, abs=0.03)
    assert composition["by_dose"]["10"]["width"] == pytest.approx(2 * NORMAL_90 * 0.1, rel=0.08)
    assert composition["by_dose"]["316.2"]["width"] == pytest.approx(2 * NORMAL_90 * 0.02, rel=0.08)
    assert set(size["by_size"]) == {"0", "150", "300", "600"}


def test_one_quantile_for_all_doses_would_fail_where_the_dose_is_low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_RANGES", 1)
    found = coverage(readings(scale_known=False), 0.5)["n_atoms"]
    assert found["coverage"] == pytest.approx(0.9, abs=0.015)
    assert found["by_dose"]["10"]["coverage"] < 0.85
    assert found["by_dose"]["316.2"]["coverage"] > 0.97


def test_intervals_stay_within_the_bounds_and_are_everything_with_few_particles() -> None:
    few = Calibration.of(readings(5))
    assert few.quantiles["n_atoms"] == (None,)
    read = {
        "n_atoms": np.array([100.0]),
        "fraction_first": np.array([0.5]),
        "p_janus": np.array([0.9]),
        "electrons": np.array([50.0]),
    }
    ends = {name: values.tolist() for name, values in few.intervals(read).items()}
    assert ends == {
        "n_atoms_low": [0.0],
        "n_atoms_high": [math.inf],
        "fraction_first_low": [0.0],
        "fraction_first_high": [1.0],
    }
    core_shell, janus = few.orders(read["p_janus"], read["electrons"])
    assert core_shell.all()
    assert janus.all()
    account = coverage(readings(9), 0.5)
    assert account["n_atoms"]["coverage"] == 1.0
    assert account["n_atoms"]["width"] is None
    again = Calibration.model_validate_json(few.model_dump_json())
    assert again == few


def test_interval_of_a_size_is_symmetric_in_its_logarithm() -> None:
    found = Calibration(
        particles=9, images=9, edges=(100.0,), quantiles={"n_atoms": (2.0, 1.0)}, sets=(0.7, 0.2), temperature=1.0
    )
    low, high = found.interval("n_atoms", np.full(2, 200.0), np.full(2, math.log(2) / 2), np.array([50.0, 100.0]))
    assert low == pytest.approx([100, 200 / math.sqrt(2)])
    assert high == pytest.approx([400, 200 * math.sqrt(2)])
    core_shell, janus = found.orders(np.array([0.6, 0.6, 0.9]), np.array([50.0, 500.0, 500.0]))
    assert core_shell.tolist() == [True, False, False]  # 0.6 ≤ 0.7; 0.6 > 0.2
    assert janus.tolist() == [True, True, True]  # the likelier order is always in the set


def test_sets_hold_the_order_as_often_as_asked() -> None:
    found = coverage(readings(800, 4), 0.5)["order"]
    # P(not in the set) = ∫ over p of the less likely order beyond the limit t: t² … sets of one order where p < 1 − q
    assert found["coverage"] == pytest.approx(0.9, abs=0.015)
    assert 1 < found["width"] < 2


def test_temperature_undoes_overconfidence() -> None:
    # of images with p = 0.9, three quarters are Janus: the logit ln 9 must become ln 3
    p, truth = np.full(400, 0.9), np.repeat([1.0, 0.0], [300, 100])
    found = temperature(p, truth)
    assert found == pytest.approx(2.0, abs=1e-6)
    assert tempered(p, found) == pytest.approx(0.75)
    assert temperature(p[:0], p[:0]) == 1.0
    assert temperature(p, np.ones(400)) == pytest.approx(1 / calibration.STEEPEST)  # as sure as it may be


def test_reliability_and_its_error_by_hand() -> None:
    p, truth = np.array([0.11, 0.13, 0.92, 0.98, 1.0]), np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    bins, error = reliability(p, truth)
    assert [found["images"] for found in bins] == [2, 3]
    assert [found["p"] for found in bins] == pytest.approx([0.12, 2.9 / 3])
    assert [found["share"] for found in bins] == pytest.approx([0.5, 2 / 3])
    assert error == pytest.approx((2 * 0.38 + 3 * 0.3) / 5)
    assert reliability(p[:0], truth[:0]) == ([], None)


def test_readings_of_a_table() -> None:
    table = pd.DataFrame(
        {
            "group": [3, 3, 4],
            "ordering": pd.array(["janus", "core_shell", None], dtype="string"),
            "n_atoms": [100, 200, 700],
            "fraction_first": [0.2, 0.3, 0.4],
            "dose_e_per_A2": [100.0, 999.0, 1000.0],
        }
    )
    read = {name: np.array([1.0, 2.0, 3.0]) for name in ("p_janus", "n_atoms", "fraction_first", "electrons")}
    found = Readings.of(read | {"ln_n_atoms_scale": np.array([0.1, 0.2, 0.3])}, table)
    np.testing.assert_array_equal(found.janus, [1, 0, np.nan])
    assert found.scale["n_atoms"].tolist() == [0.1, 0.2, 0.3]
    assert found.scale["fraction_first"].tolist() == [1, 1, 1]
    assert found.strata["dose"] == pytest.approx([100, 10**2.5, 1000])
    assert found.strata["size"].tolist() == [0, 150, 600]
    nothing = replace(found, janus=np.full(3, np.nan))
    assert "order" not in coverage(nothing, 0.5)
