"""Classical denoisers against closed forms."""

import numpy as np
import pytest

from alloyscope.errors import ContractError
from alloyscope.learn import classical
from alloyscope.learn.bm3d import _haar, _unhaar, bm3d
from alloyscope.learn.classical import METHODS, anscombe, denoised, inverse_anscombe

RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal((64, 64))


def lattice(pixels: int = 64) -> np.ndarray:
    """A particle of crossed fringes on a background of 10."""
    y, x = np.indices((pixels, pixels)) - pixels / 2
    fringes = np.cos(2 * np.pi * (0.18 * x + 0.07 * y)) + np.cos(2 * np.pi * (0.19 * y - 0.05 * x))
    return 10 + fringes * (np.hypot(x, y) < pixels / 3)


def rms(image: np.ndarray) -> float:
    return float(np.sqrt(np.mean(image**2)))


@pytest.mark.parametrize("mean", [10.0, 50.0, 1000.0])
def test_anscombe_makes_unit_noise_and_its_inverse_is_unbiased(mean):
    stabilised = anscombe(np.random.default_rng(1).poisson(mean, 400_000))
    assert stabilised.std() == pytest.approx(1, abs=0.01)
    assert inverse_anscombe(np.array([stabilised.mean()]))[0] == pytest.approx(mean, rel=3e-3, abs=0)


@pytest.mark.parametrize("name", METHODS)
def test_each_removes_noise_and_keeps_a_constant(name):
    method = METHODS[name]
    for strength in method.strengths:
        np.testing.assert_allclose(method.apply(np.full((32, 32), 7.0), strength), 7.0, atol=1e-9)
    truth = lattice()
    left = min(rms(method.apply(truth + NOISE, strength) - truth) for strength in method.strengths)
    assert left < {"gaussian": 0.75, "wiener": 0.4, "nlm": 0.6, "tv": 0.6, "bm3d": 0.35}[name]


def test_a_gaussian_leaves_the_noise_of_its_effective_pixels():
    left = classical.gaussian(np.random.default_rng(2).standard_normal((512, 512)), 2.0)
    assert left.std() == pytest.approx(1 / (2 * np.sqrt(np.pi) * 2.0), rel=0.02)


def test_wiener_shrinks_a_fringe_by_its_signal_to_noise():
    """A fringe alone in a spectrum that is not smoothed: power a²N/4 per point, so it is left with 1 − 1/P."""
    fringe = np.cos(2 * np.pi * 8 * np.arange(64) / 64) * np.ones((64, 1))
    power = 64 * 64 / 4
    np.testing.assert_allclose(classical.wiener(fringe, 1e-3), fringe * (1 - 1 / power), atol=1e-9)


def test_total_variation_lowers_a_step_by_its_perimeter_over_area():
    """Halves of m columns at 0 and 1 come nearer by strength/m each (Strong and Chan 2003)."""
    step = np.repeat([0.0, 1.0], 8) * np.ones((16, 1))
    flattened = classical.total_variation(step, 0.8)
    assert flattened[:, :8].mean() == pytest.approx(0.1, abs=0.01)
    assert flattened[:, 8:].mean() == pytest.approx(0.9, abs=0.01)


def test_total_variation_uses_an_adjoint_pair():
    u, p = RNG.standard_normal((9, 7)), RNG.standard_normal((2, 9, 7))
    p[0, -1], p[1, :, -1] = 0, 0
    assert (classical._gradient(u) * p).sum() == pytest.approx(-(u * classical._divergence(p)).sum())


def test_haar_is_orthonormal_and_inverted():
    group = RNG.standard_normal((16, 8, 8))
    turned = group.copy()
    _haar(turned)
    assert (turned**2).sum() == pytest.approx((group**2).sum())
    np.testing.assert_allclose(turned[0], group.sum(axis=0) / 4)
    _unhaar(turned)
    np.testing.assert_allclose(turned, group)


def test_bm3d_scales_with_the_noise():
    image = lattice(32) + NOISE[:32, :32]
    np.testing.assert_allclose(bm3d(3 * image, 3.0), 3 * bm3d(image, 1.0), atol=1e-9)


def test_denoised_is_in_units_of_the_background():
    counts = np.random.default_rng(3).poisson(190.0, (64, 64))
    cleaned = denoised(counts / 190, 190.0, METHODS["bm3d"], 1.0)
    assert cleaned.mean() == pytest.approx(1, abs=5e-3)
    assert cleaned.std() < 0.01


def test_faulty_images_are_refused():
    with pytest.raises(ContractError, match=r"at least 8 pixels along an edge; got \(4, 64\)"):
        bm3d(np.zeros((4, 64)), 1.0)
    with pytest.raises(ContractError, match="electrons per pixel must be above 0; got 0"):
        denoised(np.ones((8, 8)), 0.0, METHODS["tv"], 1.0)
    with pytest.raises(ContractError, match=r"image must be \(y, x\)"):
        denoised(np.ones((2, 8, 8)), 9.0, METHODS["tv"], 1.0)
