"""Print how far a campaign is.

Reads the resolved config that the rule `plan` wrote, manifests, ledgers, logs, Snakemake's own files under
`.snakemake/` and, for jobs that Snakemake gave to SLURM, the output of squeue. Prints for each stage the numbers of
jobs done, running, queued, stopped and failed, its products and their rate, the core- and GPU-hours used and an
estimate of those still needed; then the failures with reason and log. Changes nothing.
"""

import argparse
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from alloyscope.campaign.folder import read_campaign
from alloyscope.campaign.jobs import Job, jobs
from alloyscope.campaign.progress import (
    Cost,
    HOUR_s,
    StageProgress,
    gates_text,
    made_of_jobs,
    made_of_valid,
    masked,
    md_made,
)
from alloyscope.config.model import Config
from alloyscope.errors import ConfigError
from alloyscope.store.workplace import Account, Queue, Workplace, ask_squeue, owner
from alloyscope.wording import duration

SHOWN = 5  # jobs or logs that a line lists by name
WATCH_EVERY_s = 30.0  # ASSUME often enough for a reader, and rare enough for a cluster's squeue
LOG_END = 65_536  # bytes
SILENT_s = 600.0  # ASSUME a working job writes more often: after a particle, an epoch, or tens of images


@dataclass(frozen=True)
class FailedJob:
    """A job that failed, and the reason."""

    job: Job
    reason: str


@dataclass
class StageStatus:
    """Numbers of a stage's jobs by state."""

    stage: str
    planned: int
    made: StageProgress
    done: int = 0
    running: list[tuple[Job, str | None]] = field(default_factory=list)  # with the SLURM job
    queued: int = 0
    stopped: int = 0
    away: Counter[str] = field(default_factory=Counter)  # stopped jobs that may still run, by machine
    failed: list[FailedJob] = field(default_factory=list)

    @property
    def left(self) -> Cost | None:
        return Cost() if self.done == self.planned else self.made.left

    @property
    def ready_in(self) -> str:
        if not self.running or not self.left:
            return ""
        seconds = self.left.gpu_s or self.left.core_s / self.made.cores_per_job
        return duration(seconds / len(self.running))


def made_by_stage(config: Config, folder: Path, planned: dict[str, list[Job]]) -> dict[str, StageProgress]:
    """Products and cost of every stage so far.

    Raises:
        StoreError: a manifest or an account is damaged.
    """
    md, failed = md_made(folder / "structures", config)
    chunked = {
        config.particles.source: md,
        "describe": made_of_valid(folder / "descriptors", config, 1, "particles", failed),
        "hrtem": made_of_valid(folder / "hrtem", config, config.imaging.views, "images", failed),
    }
    accounts = {
        stage: [job.account for job in of if job.account and job.account.exists() and job.output.exists()]
        for stage, of in planned.items()
        if stage not in (*chunked, "plan")  # its account is the campaign's config
    }
    return chunked | {stage: made_of_jobs(paths, len(planned[stage])) for stage, paths in accounts.items()}


def last_line(log: Path) -> str:
    """The last line of a log that is not blank; an empty text when there is none."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - LOG_END))
            lines = handle.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def reason_of_failure(stage: str, job: Job, account: Account) -> str | None:
    """Why a job that is not done has failed; None when there is no sign of a failure.

    When SLURM did not accept the job, its log can only show an earlier attempt, so the message of sbatch is returned.
    Otherwise the job's own error is preferred to the state that SLURM reports.
    """
    if account.message:
        return account.message
    last = last_line(job.log)
    said, _, own = last.partition(f"alloyscope {stage}: ")
    if own and not said:
        return own
    if not account.failed:
        return None
    if account.slurm_state not in (None, "FAILED"):
        return f"SLURM says {account.slurm_state}"
    left = f"its log ends with: {last}" if last else "its log is empty" if job.log.exists() else "it left no log"
    return f"killed or crashed; {left}" + ("" if account.slurm is None else f"; SLURM job {account.slurm}")


def written_lately(job: Job, now_s: float) -> bool:
    """Whether the job's log or its ledger was written within the last `SILENT_s` seconds."""
    for path in (job.log, job.output.with_suffix(".ledger.jsonl")):
        with suppress(OSError):
            if now_s - path.stat().st_mtime < SILENT_s:
                return True
    return False


