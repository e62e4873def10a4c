"""What predictions tell: scores in bins, abstention, reliability, laws of growth, against hand arithmetic."""

import numpy as np
import pandas as pd
import pytest

from alloyscope.errors import ContractError
from alloyscope.learn import study
from alloyscope.learn.metrics import Score
from alloyscope.learn.scores import balanced
from alloyscope.learn.tasks import TASKS


def predictions() -> pd.DataFrame:
    """Three core-shell images of which two are right, one Janus image that is right, and one of neither order."""
    return pd.DataFrame(
        {
            "particle": [0, 0, 1, 2, 3],
            "group": [0, 0, 1, 2, 3],
            "view": [0, 1, 0, 0, 0],
            "dose_e_per_A2": [100.0, 2000.0, 2000.0, 2000.0, 2000.0],
            "ordering": ["core_shell", "core_shell", "core_shell", "janus", "other"],
            "ordering_predicted": ["core_shell", "janus", "core_shell", "janus", "janus"],
            "p_core_shell": [0.9, 0.2, 0.8, 0.3, 0.4],
            "n_atoms": [100, 100, 200, 700, 400],
            "n_atoms_predicted": [110.0, 80.0, 200.0, 730.0, 400.0],
            "fraction_first": [0.5, 0.5, 0.5, 0.5, 0.5],
            "fraction_first_predicted": [0.6, 0.5, 0.4, 0.5, 0.5],
        }
    )


def test_the_main_scores() -> None:
    found = {name: score.value for name, score in study.headline(predictions()).items()}
    assert found["ordering_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["ordering_accuracy_bright"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ordering_accuracy_small"] == pytest.approx(2 / 3)
    assert found["size_mae_atoms"] == pytest.approx((10 + 20 + 0 + 30 + 0) / 5)
    assert found["size_rms_atoms"] == pytest.approx(np.sqrt((100 + 400 + 900) / 5))
    assert found["size_relative"] == pytest.approx((0.1 + 0.2 + 30 / 700) / 5)
    assert found["composition_mae"] == pytest.approx(0.2 / 5)
    assert "views5_ordering_accuracy" not in found  # no particle has five views


def test_an_interval_counts_groups_and_not_images() -> None:
    """Of 20 groups half are right: a mean of 20 draws has the standard deviation √(¼/20), however many images each."""
    rows = pd.DataFrame({"group": np.repeat(np.arange(20), 30), "ordering": "janus"})
    rows["p_core_shell"] = np.where(rows["group"] % 2, 0.1, 0.9)
    found = balanced(rows)
    assert found.value == 0.5
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 20), rel=0.2)
    assert balanced(rows.assign(ordering="other")) == Score(None, None, None)


def test_bins_hold_their_lower_edge_and_the_last_one_both() -> None:
    table = study.binned(predictions(), "n_atoms", [100, 200, 400, 700], study.error_of("n_atoms"))
    assert table["x"].tolist() == [100.0, 200.0, 550.0]
    assert table["value"].tolist() == [15.0, 0.0, 15.0]
    assert table["images"].tolist() == [2, 1, 2]
    assert table["particles"].tolist() == [1, 1, 2]


def test_orientation_of_an_axis_to_the_beam() -> None:
    axes = np.array([[0, 0, 2.0], [0, 0, 1], [1, 0, 0], [np.nan] * 3])
    half = np.sqrt(0.5)
    turns = np.array([[0, 0, 0, 1], [half, 0, 0, half], [0, np.sin(np.pi / 6), 0, np.cos(np.pi / 6)], [0, 0, 0, 1]])
    found = study.axis_cosine(axes, turns)  # along the beam; turned by 90° about x; x turned by 60° about y
    np.testing.assert_allclose(found, [1, 0, np.sin(np.pi / 3), np.nan], atol=1e-12)


def test_risk_falls_to_that_of_the_surest() -> None:
    curve = study.risk_coverage([0.9, 0.2, 0.6, 0.45], [True, False, True, False])
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert curve["sure"].tolist() == pytest.approx([0.9, 0.8, 0.6, 0.55])


def test_reliability_of_stated_probabilities() -> None:
    table, error = study.reliability([0.05, 0.05, 1.0, 0.9], [0, 1, 1, 1], [0, 1, 2, 3], bins=5)
    assert table["x"].tolist() == pytest.approx([0.05, 0.95])
    assert table["value"].tolist() == [0.5, 1.0]
    assert error == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)


def test_a_power_law_is_found_with_its_uncertainty() -> None:
    sizes = np.array([32.0, 64, 128, 256, 512])
    law = study.PowerLaw.fit(sizes, 0.8 * sizes**-0.25, 0.1 * sizes**-0.25)
    assert law.exponent == pytest.approx(0.25)
    assert law.at(200_000).value == pytest.approx(0.8 * 200_000**-0.25)
    # the slope of a line through points of standard deviation σ = 1/8 in ln(error): σ / √Σ(ln n − mean)²
    assert np.sqrt(law.covariance[1, 1]) == pytest.approx(0.125 / (np.log(2) * np.sqrt(10)))
    with pytest.raises(ContractError, match=r"at least 3 sizes; got \[32\.0, 64\.0\]"):
        study.PowerLaw.fit(sizes[:2], [0.3, 0.2], [0.1, 0.1])


def test_runs_that_differ_in_one_setting_alone() -> None:
    settings = ({}, {"particles": 3}, {"particles": 9}, {"particles": 5, "epochs": 2}, {"views": 2})
    runs = {str(place): TASKS["reading"].model_validate(each) for place, each in enumerate(settings)}
    assert study.differing(runs, "particles") == ["0", "1", "2"]
    assert study.differing(runs, "views") == ["0", "4"]
    assert study.differing({"0": runs["0"]}, "particles") == []
