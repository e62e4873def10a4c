"""Label every particle in one table.

Reads the manifests and tables of the described chunks and compares each table with its checksum. Writes one row per
planned particle with the columns of the stage `describe`, its split and its labels; a failed particle keeps its row and
its reason. Beside the table stands a JSON file of the same name with counts and provenance.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from alloyscope.campaign.particles import splits_of
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import RECIPES
from alloyscope.campaign.tables import described_rows, structure_columns
from alloyscope.config.model import ParticlesSection, SplitsSection
from alloyscope.errors import StoreError
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.progress import progress
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import checksum, digest, write_json
from alloyscope.store.chunks import finished, require_one_setting
from alloyscope.store.manifests import Manifest, manifest_name, to_mend
from alloyscope.store.tables import write_table
from alloyscope.structure import enclosure, order, statistics
from alloyscope.structure.settings import LabelsSection

AIMS = {name: protocol.aims_at for name, protocol in PROTOCOLS.items()}


def run(
    *,
    descriptors: Path,
    n_chunks: int,
    capacity: int,
    seed: int,
    particles: ParticlesSection,
    splits: SplitsSection,
    labels: LabelsSection,
    out: Path,
) -> None:
    """Write the table of particles.

    Args:
        descriptors: Folder of the described chunks.
        n_chunks: Number of imaging chunks of the campaign.
        capacity: Number of particles in a full imaging chunk.
        seed: Seed of the campaign.
        particles: Section of the plan.
        splits: Shares of the splits.
        labels: Criterion of the label `ordering`.
        out: Table to write; its account is written beside it.

    Raises:
        StoreError: a chunk is missing, damaged, of another plan, or holds other particles than its manifest lists.
    """
    watch = Stopwatch("structures")
    numbers = finished(descriptors, n_chunks)
    manifests, parts = [], []
    for number in progress(numbers, len(numbers), "chunks"):
        manifest = Manifest.read(descriptors / manifest_name(number))
        manifest.verify(descriptors)
        parts.append(described_rows(manifest, descriptors, capacity, seed, particles))
        manifests.append(replace(manifest, slots=()))  # a million slots take 170 MB
    require_one_setting(manifests, descriptors)
    table = pd.concat(parts, ignore_index=True)
    require_no_hole(table, descriptors, capacity)
    table = labelled(table, splits, labels, seed)
    sections = (particles.as_json(), splits.as_json(), labels.as_json())
    account = {
        "digest": digest(str(RECIPES["structures"]), str(seed), *sections, *(found.digest for found in manifests)),
        "chunks": len(numbers),
        "particles": len(table),
        "valid": int(table["valid"].sum()),
        "failures": statistics.failures(table),
        "agreement_with_protocol": {name: asdict(statistics.agreement(table, name)) for name in statistics.CRITERIA},
        "provenance": watch.record(),
    }
    write_table(out, table, structure_columns(particles))
    write_json(out.with_suffix(".json"), account | {"files": {out.name: checksum(out)}})


def require_no_hole(table: pd.DataFrame, folder: Path, capacity: int) -> None:
    """Check that every particle up to the last one has a row.

    Raises:
        StoreError: a particle has no row; the message names its chunk.
    """
    absent = np.flatnonzero(table["particle"].to_numpy() != np.arange(len(table)))
    if len(absent):
        particle = int(absent[0])
        raise StoreError(
            f"{folder}: no row for particle {particle}, but rows for later particles; "
            f"{to_mend(folder, particle // capacity)}"
        )


def labelled(table: pd.DataFrame, splits: SplitsSection, labels: LabelsSection, seed: int) -> pd.DataFrame:
    """Add split and labels to the table; a failed particle gets a split, but no labels."""
    protocols = table["protocol"].where(table["valid"])
    numbers = {name: table[name].to_numpy(np.float64) for name in ("eta", "d_com_over_Rg", *enclosure.NUMBERS)}
    found = {
        "order_protocol": order.label_by_protocol(protocols, AIMS),
        "order_eta": order.label_by_eta(numbers["eta"]),
        "order_d_com": order.label_by_centres(numbers["d_com_over_Rg"], labels.d_com_over_Rg_limit),
        "order_enclosure": enclosure.label_by_enclosure(numbers),
    }
    split = splits_of(table["particle"].to_numpy(np.int64), splits, seed)
    return table.assign(split=split, **found, ordering=found[f"order_{labels.ordering}"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--descriptors", type=Path, required=True, help="folder of the described chunks")
    parser.add_argument(
        "--chunks", dest="n_chunks", type=int, required=True, help="described chunks to gather, from the first on"
    )
    parser.add_argument("--capacity", type=int, required=True, help="particles of a full imaging chunk")
    parser.add_argument("--seed", type=int, required=True, help="seed of the campaign")
    add_section(parser, "particles", ParticlesSection)
    add_section(parser, "splits", SplitsSection)
    add_section(parser, "labels", LabelsSection)
    parser.add_argument("--out", type=Path, required=True, help="table to write, structures.parquet")
