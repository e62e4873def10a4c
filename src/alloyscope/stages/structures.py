"""Label every particle in one table.

Reads the manifests and tables of the described chunks and compares each table with its checksum. Writes one row per
planned particle with the columns of the stage `describe`, its group, its split and its labels; a failed particle keeps
its row and its reason. Particles of one group share a split: copies of a structure, and frames of one trajectory, that
come from the user's own files. A particle of molecular dynamics is a group of its own. Beside the table stands a JSON
file of the same name with counts and provenance.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alloyscope.campaign.particles import splits_of
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import RECIPES
from alloyscope.campaign.tables import described_rows, structure_columns
from alloyscope.config.model import ParticlesSection, SplitsSection
from alloyscope.contracts import Split
from alloyscope.errors import StoreError
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.progress import log, progress
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import checksum, digest, write_json
from alloyscope.store.chunks import finished, require_one_setting
from alloyscope.store.manifests import Manifest, manifest_name, to_mend
from alloyscope.store.tables import write_table
from alloyscope.structure import statistics
from alloyscope.structure.fingerprint import FINGERPRINT
from alloyscope.structure.labels import orders
from alloyscope.structure.relatives import groups
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
    table = labelled(table, groups_in(table, particles), splits, labels, seed)
    per_split = split_account(table)
    report_empty(per_split, splits)
    sections = (particles.as_json(), splits.as_json(), labels.as_json())
    account = {
        "digest": digest(str(RECIPES["structures"]), str(seed), *sections, *(found.digest for found in manifests)),
        "chunks": len(numbers),
        "particles": len(table),
        "valid": int(table["valid"].sum()),
        "splits": per_split,
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


def groups_in(table: pd.DataFrame, particles: ParticlesSection) -> NDArray[np.int64]:
    """Group of each particle: the number of its first particle, shape (n,)."""
    found = table["particle"].to_numpy(np.int64, copy=True)
    if particles.source == "files":
        valid = table[table["valid"]]
        names = valid["group_in_file"].astype(object).where(valid["group_in_file"].notna(), None)
        compositions = valid[["n_first", "n_second"]].to_numpy(np.int64)
        firsts = groups(compositions, valid[list(FINGERPRINT)].to_numpy(), names.to_numpy())
        found[table["valid"]] = valid["particle"].to_numpy(np.int64)[firsts]
    return found


def labelled(
    table: pd.DataFrame, group: NDArray[np.int64], splits: SplitsSection, labels: LabelsSection, seed: int
) -> pd.DataFrame:
    """Add group, split and labels to the table; a failed particle gets a split, but no labels.

    A group has the split of its first particle, so that a larger campaign changes no earlier particle's split.
    """
    protocols = table["protocol"].where(table["valid"])
    found = orders(table, protocols, labels, AIMS)
    split = splits_of(group, splits, seed)
    return table.assign(group=group, split=split, **found, ordering=found[f"order_{labels.ordering}"])


def split_account(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Number of valid particles and groups of each split."""
    valid = table[table["valid"]]
    return {
        split: {
            "particles": int((valid["split"] == split).sum()),
            "groups": int(valid.loc[valid["split"] == split, "group"].nunique()),
        }
        for split in get_args(Split)
    }


def report_empty(per_split: Mapping[str, Mapping[str, int]], splits: SplitsSection) -> None:
    """Log the splits that have a share and no particle; `per_split` comes from `split_account`."""
    counts = {name: sum(found[name] for found in per_split.values()) for name in ("particles", "groups")}
    if empty := [split for split, found in per_split.items() if getattr(splits, split) > 0 and not found["groups"]]:
        log(
            f"no particle is in the splits {', '.join(empty)}: the {counts['particles']} valid particles form "
            f"{counts['groups']} groups of related structures, and a group lies in one split; add other structures, or "
            f"change the section splits (docs/own-structures.md)"
        )


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
