"""Time and memory of the fan-in `structures` on generated chunks. About two minutes for a million particles."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
import pandas as pd
from harness import Figure

from alloyscope.config import ParticlesSection
from alloyscope.ids import particle_id
from alloyscope.provenance import Stopwatch
from alloyscope.steps.describe import COLUMNS
from alloyscope.store.atomic import checksum, read_json
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.tables import write_table

SEED = 1
WORDS = {"protocol": ["gas_quench", "droplets"], "species_first": ["Ag"], "species_second": ["Co"]}


def write_chunk(folder: Path, chunk: int, capacity: int) -> None:
    """Random numbers in every column; one particle in a hundred has failed."""
    rng = np.random.default_rng(chunk)
    numbers = np.arange(chunk * capacity, (chunk + 1) * capacity)
    valid = rng.random(capacity) > 0.01
    table = pd.DataFrame({name: rng.random(capacity) for name, kind in COLUMNS.items() if kind == "float64"})
    table[~valid] = np.nan
    for name in (name for name, kind in COLUMNS.items() if kind == "int64"):
        table[name] = rng.integers(1, 1000, capacity)
    for name, words in WORDS.items():
        table[name] = rng.choice(words, capacity)
    table["particle"], table["chunk"], table["valid"] = numbers, chunk, valid
    table["particle_id"] = [particle_id(number) for number in numbers.tolist()]
    table["reason"] = np.where(valid, None, "error: no result after 3600 s")
    path = folder / manifest_name(chunk)
    data = path.with_suffix(".parquet")
    write_table(data, table, COLUMNS)
    slots = tuple(
        Slot(number, sound, None if sound else "error: no result after 3600 s", 1, 0.1234)
        for number, sound in zip(numbers.tolist(), valid.tolist(), strict=True)
    )
    plan = {"seed": SEED, "sections": {"particles": ParticlesSection().model_dump(mode="json")}}
    provenance = Stopwatch("describe").record() | plan
    Manifest("describe", chunk, "0" * 16, slots, {data.name: checksum(data)}, {}, provenance).write(path)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--chunks", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--particles", type=int, default=1000, metavar="N", help="of each chunk (default: 1000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "descriptors", Path(place) / "structures" / "structures.parquet"
        for chunk in range(arguments.chunks):
            write_chunk(folder, chunk, arguments.particles)
        flags = ["--descriptors", folder, "--chunks", arguments.chunks, "--capacity", arguments.particles]
        flags += ["--seed", SEED, "--out", out]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "alloyscope", "structures", *map(str, flags)], check=True)
        wall_s = time.perf_counter() - started
        account = read_json(out.with_suffix(".json"))
    against = f"{account['particles']} rows in {arguments.chunks} manifests"
    figures = {
        "fan_in_wall_s": Figure(wall_s, "s", against),
        "fan_in_MB": Figure(account["provenance"]["peak_memory_MB"], "MB", against),
    }
    harness.publish("fan_in", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
