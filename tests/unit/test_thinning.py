"""The score without truth, against closed forms."""

import numpy as np
import pytest

from alloyscope.errors import ContractError
from alloyscope.learn.thinning import FOLDS, electrons_of, estimate

LEVEL, EDGE = 100.0, 512


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return np.random.default_rng(4).poisson(LEVEL, (EDGE, EDGE))


def test_a_constant_answer_has_its_squared_error(counts):
    found = estimate(counts, lambda electrons: np.full(electrons.shape, 1.1 * LEVEL), np.random.default_rng(0))
    assert found.psnr_dB == pytest.approx(20, abs=0.1)
    assert abs(found.mse - 0.01) < 4 * found.error < 0.002


def test_the_noisy_image_itself_has_the_error_of_what_it_is_made_from(counts):
    """One that is scored on the electrons it has seen would seem perfect; 19 of 20 leave the variance 20/19 λ."""
    found = estimate(counts, lambda electrons: electrons, np.random.default_rng(0))
    assert found.mse == pytest.approx(FOLDS / (FOLDS - 1) / LEVEL, abs=4 * found.error)
    assert found.psnr_dB == pytest.approx(20 - 0.22, abs=0.1)


def test_the_standard_error_is_the_scatter():
    rng, errors, found = np.random.default_rng(5), [], []
    for _ in range(60):
        small = rng.poisson(LEVEL, (64, 64))
        one = estimate(small, lambda electrons: np.full(electrons.shape, 1.05 * LEVEL), rng, folds=4)
        found.append(one.mse)
        errors.append(one.error)
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.35)
    assert np.mean(found) == pytest.approx(0.0025, abs=4 * np.std(found) / np.sqrt(60))


def test_gain_and_offset_do_not_matter(counts):
    def blurred(electrons: np.ndarray) -> np.ndarray:
        return (electrons + np.roll(electrons, 1, axis=0)) / 2

    plain = estimate(counts, blurred, np.random.default_rng(1))
    stored = estimate(counts * 3.7 + 40, blurred, np.random.default_rng(1), gain=3.7, offset=40.0)
    assert stored.mse == pytest.approx(plain.mse)
    assert plain.mse == pytest.approx(FOLDS / (FOLDS - 1) / LEVEL / 2, rel=0.05)


def test_a_perfect_answer_has_no_finite_psnr_or_a_high_one(counts):
    found = estimate(counts, lambda electrons: np.full(electrons.shape, LEVEL), np.random.default_rng(0))
    assert abs(found.mse) < 4 * found.error
    assert found.psnr_dB > 35


@pytest.mark.parametrize("faulty", [np.array([[1.0, 2.4]]), np.array([[-1.0, 3.0]]), np.array([[np.nan, 3.0]])])
def test_counts_that_are_no_electrons_are_refused(faulty):
    with pytest.raises(ContractError, match="counts must be whole numbers of electrons ≥ 0 times the gain 1, plus the"):
        electrons_of(faulty, 1.0, 0.0)
    with pytest.raises(ContractError, match="folds must be at least 2; got 1"):
        estimate(np.ones((16, 16)), lambda electrons: electrons, np.random.default_rng(0), folds=1)
