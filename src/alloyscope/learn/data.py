"""Images for networks: the rows of a split of images.parquet, and their images in the arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from alloyscope.contracts import Split
from alloyscope.errors import ContractError, StoreError
from alloyscope.ids import rng_for
from alloyscope.learn.background import background
from alloyscope.learn.exposure import drawn_cameras
from alloyscope.learn.preparation import Raw, prepared
from alloyscope.learn.task import CELL_PIXELS, Batch, Task
from alloyscope.learn.visits import Schedule, StoredVisits, TrainingVisits, Visit, stored
from alloyscope.microscope.settings import DetectorSection, Device
from alloyscope.store.atomic import read_json
from alloyscope.store.images import CLEAN, COUNTS, Stack
from alloyscope.store.tables import read_table

PRELOAD_BYTES = 2**31
MTF = ("mtf_c1", "mtf_c2", "mtf_c3")
TRAINING_LABELS = ("split", "ordering", "n_atoms", "fraction_first")
COLUMNS = ("image", "image_id", "valid", "particle", "group", "view", "dose_e_per_A2", *MTF, *TRAINING_LABELS)


@dataclass(frozen=True)
class Released:
    """A released image set.

    Attributes:
        table: One row per valid image, with COLUMNS and others.
        clean, counts: Arrays (image, y, x).
        pixel_size_A: Pixel edge [Å].
        digest: Digest of the set.
    """

    table: pd.DataFrame
    clean: Stack
    counts: Stack
    pixel_size_A: float
    digest: str

    def rows(self, split: Split) -> pd.DataFrame:
        """Rows of the images of a split.

        Raises:
            ContractError: the split has no image.
        """
        found = self.table[self.table["split"] == split]
        if found.empty:
            have = self.table["split"].value_counts().to_dict()
            raise ContractError(
                f"split {split} must hold at least one valid image; the set has {have or 'no valid image'}; "
                "raise campaign.n_particles or change the section splits; related structures of your own share a split "
                "(docs/own-structures.md)"
            )
        return found


def read_released(account: Path) -> Released:
    """Open a released set by its `dataset.json`; images.parquet and the arrays lie beside it.

    Raises:
        StoreError: a file or a shard that a valid row needs is missing or damaged.
        ContractError: images.parquet lacks columns, or the arrays lack rows.
    """
    content = read_json(account)
    if missing := {"digest", "pixel_size_A"} - content.keys():
        raise StoreError(f"{account}: not the account of an image set, it lacks {sorted(missing)}")
    table = read_table(account.parent / "images.parquet")
    if lacking := [name for name in COLUMNS if name not in table]:
        raise ContractError(f"images.parquet must have the columns {', '.join(COLUMNS)}; it lacks {lacking}")
    clean, counts = (Stack.open(account.parent, name) for name in (CLEAN, COUNTS))
    valid = table[table["valid"].astype(bool)].reset_index(drop=True)
    last = int(valid["image"].max()) if len(valid) else -1
    if last >= clean.shape[0] or clean.shape != counts.shape:
        raise ContractError(
            f"{account.parent}: images.parquet lists image {last}; clean has the shape {clean.shape}, "
            f"counts {counts.shape}; run the stage `dataset` again"
        )
    for stack in (clean, counts):
        stack.check(valid["image"].to_numpy(dtype=np.int64))
    return Released(valid, clean, counts, float(content["pixel_size_A"]), str(content["digest"]))


def in_units_of_background(image: NDArray[Any], offset: float = 0.0) -> tuple[NDArray[np.float32], float]:
    """Divide an image by its own background, of which neither dose nor gain need to be known.

    Args:
        image: Stored counts, or intensity, shape (y, x).
        offset: Stored counts at zero electrons, as known of the camera.

    Returns:
        The image in units of its background, and the electrons per pixel that its noise shows.

    Raises:
        ContractError: the image is not finite, or its background is not above the offset.
    """
    signal = image.astype(np.float64) - offset
    found = background(signal)
    return (signal / found.level).astype(np.float32), found.electrons


class Images(Dataset[Raw]):
    """Images of one split, which are gathered a batch at a time; `prepared` makes of them what a network sees.

    The step of a visit alone determines its turns, doses and noise.

    Args:
        released: The image set.
        split: Name of the split.
        task: The task, which defines what a batch holds beside the noisy image.
        detector: Offset, gain and, for fresh noise, dose and readout.
        seed: Training seed; with None, images are as stored, neither turned nor exposed again.
        preload: Whether to hold the split in memory.
        maps: Projected maps of the split's images, (n, species, rows, columns) float16, if the task reads them.
    """

    def __init__(
        self,
        released: Released,
        split: Split,
        task: Task,
        detector: DetectorSection,
        *,
        seed: int | None = None,
        preload: bool = False,
        maps: NDArray[np.float16] | None = None,
    ) -> None:
        table = released.rows(split)
        self.rows = table["image"].to_numpy(dtype=np.int64)
        self.labels = task.labels(table)
        self.task, self.detector, self.seed, self.maps = task, detector, seed, maps
        self.pixels, self.pixel_size_A = int(released.counts.shape[-1]), released.pixel_size_A
        doses = table["dose_e_per_A2"].to_numpy(dtype=np.float64)
        self.vacuum_e = (doses * self.pixel_size_A**2).astype(np.float32)
        self.mtf = table[list(MTF)].to_numpy(dtype=np.float64)
        self.centres = particle_centres(table, self.pixels, self.pixel_size_A) if self.crops else None
        self.redrawn = seed is not None and task.images == "redrawn"
        kinds = {"counts": not self.redrawn, "clean": self.redrawn or "clean" in task.reads}
        self.stacks: dict[str, Stack | NDArray[Any]] = {
            name: getattr(released, name) for name, needed in kinds.items() if needed
        }
        self.where = self.rows
        if preload:
            self.stacks = {name: read_rows(stack, self.rows) for name, stack in self.stacks.items()}
            self.where = np.arange(len(self.rows))

    @property
    def crops(self) -> bool:
        """Whether a training on these images shows crops of them."""
        return self.seed is not None and self.task.crop_pixels is not None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, visit: Visit) -> Raw:
        """Gather this process's images of a visit."""
        fresh = {} if self.seed is None else self._drawn(visit, self.seed)
        places = visit.places[visit.mine]
        arrays = {name: read_rows(stack, self.where[places]) for name, stack in self.stacks.items()}
        if self.maps is not None:
            arrays["maps"] = self.maps[places]
        arrays |= {"row": self.rows[places], "vacuum_e": self.vacuum_e[places]}
        arrays |= {name: values[places] for name, values in self.labels.items()}
        shown_e = fresh["cameras"].vacuum_e.numpy() if "cameras" in fresh else arrays["vacuum_e"]
        arrays["dose_e_per_A2"] = shown_e / np.float32(self.pixel_size_A**2)
        arrays["symmetry"] = np.repeat(np.arange(8), fresh.get("turns", [len(places)] + 7 * [0]))
        return {**{name: torch.from_numpy(array) for name, array in arrays.items()}, **fresh}

    def shown(self, places: list[int]) -> Batch:
        """The batch of these places of the split, as stored."""
        return prepared(self[stored(np.array(places))], self.task, self.detector)

    def _drawn(self, visit: Visit, seed: int) -> dict[str, Any]:
        """What is drawn for a visit. All processes draw the same for the whole batch, and keep their share."""
        rng, places, mine = rng_for("redraw", seed, visit.step), visit.places, visit.mine
        # The order of the images is random; therefore neighbours may have the same symmetry.
        turns = np.repeat(np.arange(8), rng.multinomial(len(places), [1 / 8] * 8))[mine]
        found: dict[str, Any] = {"turns": np.bincount(turns, minlength=8).tolist()}
        if self.redrawn:
            found["noise_seed"] = int(rng.integers(2**62)) + visit.share[0]
            errors = (self.task.gain_error, self.task.offset_error)
            cameras = drawn_cameras(self.detector, *errors, self.pixel_size_A, self.mtf[places], rng)
            found["cameras"] = type(cameras)(*(values[mine] for values in cameras))
        if visit.cropped and self.crops:
            assert self.centres is not None
            found |= self._corners(self.centres[places], rng, mine)
        return found

    def _corners(self, centres: NDArray[np.float64], rng: np.random.Generator, mine: slice) -> dict[str, Any]:
        """Corners of crops around the particles, at most a cell of the maps beside their centres."""
        assert self.task.crop_pixels is not None
        cell, size = CELL_PIXELS, self.task.crop_pixels
        wished = (centres - size / 2) / cell + rng.uniform(-1, 1, centres.shape)
        corners = cell * np.clip(np.rint(wished), 0, (self.pixels - size) // cell).astype(int)
        return {"crop_pixels": size, "corners": [tuple(corner) for corner in corners[mine].tolist()]}


def particle_centres(table: pd.DataFrame, pixels: int, pixel_size_A: float) -> NDArray[np.float64]:
    """Row and column of the particles' centres in their images, (n, 2); a pixel reaches from its number to the next.

    Raises:
        ContractError: the table does not tell the shifts of the particles.
    """
    columns = ["shift_y_A", "shift_x_A"]
    if lacking := [name for name in columns if name not in table]:
        raise ContractError(f"images.parquet must have {lacking} to crop images around the particles")
    return pixels / 2 + table[columns].to_numpy(dtype=np.float64) / pixel_size_A


def read_rows(stack: Stack | NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Images of the rows of a stack, on disk or in memory, (n, y, x)."""
    return stack.read(rows) if isinstance(stack, Stack) else np.asarray(stack[rows])


def _as_gathered(raw: Raw) -> Raw:
    return raw


class ImageData(LightningDataModule):
    """Loaders of the splits. A loader gathers batches, which the learner prepares on its device.

    Args:
        released: The image set.
        task: The task.
        detector: Distributions of dose and camera parameters.
        seed: Training seed.
        loader_workers: Number of processes that read images.
        first_step: The step with which a resumed training goes on.
        device: Device that trains.
        maps: Projected maps of every split that training needs, if the task reads them.
    """

    def __init__(
        self,
        released: Released,
        task: Task,
        detector: DetectorSection,
        *,
        seed: int = 0,
        loader_workers: int = 0,
        first_step: int = 0,
        device: Device = "auto",
        maps: Mapping[Split, NDArray[np.float16]] | None = None,
    ) -> None:
        super().__init__()
        self.pinned = device != "cpu" and torch.cuda.is_available()
        self.released, self.task, self.detector, self.maps = released, task, detector, maps or {}
        self.seed, self.loader_workers, self.first_step = seed, loader_workers, first_step

    @cached_property
    def schedule(self) -> Schedule:
        """Steps of a training on this set."""
        return Schedule.of(self.task, len(self.released.rows("train")), self.seed)

    @property
    def share(self) -> tuple[int, int]:
        """Number of this process, and of all processes that train together."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def images(self, split: Split) -> Images:
        pixels = int(np.prod(self.released.counts.shape[1:]))
        small = 4 * pixels * len(self.released.rows(split)) < PRELOAD_BYTES  # two arrays with two bytes per pixel
        return Images(
            self.released,
            split,
            self.task,
            self.detector,
            seed=self.seed if split == "train" else None,
            preload=small and self.loader_workers == 0,  # each worker would get its own copy
            maps=self.maps.get(split),
        )

    def loader(self, split: Split) -> DataLoader[Raw]:
        """Batches of a split: for training by the schedule, otherwise in the order of the table, as stored."""
        images = self.images(split)
        training = split == "train"
        visits: TrainingVisits | StoredVisits = (
            TrainingVisits(self.schedule, self.first_step, self.share)
            if training
            else StoredVisits(len(images), self.task.batch_size, self.share)
        )
        return DataLoader(
            images,
            batch_size=None,
            sampler=visits,
            collate_fn=_as_gathered,  # type: ignore[arg-type]
            num_workers=self.loader_workers,
            # The threads of zarr do not survive a fork.
            multiprocessing_context="forkserver" if self.loader_workers else None,
            persistent_workers=self.loader_workers > 0,
            pin_memory=self.pinned,
        )

    def batches(self, split: Split) -> Iterator[Batch]:
        """Batches of a split other than `train`, as a network sees them."""
        return (prepared(raw, self.task, self.detector) for raw in self.loader(split))

    def train_dataloader(self) -> DataLoader[Raw]:
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Raw]:
        return self.loader("validation")
