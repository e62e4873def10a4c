"""Microscope: defocus, twofold astigmatism and dose from one noisy image.

The astigmatism C12 with its angle φ12 is read as the two components C12 cos 2φ12 and C12 sin 2φ12: they have no jump,
and vanish with C12. They turn with the image: a quarter turn changes the sign of both, a mirror that of the second.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alloyscope.errors import ContractError
from alloyscope.learn.task import Batch, Block, Evaluated, Picture, Scale, Shown, Task

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

READ = ("defocus_A", "C12_cos_A", "C12_sin_A", "ln_dose")  # outputs of the network; after them, ln of their scales
AXES = {
    "defocus_A": "Defocus (Å)",
    "C12_cos_A": "C12 cos 2φ12 (Å)",
    "C12_sin_A": "C12 sin 2φ12 (Å)",
    "ln_dose": "ln(dose in e/Å²)",
}
MEAN = "always the training mean"


class Microscope(Task):
    """The network's outputs are the scaled labels and the logarithm of a Laplace scale of each."""

    scaled = READ
    columns: ClassVar = dict.fromkeys(
        [column for name in READ for column in (name, f"{name}_predicted", f"{name}_scale")], "float64"
    )
    shown = tuple(
        Shown(f"{name}_mae", words, unit, f"{name}_mae_baseline", MEAN, axis=axis, lower_is_better=True)
        for name, words, unit, axis in (
            ("defocus_A", "mean error in defocus", "Å", "Defocus error (Å)"),
            ("C12_A", "mean length of the error in C12", "Å", "C12 error (Å)"),
            ("ln_dose", "mean error in ln(dose)", "", "Error of ln(dose)"),
        )
    )
    symmetries = 1
    heading = "Microscope: defocus, astigmatism and dose"
    does = "reads defocus, twofold astigmatism and dose from a single noisy image"

    def network(self) -> "nn.Module":
        from alloyscope.learn.networks import NumbersNetwork

        return NumbersNetwork(self.width, outputs=2 * len(READ))

    def labels(self, table: "pd.DataFrame") -> dict[str, NDArray[np.float32]]:
        """The labels READ of the stored image; the dose of a batch is that of the image as shown."""
        found = {name: np.asarray(values, dtype=np.float32) for name, values in truths(table).items()}
        if not all(np.isfinite(values).all() for values in found.values()):
            raise ContractError(
                "defocus_A, C12_A, phi12_rad and ln(dose_e_per_A2) must be finite for every valid image"
            )
        return found

    def scale(self, labels: Mapping[str, NDArray[np.float32]]) -> Scale:
        values = np.stack([labels[name] for name in READ], axis=1).astype(np.float64)
        centre, spread = values.mean(axis=0), values.std(axis=0)
        centre[1:3] = 0.0  # the components of C12 change their sign when an image is turned
        spread[1:3] = np.sqrt((values[:, 1:3] ** 2).mean())
        spread[spread == 0] = 1.0  # a campaign with one value needs no scale
        return Scale(tuple(centre.tolist()), tuple(spread.tolist()))

    def loss(self, output: Any, batch: Batch, scale: Scale) -> "Tensor":
        """Negative logarithm of Laplace densities, summed over the labels: |error|/s + ln 2s, with a scale s each."""
        value, ln_scale = output.chunk(2, dim=1)
        ln_scale = ln_scale.clamp(-7, 7)
        wanted = (shown_truths(batch) - output.new_tensor(scale.centre)) / output.new_tensor(scale.spread)
        each: Tensor = (value - wanted).abs() * (-ln_scale).exp() + ln_scale + float(np.log(2))
        return each.sum(dim=1).mean()

    def metrics(self, output: "Tensor", batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        value = output[:, : len(READ)] * output.new_tensor(scale.spread) + output.new_tensor(scale.centre)
        error = value - shown_truths(batch)
        return {
            "defocus_A_mae": error[:, 0].abs(),
            "C12_A_mae": error[:, 1:3].square().sum(dim=1).sqrt(),
            "ln_dose_mae": error[:, 3].abs(),
        }

    def read(self, output: "Tensor", batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        """The labels as predicted, and the Laplace scale of each, in its unit."""
        value, ln_scale = output.chunk(2, dim=1)
        spread = output.new_tensor(scale.spread)
        value, width = value * spread + output.new_tensor(scale.centre), ln_scale.clamp(-7, 7).exp() * spread
        return {f"{name}_predicted": value[:, place] for place, name in enumerate(READ)} | {
            f"{name}_scale": width[:, place] for place, name in enumerate(READ)
        }

    def table(self, tested: "pd.DataFrame", read: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
        return truths(tested) | dict(read)

    def score(self, predictions: "pd.DataFrame", training: "pd.DataFrame") -> dict[str, Any]:
        """Mean absolute errors; that of C12 is the length of the error of its two components."""
        from alloyscope.learn.metrics import mean_score, samples

        constant = {name: float(np.mean(values)) for name, values in truths(training).items()}
        constant |= {"C12_cos_A": 0.0, "C12_sin_A": 0.0}  # all directions are alike
        error = {name: predictions[f"{name}_predicted"] - predictions[name] for name in READ}
        guess = {name: constant[name] - predictions[name] for name in READ}
        found: dict[str, Any] = {}
        for name, parts in {"defocus_A": READ[:1], "C12_A": READ[1:3], "ln_dose": READ[3:]}.items():
            length, blind = (
                np.sqrt(sum((each[part].astype(float) ** 2 for part in parts), np.zeros(len(predictions))))
                for each in (error, guess)
            )
            found |= mean_score(length, samples(predictions)).entries(f"{name}_mae")
            found[f"{name}_mae_baseline"] = float(np.mean(blind))
        held = {name: (error[name].abs() <= np.log(10) * predictions[f"{name}_scale"]).mean() for name in READ}
        return found | {"within_90": {name: float(share) for name, share in held.items()}}

    def section(self, found: Evaluated) -> list[Block]:
        from alloyscope.figures.learning import quantities_against_truth
        from alloyscope.wording import number

        shares = found.metrics[0]["within_90"]
        said = (
            "The network states a Laplace scale for each quantity. The interval that should hold 90 % of the truths, "
            f"ln 10 scales to either side, holds {number(shares['defocus_A'], '%')} for the defocus, "
            f"{number(shares['C12_cos_A'], '%')} and {number(shares['C12_sin_A'], '%')} for the components of C12, and "
            f"{number(shares['ln_dose'], '%')} for ln(dose). Defocus is measured from the particle's lower face."
        )
        caption = "Every test image: the network's prediction against the truth. Points on the line are exact."
        figure = quantities_against_truth(found.predictions, AXES)
        return [Block(said, [Picture(figure, "Predicted against true microscope settings", caption, "wide")])]


def truths(table: "pd.DataFrame") -> dict[str, NDArray[np.float64]]:
    """The labels READ from rows of images.parquet, (n,) each."""
    defocus, c12, phi12, dose = (
        table[name].to_numpy(dtype=np.float64) for name in ("defocus_A", "C12_A", "phi12_rad", "dose_e_per_A2")
    )
    values = (defocus, c12 * np.cos(2 * phi12), c12 * np.sin(2 * phi12), np.log(dose))
    return dict(zip(READ, values, strict=True))


def shown_truths(batch: Batch) -> "Tensor":
    """The labels READ of the images as they are shown: turned, and with the dose drawn for this visit, (n, 4)."""
    import torch

    symmetry = batch["symmetry"]
    quarter = 1.0 - 2.0 * (symmetry % 2)
    mirror = 1.0 - 2.0 * (symmetry >= 4)
    parts = (
        batch["defocus_A"],
        batch["C12_cos_A"] * quarter,
        batch["C12_sin_A"] * quarter * mirror,
        batch["dose_e_per_A2"].log(),
    )
    return torch.stack(parts, dim=1)
