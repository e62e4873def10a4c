"""Describe and label every particle in one table.

Reads the manifests and structures of all md chunks (with --min-chunks: of those finished so far) and compares each
file with its checksum. Writes one row per planned particle: what was planned, whether it is valid, and chemical-order
and shape descriptors of its last snapshot; a failed particle keeps its row and its reason. Beside the table stands a
JSON file of the same name with counts and provenance.
"""

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from alloyscope.config import LabelsSection, ParticlesSection, SplitsSection
from alloyscope.contracts import Structure
from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name, particle_id
from alloyscope.plan import RECIPES, particle, split_of
from alloyscope.progress import progress
from alloyscope.provenance import Stopwatch
from alloyscope.steps.arguments import add_section
from alloyscope.store.atomic import digest, write_json
from alloyscope.store.manifests import Manifest, finished, manifest_name, read_all, require_one_setting
from alloyscope.store.structures import by_particle, read_structures
from alloyscope.store.tables import write_table
from alloyscope.structure import order, shape, statistics

DESCRIPTORS = (
    "eta",
    "d_com_A",
    "R_g_A",
    "d_com_over_Rg",
    "coverage",
    "radial_segregation_A",
    "mixing_sigma",
    "warren_cowley_alpha",
    "surface_fraction_first",
    "surface_fraction_second",
    "largest_cluster_fraction",
)
COLUMNS = {
    "particle": "int64",
    "particle_id": "string",
    "chunk": "int64",
    "valid": "bool",
    "reason": "string",
    "attempts": "int64",
    "seconds": "float64",
    "protocol": "string",
    "split": "string",
    "species_first": "string",
    "species_second": "string",
    "n_atoms": "int64",
    "n_first": "int64",
    "n_second": "int64",
    "fraction_first": "float64",
    **dict.fromkeys(DESCRIPTORS, "float64"),
    "order_protocol": "string",
    "order_eta": "string",
    "order_d_com": "string",
    "ordering": "string",
    "potential_energy_eV": "float64",
    "temperature_K": "float64",
}


def describe(structure: Structure, species: tuple[str, str]) -> dict[str, float]:
    """Every descriptor of a snapshot, by the names of `DESCRIPTORS`."""
    body = shape.Nanoparticle.of(structure, species)
    bonds = order.Bonds.of(body)
    d_com, R_g = order.centre_distance_A(body), body.radius_of_gyration_A
    return {
        "eta": order.eta(body),
        "d_com_A": d_com,
        "R_g_A": R_g,
        "d_com_over_Rg": d_com / R_g,
        "coverage": order.coverage(body),
        "radial_segregation_A": order.radial_segregation_A(body),
        "mixing_sigma": bonds.mixing,
        "warren_cowley_alpha": bonds.warren_cowley,
        "surface_fraction_first": shape.surface_fraction(body, body.first),
        "surface_fraction_second": shape.surface_fraction(body, ~body.first),
        "largest_cluster_fraction": shape.largest_cluster_fraction(body),
    }


def run(
    *,
    structures: Path,
    n_chunks: int,
    min_chunks: int | None,
    seed: int,
    particles: ParticlesSection,
    splits: SplitsSection,
    labels: LabelsSection,
    out: Path,
) -> None:
    """Write the table of particles.

    Raises:
        StoreError: a chunk is missing, damaged, or holds other particles than its manifest and the plan say.
    """
    watch = Stopwatch("structures")
    numbers = finished(structures, n_chunks, min_chunks)
    rows: list[dict[str, Any]] = []
    digests = []
    manifests = read_all(structures, numbers)
    require_one_setting(manifests, structures)
    for manifest in progress(manifests, len(manifests), "structures"):
        digests.append(manifest.digest)
        rows += _chunk_rows(structures, manifest, particles=particles, splits=splits, labels=labels, seed=seed)
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    account = {
        "digest": digest(
            str(RECIPES["structures"]), str(seed), particles.as_json(), splits.as_json(), labels.as_json(), *digests
        ),
        "chunks": len(numbers),
        "particles": len(table),
        "valid": int(table["valid"].sum()),
        "failures": statistics.failures(table),
        "agreement_with_protocol": {name: asdict(statistics.agreement(table, name)) for name in statistics.CRITERIA},
        "provenance": watch.record(),
    }
    write_json(out.with_suffix(".json"), account)
    write_table(out, table, COLUMNS)


