"""What Snakemake and SLURM say of a campaign's jobs: marks, locks and logs under `.snakemake/`, and squeue."""

import base64
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

# ASSUME the newest logs up to this size tell about every job under way: measured 2 kB a job, 3 MB for the full campaign
LOGS_MB = 64
SQUEUE_TIMEOUT_s = 10.0
# of Snakemake's log: the blocks of started and failed jobs, and what became of them
EVENT = re.compile(
    r"^(?P<error>Error in rule) .*"
    r"|^(?:local)?rule .*:$"
    r"|^    message: (?P<message>.+)"
    r"|^    jobid: (?P<job>\d+)"
    r"|^    output: (?P<output>.+)"
    r"|^Job (?P<submitted>\d+) has been submitted with SLURM jobid (?P<slurm>\S+)"
    r"|^Finished jobid: (?P<finished>\d+)",
    re.MULTILINE,
)
SHOWN_LOG = re.compile(r"^Logfile .+:\n(=+)\n.*?^\1$", re.MULTILINE | re.DOTALL)  # holds the job's own Snakemake's log
SLURM_FAILURE = re.compile(r"SLURM-job '(?P<slurm>[^']+)' failed, SLURM status is: '(?P<state>\w+)'")


@dataclass(frozen=True)
class Account:
    """What Snakemake's logs say of a job.

    Attributes:
        slurm: Id of its SLURM job.
        failed: It ended with an error, and was not started again.
        slurm_state: How SLURM says that it failed, e.g. TIMEOUT.
    """

    slurm: str | None = None
    failed: bool = False
    slurm_state: str | None = None


def read_log(text: str, accounts: dict[str, Account]) -> None:
    """Bring accounts, by output, up to date with the log of one run of Snakemake."""
    outputs: dict[str, list[str]] = {}  # of a job, by its number in this run
    submitted: dict[str, str] = {}
    error, message = False, ""
    named: list[str] = []

    def change(job: str, account: Account) -> None:
        accounts.update(dict.fromkeys(outputs.get(job, ()), account))

    for event in EVENT.finditer(SHOWN_LOG.sub("", text)):
        match event.lastgroup:
            case "message":
                message = event["message"]
            case "output":  # a started job's block names it before its number
                named = event["output"].split(", ")
            case "job" if error:
                state = SLURM_FAILURE.search(message)
                change(event["job"], Account(submitted.get(event["job"]), True, state["state"] if state else None))
            case "job" if named:
                outputs[event["job"]] = named
                change(event["job"], Account())
            case "slurm":  # the last group of its line
                submitted[event["submitted"]] = event["slurm"]
                change(event["submitted"], Account(event["slurm"]))
            case "finished":
                change(event["finished"], Account())
            case None | "error":
                error, message, named = event.lastgroup == "error", "", []


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

    def started(self) -> dict[Path, str | None]:
        """Outputs of jobs that started and did not end, with the SLURM job where the mark knows it.

        Snakemake marks each by a file named by its path in base64.
        """
        marks = self.root / ".snakemake" / "incomplete"
        found = {}
        for mark in marks.rglob("*"):
            path = decoded("".join(part.removeprefix("@") for part in mark.relative_to(marks).parts))
            if path is not None:
                found[self.root / path] = external_job(mark)
        return found

    def accounts(self) -> dict[Path, Account]:
        """What the newest of Snakemake's logs say, by output."""
        chosen: list[Path] = []
        room = LOGS_MB * 1e6
        for log in sorted((self.root / ".snakemake" / "log").glob("*.snakemake.log"), reverse=True):
            room -= log.stat().st_size
            if chosen and room < 0:
                break
            chosen.append(log)
        accounts: dict[str, Account] = {}
        for log in reversed(chosen):
            read_log(log.read_text(errors="replace"), accounts)
        return {self.root / output: account for output, account in accounts.items()}


def decoded(name: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(name).decode()
    except ValueError:
        return None  # a folder of a long mark, or no mark at all


def external_job(mark: Path) -> str | None:
    try:
        found = json.loads(mark.read_text())
    except (OSError, ValueError):  # it ended meanwhile, or is being written
        return None
    return found.get("external_jobid") if isinstance(found, dict) else None


@dataclass(frozen=True)
class Queue:
    """What squeue says.

    Attributes:
        states: SLURM's word for every job of the user that has not ended, by id.
        fault: Why it said nothing, where SLURM is installed.
    """

    states: dict[str, str] = field(default_factory=dict)
    fault: str = ""

    def state(self, job: str | None) -> Literal["running", "queued"] | None:
        """None: SLURM does not know the job, or has ended it."""
        word = self.states.get(job or "")
        if word is None:
            return None
        return "queued" if word in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT") else "running"


def ask_squeue(user: str) -> Queue:
    """Jobs of a user; one call, whatever their number. Without SLURM the answer is empty."""
    command = ["squeue", "--noheader", "--user", user, "--format", "%i|%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SQUEUE_TIMEOUT_s, check=False)
    except FileNotFoundError:
        return Queue()
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = f"no answer in {SQUEUE_TIMEOUT_s:g} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        return Queue(fault=fault)
    if answer.returncode:
        return Queue(fault=(answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1])
    rows = (line.partition("|") for line in answer.stdout.splitlines())
    return Queue({job.strip(): state.strip() for job, _, state in rows})


def owner(folder: Path) -> str:
    """Whose jobs work on a folder: its owner's, who need not be the reader."""
    try:
        return folder.owner()
    except KeyError:  # no name for this number here
        return str(os.stat(folder).st_uid)
