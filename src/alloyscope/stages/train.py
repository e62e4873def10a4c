"""Train the network of one task; a killed training resumes after its last checkpoint, in the middle of an epoch too.

Reads the released image set (dataset.json with images.parquet and images.zarr beside it). Trains on the training split
and keeps the weights with the lowest loss on the validation split. Writes into --out: last.ckpt after every epoch
and so many steps (all that is needed to resume), best.ckpt (weights), metrics.csv (one row per epoch) and, last,
run.json.
"""

import argparse
import math
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException

from alloyscope.campaign.provenance import Stopwatch, gpu
from alloyscope.campaign.stages import RECIPES
from alloyscope.contracts import Split
from alloyscope.errors import ConfigError, StoreError
from alloyscope.learn.data import ImageData, Released, read_released
from alloyscope.learn.maps import projected_maps, read_particles
from alloyscope.learn.model import Card, Learner, make_trainer, new_learner, quiet_lightning
from alloyscope.learn.networks import PIXEL_MULTIPLE
from alloyscope.learn.subset import chosen
from alloyscope.learn.task import CELL_PIXELS, Batch, Task
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection, Device
from alloyscope.progress import log
from alloyscope.sections import parse_section
from alloyscope.stages.arguments import add_device, add_section, content
from alloyscope.store.atomic import digest, refused, write_json, write_text
from alloyscope.store.checkpoints import load_checkpoint, save_checkpoint
from alloyscope.wording import duration

LAST, BEST, METRICS, RUN = "last.ckpt", "best.ckpt", "metrics.csv", "run.json"
CHECKPOINT_STEPS = 200
STEEPEST = 5.0  # norm to which a steeper gradient is scaled down


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints aside and renames them; Lightning itself would use a temporary folder on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save_checkpoint(Path(path), checkpoint)


