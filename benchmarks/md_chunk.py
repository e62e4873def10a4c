"""A real chunk through the md step: share of its wall time inside LAMMPS, speed of two workers, memory of one.

Needs both cores of an otherwise idle machine for about seven minutes.
"""

import heapq
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import harness
import psutil
from harness import Figure
from md_runs import Workplace

from alloyscope.config.model import Config
from alloyscope.config.read import load
from alloyscope.errors import SimulationError
from alloyscope.progress import log
from alloyscope.store.atomic import digest
from alloyscope.store.manifests import Manifest, manifest_name

LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class ChunkRun:
    """One run of the md step.

    Attributes:
        wall_s: By the step's own clock.
        seconds: Core time inside LAMMPS's run loop of each particle, in order.
        worker_MB: Largest peak of resident memory among the workers.
    """

    wall_s: float
    seconds: tuple[float, ...]
    worker_MB: float


def run_chunk(config: Config, count: int, workers: int, table: Path, folder: Path) -> ChunkRun:
    """Run the first particles of a campaign.

    Raises:
        SimulationError: the step failed; it has said why.
    """
    manifest = folder / f"workers-{workers}" / manifest_name(0)
    flags = {
        "chunk": 0,
        "first": 0,
        "count": count,
        "seed": config.campaign.seed,
        "particles": config.particles.as_json(),
        "md": config.md.as_json(),
        "potential-set": config.potential.set,
        "potential": table,
        "workers": workers,
        "manifest": manifest,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    log(f"a chunk of {count} particles on {workers} worker{'s' if workers > 1 else ''}")
    peak_MB = 0.0
    with subprocess.Popen([sys.executable, "-m", "alloyscope", "md", *words]) as process:
        step = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak_MB = max([peak_MB, *(peak_memory_MB(child.pid) for child in step.children())])
            time.sleep(LOOK_EVERY_S)
    if process.returncode:
        raise SimulationError(f"the md step ended with {process.returncode}")
    made = Manifest.read(manifest)
    return ChunkRun(made.provenance["wall_s"], tuple(slot.seconds for slot in made.slots), peak_MB)


def peak_memory_MB(pid: int) -> float:
    """Peak of a process's resident memory so far; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def makespan_s(seconds: Sequence[float], workers: int) -> float:
    """When the last of several jobs ends, each given in order to the first free worker."""
    free_at = [0.0] * workers
    for job in seconds:
        heapq.heapreplace(free_at, free_at[0] + job)
    return max(free_at)


def figures(config: Config, count: int, table: Path, folder: Path) -> dict[str, Figure]:
    one, two = (run_chunk(config, count, workers, table, folder) for workers in (1, 2))
    low, high = config.particles.n_atoms
    what = f"a chunk of {count} particles of {low}–{high} atoms"
    bound = sum(one.seconds) / makespan_s(one.seconds, 2)
    return {
        "md_run_share": Figure(
            sum(one.seconds) / one.wall_s, "", f"wall time of {what}, one worker, start-up included"
        ),
        "md_two_workers_speed": Figure(
            one.wall_s / two.wall_s, "", f"one worker, {what}, whose unequal sizes allow {bound:.2f}"
        ),
        "md_worker_MB": Figure(max(one.worker_MB, two.worker_MB), "MB", f"peak resident memory, {what}", runs=3),
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), metavar="FILE", help="default: config.yaml")
    parser.add_argument("--particles", type=int, default=20, metavar="N", help="of the chunk (default: 20)")
    arguments = parser.parse_args()
    config = load(arguments.config)
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace.make(config, Path(folder))
        found = figures(config, arguments.particles, place.table, Path(folder))
    harness.publish("md_chunk", found, arguments.out, digest(config.as_json()))


if __name__ == "__main__":
    harness.run(main)
