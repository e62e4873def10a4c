"""BM3D: block matching and collaborative filtering in three dimensions (Dabov et al. 2007), for noise of deviation 1.

It is written anew, because the authors' package may be used for non-commercial purposes only. Blocks are transformed
by the cosine transform in both stages, and groups along the third axis by Haar's; blocks are matched without a
threshold, and the other parameters are the authors' for low noise.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.fft import dct

from alloyscope.contracts import require

BLOCK = 8  # pixels along the edge of a block
STEP = 3  # pixels between reference blocks
REACH = 19  # pixels along each axis to the farthest block that is compared
HARD, WIENER = 16, 32  # largest groups of the two stages
THRESHOLD = 2.7  # of the coefficients of the first stage, in units of the noise
UNLIKE = (3000.0 / 25**2, 400.0 / 25**2)  # largest mean squared difference of matched blocks, in units of the noise


def bm3d(image: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Denoise an image whose white noise has the standard deviation `strength`.

    Args:
        image: Image, shape (y, x), at least 8 pixels along each edge.
        strength: Standard deviation that the noise is taken to have; 1 if it is known to be 1.

    Raises:
        ContractError: the image is smaller than a block.
    """
    require(min(image.shape) >= BLOCK, f"an image must have at least {BLOCK} pixels along an edge; got {image.shape}")
    # Around 0, the threshold clears the background completely.
    middle = float(np.median(image))
    scaled = np.ascontiguousarray(image - middle, dtype=np.float64) / strength
    cosine = np.ascontiguousarray(dct(np.eye(BLOCK), axis=0, norm="ortho"))
    window = np.outer(np.kaiser(BLOCK, 2.0), np.kaiser(BLOCK, 2.0))
    noisy = _blocks(scaled, cosine)
    basic = _filtered(noisy, noisy, noisy, cosine, window, UNLIKE[0], HARD, False)
    pilot = _blocks(basic, cosine)
    return np.asarray(_filtered(noisy, pilot, pilot, cosine, window, UNLIKE[1], WIENER, True)) * strength + middle


@njit(cache=True)
def _blocks(image: Any, cosine: Any) -> Any:
    """Cosine transforms of the blocks at every pixel, (rows, columns, BLOCK, BLOCK)."""
    rows, columns = image.shape[0] - BLOCK + 1, image.shape[1] - BLOCK + 1
    out = np.empty((rows, columns, BLOCK, BLOCK))
    for y in range(rows):
        for x in range(columns):
            out[y, x] = cosine @ np.ascontiguousarray(image[y : y + BLOCK, x : x + BLOCK]) @ cosine.T
    return out


@njit(cache=True)
def _matches(blocks: Any, y: int, x: int, most: int, unlike: float) -> Any:
    """Places of the blocks most like that at (y, x), the most like first; a power of two of them, itself included."""
    rows, columns = blocks.shape[:2]
    places, costs, found = np.empty((most, 2), np.int64), np.full(most, np.inf), 1
    places[0, 0], places[0, 1], costs[0] = y, x, -1.0  # itself in any case, so that every pixel is in a group
    limit = unlike * BLOCK**2
    reference = blocks[y, x]
    for v in range(max(0, y - REACH), min(rows, y + REACH + 1)):
        for u in range(max(0, x - REACH), min(columns, x + REACH + 1)):
            if v == y and u == x:
                continue
            bound, cost = min(limit, costs[most - 1]), 0.0
            for i in range(BLOCK):
                for j in range(BLOCK):
                    cost += (blocks[v, u, i, j] - reference[i, j]) ** 2
                if cost > bound:
                    break
            if cost > bound or (found == most and cost >= bound):
                continue
            place = min(found, most - 1)
            while place > 0 and costs[place - 1] > cost:
                costs[place], places[place] = costs[place - 1], places[place - 1]
                place -= 1
            costs[place], places[place, 0], places[place, 1] = cost, v, u
            found = min(found + 1, most)
    size = 1
    while 2 * size <= found:
        size *= 2
    return places[:size]


@njit(cache=True)
def _haar(group: Any) -> None:
    """Haar's orthonormal transform along the first axis, in place; its length is a power of two."""
    size, root = group.shape[0], np.sqrt(0.5)
    while size > 1:
        half = size // 2
        sums = (group[0:size:2] + group[1:size:2]) * root
        group[half:size] = (group[0:size:2] - group[1:size:2]) * root
        group[:half] = sums
        size = half


@njit(cache=True)
def _unhaar(group: Any) -> None:
    """Inverse of `_haar`, in place."""
    size, root = 1, np.sqrt(0.5)
    while size < group.shape[0]:
        sums, differences = group[:size].copy(), group[size : 2 * size].copy()
        for i in range(size):
            group[2 * i] = (sums[i] + differences[i]) * root
            group[2 * i + 1] = (sums[i] - differences[i]) * root
        size *= 2


@njit(cache=True)
def _filtered(
    noisy: Any, matched: Any, pilot: Any, cosine: Any, window: Any, unlike: float, most: int, wiener: bool
) -> Any:
    """One stage: groups of blocks alike in `matched` are shrunk, and what the blocks give is averaged, (y, x)."""
    rows, columns = noisy.shape[:2]
    total, weights = (
        np.zeros((rows + BLOCK - 1, columns + BLOCK - 1)),
        np.zeros((rows + BLOCK - 1, columns + BLOCK - 1)),
    )
    for row in range(0, rows + STEP - 1, STEP):
        for column in range(0, columns + STEP - 1, STEP):
            places = _matches(matched, min(row, rows - 1), min(column, columns - 1), most, unlike)
            count = len(places)
            group, guide = np.empty((count, BLOCK, BLOCK)), np.empty((count, BLOCK, BLOCK))
            for k in range(count):
                group[k] = noisy[places[k, 0], places[k, 1]]
                guide[k] = pilot[places[k, 0], places[k, 1]]
            _haar(group)
            shrink: Any
            if wiener:
                _haar(guide)
                shrink = guide**2 / (guide**2 + 1)
                spent = (shrink**2).sum()
            else:
                shrink = (np.abs(group) > THRESHOLD) * 1.0
                spent = shrink.sum()
            group *= shrink
            _unhaar(group)
            weight = window / max(spent, 1.0)
            for k in range(count):
                v, u = places[k]
                total[v : v + BLOCK, u : u + BLOCK] += weight * (cosine.T @ group[k] @ cosine)
                weights[v : v + BLOCK, u : u + BLOCK] += weight
    return total / weights
