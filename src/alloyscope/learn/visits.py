"""Which images a training shows when: its schedule, and the samplers of whole batches.

A step shows one batch. All batches are full: the last images of a pass over the set share a batch with the first ones
of the next pass. The number of a step alone determines its images, and everything that is drawn for them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from alloyscope.ids import rng_for
from alloyscope.learn.task import Task

EPOCH_STEPS = 200  # a training of `visits` ends an epoch, with validation and a row of metrics, after so many steps
MOST_EPOCHS = 100  # or after more, so that these are enough


class Visit(NamedTuple):
    """A batch of images.

    Attributes:
        step: Number of the training step, from 0; −1 for images as they are stored.
        places: Places of the images in the split, (n,).
        passes: How often the training has shown each of them before, (n,).
        cropped: Whether the training shows only the surroundings of the particle.
        share: Number of this process, and of all processes; each takes every so manieth image of the batch.
    """

    step: int
    places: NDArray[np.int64]
    passes: NDArray[np.int64]
    cropped: bool = False
    share: tuple[int, int] = (0, 1)

    @property
    def mine(self) -> slice:
        """Which images of the batch this process takes."""
        return slice(self.share[0], None, self.share[1])


@dataclass(frozen=True)
class Schedule:
    """Steps of a training.

    Attributes:
        images: Number of training images.
        batch: Images per step.
        epochs: Number of equal parts of the training; after each come a validation and a row of metrics.
        epoch_steps: Steps of an epoch.
        seed: Training seed.
        full_from: The first step that shows whole images; the ones before show crops.
    """

    images: int
    batch: int
    epochs: int
    epoch_steps: int
    seed: int
    full_from: int = 0

    @classmethod
    def of(cls, task: Task, images: int, seed: int) -> Self:
        """The schedule of a task; a number of visits or of passes is rounded up to whole steps."""
        batch = min(task.batch_size, images)
        if task.visits is None:
            epochs, epoch_steps = task.epochs, ceil(images / batch)
        else:
            steps = ceil(task.visits / batch)
            epochs = min(MOST_EPOCHS, max(1, steps // EPOCH_STEPS))
            epoch_steps = ceil(steps / epochs)
        cropped = 0 if task.crop_pixels is None else round((1 - task.full_share) * epochs * epoch_steps)
        return cls(images, batch, epochs, epoch_steps, seed, cropped)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.epoch_steps

    def visit(self, step: int, share: tuple[int, int] = (0, 1)) -> Visit:
        """The batch of a step."""
        passes, positions = np.divmod(np.arange(step * self.batch, (step + 1) * self.batch), self.images)
        orders = {int(number): _order(self.seed, int(number), self.images) for number in np.unique(passes)}
        places = np.array([orders[number][position] for number, position in zip(passes.tolist(), positions.tolist())])
        return Visit(step, places, passes, step < self.full_from, share)


@lru_cache(maxsize=4)
def _order(seed: int, number: int, images: int) -> NDArray[np.int64]:
    return rng_for("order", seed, number).permutation(images)


class TrainingVisits(Sampler[Visit]):
    """Batches of one epoch. Lightning calls `set_epoch`, but not before it asks for the first batches of a training.

    Args:
        schedule: The schedule.
        first_step: The step with which a resumed training goes on, which may lie in the middle of an epoch.
        share: See `Visit`.
    """

    def __init__(self, schedule: Schedule, first_step: int = 0, share: tuple[int, int] = (0, 1)) -> None:
        self.schedule, self.first_step, self.share = schedule, first_step, share
        self.set_epoch(first_step // schedule.epoch_steps)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Steps of a whole epoch; Lightning counts those that a resumed epoch has behind it."""
        return self.schedule.epoch_steps

    def __iter__(self) -> Iterator[Visit]:
        start, steps = self.epoch * self.schedule.epoch_steps, self.schedule.epoch_steps
        return (self.schedule.visit(step, self.share) for step in range(max(self.first_step, start), start + steps))


class StoredVisits(Sampler[Visit]):
    """Batches of a split in its order, as its images are stored; of several processes, each takes whole batches."""

    def __init__(self, images: int, batch: int, share: tuple[int, int] = (0, 1)) -> None:
        self.starts = range(share[0] * batch, images, share[1] * batch)
        self.images, self.batch = images, batch

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Visit]:
        return (stored(np.arange(start, min(start + self.batch, self.images))) for start in self.starts)


def stored(places: NDArray[np.int64]) -> Visit:
    """A visit of images as they are stored."""
    return Visit(-1, places, np.zeros_like(places))
