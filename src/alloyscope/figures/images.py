"""Pictures of images side by side, with a scale bar."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from alloyscope.contracts import require
from alloyscope.figures.style import row_of_panels, styled


@styled
def image_row(
    images: Sequence[NDArray[Any]],
    captions: Sequence[str],
    title: str,
    pixel_size_A: float,
    shared_grey: Sequence[int] = (),
) -> Figure:
    """Images of one particle side by side with one scale bar: clean | noisy, or noisy | truth | denoised.

    The grey scale of each panel runs from its 0.2 % quantile (black) to its 99.8 % quantile (white); all panels with
    numbers in `shared_grey` use the scale of the first of them.
    """
    figure, panels = row_of_panels(len(images), width=2.0 * len(images), height=2.5)
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
    """Draw a bar of a round length near a quarter of the field, with its length in nm."""
    length_nm = max(
        (n for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if 10 * n <= 0.4 * shape[1] * pixel_size_A), default=0.1
    )
    width, height = 10 * length_nm / pixel_size_A, shape[0] / 60
    left, top = 0.05 * shape[1], 0.93 * shape[0]
    plate = (left - 0.02 * shape[1], top - 0.115 * shape[0])
    axes.add_patch(Rectangle(plate, width + 0.04 * shape[1], 0.165 * shape[0], color="black", alpha=0.45, linewidth=0))
    axes.add_patch(Rectangle((left, top), width, height, color="white", linewidth=0))
    axes.text(left + width / 2, top - 0.015 * shape[0], f"{length_nm:g} nm", color="white", fontsize=8, ha="center")
