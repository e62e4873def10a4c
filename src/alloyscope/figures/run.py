"""Figures about a campaign's run."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from alloyscope.contracts import require
from alloyscope.figures.style import BLUE, row_of_panels, styled
from alloyscope.wording import duration


@styled
def run_times(seconds: Mapping[str, float]) -> Figure:
    """Sum of the wall times of each rule's jobs, in the given order."""
    require(len(seconds) > 0, "figure needs the time of at least one rule; got none")
    longest = max(seconds.values())
    unit, scale = ("h", 3600.0) if longest > 7200 else ("min", 60.0) if longest > 120 else ("s", 1.0)
    figure, (axes,) = row_of_panels(1, height=0.7 + 0.28 * len(seconds))
    bars = axes.barh(list(seconds), [value / scale for value in seconds.values()], color=BLUE, height=0.62)
    axes.bar_label(bars, [duration(value) for value in seconds.values()], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(right=1.12 * longest / scale or 1.0)
    axes.set(xlabel=f"Time in jobs ({unit})")
    return figure
