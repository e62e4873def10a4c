"""What is learnt: one Lightning module per task, one table of tasks, one way to train them."""

import logging
import math
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from alloyscope.config import Task
from alloyscope.ids import seed_for
from alloyscope.learn.data import Batch
from alloyscope.learn.metrics import psnr_dB, ssim
from alloyscope.learn.networks import DenoisingNetwork, ReadingNetwork

WARM_UP = 0.1  # share of all steps over which the learning rate rises


@dataclass(frozen=True)
class Card:
    """What a checkpoint must know to be used elsewhere: plain values only, so it loads with weights_only=True.

    Attributes:
        task: Its name in TASKS.
        seed: Training seed.
        settings: Section of the task, as a dict.
        detector: Detector section, as a dict: gain and offset turn counts back into intensity.
        centre: Mean over the training images of ln n_atoms and the fraction of the first species.
        spread: Their standard deviations.
        seen: Particles of the splits train and validation.
        digest: What the training depends on.
    """

    task: Task
    seed: int
    settings: dict[str, Any]
    detector: dict[str, Any]
    centre: tuple[float, float]
    spread: tuple[float, float]
    seen: list[int]
    digest: str


def scaling(targets: NDArray[np.float32]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre and spread of the two scalar targets, from the (n, 3) targets of the training images."""
    scalars = targets[:, 1:].astype(np.float64)
    centre, spread = scalars.mean(axis=0), scalars.std(axis=0)
    spread[spread == 0] = 1.0  # a campaign of one size or one composition: nothing to scale
    return (float(centre[0]), float(centre[1])), (float(spread[0]), float(spread[1]))


class ImageTask(LightningModule, ABC):
    """Training of a network on images; a task fills in its network, its loss and its metrics.

    Args:
        card: Fields of a Card as a dict.
    """

    task: ClassVar[Task]

    def __init__(self, card: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.card = Card(**card)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(f"network-{self.task}", self.card.seed))
            self.network = self.build(int(self.card.settings["width"]))

    @abstractmethod
    def build(self, width: int) -> torch.nn.Module:
        """The network, with fresh weights."""

    @abstractmethod
    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean loss over a batch."""

    @abstractmethod
    def metrics(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean metrics over a batch, by name with unit."""

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.network(image, electrons)
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = self.loss(self(batch.image, batch.electrons), batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.row))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        output = self(batch.image, batch.electrons)
        values = {"loss": self.loss(output, batch), **self.metrics(output, batch)}
        self.log_dict({f"validation_{name}": value for name, value in values.items()}, batch_size=len(batch.row))

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


class Reading(ImageTask):
    """Ordering, number of atoms and composition from one noisy image."""

    task = "reading"

    def build(self, width: int) -> torch.nn.Module:
        return ReadingNetwork(width)

    def _scalars(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return like.new_tensor(self.card.centre), like.new_tensor(self.card.spread)

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        centre, spread = self._scalars(output)
        ordering = F.binary_cross_entropy_with_logits(output[:, 0], batch.targets[:, 0])
        scalars = F.smooth_l1_loss(output[:, 1:], (batch.targets[:, 1:] - centre) / spread, reduction="none")
        return ordering + scalars.mean(dim=0).sum()

    def readings(self, output: torch.Tensor) -> torch.Tensor:
        """Network output → probability of Janus, number of atoms, fraction of the first species, (n, 3)."""
        centre, spread = self._scalars(output)
        scalars = output[:, 1:] * spread + centre
        return torch.stack([output[:, 0].sigmoid(), scalars[:, 0].exp(), scalars[:, 1].clamp(0, 1)], dim=1)

    def metrics(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        read = self.readings(output)
        return {
            "accuracy": ((read[:, 0] > 0.5) == (batch.targets[:, 0] > 0.5)).float().mean(),
            "size_mae_atoms": (read[:, 1] - batch.targets[:, 1].exp()).abs().mean(),
            "composition_mae": (read[:, 2] - batch.targets[:, 2]).abs().mean(),
        }

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Row of the image and its readings, (n, 4), float64 so that rows stay exact."""
        read = self.readings(self(batch.image, batch.electrons))
        return torch.cat([batch.row[:, None].double(), read.double()], dim=1)


class Denoising(ImageTask):
    """The expected image from a noisy one."""

    task = "denoising"

    def build(self, width: int) -> torch.nn.Module:
        return DenoisingNetwork(width)

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean over images of ln(mean squared error).

        The squared error falls as 1/dose, over two decades; its logarithm lets every dose count alike, and is PSNR
        but for sign and unit.
        """
        return (output - batch.clean).square().mean(dim=(1, 2, 3)).clamp_min(1e-12).log().mean()

    def metrics(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        return {"psnr_dB": psnr_dB(output, batch.clean).mean(), "ssim": ssim(output, batch.clean).mean()}

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Row of the image; PSNR, then SSIM, of the noisy, an empty and the denoised image, (n, 7).

        Most of an image is vacuum, so one without any particle scores well: the score to beat.
        """
        output = self(batch.image, batch.electrons)
        empty = torch.ones_like(output)
        scores = [f(image, batch.clean) for f in (psnr_dB, ssim) for image in (batch.image, empty, output)]
        return torch.stack([value.double() for value in (batch.row, *scores)], dim=1)


TASKS: dict[Task, type[ImageTask]] = {"reading": Reading, "denoising": Denoising}


def new_task(card: Card) -> ImageTask:
    """A task with fresh weights."""
    return TASKS[card.task](asdict(card))


def trained_task(checkpoint: dict[str, Any]) -> ImageTask:
    """A task with the weights of a loaded checkpoint."""
    task = new_task(Card(**checkpoint["hyper_parameters"]["card"]))
    task.load_state_dict(checkpoint["state_dict"])
    return task


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
