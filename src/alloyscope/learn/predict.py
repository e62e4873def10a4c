"""A network reads images, averaged over the symmetries of the square."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from alloyscope.learn.preparation import prepared, turned
from alloyscope.learn.task import Batch, Scale, Task
from alloyscope.microscope import gpu
from alloyscope.microscope.settings import DetectorSection, Device


@dataclass(frozen=True)
class Reader:
    """A trained network, and how it is shown an image.

    Attributes:
        task: Its task.
        network: The network; it takes (image, electrons) of a batch.
        scale: Scale of the task's labels.
        symmetries: Number of the symmetries of the square, 1 to 8, over which the network's output is averaged.
    """

    task: Task
    network: nn.Module
    scale: Scale
    symmetries: int = 8

    def output(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """The network's output, averaged over the turned image, for (n, 1, y, x) and (n,)."""
        outputs = [self.network(turned(image, symmetry), electrons) for symmetry in range(self.symmetries)]
        return torch.stack(outputs).mean(dim=0)

    def read(self, batches: Iterable[Batch], device: Device = "auto") -> dict[str, NDArray[np.float64]]:
        """The task's predictions for every image, its row and its electrons per pixel, (n,) each, in their order.

        Raises:
            ConfigError: torch can use no GPU, but one is asked for, or this job was given one.
        """
        place = torch_device(device)
        self.network.to(place).eval()
        found: list[dict[str, NDArray[np.float64]]] = []
        with torch.inference_mode():
            for given in batches:
                batch = {name: values.to(place) for name, values in given.items()}
                read = self.task.read(self.output(batch["image"], batch["electrons"]), batch, self.scale)
                kept = {"row": batch["row"], "electrons": batch["electrons"], **read}
                found.append({name: values.double().cpu().numpy() for name, values in kept.items()})
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]} if found else {}


def batches_of(
    counts: Iterable[NDArray[np.uint16]],
    doses_e_per_A2: Iterable[float],
    task: Task,
    pixel_size_A: float,
    detector: DetectorSection,
) -> Iterator[Batch]:
    """Batches of images as a task's network sees them; `row` counts from 0.

    Args:
        counts: Stored counts of each image, (y, x).
        doses_e_per_A2: Dose of each image, which only a task that is normalised by dose uses.
        task: The task, for its normalisation and batch size.
        pixel_size_A: Pixel edge [Å].
        detector: Gain and offset of the camera.

    Raises:
        ContractError: an image has no background above the camera's offset.
    """
    waiting = zip(counts, doses_e_per_A2)
    done = 0
    while part := list(islice(waiting, task.batch_size)):
        images, doses = zip(*part)
        raw = {
            "row": torch.arange(done, done + len(part)),
            "vacuum_e": torch.tensor(doses, dtype=torch.float32) * pixel_size_A**2,
            "counts": torch.from_numpy(np.stack(images)),
        }
        yield prepared(raw, task, detector)
        done += len(part)


def torch_device(device: Device) -> torch.device:
    """The device of torch for a choice of the config.

    Raises:
        ConfigError: torch can use no GPU, but one is asked for, or this job was given one.
    """
    on_gpu = gpu.chosen(device, gpu.torch_fault() is None, lambda: str(gpu.torch_fault()))
    return torch.device("cuda" if on_gpu else "cpu")
