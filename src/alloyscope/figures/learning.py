"""Figures about networks: learning curves, predictions against the truth.

Columns are those of metrics.csv and predictions.parquet.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alloyscope.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORDER_LOOKS,
    WORDS,
    cloud,
    legend_above,
    need,
    row_of_panels,
    styled,
)


@styled
def learning_curves(metrics: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Loss of training and validation, and metrics of the validation split (name → axis label), against the epoch."""
    need(metrics, "epoch", "train_loss", "validation_loss")
    names = [name for name in labels if f"validation_{name}" in metrics]
    figure, panels = row_of_panels(1 + len(names), width=2.5 * (1 + len(names)), height=2.7)
    epoch = metrics["epoch"] + 1
    marker = "o" if len(metrics) < 30 else None
    panels[0].plot(epoch, metrics["train_loss"], color=GREY, marker=marker, markersize=3, label="training")
    panels[0].plot(epoch, metrics["validation_loss"], color=BLUE, marker=marker, markersize=3, label="validation")
    panels[0].set(ylabel="Loss")
    legend_above(panels[0])
    for axes, name in zip(panels[1:], names):
        axes.plot(epoch, metrics[f"validation_{name}"], color=BLUE, marker=marker, markersize=3)
        axes.set(ylabel=labels[name])
    for axes in panels:
        axes.set(xlabel="Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return figure


@styled
def confusion_matrix(predictions: pd.DataFrame) -> Figure:
    """True against predicted order of images of core-shell and Janus particles: counts, shaded by shares of a row."""
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
    figure, (axes,) = row_of_panels(1, width=3.8, height=3.2)
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
    """Predicted size and composition of each test image against the truth, by true ordering."""
    need(predictions, "ordering", "n_atoms", "n_atoms_predicted", "fraction_first", "fraction_first_predicted")
    figure, panels = row_of_panels(2, height=3.7)
    for axes, column, label in zip(panels, ("n_atoms", "fraction_first"), ("Atoms", f"{species} fraction")):
        both = predictions[[column, f"{column}_predicted"]].to_numpy(dtype=float)
        low, high = both.min(), both.max()
        margin = 0.04 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color=GREY, linewidth=1, zorder=1)
        for ordering, group in predictions.groupby(predictions["ordering"].fillna("")):
            colour, words = ORDER_LOOKS.get(str(ordering), (INK, "no label"))
            cloud(axes, group[column], group[f"{column}_predicted"], colour, words)
        axes.set(xlabel=f"{label}, true", ylabel=f"{label}, predicted", xlim=limits, ylim=limits)
        axes.set_aspect("equal")
    legend_above(panels[0])
    return figure


@styled
def quality_against_dose(predictions: pd.DataFrame) -> Figure:
    """PSNR and SSIM of the noisy and the denoised test images against the dose."""
    need(predictions, "dose_e_per_A2", "psnr_noisy_dB", "psnr_dB", "ssim_noisy", "ssim")
    figure, panels = row_of_panels(2)
    columns = (("psnr_noisy_dB", "psnr_dB", "PSNR (dB)"), ("ssim_noisy", "ssim", "SSIM"))
    for axes, (noisy, denoised, label) in zip(panels, columns):
        cloud(axes, predictions["dose_e_per_A2"], predictions[noisy], GREY, "noisy")
        cloud(axes, predictions["dose_e_per_A2"], predictions[denoised], GREEN, "denoised")
        axes.set(xscale="log", xlabel="Dose (e/Å²)", ylabel=label)
    legend_above(panels[0])
    return figure


@styled
def quantities_against_truth(predictions: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Predicted against true values of each test image, one panel for each quantity (column → label of the axis)."""
    need(predictions, *labels, *(f"{name}_predicted" for name in labels))
    figure, panels = row_of_panels(len(labels), width=2.6 * len(labels), height=2.9)
    for axes, (name, label) in zip(panels, labels.items()):
        ends = (predictions[name].min(), predictions[name].max())
        axes.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
        cloud(axes, predictions[name], predictions[f"{name}_predicted"], BLUE)
        axes.set(xlabel=f"{label}, true", ylabel="predicted")
    return figure
