"""Score a trained network on the test split, which it has not seen.

Reads the released image set and best.ckpt of a training. Writes into --out: predictions.parquet (one row per test
image), for the denoiser examples.npz (noisy, truth, denoised, image) and, last, metrics.json. Each score there has a
95 % interval, in which particles and not images are the independent samples, and the score of a naive guess.
"""

import argparse
from collections.abc import Callable
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
from alloyscope.learn.data import ImageData, read_released
from alloyscope.learn.model import Learner, make_trainer, quiet_lightning, trained_learner
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection, Device
from alloyscope.progress import log
from alloyscope.stages.arguments import add_device
from alloyscope.store.atomic import write_json, writing
from alloyscope.store.checkpoints import load_checkpoint
from alloyscope.store.tables import Columns, write_table

IMAGE: Columns = {
    "image": "int64",
    "image_id": "string",
    "particle": "int64",
    "view": "int64",
    "dose_e_per_A2": "float64",
}


def run(*, task: str, dataset: Path, checkpoint: Path, out: Path, device: Device | None = None) -> None:
    """Evaluate one checkpoint.

    Args:
        task: Task that the network was trained for.
        dataset: dataset.json of the image set.
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
    released = read_released(dataset)
    learner = trained_learner(load_checkpoint(checkpoint))
    card, record = learner.card, learner.task
    if card.task != task:
        raise ConfigError(f"--checkpoint must be a network for {task}; {checkpoint} is one for {card.task}")
    tested = released.rows("test").reset_index(drop=True)
    own = pd.concat([released.rows("train"), released.rows("validation")])["particle"]
    seen = with_relatives({*card.seen, *own.tolist()}, released.table)
    metrics.check_separation(seen, set(tested["particle"].tolist()))
    used = device or "auto"
    data = ImageData(released, record, DetectorSection.model_validate(card.detector), device=used)
    log(f"{task}: scoring {len(tested)} images of {tested['particle'].nunique()} particles with {checkpoint}")
    if said := record.remark(tested):
        log(f"{task}: in the split test, {said}")
    read = predict(learner, data, used)
    require(np.array_equal(read.pop("row"), tested["image"]), "predictions must come in the order of the table")

    table = tested[list(IMAGE)].assign(**record.table(tested, read))
    table = table.assign(**record.beside(released, tested, data.detector, applied(learner)))
    scores = record.score(table, released.rows("train"))
    if record.examples:
        write_examples(out / "examples.npz", learner, data, example_places(tested, record.examples))
    write_table(out / "predictions.parquet", table, {**IMAGE, **record.columns})
    account = {
        "task": task,
        "split": "test",
        "n_test_images": len(tested),
        "n_test_particles": int(tested["particle"].nunique()),
        "n_training_particles": int(released.rows("train")["particle"].nunique()),
        "training": card.digest,
        "dataset": released.digest,
    }
    write_json(out / "metrics.json", account | scores | {"provenance": watch.record()})
    log(f"{task}: " + ", ".join(f"{shown.name} {said_of(scores[shown.name])}" for shown in record.shown))


def said_of(score: float | None) -> str:
    return "without a value" if score is None else f"{score:.3g}"


def predict(learner: Learner, data: ImageData, device: Device = "auto") -> dict[str, NDArray[np.float64]]:
    """Predictions for every test image in table order, and the images' rows; each array has shape (n,)."""
    with quiet_lightning():
        batches = make_trainer(device, enable_checkpointing=False).predict(learner, dataloaders=data.loader("test"))
    assert batches is not None
    read: list[dict[str, torch.Tensor]] = batches  # type: ignore[assignment]
    return {name: torch.cat([batch[name] for batch in read]).cpu().numpy() for name in read[0]}


def applied(learner: Learner) -> Callable[[NDArray[Any], float], NDArray[Any]]:
    """The network as a function of one image, shape (y, x), and its electrons per pixel, on the CPU."""
    learner.eval().cpu()

    def apply(image: NDArray[Any], electrons: float) -> NDArray[Any]:
        with torch.inference_mode():
            shown = torch.from_numpy(image.astype(np.float32))[None, None]
            output: NDArray[Any] = learner(shown, torch.tensor([electrons], dtype=torch.float32))[0].numpy()
        return output

    return apply


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
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="best.ckpt of the training")
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of predictions and scores")
