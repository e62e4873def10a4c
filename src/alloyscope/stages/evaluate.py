"""Score a trained network on the test split, which it has not seen.

Reads the released image set and best.ckpt of a training. Writes into --out: predictions.parquet (one row per test
image), for the denoiser examples.npz (noisy, truth, denoised, image) and, last, metrics.json. Each score there has a
95 % interval, in which particles and not images are the independent samples, and the score of a naive guess.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.contracts import require
from alloyscope.errors import ConfigError
from alloyscope.learn import metrics
from alloyscope.learn.data import ImageData, Released, read_released
from alloyscope.learn.model import Card, Learner, make_trainer, quiet_lightning, trained_learner
from alloyscope.learn.subset import chosen, unseen
from alloyscope.learn.task import Task
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection, Device
from alloyscope.progress import log
from alloyscope.stages.arguments import add_device
from alloyscope.store.atomic import read_json, write_json, writing
from alloyscope.store.checkpoints import load_checkpoint
from alloyscope.store.tables import Columns, read_table, write_table

IMAGE: Columns = {
    "image": "int64",
    "image_id": "string",
    "particle": "int64",
    "view": "int64",
    "dose_e_per_A2": "float64",
}


def run(
    *,
    task: str,
    dataset: Path,
    checkpoint: Path,
    out: Path,
    trained_on: Path | None = None,
    device: Device | None = None,
) -> None:
    """Evaluate one checkpoint.

    Args:
        task: Task that the network was trained for.
        dataset: dataset.json of the image set.
        trained_on: dataset.json of the set that the network was trained on (default: `dataset`).
        checkpoint: best.ckpt.
        out: Folder of predictions and scores.
        device: Device that runs the network (default: auto).

    Raises:
        ConfigError: the checkpoint belongs to another task, or there is no GPU that is asked for or that this job was
            given.
        GateError: the network has seen a test particle.
        StoreError: an input is missing or damaged, or an output cannot be written.
    """
    watch = Stopwatch("evaluate")
    learner = trained_learner(load_checkpoint(checkpoint))
    card, record = learner.card, learner.task
    if card.task != task:
        raise ConfigError(f"--checkpoint must be a network for {task}; {checkpoint} is one for {card.task}")
    detector = DetectorSection.model_validate(card.detector)
    if trained_on is None or trained_on == dataset:
        released, trained = own_images(dataset, card, record)
    else:
        released, trained = other_images(dataset, trained_on, card, record)
        account = read_json(dataset)
        detector = detector.model_copy(update={name: account[name] for name in ("gain", "offset")})
    tested = released.rows("test").reset_index(drop=True)
    used = device or "auto"
    data = ImageData(released, record, detector, device=used)
    log(f"{task}: scoring {len(tested)} images of {tested['particle'].nunique()} particles with {checkpoint}")
    if said := record.remark(tested):
        log(f"{task}: in the split test, {said}")
    read = predict(learner, data, used)
    require(np.array_equal(read.pop("row"), tested["image"]), "predictions must come in the order of the table")

    table = tested[list(IMAGE)].assign(**record.table(tested, read))
    scores = record.score(table, trained)
    if record.examples:
        write_examples(out / "examples.npz", learner, data, example_places(tested, record.examples))
    write_table(out / "predictions.parquet", table, {**IMAGE, **record.columns})
    account = {
        "task": task,
        "split": "test",
        "split_by": record.split if trained_on in (None, dataset) else "particle",
        "n_test_images": len(tested),
        "n_test_particles": int(tested["particle"].nunique()),
        "n_training_particles": int(trained["particle"].nunique()),
        "training": card.digest,
        "dataset": released.digest,
    }
    write_json(out / "metrics.json", account | scores | {"provenance": watch.record()})
    log(f"{task}: " + ", ".join(f"{shown.name} {said_of(scores[shown.name])}" for shown in record.shown))


def own_images(dataset: Path, card: Card, task: Task) -> tuple[Released, pd.DataFrame]:
    """The set that a network was trained on, as it saw it, and the rows that trained it.

    Raises:
        GateError: the network has seen a test particle, and the set was not split by image on purpose.
    """
    whole = read_released(dataset)
    released = replace(whole, table=chosen(whole.table, task))
    if task.split == "particle":
        own = pd.concat([whole.rows("train"), whole.rows("validation")])["particle"]
        seen = with_relatives({*card.seen, *own.tolist()}, whole.table)
        metrics.check_separation(seen, set(whole.rows("test")["particle"].tolist()))
    return released, released.rows("train")


def other_images(dataset: Path, trained_on: Path, card: Card, task: Task) -> tuple[Released, pd.DataFrame]:
    """Another set without the particles that a network may have seen, and the rows that trained it."""
    images = read_table(trained_on.parent / "images.parquet")
    trained = chosen(images[images["valid"].astype(bool)], task)
    released = read_released(dataset)
    left = unseen(released.table, images, with_relatives(set(card.seen), images))
    if fewer := len(released.table) - len(left):
        log(f"{task.name()}: left out {fewer} images of particles that the network may have seen")
    return replace(released, table=left), trained[trained["split"] == "train"]


def said_of(score: float | None) -> str:
    return "without a value" if score is None else f"{score:.3g}"


def predict(learner: Learner, data: ImageData, device: Device = "auto") -> dict[str, NDArray[np.float64]]:
    """Predictions for every test image in table order, and the images' rows; each array has shape (n,)."""
    with quiet_lightning():
        batches = make_trainer(device, enable_checkpointing=False).predict(learner, dataloaders=data.loader("test"))
    assert batches is not None
    read: list[dict[str, torch.Tensor]] = batches  # type: ignore[assignment]
    return {name: torch.cat([batch[name] for batch in read]).cpu().numpy() for name in read[0]}


def example_places(tested: pd.DataFrame, count: int) -> list[int]:
    """Choose example images, of different particles if possible, spread over the doses from lowest to highest."""
    candidates = tested.groupby("particle").head(1) if tested["particle"].nunique() >= count else tested
    places = candidates.sort_values("dose_e_per_A2").index.to_numpy()
    picked = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
    return [int(place) for place in places[picked]]


def write_examples(path: Path, learner: Learner, data: ImageData, places: list[int]) -> None:
    """Write the arrays noisy, truth and denoised, shape (n, y, x), and their image rows, for the report."""
    images = data.images("test")
    items = [images[place] for place in places]
    noisy, truth, electrons, rows = (
        torch.stack([item[name] for item in items]) for name in ("image", "clean", "electrons", "row")
    )
    learner.eval().cpu()
    with torch.inference_mode():
        denoised = learner(noisy, electrons)
    arrays: dict[str, Any] = {"noisy": noisy[:, 0], "truth": truth[:, 0], "denoised": denoised[:, 0], "image": rows}
    with writing(path) as aside, aside.open("wb") as handle:
        np.savez_compressed(handle, **{name: array.numpy() for name, array in arrays.items()})


def with_relatives(particles: set[int], images: pd.DataFrame) -> set[int]:
    """The particles, and those of an image set that are in the same groups."""
    groups = images.loc[images["particle"].isin(particles), "group"]
    return particles | set(images.loc[images["group"].isin(groups), "particle"].tolist())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=list(TASKS), required=True)
    parser.add_argument("--dataset", type=Path, required=True, metavar="FILE", help="dataset.json of the image set")
    parser.add_argument(
        "--trained-on",
        type=Path,
        metavar="FILE",
        help="dataset.json of the set that the network was trained on, if it is another one than --dataset; particles "
        "that it may have seen are then left out",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="best.ckpt of the training")
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of predictions and scores")
