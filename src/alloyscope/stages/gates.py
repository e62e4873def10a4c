"""Test the images with every physics gate before they are released.

Reads the tables and manifests of `hrtem`, structures.parquet and, for a sample of images, their shards and structures.
Tests that the rotations of all images are uniform and that no particle is related to a particle of another split.
Simulates each image of the sample again, with species swapped, with half the slice thickness, and with abTEM on a finer
grid. Compares the whole image, with its film, optics and camera, with the reference image, and the counts with the
noise that their camera and dose must have. Writes gates.json, which lists every gate with its value and bounds and what
no gate has checked, only if all gates have passed.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.snapshots import imaged_snapshots
from alloyscope.contracts import Structure
from alloyscope.errors import GateError, StoreError
from alloyscope.ids import chunk_name, rng_for
from alloyscope.imaging import gates
from alloyscope.imaging.examination import Examination, examine_image, examine_microscope
from alloyscope.imaging.hrtem import imager_for
from alloyscope.microscope.settings import DetectorSection, ImagingSection
from alloyscope.progress import log, progress
from alloyscope.stages.arguments import add_section
from alloyscope.store import images as store
from alloyscope.store.atomic import write_json
from alloyscope.store.chunks import finished, table_name
from alloyscope.store.manifests import Manifest, manifest_name
from alloyscope.store.structures import read_film
from alloyscope.store.tables import read_table

ASKED = ("image", "valid", *store.VECTORS["rotation"])  # columns


def run(
    *,
    images: Path,
    structures: Path,
    labels: Path,
    chunks: int,
    capacity: int,
    md_capacity: int,
    sample: int,
    seed: int,
    imaging: ImagingSection,
    detector: DetectorSection,
    out: Path,
    film: Path | None = None,
) -> None:
    """Apply every gate.

    Args:
        images: Folder of the hrtem manifests, tables and shards.
        structures: Folder of the md manifests and structures.
        labels: Table of labels, structures.parquet.
        chunks: Number of imaging chunks to release, from the first on.
        capacity: Number of particles in a full imaging chunk.
        md_capacity: Number of particles in a full md chunk.
        sample: Number of images that are simulated again.
        seed: Seed of the campaign.
        imaging: Engine, grid, pixels.
        detector: Kind of camera, gain, offset.
        out: gates.json.
        film: Block of carbon, for images that show a film.

    Raises:
        GateError: a gate failed; the message lists all that did, and nothing is written.
        StoreError: an input is missing or damaged.
    """
    watch = Stopwatch("gates")
    there = finished(images, chunks)
    asked = [asked_of(images, chunk) for chunk in there]
    table = pd.concat([rows for rows, _ in asked], ignore_index=True)
    known = read_table(labels, ("valid", *gates.RELATED_BY))
    found = Examination(unchecked=engine_unchecked(dict(zip(there, (compared for _, compared in asked))), imaging))
    found.ask("all images", gates.rotations_uniform, table[list(store.VECTORS["rotation"])].to_numpy(np.float64))
    found.ask("all particles", gates.no_relatives_across_splits, known[known["valid"]])

    # The CPU makes the sample, whatever device made the images: the sample is small, and another device is a check.
    imager = imager_for(imaging.model_copy(update={"device": "cpu"}), film=read_film(film) if film else None)
    shard = store.ShardShape(capacity, imaging.views, imaging.pixels)
    rows = whole_rows(images, sampled(table[table["valid"]], sample, seed)["image"].tolist(), shard)
    for place, (name, view) in enumerate(
        progress(zip(rows["image_id"], store.views_of(rows)), len(rows), "images examined")
    ):
        job = (read_particle(structures, view.particle, md_capacity), view)
        if place == 0:
            examine_microscope(found, imager, job)
        chunk, row = divmod(int(rows["image"].iloc[place]), shard.images)
        clean, counts = (store.read_unreleased(images, chunk, shard, array, row) for array in store.IMAGES)
        examine_image(found, name, imager, detector, job, clean, counts)

    for of, gate in found.passed:
        log(f"{of}: {gate.gate} {gate.value:.4g}, {bounds_text(gate)}: passed")
    for words in found.unchecked:
        log(f"not checked: {words}")
    if found.faults:
        raise GateError("\n".join(found.faults))
    rows_out = [row_of(of, gate) for of, gate in found.passed]
    account = {"gates": rows_out, "unchecked": found.unchecked, "images": rows["image_id"].tolist()}
    write_json(out, account | {"provenance": watch.record()})


def asked_of(folder: Path, chunk: int) -> tuple[pd.DataFrame, int]:
    """Read the columns `ASKED` of all images of a chunk; a million whole rows would take 1.5 GB.

    Returns:
        The table, and the number of waves that the stage `hrtem` compared with abTEM's.

    Raises:
        StoreError: the chunk's manifest or table is missing or damaged.
    """
    compared = Manifest.read(folder / manifest_name(chunk)).counts.get("checked_waves", 0)
    return read_table(folder / table_name(chunk), ASKED), compared


def engine_unchecked(compared: Mapping[int, int], imaging: ImagingSection) -> list[str]:
    """What the stage `hrtem` has not compared with another engine, in words.

    Args:
        compared: Chunk → number of waves that were compared with abTEM's.
        imaging: Engine of the campaign.
    """
    if imaging.engine == "abtem":
        return ["the engine, because abTEM made the images itself: the gates compare its grid, lens and camera only"]
    without = [chunk for chunk, count in compared.items() if count == 0]
    if not without:
        return []
    return [
        f"the engine in {len(without)} of {len(compared)} chunks, the first is {chunk_name(without[0])}: none of their "
        f"waves was compared with abTEM's (execution.checked_waves), but those of the sample are"
    ]


def sampled(valid: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Choose the rows of the images to examine, in order."""
    chosen = rng_for("gates", seed).choice(len(valid), min(count, len(valid)), replace=False)
    return valid.iloc[np.sort(chosen)]


