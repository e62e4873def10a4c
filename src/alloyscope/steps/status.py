"""Say how far a campaign is.

Reads the resolved config that the rule `plan` wrote, manifests, ledgers, logs and Snakemake's own marks under
`.snakemake/`. Prints per stage: jobs done, running, stopped and failed, particles and images made, time left; then
failures by reason. Changes nothing.
"""

import argparse
import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from alloyscope.config import Config, Task
from alloyscope.ids import chunk_name
from alloyscope.plan import chunk as chunk_of
from alloyscope.plan import imaging_capacity, n_chunks
from alloyscope.store.manifests import Manifest, Slot, manifest_name, read_campaign
from alloyscope.wording import duration

TASKS: tuple[Task, ...] = ("reading", "denoising")


@dataclass(frozen=True)
class Job:
    """A job of the campaign: the output that proves it done, and its log."""

    output: Path
    log: Path


@dataclass(frozen=True)
class Made:
    """What a chunked stage has made so far.

    Attributes:
        text: For the reader.
        core_s_left: Core-seconds that remain, judged by what is finished; None when nothing is.
        cores_per_job: Cores that a job of this stage keeps busy.
        reasons: Failed particles by reason.
    """

    text: str
    core_s_left: float | None
    cores_per_job: float
    reasons: Counter[str]


@dataclass(frozen=True)
class StageStatus:
    """Jobs of a stage by state."""

    stage: str
    planned: int
    done: int
    running: int
    stopped: int
    failed: tuple[Path, ...]  # logs
    made: Made | None = None

    @property
    def time_left(self) -> str:
        if self.made is None or self.made.core_s_left is None or self.done == self.planned:
            return ""
        text = f"{duration(self.made.core_s_left)} on one core"
        if self.running:
            text += f", {duration(self.made.core_s_left / (self.running * self.made.cores_per_job))} as it runs now"
        return text


@dataclass(frozen=True)
class Workplace:
    """The folder Snakemake runs in."""

    root: Path

    @classmethod
    def of(cls, folder: Path) -> "Workplace":
        places = [Path.cwd(), *folder.resolve().parents]
        return cls(next((place for place in places if (place / ".snakemake").is_dir()), Path.cwd()))

    @property
    def locked(self) -> bool:
        return any((self.root / ".snakemake" / "locks").glob("*.lock"))

    @property
    def alive(self) -> bool:
        """Whether a snakemake process of this machine works here."""
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words, place = process.info["cmdline"] or [], process.info["cwd"]
            if place and Path(place) == self.root and any(Path(word).name == "snakemake" for word in words[:3]):
                return True
        return False

    def started(self) -> set[Path]:
        """Outputs of jobs that started and did not end: Snakemake marks each by a file named by its path in base64."""
        marks = self.root / ".snakemake" / "incomplete"
        names = ["".join(part.removeprefix("@") for part in mark.relative_to(marks).parts) for mark in marks.rglob("*")]
        return {self.root / path for name in names if (path := decoded(name)) is not None}


