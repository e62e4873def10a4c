"""The Lightning module of all tasks, the card of its checkpoint, and the trainer."""

import logging
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning import LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from alloyscope.ids import seed_for
from alloyscope.learn.muon import Muon
from alloyscope.learn.preparation import prepared
from alloyscope.learn.task import Batch, Scale, Task
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope import gpu
from alloyscope.microscope.settings import DetectorSection, Device

LEAST_INPUTS = 32  # of a kernel that Muon takes
WARM_UP = 0.05  # share of all optimiser steps over which the learning rate rises
BEFORE = {"normalised_by": "dose"}  # settings of a checkpoint that is older than these keys


@dataclass(frozen=True)
class Card:
    """Description of a network, stored in its checkpoint as plain values, so that it loads with weights_only=True.

    Attributes:
        task: Name of the task in TASKS.
        seed: Training seed.
        settings: Section of the task, as a dict; it says how images were normalised.
        detector: Section of the detector, as a dict; its gain and offset convert counts to intensity.
        centre, spread: Scale of the task's labels; see `Task.scale`.
        seen: Particles of the training and validation splits.
        digest: Digest of the inputs of the training.
    """

    task: str
    seed: int
    settings: dict[str, Any]
    detector: dict[str, Any]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    seen: list[int]
    digest: str

    @property
    def record(self) -> Task:
        """The task with the settings of the training; an old network is shown images as it learnt them, by dose."""
        return TASKS[self.task].model_validate(BEFORE | self.settings)


class Learner(LightningModule):
    """Trains the network of a task.

    Args:
        card: Fields of a Card, as a dict.
    """

    def __init__(self, card: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.card = Card(**card)
        self.task = self.card.record
        self.scale = Scale(self.card.centre, self.card.spread)
        self.detector = DetectorSection.model_validate(self.card.detector)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(f"network-{self.card.task}", self.card.seed))
            self.network = self.task.network()

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.network(image, electrons)
        return out

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Prepare what the loader has gathered; a batch that holds images is ready."""
        return batch if "image" in batch else prepared(batch, self.task, self.detector)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self.task.loss(self.task.taught(self.network, batch), batch, self.scale)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        output = self.task.taught(self.network, batch)
        self.log("validation_loss", self.task.loss(output, batch, self.scale), batch_size=len(batch["row"]))
        for name, values in self.task.metrics(output, batch, self.scale).items():
            counted = values[~values.isnan()]
            if len(counted):  # the mean over an epoch is one over the images that count
                self.log(f"validation_{name}", counted.mean(), batch_size=len(counted))

    def configure_optimizers(self) -> Any:
        stepping = optimiser(self.parameters(), self.card.settings["learning_rate"])
        total = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": stepping, "lr_scheduler": {"scheduler": schedule(stepping, total), "interval": "step"}}


def optimiser(parameters: Iterable[torch.nn.Parameter], learning_rate: float) -> Muon:
    """Muon for the kernels of convolutions, AdamW for the rest."""
    weights = list(parameters)
    kernels = [weight for weight in weights if weight.ndim == 4 and weight[0].numel() >= LEAST_INPUTS]
    chosen = {id(weight) for weight in kernels}
    others = [weight for weight in weights if id(weight) not in chosen]
    return Muon(kernels, others, learning_rate, weight_decay=1e-2)


def schedule(stepping: torch.optim.Optimizer, total: int) -> LambdaLR:
    """Learning rates that rise linearly over WARM_UP of `total` steps and then fall to 0 as a cosine."""
    warm = max(1, round(WARM_UP * total))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return LambdaLR(stepping, factor)


def new_learner(card: Card) -> Learner:
    """Make a learner with fresh weights."""
    return Learner(asdict(card))


def trained_learner(checkpoint: dict[str, Any]) -> Learner:
    """Make a learner with the weights of a loaded checkpoint."""
    learner = new_learner(Card(**checkpoint["hyper_parameters"]["card"]))
    learner.load_state_dict(checkpoint["state_dict"])
    return learner


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice, and a deprecation warning of torch about Lightning, out of the log."""
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # The config sets the number of workers that read images (training.loader_workers).
            warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers")
            # The learner prepares batches, also where no data module is at hand.
            warnings.filterwarnings("ignore", message=r"You have overridden `on_after_batch_transfer` in")
            # The sampler goes on with the right batch (learn/visits.py).
            warnings.filterwarnings("ignore", message=r"You're resuming from a checkpoint that ended before the epoch")
            # A job is one process, with or without SLURM; Lightning looks for srun in spite of the plugin below.
            warnings.filterwarnings("ignore", message=r"The `srun` command is available")
            # Lightning 2.6 uses a class that torch 2.13 declares deprecated.
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            yield
    finally:
        logger.setLevel(before)


def make_trainer(device: Device = "auto", plugins: Sequence[Any] = (), **options: Any) -> Trainer:
    """Make a trainer on one device, CPU or GPU, without a progress bar in a log file.

    Raises:
        ConfigError: torch can use no GPU, but one is asked for, or this job was given one.
    """
    gpu.chosen(device, gpu.torch_fault() is None, lambda: str(gpu.torch_fault()))
    return Trainer(
        accelerator="cpu" if device == "cpu" else "auto",  # auto takes a GPU of another kind, too
        devices=1,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # Snakemake starts this one process; Lightning must not requeue its SLURM job.
        plugins=[LightningEnvironment(), *plugins],
        **options,
    )
