"""A score of a denoiser that needs no truth: electrons are shared out by chance, and predicted from the others.

Poisson numbers k of mean λ that are shared out at random are independent Poisson numbers (binomial thinning). Of FOLDS
shares k_j, each is left out once: the denoiser's output f_j, made from the others, is independent of t_j = FOLDS k_j,
whose mean is λ. So the mean of f_j² − 2 f_j t_j + k (k − 1) is the squared error (f_j − λ)², without bias, because k
(k − 1) has the mean λ² (compare uMSE, Marcos Morales et al., ICML 2023).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import require
from alloyscope.learn.background import background

FOLDS = 20  # the denoiser sees 19 of 20 electrons, which costs it at most 10 lg(20/19) = 0.22 dB
TILE = 8  # pixels along the edge of the tiles whose scatter gives the standard error
WHOLE = 0.05  # electrons by which a counted number may differ from a whole one

Denoiser = Callable[[NDArray[np.float64]], NDArray[Any]]  # electrons of an image → their expected numbers, (y, x)


class Estimate(NamedTuple):
    """Mean squared error of a denoised image in units of its squared background, and the standard error of this."""

    mse: float
    error: float

    @property
    def psnr_dB(self) -> float:
        """Peak signal-to-noise ratio, infinite if the estimate of the squared error is not above 0."""
        return float("inf") if self.mse <= 0 else float(-10 * np.log10(self.mse))


def electrons_of(counts: NDArray[Any], gain: float, offset: float) -> NDArray[np.int64]:
    """Electrons of each pixel of a counting camera from stored counts.

    Raises:
        ContractError: the counts are not those of whole numbers of electrons.
    """
    numbers = (counts.astype(np.float64) - offset) / gain
    whole = np.rint(numbers)
    fits = bool(np.isfinite(numbers).all() and (whole >= 0).all() and (abs(numbers - whole) <= WHOLE).all())
    require(
        fits,
        f"counts must be whole numbers of electrons ≥ 0 times the gain {gain:g}, plus the offset {offset:g}, because "
        f"electrons are shared out; got {numbers.min():.4g} to {numbers.max():.4g} electrons per pixel; give the "
        "camera's own gain and offset; images of a scintillator or with readout noise cannot be scored in this way",
    )
    return whole.astype(np.int64)


def estimate(
    counts: NDArray[Any],
    denoise: Denoiser,
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    offset: float = 0.0,
    folds: int = FOLDS,
) -> Estimate:
    """Estimate the squared error of a denoiser on one image from its counts alone.

    The estimate scatters, by about √(2/n)/N² for n pixels of N electrons: an image of 128 × 128 pixels is too small
    for a denoised image of high quality, and many images or a large one are needed. `error` says by how much.

    Args:
        counts: Stored counts of a counting camera, shape (y, x).
        denoise: Expected electrons of each pixel from electrons, (y, x) → (y, x).
        rng: Random stream that shares the electrons out.
        gain, offset: Stored counts per electron, and those at zero electrons.
        folds: Number of shares.

    Raises:
        ContractError: the counts are not those of whole electrons, or the image has no background above 0.
    """
    require(folds >= 2, f"folds must be at least 2; got {folds}")
    electrons = electrons_of(counts, gain, offset)
    level = background(electrons).level
    left, terms = electrons.copy(), electrons * (electrons - 1.0)
    for fold in range(folds):
        share = rng.binomial(left, 1 / (folds - fold))
        left -= share
        output = denoise(np.asarray((electrons - share) * (folds / (folds - 1)), dtype=np.float64)).astype(np.float64)
        terms += (output**2 - 2 * output * folds * share) / folds
    terms /= level**2
    rows, columns = (edge // TILE for edge in terms.shape)
    tiles = terms[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE).mean(axis=(1, 3))
    return Estimate(float(terms.mean()), float(tiles.std(ddof=1) / np.sqrt(tiles.size)))
