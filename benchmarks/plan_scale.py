"""What Snakemake needs to plan a campaign, against the number of particles.

Three dry runs of config.yaml with the profile for SLURM: nothing is there yet; everything is there, so that nothing is
to be done; and nothing is there, with one job per particle instead of chunks. A finished campaign is made up: a small
file for every declared output, and Snakemake's own records of them, left by a run that touches instead of computing.

Writes plan_scale.svg, the curves, beside plan_scale.json. About three minutes; docs/scale.md quotes the long form.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import harness
import matplotlib.figure
from harness import Figure

from alloyscope.errors import AlloyscopeError
from alloyscope.store.atomic import writing
from alloyscope.store.manifests import Manifest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs", "slurm")
SNAKEMAKE = (sys.executable, "-m", "snakemake")
# Snakemake waits 0.1 s before each touch, for file systems whose clock is coarse
TOUCH = (
    "from snakemake.executors import touch; touch.Executor.SLEEPING_TIME = 0; from snakemake.cli import main; main()"
)
SINGLE = ("md={particles_per_chunk: 1}", "imaging={md_chunks_per_chunk: 1}")
CHUNKS, NOTHING, PARTICLES = "plan", "plan_nothing", "plan_per_particle"
WORDS = {
    CHUNKS: ("nothing is there yet", "o-"),
    NOTHING: ("everything is there", "s--"),
    PARTICLES: ("one job per particle", "^-"),
}


@dataclass(frozen=True)
class Run:
    """One dry run.

    Attributes:
        seconds: Wall time, Python's start included.
        MB: Peak resident memory of Snakemake.
        jobs: Jobs that would run.
    """

    seconds: float
    MB: float
    jobs: int


@dataclass(frozen=True)
class Place:
    """A folder in which Snakemake plans the campaign of config.yaml with other numbers."""

    path: Path
    settings: Sequence[str]

    @classmethod
    def new(cls, path: Path, particles: int, *settings: str) -> "Place":
        path.mkdir()
        for name in PARTS:
            (path / name).symlink_to(ROOT / name)
        return cls(path, ("--config", f"campaign={{n_particles: {particles}}}", *settings))

    def dry_run(self) -> Run:
        """Raises: AlloyscopeError, when Snakemake fails, or its answer is not understood."""
        answer = self.path / "answer.txt"
        with answer.open("w") as output:
            started = time.perf_counter()
            command = (*SNAKEMAKE, "--profile", "slurm", "--dry-run", *self.settings)
            peak_MB = harness.peak_MB(command, self.path, output)
            seconds = time.perf_counter() - started
        return Run(seconds, peak_MB, jobs_of(answer.read_text()))

    def finish(self) -> None:
        """Make every declared output up, and Snakemake's records of them.

        Raises:
            AlloyscopeError: something is still to be done.
        """
        local = ("--profile", "profiles/local", *self.settings)
        summary = subprocess.run(
            [*SNAKEMAKE, "--summary", *local], cwd=self.path, capture_output=True, text=True, check=True
        )
        for line in summary.stdout.splitlines()[1:]:
            Manifest("any", 0, "", (), {}, {}, {}).write(self.path / line.split("\t")[0])
        # few passes of the scheduler, over few jobs each: a pass looks at every job that is ready
        schedule = ("--cores", "200", "--scheduler-subsample", "400")
        touch = [sys.executable, "-c", TOUCH, "--touch", "--forceall", "--quiet", "all", *local, *schedule]
        subprocess.run(touch, cwd=self.path, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if left := self.dry_run().jobs:
            raise AlloyscopeError(f"{self.path}: {left} jobs are left after a run that touched every output")


def jobs_of(answer: str) -> int:
    """Number of jobs in the answer to a dry run.

    Raises:
        AlloyscopeError: it has neither the table of jobs nor says that nothing is to be done.
    """
    if "Nothing to be done" in answer:
        return 0
    totals = [line.split()[1] for line in answer.splitlines() if line.startswith("total ")]
    if not totals:
        raise AlloyscopeError(f"snakemake --dry-run gave no table of jobs; it ended with: {answer[-300:]}")
    return int(totals[0])


def short(number: int) -> str:
    """200000 → 200k, 2000000 → 2M."""
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if number % size == 0:
            return f"{number // size}{unit}"
    return str(number)


def figures_of(kind: str, particles: int, runs: Sequence[Run]) -> dict[str, Figure]:
    stem = {NOTHING: f"plan_{short(particles)}_nothing"}.get(kind, f"{kind}_{short(particles)}")
    against = f"{runs[0].jobs} jobs, snakemake --profile slurm --dry-run, {WORDS[kind][0]}"
    return {
        f"{stem}_s": Figure.median([run.seconds for run in runs], "s", against),
        f"{stem}_MB": Figure.median([run.MB for run in runs], "MB", against),
    }


def per_job(kind: str, small: Run, large: Run) -> dict[str, Figure]:
    """What one more job costs, between two sizes of a campaign."""
    against = f"from {small.jobs} to {large.jobs} jobs"
    more = large.jobs - small.jobs
    return {
        f"{kind}_job_ms": Figure(1000 * (large.seconds - small.seconds) / more, "ms", against),
        f"{kind}_job_kB": Figure(1000 * (large.MB - small.MB) / more, "kB", against),
    }


def curves(found: dict[str, dict[int, Run]]) -> matplotlib.figure.Figure:
    """Wall time and memory against the number of particles."""
    figure = matplotlib.figure.Figure(figsize=(8, 3.6), layout="constrained")
    for axes, label, value in zip(
        figure.subplots(1, 2), ("Wall time (s)", "Peak memory (MB)"), ("seconds", "MB"), strict=True
    ):
        for kind, runs in found.items():
            words, style = WORDS[kind]
            axes.loglog(list(runs), [getattr(run, value) for run in runs.values()], style, label=words, markersize=4)
        axes.set_xlabel("Particles")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def measured(
    sizes: Sequence[int], single: Sequence[int], repeats: int, root: Path
) -> Iterator[tuple[str, int, list[Run]]]:
    """Kind, particles and runs of every point of the curves."""
    for particles in sizes:
        place = Place.new(root / f"chunks-{particles}", particles)
        yield CHUNKS, particles, [place.dry_run() for _ in range(repeats)]
        place.finish()
        yield NOTHING, particles, [place.dry_run() for _ in range(repeats)]
    for particles in single:
        place = Place.new(root / f"particles-{particles}", particles, *SINGLE)
        yield PARTICLES, particles, [place.dry_run() for _ in range(repeats)]


def main() -> None:
    parser = harness.parser(__doc__)
    sizes = {"type": int, "nargs": "+", "metavar": "N"}
    parser.add_argument(
        "--particles",
        **sizes,
        default=[2000, 20_000, 200_000],
        help="default: 2000 20000 200000",
    )
    parser.add_argument("--per-particle", **sizes, default=[200, 2000], help="one job each (default: 200 2000)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="of each dry run (default: 3)")
    arguments = parser.parse_args()
    figures: dict[str, Figure] = {}
    found: dict[str, dict[int, Run]] = {}
    with tempfile.TemporaryDirectory() as root:
        points = measured(sorted(arguments.particles), sorted(arguments.per_particle), arguments.repeats, Path(root))
        for kind, particles, runs in points:
            figures |= figures_of(kind, particles, runs)
            middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
            found.setdefault(kind, {})[particles] = middle
            print(f"{kind} {particles}: {middle.seconds:.1f} s, {middle.MB:.0f} MB, {middle.jobs} jobs", flush=True)
    for kind in (CHUNKS, PARTICLES):
        if len(known := list(found[kind].values())) > 1:
            figures |= per_job(kind, known[0], known[-1])
    harness.publish("plan_scale", figures, arguments.out)
    with writing(arguments.out / "plan_scale.svg") as aside:
        curves(found).savefig(aside, format="svg")


if __name__ == "__main__":
    harness.run(main)
