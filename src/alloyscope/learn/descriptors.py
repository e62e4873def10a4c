"""Descriptors of images: what a baseline may know of an image, or of a silhouette alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from alloyscope.learn.comparison import particle_mask

SMOOTHED = 2.0  # pixels
CLEAR = 3.0  # standard deviations of the smoothed noise above which a pixel shows the particle
RINGS = 12  # of the radial profile, RING pixels wide each
RING = 4.0
BANDS = 16  # of the power spectrum, up to the Nyquist frequency
ORDERS = 6  # of the outline's Fourier series


def image_descriptors(image: NDArray[Any], electrons: float) -> NDArray[np.float64]:
    """Describe an image in units of its background, shape (y, x); no descriptor changes when it is turned or mirrored.

    Returns:
        lg of the electrons per pixel; missing electrons of the whole image, in pixels of background; projected area
        [pixels] and mean contrast there; contrast and its scatter beyond the noise in RINGS rings about the centre; and
        the power in BANDS rings of frequencies, in units of that of the noise, as its arsinh. Shape (2 RINGS + BANDS +
        4,).
    """
    contrast = 1 - image.astype(np.float64)
    smooth = gaussian_filter(contrast, SMOOTHED)
    noise = 1 / np.sqrt(electrons) / (2 * np.sqrt(np.pi) * SMOOTHED)
    shown = np.where(abs(smooth) > CLEAR * noise, abs(smooth), 0.0)
    area = float((shown > 0).sum())
    distance = _distance(shown if area else np.ones_like(shown))
    ring = np.minimum(distance / RING, RINGS).astype(int)
    count = np.maximum(np.bincount(ring.ravel(), minlength=RINGS + 1)[:RINGS], 1)
    profile = np.bincount(ring.ravel(), contrast.ravel(), RINGS + 1)[:RINGS] / count
    square = np.bincount(ring.ravel(), contrast.ravel() ** 2, RINGS + 1)[:RINGS] / count
    power = abs(np.fft.fft2(contrast - contrast.mean())) ** 2 * electrons / contrast.size
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(edge) for edge in contrast.shape), indexing="ij"))
    band = np.minimum(k / 0.5 * BANDS, BANDS).astype(int)
    bands = np.bincount(band.ravel(), power.ravel(), BANDS + 1) / np.maximum(np.bincount(band.ravel()), 1)
    return np.array(
        [
            *(np.log10(electrons), contrast.sum(), area, contrast[shown > 0].mean() if area else 0.0),
            *profile,
            *(square - profile**2 - 1 / electrons),
            *np.arcsinh(bands[:BANDS] - 1),
        ]
    )


def silhouette_descriptors(truth: NDArray[Any]) -> NDArray[np.float64]:
    """Describe the silhouette of the particle in an expected image, shape (y, x), as turning leaves it.

    Returns:
        Area [pixels], the two radii of gyration [pixels], and ORDERS absolute Fourier coefficients of the outline's
        distance from the centre against the angle, in units of its mean. Shape (ORDERS + 3,).
    """
    mask = particle_mask(truth)
    places = np.argwhere(mask) - np.argwhere(mask).mean(axis=0)
    radii = np.sqrt(np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(places.T))), 0))
    angle = np.floor((np.arctan2(places[:, 0], places[:, 1]) / (2 * np.pi) % 1) * 36).astype(int) % 36
    outline = np.zeros(36)
    np.maximum.at(outline, angle, np.hypot(*places.T))
    series = abs(np.fft.rfft(outline / outline.mean()))[1 : ORDERS + 1] / len(outline)
    return np.array([float(mask.sum()), *radii, *series])


def _distance(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of every pixel from the centre of the weights [pixels]."""
    y, x = np.indices(weights.shape)
    total = weights.sum()
    distance: NDArray[np.float64] = np.hypot(y - (weights * y).sum() / total, x - (weights * x).sum() / total)
    return distance