class Keeper(Checkpoint):
    """Keeps, after every epoch, a row of metrics and the best weights so far, and writes both into last.ckpt.

    A row says how many training images an epoch took in a second, and which share of that time it waited for them;
    preparing them on the training device counts as waiting. Within an epoch, last.ckpt is written after every
    `checkpoint_steps` steps, and before the end by SIGTERM.
    """

    def __init__(self, folder: Path, task: str, checkpoint_steps: int) -> None:
        self.folder, self.task, self.checkpoint_steps = folder, task, checkpoint_steps
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self.begin()

    def begin(self) -> None:
        """Begin an epoch."""
        self.started = self.idle_since = time.perf_counter()
        self.earlier_s = self.waited_s = 0.0  # earlier: of the epoch, before this process
        self.images, self.loss = 0, torch.zeros((), dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        epoch = {
            "earlier_s": self.earlier_s + time.perf_counter() - self.started,
            "waited_s": self.waited_s,
            "images": self.images,
            "loss": self.loss.cpu(),
        }
        return {"rows": self.rows, "best": self.best, "gpu": gpu(), "epoch": epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.best = list(state_dict["rows"]), state_dict["best"]
        vars(self).update(state_dict["epoch"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = self.idle_since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.waited_s += time.perf_counter() - self.idle_since
        self.images += len(batch["row"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach().double()
        self.loss = self.loss.to(loss.device) + loss * len(batch["row"])
        done = batch_idx + 1
        last = done == trainer.num_training_batches  # its checkpoint comes after the validation
        if not last and (done % self.checkpoint_steps == 0 or trainer.received_sigterm):
            trainer.save_checkpoint(self.folder / LAST)
        self.idle_since = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        values = {"train_loss": float(self.loss) / self.images, **values}
        trained_s = self.earlier_s + self.idle_since - self.started  # validation comes after it
        row: dict[str, float] = {
            "epoch": trainer.current_epoch,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(self.earlier_s + time.perf_counter() - self.started, 3),
            "images_per_s": round(self.images / trained_s, 3),
            "wait_share": round(self.waited_s / trained_s, 4),
            **values,
        }
        if not math.isfinite(values["train_loss"]):
            rate = pl_module.hparams["card"]["settings"]["learning_rate"]
            raise ConfigError(
                f"training.{self.task}.learning_rate: must be lower; at {rate:g} the loss became {values['train_loss']}"
            )
        self.rows.append(row)
        if self.best is None or row["validation_loss"] < self.best["validation_loss"]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in pl_module.state_dict().items()}
            self.best = {"epoch": row["epoch"], "validation_loss": row["validation_loss"], "state_dict": weights}
        trainer.save_checkpoint(self.folder / LAST)
        write_text(self.folder / METRICS, metrics_csv(self.rows))
        left = int(trainer.max_epochs or 0) - trainer.current_epoch - 1
        log(
            f"{self.task}: epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, {row['seconds']:.1f} s, "
            f"{row['images_per_s']:.0f} images/s, {row['wait_share']:.1%} of it waiting for images, "
            f"{duration(left * row['seconds'])} left, "
            + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        )


def metrics_csv(rows: list[dict[str, float]]) -> str:
    return pd.DataFrame(rows).to_csv(index=False)


def resumable(path: Path, wanted: str) -> dict[str, Any] | None:
    """The checkpoint to resume from; None when there is no checkpoint of this digest."""
    if not path.exists():
        return None
    try:
        checkpoint = load_checkpoint(path)
    except StoreError as error:
        log(f"{error}; training starts from the beginning")
        return None
    found = checkpoint["hyper_parameters"]["card"]["digest"]
    if found != wanted:
        log(
            f"{path}: belongs to other settings or another image set ({found}, not {wanted}); "
            f"training starts from the beginning"
        )
        return None
    return checkpoint


def make_card(seed: int, task: Task, detector: DetectorSection, data: ImageData, released: Released) -> Card:
    scale = task.scale(data.images("train").labels)
    seen = pd.concat([released.rows("train"), released.rows("validation")])["particle"]
    return Card(
        task=task.name(),
        seed=seed,
        settings=task.model_dump(mode="json"),
        detector=detector.model_dump(mode="json"),
        centre=scale.centre,
        spread=scale.spread,
        seen=sorted(set(seen.tolist())),
        digest=digest(
            task.name(), str(seed), task.as_json(), detector.as_json(), released.digest, str(RECIPES["train"])
        ),
    )


def fit(learner: Learner, data: ImageData, out: Path, *, resume: bool, device: Device, checkpoint_steps: int) -> None:
    """Train from the last checkpoint, or from the beginning, to the end."""
    with quiet_lightning():
        trainer = make_trainer(
            device,
            max_epochs=data.schedule.epochs,
            gradient_clip_val=STEEPEST,
            enable_checkpointing=True,
            callbacks=[Keeper(out, learner.card.task, checkpoint_steps)],
            plugins=[WholeFiles()],
        )
        try:
            trainer.fit(learner, datamodule=data, ckpt_path=out / LAST if resume else None, weights_only=True)
        except SIGTERMException:
            # After SIGTERM (preemption) Lightning stops after the batch, but with exit code 0.
            epoch = trainer.current_epoch + 1
            log(f"{learner.card.task}: ended by SIGTERM in epoch {epoch}; run snakemake again to resume there")
            raise SystemExit(128 + signal.SIGTERM) from None


def check_pixels(task: Task, shape: tuple[int, ...]) -> None:
    """Check that images of this shape fit the networks, and crops the images.

    Raises:
        ConfigError: they do not.
    """
    if any(edge % PIXEL_MULTIPLE for edge in shape):
        raise ConfigError(f"imaging.pixels must be a multiple of {PIXEL_MULTIPLE} to train on; got {shape}")
    if task.crop_pixels is not None and task.crop_pixels > min(shape):
        raise ConfigError(
            f"training.{task.name()}.crop_pixels must be at most imaging.pixels, {min(shape)}; got {task.crop_pixels}"
        )


def maps_of(
    released: Released, structures: Path | None, species: Sequence[str] | None
) -> dict[Split, NDArray[np.float16]]:
    """Projected maps of the images of training and validation.

    Raises:
        ConfigError: no structures or species are given.
        ContractError: a particle has no structure.
        StoreError: a file of structures is damaged.
    """
    if structures is None or not species:
        raise ConfigError("--structures and --species must be given to train a task that reads projected maps")
    particles, field_A = read_particles(structures), released.pixel_size_A * released.counts.shape[-1]
    cells = released.counts.shape[-1] // CELL_PIXELS
    splits: tuple[Split, ...] = ("train", "validation")
    return {split: projected_maps(released.rows(split), particles, species, field_A, cells) for split in splits}


def clear(out: Path) -> None:
    """Remove the files of an earlier training with other settings."""
    try:
        for name in (RUN, BEST, METRICS, LAST):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(refused(out, error)) from None


def run(
    *,
    task: str,
    seed: int,
    dataset: Path,
    settings: Mapping[str, Any],
    detector: DetectorSection,
    loader_workers: int,
    out: Path,
    checkpoint_steps: int | None = None,
    structures: Path | None = None,
    species: Sequence[str] | None = None,
    device: Device | None = None,
) -> None:
    """Train one network.

    Args:
        task: Name of the task.
        seed: Seed of weights, order of the images and fresh noise.
        dataset: dataset.json of the image set.
        settings: Section of the task.
        detector: Distributions of dose and camera parameters, for fresh noise.
        loader_workers: Number of processes that read images.
        out: Folder of this run.
        checkpoint_steps: Most steps of an epoch that a kill costs (default: CHECKPOINT_STEPS).
        structures: Folder of the structures, which a task that reads projected maps needs.
        species: The two species, in order.
        device: Device that trains (default: auto).

    Raises:
        ConfigError: the settings are faulty, the images do not fit the network, the loss is not finite, or there is no
            GPU that is asked for or that this job was given.
        ContractError: a split is empty, or a label is missing.
        StoreError: an input is missing or damaged, or an output cannot be written.
    """
    watch = Stopwatch("train")
    record = parse_section(TASKS[task], settings, "settings")
    released = read_released(dataset)
    released = replace(released, table=chosen(released.table, record))
    shape = released.clean.shape
    check_pixels(record, shape[1:])
    used = device or "auto"
    for split in ("train", "validation"):
        if said := record.remark(released.rows(split)):
            log(f"{task}: in the split {split}, {said}")
    data = ImageData(released, record, detector, seed=seed, loader_workers=loader_workers, device=used)
    if "maps" in record.reads:
        data.maps = maps_of(released, structures, species)
    card = make_card(seed, record, detector, data, released)
    checkpoint = resumable(out / LAST, card.digest)
    if checkpoint is None:
        clear(out)
    else:
        data.first_step = checkpoint["global_step"]
    if data.first_step < data.schedule.steps:
        learner, resume = new_learner(card), checkpoint is not None
        fit(learner, data, out, resume=resume, device=used, checkpoint_steps=checkpoint_steps or CHECKPOINT_STEPS)
    finish(out, card, released, watch)


def finish(out: Path, card: Card, released: Released, watch: Stopwatch) -> None:
    """Write best.ckpt, metrics.csv and run.json from last.ckpt alone, so that they agree after any interruption."""
    last = load_checkpoint(out / LAST)
    state = next(state for name, state in last["callbacks"].items() if name.startswith(Keeper.__name__))
    best, rows = state["best"], state["rows"]
    kept = ("hyper_parameters", "hparams_name", "pytorch-lightning_version")
    save_checkpoint(
        out / BEST,
        {name: last[name] for name in kept if name in last}
        | {"state_dict": best["state_dict"], "epoch": best["epoch"], "global_step": last["global_step"]},
    )
    write_text(out / METRICS, metrics_csv(rows))
    record = watch.record()
    record["gpu"] = record["gpu"] or state.get("gpu")  # a process with no epoch left to train has used no GPU
    write_json(
        out / RUN,
        {
            "task": card.task,
            "seed": card.seed,
            "digest": card.digest,
            "settings": card.settings,
            "splits": {
                name: {"particles": int(rows_of["particle"].nunique()), "images": len(rows_of)}
                for name, rows_of in released.table.groupby("split")
            },
            "epochs": len(rows),
            "best_epoch": best["epoch"],
            "parameters": sum(tensor.numel() for tensor in best["state_dict"].values()),
            "seconds_per_epoch": [row["seconds"] for row in rows],
            "wait_share_per_epoch": [row.get("wait_share") for row in rows],
            "scaling": {
                name: [centre, spread] for name, centre, spread in zip(card.record.scaled, card.centre, card.spread)
            },
            "last_epoch": rows[-1],
            "provenance": record,
        },
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=list(TASKS), required=True)
    parser.add_argument("--seed", type=int, required=True, metavar="N", help="seed of weights, order and fresh noise")
    parser.add_argument("--dataset", type=Path, required=True, metavar="FILE", help="dataset.json of the image set")
    parser.add_argument(
        "--settings", type=content("settings"), required=True, metavar="JSON", help="section of the task as JSON"
    )
    add_section(parser, "detector", DetectorSection)
    parser.add_argument(
        "--loader-workers",
        type=int,
        default=0,
        metavar="N",
        help="number of processes that read images",
    )
    parser.add_argument(
        "--checkpoint-steps",
        type=int,
        metavar="N",
        help=f"most steps of an epoch that a kill costs (default: {CHECKPOINT_STEPS})",
    )
    parser.add_argument("--structures", type=Path, metavar="DIR", help="folder of the structures, for projected maps")
    parser.add_argument("--species", nargs=2, metavar="X", help="the two species, for projected maps")
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of this run")
