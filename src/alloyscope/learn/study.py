"""What test predictions of the task `reading` tell: scores in bins, abstention, reliability, and laws of growth.

Intervals are bootstrapped over groups of relatives (column `group`), which hold particles with all their images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from alloyscope.contracts import require
from alloyscope.intervals import wilson_interval
from alloyscope.learn import calibration
from alloyscope.learn.metrics import Score, mean_score
from alloyscope.learn.scores import BRIGHT_e_per_A2, balanced, together
from alloyscope.learn.task import Task

SMALL = 600  # atoms; sizes up to here are scored beside all sizes
Scored = Callable[[pd.DataFrame], Score]


def joined(predictions: pd.DataFrame, images: pd.DataFrame, structures: pd.DataFrame) -> pd.DataFrame:
    """Predictions with the parameters of their images and the descriptors of their particles, in the same order."""
    of_image = images[["image", *(name for name in images if name not in predictions)]]
    table = predictions.merge(of_image, on="image", how="left", validate="one_to_one")
    of_particle = structures[["particle", *(name for name in structures if name not in table)]]
    table = table.merge(of_particle, on="particle", how="left", validate="many_to_one")
    return table if "group" in table else table.assign(group=table["particle"])


def error_of(column: str) -> Scored:
    """The mean absolute error of a predicted column, as a function of the table."""
    return lambda table: mean_score((table[f"{column}_predicted"] - table[column]).abs(), table["group"])


def headline(table: pd.DataFrame) -> dict[str, Score]:
    """The main scores of a reader, by name."""
    bright, small = table[table["dose_e_per_A2"] > BRIGHT_e_per_A2], table[table["n_atoms"] <= SMALL]
    size, composition = error_of("n_atoms"), error_of("fraction_first")
    error = (table["n_atoms_predicted"] - table["n_atoms"]).astype(float)
    square = mean_score(error**2, table["group"])
    found = {
        "ordering_accuracy": balanced(table),
        "ordering_accuracy_bright": balanced(bright),
        "ordering_accuracy_small": balanced(small),
        "size_mae_atoms": size(table),
        "size_mae_atoms_small": size(small) if len(small) else Score(None, None, None),
        "size_rms_atoms": Score(
            *(None if end is None else end**0.5 for end in (square.value, square.low, square.high))
        ),
        "size_relative": mean_score(error.abs() / table["n_atoms"], table["group"]),
        "composition_mae": composition(table),
    }
    for count in (5, 10):
        joint = together(table, count)
        if len(joint):
            found |= {
                f"views{count}_ordering_accuracy": balanced(joint),
                f"views{count}_size_mae_atoms": size(joint),
                f"views{count}_composition_mae": composition(joint),
            }
    return found


def binned(table: pd.DataFrame, column: str, edges: ArrayLike, score: Scored) -> pd.DataFrame:
    """A score in bins of a column.

    Args:
        table: Joined predictions.
        column: Column that is divided into bins; rows outside the edges, or without a value, are left out.
        edges: Edges of the bins, rising; a bin holds its lower edge, the last one both.
        score: The score, as a function of the rows of a bin.

    Returns:
        One row per bin with an image: x (mean of the column), value, low, high, images, particles.
    """
    limits = np.asarray(edges, dtype=float)
    values = table[column].astype(float)
    place = np.searchsorted(limits, values, side="right") - 1
    place = np.where(values == limits[-1], len(limits) - 2, place)
    rows = []
    for number in range(len(limits) - 1):
        of_bin = table[(place == number) & values.notna()]
        if of_bin.empty:
            continue
        found = score(of_bin)
        x, particles = float(values[of_bin.index].mean()), of_bin["particle"].nunique()
        rows.append((x, found.value, found.low, found.high, len(of_bin), particles))
    columns = ["x", "value", "low", "high", "images", "particles"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[:4], float)).dropna(subset="value")


def quantile_edges(values: pd.Series, bins: int = 6) -> NDArray[np.float64]:
    """Edges of bins that hold equally many rows; fewer bins where values repeat."""
    return np.unique(np.quantile(values.dropna().astype(float), np.linspace(0, 1, bins + 1)))


def axis_cosine(axes: NDArray[np.float64], quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """|cos| of the angle between an axis of each particle and the beam, which runs along z.

    Args:
        axes: Axis in the frame of the structure, (n, 3), of any length; NaN where there is none.
        quaternions: Rotations of the views (x, y, z, w), (n, 4).
    """
    turned = np.full(axes.shape, np.nan)
    known = np.isfinite(axes).all(axis=1) & (np.linalg.norm(axes, axis=1) > 0)
    turned[known] = Rotation.from_quat(quaternions[known]).apply(axes[known])
    cosine: NDArray[np.float64] = abs(turned[:, 2]) / np.linalg.norm(turned, axis=1)
    return cosine


def risk_coverage(p: ArrayLike, correct: ArrayLike) -> pd.DataFrame:
    """Share of wrong readings among those that a reader is surest of, against their share of all.

    Args:
        p: Probability of one of the two orders, (n,).
        correct: Whether the likelier order is the true one, (n,).

    Returns:
        coverage, risk, and the least probability of the order that was read, from few images to all.
    """
    sure = np.maximum(np.asarray(p, dtype=float), 1 - np.asarray(p, dtype=float))
    order = np.argsort(-sure, kind="stable")
    wrong = np.cumsum(~np.asarray(correct, dtype=bool)[order])
    number = np.arange(1, len(order) + 1)
    return pd.DataFrame({"coverage": number / len(order), "risk": wrong / number, "sure": sure[order]})


def reliability(p: ArrayLike, truth: ArrayLike, groups: ArrayLike, bins: int = 10) -> tuple[pd.DataFrame, float | None]:
    """Stated probabilities against what came true.

    Args:
        p: Stated probability of core-shell, (n,).
        truth: Whether it is core-shell, (n,).
        groups: Group of relatives, (n,); the Wilson intervals count groups, as if their images agreed.
        bins: Number of bins of equal width.

    Returns:
        One row per bin with an image: x (mean p), value (share), low, high, images; and the expected calibration error,
        the mean of |value − x| over images.
    """
    found, error = calibration.reliability(
        np.asarray(p, float), np.asarray(truth, float), groups=np.asarray(groups), bins=bins
    )
    rows = [
        (b["p"], b["share"], *wilson_interval(b["share"] * b["groups"], int(b["groups"])), b["images"]) for b in found
    ]
    return pd.DataFrame(rows, columns=["x", "value", "low", "high", "images"]), error


@dataclass(frozen=True)
class PowerLaw:
    """error = e^ln_scale · n^−exponent, with the covariance of (ln_scale, exponent)."""

    ln_scale: float
    exponent: float
    covariance: NDArray[np.float64]

    @classmethod
    def fit(cls, sizes: ArrayLike, errors: ArrayLike, spreads: ArrayLike) -> "PowerLaw":
        """Fit a straight line to ln(error) against ln(n), weighted by the standard deviations of the errors.

        Where points scatter more than these say, the covariance is scaled up to what they scatter.

        Raises:
            ContractError: there are fewer than three sizes, or an error or spread is not above 0.
        """
        n, error, spread = (np.asarray(values, dtype=float) for values in (sizes, errors, spreads))
        require(len(np.unique(n)) >= 3, f"a power law needs at least 3 sizes; got {sorted(set(n.tolist()))}")
        require(bool((error > 0).all() and (spread > 0).all()), "errors and their spreads must be above 0 to fit a law")
        weight = (error / spread) ** 2
        design = np.stack([np.ones_like(n), -np.log(n)], axis=1)
        covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
        found = covariance @ design.T @ (weight * np.log(error))
        rest = float((weight * (np.log(error) - design @ found) ** 2).sum())
        return cls(float(found[0]), float(found[1]), covariance * max(1.0, rest / max(len(n) - 2, 1)))

    def at(self, size: float) -> Score:
        """The error at a size, with the 95 % interval that the fit gives, if the law holds so far."""
        row = np.array([1.0, -np.log(size)])
        centre = float(row @ [self.ln_scale, self.exponent])
        half = 1.96 * float(np.sqrt(row @ self.covariance @ row))
        return Score(*(float(np.exp(end)) for end in (centre, centre - half, centre + half)))


def differing(runs: Mapping[str, Task], key: str) -> list[str]:
    """The largest set of runs that differ in one setting alone (and the seed); empty if it has one value throughout."""
    alike: dict[str, list[str]] = {}
    for name, task in runs.items():
        alike.setdefault(task.model_copy(update={key: None}).as_json(), []).append(name)
    sets = [names for names in alike.values() if len({getattr(runs[name], key) for name in names}) > 1]
    return max(sets, key=len, default=[])


def scores_record(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Scores as `name`, `name_low`, `name_high`."""
    return {entry: value for name, score in scores.items() for entry, value in score.entries(name).items()}


def spread_of(scores: Sequence[Score]) -> NDArray[np.float64]:
    """Standard deviations that the 95 % intervals of scores imply, (n,); NaN without an interval."""
    ends = [(score.low, score.high) for score in scores]
    return np.array([np.nan if low is None or high is None else (high - low) / 3.92 for low, high in ends])
