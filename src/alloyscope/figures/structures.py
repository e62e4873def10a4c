"""Figures about structures: sizes, compositions, order, atoms at the surface and inside.

Columns are those of structures.parquet; bands are computed by `structure.statistics`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from alloyscope.figures.style import (
    GREEN,
    GREY,
    INK,
    MANY_POINTS,
    ORANGE,
    ORDER_LOOKS,
    PURPLE,
    SKY,
    WORDS,
    Looks,
    legend_above,
    need,
    styled,
)

DASHED: Any = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 3))}
D_COM, ETA = "Distance of the species' centres, $d_{com}$ / $R_g$", "Chemical order η"
PAIRS: Looks = {  # pairs of labels
    "order_protocol, order_eta": (PURPLE, "protocol and η"),
    "order_protocol, order_d_com": (GREEN, "protocol and $d_{com}$ / $R_g$"),
    "order_protocol, order_enclosure": (SKY, "protocol and enclosure"),
    "order_eta, order_d_com": (ORANGE, "η and $d_{com}$ / $R_g$"),
    "order_d_com, order_enclosure": (GREY, "$d_{com}$ / $R_g$ and enclosure"),
}
CLASSES = {  # classes of atoms after relaxation, in the order in which they are stacked
    "cna_fcc": (GREEN, "fcc"),
    "cna_hcp": (SKY, "hcp"),
    "cna_icosahedral": (ORANGE, "icosahedral"),
    "cna_other": ("#A7ADB5", "other"),
    "cna_surface": ("#DDE1E6", "surface"),
}
WIDTH, ROW_HEIGHT = 9.4, 2.8  # inches
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.3g}")


def _grid(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, 0.35 + ROW_HEIGHT * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _ordered(names: pd.Series, looks: Looks) -> list[str]:
    """The names that occur, in the order of the looks."""
    known = set(names.dropna().unique())
    return [name for name in looks if name in known]


def _histogram(axes: Axes, values: pd.Series, groups: pd.Series, looks: Looks, density: bool = False) -> None:
    """Draw outlined histograms of all groups over the same bins, one behind the other."""
    known = values.notna() & groups.notna()
    bins = min(40, max(6, round(math.sqrt(known.sum()))))
    edges = np.histogram_bin_edges(values[known], bins=bins).tolist() if known.any() else [0.0, 1.0]
    for name in _ordered(groups[known], looks):
        colour, label = looks[name]
        heights = np.histogram(values[known & (groups == name)], edges, density=density)[0]
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.22, linewidth=0)
        axes.stairs(heights, edges, color=colour, linewidth=1.3, label=label)
    axes.set_ylim(bottom=0)


@styled
def distributions(structures: pd.DataFrame, d_com_over_Rg_limit: float, looks: Looks) -> Figure:
    """Histograms of size, composition and the two measures of order of the valid particles, by protocol."""
    need(structures, "valid", "protocol", "n_atoms", "fraction_first", "species_first", "d_com_over_Rg", "eta")
    valid = structures[structures["valid"]]
    need(valid, "n_atoms")
    figure, panels = _grid(2, 2)
    first = valid["species_first"].iloc[0]
    labels = {
        "n_atoms": "Atoms per particle",
        "fraction_first": f"Fraction of {first} atoms",
        "d_com_over_Rg": D_COM,
        "eta": ETA,
    }
    for axes, (column, label) in zip(panels.flat, labels.items()):
        _histogram(axes, valid[column], valid["protocol"], looks)
        axes.set(xlabel=label, ylabel="Particles")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1, 0].axvline(d_com_over_Rg_limit, **DASHED)
    panels[1, 1].axvline(0, **DASHED)
    legend_above(panels[0, 0])
    return figure


@styled
def order_plane(structures: pd.DataFrame, d_com_over_Rg_limit: float, looks: Looks) -> Figure:
    """The two ordering criteria against each other, by protocol."""
    need(structures, "valid", "protocol", "eta", "d_com_over_Rg")
    shown = structures[structures["valid"] & structures["eta"].notna()]
    n = len(shown)
    size, alpha = (16, 0.65) if n <= 500 else (6, 0.4) if n <= MANY_POINTS else (2, max(0.04, 0.25 - n / 1e6))
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    # All protocols are one scatter plot in the order of the particles, so that none covers another.
    axes.scatter(
        shown["d_com_over_Rg"],
        shown["eta"],
        s=size,
        c=[looks[name][0] for name in shown["protocol"]],
        alpha=alpha,
        linewidths=0,
        rasterized=n > MANY_POINTS,
    )
    axes.axhline(0, **DASHED)
    axes.axvline(d_com_over_Rg_limit, **DASHED)
    axes.set_xlim(left=0)
    small: Any = {"fontsize": 8, "color": "#5A6068"}
    axes.text(
        d_com_over_Rg_limit, 1.01, "core-shell ◂ ▸ Janus", transform=axes.get_xaxis_transform(), ha="center", **small
    )
    axes.text(1.01, 0, "▴ core-shell\n▾ Janus", transform=axes.get_yaxis_transform(), va="center", **small)
    axes.set(xlabel=D_COM, ylabel=ETA)
    dot: Any = {"color": "none", "marker": "o", "markeredgecolor": "none", "markersize": 5}
    handles = [
        Line2D([], [], markerfacecolor=looks[name][0], label=looks[name][1], **dot)
        for name in _ordered(shown["protocol"], looks)
    ]
    axes.legend(handles=handles, loc="best", frameon=True, framealpha=0.85, edgecolor="none", handlelength=1)
    return figure


@styled
def bands(
    bins: pd.DataFrame,
    across: Mapping[str, str],
    up: Mapping[str, str],
    looks: Looks,
    dashed: Mapping[str, float] | None = None,
) -> Figure:
    """Shares and means with their 95 % intervals, each over the width of its bin.

    Args:
        bins: One row per bin: across, up (which panel), group (which colour), low, high, middle, value, value_low,
            value_high.
        across: Names in the column `across` and their axis labels, from left to right.
        up: The same for `up`, from top to bottom. Values with a label that ends in "%" are drawn in percent.
        looks: Colours and words of the groups.
        dashed: Level of a dashed line in the panels, by names in the column `up`.
    """
    need(bins, "across", "up", "group", "low", "high", "middle", "value", "value_low", "value_high")
    figure, panels = _grid(len(up), len(across))
    for (row, (measure, y_label)), (column, (variable, x_label)) in (
        (y, x) for y in enumerate(up.items()) for x in enumerate(across.items())
    ):
        axes = panels[row, column]
        inside = bins[(bins["up"] == measure) & (bins["across"] == variable)]
        for name, group in inside.groupby("group", sort=False):
            _band(axes, group, *looks[str(name)])
        if measure in (dashed or {}):
            axes.axhline((dashed or {})[measure], **DASHED)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]) if inside["value"].lt(0).any() else 0)
        if y_label.endswith("%"):
            axes.yaxis.set_major_formatter(PERCENT)
        axes.set(xlabel=x_label if row == len(up) - 1 else "", ylabel=y_label if column == 0 else "")
    for row in panels:
        top = max(axes.get_ylim()[1] for axes in row)
        for axes in row:
            axes.set_ylim(top=top)
    named = {name: looks[name] for name in dict.fromkeys(bins["group"])}
    handles = [Line2D([], [], color=colour, label=words) for colour, words in named.values()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.2)
    return figure


def _band(axes: Axes, bins: pd.DataFrame, colour: str, label: str) -> None:
    edges = [*bins["low"], bins["high"].iloc[-1]]
    axes.stairs(bins["value_high"], edges, baseline=bins["value_low"], fill=True, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        bins["middle"],
        bins["value"],
        color=colour,
        marker="o",
        markersize=3.2,
        linewidth=1.2,
        label=label,
        clip_on=False,
    )
    if len(bins) == 1:  # a single bin may have no width
        error = [bins["value"] - bins["value_low"], bins["value_high"] - bins["value"]]
        axes.errorbar(bins["middle"], bins["value"], error, color=colour, linewidth=1.0, capsize=2)


@styled
def descriptors_by_order(structures: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Distribution of descriptors (column → axis label) over the valid particles of each order, normalised."""
    need(structures, "valid", "ordering", *labels)
    valid = structures[structures["valid"]]
    need(valid, "ordering")
    columns = min(3, len(labels))
    figure, panels = _grid(-(-len(labels) // columns), columns)
    for axes, (column, label) in zip(panels.flat, labels.items()):
        _histogram(axes, valid[column], valid["ordering"], ORDER_LOOKS, density=True)
        axes.set(xlabel=label)
        axes.set_yticks([])
    for axes in panels.flat[len(labels) :]:
        axes.set_axis_off()
    if valid["ordering"].notna().any():
        legend_above(panels[0, 0])
    return figure


@styled
def neighbour_classes(means: pd.DataFrame) -> Figure:
    """Mean share of the atoms in each common-neighbour class against size, one panel per order.

    Args:
        means: One row per order and size bin: ordering, low, high and the columns of `CLASSES`.
    """
    need(means, "ordering", "low", "high", *CLASSES)
    orders = _ordered(means["ordering"], ORDER_LOOKS)
    figure, panels = _grid(1, len(orders))
    for axes, order in zip(panels[0], orders):
        group = means[means["ordering"] == order]
        width = (group["high"] - group["low"]).clip(lower=1)
        bottom = np.zeros(len(group))
        for name, (colour, _) in CLASSES.items():
            axes.bar(
                group["low"], group[name], width, bottom, align="edge", color=colour, edgecolor="white", linewidth=0.8
            )
            bottom += group[name].to_numpy()
        axes.set(xlabel="Atoms per particle", ylim=(0, 1))
        axes.set_title(WORDS[order], loc="right", fontsize=9)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(visible=False)
    panels[0, 0].set_ylabel("Atoms, %")
    handles = [Patch(color=colour, label=words) for colour, words in CLASSES.values()]
    figure.legend(handles=handles[::-1], loc="outside right center", handlelength=1, handleheight=1)
    return figure
