"""Score a trained network on the split test, which it has not seen.

Reads the released image set and best.ckpt of a training. Writes into --out: predictions.parquet (a row per test image),
for the denoiser examples.npz (noisy, truth, denoised, image), and, last, metrics.json with 95 % intervals that count
particles, not images, and with the score of a naive guess beside each.
"""

import argparse
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from alloyscope.config import Task, TaskSettings
from alloyscope.contracts import require
from alloyscope.errors import ConfigError
from alloyscope.instrument import DetectorSection
from alloyscope.learn import metrics
from alloyscope.learn.data import ORDERINGS, ImageData, read_released
from alloyscope.learn.tasks import ImageTask, make_trainer, quiet_lightning, trained_task
from alloyscope.progress import log
from alloyscope.provenance import Stopwatch
from alloyscope.store.atomic import write_json, writing
from alloyscope.store.checkpoints import load_checkpoint
from alloyscope.store.tables import Columns, write_table

EXAMPLES = 4
LOGGED: dict[Task, tuple[str, ...]] = {
    "reading": ("accuracy", "size_mae_atoms", "composition_mae"),
    "denoising": ("psnr_dB", "ssim"),
}
IMAGE: Columns = {
    "image": "int64",
    "image_id": "string",
    "particle": "int64",
    "view": "int64",
    "dose_e_per_A2": "float64",
}
READING: Columns = {
    **IMAGE,
    "ordering": "string",
    "ordering_predicted": "string",
    "p_core_shell": "float64",
    "n_atoms": "int64",
    "n_atoms_predicted": "float64",
    "fraction_first": "float64",
    "fraction_first_predicted": "float64",
}
DENOISING: Columns = {
    **IMAGE,
    "psnr_noisy_dB": "float64",
    "psnr_empty_dB": "float64",
    "psnr_dB": "float64",
    "ssim_noisy": "float64",
    "ssim_empty": "float64",
    "ssim": "float64",
}


def run(*, task: Task, dataset: Path, checkpoint: Path, out: Path) -> None:
    """Evaluate one checkpoint.

    Args:
        task: What it was trained for.
        dataset: dataset.json of the image set.
        checkpoint: best.ckpt.
        out: Folder of predictions and scores.

    Raises:
        ConfigError: the checkpoint belongs to another task.
        GateError: the network has seen a test particle.
        StoreError: an input is missing or damaged, or an output cannot be written.
    """
    watch = Stopwatch("evaluate")
    released = read_released(dataset)
    module = trained_task(load_checkpoint(checkpoint))
    card = module.card
    if card.task != task:
        raise ConfigError(f"--checkpoint must be a network for {task}; {checkpoint} is one for {card.task}")
    tested = released.rows("test").reset_index(drop=True)
    own = pd.concat([released.rows("train"), released.rows("validation")])["particle"]
    metrics.check_separation({*card.seen, *own.tolist()}, set(tested["particle"].tolist()))
    data = ImageData(
        released, TaskSettings.model_validate(card.settings), DetectorSection.model_validate(card.detector)
    )
    log(f"{task}: scoring {len(tested)} images of {tested['particle'].nunique()} particles with {checkpoint}")
    output = predict(module, data)
    require(np.array_equal(output[:, 0], tested["image"]), "predictions must come in the order of the table")

    if task == "reading":
        table, columns = reading_table(tested, output), READING
        scores = metrics.reading_scores(table, released.rows("train"), ORDERINGS)
    else:
        table, columns = denoising_table(tested, output), DENOISING
        scores = metrics.denoising_scores(table)
        write_examples(out / "examples.npz", module, data, example_places(tested))
    write_table(out / "predictions.parquet", table, columns)
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
    log(f"{task}: " + ", ".join(f"{name} {scores[name]:.3g}" for name in LOGGED[task]))


def predict(module: ImageTask, data: ImageData) -> NDArray[np.float64]:
    """Rows of `predict_step` for every test image, in table order."""
    with quiet_lightning():
        batches = make_trainer(enable_checkpointing=False).predict(module, dataloaders=data.loader("test"))
    assert batches is not None
    stacked: NDArray[np.float64] = torch.cat([torch.as_tensor(batch) for batch in batches]).cpu().numpy()
    return stacked


def reading_table(tested: pd.DataFrame, output: NDArray[np.float64]) -> pd.DataFrame:
    janus = output[:, 1]
    truth = tested[[*IMAGE, "ordering", "n_atoms", "fraction_first"]]
    return truth.assign(
        ordering_predicted=np.where(janus > 0.5, ORDERINGS[1], ORDERINGS[0]),
        p_core_shell=1 - janus,
        n_atoms_predicted=output[:, 2],
        fraction_first_predicted=output[:, 3],
    )


def denoising_table(tested: pd.DataFrame, output: NDArray[np.float64]) -> pd.DataFrame:
    names = [name for name in DENOISING if name.startswith(("psnr", "ssim"))]
    return tested[list(IMAGE)].assign(**{name: output[:, 1 + place] for place, name in enumerate(names)})


def example_places(tested: pd.DataFrame) -> list[int]:
    """Images of different particles if there are enough, spread over the doses from lowest to highest."""
    candidates = tested.groupby("particle").head(1) if tested["particle"].nunique() >= EXAMPLES else tested
    places = candidates.sort_values("dose_e_per_A2").index.to_numpy()
    picked = np.linspace(0, len(places) - 1, min(EXAMPLES, len(places))).round().astype(int)
    return [int(place) for place in places[picked]]


def write_examples(path: Path, module: ImageTask, data: ImageData, places: list[int]) -> None:
    """Arrays noisy, truth, denoised (n, y, x) and their image rows, for the report."""
    images = data.images("test")
    items = [images[place] for place in places]
    noisy, truth, electrons = (torch.stack([item[field] for item in items]) for field in range(3))
    module.eval().cpu()
    with torch.inference_mode():
        denoised = module(noisy, electrons)
    arrays: dict[str, Any] = {"noisy": noisy[:, 0], "truth": truth[:, 0], "denoised": denoised[:, 0]}
    rows = np.array([int(item.row) for item in items])
    with writing(path) as aside, aside.open("wb") as handle:
        np.savez_compressed(handle, image=rows, **{name: array.numpy() for name, array in arrays.items()})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=get_args(Task), required=True)
    parser.add_argument("--dataset", type=Path, required=True, metavar="FILE", help="dataset.json of the image set")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="best.ckpt of the training")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of predictions and scores")
