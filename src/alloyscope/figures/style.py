"""Style of the figures: colours, fonts, panels.

Colours are from Okabe & Ito's palette, which colour-blind readers can distinguish; each colour has one meaning in all
figures.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alloyscope.contracts import require

BLUE, VERMILION, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A8F98", "#22262B"


ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"


Looks = Mapping[str, tuple[str, str]]  # colour and words of a group, in the order in which groups are drawn
ORDER_LOOKS: Looks = {
    "core_shell": (BLUE, "core-shell"),
    "janus": (VERMILION, "Janus"),
    "other": (GREY, "neither"),
}
COLOUR = {name: colour for name, (colour, _) in ORDER_LOOKS.items()}
WORDS = {name: words for name, (_, words) in ORDER_LOOKS.items()}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#B4B9C0",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E7E9EC",
    "grid.linewidth": 0.7,
    "xtick.color": "#5A6068",
    "ytick.color": "#5A6068",
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
}


MANY_POINTS = 2000  # larger scatter plots are drawn as pixels inside the vector figure


P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def row_of_panels(count: int, width: float = 7.6, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def need(table: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in table]
    require(not missing, f"figure needs the columns {', '.join(columns)}; the table lacks {', '.join(missing)}")
    require(len(table) > 0, "figure needs at least one row; the table is empty")


def cloud(axes: Axes, x: Any, y: Any, colour: str, label: str | None = None) -> None:
    size, alpha = (16, 0.65) if len(x) <= 500 else (6, 0.4) if len(x) <= MANY_POINTS else (2, 0.2)
    axes.scatter(x, y, s=size, c=colour, alpha=alpha, label=label, linewidths=0, rasterized=len(x) > MANY_POINTS)


def legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.2)