def decoded(name: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(name).decode()
    except ValueError:
        return None  # a folder of a long mark, or no mark at all


def jobs(config: Config, folder: Path) -> dict[str, list[Job]]:
    """Every job of the campaign by stage, in the order of the workflow."""
    runs = [f"seed-{seed}" for seed in config.training.seeds]

    def single(stage: str, output: str) -> list[Job]:
        return [Job(folder / output, folder / "logs" / stage / f"{stage}.log")]

    def chunked(stage: str, place: str, capacity: int) -> list[Job]:
        names = map(chunk_name, range(n_chunks(config.campaign.n_particles, capacity)))
        return [Job(folder / place / f"chunk-{n}.json", folder / "logs" / stage / f"chunk-{n}.log") for n in names]

    def per_run(stage: str, output: str) -> list[Job]:
        return [
            Job(folder / output.format(task=task, run=run), folder / "logs" / stage / f"{task}-{run}.log")
            for task in TASKS
            for run in runs
        ]

    return {
        "potential": single("potential", "potential/validation.json"),
        "plan": single("plan", "plan/particles.parquet"),
        config.particles.source: chunked(config.particles.source, "structures", config.md.particles_per_chunk),
        "describe": chunked("describe", "descriptors", imaging_capacity(config)),
        "structures": single("structures", "structures/structures.parquet"),
        "statistics": single("statistics", "report/statistics.html"),
        **({"film": single("film", "film/carbon.extxyz")} if config.imaging.film.share > 0 else {}),
        "hrtem": chunked("hrtem", "hrtem", imaging_capacity(config)),
        "gates": single("gates", "hrtem/gates.json"),
        "dataset": single("dataset", "hrtem/dataset.json"),
        "train": per_run("train", "training/{task}/{run}/run.json"),
        "evaluate": per_run("evaluate", "evaluation/{task}/{run}/metrics.json"),
        "report": single("report", "report/index.html"),
    }


def ledger_slots(path: Path) -> Iterator[Slot]:
    """Finished particles of an unfinished chunk; a line that is just being written is left out."""
    for line in path.read_text(errors="replace").splitlines():
        try:
            yield Slot(**json.loads(line.partition(" ")[2])["slot"])
        except (ValueError, KeyError, TypeError):
            continue


def manifests_in(folder: Path, config: Config, capacity: int) -> dict[int, Manifest]:
    chunks = range(n_chunks(config.campaign.n_particles, capacity))
    return {n: Manifest.read(folder / manifest_name(n)) for n in chunks if (folder / manifest_name(n)).exists()}


def cores_per_job(manifests: dict[int, Manifest]) -> float:
    ratios = [m.provenance["core_s"] / max(m.provenance["wall_s"], 1e-3) for m in manifests.values()]
    return max(1.0, sum(ratios) / len(ratios)) if ratios else 1.0


def md_made(folder: Path, config: Config) -> Made:
    each, total = config.md.particles_per_chunk, config.campaign.n_particles
    found = manifests_in(folder / "structures", config, each)
    slots = [slot for manifest in found.values() for slot in manifest.slots]
    for chunk in range(n_chunks(total, each)):
        ledger = (folder / "structures" / manifest_name(chunk)).with_suffix(".ledger.jsonl")
        if chunk not in found and ledger.exists():
            slots += ledger_slots(ledger)
    failed = [slot for slot in slots if not slot.valid]
    text = f"{len(slots) - len(failed)} of {total} particles" + (f", {len(failed)} failed" if failed else "")
    mean_s = sum(slot.seconds for slot in slots) / len(slots) if slots else None
    left = None if mean_s is None else mean_s * (total - len(slots))
    reasons = Counter(re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", slot.reason or "no reason given") for slot in failed)
    return Made(text, left, cores_per_job(found), reasons)


def made_of_valid(folder: Path, config: Config, each: int, what: str) -> Made:
    """Of a stage in imaging chunks that makes `each` things of every valid particle."""
    capacity, total = imaging_capacity(config), config.campaign.n_particles
    found = manifests_in(folder, config, capacity)
    things = sum(len(manifest.valid_particles) for manifest in found.values()) * each
    particles = sum(chunk_of(n, total, capacity).count for n in found)
    spent_s = sum(manifest.provenance["core_s"] for manifest in found.values())
    left = spent_s / particles * (total - particles) if particles else None
    return Made(f"{things} {what}", left, cores_per_job(found), Counter())


def stage_status(stage: str, planned: list[Job], started: set[Path], alive: bool, made: Made | None) -> StageStatus:
    missing = [job for job in planned if not job.output.exists()]
    begun = [job for job in missing if job.output.resolve() in started]
    failed = tuple(job.log for job in missing if job not in begun and job.log.exists())
    return StageStatus(
        stage=stage,
        planned=len(planned),
        done=len(planned) - len(missing),
        running=len(begun) if alive else 0,
        stopped=0 if alive else len(begun),
        failed=failed,
        made=made,
    )


def table(stages: list[StageStatus]) -> list[str]:
    rows = [("stage", "done", "running", "stopped", "failed", "made", "time left")]
    rows += [
        (
            s.stage,
            f"{s.done} of {s.planned}",
            str(s.running),
            str(s.stopped),
            str(len(s.failed)),
            s.made.text if s.made else "",
            s.time_left,
        )
        for s in stages
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def notes(stages: list[StageStatus], place: Workplace, alive: bool) -> Iterator[str]:
    for stage in stages:
        for log in stage.failed[:5]:
            yield f"{stage.stage} failed: see {log}"
        for reason, count in stage.made.reasons.most_common() if stage.made else ():
            yield f"{count} particles failed: {reason}"
    if place.locked and not alive:
        yield (
            "locked, but no snakemake process of this machine works here; if none does on another machine either, "
            "run once: snakemake --unlock"
        )


def run(*, folder: Path) -> str:
    """The whole account as text.

    Raises:
        StoreError: the folder holds no campaign, or a manifest is damaged.
    """
    config = read_campaign(folder)
    place = Workplace.of(folder)
    alive = place.alive
    started = place.started()
    made = {
        config.particles.source: md_made(folder, config),
        "describe": made_of_valid(folder / "descriptors", config, 1, "particles"),
        "hrtem": made_of_valid(folder / "hrtem", config, config.imaging.views, "images"),
    }
    stages = [
        stage_status(stage, planned, started, alive, made.get(stage)) for stage, planned in jobs(config, folder).items()
    ]
    low, high = config.particles.n_atoms
    head = (
        f"{config.campaign.name}: {config.campaign.n_particles} {''.join(config.particles.species)} particles of "
        f"{low}–{high} atoms, {config.imaging.views} images each"
    )
    return "\n".join([head, *table(stages), *notes(stages, place, alive)]) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="results folder of a campaign, e.g. results/demo")


def main(arguments: argparse.Namespace) -> None:
    print(run(folder=arguments.folder), end="")
