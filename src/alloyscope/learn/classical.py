"""Classical denoisers, with which the network is compared.

Each takes an image with white noise of standard deviation 1, shape (y, x), and one strength, which is tuned on images
of the validation split. Counts get such noise by Anscombe's transform; `denoised` applies it, and its inverse.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from alloyscope.contracts import require
from alloyscope.learn.bm3d import bm3d

Floats = NDArray[np.float64]
PATCH = 5  # pixels along the edge of the patches that `non_local_means` compares
REACH = 7  # pixels along each axis to the farthest of them
TV_STEPS = 100
TAU = 0.25  # step of Chambolle's iteration, the largest for which it converges in practice


class Classical(NamedTuple):
    """A denoiser and the strengths among which the best is chosen."""

    words: str
    apply: Callable[[Floats, float], Floats]
    strengths: tuple[float, ...]


def anscombe(counts: NDArray[Any]) -> Floats:
    """2 √(counts + ⅜): Poisson numbers get a standard deviation near 1 (Anscombe 1948)."""
    stabilised: Floats = 2 * np.sqrt(np.maximum(counts, 0.0) + 3 / 8)
    return stabilised


def inverse_anscombe(stabilised: NDArray[Any]) -> Floats:
    """Mean counts from the mean of Anscombe's transform, without bias (Mäkitalo and Foi 2011, closed form).

    The plain algebraic inverse is too small by about ¼ count.
    """
    d = np.maximum(stabilised, 2 * np.sqrt(3 / 8))
    root = np.sqrt(3 / 2)
    counts: Floats = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
    return np.maximum(counts, 0.0)


def denoised(image: NDArray[Any], electrons: float, method: Classical, strength: float) -> Floats:
    """Denoise an image in units of its background.

    Args:
        image: Intensity in units of its background, shape (y, x).
        electrons: Electrons per pixel of the background.
        method: The denoiser.
        strength: Its strength.

    Raises:
        ContractError: `image` is not one image, or there are no electrons.
    """
    require(image.ndim == 2, f"image must be (y, x); got {image.shape}")
    require(electrons > 0, f"electrons per pixel must be above 0; got {electrons:g}")
    stabilised = anscombe(image.astype(np.float64) * electrons)
    return inverse_anscombe(method.apply(stabilised, strength)) / electrons


def gaussian(image: Floats, sigma: float) -> Floats:
    """Blur with a Gaussian of standard deviation `sigma` [pixels]; the field goes on beyond its edges by reflection."""
    blurred: Floats = gaussian_filter(image, sigma)
    return blurred


def wiener(image: Floats, smoothing: float) -> Floats:
    """Wiener filter in Fourier space with the power spectrum of the image itself (Marks 1996).

    The filter is S / (S + 1) with S = max(P − 1, 0), where P is the power per pixel, which is 1 for the noise, averaged
    over neighbouring frequencies by a Gaussian. The mean of the image is kept.

    Args:
        image: Image, shape (y, x).
        smoothing: Standard deviation of that Gaussian, in units of the distance of two frequencies.
    """
    mean = image.mean()
    spectrum = np.fft.fft2(image - mean)
    power = gaussian_filter(np.abs(spectrum) ** 2 / image.size, smoothing, mode="wrap")
    signal = np.maximum(power - 1, 0)
    filtered: Floats = np.fft.ifft2(spectrum * (signal / (signal + 1))).real + mean
    return filtered


def non_local_means(image: Floats, strength: float) -> Floats:
    """Mean over the pixels of a window of 2 REACH + 1, weighted by the likeness of their patches (Buades et al. 2005).

    The weight is exp(−max(d² − 2, 0) / strength²), where d² is the mean squared difference of two patches, of which
    noise alone makes 2. The pixel itself has the largest weight of the others.
    """
    padded = np.pad(image, REACH, mode="reflect")
    rows, columns = image.shape
    total, weights, largest = np.zeros_like(image), np.zeros_like(image), np.full_like(image, 1e-12)
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            if dy == dx == 0:
                continue
            other = padded[REACH + dy : REACH + dy + rows, REACH + dx : REACH + dx + columns]
            unlike = uniform_filter((image - other) ** 2, PATCH)
            weight = np.exp(-np.maximum(unlike - 2, 0) / strength**2)
            total += weight * other
            weights += weight
            np.maximum(largest, weight, out=largest)
    return (total + largest * image) / (weights + largest)


def total_variation(image: Floats, strength: float) -> Floats:
    """Minimise ½ Σ (u − image)² + strength Σ |∇u| over u by Chambolle's dual iteration (2004), TV_STEPS steps."""
    p = np.zeros((2, *image.shape))
    for _ in range(TV_STEPS):
        slope = _gradient(_divergence(p) - image / strength)
        p = (p + TAU * slope) / (1 + TAU * np.hypot(*slope))
    return image - strength * _divergence(p)


def _gradient(u: Floats) -> Floats:
    """Differences to the next pixel along y and x, shape (2, y, x); 0 at the far edges."""
    slope = np.zeros((2, *u.shape))
    slope[0, :-1], slope[1, :, :-1] = np.diff(u, axis=0), np.diff(u, axis=1)
    return slope


def _divergence(p: Floats) -> Floats:
    """Minus the adjoint of `_gradient`; p is 0 at the far edges, as the iteration keeps it."""
    out: Floats = p[0] + p[1]
    out[1:] -= p[0, :-1]
    out[:, 1:] -= p[1, :, :-1]
    return out


METHODS: Mapping[str, Classical] = {
    "gaussian": Classical("Gaussian", gaussian, (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)),
    "wiener": Classical("Wiener", wiener, (1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0)),
    "nlm": Classical("non-local means", non_local_means, (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)),
    "tv": Classical("total variation", total_variation, (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)),
    "bm3d": Classical("BM3D", bm3d, (0.85, 1.0, 1.2)),
}
