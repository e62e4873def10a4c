"""State of a campaign's jobs in Snakemake and SLURM, from marks, locks and logs under `.snakemake/` and from squeue."""

import base64
import json
import os
import re
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import psutil

# ASSUME the newest logs up to this size mention every running job: measured 2 kB a job, 3 MB for the full campaign
LOGS_MB = 64
SQUEUE_TIMEOUT_s = 10.0
# Lines of Snakemake's log: blocks of started and failed jobs, submissions to SLURM, and finished jobs.
EVENT = re.compile(
    r"^Error in rule .*:\n(?:    message: (?P<message>(?:.*\n)*?))?    jobid: (?P<failed>\d+)"
    r"|^(?:local)?rule .*:$"
    r"|^  Host: (?P<host>.+)"
    r"|^    jobid: (?P<job>\d+)"
    r"|^    output: (?P<output>.+)"
    r"|^Job (?P<submitted>\d+) has been submitted with SLURM jobid (?P<slurm>\S+)"
    r"|^Finished jobid: (?P<finished>\d+)",
    re.MULTILINE,
)
# The log of a failed job, which contains the log of the job's own Snakemake process.
SHOWN_LOG = re.compile(r"^Logfile [^\n]+:\n(=+)\n.*?^\1$", re.MULTILINE | re.DOTALL)
SLURM_FAILURE = re.compile(r"SLURM status is: '(\w+)'")
SLURM_RUN = re.compile(r"^SLURM run ID: (\S+)", re.MULTILINE)
SBATCH_ERROR = re.compile(r"sbatch: error: (.+)")


@dataclass(frozen=True)
class Account:
    """State of a job according to Snakemake's logs.

    Attributes:
        slurm: Id of the job in SLURM.
        failed: Whether the job ended with an error and was not started again.
        slurm_state: State of the failed job in SLURM, e.g. TIMEOUT.
        message: Reason why Snakemake could not submit the job to SLURM.
        failures: Number of times that the job ended with an error.
        host: Machine of the Snakemake process that started the job last.
    """

    slurm: str | None = None
    failed: bool = False
    slurm_state: str | None = None
    message: str = ""
    failures: int = 0
    host: str = ""


def failure(slurm: str | None, message: str) -> Account:
    """State of a failed job for which Snakemake's log shows this message."""
    if state := SLURM_FAILURE.search(message):
        return Account(slurm, True, state[1])
    said = message.partition("For further error details")[0].strip().splitlines()
    refused = "; ".join(text.rstrip("'.") for text in SBATCH_ERROR.findall(message))
    first = "" if said in ([], ["None"]) else said[0]
    return Account(slurm, True, message=f"sbatch: {refused}" if refused else first)


def read_log(text: str, accounts: dict[str, Account]) -> None:
    """Update the accounts, by output, from the log of one run of Snakemake."""
    outputs: dict[str, list[str]] = {}  # outputs of a job, by its number in this run
    submitted: dict[str, str] = {}
    named: list[str] = []
    host = ""

    def change(job: str, account: Account) -> None:
        for output in outputs.get(job, ()):
            before = accounts.get(output, Account()).failures
            accounts[output] = replace(account, failures=before + account.failed, host=host)

    for event in EVENT.finditer(SHOWN_LOG.sub("", text)):
        match event.lastgroup:
            case "host":
                host = event["host"]
            case "output":  # in the block of a started job, the output comes before the number
                named = event["output"].split(", ")
            case "job" if named:
                outputs[event["job"]] = named
                change(event["job"], Account())
            case "slurm":  # the last group of its line
                submitted[event["submitted"]] = event["slurm"]
                change(event["submitted"], Account(event["slurm"]))
            case "failed":
                change(event["failed"], failure(submitted.pop(event["failed"], None), event["message"] or ""))
                named = []
            case "finished":
                change(event["finished"], Account())
            case None:
                named = []


@dataclass(frozen=True)
class Workplace:
    """The folder in which Snakemake runs."""

    root: Path

    @classmethod
    def of(cls, folder: Path) -> "Workplace":
        # If the results folder is a link, the folder in which Snakemake runs need not be one of its real parents.
        places = [*folder.absolute().parents, Path.cwd(), *folder.resolve().parents]
        return cls(next((place for place in places if (place / ".snakemake").is_dir()), Path.cwd()).resolve())

    @property
    def locked(self) -> bool:
        return any((self.root / ".snakemake" / "locks").glob("*.lock"))

    @property
    def alive(self) -> bool:
        """Whether a snakemake process of this machine runs here."""
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words, place = process.info["cmdline"] or [], process.info["cwd"]
            if place and Path(place) == self.root and any(Path(word).name == "snakemake" for word in words[:3]):
                return True
        return False

    def started(self) -> dict[Path, str | None]:
        """Outputs of jobs that have started and not ended, each with its SLURM job if the mark names one.

        Snakemake marks each output with a file whose name is the output's path in base64.
        """
        marks = self.root / ".snakemake" / "incomplete"
        found = {}
        for mark in marks.rglob("*"):
            path = decoded("".join(part.removeprefix("@") for part in mark.relative_to(marks).parts))
            if path is not None:
                found[(self.root / path).resolve()] = external_job(mark)
        return found

    def slurm_run(self) -> str:
        """Name of the SLURM jobs of the newest run that had any; empty when there was no such run."""
        for log in sorted((self.root / ".snakemake" / "log").glob("*.snakemake.log"), reverse=True):
            if found := SLURM_RUN.search(log.read_text(errors="replace")):
                return found[1]
        return ""

    def accounts(self) -> dict[Path, Account]:
        """State of the jobs according to the newest of Snakemake's logs, by output."""
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
        return {(self.root / output).resolve(): account for output, account in accounts.items()}


def decoded(name: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(name).decode()
    except ValueError:
        return None  # a folder of a long mark, or not a mark


def external_job(mark: Path) -> str | None:
    try:
        found = json.loads(mark.read_text())
    except (OSError, ValueError):  # the job has ended meanwhile, or the mark is being written
        return None
    return found.get("external_jobid") if isinstance(found, dict) else None


@dataclass(frozen=True)
class Queue:
    """Answer of squeue.

    Attributes:
        states: SLURM's state of every job of the user that has not ended, by id.
        fault: Reason why squeue gave no answer; empty without SLURM.
    """

    states: dict[str, str] = field(default_factory=dict)
    fault: str = ""

    def state(self, job: str | None) -> Literal["running", "queued"] | None:
        """State of a job; None when squeue does not list it."""
        word = self.states.get(job or "")
        if word is None:
            return None
        return "queued" if word in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT") else "running"


def ask_squeue(user: str) -> Queue:
    """Ask squeue once for all jobs of a user; without SLURM the answer is empty."""
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
    """Owner of a folder, whose jobs work on it; another user may be the reader."""
    try:
        return folder.owner()
    except KeyError:  # this machine has no name for the user's number
        return str(os.stat(folder).st_uid)
