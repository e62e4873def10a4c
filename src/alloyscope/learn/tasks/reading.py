"""Reading: ordering, number of atoms and composition from one noisy image.

The ordering is core-shell or Janus. Images of other particles, and of those without a label, teach and test size and
composition only.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from alloyscope.contracts import Ordering
from alloyscope.errors import ContractError
from alloyscope.learn.task import Batch, Block, Evaluated, Picture, Scale, Shown, Task
from alloyscope.sections import LATER

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from alloyscope.learn.networks import Taught

Depth = Annotated[int, Field(ge=1)]
ORDERINGS = ("core_shell", "janus")  # class 0, class 1
ROUNDED = 0.3  # errors of the scaled numbers below which the cost is quadratic, above linear (Huber 1964)
LN_SCALES = (-5.0, 3.0)  # of the scaled numbers
LIKELIHOOD_WEIGHT = 0.1
MAPS_WEIGHT = 0.1
PER_PARTICLE = {  # how the predictions for a particle's views are combined
    "ordering": "first",
    "p_core_shell": "mean",
    "n_atoms": "first",
    "n_atoms_predicted": "mean",
    "fraction_first": "first",
    "fraction_first_predicted": "mean",
}


class Reading(Task):
    """The network's outputs are numbers of the particle and, to teach it, maps of its atoms (networks.Taught).

    Attributes:
        architecture: `residual`, or `talk`: the network of the closest earlier code, a baseline without maps.
        blocks: Residual blocks of the residual network's three levels.
    """

    reads = ("maps",)
    scaled = ("ln_n_atoms", "fraction")
    columns: ClassVar = {
        "ordering": "string",
        "ordering_predicted": "string",
        "p_core_shell": "float64",
        "n_atoms": "int64",
        "n_atoms_predicted": "float64",
        "fraction_first": "float64",
        "fraction_first_predicted": "float64",
    }
    shown = (
        Shown(
            *("accuracy", "ordering accuracy", "%", "accuracy_baseline", "always the commoner order"),
            axis="Ordering accuracy",
        ),
        Shown(
            *("size_mae_atoms", "mean error in size", "atoms", "size_mae_baseline_atoms", "always the training mean"),
            axis="Size error (atoms)",
            lower_is_better=True,
        ),
        Shown(
            *("composition_mae", "mean error in composition", "", "composition_mae_baseline"),
            *("always the training mean",),
            axis="Composition error",
            lower_is_better=True,
        ),
    )
    heading = "Reading: ordering, size and composition"
    does = "reads ordering, size and composition from a single noisy image"
    spelled = True

    architecture: Annotated[Literal["residual", "talk"], LATER] = "residual"
    blocks: Annotated[tuple[Depth, Depth, Depth], LATER] = (1, 1, 1)

    def network(self) -> "nn.Module":
        from alloyscope.learn.networks import ReadingNetwork, TalkNetwork

        return TalkNetwork() if self.architecture == "talk" else ReadingNetwork(self.width, self.blocks)

    def labels(self, table: "pd.DataFrame") -> dict[str, NDArray[np.float32]]:
        """`janus` (1, 0, or NaN without either order), `ln_n_atoms`, `fraction_first`."""
        orders = get_args(Ordering)
        if unknown := set(table["ordering"].dropna()) - set(orders):
            raise ContractError(
                f"ordering must be one of {', '.join(orders)}, or missing; got {sorted(map(str, unknown))}; "
                "run the stage `structures` again"
            )
        janus = np.where(ordered(table), table["ordering"].eq(ORDERINGS[1]).fillna(False), np.nan)
        scalars = {
            "ln_n_atoms": np.asarray(np.log(table["n_atoms"].astype(float)), dtype=np.float32),
            "fraction_first": np.asarray(table["fraction_first"], dtype=np.float32),
        }
        if not all(np.isfinite(values).all() for values in scalars.values()):
            raise ContractError("n_atoms and fraction_first must be finite for every valid image")
        return {"janus": janus.astype(np.float32), **scalars}

    def remark(self, table: "pd.DataFrame") -> str:
        if not (without := int((~ordered(table)).sum())):
            return ""
        return (
            f"{without} of {len(table)} images are of particles that are neither core-shell nor Janus, or that have no "
            "label; they count for size and composition only"
        )

    def scale(self, labels: Mapping[str, NDArray[np.float32]]) -> Scale:
        scalars = np.stack([labels["ln_n_atoms"], labels["fraction_first"]], axis=1).astype(np.float64)
        centre, spread = scalars.mean(axis=0), scalars.std(axis=0)
        spread[spread == 0] = 1.0  # a campaign with one size or one composition needs no scale
        return Scale(tuple(centre.tolist()), tuple(spread.tolist()))

    def taught(self, network: "nn.Module", batch: Batch) -> "Taught":
        found: Taught = network.with_maps(batch["image"], batch["electrons"])  # type: ignore[operator]
        return found

    def loss(self, output: "Taught", batch: Batch, scale: Scale) -> "Tensor":
        """Cross-entropy of the order, error of the numbers, Laplace likelihood of their scales, error of the maps.

        The scales learn from the errors and do not change them, so that hard images count as much as easy ones.
        """
        import torch
        from torch.nn import functional as F

        numbers = output.numbers
        scalars = torch.stack([batch["ln_n_atoms"], batch["fraction_first"]], dim=1)
        scaled = (scalars - numbers.new_tensor(scale.centre)) / numbers.new_tensor(scale.spread)
        known = ~batch["janus"].isnan()
        costs = F.binary_cross_entropy_with_logits(numbers[known, 0], batch["janus"][known], reduction="none")
        ordering = costs.sum() / known.sum().clamp_min(1)
        errors = F.smooth_l1_loss(numbers[:, 1:3], scaled, reduction="none", beta=ROUNDED).mean(dim=0).sum()
        ln_scale = numbers[:, 3:].clamp(*LN_SCALES)
        found = (numbers[:, 1:3] - scaled).detach().abs()
        likelihood = (found * (-ln_scale).exp() + ln_scale).mean(dim=0).sum()
        maps = 0.0 if output.maps is None else self._maps_loss(output.maps, batch)
        return ordering + errors + LIKELIHOOD_WEIGHT * likelihood + maps

    def _maps_loss(self, maps: "Tensor", batch: Batch) -> "Tensor":
        """Sum over the cells of the squared error of √(atoms), whose noise is alike in thick and thin cells."""
        from alloyscope.learn.networks import MAP_ATOMS

        truth = batch["maps"].to(maps.dtype) / MAP_ATOMS
        error = (maps + 0.01).sqrt() - (truth + 0.01).sqrt()
        return MAPS_WEIGHT * error.square().sum(dim=(1, 2, 3)).mean()

    def read(self, output: "Tensor", batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        """Probability of Janus, number of atoms, fraction, and the scales of two errors, of ln n_atoms and fraction."""
        spread = output.new_tensor(scale.spread)
        scalars = output[:, 1:3] * spread + output.new_tensor(scale.centre)
        scales = output[:, 3:].clamp(*LN_SCALES).exp() * spread
        return {
            "p_janus": output[:, 0].sigmoid(),
            "n_atoms": scalars[:, 0].exp(),
            "fraction_first": scalars[:, 1].clamp(0, 1),
            "ln_n_atoms_scale": scales[:, 0],
            "fraction_first_scale": scales[:, 1],
        }

    def metrics(self, output: "Taught", batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        """The accuracy counts images with an order only."""
        read = self.read(output.numbers, batch, scale)
        right = ((read["p_janus"] > 0.5) == (batch["janus"] > 0.5)).float()
        return {
            "accuracy": right.masked_fill(batch["janus"].isnan(), float("nan")),
            "size_mae_atoms": (read["n_atoms"] - batch["ln_n_atoms"].exp()).abs(),
            "composition_mae": (read["fraction_first"] - batch["fraction_first"]).abs(),
        }

    def table(self, tested: "pd.DataFrame", read: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
        return {
            **{name: tested[name] for name in ("ordering", "n_atoms", "fraction_first")},
            "ordering_predicted": np.where(read["p_janus"] > 0.5, ORDERINGS[1], ORDERINGS[0]),
            "p_core_shell": 1 - read["p_janus"],
            "n_atoms_predicted": read["n_atoms"],
            "fraction_first_predicted": read["fraction_first"],
        }

    def score(self, predictions: "pd.DataFrame", training: "pd.DataFrame") -> dict[str, Any]:
        """Scores per image and, as `per_particle`, scores of the predictions averaged over the views."""
        combined = PER_PARTICLE | ({"group": "first"} if "group" in predictions else {})
        particles = predictions.groupby("particle", as_index=False).agg(combined)
        core_shell = particles["p_core_shell"] > 0.5
        particles["ordering_predicted"] = np.where(core_shell, ORDERINGS[0], ORDERINGS[1])
        return scores(predictions, training) | {"per_particle": scores(particles, training)}

    def section(self, found: Evaluated) -> list[Block]:
        from alloyscope.figures.learning import confusion_matrix, predicted_against_true
        from alloyscope.wording import number

        particle = found.metrics[0]["per_particle"]
        confused = Picture(
            confusion_matrix(found.predictions),
            "Confusion matrix of the ordering",
            "Test images of core-shell and Janus particles by true and predicted ordering.",
            "narrow",
        )
        scatter = Picture(
            predicted_against_true(found.predictions, found.species[0]),
            "Predicted against true size and composition",
            "Every test image: the network's prediction against the truth. Points on the line are exact.",
        )
        without = self.remark(found.predictions)
        averaged = (
            f"{without}{'. ' if without else ''}With the readings of all views of a particle averaged, "
            f"{number(particle['accuracy'], '%')} of the test particles with an order get the right one; the mean "
            f"error in size is {number(particle['size_mae_atoms'], 'atoms')}, in composition "
            f"{number(particle['composition_mae'])}."
        )
        return [Block(pictures=[confused]), Block(averaged, [scatter])]


def ordered(table: "pd.DataFrame") -> NDArray[np.bool_]:
    """Which rows are labelled with one of `ORDERINGS`, shape (n,)."""
    return table["ordering"].isin(ORDERINGS).to_numpy(dtype=bool)


def ordering_scores(table: "pd.DataFrame") -> dict[str, Any]:
    """Scores of the predicted order; None where no row has an order."""
    from alloyscope.learn.metrics import Score, balanced_accuracy, confusion, proportion, samples

    known = table[ordered(table)]
    truth, predicted = (
        np.array([ORDERINGS.index(name) for name in known[column]], dtype=np.int64)
        for column in ("ordering", "ordering_predicted")
    )
    matrix = confusion(truth, predicted, len(ORDERINGS))
    any_known = len(known) > 0
    accuracy = proportion(truth == predicted, samples(known)) if any_known else Score(None, None, None)
    # The better of the two constant answers: the majority of the training split may be the minority here.
    baseline = float(known["ordering"].value_counts(normalize=True).max()) if any_known else None
    return {
        **accuracy.entries("accuracy"),
        "accuracy_baseline": baseline,
        "balanced_accuracy": balanced_accuracy(matrix) if any_known else None,
        "confusion": {"labels": list(ORDERINGS), "true_by_predicted": matrix},
        "n_ordered": len(known),
    }


def scores(table: "pd.DataFrame", training: "pd.DataFrame") -> dict[str, Any]:
    """Scores of predictions as `name`, `name_low`, `name_high`, and their baselines."""
    from alloyscope.learn.metrics import mean_score, samples

    groups = samples(table)
    size_error = (table["n_atoms_predicted"] - table["n_atoms"]).abs()
    composition_error = (table["fraction_first_predicted"] - table["fraction_first"]).abs()
    return {
        **ordering_scores(table),
        **mean_score(size_error, groups).entries("size_mae_atoms"),
        "size_mae_baseline_atoms": float((table["n_atoms"] - training["n_atoms"].mean()).abs().mean()),
        **mean_score(composition_error, groups).entries("composition_mae"),
        "composition_mae_baseline": float((table["fraction_first"] - training["fraction_first"].mean()).abs().mean()),
    }
