"""The one Lightning module that runs any task, its checkpoint, and one way to train it."""

import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning import LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from alloyscope.ids import seed_for
from alloyscope.learn.task import Batch, Scale, Task
from alloyscope.learn.tasks import TASKS

WARM_UP = 0.1  # share of all steps over which the learning rate rises


@dataclass(frozen=True)
class Card:
    """What a checkpoint must know to be used elsewhere: plain values only, so it loads with weights_only=True.

    Attributes:
        task: Its name in TASKS.
        seed: Training seed.
        settings: Section of the task, as a dict.
        detector: Detector section, as a dict: gain and offset turn counts back into intensity.
        centre, spread: Scale of the task's labels; see `Task.scale`.
        seen: Particles of the splits train and validation.
        digest: What the training depends on.
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
        """The task with the settings of the training."""
        return TASKS[self.task].model_validate(self.settings)


class Learner(LightningModule):
    """Training of a task's network on images.

    Args:
        card: Fields of a Card as a dict.
    """

    def __init__(self, card: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.card = Card(**card)
        self.task = self.card.record
        self.scale = Scale(self.card.centre, self.card.spread)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(f"network-{self.card.task}", self.card.seed))
            self.network = self.task.network()

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.network(image, electrons)
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = self.task.loss(self(batch["image"], batch["electrons"]), batch, self.scale)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["row"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        output = self(batch["image"], batch["electrons"])
        values = {
            "loss": self.task.loss(output, batch, self.scale),
            **self.task.metrics(output, batch, self.scale),
        }
        self.log_dict({f"validation_{name}": value for name, value in values.items()}, batch_size=len(batch["row"]))

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """What the task reads, and the rows of the images as `row`, (n,) each; float64, so that rows stay exact."""
        read = self.task.read(self(batch["image"], batch["electrons"]), batch, self.scale)
        return {"row": batch["row"].double(), **{name: value.double() for name, value in read.items()}}

    def configure_optimizers(self) -> Any:
        """AdamW; the rate rises linearly over WARM_UP of all steps, then falls along half a cosine to 0."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.card.settings["learning_rate"], weight_decay=1e-2)
        total = int(self.trainer.estimated_stepping_batches)
        warm = max(1, round(WARM_UP * total))

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / (warm + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }


def new_learner(card: Card) -> Learner:
    """A task with fresh weights."""
    return Learner(asdict(card))


def trained_learner(checkpoint: dict[str, Any]) -> Learner:
    """A task with the weights of a loaded checkpoint."""
    learner = new_learner(Card(**checkpoint["hyper_parameters"]["card"]))
    learner.load_state_dict(checkpoint["state_dict"])
    return learner


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice and one deprecation of torch inside Lightning out of the log."""
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # how many workers read images is the config's decision (training.loader_workers)
            warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers")
            # a job is one process, whether or not the machine has SLURM (a plugin does not keep Lightning from looking)
            warnings.filterwarnings("ignore", message=r"The `srun` command is available")
            # Lightning 2.6 walks its batches with a class that torch 2.13 is about to drop
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            yield
    finally:
        logger.setLevel(before)


def make_trainer(plugins: Sequence[Any] = (), **options: Any) -> Trainer:
    """A trainer on one device, CPU or GPU, that draws no bar into a log file."""
    return Trainer(
        accelerator="auto",
        devices=1,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # one process, started by Snakemake: Lightning shall not requeue the job of SLURM
        plugins=[LightningEnvironment(), *plugins],
        **options,
    )
