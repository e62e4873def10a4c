"""Score a trained network on the test split, which it has not seen.

Reads the released image set and best.ckpt of a training. Writes into --out: predictions.parquet (one row per test
image), for the denoiser examples.npz (noisy, truth, denoised, image), for a reader calibration.json and, last,
metrics.json. Each score there has a 95 % interval, in which particles and not images are the independent samples, and
the score of a naive guess. A reader is calibrated on the split `calibration`, which neither training nor scores use:
predictions.parquet then holds intervals of size and composition, and metrics.json their coverage.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.contracts import Split, require
from alloyscope.errors import ConfigError
from alloyscope.learn import metrics
from alloyscope.learn.calibration import TRANSFORMS, Calibration, Readings, coverage, is_reading, reliability, tempered
from alloyscope.learn.data import ImageData, Released, read_released
from alloyscope.learn.likeness import Likeness, descriptors
from alloyscope.learn.model import Card, Learner, trained_learner
from alloyscope.learn.predict import Reader
from alloyscope.learn.scores import further_scores
from alloyscope.learn.subset import chosen, unseen
from alloyscope.learn.task import Task
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection, Device
from alloyscope.progress import log
from alloyscope.stages.arguments import add_device
from alloyscope.store.atomic import read_json, write_json, writing
from alloyscope.store.checkpoints import load_checkpoint
from alloyscope.store.tables import Columns, read_table, write_table

DESCRIBED = 4000  # most images of a split from which the likeness to the training is learnt
ENDS = tuple(f"{name}_{end}" for name in TRANSFORMS for end in ("low", "high"))  # of the intervals
IMAGE: Columns = {
    "image": "int64",
    "image_id": "string",
    "particle": "int64",
    "group": "int64",
    "view": "int64",
    "dose_e_per_A2": "float64",
}


def run(
    *,
    task: str,
    dataset: Path,
    checkpoint: Path,
    out: Path,
    trained_on: Path | None = None,
    device: Device | None = None,
) -> None:
    """Evaluate one checkpoint.

    Args:
        task: Task that the network was trained for.
        dataset: dataset.json of the image set.
        trained_on: dataset.json of the set that the network was trained on (default: `dataset`).
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
    learner = trained_learner(load_checkpoint(checkpoint))
    card, record = learner.card, learner.task
    if card.task != task:
        raise ConfigError(f"--checkpoint must be a network for {task}; {checkpoint} is one for {card.task}")
    detector = DetectorSection.model_validate(card.detector)
    own_set = trained_on is None or trained_on == dataset
    if own_set:
        released, trained = own_images(dataset, card, record)
    else:
        assert trained_on is not None
        released, trained = other_images(dataset, trained_on, card, record)
        account = read_json(dataset)
        detector = detector.model_copy(update={name: account[name] for name in ("gain", "offset")})
    tested = released.rows("test").reset_index(drop=True)
    used = device or "auto"
    reader = Reader(record, learner.network, learner.scale, record.symmetries)
    data = ImageData(released, record, detector, device=used)
    log(f"{task}: scoring {len(tested)} images of {tested['particle'].nunique()} particles with {checkpoint}")
    if said := record.remark(tested):
        log(f"{task}: in the split test, {said}")
    read = read_split(reader, data, tested, "test", used)
    electrons = read.pop("electrons")
    table = tested[list(IMAGE)].assign(**record.table(tested, read))
    table = table.assign(**record.beside(released, tested, data.detector, applied(learner)))
    columns, further = {**IMAGE, **record.columns}, dict[str, Any]()
    if is_reading(read):
        read["electrons"] = electrons
        own = released.table[released.table["split"] == "calibration"].reset_index(drop=True)
        held_out = read_split(reader, data, own, "calibration", used) if len(own) else {}
        added, further, found = calibrated(read, tested, held_out, own)
        table, columns = table.assign(**added), columns | dict.fromkeys(added, "float64")
        further |= further_scores(table)
        if found:
            likeness = Likeness.of(described(data, "train"), described(data, "calibration"))
            found["likeness"] = likeness.model_dump(mode="json") if likeness else None
        write_json(out / "calibration.json", found)
    scores = record.score(table, trained) | further
    if record.examples:
        write_examples(out / "examples.npz", learner, data, example_places(tested, record.examples))
    write_table(out / "predictions.parquet", table, columns)
    account = {
        "task": task,
        "split": "test",
        "split_by": record.split if trained_on in (None, dataset) else "particle",
        "n_test_images": len(tested),
        "n_test_particles": int(tested["particle"].nunique()),
        "n_training_particles": int(trained["particle"].nunique()),
        "training": card.digest,
        "dataset": released.digest,
        "symmetries": reader.symmetries,
    }
    write_json(out / "metrics.json", account | scores | {"provenance": watch.record()})
    log(f"{task}: " + ", ".join(f"{shown.name} {said_of(scores[shown.name])}" for shown in record.shown))


