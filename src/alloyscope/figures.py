"""Table → matplotlib Figure. No file access, no global state.

Columns are those of structures.parquet, images.parquet, metrics.csv and predictions.parquet. Colours: Okabe & Ito's
palette, told apart by colour-blind readers; one colour per meaning throughout.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from alloyscope.contracts import require
from alloyscope.wording import duration

BLUE, VERMILION, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A8F98", "#22262B"
ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"
COLOUR = {"gas_quench": BLUE, "droplets": VERMILION, "file": PURPLE, "core_shell": BLUE, "janus": VERMILION}
WORDS = {
    "gas_quench": "gas quench",
    "droplets": "droplet pair",
    "file": "own structures",
    "core_shell": "core-shell",
    "janus": "Janus",
}
# validation metric of metrics.csv → axis label
METRIC_LABEL = {
    "accuracy": "Ordering accuracy",
    "size_mae_atoms": "Size error (atoms)",
    "composition_mae": "Composition error",
    "psnr_dB": "PSNR (dB)",
    "ssim": "SSIM",
}
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
MANY_POINTS = 2000  # scatter plots beyond this are drawn as pixels inside the vector figure

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def _panels(count: int, width: float = 7.6, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def need(table: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in table]
    require(not missing, f"figure needs the columns {', '.join(columns)}; the table lacks {', '.join(missing)}")
    require(len(table) > 0, "figure needs at least one row; the table is empty")


def _cloud(axes: Axes, x: Any, y: Any, colour: str, label: str | None = None) -> None:
    size, alpha = (16, 0.65) if len(x) <= 500 else (6, 0.4) if len(x) <= MANY_POINTS else (2, 0.2)
    axes.scatter(x, y, s=size, c=colour, alpha=alpha, label=label, linewidths=0, rasterized=len(x) > MANY_POINTS)


@styled
def image_row(
    images: Sequence[NDArray[Any]],
    captions: Sequence[str],
    title: str,
    pixel_size_A: float,
    shared_grey: Sequence[int] = (),
) -> Figure:
    """Images of one particle side by side with one scale bar: clean | noisy, or noisy | truth | denoised.

    Each panel runs from black at its 0.2 % to white at its 99.8 % quantile; the panels numbered in `shared_grey`
    take their limits together from the first of them.
    """
    figure, panels = _panels(len(images), width=2.0 * len(images), height=2.5)
    for index, (axes, image, caption) in enumerate(zip(panels, images, captions)):
        require(image.ndim == 2, f"image must be (y, x); got {image.shape}")
        judged = images[shared_grey[0]] if index in shared_grey else image
        low, high = np.quantile(judged.astype(np.float64), (0.002, 0.998))
        axes.imshow(image.astype(np.float64), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(caption, fontsize=8.5, color="#5A6068", pad=4)
    _scale_bar(panels[0], images[0].shape, pixel_size_A)
    figure.suptitle(title, fontsize=8.5, x=0.02, ha="left", fontweight="bold")
    return figure


def _scale_bar(axes: Axes, shape: tuple[int, ...], pixel_size_A: float) -> None:
    """A bar of a round length near a quarter of the field, with its length in nm."""
    length_nm = max(
        (n for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if 10 * n <= 0.4 * shape[1] * pixel_size_A), default=0.1
    )
    width, height = 10 * length_nm / pixel_size_A, shape[0] / 60
    left, top = 0.05 * shape[1], 0.93 * shape[0]
    plate = (left - 0.02 * shape[1], top - 0.115 * shape[0])
    axes.add_patch(Rectangle(plate, width + 0.04 * shape[1], 0.165 * shape[0], color="black", alpha=0.45, linewidth=0))
    axes.add_patch(Rectangle((left, top), width, height, color="white", linewidth=0))
    axes.text(left + width / 2, top - 0.015 * shape[0], f"{length_nm:g} nm", color="white", fontsize=8, ha="center")


@styled
def learning_curves(metrics: pd.DataFrame) -> Figure:
    """Loss of training and validation, and every metric of the validation split, against the epoch."""
    need(metrics, "epoch", "train_loss", "validation_loss")
    names = [name for name in METRIC_LABEL if f"validation_{name}" in metrics]
    figure, panels = _panels(1 + len(names), width=2.5 * (1 + len(names)), height=2.7)
    epoch = metrics["epoch"] + 1
    marker = "o" if len(metrics) < 30 else None
    panels[0].plot(epoch, metrics["train_loss"], color=GREY, marker=marker, markersize=3, label="training")
    panels[0].plot(epoch, metrics["validation_loss"], color=BLUE, marker=marker, markersize=3, label="validation")
    panels[0].set(ylabel="Loss")
    legend_above(panels[0])
    for axes, name in zip(panels[1:], names):
        axes.plot(epoch, metrics[f"validation_{name}"], color=BLUE, marker=marker, markersize=3)
        axes.set(ylabel=METRIC_LABEL[name])
    for axes in panels:
        axes.set(xlabel="Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return figure


@styled
def confusion_matrix(predictions: pd.DataFrame) -> Figure:
    """True against predicted ordering of images: counts, and shares of each true class as shades."""
    need(predictions, "ordering", "ordering_predicted")
    classes = ("core_shell", "janus")
    counts = np.array(
        [
            [
                ((predictions["ordering"] == true) & (predictions["ordering_predicted"] == read)).sum()
                for read in classes
            ]
            for true in classes
        ]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, (axes,) = _panels(1, width=3.8, height=3.2)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        ink = "white" if shares[row, column] > 0.55 else INK
        text = f"{counts[row, column]}\n{100 * shares[row, column]:.0f} %"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=11)
    words = [WORDS[name] for name in classes]
    axes.set_xticks([0, 1], words)
    axes.set_yticks([0, 1], words, rotation=90, va="center")
    axes.set(xlabel="Predicted", ylabel="True")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return figure


@styled
def predicted_against_true(predictions: pd.DataFrame, species: str) -> Figure:
    """Size and composition read from each test image against the truth, by true ordering."""
    need(predictions, "ordering", "n_atoms", "n_atoms_predicted", "fraction_first", "fraction_first_predicted")
    figure, panels = _panels(2, height=3.7)
    for axes, column, label in zip(panels, ("n_atoms", "fraction_first"), ("Atoms", f"{species} fraction")):
        both = predictions[[column, f"{column}_predicted"]].to_numpy(dtype=float)
        low, high = both.min(), both.max()
        margin = 0.04 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color=GREY, linewidth=1, zorder=1)
        for ordering, group in predictions.groupby("ordering"):
            name = str(ordering)
            _cloud(axes, group[column], group[f"{column}_predicted"], COLOUR[name], WORDS[name])
        axes.set(xlabel=f"{label}, true", ylabel=f"{label}, predicted", xlim=limits, ylim=limits)
        axes.set_aspect("equal")
    legend_above(panels[0])
    return figure


@styled
def quality_against_dose(predictions: pd.DataFrame) -> Figure:
    """PSNR and SSIM of the noisy and the denoised test images against the dose."""
    need(predictions, "dose_e_per_A2", "psnr_noisy_dB", "psnr_dB", "ssim_noisy", "ssim")
    figure, panels = _panels(2)
    columns = (("psnr_noisy_dB", "psnr_dB", "PSNR (dB)"), ("ssim_noisy", "ssim", "SSIM"))
    for axes, (noisy, denoised, label) in zip(panels, columns):
        _cloud(axes, predictions["dose_e_per_A2"], predictions[noisy], GREY, "noisy")
        _cloud(axes, predictions["dose_e_per_A2"], predictions[denoised], GREEN, "denoised")
        axes.set(xscale="log", xlabel="Dose (e/Å²)", ylabel=label)
    legend_above(panels[0])
    return figure


@styled
def run_times(seconds: Mapping[str, float]) -> Figure:
    """Wall-clock time that the jobs of each rule took together, in the order given."""
    require(len(seconds) > 0, "figure needs the time of at least one rule; got none")
    longest = max(seconds.values())
    unit, scale = ("h", 3600.0) if longest > 7200 else ("min", 60.0) if longest > 120 else ("s", 1.0)
    figure, (axes,) = _panels(1, height=0.7 + 0.28 * len(seconds))
    bars = axes.barh(list(seconds), [value / scale for value in seconds.values()], color=BLUE, height=0.62)
    axes.bar_label(bars, [duration(value) for value in seconds.values()], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(right=1.12 * longest / scale or 1.0)
    axes.set(xlabel=f"Time in jobs ({unit})")
    return figure


def legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.2)
