"""Scores of predictions, and the separation of what was learnt from what is tested."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

from alloyscope.errors import GateError
from alloyscope.intervals import wilson_interval
from alloyscope.learn import metrics
from alloyscope.learn.scores import together
from alloyscope.learn.tasks import TASKS


def test_psnr_and_ssim_of_known_images():
    truth = torch.rand(2, 1, 32, 32)
    psnr = metrics.psnr_dB(truth + torch.tensor([0.1, 0.001])[:, None, None, None], truth)
    assert psnr.tolist() == pytest.approx([20, 60], abs=1e-2)
    assert metrics.ssim(truth, truth).tolist() == pytest.approx([1, 1])
    # two constant images a, b: (2ab + C1)/(a² + b² + C1), C1 = (0.01 · range)²; their variances vanish
    flat = metrics.ssim(torch.full((1, 1, 32, 32), 0.5), torch.ones(1, 1, 32, 32))
    assert flat.item() == pytest.approx((1 + 1e-4) / (1.25 + 1e-4), abs=1e-3)


def test_wilson_interval():
    # 8 of 10, and the rule of its ends: 0 of n leaves z²/(n + z²)
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = wilson_interval(0, 10)
    assert (low, high) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    assert all(map(math.isnan, wilson_interval(0, 0)))


def test_more_views_of_the_same_particles_narrow_no_interval():
    few = metrics.proportion([True, False] * 5, range(10))
    many = metrics.proportion([True, False] * 50, [number % 10 for number in range(100)])
    assert few == many
    errors = np.arange(10.0)
    once = metrics.mean_score(errors, range(10))
    tenfold = metrics.mean_score(np.tile(errors, 10), np.tile(np.arange(10), 10))
    assert asdict(once) == pytest.approx(asdict(tenfold))


def test_mean_score():
    score = metrics.mean_score([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1])
    # draws of two particles: 1.5, 2.5 or 3.5, with chances ¼, ½, ¼
    assert score == metrics.Score(2.5, 1.5, 3.5)
    assert metrics.mean_score([1.0, 3.0], [7, 7]) == metrics.Score(2.0, None, None)
    constant = metrics.mean_score(np.full(30, 0.25), np.arange(30))
    assert constant == metrics.Score(0.25, 0.25, 0.25)


def test_confusion_and_balanced_accuracy():
    matrix = metrics.confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    assert matrix == [[2, 1], [0, 1]]
    assert metrics.balanced_accuracy(matrix) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.balanced_accuracy([[3, 1], [0, 0]]) == pytest.approx(0.75)


def test_reading_scores_of_a_table_done_by_hand():
    table = pd.DataFrame(
        {
            "particle": [0, 0, 1],
            "ordering": ["janus", "janus", "core_shell"],
            "ordering_predicted": ["janus", "core_shell", "core_shell"],
            "p_core_shell": [0.1, 0.6, 0.9],
            "n_atoms": [100, 100, 200],
            "n_atoms_predicted": [90.0, 130.0, 200.0],
            "fraction_first": [0.5, 0.5, 0.2],
            "fraction_first_predicted": [0.4, 0.6, 0.3],
        }
    )
    training = pd.DataFrame({"ordering": ["janus"], "n_atoms": [150], "fraction_first": [0.4]})
    scores = TASKS["reading"]().score(table, training)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["accuracy_baseline"] == pytest.approx(2 / 3)
    assert scores["confusion"]["true_by_predicted"] == [[1, 0], [1, 1]]
    assert scores["size_mae_atoms"] == pytest.approx(40 / 3)
    assert scores["size_mae_baseline_atoms"] == pytest.approx(50)
    assert scores["composition_mae"] == pytest.approx(0.1)
    assert scores["composition_mae_baseline"] == pytest.approx(0.4 / 3)
    # by particle: mean over the views first, so particle 0 is read as Janus, 110 atoms, 0.5
    assert scores["per_particle"]["accuracy"] == 1
    assert scores["per_particle"]["size_mae_atoms"] == pytest.approx(5)
    assert scores["per_particle"]["composition_mae"] == pytest.approx(0.05)


def test_accuracy_counts_the_images_with_an_order():
    table = pd.DataFrame(
        {
            "particle": [0, 1, 2, 3],
            "ordering": pd.array(["janus", "core_shell", "other", None], dtype="string"),
            "ordering_predicted": ["janus", "janus", "janus", "core_shell"],
            "p_core_shell": [0.1, 0.4, 0.2, 0.9],
            "n_atoms": [100, 100, 100, 100],
            "n_atoms_predicted": [100.0, 100.0, 120.0, 140.0],
            "fraction_first": [0.5, 0.5, 0.5, 1.0],
            "fraction_first_predicted": [0.5, 0.5, 0.5, 0.8],
        }
    )
    training = table[["ordering", "n_atoms", "fraction_first"]]
    scores = TASKS["reading"]().score(table, training)
    assert (scores["accuracy"], scores["accuracy_baseline"], scores["n_ordered"]) == (0.5, 0.5, 2)
    assert scores["confusion"]["true_by_predicted"] == [[0, 1], [0, 1]]
    assert scores["size_mae_atoms"] == pytest.approx(15)
    nothing = TASKS["reading"]().score(table[2:], training)
    names = ("accuracy", "accuracy_low", "accuracy_high", "accuracy_baseline", "balanced_accuracy")
    assert [nothing[name] for name in names] == [None] * 5
    assert nothing["per_particle"]["accuracy"] is None
    assert nothing["size_mae_atoms"] == pytest.approx(30)


def test_a_test_particle_that_was_seen_stops_the_evaluation():
    metrics.check_separation([1, 2], [3])
    with pytest.raises(GateError, match=r"1 of 2 test particles, or relatives of theirs, were seen .*: 3;"):
        metrics.check_separation([1, 2, 3], [3, 4])


def test_views_are_read_together_by_log_odds_and_by_the_widths_of_their_intervals():
    table = pd.DataFrame(
        {
            "particle": [7, 7, 8],  # the view left over of particle 8 does not count
            "ordering": "core_shell",
            "p_core_shell": [0.9, 0.5, 0.1],
            "n_atoms": 100,
            "n_atoms_predicted": [100.0, 200.0, 1.0],
            "fraction_first": 0.5,
            "fraction_first_predicted": [0.4, 0.6, 0.0],
        }
    )
    alike = together(table, 2).iloc[0]
    assert alike["p_core_shell"] == pytest.approx(3 / 4)  # √(9 · 1) : 1
    assert alike["n_atoms_predicted"] == pytest.approx(100 * 2**0.5)
    assert alike["fraction_first_predicted"] == pytest.approx(0.5)
    # the first view's interval of ln n is half as wide, the second one's of the fraction a third
    factors = np.exp([0.1, 0.2, 0.1])
    ends = {"n_atoms_low": table["n_atoms_predicted"] / factors, "n_atoms_high": table["n_atoms_predicted"] * factors}
    ends |= {"fraction_first_low": [0.1, 0.5, 0.0], "fraction_first_high": [0.7, 0.7, 0.3]}
    weighted = together(table.assign(**ends), 2)
    assert len(weighted) == 1
    assert weighted["n_atoms_predicted"].item() == pytest.approx(100 * 2**0.2)
    assert weighted["fraction_first_predicted"].item() == pytest.approx((0.4 + 9 * 0.6) / 10)
    endless = table.assign(**ends | {"n_atoms_high": np.inf})
    assert together(endless, 2)["n_atoms_predicted"].item() == pytest.approx(100 * 2**0.5)
