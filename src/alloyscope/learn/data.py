"""Images for networks: the rows of a split of images.parquet, and their images in the arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from alloyscope.contracts import Split
from alloyscope.errors import ContractError, StoreError
from alloyscope.ids import draw_value, rng_for
from alloyscope.learn.background import background
from alloyscope.learn.task import Batch, Task
from alloyscope.microscope.detector import expose
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


def electrons_per_pixel(dose_e_per_A2: float, pixel_size_A: float) -> float:
    """Electrons per pixel in vacuum."""
    return dose_e_per_A2 * pixel_size_A**2


def normalise(
    counts: NDArray[Any], dose_e_per_A2: float, pixel_size_A: float, detector: DetectorSection
) -> NDArray[np.float32]:
    """Convert stored counts, of any shape, to fractions of the incident beam: vacuum is 1 at every dose."""
    scale = detector.gain * electrons_per_pixel(dose_e_per_A2, pixel_size_A)
    return (counts.astype(np.float32) - np.float32(detector.offset)) / np.float32(scale)


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


def turned(image: NDArray[Any], symmetry: int) -> NDArray[Any]:
    """Apply one of the 8 symmetries of the square, without interpolation: quarter turns 0–3, then the same mirrored."""
    quarter_turns = np.rot90(image, symmetry % 4, axes=(-2, -1))
    return quarter_turns[..., ::-1] if symmetry >= 4 else quarter_turns


class Images(Dataset[Batch]):
    """Images of one split. An address is `epoch · length + place`; it alone determines turn, dose and noise of a visit.

    Args:
        released: The image set.
        split: Name of the split.
        task: The task, which defines what a batch holds beside the noisy image.
        detector: Offset, gain and, for fresh noise, dose and readout.
        seed: Training seed; with None, images are as stored, neither turned nor exposed again.
        redraw_noise: Whether each visit draws a fresh dose, noise, and errors of the camera's gain and offset.
        preload: Whether to hold the split in memory.
    """

    def __init__(
        self,
        released: Released,
        split: Split,
        task: Task,
        detector: DetectorSection,
        *,
        seed: int | None = None,
        redraw_noise: bool = False,
        preload: bool = False,
    ) -> None:
        table = released.rows(split)
        self.rows = table["image"].to_numpy(dtype=np.int64)
        self.doses = table["dose_e_per_A2"].to_numpy(dtype=np.float64)
        self.labels = task.labels(table)
        self.task = task
        self.pixel_size_A = released.pixel_size_A
        self.detector, self.seed, self.redraw_noise = detector, seed, redraw_noise
        self.mtf = table[list(MTF)].to_numpy(dtype=np.float64)
        self._clean: Stack | NDArray[Any] = released.clean
        self._counts: Stack | NDArray[Any] = released.counts
        self._where = self.rows
        if preload:
            self._clean = released.clean.read(self.rows)
            self._counts = released.counts.read(self.rows)
            self._where = np.arange(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, address: int) -> Batch:
        epoch, place = divmod(int(address), len(self))
        row, where, dose = int(self.rows[place]), int(self._where[place]), float(self.doses[place])
        clean = np.asarray(self._clean[where], dtype=np.float32)
        symmetry = 0
        redrawn = None
        if self.seed is not None:
            rng = rng_for("redraw", self.seed, epoch, row)
            symmetry = int(rng.integers(8))
            if self.redraw_noise:
                dose = draw_value(self.detector.dose_e_per_A2, rng)
                redrawn = self._expose(clean, dose, place, rng)
        counts = np.asarray(self._counts[where]) if redrawn is None else redrawn
        own = self.task.normalised_by == "background"
        try:
            image, electrons = (
                in_units_of_background(counts, self.detector.offset) if own else self._by_dose(counts, dose)
            )
        except ContractError as error:
            raise ContractError(f"image {row}: {error}") from None
        arrays = {"image": image}
        if "clean" in self.task.reads:
            arrays["clean"] = in_units_of_background(clean)[0] if own else clean
        return {
            **{name: torch.from_numpy(turned(array, symmetry).copy())[None] for name, array in arrays.items()},
            "electrons": torch.tensor(electrons, dtype=torch.float32),
            "row": torch.tensor(row),
            "symmetry": torch.tensor(symmetry),
            "dose_e_per_A2": torch.tensor(dose, dtype=torch.float32),
            **{name: torch.tensor(values[place]) for name, values in self.labels.items()},
        }

    def _by_dose(self, counts: NDArray[Any], dose_e_per_A2: float) -> tuple[NDArray[np.float32], float]:
        image = normalise(counts, dose_e_per_A2, self.pixel_size_A, self.detector)
        return image, electrons_per_pixel(dose_e_per_A2, self.pixel_size_A)

    def _expose(
        self, clean: NDArray[np.float32], dose_e_per_A2: float, place: int, rng: np.random.Generator
    ) -> NDArray[np.uint16]:
        """Expose an image with a camera whose gain and offset are not quite those of `detector`."""
        c1, c2, c3 = self.mtf[place].tolist()
        readout_e = draw_value(self.detector.readout_e, rng)
        gains = self.detector.gain_map_rms
        gain_map_rms = draw_value(gains, rng) if gains else 0.0
        gain, offset = self.detector.gain, self.detector.offset
        vacuum = gain * electrons_per_pixel(dose_e_per_A2, self.pixel_size_A)
        errors = {
            "gain": gain * draw_value(self.task.gain_error, rng),
            "offset": offset + vacuum * draw_value(self.task.offset_error, rng),
        }
        return expose(
            clean,
            dose_e_per_A2=dose_e_per_A2,
            readout_e=readout_e,
            gain_map_rms=gain_map_rms,
            mtf_parameters=(c1, c2, c3),
            pixel_size_A=self.pixel_size_A,
            detector=self.detector.model_copy(update=errors),
            rng=rng,
        )


class Visits(Sampler[int]):
    """Addresses of one epoch, in an order that depends only on seed and epoch.

    Lightning calls `set_epoch`. But in the first epoch of a resumed training it does so only after worker processes
    have asked for their first batches; therefore the argument `epoch` exists.
    """

    def __init__(self, length: int, seed: int, epoch: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = rng_for("order", self.seed, self.epoch).permutation(self.length)
        return iter((self.epoch * self.length + order).tolist())


class ImageData(LightningDataModule):
    """Loaders of the splits for training, validation and test; the calibration split is not used here."""

    def __init__(
        self,
        released: Released,
        task: Task,
        detector: DetectorSection,
        *,
        seed: int = 0,
        loader_workers: int = 0,
        first_epoch: int = 0,
        device: Device = "auto",
    ) -> None:
        super().__init__()
        self.pinned = device != "cpu" and torch.cuda.is_available()
        self.released, self.task, self.detector = released, task, detector
        self.seed, self.loader_workers, self.first_epoch = seed, loader_workers, first_epoch

    def images(self, split: Split) -> Images:
        training = split == "train"
        pixels = int(np.prod(self.released.counts.shape[1:]))
        small = 4 * pixels * len(self.released.rows(split)) < PRELOAD_BYTES  # two arrays with two bytes per pixel
        return Images(
            self.released,
            split,
            self.task,
            self.detector,
            seed=self.seed if training else None,
            redraw_noise=training and self.task.redraw_noise,
            preload=small and self.loader_workers == 0,  # each worker would get its own copy
        )

    def loader(self, split: Split) -> DataLoader[Batch]:
        images = self.images(split)
        return DataLoader(
            images,
            batch_size=self.task.batch_size,
            sampler=Visits(len(images), self.seed, self.first_epoch) if split == "train" else None,
            num_workers=self.loader_workers,
            # The threads of zarr do not survive a fork.
            multiprocessing_context="forkserver" if self.loader_workers else None,
            persistent_workers=self.loader_workers > 0,
            pin_memory=self.pinned,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader("validation")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.loader("test")
