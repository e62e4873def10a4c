"""Figures about a potential: its properties compared with references, and the error of its table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from alloyscope.figures.style import BLUE, GREEN, GREY, INK, VERMILION, legend_above, need, styled

KIND = {"computed": (BLUE, "computed by others, same parameters"), "experiment": (GREEN, "experiment")}
SHOWN = 4.0  # range of the axis in tolerances; larger deviations are drawn at the edge, with their value
FLOOR = 1e-12  # smallest error that the axes show


@styled
def validation(checks: pd.DataFrame, curves: Sequence[Mapping[str, Any]], name: str) -> Figure:
    """Deviation of each property from its references in units of the tolerance, and error of the table for two atoms.

    Args:
        checks: Rows of validation.json: name, value, reference, tolerance, kind.
        curves: Entries pair, r_A, energy_eV, force_eV_per_A for each pair.
        name: Name of the parameter set.
    """
    need(checks, "name", "value", "reference", "tolerance", "kind")
    rows = checks[checks["kind"] != "formula"]
    names = list(dict.fromkeys(rows["name"]))[::-1]
    figure = Figure(figsize=(9.6, max(3.4, 0.8 + 0.19 * len(names))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    left.axvspan(-1, 1, color="#E9EEF3", linewidth=0)
    left.axvline(0, color=GREY, linewidth=0.8)
    for kind, group in rows.groupby("kind"):
        colour, words = KIND[str(kind)]
        deviation = ((group["value"] - group["reference"]) / group["tolerance"]).to_numpy(dtype=float)
        heights = [names.index(row) for row in group["name"]]
        left.scatter(
            np.clip(deviation, -SHOWN, SHOWN), heights, s=22, color=colour, label=words, linewidths=0, zorder=3
        )
        for height, value in zip(heights, deviation):
            if abs(value) > SHOWN:
                side = 1 if value > 0 else -1
                left.annotate(
                    f"{value:.0f}",
                    (side * SHOWN, height),
                    (-side * 6, 0),
                    textcoords="offset points",
                    ha="right" if side > 0 else "left",
                    va="center",
                    fontsize=7.5,
                    color=VERMILION,
                )
    left.set_yticks(range(len(names)), names, fontsize=7.5)
    left.set_ylim(-0.8, len(names) - 0.2)
    left.set_xlim(-SHOWN - 0.3, SHOWN + 0.3)
    left.xaxis.set_major_locator(FixedLocator([-4, -2, -1, 0, 1, 2, 4]))
    left.set(xlabel="Deviation / tolerance")
    left.tick_params(axis="y", length=0)
    if len(rows):
        legend_above(left)
    for curve, colour in zip(curves, (BLUE, VERMILION, GREEN, INK)):
        right.semilogy(
            curve["r_A"], np.maximum(curve["energy_eV"], FLOOR), color=colour, label=curve["pair"], linewidth=1.2
        )
        right.semilogy(
            curve["r_A"], np.maximum(curve["force_eV_per_A"], FLOOR), color=colour, linewidth=0.8, linestyle=":"
        )
    right.set(xlabel="Distance of two atoms (Å)", ylabel=f"Error of the {name} table: energy (eV), force dotted (eV/Å)")
    legend_above(right)
    return figure