@dataclass(frozen=True)
class Records:
    """The state of the campaign's jobs as Snakemake and SLURM report it, by output."""

    marks: dict[Path, str | None]
    accounts: dict[Path, Account]
    queue: Queue
    alive: bool
    locked: bool

    @classmethod
    def read(cls, place: Workplace, folder: Path, missing: Sequence[Path]) -> "Records":
        """Read the state of the jobs; squeue is called only if an unfinished job was given to SLURM."""
        marks, accounts = place.started(), place.accounts()
        to_slurm = any(marks.get(output) or accounts.get(output, Account()).slurm for output in missing)
        return cls(marks, accounts, ask_squeue(owner(folder)) if to_slurm else Queue(), place.alive, place.locked)

    def gone(self, slurm: str | None) -> bool:
        """Whether squeue answered and does not list a job that was given to SLURM."""
        return slurm is not None and not self.queue.fault and self.queue.state(slurm) is None

    def elsewhere(self, account: Account) -> bool:
        """Whether the Snakemake process that started a job may still run on another machine."""
        return self.locked and account.host not in ("", platform.node())


def stage_status(stage: str, planned: list[Job], records: Records, made: StageProgress, now_s: float) -> StageStatus:
    found = StageStatus(stage, len(planned), made)
    for job in planned:
        if job.output.exists():
            found.done += 1
            continue
        output = job.output.resolve()
        account = records.accounts.get(output, Account())
        slurm = account.slurm or records.marks.get(output)
        state = records.queue.state(slurm)
        if state == "queued":
            found.queued += 1
        elif state == "running" or (output in records.marks and records.alive and not records.gone(slurm)):
            found.running.append((job, slurm))
        elif output in records.marks and slurm is None and records.elsewhere(account):
            if written_lately(job, now_s):
                found.running.append((job, None))
            else:
                found.stopped += 1
                found.away[account.host] += 1
        elif output in records.marks:
            found.stopped += 1
        elif reason := reason_of_failure(stage, job, account):
            found.failed.append(FailedJob(job, reason))
    return found


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def table_of_jobs(stages: list[StageStatus]) -> list[str]:
    rows = [["stage", "done", "running", "queued", "stopped", "failed", "made"]]
    for s in stages:
        counts = (str(n) for n in (len(s.running), s.queued, s.stopped, len(s.failed)))
        rows.append([s.stage, f"{s.done} of {s.planned}", *counts, s.made.text])
    return grid(rows)


def hours(seconds: float) -> str:
    value = seconds / HOUR_s
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def rate(per_hour: float | None, unit: str) -> str:
    if per_hour is None or not unit:
        return ""
    return f"{per_hour / HOUR_s:.1f} images/s" if unit == "images" else f"{per_hour:.0f} {unit}/h"