def _chunk_rows(
    folder: Path,
    manifest: Manifest,
    *,
    particles: ParticlesSection,
    splits: SplitsSection,
    labels: LabelsSection,
    seed: int,
) -> list[dict[str, Any]]:
    path = folder / f"chunk-{chunk_name(manifest.chunk)}.extxyz"
    manifest.verify(folder)
    frames = by_particle(read_structures(path)) if manifest.valid_particles else {}
    if tuple(frames) != manifest.valid_particles:
        raise StoreError(
            f"{path}: must hold the {len(manifest.valid_particles)} valid particles of its manifest in order; "
            f"holds {len(frames)}; delete {folder / manifest_name(manifest.chunk)} and run snakemake again"
        )
    rows = []
    for slot in manifest.slots:
        planned = particle(slot.particle, particles, seed)
        row = asdict(slot) | {
            "particle_id": particle_id(slot.particle),
            "chunk": manifest.chunk,
            "protocol": planned.protocol,
            "split": split_of(slot.particle, splits, seed),
            "species_first": planned.species[0],
            "species_second": planned.species[1],
            "n_atoms": planned.n_atoms,
            "n_first": planned.counts[0],
            "n_second": planned.counts[1],
            "fraction_first": planned.counts[0] / planned.n_atoms,
        }
        if slot.valid:
            last = frames[slot.particle][-1]
            counts = Counter(last.elements)
            if not counts <= Counter(planned.elements):  # fewer is fine: atoms evaporate
                raise StoreError(
                    f"{path}: particle {slot.particle} must be {_formula(planned.elements)} as planned, less what "
                    f"evaporated; holds {_formula(last.elements)}; it belongs to another plan: delete "
                    f"{folder / manifest_name(manifest.chunk)} and run snakemake again"
                )
            n_first, n_second = (counts[element] for element in planned.species)
            row |= {
                "n_atoms": n_first + n_second,
                "n_first": n_first,
                "n_second": n_second,
                "fraction_first": n_first / (n_first + n_second),
            }
            row |= _measured(last, planned.species, labels, row)
        rows.append(row)
    return rows


def _measured(
    structure: Structure, species: tuple[str, str], labels: LabelsSection, row: dict[str, Any]
) -> dict[str, Any]:
    found = describe(structure, species)
    eta, d_com_over_Rg = found["eta"], found["d_com_over_Rg"]
    return {
        **found,
        "order_protocol": order.ORDER_OF_PROTOCOL[row["protocol"]],
        "order_eta": order.label_by_eta(eta),
        "order_d_com": order.label_by_centres(d_com_over_Rg, labels.d_com_over_Rg_limit),
        "ordering": order.label(labels, row["protocol"], eta, d_com_over_Rg),
        "potential_energy_eV": structure.info["potential_energy_eV"],
        "temperature_K": structure.info["temperature_K"],
    }


def _formula(elements: tuple[str, ...]) -> str:
    return " ".join(f"{elements.count(symbol)} {symbol}" for symbol in sorted(set(elements)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--structures", type=Path, required=True, help="folder of the md chunks")
    parser.add_argument("--chunks", type=int, required=True, help="number of md chunks of the campaign")
    parser.add_argument("--min-chunks", type=int, help="work on the chunks finished so far, at least this many")
    parser.add_argument("--seed", type=int, required=True, help="seed of the campaign")
    add_section(parser, "particles", ParticlesSection)
    add_section(parser, "splits", SplitsSection)
    add_section(parser, "labels", LabelsSection)
    parser.add_argument("--out", type=Path, required=True, help="table to write, structures.parquet")


def main(arguments: argparse.Namespace) -> None:
    run(
        structures=arguments.structures,
        n_chunks=arguments.chunks,
        min_chunks=arguments.min_chunks,
        seed=arguments.seed,
        particles=arguments.particles,
        splits=arguments.splits,
        labels=arguments.labels,
        out=arguments.out,
    )
