"""The background of an image: its level and noise, whatever gain, dose, particle and film are."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from alloyscope.errors import ContractError
from alloyscope.learn.background import CLIP, NORMAL, background, backgrounds
from alloyscope.learn.data import in_units_of_background

EDGE = 128


def disc(radius: float, centre: tuple[float, float], depth: float, edge: int = EDGE) -> np.ndarray:
    """Vacuum of 1 around a disc with lattice fringes of 5 pixels, `depth` darker in the mean."""
    y, x = np.indices((edge, edge))
    inside = np.hypot(y - centre[0], x - centre[1]) < radius
    return 1 - inside * depth * (1 + 2 * np.cos(2 * np.pi * (x + 0.3 * y) / 5))


@pytest.mark.parametrize("electrons", [19.0, 189.0, 1890.0])  # 100, 1000, 10 000 e/Å² at 23 px/nm
def test_vacuum_and_its_noise(electrons):
    image = 3.7 * np.random.default_rng(1).poisson(electrons, (EDGE, EDGE))
    found = background(image)
    # the mean of 128² Poisson numbers, to four standard deviations
    assert found.level == pytest.approx(3.7 * electrons, rel=4 / (EDGE * np.sqrt(electrons)))
    assert found.noise == pytest.approx(3.7 * np.sqrt(electrons), rel=0.04)
    assert found.electrons == pytest.approx(electrons, rel=0.08)


@pytest.mark.parametrize(
    ("radius", "centre"),
    [(37, (64, 64)), (30, (30, 40)), (37, (95, 95)), (50, (64, 64))],
    ids=["1000 atoms", "off the centre", "in a corner", "half of the field"],
)
@pytest.mark.parametrize(("electrons", "error"), [(189.0, 0.004), (1890.0, 0.002)])
def test_particle_is_no_background(radius, centre, electrons, error):
    clean = disc(radius, centre, 0.04)
    assert abs(clean.mean() - 1) > 1.5 * error  # the mean of the image would be wrong
    image = np.random.default_rng(2).poisson(electrons * clean)
    found = background(image)
    assert found.level == pytest.approx(electrons, rel=error)
    assert found.electrons == pytest.approx(electrons, rel=0.1)


def by_numpy(image: np.ndarray) -> tuple[float, float]:
    """Level and noise of an image of 128² pixels, found with NumPy and SciPy."""
    blocks = image.astype(np.float64).reshape(32, 4, 32, 4)
    means, variances = blocks.mean(axis=(1, 3)), blocks.var(axis=(1, 3), ddof=1)
    smooth = gaussian_filter(means, 2.0)
    rim = np.ones((32, 32), bool)
    rim[4:-4, 4:-4] = False
    level = np.median(smooth[rim])
    near = CLIP * NORMAL * np.median(abs(smooth[rim] - level))
    for _ in range(10):
        kept = abs(smooth - level) <= near
        level = means[kept].mean()
    return level, np.sqrt(variances[kept].mean())


def test_a_batch_has_the_backgrounds_of_its_images():
    """Vacuum, particles in the middle and in a corner, a film that fills the image, from few to many electrons."""
    rng = np.random.default_rng(6)
    texture = gaussian_filter(rng.standard_normal((EDGE, EDGE)), 2, mode="wrap")
    clean = (np.ones((EDGE, EDGE)), disc(37, (64, 64), 0.04), disc(37, (95, 95), 0.1), 0.93 + 0.2 * texture)
    images = np.stack([rng.poisson(dose * image) for image in clean for dose in (5.0, 200.0, 20_000.0)])
    wanted = np.array([by_numpy(image) for image in images]).T
    exact = backgrounds(torch.from_numpy(images.astype(np.float64)))
    np.testing.assert_allclose(torch.stack(exact), wanted, rtol=1e-12)
    # In float32 a block at the edge of being near may fall to the other side.
    np.testing.assert_allclose(torch.stack(backgrounds(torch.from_numpy(images).float())), wanted, rtol=1e-3)
    one = background(images[4])
    assert (one.level, one.noise) == pytest.approx(wanted[:, 4], rel=1e-12)
    assert exact.electrons[4].item() == pytest.approx(one.electrons)


def test_film_that_fills_the_image_is_the_background():
    rng = np.random.default_rng(3)
    texture = gaussian_filter(rng.standard_normal((EDGE, EDGE)), 2, mode="wrap")  # ten points a speckle
    film = 0.93 + 0.03 * texture / texture.std()
    found = background(rng.poisson(500 * film))
    assert found.level == pytest.approx(0.93 * 500, rel=0.004)
    # shot noise alone would give 465 electrons, the variance of all pixels, noise and texture, 314
    assert 314 < found.electrons < 465


def test_gain_cancels():
    image = np.random.default_rng(4).poisson(100 * disc(30, (50, 60), 0.05))
    plain, electrons = in_units_of_background(image)
    for gain in (0.995, 1.05, 1.5, 40.0):
        scaled, same = in_units_of_background(gain * image)
        np.testing.assert_allclose(scaled, plain, rtol=1e-6)
        assert same == pytest.approx(electrons, rel=1e-9)


def test_offset_error_shrinks_the_contrast_and_nothing_else():
    """With δ of the background too many counts, I becomes (I + δ)/(1 + δ)."""
    image = 12 + np.random.default_rng(5).poisson(200 * disc(30, (64, 64), 0.05))
    plain, electrons = in_units_of_background(image, offset=12)
    level = background(image - 12.0).level
    for error in (-0.02, 0.005, 0.5):
        wrong, seen = in_units_of_background(image + error * level, offset=12)
        np.testing.assert_allclose(wrong - 1, (plain - 1) / (1 + error), atol=1e-6)
        assert seen == pytest.approx(electrons * (1 + error) ** 2, rel=1e-6)


@pytest.mark.parametrize("edges", [(8, 8), (16, 16), (32, 48), (100, 130)])
def test_images_of_any_shape(edges):
    found = background(np.full(edges, 5.0))
    assert found.level == pytest.approx(5)
    assert found.electrons == pytest.approx(1e8)  # without noise


def test_what_has_no_background_is_refused():
    with pytest.raises(ContractError, match="background of an image must be above the camera's offset; got -3 counts"):
        in_units_of_background(np.full((32, 32), 7), offset=10)
    with pytest.raises(ContractError, match=r"an image must have at least 8 pixels along an edge; got \(32, 7\)"):
        background(np.ones((32, 7)))
    image = np.ones((32, 32))
    image[3, 4] = np.nan
    with pytest.raises(ContractError, match="an image must be finite everywhere to have a background"):
        background(image)
