"""Further scores of readings: balanced accuracy with its interval, at high dose, and of several views together."""

from typing import Any

import numpy as np
import pandas as pd

from alloyscope.ids import rng_for
from alloyscope.learn.metrics import RESAMPLES, Score, mean_score, samples

BRIGHT_e_per_A2 = 1000.0
TOGETHER = (5, 10, 20)  # numbers of views that are read together
ORDERS = ("core_shell", "janus")
LEAST = 1e-6


def further_scores(table: pd.DataFrame) -> dict[str, Any]:
    """Scores of readings beside those of the task; None where no image counts.

    Args:
        table: Predictions, with the columns of the task `reading`, `particle`, `view` and `dose_e_per_A2`.

    Returns:
        `balanced_accuracy`, `bright_accuracy` (balanced, above 1000 e/Å²), `size_relative_error`, `size_rms_atoms`, and
        as `views`, for each number of views, the scores of their joint readings. Each score has the ends of its 95 %
        interval beside it, but for the RMS.
    """
    bright = table[table["dose_e_per_A2"] > BRIGHT_e_per_A2]
    error = table["n_atoms_predicted"] - table["n_atoms"]
    most = int(table.groupby("particle").size().max())
    return {
        **balanced(table).entries("balanced_accuracy"),
        **balanced(bright).entries("bright_accuracy"),
        **mean_score(error.abs() / table["n_atoms"], samples(table)).entries("size_relative_error"),
        "size_rms_atoms": float(np.sqrt((error**2).mean())),
        "views": {str(number): view_scores(table, number) for number in TOGETHER if number <= most},
    }


def view_scores(table: pd.DataFrame, number: int) -> dict[str, Any]:
    """Scores of the joint readings of `number` views of a particle; each view counts once, views left over do not."""
    means = together(table, number)
    return {
        **balanced(means).entries("balanced_accuracy"),
        **mean_score((means["n_atoms_predicted"] - means["n_atoms"]).abs(), samples(means)).entries("size_mae_atoms"),
        **mean_score((means["fraction_first_predicted"] - means["fraction_first"]).abs(), samples(means)).entries(
            "composition_mae"
        ),
    }


def together(table: pd.DataFrame, number: int) -> pd.DataFrame:
    """Joint readings of every `number` views of a particle, in the order of the table.

    Log-odds of the order are averaged, as for independent views with equal prior odds. ln n_atoms and the fraction are
    means that are weighted by the inverse squares of the widths of their intervals, where the table has such intervals.
    """
    turn = table.groupby("particle").cumcount() // number
    p = table["p_core_shell"].to_numpy(dtype=np.float64).clip(LEAST, 1 - LEAST)
    size, fraction = np.log(table["n_atoms_predicted"]), table["fraction_first_predicted"]
    size_weight, fraction_weight = (weights(table, name) for name in ("n_atoms", "fraction_first"))
    kept = ["particle", "ordering", "n_atoms", "fraction_first", *(["group"] if "group" in table else [])]
    frame = table[kept].assign(
        turn=turn, log_odds=np.log(p / (1 - p)), views=1, size_weight=size_weight, fraction_weight=fraction_weight
    )
    frame = frame.assign(size=size * size_weight, fraction=fraction * fraction_weight)
    sums = ["views", "size_weight", "fraction_weight", "size", "fraction"]
    how = dict.fromkeys(kept[1:], "first") | {"log_odds": "mean"} | dict.fromkeys(sums, "sum")
    grouped = frame.groupby(["particle", "turn"]).agg(how)
    found = grouped.reset_index().assign(
        p_core_shell=lambda each: 1 / (1 + np.exp(-each["log_odds"])),
        n_atoms_predicted=lambda each: np.exp(each["size"] / each["size_weight"]),
        fraction_first_predicted=lambda each: each["fraction"] / each["fraction_weight"],
    )
    return found[found["views"] == number]


def weights(table: pd.DataFrame, name: str) -> pd.Series:
    """Weights of readings, from the widths of their intervals; 1 without intervals, or where one has no end."""
    ends = [f"{name}_low", f"{name}_high"]
    if any(end not in table for end in ends):
        return pd.Series(1.0, index=table.index)
    low, high = (table[end].astype(float) for end in ends)
    width = np.log(high / low.clip(lower=LEAST)) if name == "n_atoms" else high - low
    usable = bool((np.isfinite(width) & (width > 0)).all())
    return pd.Series(1 / width**2 if usable else 1.0, index=table.index)


def balanced(table: pd.DataFrame) -> Score:
    """Mean share of right orders over the classes that occur, with a 95 % bootstrap interval over groups.

    Args:
        table: Columns `group` or `particle`, `ordering`, `p_core_shell`; rows with neither order do not count.
    """
    known = table[table["ordering"].isin(ORDERS)]
    if known.empty:
        return Score(None, None, None)
    core_shell = (known["ordering"] == ORDERS[0]).to_numpy(dtype=bool)
    right = (known["p_core_shell"] > 0.5).to_numpy(dtype=bool) == core_shell
    frame = pd.DataFrame(
        {
            "group": samples(known).to_numpy(),
            **{f"right_{name}": right & of for name, of in ((0, core_shell), (1, ~core_shell))},
            **{f"images_{name}": of for name, of in ((0, core_shell), (1, ~core_shell))},
        }
    )
    sums = frame.groupby("group").sum().to_numpy(dtype=np.float64)  # right, right, images, images

    def mean_recall(total: np.ndarray) -> float:
        counted = total[2:] > 0
        return float((total[:2][counted] / total[2:][counted]).mean())

    value = mean_recall(sums.sum(axis=0))
    if len(sums) < 2:
        return Score(value, None, None)
    rng = rng_for("bootstrap-balanced", len(sums))
    drawn = [mean_recall(sums[rng.integers(len(sums), size=len(sums))].sum(axis=0)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Score(value, float(low), float(high))
