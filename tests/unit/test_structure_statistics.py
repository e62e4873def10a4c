"""Statistics over particles against answers by hand and closed forms."""

import math

import numpy as np
import pandas as pd
import pytest

from alloyscope.errors import ContractError
from alloyscope.structure import statistics
from alloyscope.structure.statistics import Deviation, RankTest


def series(*values):
    return pd.Series(values, dtype=float)


def test_bins_hold_equally_many_and_never_too_few():
    assert statistics.bin_edges(pd.Series(range(101)), least=20).tolist() == [0, 20, 40, 60, 80, 100]
    assert statistics.bin_edges(pd.Series(range(101)), least=20, most=2).tolist() == [0, 50, 100]
    assert statistics.bin_edges(pd.Series(range(39)), least=20).tolist() == [0, 38]
    assert statistics.bin_edges(series(), least=20).tolist() == []


def test_ties_stay_together_and_poor_bins_join_their_neighbour():
    """Quantiles of 0 × 10, 5 × 35, 9 × 15 are 0, 5, 5, 9; [0, 5) would hold ten."""
    values = series(*[0] * 10, *[5] * 35, *[9] * 15)
    assert statistics.bin_edges(values, least=10).tolist() == [0, 5, 9]
    assert statistics.bin_edges(values, least=20).tolist() == [0, 9]
    assert statistics.bin_edges(series(7, 7, 7), least=1).tolist() == [7, 7]


def test_a_bin_holds_its_lower_edge_and_the_last_one_both():
    assert statistics.bin_of(series(0, 4, 5, 9), np.array([0.0, 5.0, 9.0])).tolist() == [0, 0, 1, 1]


def test_share_in_bins_has_wilson_intervals():
    """1 of 4: centre (¼ + z²/8) / (1 + z²/4) = 0.3725, half-width 0.3269."""
    found = statistics.binned_share(series(1, 2, 3, 6, math.nan), series(1, 0, 0, 0, 1))
    (row,) = found.to_dict("records")
    assert (row["low"], row["high"], row["middle"], row["n"], row["value"]) == (1, 6, 3, 4, 0.25)
    assert (row["value_low"], row["value_high"]) == pytest.approx((0.0456, 0.6994), abs=1e-4)


def test_share_changes_where_it_does():
    found = statistics.binned_share(pd.Series(range(80)), pd.Series(range(80)) >= 40)
    assert found["value"].tolist() == [0, 1]
    assert found["n"].tolist() == [40, 40]


def test_mean_in_bins_has_students_intervals():
    """1, 2, 3: t(2) = 4.3027, s = 1, half-width 4.3027 / √3."""
    (row,) = statistics.binned_mean(series(10, 20, 30, 40), series(1, 2, 3, math.nan)).to_dict("records")
    assert (row["value"], row["n"], row["middle"]) == (2, 3, 20)
    assert row["value_high"] - row["value"] == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    (single,) = statistics.binned_mean(series(10), series(5)).to_dict("records")
    assert single["value"] == 5
    assert math.isnan(single["value_low"])
    assert statistics.binned_mean(series(), series()).empty


def test_ranks_of_two_and_two():
    """Of the six ways to rank two and two, two are as extreme: p = ⅓."""
    test = RankTest.of(series(1, 2), series(3, 4))
    assert (test.n, test.medians, test.superiority) == ((2, 2), (1.5, 3.5), 0.0)
    assert test.p == pytest.approx(1 / 3)
    assert RankTest.of(series(3, 4), series(1, 2)).superiority == 1.0


def test_ranks_of_equal_samples_and_of_none():
    test = RankTest.of(series(5, 5), series(5))
    assert (test.superiority, test.p) == (0.5, 1.0)
    assert RankTest.of(series(), series(1)) is None
    assert RankTest.of(series(1, math.nan), series(2)).n == (1, 1)


def test_deviation_of_samples_apart():
    """Three below three: D = 1 at the top of the lower; two of the twenty ways to mix them are as extreme."""
    found = Deviation.of(series(1, 2, 3), series(11, 12, 13))
    assert (found.largest, found.at, found.n) == (1.0, 3.0, (3, 3))
    assert found.p == pytest.approx(0.1)
    assert Deviation.of(series(1), series(math.nan)) is None


