"""Export a trained network as a folder that works without its campaign, or show the card of such a model.

`model export` takes the folder of one training, as results/demo/training/reading/seed-0, and writes weights.safetensors
and card.json. It also reads the evaluation of that training and the settings of its campaign. `model show` takes such a
folder, or the name of a model that is part of the package. The formats execute nothing: docs/models.md.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from alloyscope.campaign.folder import read_campaign
from alloyscope.config.model import Config
from alloyscope.errors import ConfigError, StoreError
from alloyscope.learn.calibration import Calibration
from alloyscope.learn.likeness import Likeness
from alloyscope.learn.shipped import (
    CARD,
    WEIGHTS,
    ModelCard,
    Origin,
    model_folder,
    packaged_models,
    read_card,
    write_model,
)
from alloyscope.sections import parse_section
from alloyscope.store.atomic import digest, read_json
from alloyscope.store.checkpoints import load_checkpoint
from alloyscope.store.tables import read_table
from alloyscope.wording import interval, number

SCORES = (  # name in metrics.json, words, unit
    ("balanced_accuracy", "order, balanced accuracy", "%"),
    ("bright_accuracy", "order above 1000 e/Å², balanced", "%"),
    ("size_mae_atoms", "mean error in size", "atoms"),
    ("composition_mae", "mean error in composition", ""),
    ("psnr_dB", "PSNR of the denoised image", "dB"),
)
LEFT_OUT = ("provenance", "dataset", "training", "confusion", "reliability")  # of metrics.json


def export(*, training: Path, out: Path, name: str | None = None) -> ModelCard:
    """Export one training.

    Args:
        training: Folder of the training, <results>/training/<task>/<run>.
        out: Folder of the model.
        name: Name of the model (default: that of the folder).

    Returns:
        The card.

    Raises:
        ConfigError: the folder is not one of a training.
        StoreError: a file is missing, damaged or of another training.
    """
    training = training.resolve()
    task, run, folder = training.parent.name, training.name, training.parents[2]
    if training.parents[1].name != "training":
        raise ConfigError(f"{training}: must be the folder of a training, <results>/training/<task>/<run>")
    checkpoint, account = load_checkpoint(training / "best.ckpt"), read_json(training / "run.json")
    card = checkpoint["hyper_parameters"]["card"]
    evaluation = folder / "evaluation" / task / run
    scores = read_json(evaluation / "metrics.json")
    if scores.get("training") != card["digest"]:
        raise StoreError(f"{evaluation}: belongs to another training; run snakemake again")
    found = evaluation / "calibration.json"
    calibrated = read_json(found) if found.exists() else {}
    likeness = calibrated.pop("likeness", None)
    config = read_campaign(folder)
    weights = {
        key.removeprefix("network."): tensor
        for key, tensor in checkpoint["state_dict"].items()
        if key.startswith("network.")
    }
    made = ModelCard(
        name=name or out.resolve().name,
        task=task,
        settings=card["settings"] | {"normalised_by": card["settings"].get("normalised_by", "dose")},
        classes=("core_shell", "janus") if calibrated else (),
        centre=tuple(card["centre"]),
        spread=tuple(card["spread"]),
        symmetries=scores.get("symmetries", 1),
        parameters=sum(tensor.numel() for tensor in weights.values()),
        species=config.particles.species,
        labels=config.labels,
        imaging=config.imaging,
        optics=config.optics,
        detector=config.detector,
        trained_on=origin(config, account, scores, read_table(folder / "hrtem" / "images.parquet")),
        calibration=parse_section(Calibration, calibrated, str(found)) if calibrated else None,
        likeness=parse_section(Likeness, likeness, str(found)) if likeness else None,
        scores={key: value for key, value in scores.items() if key not in LEFT_OUT},
        weights_sha256="",
    )
    write_model(out, made, weights)
    return made


def origin(config: Config, run: dict[str, Any], scores: dict[str, Any], images: pd.DataFrame) -> Origin:
    """What a training saw, from its account run.json, the scores and images.parquet."""
    train = images[(images["split"] == "train") & images["valid"].astype(bool)]
    splits = run["splits"]["train"]

    def extent(column: str) -> tuple[float, float, float]:
        values = train[column].astype(float)
        return float(values.min()), float(values.max()), float(values.mean())

    return Origin(
        campaign=config.campaign.name,
        dataset=scores["dataset"],
        images_digest=digest(config.image_settings()),
        potential=config.potential.set,
        protocols=tuple(config.particles.used),
        particles=splits["particles"],
        images=splits["images"],
        visits=run.get("visits", run["epochs"] * splits["images"]),
        seed=run["seed"],
        n_atoms=extent("n_atoms"),
        fraction_first=extent("fraction_first"),
        commit=run["provenance"]["commit"],
        versions=run["provenance"]["versions"],
    )


def described(card: ModelCard) -> str:
    """The card in a few lines."""
    data, imaging = card.trained_on, card.imaging
    presets = dict.fromkeys((imaging.preset, card.optics.preset, card.detector.preset))
    low, high, _ = data.n_atoms
    lines = [
        f"{card.name}: {card.task} for {card.words} ({imaging.pixels} pixels, {imaging.field_A:.1f} Å)",
        f"trained on {data.particles} particles of {low:.0f} to {high:.0f} atoms, {data.images} images, {data.visits} "
        f"visits; preset {', '.join(presets)}; campaign {data.campaign}, potential {data.potential}, commit "
        f"{(data.commit or 'unknown')[:9]}",
        f"{card.parameters} parameters, output averaged over {card.symmetries} symmetries, licence {card.licence}",
    ]
    for name, words, unit in SCORES:
        if card.scores.get(name) is not None:
            ends = (card.scores.get(f"{name}_low"), card.scores.get(f"{name}_high"))
            between = f" ({interval(*ends, unit)})" if None not in ends else ""
            lines.append(f"{words}: {number(card.scores[name], unit)}{between}")
    if card.calibration:
        held = card.scores.get("intervals", {}).get("n_atoms", {}).get("coverage")
        lines.append(
            f"90 % intervals from {card.calibration.particles} particles; they hold {number(held, '%')} of the sizes"
        )
    else:
        lines.append("no calibration: predictions have no intervals")
    lines.append(f"knows images unlike its training: {'yes' if card.likeness else 'no'}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    exporting = actions.add_parser("export", help="write a model folder from a training of a campaign")
    exporting.add_argument(
        "training",
        type=Path,
        metavar="TRAINING",
        help="its folder, e.g. results/demo/training/reading/seed-0",
    )
    exporting.add_argument("out", type=Path, metavar="DIR", help="folder of the model")
    exporting.add_argument("--name", help="name of the model (default: that of its folder)")
    showing = actions.add_parser("show", help="show the card of a model")
    known = ", ".join(packaged_models()) or "none so far"
    showing.add_argument("model", metavar="MODEL", help=f"folder of a model, or a name in the package: {known}")


def main(arguments: argparse.Namespace) -> None:
    if arguments.action == "show":
        print(described(read_card(model_folder(arguments.model))))
        return
    card = export(training=arguments.training, out=arguments.out, name=arguments.name)
    size = sum((arguments.out / file).stat().st_size for file in (CARD, WEIGHTS))
    print(described(card))
    print(f"{arguments.out}: {size / 1e6:.2f} MB")
