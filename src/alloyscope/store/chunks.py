"""The finished chunks of a stage, and checks of their files and particles against their manifests."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from alloyscope.contracts import Structure
from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name
from alloyscope.progress import progress
from alloyscope.store.manifests import Manifest, Slot, manifest_name, to_mend
from alloyscope.store.structures import by_particle, read_structures
from alloyscope.store.tables import read_table

HASHING_THREADS = 4  # hashlib releases the interpreter lock, and a file system serves several readers faster than one


def structures_name(chunk: int) -> str:
    return f"chunk-{chunk_name(chunk)}.extxyz"


def table_name(chunk: int) -> str:
    return f"chunk-{chunk_name(chunk)}.parquet"


def present(folder: Path, n_chunks: int) -> list[int]:
    """Chunks of `range(n_chunks)` whose manifest exists."""
    return [chunk for chunk in range(n_chunks) if (folder / manifest_name(chunk)).exists()]


def read_all(folder: Path, chunks: Iterable[int]) -> list[Manifest]:
    return [Manifest.read(folder / manifest_name(chunk)) for chunk in chunks]


def require_one_setting(manifests: Sequence[Manifest], folder: Path) -> None:
    """Check that chunks that are released together were made with the same settings.

    Raises:
        StoreError: the settings differ; the message names the chunks in the minority.
    """
    counts = Counter(manifest.settings for manifest in manifests)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = [manifest_name(manifest.chunk) for manifest in manifests if manifest.settings != usual]
        raise StoreError(
            f"{folder}: {len(odd)} of {len(manifests)} chunks were made with other settings than the rest: "
            f"{', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}; delete them and run snakemake again"
        )


def require_particles(slots: Sequence[Slot], chunk: int, capacity: int, folder: Path) -> None:
    """Check that the slots of md chunks are the particles of this imaging chunk, in order and complete.

    Raises:
        StoreError: particles are missing, in excess, or in another order.
    """
    got = [slot.particle for slot in slots]
    first = chunk * capacity
    if not 0 < len(got) <= capacity or got != list(range(first, first + len(got))):
        raise StoreError(
            f"{folder}: imaging chunk {chunk_name(chunk)} needs the particles from {first} on, {capacity} at most, "
            f"in order; its md manifests hold {len(got)}: {got[:3]} … {got[-1:]}"
        )


def finished(folder: Path, n_chunks: int) -> list[int]:
    """Numbers of the first `n_chunks` chunks, on which a stage without chunks works; all must be finished.

    Raises:
        StoreError: manifests are missing; the message names the first of them.
    """
    found = present(folder, n_chunks)
    if len(found) < n_chunks:
        missing = [chunk_name(chunk) for chunk in range(n_chunks) if chunk not in set(found)]
        raise StoreError(
            f"{folder}: {len(found)} of {n_chunks} chunks are finished, all are needed; "
            f"missing manifests: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
        )
    return found


def verify_all(manifests: Sequence[Manifest], folder: Path) -> None:
    """Compare every file of every chunk with the checksum in its manifest.

    Raises:
        StoreError: a file is missing or differs; the message names the first one, by chunk.
    """
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        checks = pool.map(lambda manifest: manifest.verify(folder), manifests)
        for _ in progress(checks, len(manifests), "chunks verified"):
            pass


def require_structures(manifest: Manifest, folder: Path) -> None:
    """Check that the manifest of an md chunk lists the structure file, so that its checksum can be compared.

    Raises:
        StoreError: the manifest has valid particles and does not list the file.
    """
    name = structures_name(manifest.chunk)
    if manifest.valid_particles and name not in manifest.files:
        raise StoreError(
            f"{folder / manifest_name(manifest.chunk)}: must list {name}; lists {sorted(manifest.files)}; "
            f"{to_mend(folder, manifest.chunk)}"
        )


def snapshots_in(manifest: Manifest, folder: Path) -> dict[int, list[Structure]]:
    """Read the snapshots of each valid particle of an md chunk, in order.

    Raises:
        StoreError: the file differs from its manifest, or holds other particles.
    """
    require_structures(manifest, folder)
    manifest.verify(folder)
    path = folder / structures_name(manifest.chunk)
    frames = by_particle(read_structures(path)) if manifest.valid_particles else {}
    if tuple(frames) != manifest.valid_particles:
        raise StoreError(
            f"{path}: must hold the {len(manifest.valid_particles)} valid particles of its manifest in order; "
            f"holds {len(frames)}; {to_mend(folder, manifest.chunk)}"
        )
    return frames


def rows_in(
    manifest: Manifest,
    folder: Path,
    capacity: int,
    columns: Collection[str],
    views: int = 1,
    beside: Collection[str] = (),
    later: Mapping[str, float] = MappingProxyType({}),
) -> pd.DataFrame:
    """Read the table of a chunk: `views` rows for every particle of its manifest, in order.

    Args:
        manifest: Manifest of the chunk; its files are not hashed here.
        folder: Folder of the manifest.
        capacity: Number of particles in a full chunk.
        columns: Columns of the table.
        views: Number of rows of each particle.
        beside: Files that the manifest lists beside the table.
        later: Columns that tables of earlier versions lack, with their values there.

    Raises:
        StoreError: files, columns or rows differ from these.
    """
    path, mend = folder / table_name(manifest.chunk), to_mend(folder, manifest.chunk)
    if manifest.files.keys() != (expected := {path.name, *beside}):
        raise StoreError(
            f"{folder / manifest_name(manifest.chunk)}: must list {sorted(expected)}; lists {sorted(manifest.files)}; "
            f"{mend}"
        )
    rows = read_table(path)
    rows = rows.assign(**{name: value for name, value in later.items() if name not in rows})
    first = manifest.chunk * capacity
    particles = np.array([slot.particle for slot in manifest.slots], np.int64)
    valid = np.array([slot.valid for slot in manifest.slots], bool)
    wanted = {"particle": np.repeat(particles, views), "valid": np.repeat(valid, views)}
    if "image" in columns:
        wanted["view"] = np.tile(np.arange(views), len(particles))
        wanted["image"] = first * views + np.arange(len(particles) * views)
    if other := set(rows) ^ set(columns):
        raise StoreError(
            f"{path}: must have the columns of its stage; {', '.join(sorted(map(str, other)))} differ; {mend}"
        )
    sound = (
        0 < len(particles) <= capacity
        and np.array_equal(particles, first + np.arange(len(particles)))
        and all(np.array_equal(rows[name], values) for name, values in wanted.items())
    )
    if not sound:
        raise StoreError(
            f"{path}: must hold the {len(particles)} particles of its manifest in order, {capacity} at most, from "
            f"{first} on, with {views} rows each; holds {len(rows)} rows; {mend}"
        )
    return rows
