"""A SLURM of its own for tests, and campaigns that run on it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.workflow.workplace import Answer, Workplace

SCRIPT, SNAKEMAKE = (Path(__file__).with_name(name) for name in ("slurm.sh", "impatient.py"))
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
POLL = ("--slurm-init-seconds-before-status-checks", "1")  # jobs of seconds, not hours

# What clusters differ in, each away from the default of Debian's SLURM; the campaign runs on both.
MPI_SPOKEN = ("MpiDefault=pmi2",)  # every job step is a rank of an MPI job
CLOSED = ("TaskPlugin=task/affinity", "SelectTypeParameters=CR_CPU_Memory")
CLOSED_SHELL = {"SBATCH_EXPORT": "NONE"}  # jobs do not inherit the login shell


def missing() -> str | None:
    """Why SLURM cannot be started here; None when it can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)} on this machine (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "slurmd and munged have to be started by root"


@dataclass(frozen=True)
class Job:
    """What SLURM knows of a job: the fields of `scontrol show job`."""

    fields: dict[str, str]

    @property
    def id(self) -> str:
        return self.fields["JobId"]

    @property
    def rule(self) -> str:
        """Rule of Snakemake, from the comment that its plugin gives every job."""
        return self.fields.get("Comment", "").removeprefix("rule_").split("_wildcards_")[0]


@dataclass(frozen=True)
class Cluster:
    """A running SLURM.

    Attributes:
        folder: All that it keeps.
        variables: Set in the shell of its login node.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def started(cls, folder: Path, *dialect: str, variables: Mapping[str, str] | None = None) -> Iterator["Cluster"]:
        """A SLURM with some settings of its own (KEY=VALUE); it stops with the block, or with this process."""
        command = [SCRIPT, folder, *dialect]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
            assert script.stdin is not None
            assert script.stdout is not None
            assert script.stdout.readline() == "ready\n"
            yield cls(folder, variables or {})
            script.stdin.close()
            script.stdout.read()
        assert script.returncode == 0

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a shell on its login node."""
        programs = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        return os.environ | {"PATH": programs, "SLURM_CONF": str(self.folder / "slurm.conf")} | self.variables

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
        return done.stdout

    def jobs(self, place: Workplace) -> list[Job]:
        """Jobs of a workplace, those that ended in the last MinJobAge too, oldest first."""
        lines = self.ask("scontrol", "--oneliner", "show", "job").splitlines()
        found = [Job(dict(re.findall(r"(\S+?)=(\S*)", line))) for line in lines if line.startswith("JobId=")]
        return [job for job in found if job.fields["WorkDir"] == str(place.path)]

    def begin(self, place: Workplace, *arguments: str) -> "Campaign":
        """The README's command, from the workplace's top, by a Snakemake that looks after its jobs more often."""
        command = [sys.executable, "-P", SNAKEMAKE, "--profile", "slurm", "--nocolor", *POLL, *arguments]
        path = place.path / "snakemake.out"
        with path.open("w") as output:
            process = subprocess.Popen(
                command, cwd=place.path, env=self.environment, stdout=output, stderr=subprocess.STDOUT, text=True
            )
        return Campaign(process, path)

    def run(self, place: Workplace, *arguments: str) -> Answer:
        return self.begin(place, *arguments).end()


@dataclass(frozen=True)
class Campaign:
    """A snakemake that is running."""

    process: subprocess.Popen[str]
    output: Path

    def end(self, timeout_s: float = 1800) -> Answer:
        with self._stopped_on_failure():
            return Answer(self.process.wait(timeout_s), self.output.read_text())

    def wait_for(self, happened: Callable[[], bool], timeout_s: float = 900) -> None:
        """Wait until something is true.

        Raises:
            AssertionError: the campaign ended before, or the time is over.
        """
        end = time.monotonic() + timeout_s
        with self._stopped_on_failure():
            while not happened():
                assert self.process.poll() is None, self.output.read_text()[-8000:]
                assert time.monotonic() < end, self.output.read_text()[-8000:]
                time.sleep(0.05)

    @contextmanager
    def _stopped_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it in whatever state it is."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