@pytest.mark.parametrize("n", [299, 3001])
def test_deviation_that_is_just_visible_has_its_level_as_p(n):
    """A shift of uniform samples by k steps gives D = k / n."""
    level = 0.05
    first = pd.Series(np.arange(n, dtype=float))
    k = round(Deviation((n, n), 0, 0, 0).visible(level) * n)
    found = Deviation.of(first, first + k - 0.5)
    assert found.largest == pytest.approx(k / n)
    assert found.p == pytest.approx(level, rel=0.15)


def test_visible_deviation_of_a_hundred_each():
    """Tables give 1.358 √(2/100) at 5 %."""
    assert Deviation((100, 100), 0, 0, 0).visible(0.05) == pytest.approx(1.358 * math.sqrt(0.02), rel=1e-3)


def test_samples_of_odd_sizes_need_no_warning():
    rng = np.random.default_rng(1)
    for sizes in ((299, 300), (7, 300), (300, 5000)):
        found = Deviation.of(*(pd.Series(rng.normal(size=n)) for n in sizes))
        assert 0 < found.p <= 1


def labelled():
    return pd.DataFrame(
        {
            "valid": [True, True, True, True, False],
            "n_atoms": [10, 20, 30, 40, 50],
            "one": ["core_shell", "core_shell", "janus", None, "janus"],
            "other": ["core_shell", "janus", "core_shell", "janus", "janus"],
            "share": [0.1, 0.3, 0.5, 0.7, 0.9],
            "reason": [None, None, None, None, "mean temperature 310.2 K is not within 1e-3 K of 300 K"],
        }
    )


def test_labels_are_crossed_where_both_are_there():
    found = statistics.crossed(labelled(), "one", "other")
    assert found == {
        ("core_shell", "core_shell"): 1,
        ("core_shell", "janus"): 1,
        ("janus", "core_shell"): 1,
    }


def test_means_by_size_use_the_same_bins_for_every_label():
    table = labelled()
    found = statistics.mean_by_size(table[table["valid"]], ["share"], "one", most=2)
    assert found["one"].tolist() == ["core_shell", "janus"]  # too few for two bins
    assert found["share"].tolist() == pytest.approx([0.2, 0.5])
    assert found["n"].tolist() == [2, 1]
    assert (found["low"].tolist(), found["high"].tolist()) == ([10, 10], [30, 30])


def test_descriptors_by_any_label():
    found = statistics.by_protocol(labelled(), ["share"], "one").set_index("one")
    assert found.loc["core_shell", "mean"] == pytest.approx(0.2)
    assert found.loc["core_shell", "std"] == pytest.approx(0.2 / math.sqrt(2))


def test_reasons_that_differ_in_numbers_count_as_one():
    table = pd.concat(
        [labelled(), labelled().replace({"mean temperature 310.2 K": "mean temperature 290 K"}, regex=True)]
    )
    assert statistics.failures(table, alike=True) == {"mean temperature … K is not within … K of … K": 2}
    assert len(statistics.failures(table)) == 2


def test_typical_particle_is_the_one_nearest_to_the_median_of_its_class():
    """Class 0: medians (2, 0); class 1: (12, 5). The column `same` does not vary, the last row lacks one that does."""
    table = pd.DataFrame(
        {
            "a": [0.0, 2.0, 4.0, 10.0, 12.0, 30.0, 2.0],
            "b": [0.0, 0.5, 0.0, 5.0, 5.5, 5.0, math.nan],
            "same": 3.0,
        },
        index=[10, 11, 12, 13, 14, 15, 16],
    )
    classes = pd.Series([0, 0, 0, 1, 1, 1, 0], index=table.index)
    assert statistics.typical(table, ["a", "b", "same"], classes) == {0: 11, 1: 14}


def test_typical_particle_does_not_depend_on_units():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.normal(size=(30, 2)), columns=["a", "b"])
    classes = pd.Series(0, index=table.index)
    assert statistics.typical(table.assign(b=1000 * table["b"] + 7), ["a", "b"], classes) == statistics.typical(
        table, ["a", "b"], classes
    )


def test_typical_particle_needs_descriptors():
    table = pd.DataFrame({"a": [1.0, 2.0, math.nan, math.nan], "b": [math.nan, math.nan, 1.0, 2.0]})
    with pytest.raises(ContractError, match="typical particles need descriptors; none has all of a, b"):
        statistics.typical(table, ["a", "b"], pd.Series(0, index=table.index))
