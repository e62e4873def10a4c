"""Denoisers compared by dose: scores in the particle and over the image, of the network and of classical methods.

Classical methods are slow, so they clean a stated number of images of each dose bin, and their strengths are tuned on
still fewer images of the split `validation`, for each bin and each score. The network is compared on the same images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import structural_similarity_index_measure

from alloyscope.errors import ContractError
from alloyscope.ids import rng_for
from alloyscope.learn.background import background
from alloyscope.learn.classical import METHODS, Classical, denoised
from alloyscope.learn.data import Released, in_units_of_background
from alloyscope.learn.metrics import DATA_RANGE, Score, mean_score, samples
from alloyscope.learn.tasks.denoising import PLAIN, SCORES, column
from alloyscope.learn.thinning import estimate
from alloyscope.microscope.settings import DetectorSection

COMPARED, TUNED_ON = 24, 8  # most images of a dose bin that classical methods clean: for their scores, for tuning
SMOOTHED = 4.0  # pixels; lattice fringes and contrast reversals within a particle are gone
INSIDE = 0.2  # of the largest root-mean-square contrast
EDGES = np.array([digit * 10.0**power for power in range(7) for digit in (1, 3)])  # of the dose bins [e/Å²]

Look = Callable[[int], tuple[NDArray[Any], NDArray[Any], float]]  # row of the arrays → image, truth, electrons


def particle_mask(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Where an image shows the particle: its smoothed squared contrast is above INSIDE² of the largest one.

    Out of focus it includes the fringes around the particle; on a film it is of no use, because it shows the film.

    Args:
        truth: Expected image in units of its background, shape (y, x).
    """
    contrast2 = gaussian_filter((truth.astype(np.float64) - 1) ** 2, SMOOTHED)
    mask: NDArray[np.bool_] = contrast2 >= INSIDE**2 * contrast2.max()
    return mask


def quality(image: torch.Tensor, truth: torch.Tensor, inside: torch.Tensor) -> dict[str, torch.Tensor]:
    """SCORES of each image, shape (n,) each, from images and truths (n, 1, y, x) and masks of particles of that shape.

    Within a mask PSNR has the mean squared error there, and SSIM the mean of its map there, which is over the centre of
    the image otherwise (Wang et al. 2004).
    """
    error2 = (image - truth).square()
    whole, map_ = structural_similarity_index_measure(
        image, truth, data_range=DATA_RANGE, reduction="none", return_full_image=True
    )
    dims = (1, 2, 3)
    within = inside.sum(dim=dims)
    peak2 = DATA_RANGE**2
    return {
        "psnr": 10 * (peak2 / error2.mean(dim=dims)).log10(),
        "psnr_inside": 10 * (peak2 * within / (error2 * inside).sum(dim=dims)).log10(),
        "ssim": whole.reshape(-1),
        "ssim_inside": (map_ * inside).sum(dim=dims) / within,
    }


