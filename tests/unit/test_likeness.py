"""Likeness: p-values are uniform over images like the training, and small for others."""

import numpy as np
import pytest

from alloyscope.learn.likeness import Likeness, descriptors


def images(n: int, period: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors and electrons of images with a fringe of a period in pixels, of random phase, angle and dose."""
    y, x = np.indices((64, 64))
    found, doses = [], np.exp(rng.uniform(np.log(100), np.log(1000), n))
    for electrons in doses:
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        clean = 1 + 0.1 * np.cos(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        found.append(descriptors((rng.poisson(clean * electrons) / electrons).astype(np.float32), float(electrons)))
    return np.stack(found), doses


def test_white_noise_has_the_spectrum_one() -> None:
    rng = np.random.default_rng(0)
    noise = np.mean([descriptors((rng.poisson(400.0, (64, 64)) / 400).astype(np.float32), 400.0) for _ in range(50)], 0)
    assert np.exp(noise[2:-4]) == pytest.approx(1, abs=0.12)  # mean of the logarithm of means
    assert noise[-3] == pytest.approx(0, abs=0.01)  # ln(variance · electrons)
    assert noise[-1] == pytest.approx(0, abs=0.01)  # neighbours are independent


def test_p_values_are_uniform_for_the_same_and_small_for_a_wrong_pixel() -> None:
    rng = np.random.default_rng(1)
    found = Likeness.of(images(800, 5.0, rng), images(400, 5.0, rng))
    assert found is not None
    again = Likeness.model_validate_json(found.model_dump_json())
    same = again.p_values(*images(300, 5.0, rng))
    assert same.mean() == pytest.approx(0.5, abs=0.06)
    assert (same < 0.1).mean() == pytest.approx(0.1, abs=0.06)
    other = again.p_values(*images(100, 5.5, rng))
    assert (other[:, None] < same[None]).mean() > 0.95
    assert other.min() == pytest.approx(1 / 401)


def test_too_few_images_tell_nothing() -> None:
    rng = np.random.default_rng(2)
    assert Likeness.of(images(50, 5.0, rng), images(50, 5.0, rng)) is None
