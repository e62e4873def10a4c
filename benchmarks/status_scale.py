"""Time and memory of `alloyscope status` on a generated campaign under way: all but the last chunks are finished."""

import base64
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
from harness import Figure

from alloyscope.campaign.chunks import imaging_capacity, n_chunks
from alloyscope.campaign.jobs import Job, jobs
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.config.model import Config
from alloyscope.config.read import load
from alloyscope.store.atomic import write_json, write_text
from alloyscope.store.ledger import Entry, Ledger
from alloyscope.store.manifests import Manifest, Slot, manifest_name

RUNS = 5
UNDER_WAY = 100  # md chunks, half of their particles finished
XYZ_BYTES = 30_000  # of a ledger's particle: about 450 atoms


def slots(first: int, count: int) -> tuple[Slot, ...]:
    """One particle in a hundred has failed."""
    reason = "error: no result after 3600 s"
    return tuple(Slot(n, n % 100 > 0, None if n % 100 else reason, 1, 12.345) for n in range(first, first + count))


def write_chunks(folder: Path, stage: str, config: Config, capacity: int, chunks: int) -> None:
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("md", "particles")}
    provenance = Stopwatch(stage).record() | {"wall_s": 600.0, "core_s": 2400.0, "sections": sections}
    for chunk in range(chunks):
        counts = {"outside_field": 0}
        of = slots(chunk * capacity, capacity)
        Manifest(stage, chunk, "0" * 16, of, {}, counts, provenance).write(folder / manifest_name(chunk))


def started(job: Job, number: int) -> str:
    """What Snakemake's log says of a job it gave to SLURM; its shell line is about as long as a real one."""
    return (
        f"rule md:\n    input: a\n    output: {job.output}\n    log: {job.log}\n    jobid: {number}\n"
        f"Shell command: \n        {'x' * 2500}\n        \n"
        f"Job {number} has been submitted with SLURM jobid {10_000 + number} (log: b)\n"
    )


def write_campaign(root: Path, config: Config) -> Path:
    """A results folder with Snakemake's records beside it."""
    folder = root / config.campaign.name
    write_json(folder / "plan" / "campaign.json", {"config": config.model_dump(mode="json")})
    each, together = config.md.particles_per_chunk, imaging_capacity(config)
    total = config.campaign.n_particles
    finished = max(0, n_chunks(total, each) - UNDER_WAY)
    write_chunks(folder / "structures", "md", config, each, finished)
    imaged = finished * each // together
    for place, stage in (("descriptors", "describe"), ("hrtem", "hrtem")):
        write_chunks(folder / place, stage, config, together, imaged)
    planned = jobs(config, Path(folder.name))
    for number in range(finished, n_chunks(total, each)):
        ledger = Ledger(folder / "structures" / f"{Path(manifest_name(number)).stem}.ledger.jsonl", "0" * 16)
        lines = (Entry(slot, "x" * XYZ_BYTES).line("0" * 16) for slot in slots(number * each, each // 2))
        write_text(ledger.path, "".join(lines))
        output = planned["md"][number].output.as_posix()
        write_text(root / ".snakemake" / "incomplete" / base64.urlsafe_b64encode(output.encode()).decode(), "{}")
    begun = [*planned["md"], *planned["describe"][:imaged], *planned["hrtem"][:imaged]]
    log = "".join(started(job, number) for number, job in enumerate(begun))
    write_text(root / ".snakemake" / "log" / "2026-01-01T000000.000000.snakemake.log", log)
    return folder


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), metavar="FILE", help="default: config.yaml")
    arguments = parser.parse_args()
    config = load(arguments.config)
    seconds, peaks = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = write_campaign(Path(place), config)
        program = (
            "import resource, sys; from alloyscope.cli import main; code = main(['status', sys.argv[1]]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(code)"
        )
        for _ in range(RUNS):
            began = time.perf_counter()
            answer = subprocess.run(
                [sys.executable, "-c", program, folder.name], cwd=place, capture_output=True, text=True, check=True
            )
            seconds.append(time.perf_counter() - began)
            peaks.append(float(answer.stdout.splitlines()[-1]))
        print("\n".join(answer.stdout.splitlines()[:-1]))
    chunks = n_chunks(config.campaign.n_particles, config.md.particles_per_chunk)
    against = f"{config.campaign.n_particles} particles, {chunks} md chunks, {UNDER_WAY} of them under way"
    figures = {
        "status_s": Figure.median(seconds, "s", against),
        "status_MB": Figure.median(peaks, "MB", against),
    }
    harness.publish("status_scale", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
