"""Let a trained model read structures or a released image set, and score it.

Structures come from files of any format that ASE reads. They are imaged as the model's training images were, or with
the microscope of --preset. A frame that is not one whole particle of the model's two species is left out, but keeps its
number. A released set is a results folder or its hrtem/; of the campaign that trained the model, only the split `test`
is read. Writes predictions.csv, predictions.parquet and scores.json into --out, and prints the scores (docs/models.md).
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alloyscope.campaign.folder import read_campaign
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.scoring import COLUMNS, outcome, page
from alloyscope.campaign.views import Microscope, Seen, imaged, wholes
from alloyscope.contracts import Split, require
from alloyscope.errors import ConfigError, StoreError
from alloyscope.learn.calibration import is_reading, tempered
from alloyscope.learn.data import read_released
from alloyscope.learn.likeness import descriptors
from alloyscope.learn.predict import batches_of
from alloyscope.learn.shipped import Model, model_folder
from alloyscope.learn.task import Batch
from alloyscope.microscope.settings import DetectorSection, Device, ImagingSection, OpticsSection
from alloyscope.progress import log
from alloyscope.sections import parse_section
from alloyscope.stages.arguments import add_device
from alloyscope.store.atomic import digest, read_json, write_json, write_text
from alloyscope.store.structures import read_film
from alloyscope.store.tables import write_table

BLOCK = 512  # images of a released set that are read at a time
SPLIT: Split = "test"


def run(
    *,
    model: str,
    out: Path,
    structures: Sequence[Path] | None = None,
    dataset: Path | None = None,
    views: int = 5,
    seed: int = 0,
    preset: str | None = None,
    film: Path | None = None,
    device: Device | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Read and score.

    Args:
        model: Folder of a model, or name of one in the package.
        out: Folder of predictions and scores.
        structures: Structure files; the frames, in order, are the particles.
        dataset: Results folder, or hrtem/ in it, of a released set; instead of structures.
        views: Images of each structure.
        seed: Seed of orientations, optics and noise.
        preset: Microscope that images the structures (default: that of the model's training).
        film: Block of carbon, if the images show a film.
        device: Device of images and network (default: auto).
        jobs: Processes that make images.

    Returns:
        The scores.

    Raises:
        ConfigError: the model is unknown, no reader, or for another voltage, pixel or material; or a file is faulty.
        StoreError: an input is missing or damaged, or an output cannot be written.
    """
    watch = Stopwatch("score")
    if (structures is None) == (dataset is None):
        raise ConfigError("score: give structures (--structures FILE…) or a released set (--dataset DIR), and only one")
    reader = Model.load(model_folder(model))
    left_out: list[dict[str, Any]] = []
    if structures is not None:
        microscope = microscope_of(reader, preset, views, film, device)
        particles = list(wholes(structures, reader.card.species, reader.card.labels, left_out))
        if not particles:
            first = f"; the first: {left_out[0]['reason']}" if left_out else ""
            raise ConfigError(
                f"model {reader.card.name} is for {reader.card.words}; --structures holds no whole particle of "
                f"{' and '.join(reader.card.species)} among {len(left_out)} frames{first}"
            )
        blocks, total = imaged(particles, microscope, seed, jobs, left_out), len(particles) * views
    else:
        assert dataset is not None
        blocks, total = released_blocks(dataset, reader)
    table = pd.concat(predictions(reader, blocks, total, device or "auto"), ignore_index=True)
    scores = outcome(table, reader.card) | {"left_out": left_out}
    write_table(out / "predictions.parquet", table, COLUMNS)
    write_text(out / "predictions.csv", table[list(COLUMNS)].to_csv(index=False))
    account = {"model": reader.card.name, "seed": seed, "weights": reader.card.weights_sha256}
    write_json(out / "scores.json", account | scores | {"provenance": watch.record()})
    return scores


def microscope_of(model: Model, preset: str | None, views: int, film: Path | None, device: Device | None) -> Microscope:
    """The microscope that images structures for a model.

    Raises:
        ConfigError: it has another voltage or pixel than the model, or shows a film, and no film is given.
    """
    card = model.card
    imaging, optics, detector = card.imaging, card.optics, card.detector
    if preset is not None:
        imaging = parse_section(ImagingSection, {"preset": preset}, "--preset")
        optics, detector = OpticsSection(preset=preset), DetectorSection(preset=preset)
        card.require(f"preset {preset}", voltage_kV=imaging.voltage_kV, pixel_size_A=imaging.pixel_size_A)
    imaging = imaging.model_copy(
        update={"views": views, "store_waves": False, "device": device or "auto", "snapshots_per_image": None}
    )
    if imaging.film.share > 0 and film is None:
        raise ConfigError(
            "score: these images show a film of carbon; add --film FILE, as film/carbon.extxyz of a results folder "
            "(the command `alloyscope film` makes one)"
        )
    return Microscope(imaging, optics, detector, read_film(film) if film else None)


