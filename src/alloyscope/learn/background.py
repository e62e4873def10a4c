"""The background of an image: the level of the vacuum around the particle, or of the film that fills the image.

With the offset o of the camera known, an image whose gain g and dose are unknown tells two things about them: the mean
count of its background less o, which is g n for n electrons per pixel, and the variance there, which is g² n for a
counting camera. Their ratio gives n without g. With o unknown as well there are three unknowns for two numbers: an
error of o by a share δ of g n divides contrasts by 1 + δ, and nothing in the image shows it.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from alloyscope.contracts import require

BLOCK = 4  # pixels along the edge of a block; levels are means over blocks, and noise is the spread within them
SMOOTHED = 1 / 16  # standard deviation of the Gaussian, of the edge: lattice fringes and most of the noise are gone
RIM = 1 / 8  # width of the frame from which the search starts, of the edge: 44 % of the image
CLIP = 2.0  # blocks that differ by more robust standard deviations of the frame belong to the particle
ROUNDS = 10
LEAST_NOISE = 1e-4  # of the level: an image without noise counts as one of 1e8 electrons per pixel
NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


class Background(NamedTuple):
    """Mean and standard deviation of the pixels of the background, in the unit of the image."""

    level: float
    noise: float

    @property
    def electrons(self) -> float:
        """Electrons per pixel whose shot noise would be the noise, (level/noise)²."""
        return (self.level / max(self.noise, LEAST_NOISE * self.level)) ** 2


def background(image: NDArray[Any]) -> Background:
    """Find the background of an image.

    The search starts from the median of the smoothed image in a frame along the border, and takes the mean over all
    places where the smoothed image is near it. The noise is the spread of pixels within blocks there. On a film it
    holds the film's fine texture too, which hides a particle as noise does; noise that is correlated between pixels is
    a little underestimated.

    Args:
        image: Counts less the camera's offset, or intensity, shape (y, x), at least 2 blocks along each edge; a
            remainder at the far edges is left out.

    Raises:
        ContractError: the image is too small or not finite, or its background is not above 0.
    """
    rows, columns = (edge // BLOCK for edge in image.shape)
    require(min(rows, columns) >= 2, f"an image must have at least {2 * BLOCK} pixels along an edge; got {image.shape}")
    require(bool(np.isfinite(image).all()), "an image must be finite everywhere to have a background")
    blocks = image[: rows * BLOCK, : columns * BLOCK].astype(np.float64).reshape(rows, BLOCK, columns, BLOCK)
    means = blocks.mean(axis=(1, 3))
    smooth = gaussian_filter(means, SMOOTHED * min(rows, columns))
    rim = smooth[_frame(rows, columns)]
    level = float(np.median(rim))
    near = CLIP * NORMAL * float(np.median(abs(rim - level)))
    kept = np.ones(means.shape, dtype=bool)
    for turn in range(ROUNDS):
        found = abs(smooth - level) <= near
        if not found.any() or (turn and np.array_equal(found, kept)):
            break
        kept, level = found, float(means[found].mean())
    require(level > 0, f"the background of an image must be above the camera's offset; got {level:g} counts above it")
    return Background(level, float(np.sqrt(blocks.var(axis=(1, 3), ddof=1)[kept].mean())))


def _frame(rows: int, columns: int) -> NDArray[np.bool_]:
    width = max(1, round(RIM * min(rows, columns)))
    frame = np.ones((rows, columns), dtype=bool)
    frame[width:-width, width:-width] = False
    return frame
