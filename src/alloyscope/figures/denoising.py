"""Figures about denoising: the network beside classical methods."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from alloyscope.contracts import require
from alloyscope.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, row_of_panels, styled

LOOKS = {"network": (GREEN, "o-"), "noisy": (GREY, ":"), "empty": (INK, ":")}
OTHERS = (ORANGE, SKY, PURPLE, VERMILION, BLUE)


@styled
def comparison_by_dose(doses: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> Figure:
    """PSNR over the image and in the particle against the dose, a line for each denoiser.

    Args:
        doses: Entries with `dose_low`, `dose_high`, `psnr` and `psnr_inside`, the latter two by denoiser.
        words: Denoisers and their words.
    """
    require(len(doses) > 0, "figure needs at least one dose range")
    figure, panels = row_of_panels(2, height=3.4)
    middle = [(row["dose_low"] * row["dose_high"]) ** 0.5 for row in doses]
    others = dict(zip([name for name in words if name not in LOOKS], OTHERS))
    for axes, score, label in zip(panels, ("psnr", "psnr_inside"), ("over the image", "in the particle")):
        for name, said in words.items():
            colour, look = LOOKS.get(name, (others.get(name, GREY), ".--"))
            axes.plot(middle, [row[score][name] for row in doses], look, color=colour, label=said)
        axes.set(xscale="log", xlabel="Dose (e/Å²)", ylabel=f"PSNR {label} (dB)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
