"""Scores with intervals. Images of relatives are not independent, so intervals treat groups as the samples."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from alloyscope.errors import GateError
from alloyscope.ids import rng_for
from alloyscope.intervals import wilson_interval

DATA_RANGE = 1.0  # of PSNR and SSIM: from 0 to the background, which is the incident beam where no film is
RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A mean with its 95 % interval; low and high are None when there is no interval, all when there is no mean."""

    value: float | None
    low: float | None
    high: float | None

    def entries(self, name: str) -> dict[str, float | None]:
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def samples(table: pd.DataFrame) -> "pd.Series[int]":
    """What an interval counts: the groups of related particles, or particles where a table does not know groups."""
    return table["group" if "group" in table else "particle"]


def psnr_dB(image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image [dB], (n, 1, y, x) → (n,); the peak is the background."""
    each: torch.Tensor = peak_signal_noise_ratio(image, truth, data_range=DATA_RANGE, reduction="none", dim=(1, 2, 3))
    return each


def ssim(image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each image (Wang et al. 2004, Gaussian window of σ 1.5), (n, 1, y, x) → (n,)."""
    each = structural_similarity_index_measure(image, truth, data_range=DATA_RANGE, reduction="none")
    assert isinstance(each, torch.Tensor)
    return each.reshape(-1)


def check_separation(seen: Collection[int], tested: Collection[int]) -> None:
    """Check that no test particle was seen in training or used to choose the checkpoint.

    Raises:
        GateError: a test particle was seen; the message names such particles.
    """
    if shared := sorted(set(seen) & set(tested)):
        raise GateError(
            f"{len(shared)} of {len(set(tested))} test particles, or relatives of theirs, were seen in training or "
            f"validation: {', '.join(map(str, shared[:5]))}{' …' if len(shared) > 5 else ''}; "
            "train again on this image set, whose splits must not share groups"
        )


def proportion(correct: ArrayLike, particles: ArrayLike) -> Score:
    """Share of correct images, with a Wilson interval for the number of particles.

    The interval assumes that all views of a particle agree, so it is rather too wide.
    """
    values = np.asarray(correct, dtype=float)
    share = float(values.mean())
    n_particles = len(np.unique(np.asarray(particles)))
    low, high = wilson_interval(share * n_particles, n_particles)
    return Score(share, low, high)


def mean_score(values: ArrayLike, particles: ArrayLike) -> Score:
    """Mean over images, with a 95 % bootstrap interval: RESAMPLES times, particles are drawn with all their images.

    With one particle there is no interval.
    """
    frame = pd.DataFrame({"value": np.asarray(values, dtype=float), "particle": np.asarray(particles)})
    groups = frame.groupby("particle")["value"].agg(["sum", "count"])
    mean = float(frame["value"].mean())
    if len(groups) < 2:
        return Score(mean, None, None)
    rng = rng_for("bootstrap", len(groups))
    sums, counts = groups["sum"].to_numpy(), groups["count"].to_numpy()
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):  # one draw at a time: RESAMPLES × 20 000 particles would not fit into memory
        picked = rng.integers(len(groups), size=len(groups))
        means[draw] = sums[picked].sum() / counts[picked].sum()
    low, high = np.quantile(means, (0.025, 0.975))
    return Score(mean, float(low), float(high))


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> list[list[int]]:
    """Confusion matrix: counts [true class][predicted class]."""
    table = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(table, (truth, predicted), 1)
    rows: list[list[int]] = table.tolist()
    return rows


def balanced_accuracy(matrix: list[list[int]]) -> float:
    """Mean recall over the classes that occur."""
    found = [row[index] / sum(row) for index, row in enumerate(matrix) if sum(row)]
    return float(np.mean(found))