def whole_rows(folder: Path, places: Sequence[int], shard: store.ShardShape) -> pd.DataFrame:
    """Read every column of the images at these places in the arrays, in the order of the places."""
    chunks = sorted({place // shard.images for place in places})
    tables = [store.with_later_columns(read_table(folder / table_name(chunk))) for chunk in chunks or [0]]
    return pd.concat(tables).set_index("image", drop=False).loc[list(places)]


def read_particle(folder: Path, particle: int, md_capacity: int) -> Sequence[Structure]:
    """Read the snapshots of one particle, as `hrtem` images them.

    Raises:
        StoreError: the chunk's files differ from its manifest, or do not hold the particle.
    """
    manifest = Manifest.read(folder / manifest_name(particle // md_capacity))
    if frames := imaged_snapshots(manifest, folder).get(particle):
        return frames
    raise StoreError(
        f"{folder / manifest_name(manifest.chunk)}: holds no structure of particle {particle}, of which there are "
        f"images; delete the manifests of hrtem and run snakemake again"
    )


def bounds_text(gate: gates.Passed) -> str:
    low, high = (None if bound is None else f"{bound:.4g}" for bound in (gate.low, gate.high))
    return f"within {low} … {high}" if low and high else f"at most {high}" if high else f"at least {low}"


def row_of(of: str, gate: gates.Passed) -> dict[str, Any]:
    return {"of": of, "gate": gate.gate, "value": gate.value, "low": gate.low, "high": gate.high}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder of hrtem manifests, tables and shards")
    parser.add_argument("--structures", type=Path, required=True, help="folder of md manifests and structures")
    parser.add_argument("--labels", type=Path, required=True, help="structures.parquet")
    parser.add_argument("--chunks", type=int, required=True, help="imaging chunks to release, from the first on")
    parser.add_argument("--capacity", type=int, required=True, help="particles of a full imaging chunk")
    parser.add_argument("--md-capacity", type=int, required=True, help="particles of a full md chunk")
    parser.add_argument("--sample", type=int, required=True, help="number of images to simulate again")
    parser.add_argument("--seed", type=int, required=True, help="seed of the campaign")
    add_section(parser, "imaging", ImagingSection)
    add_section(parser, "detector", DetectorSection)
    parser.add_argument("--film", type=Path, nargs="?", help="block of carbon, for images that show a film")
    parser.add_argument("--out", type=Path, required=True, help="gates.json to write")
