"""Denoisers compared by dose: masks, samples, tuning, gains; and baselines of reading, on discs of known content."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from alloyscope.figures.denoising import comparison_by_dose
from alloyscope.learn import comparison
from alloyscope.learn.baselines import baseline_scores, features_by_baseline, predictions
from alloyscope.learn.classical import METHODS, Classical
from alloyscope.learn.comparison import by_dose, dose_bin, particle_mask, smallest_gain, spread
from alloyscope.learn.data import read_released
from alloyscope.learn.descriptors import image_descriptors, silhouette_descriptors
from alloyscope.learn.networks import TalkNetwork
from alloyscope.learn.tasks.denoising import METHODS as NAMES
from alloyscope.learn.tasks.denoising import PLAIN, SCORES, column
from alloyscope.microscope.settings import DetectorSection
from tests.stages.synthetic_images import build


def disc(radius: float, pixels: int = 128, contrast: float = 0.2) -> np.ndarray:
    y, x = np.indices((pixels, pixels)) - (pixels - 1) / 2
    return 1 - contrast * (np.hypot(x, y) < radius)


def test_the_names_of_the_task_are_the_methods():
    assert tuple(METHODS) == NAMES


def test_mask_is_the_disc_and_a_rim_of_smoothing():
    """Beyond a straight edge the squared contrast is Φ(−d/σ), which falls to 0.2² at d = 1.75 σ."""
    area = particle_mask(disc(30.0)).sum()
    assert np.sqrt(area / np.pi) == pytest.approx(30 + 1.75 * comparison.SMOOTHED, abs=1.0)
    assert particle_mask(disc(30.0, contrast=1e-3)).sum() == area


def test_quality_in_the_particle_counts_only_there():
    truth = torch.from_numpy(disc(20.0))[None, None]
    inside = torch.from_numpy(particle_mask(truth[0, 0].numpy()))[None, None].double()
    wrong = truth + 0.1 * inside
    found = comparison.quality(wrong, truth, inside)
    share = float(inside.mean())
    assert found["psnr_inside"].item() == pytest.approx(20)
    assert found["psnr"].item() == pytest.approx(20 - 10 * np.log10(share))
    assert found["ssim_inside"].item() < found["ssim"].item() < 1
    outside = comparison.quality(truth + 0.1 * (1 - inside), truth, inside)
    assert outside["psnr_inside"].item() == np.inf


def test_dose_bins():
    assert comparison.EDGES[dose_bin([100, 299, 300, 9999, 10000])].tolist() == [100, 100, 300, 3000, 10000]


def test_spread_takes_different_particles_first():
    table = pd.DataFrame({"particle": [0, 0, 0, 1, 1, 2]})
    assert spread(table, 3).tolist() == [0, 3, 5]
    assert spread(table, 2).tolist() == [0, 5]
    assert spread(table, 9).tolist() == [0, 1, 2, 3, 4, 5]


def test_tuning_takes_the_best_strength_of_each_score_and_bin():
    """A method that answers with its strength everywhere is best at the background, and in the disc at its depth."""
    truth = disc(30.0)
    table = pd.DataFrame({"particle": [0, 1], "image": [0, 1], "dose_e_per_A2": [150.0, 2000.0]})
    level = Classical("a level", lambda image, strength: 0 * image + 2 * np.sqrt(strength * 1e4 + 3 / 8), (0.8, 1.0))
    best = comparison.tuned(table, lambda row: (truth, truth, 1e4), {"level": level})
    assert {number for number, _ in best} == set(dose_bin([150, 2000]))
    for chosen in best.values():
        assert chosen[:2].tolist() == [1.0, 0.8]  # over the image, in the particle


def compared(**shifts: float) -> pd.DataFrame:
    table = pd.DataFrame({"particle": [0, 1, 2, 3, 4], "dose_e_per_A2": [150.0, 200, 2000, 2500, 2500]})
    for score in SCORES:
        for place, of in enumerate((*PLAIN, *NAMES)):
            table[column(score, of)] = 20.0 + place + shifts.get(of, 0.0)
    bright = table["dose_e_per_A2"] > 1000
    table.loc[bright, "psnr_dB"] += 3
    table.loc[4, [column(score, of) for score in SCORES for of in NAMES]] = np.nan  # was not compared
    return table


def test_gain_is_that_over_the_best_method_in_the_worst_bin():
    """The network has 22 dB and 25 dB; the best, bm3d, 27 dB, and with a shift non-local means 29.5 dB."""
    rows = by_dose(compared())
    assert [(row["dose_low"], row["dose_high"], row["images"]) for row in rows] == [(100, 300, 2), (1000, 3000, 2)]
    assert [row["best"] for row in rows] == ["bm3d", "bm3d"]
    assert [row["gain_dB"] for row in rows] == [-5, -2]
    assert [row["gain_inside_dB"] for row in rows] == [-5, -5]
    assert smallest_gain(rows).value == -5
    assert smallest_gain([]).value is None
    assert by_dose(compared(nlm=4.5))[0]["best"] == "nlm"
    figure = comparison_by_dose(rows, {"noisy": "noisy", "network": "network", "bm3d": "BM3D"})
    lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"noisy": [20, 20], "network": [22, 25], "BM3D": [27, 27]}


def test_errors_without_truth_are_compared_on_the_same_images():
    table = pd.DataFrame({"mse_compared": [0.01, 0.03, 9.0], "mse_thinned": [0.02, 0.02, np.nan]})
    found = comparison.without_truth(table)
    assert found["psnr_compared_dB"] == pytest.approx(found["psnr_without_truth_dB"]) == pytest.approx(16.99, abs=0.01)
    assert found["images_without_truth"] == 2
    assert comparison.without_truth(table[2:])["psnr_without_truth_dB"] is None


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("set")
    return read_released(build(folder, n_particles=400))


def test_baselines_learn_what_they_are_shown(released):
    """A disc's area is the number of atoms; the order is in the depth, which the outline does not show."""
    scores = baseline_scores(released, DetectorSection())
    size = {name: each["size_mae_atoms"] for name, each in scores.items()}
    assert size["told"] < size["silhouette"] < 0.6 * size["constants"]
    assert size["descriptors"] < 0.6 * size["constants"]
    balanced = {name: each["balanced_accuracy"] for name, each in scores.items()}
    assert balanced["constants"] == 0.5
    assert balanced["told"] < 0.65
    assert balanced["silhouette"] < 0.65
    assert balanced["descriptors"] > 0.7
    assert scores["descriptors"]["composition_mae"] < 0.6 * scores["constants"]["composition_mae"]


