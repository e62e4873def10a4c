"""Columns of the tables of particles and images, and checked reading of the tables of single chunks."""

from pathlib import Path

import pandas as pd

from alloyscope.config.model import ParticlesSection
from alloyscope.errors import ConfigError, StoreError
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.sections import parse_section
from alloyscope.store.chunks import rows_in, table_name
from alloyscope.store.images import CHUNK_COLUMNS, LATER_COLUMNS, ShardShape, shard_name
from alloyscope.store.manifests import Manifest, to_mend
from alloyscope.store.tables import Columns
from alloyscope.structure.descriptors import DESCRIPTORS, RELAXED
from alloyscope.structure.fingerprint import FINGERPRINT

ORDER_LABELS = ("order_protocol", "order_eta", "order_d_com", "order_enclosure", "ordering")
LABEL_COLUMNS: Columns = {  # columns of a particle that are repeated for each of its images
    "split": "string",
    "group": "int64",
    "protocol": "string",
    "ordering": "string",
    "n_atoms": "int64",
    "n_first": "int64",
    "n_second": "int64",
    "fraction_first": "float64",
}


def drawn_times(particles: ParticlesSection) -> list[str]:
    """Columns of the times that protocols draw.

    These are the protocols that stand in every config (`Protocol.spelled`), and the later ones that this campaign uses.
    """
    kept = [protocol for name, protocol in PROTOCOLS.items() if protocol.spelled or name in particles.used]
    return sorted({name for protocol in kept for name in protocol.drawn})


def described_columns(particles: ParticlesSection) -> Columns:
    """Columns of the table of a described chunk."""
    return {
        "particle": "int64",
        "particle_id": "string",
        "chunk": "int64",
        "valid": "bool",
        "reason": "string",
        "attempts": "int64",
        "seconds": "float64",
        "protocol": "string",
        **dict.fromkeys(drawn_times(particles), "float64"),
        "species_first": "string",
        "species_second": "string",
        "n_atoms": "int64",
        "n_first": "int64",
        "n_second": "int64",
        "fraction_first": "float64",
        **dict.fromkeys(DESCRIPTORS, "float64"),
        **dict.fromkeys(RELAXED, "float64"),
        "potential_energy_eV": "float64",
        "temperature_K": "float64",
        "group_in_file": "string",
        **dict.fromkeys(FINGERPRINT, "float32"),
    }


def structure_columns(particles: ParticlesSection) -> Columns:
    """Columns of structures.parquet."""
    labels = dict.fromkeys(ORDER_LABELS, "string")
    return {**described_columns(particles), "group": "int64", "split": "string", **labels}


def described_rows(
    manifest: Manifest, folder: Path, capacity: int, seed: int, particles: ParticlesSection
) -> pd.DataFrame:
    """Read the rows of a described chunk and check them against its manifest and the plan.

    Raises:
        StoreError: the table is damaged, of another plan, or holds other particles than the manifest.
    """
    path = folder / table_name(manifest.chunk)
    made_for = {"seed": manifest.provenance.get("seed"), "section particles": _particles_of(manifest, path)}
    wanted = {"seed": seed, "section particles": particles.as_json()}
    if other := [name for name in wanted if made_for[name] != wanted[name]]:
        raise StoreError(
            f"{path}: belongs to another plan, made for another {' and '.join(other)}; "
            f"{to_mend(folder, manifest.chunk)}"
        )
    return rows_in(manifest, folder, capacity, described_columns(particles))


def _particles_of(manifest: Manifest, path: Path) -> str | None:
    """The section `particles` that a chunk was made from; that of an older chunk lacks the later keys."""
    stored = manifest.provenance.get("sections", {}).get("particles")
    if stored is None:
        return None
    try:
        return parse_section(ParticlesSection, stored, path="particles").as_json()
    except ConfigError as error:
        raise StoreError(
            f"{path}: was made from a section that is not valid ({error}); {to_mend(path.parent, manifest.chunk)}"
        ) from None


def imaged_rows(manifest: Manifest, folder: Path, shard: ShardShape) -> pd.DataFrame:
    """Read the rows of an imaging chunk and check that every view of every particle is in its place.

    Raises:
        StoreError: files, columns or rows differ from the manifest.
    """
    shards = [shard_name(array, manifest.chunk) for array in shard.arrays]
    return rows_in(manifest, folder, shard.capacity, CHUNK_COLUMNS, shard.views, shards, LATER_COLUMNS)
