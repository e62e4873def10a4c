"""Files, and file-system calls that name a file, of each job of the minimal campaign and of Snakemake's planning.

Needs strace. Every job runs by the line that Snakemake prints, under strace; calls on the campaign's own folder are
told from those on everything else, which are almost all Python's search for modules. Reads and writes of open files are
not counted. Planning is traced at two sizes of a made-up campaign: the difference is what one more job costs.
About two minutes.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import harness
from harness import Figure
from plan_scale import SNAKEMAKE, Place

from alloyscope.errors import ConfigError

MINIMAL = ("--configfile", "workflow/campaigns/minimal.yaml")
STAGES = ("potential", "md", "describe", "structures", "hrtem", "gates", "dataset")
CHUNK_FOLDERS = {"md": "structures", "describe": "descriptors", "hrtem": "hrtem"}
LINE = re.compile(r"python -m alloyscope (\w+) .*? 2>>(\S+)")
SMALL, LARGE = 2000, 20_000  # particles
OWN = ("results/", ".snakemake/")


def traced(command: Sequence[str], folder: Path) -> tuple[int, int]:
    """Calls that name a file of the campaign, and those that name another; also of the processes it starts."""
    log = folder / "strace.txt"
    strace = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", str(log), *command]
    subprocess.run(strace, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    own = other = 0
    with log.open(errors="replace") as lines:
        for line in lines:
            path = line.partition('"')[2].partition('"')[0].removeprefix(f"{folder}/")
            own += path.startswith(OWN)
            other += bool(path) and not path.startswith(OWN)
    return own, other


def jobs(place: Place) -> list[tuple[str, str, str]]:
    """Stage, line and log of every job of a campaign that has not begun, in an order in which they can run."""
    command = [*SNAKEMAKE, "--profile", "profiles/local", "--dry-run", "--printshellcmds", *place.settings]
    answer = subprocess.run(command, cwd=place.path, capture_output=True, text=True, check=True).stdout
    return [(found[1], found[0], found[2]) for found in LINE.finditer(answer)]


def files_of_chunk(results: Path, stage: str, chunk: str) -> int:
    """Files that a chunk has left; log, run time and Snakemake's record are not among them."""
    data = [path for path in (results / CHUNK_FOLDERS[stage]).rglob("*") if path.is_file()]
    return sum(f"chunk-{chunk}" in path.name or path.as_posix().endswith(f"c/{int(chunk)}/0/0") for path in data)


def run_jobs(place: Place, stages: Sequence[str]) -> dict[str, tuple[str, int, int]]:
    """Run the jobs of some stages, the first of each traced: its line, and its calls on own and on other files."""
    found: dict[str, tuple[str, int, int]] = {}
    for stage, line, log in jobs(place):
        (place.path / log).parent.mkdir(parents=True, exist_ok=True)  # Snakemake does
        if stage in stages and stage not in found:
            found[stage] = (line, *traced(["bash", "-c", line], place.path))
        elif stage in stages:
            subprocess.run(["bash", "-c", line], cwd=place.path, check=True)
    return found


def job_figures(root: Path) -> dict[str, Figure]:
    """The first job of every stage; md chunks of 4 particles and, for what one more costs, of 8."""
    place = Place.new(root / "minimal", 8, *MINIMAL)
    found = run_jobs(place, STAGES)
    figures: dict[str, Figure] = {}
    for stage, (line, own, other) in found.items():
        against = "calls of one job, minimal campaign"
        figures[f"calls_{stage}_own"] = Figure(own, "", f"{against}: on the campaign's files")
        figures[f"calls_{stage}_other"] = Figure(other, "", f"{against}: on all other files")
        if stage in CHUNK_FOLDERS:
            chunk = line.partition("--chunk ")[2].split()[0]
            files = files_of_chunk(place.path / "results" / "minimal", stage, chunk)
            figures[f"files_{stage}"] = Figure(files, "", "files of one chunk, beside log, run time and record")
    double = run_jobs(Place.new(root / "double", 8, "md={particles_per_chunk: 8}", *MINIMAL), STAGES[:2])
    more = (double["md"][1] - found["md"][1]) / 4
    return figures | {"calls_md_per_particle": Figure(more, "", "on the campaign's files, from 4 to 8 particles")}


def planning_figures(root: Path) -> dict[str, Figure]:
    """Calls of a dry run on the campaign's files: of a new campaign, and when nothing is to be done."""
    counts: dict[str, list[int]] = {"new": [], "nothing": []}
    n_jobs = []
    for particles in (SMALL, LARGE):
        place = Place.new(root / str(particles), particles)
        command = [*SNAKEMAKE, "--profile", "slurm", "--dry-run", *place.settings]
        n_jobs.append(place.dry_run().jobs)
        own, other = traced(command, place.path)
        counts["new"].append(own)
        place.finish()
        counts["nothing"].append(traced(command, place.path)[0])
    more = n_jobs[1] - n_jobs[0]
    against = f"snakemake --profile slurm --dry-run, from {n_jobs[0]} to {n_jobs[1]} jobs"
    start = {"calls_snakemake_other": Figure(other, "", "one dry run: on files that are not the campaign's")}
    return start | {
        f"calls_plan_{kind}_per_job": Figure((large - small) / more, "", f"{against}: on the campaign's files")
        for kind, (small, large) in counts.items()
    }


def main() -> None:
    arguments = harness.parser(__doc__).parse_args()
    if shutil.which("strace") is None:
        raise ConfigError("strace is needed and not there; install it (apt-get install strace)")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve()
        figures = job_figures(root) | planning_figures(root)
    harness.publish("metadata_load", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