def released_blocks(folder: Path, model: Model) -> tuple[Iterator[Seen], int]:
    """Blocks of images of a released set, and the number of images.

    Raises:
        ConfigError: the set is of another voltage, pixel or material than the model.
        StoreError: the folder holds no released set, or a file of it is missing or damaged.
    """
    places = (folder / "dataset.json", folder / "hrtem" / "dataset.json")
    account = next((path for path in places if path.exists()), None)
    if account is None:
        raise StoreError(f"{folder}: no released set; dataset.json must be in it, or in hrtem/ of it")
    card, content, campaign = model.card, read_json(account), account.parents[1]
    own = content.get("digest") == card.trained_on.dataset
    species, voltage_kV = None, content.get("camera", {}).get("voltage_kV")
    if (campaign / "plan" / "campaign.json").exists():
        config = read_campaign(campaign)
        species, voltage_kV = config.particles.species, config.imaging.voltage_kV
        own = own or digest(config.image_settings()) == card.trained_on.images_digest
    released = read_released(account)
    card.require(f"{folder}", voltage_kV=voltage_kV, pixel_size_A=released.pixel_size_A, species=species)
    rows = released.rows(SPLIT) if own else released.table
    log(
        f"{len(rows)} images of {rows['particle'].nunique()} particles"
        + (f"; the model was trained on this campaign, so only its split {SPLIT} is read" if own else "")
    )
    camera = card.detector.model_copy(
        update={"gain": content.get("gain", card.detector.gain), "offset": content.get("offset", card.detector.offset)}
    )

    def blocks() -> Iterator[Seen]:
        for start in range(0, len(rows), BLOCK):
            part = rows.iloc[start : start + BLOCK].reset_index(drop=True)
            yield Seen(part, released.counts.read(part["image"].to_numpy(dtype=np.int64)), camera)

    return blocks(), len(rows)


def predictions(model: Model, blocks: Iterator[Seen], total: int, device: Device) -> Iterator[pd.DataFrame]:
    """Predictions for each block: the columns of COLUMNS, then truths and others."""
    card, done = model.card, 0
    for seen in blocks:
        batches = list(
            batches_of(
                seen.counts,
                seen.table["dose_e_per_A2"],
                model.reader.task,
                card.imaging.pixel_size_A,
                seen.detector,
            )
        )
        read = model.reader.read(batches, device)
        if not is_reading(read):
            raise ConfigError(f"model {card.name} is one for {card.task}; score takes a reader")
        require(len(read["row"]) == len(seen.table), "every image must be read")
        likeness = card.likeness.p_values(described(batches), read["electrons"]) if card.likeness else np.nan
        done += len(seen.table)
        log(f"{card.name}: {done} of {total} images read")
        yield predicted(model, seen.table, read).assign(likeness=likeness)


def described(batches: Sequence[Batch]) -> NDArray[np.float64]:
    """Descriptors of every image, (n, d)."""
    pairs = (pair for batch in batches for pair in zip(batch["image"], batch["electrons"]))
    return np.stack([descriptors(image[0].numpy(), float(electrons)) for image, electrons in pairs])


def predicted(model: Model, table: pd.DataFrame, read: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """The table of predictions without likeness."""
    calibration = model.card.calibration
    p_janus = tempered(read["p_janus"], calibration.temperature) if calibration else read["p_janus"]
    ends = {f"{name}_{end}": np.nan for name in ("n_atoms", "fraction_first") for end in ("low", "high")}
    orders: Any = ""
    if calibration:
        ends = calibration.intervals(read)  # type: ignore[assignment]
        core_shell, janus = calibration.orders(read["p_janus"], read["electrons"])
        orders = np.select([core_shell & janus, core_shell], ["both", "core_shell"], "janus")
    return pd.DataFrame(
        {
            **{name: table[name] for name in ("particle", "view", "dose_e_per_A2")},
            "p_core_shell": 1 - p_janus,
            "n_atoms_predicted": read["n_atoms"],
            "fraction_first_predicted": read["fraction_first"],
            **ends,
            "ordering_predicted": np.where(p_janus > 0.5, "janus", "core_shell"),
            "orders": orders,
            **{name: table[name] for name in ("ordering", "n_atoms", "fraction_first")},
            "electrons": read["electrons"],
        }
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="MODEL", help="folder of a model, or a name in the package")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--structures", type=Path, nargs="+", metavar="FILE", help="structure files that ASE reads")
    given.add_argument("--dataset", type=Path, metavar="DIR", help="results folder of a released set, or its hrtem/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of predictions and scores")
    parser.add_argument("--views", type=int, default=5, metavar="N", help="images of each structure (default: 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the images (default: 0)")
    parser.add_argument("--preset", help="microscope for the structures (default: that of the model's training)")
    parser.add_argument("--film", type=Path, metavar="FILE", help="block of carbon, if the images show a film")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that make images (default: 1)")
    add_device(parser)


def main(arguments: argparse.Namespace) -> None:
    scores = run(**vars(arguments))
    print(page(scores))
    log(scores["summary"])
