"""How like the training an image is: a p-value from the distance of its descriptors from those of training images.

The descriptors are means of the power spectrum over rings, in units of the noise, and moments of the contrast. Their
means are polynomials of the logarithm of the electrons per pixel, and each range of electrons has its covariance. The
p-value is the share of calibration images, of particles not seen in training, at a greater Mahalanobis distance: it is
uniform over images like the training, and near 0 for others.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from alloyscope.sections import Section

Floats = NDArray[np.float64]

RINGS = 32  # of the power spectrum, equally wide, from 0 to the Nyquist frequency
DEGREE = 3  # of the polynomials
SHRINKAGE = 0.02  # share of the covariance that is replaced by its diagonal
PER_DESCRIPTOR = 8  # least number of training images per descriptor and range
MOST_RANGES = 4
STEPS = 200  # quantiles that are kept of the distances


class Likeness(Section):
    """Statistics of the descriptors.

    Attributes:
        training, calibration: Numbers of images that they rest on.
        edges: Electrons per pixel between the ranges, rising.
        coefficients: Of the polynomials of log10(electrons), (DEGREE + 1, d).
        whitening: For each range, the matrix that makes residuals uncorrelated and of variance 1, (d, d).
        distances: For each range, rising quantiles of the distances of calibration images, (STEPS + 1,).
    """

    training: int
    calibration: int
    edges: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    whitening: tuple[tuple[tuple[float, ...], ...], ...]
    distances: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, training: tuple[Floats, Floats], calibration: tuple[Floats, Floats]) -> Self | None:
        """Learn the statistics; None where there are too few images.

        Args:
            training: Descriptors (n, d) and electrons per pixel (n,) of training images.
            calibration: The same of calibration images.
        """
        found, electrons = training
        n_ranges = min(MOST_RANGES, len(found) // (PER_DESCRIPTOR * found.shape[1]), len(calibration[1]) // 20)
        if n_ranges < 1:
            return None
        edges: Floats = np.quantile(electrons, np.arange(1, n_ranges) / n_ranges)
        coefficients: Floats = np.asarray(np.linalg.lstsq(_powers(electrons), found, rcond=None)[0], np.float64)
        residuals = found - _powers(electrons) @ coefficients
        place = np.searchsorted(edges, electrons, side="right")
        whitening = np.stack([_whitening(residuals[place == number]) for number in range(n_ranges)])
        other, shown = calibration
        distances = _distances(other, shown, edges, coefficients, whitening)
        where = np.searchsorted(edges, shown, side="right")
        levels = np.linspace(0, 1, STEPS + 1)
        ladders = [
            np.quantile(distances[where == number] if (where == number).any() else distances, levels)
            for number in range(n_ranges)
        ]
        return cls(
            training=len(found),
            calibration=len(other),
            edges=tuple(edges.tolist()),
            coefficients=_rounded(coefficients),
            whitening=tuple(_rounded(matrix) for matrix in whitening),
            distances=_rounded(np.stack(ladders)),
        )

    def p_values(self, descriptors: Floats, electrons: Floats) -> Floats:
        """P-value of each image, (n, d) and (n,) → (n,), between 1/(calibration + 1) and 1."""
        edges, whitening = np.asarray(self.edges), np.asarray(self.whitening)
        distances = _distances(descriptors, electrons, edges, np.asarray(self.coefficients), whitening)
        place = np.searchsorted(edges, electrons, side="right")
        levels = np.linspace(0, 1, STEPS + 1)
        below = np.array([np.interp(one, self.distances[number], levels) for one, number in zip(distances, place)])
        found: Floats = np.maximum(1 - below, 1 / (self.calibration + 1))
        return found


def descriptors(image: NDArray[np.float32], electrons: float) -> Floats:
    """Descriptors of one image in units of its background, shape (y, x), with the electrons per pixel of its noise."""
    contrast = image.astype(np.float64) - 1
    edge = min(contrast.shape)
    window = np.hanning(contrast.shape[0])[:, None] * np.hanning(contrast.shape[1])[None, :]
    power = abs(np.fft.rfft2(contrast * window)) ** 2 / (window**2).sum() * electrons  # white shot noise has 1
    ky, kx = np.fft.fftfreq(contrast.shape[0])[:, None], np.fft.rfftfreq(contrast.shape[1])[None, :]
    ring = np.minimum((np.hypot(ky, kx) * 2 * RINGS).astype(int), RINGS)
    n_rings = min(RINGS, edge // 4)
    ring = ring * n_rings // RINGS
    sums = np.bincount(ring.ravel(), power.ravel(), n_rings + 1) / np.bincount(ring.ravel(), minlength=n_rings + 1)
    spread = contrast.std()
    skewness = ((contrast - contrast.mean()) ** 3).mean() / spread**3
    neighbours = [(contrast[1:] * contrast[:-1]).mean(), (contrast[:, 1:] * contrast[:, :-1]).mean()]
    moments = [contrast.mean() * np.sqrt(electrons), np.log(spread**2 * electrons), skewness]
    found: Floats = np.array([*np.log(sums[:n_rings]), *moments, np.mean(neighbours) / spread**2])
    return found


def _powers(electrons: Floats) -> Floats:
    found: Floats = np.log10(electrons)[:, None] ** np.arange(DEGREE + 1)
    return found


def _whitening(residuals: Floats) -> Floats:
    covariance = np.cov(residuals, rowvar=False)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance))
    shrunk += 1e-9 * np.eye(len(shrunk))
    found: Floats = np.linalg.inv(np.linalg.cholesky(shrunk))
    return found


def _distances(
    descriptors: Floats, electrons: Floats, edges: Floats, coefficients: Floats, whitening: Floats
) -> Floats:
    residuals = descriptors - _powers(electrons) @ coefficients
    place = np.searchsorted(edges, electrons, side="right")
    found: Floats = np.linalg.norm(np.einsum("nij,nj->ni", whitening[place], residuals), axis=1)
    return found


def _rounded(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(f"{value:.7g}") for value in row) for row in matrix.tolist())
