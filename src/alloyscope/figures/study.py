"""Figures of the page "What the networks can tell": scores against parameters, abstention, reliability, growth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter
from numpy.typing import NDArray

from alloyscope.contracts import require
from alloyscope.figures.style import BLUE, GREY, INK, VERMILION, legend_above, need, row_of_panels, styled


@dataclass(frozen=True)
class Bins:
    """A score in bins of a parameter: table with x, value, low, high, and the words of both axes."""

    table: pd.DataFrame
    x: str
    y: str
    log: bool = False
    share: bool = False


def points(axes: Axes, table: pd.DataFrame, colour: str, label: str | None = None, line: str = "-") -> None:
    """Points with their intervals, joined by a line; an interval that is missing is not drawn."""
    below, above = (abs(table[end] - table["value"]).fillna(0) for end in ("low", "high"))
    axes.errorbar(
        *(table["x"], table["value"]), yerr=[below, above], color=colour, marker="o", markersize=3.5, linestyle=line,
        elinewidth=1, linewidth=1.2, label=label,
    )  # fmt: skip


@styled
def against(panels: Sequence[Bins]) -> Figure:
    """Scores against parameters, one panel each."""
    require(len(panels) > 0, "figure needs at least one panel")
    figure, axes_of = row_of_panels(len(panels), width=3.8 * max(len(panels), 1), height=2.9)
    for axes, bins in zip(axes_of, panels):
        need(bins.table, "x", "value", "low", "high")
        points(axes, bins.table, BLUE)
        axes.set(xlabel=bins.x, ylabel=bins.y, xscale="log" if bins.log else "linear")
        if bins.log:
            axes.xaxis.set_minor_formatter(NullFormatter())  # labels between the powers of ten would overlap
        if bins.share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        else:
            axes.set_ylim(bottom=0)
    return figure


@styled
def abstention(curve: pd.DataFrame) -> Figure:
    """Risk against coverage, and the least stated probability of the order that was read."""
    need(curve, "coverage", "risk", "sure")
    figure, (axes,) = row_of_panels(1, width=4.6)
    axes.plot(curve["coverage"], curve["risk"], color=BLUE, label="wrong among them")
    axes.plot(curve["coverage"], 1 - curve["sure"], color=GREY, linewidth=1, label="most that the network admits")
    for which in (axes.xaxis, axes.yaxis):
        which.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="Images read, the surest first", ylabel="Wrong", xlim=(0, 1), ylim=(0, None))
    legend_above(axes)
    return figure


@styled
def reliability_diagram(table: pd.DataFrame) -> Figure:
    """Share of core-shell among images with a stated probability, against that probability."""
    need(table, "x", "value", "low", "high", "images")
    figure, (axes,) = row_of_panels(1, width=3.8, height=3.4)
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1)
    points(axes, table, BLUE)
    axes.set(xlabel="Stated probability of core-shell", ylabel="Share that is core-shell", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    return figure


@styled
def growth(
    table: pd.DataFrame, x: str, y: str, law: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
) -> Figure:
    """An error against the amount of data on logarithmic axes, with a fitted law.

    Args:
        table: One row per run: x, value, low, high.
        x, y: Words of the axes.
        law: Sizes (n,) and the law there with both ends of its interval (3, n), as value, low, high.
    """
    need(table, "x", "value", "low", "high")
    figure, (axes,) = row_of_panels(1, width=4.6)
    if law is not None:
        sizes, (value, low, high) = law
        axes.fill_between(sizes, low, high, color=VERMILION, alpha=0.15, linewidth=0)
        axes.plot(sizes, value, color=VERMILION, linewidth=1.2, label="fitted power law")
        axes.plot(sizes[-1:], value[-1:], color=VERMILION, marker="D", markersize=5)
    points(axes, table, INK, "runs", line="none")
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    legend_above(axes)
    return figure
