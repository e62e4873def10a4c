"""The background of an image: the level of the vacuum around the particle, or of the film that fills the image.

With the offset o of the camera known, an image whose gain g and dose are unknown tells two things about them: the mean
count of its background less o, which is g n for n electrons per pixel, and the variance there, which is g² n for a
counting camera. Their ratio gives n without g. With o unknown as well there are three unknowns for two numbers: an
error of o by a share δ of g n divides contrasts by 1 + δ, and nothing in the image shows it.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

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


class Backgrounds(NamedTuple):
    """The backgrounds of a batch of images, (n,) each."""

    levels: torch.Tensor
    noises: torch.Tensor

    @property
    def electrons(self) -> torch.Tensor:
        """Electrons per pixel, as of `Background`."""
        return (self.levels / torch.maximum(self.noises, LEAST_NOISE * self.levels)).square()


def background(image: NDArray[Any]) -> Background:
    """Find the background of one image, in float64.

    Args:
        image: Counts less the camera's offset, or intensity, shape (y, x), at least 2 blocks along each edge.

    Raises:
        ContractError: the image is too small or not finite, or its background is not above 0.
    """
    require(bool(np.isfinite(image).all()), "an image must be finite everywhere to have a background")
    found = backgrounds(torch.from_numpy(np.array(image, dtype=np.float64))[None])
    level = float(found.levels)
    require(level > 0, f"the background of an image must be above the camera's offset; got {level:g} counts above it")
    return Background(level, float(found.noises))


def backgrounds(images: torch.Tensor) -> Backgrounds:
    """Find the backgrounds of a batch of images, on their device and in their precision.

    The search starts from the median of the smoothed image in a frame along the border, and takes the mean over all
    places where the smoothed image is near it. The noise is the spread of pixels within blocks there. On a film it
    holds the film's fine texture too, which hides a particle as noise does; noise that is correlated between pixels is
    a little underestimated.

    Args:
        images: Counts less the camera's offset, or intensity, shape (n, y, x), at least 2 blocks along each edge; a
            remainder at the far edges is left out.

    Returns:
        Levels and noises; the level of an image with a number that is not finite is NaN.

    Raises:
        ContractError: the images are too small.
    """
    count, height, width = images.shape
    rows, columns = height // BLOCK, width // BLOCK
    least = f"an image must have at least {2 * BLOCK} pixels along an edge; got {(height, width)}"
    require(min(rows, columns) >= 2, least)
    whole = images[:, : rows * BLOCK, : columns * BLOCK]
    centre = whole.mean(dim=(1, 2), keepdim=True)
    around = (whole - centre).reshape(count, rows, BLOCK, columns, BLOCK)  # squares of large counts would lose digits
    sums, squares = (values.sum(dim=2).sum(dim=-1) for values in (around, around.square()))
    means = centre + sums / BLOCK**2
    variances = ((squares - sums.square() / BLOCK**2) / (BLOCK**2 - 1)).clamp_min(0).reshape(count, -1)
    down, across, frame = _geometry(rows, columns, images.dtype, images.device)
    smooth = (down @ means @ across.T).reshape(count, -1)
    means = means.reshape(count, -1)
    rim = smooth[:, frame]
    level = _median(rim)
    near = CLIP * NORMAL * _median((rim - level[:, None]).abs())
    kept = torch.ones_like(smooth)
    for _ in range(ROUNDS):
        found = ((smooth - level[:, None]).abs() <= near[:, None]).to(smooth.dtype)
        places = found.sum(dim=1)
        any_place = places > 0
        kept = torch.where(any_place[:, None], found, kept)
        before, level = level, torch.where(any_place, (found * means).sum(dim=1) / places.clamp_min(1), level)
        if level.device.type == "cpu" and torch.equal(level, before):  # a GPU would have to wait for the answer
            break
    return Backgrounds(level, ((kept * variances).sum(dim=1) / kept.sum(dim=1)).sqrt())


def _median(values: torch.Tensor) -> torch.Tensor:
    """Median of each row; of an even number of values the mean of the two in the middle, as NumPy takes it."""
    count = values.shape[1]
    low, high = (values.kthvalue(place, dim=1).values for place in ((count + 1) // 2, count // 2 + 1))
    return (low + high) / 2


@lru_cache(maxsize=8)
def _geometry(
    rows: int, columns: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matrices that smooth down and across as SciPy's Gaussian filter, and the places of the frame."""
    width = SMOOTHED * min(rows, columns)
    down, across = (
        torch.from_numpy(gaussian_filter1d(np.eye(count), width, axis=0)).to(device, dtype) for count in (rows, columns)
    )
    return down, across, torch.from_numpy(np.flatnonzero(_frame(rows, columns))).to(device)


def _frame(rows: int, columns: int) -> NDArray[np.bool_]:
    width = max(1, round(RIM * min(rows, columns)))
    frame = np.ones((rows, columns), dtype=bool)
    frame[width:-width, width:-width] = False
    return frame