def read_split(
    reader: Reader, data: ImageData, rows: pd.DataFrame, split: Split, device: Device
) -> dict[str, NDArray[np.float64]]:
    """Readings of the images of a split in the order of its rows, and their electrons per pixel, (n,) each."""
    read = reader.read(data.batches(split), device)
    require(np.array_equal(read.pop("row"), rows["image"]), "predictions must come in the order of the table")
    return read


def described(data: ImageData, split: Split) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Descriptors (n, d) and electrons per pixel (n,) of images of a split, spread evenly over it."""
    images = data.images(split)
    places = np.unique(np.linspace(0, len(images) - 1, DESCRIBED).round().astype(int))
    batches = [images.shown(part.tolist()) for part in np.array_split(places, max(1, len(places) // 64))]
    electrons = np.concatenate([batch["electrons"].numpy() for batch in batches]).astype(np.float64)
    shown = [image.numpy() for batch in batches for image in batch["image"][:, 0]]
    return np.stack([descriptors(image, each) for image, each in zip(shown, electrons.tolist())]), electrons


def calibrated(
    read: dict[str, NDArray[np.float64]],
    tested: pd.DataFrame,
    held_out: dict[str, NDArray[np.float64]],
    own: pd.DataFrame,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any], dict[str, Any]]:
    """Calibrate a reader on the split `calibration`.

    Args:
        read: Readings of the test images.
        tested: Their rows of images.parquet.
        held_out: Readings of the calibration images; not used if there is no such image.
        own: Their rows.

    Returns:
        Columns for the predictions, with intervals that are NaN without calibration images; scores; and the content of
        calibration.json, which is empty without them.
    """
    electrons = {"electrons": read["electrons"]}
    if own.empty:
        log("no image is in the split calibration, so predictions have no intervals; see the section splits")
        return {name: np.full(len(tested), np.nan) for name in ENDS} | electrons, {}, {}
    first, second = Readings.of(held_out, own), Readings.of(read, tested)
    calibration = Calibration.of(first)
    known = second.only(~np.isnan(second.janus))
    bins, error = reliability(tempered(known.p_janus, calibration.temperature), known.janus, known.group)
    both = Readings.of({name: np.concatenate([held_out[name], read[name]]) for name in read}, pd.concat([own, tested]))
    further = {
        "intervals": coverage(both, len(np.unique(first.group)) / len(np.unique(both.group))),
        "reliability": bins,
        "calibration_error": error,
        "calibration_error_before": reliability(known.p_janus, known.janus)[1],
    }
    return calibration.intervals(read) | electrons, further, calibration.model_dump(mode="json")


def own_images(dataset: Path, card: Card, task: Task) -> tuple[Released, pd.DataFrame]:
    """The set that a network was trained on, as it saw it, and the rows that trained it.

    Raises:
        GateError: the network has seen a test particle, and the set was not split by image on purpose.
    """
    whole = read_released(dataset)
    released = replace(whole, table=chosen(whole.table, task))
    if task.split == "particle":
        own = pd.concat([whole.rows("train"), whole.rows("validation")])["particle"]
        seen = with_relatives({*card.seen, *own.tolist()}, whole.table)
        held_out = whole.table[whole.table["split"].isin(["calibration", "test"])]
        metrics.check_separation(seen, set(held_out["particle"].tolist()))
    return released, released.rows("train")


def other_images(dataset: Path, trained_on: Path, card: Card, task: Task) -> tuple[Released, pd.DataFrame]:
    """Another set without the particles that a network may have seen, and the rows that trained it."""
    images = read_table(trained_on.parent / "images.parquet")
    trained = chosen(images[images["valid"].astype(bool)], task)
    released = read_released(dataset)
    left = unseen(released.table, images, with_relatives(set(card.seen), images))
    if fewer := len(released.table) - len(left):
        log(f"{task.name()}: left out {fewer} images of particles that the network may have seen")
    return replace(released, table=left), trained[trained["split"] == "train"]


def said_of(score: float | None) -> str:
    return "without a value" if score is None else f"{score:.3g}"


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
    shown = data.images("test").shown(places)
    noisy, truth, electrons, rows = (shown[name] for name in ("image", "clean", "electrons", "row"))
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
    parser.add_argument(
        "--trained-on",
        type=Path,
        metavar="FILE",
        help="dataset.json of the set that the network was trained on, if it is another one than --dataset; particles "
        "that it may have seen are then left out",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="best.ckpt of the training")
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of predictions and scores")
