"""Time and memory of the steps that read every chunk, on generated chunks.

`structures` reads the tables of described chunks, `gates` and `dataset` those of imaged ones, `statistics` the table
that `structures` wrote. One view per particle, so particles and images are as many. `gates` examines no image here, and
the shards are small: what is measured grows with manifests and rows. How fast `dataset` compares shards with their
checksums is measured by itself, on one chunk (--shard-MB); it reads every byte of them, on up to four threads.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import harness
import numpy as np
import pandas as pd
from harness import Figure
from numpy.typing import NDArray

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.tables import described_columns
from alloyscope.config.model import Config
from alloyscope.config.read import parse
from alloyscope.contracts import Structure
from alloyscope.ids import chunk_name, image_id, particle_id
from alloyscope.pages.structures import ParticleTable
from alloyscope.pages.structures_pictures import picked
from alloyscope.store import images as store
from alloyscope.store.atomic import checksum, write_text
from alloyscope.store.chunks import HASHING_THREADS, verify_all
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import to_text
from alloyscope.store.tables import Columns, write_table

WORDS = {"protocol": ["gas_quench", "droplets"], "species_first": ["Ag"], "species_second": ["Co"]}
IMAGE_WORDS = {"engine": ["batched"], "snapshots": ["0"]}
REASON = "error: no result after 3600 s"
SMALL_SHARD_BYTES = 64


def configuration(chunks: int, particles: int) -> Config:
    return parse(
        {
            "campaign": {"n_particles": chunks * particles},
            "md": {"particles_per_chunk": particles},
            "imaging": {"md_chunks_per_chunk": 1, "views": 1},
        }
    )


def random_table(columns: Columns, words: Mapping[str, Sequence[str]], chunk: int, rows: int) -> pd.DataFrame:
    """Random numbers in every column of numbers; one particle in a hundred has failed."""
    rng = np.random.default_rng(chunk)
    numbers = np.arange(chunk * rows, (chunk + 1) * rows)
    valid = rng.random(rows) > 0.01
    table = pd.DataFrame({name: rng.random(rows) for name, kind in columns.items() if kind.startswith("float")})
    table[~valid] = np.nan
    whole = [name for name, kind in columns.items() if kind == "int64"]
    table = table.join(pd.DataFrame({name: rng.integers(1, 1000, rows) for name in whole}))
    chosen = pd.DataFrame({name: rng.choice(known, rows) for name, known in words.items()})
    reasons = np.where(valid, None, REASON)
    return table.join(chosen).assign(particle=numbers, chunk=chunk, valid=valid, reason=reasons)


def write_manifest(
    stage: str, path: Path, table: pd.DataFrame, files: Sequence[Path], plan: Mapping[str, object]
) -> None:
    """The manifest of a table with one row per particle."""
    chunk = int(table["chunk"].iloc[0])
    slots = tuple(
        Slot(number, sound, None if sound else REASON, 1, 0.1234)
        for number, sound in zip(table["particle"].tolist(), table["valid"].tolist(), strict=True)
    )
    sums = {file.relative_to(path.parent).as_posix(): checksum(file) for file in files}
    Manifest(stage, chunk, "0" * 16, slots, sums, {}, Stopwatch(stage).record() | plan).write(path)


def write_described(folder: Path, chunk: int, config: Config) -> None:
    table = random_table(described_columns(config.particles), WORDS, chunk, config.md.particles_per_chunk)
    table["particle_id"] = [particle_id(number) for number in table["particle"].tolist()]
    table["fraction_first"] = table["fraction_first"].fillna(0.5)
    table["group_in_file"] = None
    path = folder / manifest_name(chunk)
    data = path.with_suffix(".parquet")
    write_table(data, table, described_columns(config.particles))
    plan = {"seed": config.campaign.seed, "sections": {"particles": config.particles.model_dump(mode="json")}}
    write_manifest("describe", path, table, [data], plan)


def uniform_rotations(rows: int, chunk: int) -> NDArray[np.float64]:
    quaternions = np.random.default_rng(chunk).standard_normal((rows, 4))
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def write_imaged(folder: Path, chunk: int, rows: int, shard_bytes: int) -> None:
    """Manifest, table, and shards of zeros."""
    table = random_table(store.CHUNK_COLUMNS, IMAGE_WORDS, chunk, rows)
    table["image"], table["view"] = table["particle"], 0
    table["image_id"] = [image_id(number, 0) for number in table["particle"].tolist()]
    table[list(store.VECTORS["rotation"])] = uniform_rotations(rows, chunk)
    path = folder / manifest_name(chunk)
    data = path.with_suffix(".parquet")
    write_table(data, table, store.CHUNK_COLUMNS)
    shards = [folder / store.shard_name(name, chunk) for name in (store.CLEAN, store.COUNTS)]
    for shard in shards:
        shard.parent.mkdir(parents=True, exist_ok=True)
        shard.write_bytes(bytes(shard_bytes))
    write_manifest("hrtem", path, table, [data, *shards], {})


def write_shown(structures: Path, config: Config) -> None:
    """The structures that the page of statistics draws: 100 atoms each, in no order."""
    campaign = ParticleTable.read(structures, config.labels)
    rng = np.random.default_rng(0)
    frames: dict[int, list[Structure]] = {}
    for particle in picked(campaign.valid):
        elements = tuple(rng.permutation([*campaign.species] * 50).tolist())
        info = {"particle": particle.row["particle"], "protocol": "droplets", "snapshot": 0}
        frames.setdefault(particle.row["chunk"], []).append(Structure(elements, rng.uniform(0, 15, (100, 3)), info))
    for chunk, shown in frames.items():
        write_text(structures.parent / f"chunk-{chunk_name(chunk)}.extxyz", to_text(shown))


def step_figures(step: str, flags: Mapping[str, object], against: str) -> dict[str, Figure]:
    """Run a step; wall time with the start of Python, peak memory of its process."""
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    started = time.perf_counter()
    peak_MB = harness.peak_MB([sys.executable, "-m", "alloyscope", step, *words])
    return {
        f"fan_in_{step}_s": Figure(time.perf_counter() - started, "s", against),
        f"fan_in_{step}_MB": Figure(peak_MB, "MB", against),
    }


def verifying(shard_MB: float) -> dict[str, Figure]:
    """How fast shards are compared with their checksums, as `dataset` does, straight after they were written."""
    with tempfile.TemporaryDirectory() as place:
        folder, chunks = Path(place), range(HASHING_THREADS)
        for chunk in chunks:
            write_imaged(folder, chunk, 10, int(shard_MB * 1e6))
        manifests = [Manifest.read(folder / manifest_name(chunk)) for chunk in chunks]
        total_MB = sum(path.stat().st_size for path in folder.rglob("0/0")) / 1e6
        started = time.perf_counter()
        verify_all(manifests, folder)
        wall_s = time.perf_counter() - started
    against = f"{2 * len(chunks)} shards of {shard_MB:g} MB, in the page cache, {HASHING_THREADS} threads"
    return {"fan_in_verify_MB_per_s": Figure(total_MB / wall_s, "MB/s", against)}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--chunks", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--particles", type=int, default=1000, metavar="N", help="of each chunk (default: 1000)")
    parser.add_argument("--shard-MB", type=float, default=150, metavar="N", help="to compare (default: 150)")
    arguments = parser.parse_args()
    chunks, config = arguments.chunks, configuration(arguments.chunks, arguments.particles)
    against = f"{chunks * arguments.particles} rows in {chunks} manifests"
    with tempfile.TemporaryDirectory() as place:
        described, images, structures = (Path(place) / name for name in ("descriptors", "hrtem", "structures"))
        for chunk in range(chunks):
            write_described(described, chunk, config)
            write_imaged(images, chunk, arguments.particles, SMALL_SHARD_BYTES)
        table = structures / "structures.parquet"
        every = {"chunks": chunks, "capacity": arguments.particles}
        seed = {"seed": config.campaign.seed}
        sections = {name: getattr(config, name).as_json() for name in ("particles", "splits", "labels")}
        gathered = {"descriptors": described, **every, **seed, **sections, "out": table}
        figures = step_figures("structures", gathered, against)
        write_shown(table, config)
        page = Path(place) / "report" / "statistics.html"
        figures |= step_figures("statistics", {"structures": table, "labels": sections["labels"], "out": page}, against)
        imaging = {"images": images, **every, "imaging": config.imaging.as_json()}
        imaging |= {"detector": config.detector.as_json()}
        gates = {**imaging, **seed, "structures": structures, "labels": table, "sample": 0}
        gates |= {"md-capacity": arguments.particles, "out": images / "gates.json"}
        figures |= step_figures("gates", gates, f"{against}; no image examined")
        release = {**imaging, "structures": table}
        release |= {"config": config.as_json(), "out": images / "dataset.json"}
        figures |= step_figures("dataset", release, f"{against}; small shards")
    figures |= verifying(arguments.shard_MB)
    harness.publish("fan_in", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