def scores_of(image: NDArray[Any], truth: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """SCORES of one image, shape (4,)."""
    one = [torch.from_numpy(np.asarray(array, dtype=np.float64))[None, None] for array in (image, truth, inside)]
    return np.array([float(value) for value in quality(*one).values()])


def dose_bin(dose_e_per_A2: Any) -> NDArray[np.intp]:
    """Number of the dose bin, which begins at EDGES[number]."""
    return np.clip(np.searchsorted(EDGES, np.asarray(dose_e_per_A2), side="right") - 1, 0, len(EDGES) - 2)


def spread(table: pd.DataFrame, most: int) -> NDArray[np.intp]:
    """At most so many places of a table's rows, of different particles as far as possible, evenly over the table."""
    turn = table.groupby("particle").cumcount().to_numpy()
    order = np.argsort(turn, kind="stable")
    of_turn = order[: max(most, int((turn == 0).sum()))]
    picked = np.linspace(0, len(of_turn) - 1, min(most, len(of_turn))).round().astype(np.intp)
    return np.sort(of_turn[picked])


def in_bins(table: pd.DataFrame, most: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each dose bin that a table has images of, and the places of at most so many of them."""
    bins = dose_bin(table["dose_e_per_A2"])
    for number in np.unique(bins).tolist():
        places = np.flatnonzero(bins == number)
        yield number, places[spread(table.iloc[places], most)]


def tuned(
    table: pd.DataFrame, look: Look, methods: Mapping[str, Classical] = METHODS
) -> dict[tuple[int, str], NDArray[np.float64]]:
    """The best strengths of each method in each dose bin, one for each of SCORES, from rows of a split."""
    best = {}
    for number, places in in_bins(table, TUNED_ON):
        images = [look(row) for row in table["image"].iloc[places].tolist()]
        masks = [particle_mask(truth) for _, truth, _ in images]
        for name, method in methods.items():
            found = [
                np.mean(
                    [
                        scores_of(denoised(image, electrons, method, strength), truth, mask)
                        for (image, truth, electrons), mask in zip(images, masks)
                    ],
                    axis=0,
                )
                for strength in method.strengths
            ]
            best[number, name] = np.array(method.strengths)[np.argmax(found, axis=0)]
    return best


def classical_columns(
    validation: pd.DataFrame, tested: pd.DataFrame, look: Look, methods: Mapping[str, Classical] = METHODS
) -> dict[str, NDArray[np.float64]]:
    """Scores of the classical methods for the compared rows of a table, by column, NaN for the others, shape (n,).

    A bin of which `validation` has no image takes the strengths of the nearest one.
    """
    strengths = tuned(validation, look, methods)
    known = np.unique([number for number, _ in strengths])
    columns = {column(score, name): np.full(len(tested), np.nan) for score in SCORES for name in methods}
    for number, places in in_bins(tested, COMPARED):
        nearest = int(known[np.argmin(abs(known - number))])
        for place in places.tolist():
            image, truth, electrons = look(int(tested["image"].iloc[place]))
            mask = particle_mask(truth)
            for name, method in methods.items():
                chosen = strengths[nearest, name]
                found = {
                    strength: scores_of(denoised(image, electrons, method, strength), truth, mask)
                    for strength in set(chosen.tolist())
                }
                for which, score in enumerate(SCORES):
                    columns[column(score, name)][place] = found[chosen[which]][which]
    return columns


def by_dose(predictions: pd.DataFrame, methods: Sequence[str] = tuple(METHODS)) -> list[dict[str, Any]]:
    """Mean scores of each dose bin, over the images that the classical methods cleaned, and the network's gain.

    Each entry has `dose_low`, `dose_high`, `images`, `particles`; for each of SCORES a dict with the means of noisy,
    empty, network and each method; and `gain_dB` and `gain_inside_dB` with their intervals: the network's PSNR less
    that of the method which is the best in this bin, `best` and `best_inside`.
    """
    compared = predictions[predictions[column("psnr", methods[0])].notna()]
    bins = dose_bin(compared["dose_e_per_A2"])
    rows = []
    for number in np.unique(bins).tolist():
        mine = compared[bins == number]
        row: dict[str, Any] = {
            "dose_low": float(EDGES[number]),
            "dose_high": float(EDGES[number + 1]),
            "images": len(mine),
            "particles": int(mine["particle"].nunique()),
        }
        for score in SCORES:
            row[score] = {of or "network": float(mine[column(score, of)].mean()) for of in (*PLAIN, *methods)}
        for score, suffix in (("psnr", ""), ("psnr_inside", "_inside")):
            best = max(methods, key=row[score].__getitem__)
            gain = mean_score(mine[column(score)] - mine[column(score, best)], samples(mine))
            row |= {f"best{suffix}": best} | gain.entries(f"gain{suffix}_dB")
        rows.append(row)
    return rows


def smallest_gain(rows: Sequence[Mapping[str, Any]], name: str = "gain_dB") -> Score:
    """The smallest gain over the dose bins, with the interval of its bin; without values if there is no bin."""
    if not rows:
        return Score(None, None, None)
    worst = min(rows, key=lambda row: float(row[name]))
    return Score(worst[name], worst[f"{name}_low"], worst[f"{name}_high"])


def images_of(released: Released, detector: DetectorSection) -> Look:
    """Images of a set in units of their own background, as networks see them unless the dose is known."""

    def look(row: int) -> tuple[NDArray[Any], NDArray[Any], float]:
        image, electrons = in_units_of_background(released.counts[row], detector.offset)
        return image, in_units_of_background(released.clean[row])[0], electrons

    return look


def network_errors(
    released: Released,
    tested: pd.DataFrame,
    detector: DetectorSection,
    apply: Callable[[NDArray[Any], float], NDArray[Any]],
    places: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The network's squared error, and its estimate without truth, of those places of a table, NaN elsewhere, (n,).

    Both are in units of the background. An image that does not show whole electrons has no estimate.
    """
    true, thinned = np.full(len(tested), np.nan), np.full(len(tested), np.nan)

    def denoise(electrons: NDArray[np.float64]) -> NDArray[Any]:
        found = background(electrons)
        return np.asarray(apply(electrons / found.level, found.electrons)[0] * found.level)

    look = images_of(released, detector)
    for place in places.tolist():
        row = int(tested["image"].iloc[place])
        image, truth, electrons = look(row)
        true[place] = np.mean((apply(image, electrons)[0] - truth) ** 2)
        try:
            found = estimate(
                released.counts[row], denoise, rng_for("thinning", row), gain=detector.gain, offset=detector.offset
            )
        except ContractError:
            continue
        thinned[place] = found.mse
    return true, thinned


def without_truth(predictions: pd.DataFrame) -> dict[str, Any]:
    """PSNR of the mean squared error of the images that have an estimate without truth: true and estimated [dB]."""
    both = predictions[predictions["mse_thinned"].notna()]
    names = {"psnr_compared_dB": "mse_compared", "psnr_without_truth_dB": "mse_thinned"}
    means = {name: both[of].mean() for name, of in names.items()}
    found = {name: float(-10 * np.log10(mean)) if mean > 0 else None for name, mean in means.items()}
    return found | {"images_without_truth": len(both)}
