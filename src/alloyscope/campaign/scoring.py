"""Scores of a trained model on images from outside, and their page of numbers."""

from typing import Any

import numpy as np
import pandas as pd

from alloyscope.learn.calibration import strata
from alloyscope.learn.metrics import mean_score
from alloyscope.learn.scores import further_scores
from alloyscope.learn.shipped import ModelCard
from alloyscope.learn.tasks import TASKS
from alloyscope.store.tables import Columns
from alloyscope.wording import interval, number

COLUMNS: Columns = {  # the first columns of the predictions
    "particle": "int64",
    "view": "int64",
    "dose_e_per_A2": "float64",
    "p_core_shell": "float64",
    "n_atoms_predicted": "float64",
    "n_atoms_low": "float64",
    "n_atoms_high": "float64",
    "fraction_first_predicted": "float64",
    "fraction_first_low": "float64",
    "fraction_first_high": "float64",
    "likeness": "float64",
    "ordering_predicted": "string",
    "orders": "string",  # what the order may be: core_shell, janus or both
    "ordering": "string",
    "n_atoms": "int64",
    "fraction_first": "float64",
    "electrons": "float64",
}
QUANTITIES = {"n_atoms": "size", "fraction_first": "composition"}
UNLIKE = 0.05  # an image of a smaller likeness counts as unlike the training
LINES = (
    ("balanced_accuracy", "order, balanced accuracy", "%"),
    ("bright_accuracy", "  above 1000 e/Å²", "%"),
    ("size_mae_atoms", "mean error in size", "atoms"),
    ("composition_mae", "mean error in composition", ""),
)


def outcome(table: pd.DataFrame, card: ModelCard) -> dict[str, Any]:
    """Scores of predictions: those of the stage `evaluate`, and coverage.

    Args:
        table: Predictions with COLUMNS.
        card: Card of the model.
    """
    guess = pd.DataFrame(
        {"n_atoms": [card.trained_on.n_atoms[2]], "fraction_first": [card.trained_on.fraction_first[2]]}
    )
    found = TASKS[card.task].model_validate(card.settings).score(table, guess) | further_scores(table)
    found |= {
        "n_images": len(table),
        "n_particles": int(table["particle"].nunique()),
        "n_ordered": int(table["ordering"].isin(["core_shell", "janus"]).sum()),
        "coverage": coverage(table) if table["n_atoms_low"].notna().all() else None,
    }
    if table["likeness"].notna().all():
        found["unlike_share"] = float((table["likeness"] < UNLIKE).mean())
    return found | {"summary": summary(found, card)}


def coverage(table: pd.DataFrame) -> dict[str, Any]:
    """Share of the images whose interval holds the truth, and the mean width, overall and by dose and size."""
    groups = strata(table["dose_e_per_A2"].to_numpy(np.float64), table["n_atoms"].to_numpy(np.float64))
    found: dict[str, Any] = {}
    for name in QUANTITIES:
        low, high, truth = table[f"{name}_low"], table[f"{name}_high"], table[name]
        holds, width = ((low <= truth) & (truth <= high)).astype(float), (high - low).to_numpy()
        found[name] = {**mean_score(holds, table["particle"]).entries("coverage"), "width": _finite(width)}
        for stratum, values in groups.items():
            found[name][f"by_{stratum}"] = {
                f"{least:.4g}": {
                    "coverage": float(holds[values == least].mean()),
                    "width": _finite(width[values == least]),
                    "images": int((values == least).sum()),
                }
                for least in np.unique(values).tolist()
            }
    return found


def _finite(width: np.ndarray) -> float | None:
    return float(width.mean()) if np.isfinite(width).all() else None


def summary(found: dict[str, Any], card: ModelCard) -> str:
    """The scores in a line."""
    parts = [f"{words.strip()} {number(found[name], unit)}" for name, words, unit in LINES]
    return f"{card.name}, {found['n_images']} images of {found['n_particles']} particles: {', '.join(parts)}"


def page(found: dict[str, Any]) -> str:
    """The scores for a terminal, one in a line."""

    def line(scores: dict[str, Any], name: str, words: str, unit: str) -> str:
        ends = scores.get(f"{name}_low"), scores.get(f"{name}_high")
        between = f"  ({interval(*ends, unit)})" if None not in ends else ""
        return f"{words:40s}{number(scores[name], unit)}{between}"

    lines = [
        f"{found['n_images']} images of {found['n_particles']} particles; 95 % intervals over particles",
        *(line(found, *each) for each in LINES),
    ]
    for views, scores in found["views"].items():
        lines.append(f"mean of {views} views")
        lines += [line(scores, name, f"  {words}", unit) for name, words, unit in LINES if name in scores]
    for name, words in QUANTITIES.items() if found["coverage"] else ():
        held = found["coverage"][name]
        lines.append(line(held, "coverage", f"90 % intervals of the {words} hold", "%"))
        lines.append(f"{'  mean width':40s}{number(held['width'], 'atoms' if name == 'n_atoms' else '')}")
        doses = (f"{least}: {number(one['coverage'], '%')}" for least, one in held["by_dose"].items())
        lines.append(f"{'  from dose (e/Å²)':40s}{', '.join(doses)}")
    if "unlike_share" in found:
        lines.append(f"{'images unlike the training':40s}{number(found['unlike_share'], '%')}")
    if found.get("left_out"):
        lines.append(f"{'particles left out':40s}{len(found['left_out'])}")
    return "\n".join(lines)