def test_constants_are_medians_and_the_commoner_order(released):
    training, tested = released.rows("train"), released.rows("test")
    table = predictions(training, tested, None, None)
    assert (table["n_atoms_predicted"] == training["n_atoms"].median()).all()
    assert set(table["ordering_predicted"]) == {training["ordering"].mode()[0]}
    assert features_by_baseline(released, DetectorSection())["constants"](tested) is None


def test_descriptors_do_not_change_when_an_image_is_turned():
    image = np.random.default_rng(0).poisson(200 * disc(12.0, 64)) / 200
    found = image_descriptors(image, 200.0)
    # Smoothed by σ, the contrast 0.2 falls to three times the smoothed noise of 0.01 at 1.04 σ beyond the edge.
    assert found[2] == pytest.approx(np.pi * (12 + 1.04 * 2) ** 2, rel=0.1)
    assert found[2] * found[3] == pytest.approx(0.2 * np.pi * 12**2, rel=0.05)
    for turned in (np.rot90(image), image[::-1]):
        np.testing.assert_allclose(image_descriptors(turned, 200.0), found, atol=1e-8)
    outline = silhouette_descriptors(disc(12.0, 64))
    radius = np.sqrt(outline[0] / np.pi)
    np.testing.assert_allclose(outline[1:3], radius / 2, rtol=0.02)
    assert (outline[3:] < 0.05).all()


def test_network_of_the_earlier_code():
    """Weights of 3 × 3 convolutions 1→32→32→32→32, then 8192→1024→768→5, and their biases."""
    network = TalkNetwork()
    convolutions = 9 * 32 + 3 * 9 * 32 * 32 + 4 * 32
    dense = 8192 * 1024 + 1024 + 1024 * 768 + 768 + 768 * 5 + 5
    assert sum(weight.numel() for weight in network.parameters()) == convolutions + dense
    image = torch.ones(2, 1, 128, 128)
    assert network(image, torch.ones(2)).shape == (2, 5)
