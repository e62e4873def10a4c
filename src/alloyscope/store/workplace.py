"""What Snakemake and SLURM say of a campaign's jobs: marks, locks and logs under `.snakemake/`, and squeue."""

import base64
import json
import os
import re
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import psutil

# ASSUME the newest logs up to this size tell about every job under way: measured 2 kB a job, 3 MB for the full campaign
LOGS_MB = 64
SQUEUE_TIMEOUT_s = 10.0
# of Snakemake's log: the blocks of started and failed jobs, and what became of them
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
# a failed job's log, which holds its own Snakemake's
SHOWN_LOG = re.compile(r"^Logfile [^\n]+:\n(=+)\n.*?^\1$", re.MULTILINE | re.DOTALL)
SLURM_FAILURE = re.compile(r"SLURM status is: '(\w+)'")
SLURM_RUN = re.compile(r"^SLURM run ID: (\S+)", re.MULTILINE)
SBATCH_ERROR = re.compile(r"sbatch: error: (.+)")


@dataclass(frozen=True)
class Account:
    """What Snakemake's logs say of a job.

    Attributes:
        slurm: Id of its SLURM job.
        failed: It ended with an error, and was not started again.
        slurm_state: How SLURM says that it failed, e.g. TIMEOUT.
        message: Why Snakemake could not give it to SLURM.
        failures: How often it ended with an error.
        host: Where the Snakemake that started it last works.
    """

    slurm: str | None = None
    failed: bool = False
    slurm_state: str | None = None
    message: str = ""
    failures: int = 0
    host: str = ""


def failure(slurm: str | None, message: str) -> Account:
    """Of a job whose error Snakemake shows with this message."""
    if state := SLURM_FAILURE.search(message):
        return Account(slurm, True, state[1])
    said = message.partition("For further error details")[0].strip().splitlines()
    refused = "; ".join(text.rstrip("'.") for text in SBATCH_ERROR.findall(message))
    first = "" if said in ([], ["None"]) else said[0]
    return Account(slurm, True, message=f"sbatch: {refused}" if refused else first)


def read_log(text: str, accounts: dict[str, Account]) -> None:
    """Bring accounts, by output, up to date with the log of one run of Snakemake."""
    outputs: dict[str, list[str]] = {}  # of a job, by its number in this run
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
            case "output":  # a started job's block names it before its number
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
    """The folder Snakemake runs in."""

    root: Path

    @classmethod
    def of(cls, folder: Path) -> "Workplace":
        # where results are a link, the folder that Snakemake runs in may be none of their own parents
        places = [*folder.absolute().parents, Path.cwd(), *folder.resolve().parents]
        return cls(next((place for place in places if (place / ".snakemake").is_dir()), Path.cwd()).resolve())

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
                found[(self.root / path).resolve()] = external_job(mark)
        return found

    def slurm_run(self) -> str:
        """Name of all SLURM jobs of the newest run that had any; empty without one."""
        for log in sorted((self.root / ".snakemake" / "log").glob("*.snakemake.log"), reverse=True):
            if found := SLURM_RUN.search(log.read_text(errors="replace")):
                return found[1]
        return ""

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
        return {(self.root / output).resolve(): account for output, account in accounts.items()}


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
