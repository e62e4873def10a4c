"""Kill LAMMPS workers at random, and Snakemake once: the campaign must end complete, with an undisturbed run's data.

Runs workflow/campaigns/soak.yaml up to its structures twice, in two folders. In the second run workers are killed
with SIGKILL, 5 % as many as there are particles, and once Snakemake, whose jobs go on without it; then come
`snakemake --unlock` and the same command again. Compares what the manifests say of every chunk: digest, checksums of
the files, verdict on each particle. Exits with 1 where they differ.
"""

import ctypes
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import harness
import psutil
from harness import Figure

from alloyscope.campaign.chunks import n_chunks
from alloyscope.config.read import load
from alloyscope.errors import SimulationError
from alloyscope.ids import chunk_name
from alloyscope.progress import log
from alloyscope.store.atomic import digest
from alloyscope.store.manifests import Manifest, manifest_name

ROOT = Path(__file__).resolve().parents[1]
CAMPAIGN = "workflow/campaigns/soak.yaml"
CONFIG = load(ROOT / "config.yaml", ROOT / CAMPAIGN)
RESULTS = Path("results/soak")
LOOK_EVERY_S = 0.05
SAY_EVERY_S = 20.0


@dataclass
class Run:
    """The campaign in a folder of its own.

    Attributes:
        place: Folder in which Snakemake runs.
        particles: How many.
        cores: For Snakemake.
    """

    place: Path
    particles: int
    cores: int
    _finished: dict[int, int] = field(default_factory=dict)  # chunk → particles

    def __post_init__(self) -> None:
        self.chunks = range(n_chunks(self.particles, CONFIG.md.particles_per_chunk))
        self.structures = self.place / RESULTS / "structures"
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        for name in ("Snakefile", "config.yaml", "workflow", "profiles", "envs"):
            (self.place / name).symlink_to(ROOT / name)

    def snakemake(self, *more: str) -> subprocess.Popen[bytes]:
        words = ["--profile", "profiles/local", "--nocolor", "--configfile", CAMPAIGN, "--cores", str(self.cores)]
        words += ["--config", f"campaign={{n_particles: {self.particles}}}", "--until", "md", "plan", *more]
        with (self.place / "snakemake.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "snakemake", *words], cwd=self.place, stdout=output, stderr=output
            )

    def require_end(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait() != 0:
            output = self.place / "snakemake.log"
            log("\n".join(output.read_text(errors="replace").splitlines()[-40:]))
            raise SimulationError(f"snakemake ended with {process.returncode}: see {output}")

    def ledger_lines(self, chunk: int) -> int:
        path = self.structures / f"chunk-{chunk_name(chunk)}.ledger.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def done(self) -> int:
        """Particles finished so far."""
        in_ledgers = 0
        for chunk in self.chunks:
            if chunk in self._finished:
                continue
            whole, lines = (self.structures / manifest_name(chunk)).exists(), self.ledger_lines(chunk)
            if whole:
                self._finished[chunk] = lines
            else:
                in_ledgers += lines
        return in_ledgers + sum(self._finished.values())

    def outcomes(self) -> Iterator[tuple[str, dict[str, str], list[tuple[int, bool, str | None, int]]]]:
        """What the manifest of each chunk says, run times aside; its files are compared with their checksums."""
        for chunk in self.chunks:
            manifest = Manifest.read(self.structures / manifest_name(chunk))
            manifest.verify(self.structures)
            slots = [(slot.particle, slot.valid, slot.reason, slot.attempts) for slot in manifest.slots]
            yield manifest.digest, manifest.files, slots


@dataclass
class Killer:
    """Draws when to kill, in finished particles, and whom."""

    run: Run
    share: float
    seed: int
    killed: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        particles = self.run.particles
        # the last twentieth is left alone, so that no kill comes too late to strike
        self.moments = sorted(self.rng.sample(range(particles * 19 // 20), round(self.share * particles)))
        self.snakemake_moment = self.rng.randrange(particles * 3 // 10, particles * 7 // 10)

    def strike_workers(self, process: subprocess.Popen[bytes], until: float = float("inf")) -> None:
        """Kill at the drawn moments, until Snakemake ends or so many particles are finished."""
        said, struck_at = time.monotonic(), -1
        while process.poll() is None and (done := self.run.done()) < until:
            # at most one kill per finished particle: after a wait the kills that are due do not fall on one
            if self.moments and done >= self.moments[0] and done > struck_at and self.strike():
                struck_at = done
                self.moments.pop(0)
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                log(f"disturbed: {done} of {self.run.particles} particles, {self.killed} workers killed")
            time.sleep(LOOK_EVERY_S)

    def strike(self) -> bool:
        """Kill one LAMMPS worker, if there is any."""
        workers = []
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    workers.append(child)
        if not workers:
            return False
        with suppress(psutil.NoSuchProcess):
            self.rng.choice(workers).kill()
            self.killed += 1
        return True


def adopt_orphans() -> None:
    """Jobs that lose their Snakemake become children of this process: found, waited for, their cost counted."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def spent_s() -> float:
    """Core-seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def undisturbed(run: Run) -> None:
    process = run.snakemake()
    while process.poll() is None:
        log(f"undisturbed: {run.done()} of {run.particles} particles")
        with suppress(subprocess.TimeoutExpired):
            process.wait(SAY_EVERY_S)
    run.require_end(process)


def disturbed(run: Run, killer: Killer) -> int:
    """Returns how many particles were begun again."""
    process = run.snakemake()
    killer.strike_workers(process, until=killer.snakemake_moment)
    while process.poll() is None and not (orphans := psutil.Process(process.pid).children()):
        time.sleep(LOOK_EVERY_S)  # between two chunks
    if process.poll() is not None:
        run.require_end(process)
        raise SimulationError("the campaign ended before its Snakemake was to be killed")
    process.kill()
    process.wait()
    log(f"disturbed: Snakemake killed at {run.done()} particles, {len(orphans)} jobs go on without it")
    status = [sys.executable, "-m", "alloyscope", "status", str(RESULTS)]
    said = subprocess.run(status, cwd=run.place, capture_output=True, text=True, check=True).stdout
    if "snakemake --unlock" not in said:
        raise SimulationError(f"alloyscope status must name the stale lock; said:\n{said}")
    run.require_end(run.snakemake("--unlock"))
    process = run.snakemake()
    killer.strike_workers(process)
    run.require_end(process)
    for orphan in orphans:
        with suppress(ChildProcessError):
            os.waitpid(orphan.pid, 0)
    if killer.moments:
        raise SimulationError(f"{len(killer.moments)} kills did not strike")
    twice = sum(map(run.ledger_lines, run.chunks)) - run.particles
    logs = (run.place / RESULTS / "logs" / "md").glob("*.log")
    return twice + sum(log.read_text(errors="replace").count("repeated with the same seed") for log in logs)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--particles", type=int, default=2000, metavar="N", help="default: 2000")
    parser.add_argument("--kill-share", type=float, default=0.05, metavar="X", help="kills per particle, default: 0.05")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the kills, default: 0")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), metavar="N", help="default: all")
    parser.add_argument(
        "--place", type=Path, default=Path("results/soak-runs"), metavar="FOLDER", help="default: results/soak-runs"
    )
    arguments = parser.parse_args()
    adopt_orphans()
    quiet, loud = (
        Run(arguments.place.resolve() / name, arguments.particles, arguments.cores)
        for name in ("undisturbed", "disturbed")
    )
    started = spent_s()
    undisturbed(quiet)
    middle = spent_s()
    killer = Killer(loud, arguments.kill_share, arguments.seed)
    redone = disturbed(loud, killer)
    ended = spent_s()
    odd = [
        chunk for chunk, one, other in zip(quiet.chunks, quiet.outcomes(), loud.outcomes(), strict=True) if one != other
    ]
    against = f"{arguments.kill_share:.0%} kills"
    figures = {
        "soak_particles": Figure(arguments.particles, "", "finished in both runs"),
        "soak_kills": Figure(killer.killed, "", "LAMMPS workers killed, and Snakemake once"),
        "soak_redone_share": Figure(redone / arguments.particles, "", f"particles begun again; {against}"),
        "soak_identical": Figure(float(not odd), "", "1: digests, checksums and verdicts of all chunks are equal"),
        "soak_cost_ratio": Figure((ended - middle) / (middle - started), "", f"core time, undisturbed 1; {against}"),
    }
    harness.publish("soak", figures, arguments.out, digest(CONFIG.as_json()))
    if odd:
        raise SimulationError(
            f"chunks {', '.join(map(chunk_name, odd))} differ: compare the folders in {arguments.place}"
        )


if __name__ == "__main__":
    harness.run(main)
