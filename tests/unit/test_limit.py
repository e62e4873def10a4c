"""The ideal observer against closed forms."""

import numpy as np
import pytest
from scipy.stats import norm, skellam

from alloyscope.errors import ContractError
from alloyscope.learn.limit import core_shell, janus, observer, sampled_accuracy

FLAT = np.ones((64, 64))


def halves(contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """Two images that exchange a brighter and a darker half."""
    image = FLAT.copy()
    image[:, :32], image[:, 32:] = 1 + contrast, 1 - contrast
    return image, image[:, ::-1].copy()


def test_decorations_keep_the_composition_and_place_the_species():
    positions = np.random.default_rng(0).normal(size=(200, 3))
    shell, side = core_shell(positions, 80), janus(positions, 80, np.array([0.0, 0.0, 1.0]))
    assert shell.sum() == side.sum() == 80
    distances = np.linalg.norm(positions - positions.mean(axis=0), axis=1)
    assert distances[shell].min() > distances[~shell].max()
    assert positions[side, 2].min() > positions[~side, 2].max()
    assert not core_shell(positions, 0).any()
    assert core_shell(positions, 200).all()


def test_two_weak_halves():
    """For small c, the ratio has the means ±2 c² n and the variance 4 c² n over n pixels and N electrons each."""
    contrast, electrons = 0.004, 20.0
    seen = observer(*halves(contrast))
    assert seen.accuracy(electrons) == pytest.approx(norm.cdf(contrast * np.sqrt(FLAT.size * electrons)), rel=1e-4)
    assert seen.electrons_for(float(seen.accuracy(electrons))) == pytest.approx(electrons, rel=1e-3)


def test_sampling_agrees_with_the_exact_distribution():
    """The sum over a half is Poisson, so the decision is that between two such numbers (Skellam 1946)."""
    contrast, electrons = 0.05, 0.1
    bright, dark = electrons * 2048 * (1 + contrast), electrons * 2048 * (1 - contrast)
    exact = skellam.sf(0, bright, dark) + skellam.pmf(0, bright, dark) / 2
    sampled = sampled_accuracy(*halves(contrast), electrons, 1500, np.random.default_rng(1))
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 3000))
    assert observer(*halves(contrast)).accuracy(electrons) == pytest.approx(exact, abs=0.01)


def test_accuracy_begins_at_chance_and_rises_with_the_dose():
    rising = observer(*halves(0.01)).accuracy(np.array([1e-9, 0.1, 1.0, 10.0, 1000.0]))
    assert rising[0] == pytest.approx(0.5, abs=1e-4)
    assert (np.diff(rising) > 0).all()
    assert rising[-1] == pytest.approx(1)


def test_faulty_input_is_refused():
    with pytest.raises(ContractError, match="must have one shape"):
        observer(FLAT, FLAT[:32])
    with pytest.raises(ContractError, match="above 0 everywhere"):
        observer(FLAT, 0 * FLAT)
    with pytest.raises(ContractError, match="must differ"):
        observer(FLAT, FLAT)
    with pytest.raises(ContractError, match=r"accuracy must be between 0\.5 and 1; got 1"):
        observer(*halves(0.1)).electrons_for(1.0)
    with pytest.raises(ContractError, match="atoms of the first species must be 0 to 5; got 6"):
        core_shell(np.zeros((5, 3)), 6)
