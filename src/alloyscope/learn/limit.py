"""The limit that counting statistics set to reading the order: an ideal observer between two decorations.

The observer knows optics, dose, place and orientation of every atom; it does not know which of two decorations of the
positions it sees, a core-shell or a Janus one of the same composition. It takes the more likely one, which no other
decision beats (Neyman and Pearson 1933). Structure and orientation, which a network has to find out as well, cost it
nothing.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from alloyscope.contracts import require


def core_shell(positions_A: NDArray[np.float64], n_first: int) -> NDArray[np.bool_]:
    """Which atoms are of the first species, shape (n,), if these are the farthest from the centre."""
    distances = np.linalg.norm(positions_A - positions_A.mean(axis=0), axis=1)
    return _largest(distances, n_first)


def janus(positions_A: NDArray[np.float64], n_first: int, axis: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which atoms are of the first species, shape (n,), if a plane across `axis` separates the two."""
    return _largest(positions_A @ axis, n_first)


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    require(0 <= count <= len(values), f"atoms of the first species must be 0 to {len(values)}; got {count}")
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(values, kind="stable")[len(values) - count :]] = True
    return chosen


class Observer(NamedTuple):
    """Moments of the log-likelihood ratio per electron per pixel of the incident beam: ln L(second) − ln L(first).

    Its means and variances are proportional to the electrons.
    """

    means: tuple[float, float]  # if the first, if the second is true
    variances: tuple[float, float]

    def accuracy(self, electrons: Any) -> NDArray[np.float64]:
        """Share of right decisions at equal priors, for a normal ratio; electrons per pixel, of any shape.

        The ratio is a sum over many pixels, so it is nearly normal unless few electrons are scattered at all.
        """
        n = np.asarray(electrons, dtype=np.float64)
        first, second = (abs(mean) / np.sqrt(variance) for mean, variance in zip(self.means, self.variances))
        return np.asarray((ndtr(first * np.sqrt(n)) + ndtr(second * np.sqrt(n))) / 2)

    def electrons_for(self, accuracy: float) -> float:
        """Electrons per pixel at which the share of right decisions is `accuracy`, between ½ and 1.

        The two rates of right decisions per √electrons are nearly equal; their mean is used.
        """
        require(0.5 < accuracy < 1, f"accuracy must be between 0.5 and 1; got {accuracy}")
        rates = [abs(mean) / np.sqrt(variance) for mean, variance in zip(self.means, self.variances)]
        return float((ndtri(accuracy) / np.mean(rates)) ** 2)


def observer(first: NDArray[Any], second: NDArray[Any]) -> Observer:
    """The ideal observer of two expected images in units of the incident beam, shape (y, x) each.

    With λ_i = N c_i, the ratio of counts k is Σ k ln(c_2/c_1) − N (c_2 − c_1).

    Raises:
        ContractError: the images have different shapes, are not above 0, or are equal.
    """
    one, two = checked(first, second)
    log, excess = np.log(two / one), (two - one).sum()
    means = (float((one * log).sum() - excess), float((two * log).sum() - excess))
    variances = (float((one * log**2).sum()), float((two * log**2).sum()))
    return Observer(means, variances)


def sampled_accuracy(
    first: NDArray[Any], second: NDArray[Any], electrons: float, draws: int, rng: np.random.Generator
) -> float:
    """Share of right decisions over so many drawn images of each of the two, with the exact likelihood ratio."""
    one, two = checked(first, second)
    log, excess = np.log(two / one), electrons * (two - one).sum()
    right = 0.0
    for _ in range(draws):
        for truth, sign in ((one, -1), (two, 1)):
            ratio = (rng.poisson(electrons * truth) * log).sum() - excess
            right += 0.5 if ratio == 0 else float(sign * ratio > 0)
    return right / (2 * draws)


def checked(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, two = first.astype(np.float64), second.astype(np.float64)
    require(one.shape == two.shape, f"the two images must have one shape; got {one.shape} and {two.shape}")
    require(bool((one > 0).all() and (two > 0).all()), "both images must be above 0 everywhere")
    require(not np.array_equal(one, two), "the two images must differ; these are equal")
    return one, two
