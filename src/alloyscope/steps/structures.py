"""Label every particle in one table.

Reads the manifests and tables of all described chunks (with --min-chunks: of those finished so far) and compares each
table with its checksum. Writes one row per planned particle: what the step `describe` found, its split and its labels;
a failed particle keeps its row and its reason. Beside the table stands a JSON file of the same name with counts and
provenance.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from alloyscope.config import LabelsSection, ParticlesSection, SplitsSection
from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name
from alloyscope.plan import RECIPES, splits_of
from alloyscope.progress import progress
from alloyscope.provenance import Stopwatch
from alloyscope.sections import parse_section
from alloyscope.steps import describe
from alloyscope.steps.arguments import add_section
from alloyscope.store.atomic import checksum, digest, write_json
from alloyscope.store.manifests import Manifest, finished, manifest_name, require_one_setting
from alloyscope.store.tables import Columns, read_table, write_table
from alloyscope.structure import order, statistics

LABELS = ("order_protocol", "order_eta", "order_d_com", "ordering")
COLUMNS: Columns = {**describe.COLUMNS, "split": "string", **dict.fromkeys(LABELS, "string")}


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
        n_chunks: Imaging chunks of the campaign.
        capacity: Particles of a full imaging chunk.
        seed: Seed of the campaign.
        particles: What was planned.
        splits: Shares of the splits.
        labels: What orders a particle.
        out: Table to write; its account stands beside it.

    Raises:
        StoreError: a chunk is missing, damaged, of another plan, or holds other particles than its manifest says.
    """
    watch = Stopwatch("structures")
    numbers = finished(descriptors, n_chunks)
    manifests, parts = [], []
    for number in progress(numbers, len(numbers), "chunks"):
        manifest = Manifest.read(descriptors / manifest_name(number))
        parts.append(chunk_rows(manifest, descriptors, capacity, seed, particles))
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
    write_table(out, table, COLUMNS)
    write_json(out.with_suffix(".json"), account | {"files": {out.name: checksum(out)}})


def chunk_rows(manifest: Manifest, folder: Path, capacity: int, seed: int, particles: ParticlesSection) -> pd.DataFrame:
    """Rows of one chunk, checked against its manifest.

    Raises:
        StoreError: the table is damaged, of another plan, or holds other particles than the manifest.
    """
    path = folder / f"chunk-{chunk_name(manifest.chunk)}.parquet"
    mend = f"delete {folder / manifest_name(manifest.chunk)} and run snakemake again"
    manifest.verify(folder)
    made_for = {"seed": manifest.provenance.get("seed"), "section particles": section_of(manifest, path)}
    wanted = {"seed": seed, "section particles": particles.as_json()}
    if other := [name for name in wanted if made_for[name] != wanted[name]]:
        raise StoreError(f"{path}: belongs to another plan, made for another {' and '.join(other)}; {mend}")
    rows = read_table(path)
    slots = np.array([(slot.particle, slot.valid) for slot in manifest.slots], np.int64).reshape(-1, 2)
    first = manifest.chunk * capacity
    sound = (
        manifest.files.keys() == {path.name}
        and set(rows) == set(describe.COLUMNS)
        and 0 < len(slots) <= capacity
        and np.array_equal(slots[:, 0], first + np.arange(len(slots)))
        and np.array_equal(rows[["particle", "valid"]].to_numpy(np.int64), slots)
    )
    if not sound:
        raise StoreError(
            f"{path}: must hold the {len(slots)} particles of its manifest in order, {capacity} at most, from {first} "
            f"on; holds {len(rows)}; {mend}"
        )
    return rows


def section_of(manifest: Manifest, path: Path) -> str | None:
    """The section `particles` that a chunk was made from; an older chunk's has none of the later keys."""
    stored = manifest.provenance.get("sections", {}).get("particles")
    return None if stored is None else parse_section(ParticlesSection, stored, path=f"{path}: particles").as_json()


def require_no_hole(table: pd.DataFrame, folder: Path, capacity: int) -> None:
    """Every particle up to the last has a row.

    Raises:
        StoreError: one has none; names its chunk.
    """
    absent = np.flatnonzero(table["particle"].to_numpy() != np.arange(len(table)))
    if len(absent):
        particle = int(absent[0])
        raise StoreError(
            f"{folder}: no row for particle {particle}, though later ones have theirs; "
            f"delete {folder / manifest_name(particle // capacity)} and run snakemake again"
        )


def labelled(table: pd.DataFrame, splits: SplitsSection, labels: LabelsSection, seed: int) -> pd.DataFrame:
    """The table with split and labels; a failed particle has none of the latter."""
    protocols = table["protocol"].where(table["valid"])
    eta, d_com_over_Rg = (table[name].to_numpy(np.float64) for name in ("eta", "d_com_over_Rg"))
    return table.assign(
        split=splits_of(table["particle"].to_numpy(np.int64), splits, seed),
        order_protocol=order.label_by_protocol(protocols),
        order_eta=order.label_by_eta(eta),
        order_d_com=order.label_by_centres(d_com_over_Rg, labels.d_com_over_Rg_limit),
        ordering=order.label(labels, protocols, eta, d_com_over_Rg),
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
