"""Exposures in batches, against closed forms, SciPy's Poisson distribution and the camera of single images."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from scipy.stats import poisson as exact

from alloyscope.learn.exposure import MANY, Cameras, drawn_cameras, expose, many_electrons, poisson
from alloyscope.microscope import detector as single
from alloyscope.microscope.settings import DetectorSection
from alloyscope.sections import LogUniform

MTF = (0.1, 0.35, 2.5)


def cameras(count: int, **values: float) -> Cameras:
    plain = {"vacuum_e": 100.0, "readout_e": 0.0, "gain_map_rms": 0.0, "gain": 1.0, "offset": 0.0}
    columns = {name: torch.full((count,), value) for name, value in (plain | values).items()}
    return Cameras(**columns, mtf=torch.tensor([MTF]).repeat(count, 1))


@pytest.mark.parametrize("mean", [MANY, 20.3, 100.0, 2000.0])
def test_expansion_of_large_means_is_nearly_poisson(mean):
    """Its whole distribution, from the probabilities of the standard normal numbers that give each whole number."""
    z = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    edges = norm.cdf(np.linspace(-8 - 2e-5, 8 + 2e-5, 400_002))
    numbers = many_electrons(torch.full_like(z, mean), z).numpy()
    weights = np.diff(edges)
    found_mean = weights @ numbers
    variance = weights @ (numbers - found_mean) ** 2
    skewness = weights @ (numbers - found_mean) ** 3 / variance**1.5
    assert found_mean == pytest.approx(mean, rel=1e-6)
    assert variance == pytest.approx(mean, rel=1e-4)
    assert skewness == pytest.approx(mean**-0.5, rel=0.02)
    counts = np.arange(int(mean + 10 * mean**0.5))
    probabilities = np.bincount(numbers.clip(0, counts[-1]).astype(int), weights, len(counts))
    assert abs(probabilities - exact.pmf(counts, mean)).sum() / 2 < 5e-4


def test_few_electrons_are_exactly_poisson():
    means = torch.tensor([0.0, 0.3, 4.0, MANY - 0.1]).repeat_interleave(100_000)
    drawn = poisson(means, torch.Generator().manual_seed(1)).reshape(4, -1).numpy()
    assert (drawn[0] == 0).all()
    for row, mean in zip(drawn[1:], (0.3, 4.0, MANY - 0.1)):
        seen = np.bincount(row.astype(int), minlength=60) / row.size
        # the expected total variation of 1e5 numbers spread over about ten values is below 0.4 %
        assert abs(seen - exact.pmf(np.arange(len(seen)), mean)).sum() / 2 < 0.01


def test_what_is_no_intensity_gives_no_counts():
    clean = torch.tensor([1.0, -0.1, float("nan")])[:, None, None].repeat(1, 4, 4)
    counts = expose(clean, cameras(3), DetectorSection(), torch.Generator().manual_seed(1))
    assert counts.isnan().all(dim=(1, 2)).tolist() == [False, True, True]


@pytest.mark.parametrize("camera", ["counting", "scintillator"])
def test_exposures_have_the_distribution_of_single_ones(camera):
    """Mean, variance and correlation of neighbours of 60 images, whose electrons are few in one half."""
    settings = DetectorSection(camera=camera, readout_e=(0.0, 2.0), gain_map_rms=(0.0, 0.1))
    clean = np.ones((60, 32, 32), np.float32)
    clean[:, :, 16:] = 0.05
    values = {"vacuum_e": 100.0, "readout_e": 2.0, "gain_map_rms": 0.1, "gain": 3.0, "offset": 40.0}
    drawn = expose(torch.from_numpy(clean), cameras(60, **values), settings, torch.Generator().manual_seed(2)).numpy()
    rng = np.random.default_rng(3)
    options = {"dose_e_per_A2": 400.0, "pixel_size_A": 0.5, "readout_e": 2.0, "gain_map_rms": 0.1, "rng": rng}
    known = settings.model_copy(update={"gain": 3.0, "offset": 40.0})
    wanted = np.stack([single.expose(image, mtf_parameters=MTF, detector=known, **options) for image in clean])
    for half in (slice(2, 14), slice(18, 30)):
        one, other = (images[:, :, half].astype(float) for images in (drawn, wanted))
        assert one.mean() == pytest.approx(other.mean(), rel=0.005)
        assert one.var() == pytest.approx(other.var(), rel=0.05)
        neighbours = [np.corrcoef(images[:, :-1].ravel(), images[:, 1:].ravel())[0, 1] for images in (one, other)]
        assert neighbours[0] == pytest.approx(neighbours[1], abs=0.03)
    assert (drawn == np.rint(drawn)).all()


def test_counts_end_at_65535_and_begin_at_0():
    counts = expose(torch.ones(2, 8, 8), cameras(2, gain=1000.0), DetectorSection(), torch.Generator().manual_seed(1))
    assert (counts == 65_535).all()
    below = expose(torch.ones(2, 8, 8), cameras(2, offset=-1e4), DetectorSection(), torch.Generator().manual_seed(1))
    assert (below == 0).all()


def test_cameras_are_drawn_within_their_bounds():
    settings = DetectorSection(
        dose_e_per_A2=LogUniform(log_uniform=(100.0, 10_000.0)), readout_e=(1.0, 2.0), gain=2.0, offset=10
    )
    rng = np.random.default_rng(1)
    found = drawn_cameras(settings, (0.9, 1.1), (-0.02, 0.02), 0.5, np.zeros((4000, 3)), rng)
    assert (found.vacuum_e >= 25).all()
    assert (found.vacuum_e <= 2500).all()
    assert found.vacuum_e.log().mean() == pytest.approx(np.log(250), abs=0.1)
    assert found.readout_e.mean() == pytest.approx(1.5, abs=0.02)
    assert found.gain.min() == pytest.approx(1.8, abs=0.01)
    assert found.gain.max() == pytest.approx(2.2, abs=0.01)
    shares = (found.offset - 10) / (2 * found.vacuum_e)
    assert shares.min() == pytest.approx(-0.02, abs=1e-3)
    assert shares.max() == pytest.approx(0.02, abs=1e-3)