def table_of_costs(stages: list[StageStatus], now_s: float) -> list[str]:
    """Rates and costs of the stages that have begun, and the sum of the costs."""
    begun = [s for s in stages if s.made.spent != Cost()]
    if not begun:
        return []
    with_gpu = any(s.made.spent.gpu_s for s in begun)
    head = ["stage", "last hour", "whole run", "ready in", "core-hours used", "still needed"]
    rows = [head + ["GPU-hours used", "still needed"] * with_gpu]

    def costs(spent: Cost, left: Cost | None) -> list[str]:
        core = [hours(spent.core_s), hours(left.core_s) if left else ""]
        return core + [hours(spent.gpu_s), hours(left.gpu_s) if left else ""] * with_gpu

    for s in begun:
        last = "" if s.done == s.planned else rate(s.made.per_hour(now_s, HOUR_s), s.made.unit)
        whole = rate(s.made.per_hour(now_s), s.made.unit)
        rows.append([s.stage, last, whole, s.ready_in, *costs(s.made.spent, s.left)])
    spent, left = sum((s.made.spent for s in begun), Cost()), sum((s.left or Cost() for s in begun), Cost())
    rows.append(["all of these", "", "", "", *costs(spent, left)])
    return ["", *grid(rows)]


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def notes(stages: list[StageStatus], records: Records, place: Workplace, folder: Path) -> Iterator[str]:
    for s in stages:
        if named := [f"{job.log.stem} ({slurm})" for job, slurm in s.running if slurm]:
            yield f"{s.stage} on SLURM: {listed(named)}"
    if (folder / "hrtem" / "gates.json").exists():
        yield gates_text(folder / "hrtem" / "gates.json")
    for s in stages:
        classes: dict[str, list[FailedJob]] = defaultdict(list)
        for failure in s.failed:
            classes[masked(failure.reason)].append(failure)
        for alike in sorted(classes.values(), key=len, reverse=True):
            yield f"{len(alike)} {'job' if len(alike) == 1 else 'jobs'} of {s.stage} failed: {alike[0].reason}"
            logs = [str(failure.job.log) for failure in alike if failure.job.log.exists()]
            yield f"    see {listed(logs)}" if logs else "    no log"
        for reason, count in s.made.reasons.most_common():
            yield f"{count} particles failed in {s.stage}: {reason}"
    if records.queue.fault:
        yield f"squeue does not report the jobs on SLURM: {records.queue.fault}"
    for host, count in sum((s.away for s in stages), Counter[str]()).items():
        yield (
            f"{count} {'job' if count == 1 else 'jobs'} counted as stopped may still work on {host}: "
            f"nothing written for {duration(SILENT_s)}"
        )
    if not records.locked or records.alive:
        return
    given = [job.output.resolve() for s in stages for job, slurm in s.running if slurm]
    if any(records.accounts.get(output, Account()).host == platform.node() for output in given):
        yield (
            "the snakemake that gave these jobs to SLURM was killed, and no job will follow them: end them with "
            f"scancel --name={place.slurm_run()}, then run snakemake --unlock and start again"
        )
    elif not any(s.running or s.queued for s in stages):
        yield (
            "locked, but no snakemake process of this machine runs here; if none runs on another machine either, "
            "run once: snakemake --unlock"
        )


def look(folder: Path, now_s: float) -> tuple[str, bool]:
    """The whole status as text, and whether all jobs are done.

    Raises:
        StoreError: the folder holds no campaign, or a manifest or an account is damaged.
    """
    config = read_campaign(folder)
    place = Workplace.of(folder)
    planned = jobs(config, folder)
    missing = [job.output.resolve() for of in planned.values() for job in of if not job.output.exists()]
    records = Records.read(place, folder, missing)
    made = made_by_stage(config, folder, planned)
    stages = [
        stage_status(stage, of, records, made.get(stage, StageProgress()), now_s) for stage, of in planned.items()
    ]
    low, high = config.particles.n_atoms
    head = (
        f"{config.campaign.name}: {config.campaign.n_particles} {''.join(config.particles.species)} particles of "
        f"{low}–{high} atoms, {config.imaging.views} images each"
    )
    done = all(s.done == s.planned for s in stages)
    said = [
        *notes(stages, records, place, folder),
        *([f"finished: {folder / 'report' / 'index.html'}"] if done else []),
    ]
    lines = [head, *table_of_jobs(stages), *table_of_costs(stages, now_s), *([""] * bool(said)), *said]
    return "\n".join(lines) + "\n", done


def run(*, folder: Path) -> str:
    """The whole status as text.

    Raises:
        StoreError: the folder holds no campaign, or a manifest or an account is damaged.
    """
    return look(folder, time.time())[0]


def watch(folder: Path, every_s: float) -> None:
    """Print the status repeatedly, until all jobs are done or the user interrupts.

    Raises:
        ConfigError: every_s is not positive.
        StoreError: the folder holds no campaign, or a manifest or an account is damaged.
    """
    if not every_s > 0:
        raise ConfigError(f"--watch must be above 0 seconds; got {every_s:g}")
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    try:
        done = False
        while not done:
            text, done = look(folder, time.time())
            print(f"{clear}{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}", flush=True)
            if not done:
                time.sleep(every_s)
    except KeyboardInterrupt:
        print()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="results folder of a campaign, e.g. results/demo")
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=WATCH_EVERY_s,
        metavar="SECONDS",
        help=f"print the status every SECONDS (default: {WATCH_EVERY_s:g}) until all is done; ctrl-C ends it",
    )


def main(arguments: argparse.Namespace) -> None:
    if arguments.watch is None:
        print(run(folder=arguments.folder), end="")
    else:
        watch(arguments.folder, arguments.watch)
