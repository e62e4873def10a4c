"""A copy of the workflow's files, in which Snakemake runs."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs", "slurm")
MINIMAL = ("--configfile", "workflow/campaigns/minimal.yaml")
LIMIT_s = 1200
# of tarfile.extractall; Python 3.11.2, which Debian 12 has, knows no filter
DATA_ALONE = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "alloyscope.config.read", "alloyscope.campaign.stages"])


@dataclass(frozen=True)
class Workplace:
    """A folder with the workflow's files, in which Snakemake runs."""

    path: Path

    @classmethod
    def new(cls, root: Path, path: Path) -> "Workplace":
        path.mkdir()
        for name in PARTS:
            source = root / name
            if source.is_symlink():
                (path / name).symlink_to(source.readlink())
            elif source.is_dir():
                shutil.copytree(source, path / name)
            else:
                shutil.copy2(source, path / name)
        return cls(path)

    def snakemake(self, *arguments: str, profile: str = "profiles/local") -> "Answer":
        command = [sys.executable, "-m", "snakemake", "--profile", profile, "--nocolor", *arguments]
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=LIMIT_s, check=False)
        return Answer(done.returncode, done.stdout + done.stderr)

    def forked(self, *arguments: str, profile: str = "profiles/local") -> "Answer":
        """The same command line in a fork of a process that has imported Snakemake, which saves two seconds.

        For runs that start no job: `alloyscope status` does not know a fork for a snakemake.
        """
        words = ("snakemake", "--profile", profile, "--nocolor", *arguments)
        with NamedTemporaryFile("r") as output, NamedTemporaryFile("r") as errors:
            files = (output.name, errors.name)
            process = FORKS.Process(target=command_line, args=(words, self.path, dict(os.environ), files))
            process.start()
            process.join(LIMIT_s)
            if process.exitcode is None:
                process.kill()
                raise TimeoutError(f"still there after {LIMIT_s} s: {words}")
            return Answer(process.exitcode, output.read() + errors.read())

    def dry_run(self, *arguments: str, profile: str = "profiles/local") -> "Answer":
        return self.forked("--dry-run", *arguments, profile=profile)

    def jobs(self, *arguments: str, profile: str = "profiles/local") -> dict[str, int]:
        """Jobs per rule that Snakemake would run; the rules `all` and `plan`, a leaf, are left out."""
        answer = self.dry_run(*arguments, profile=profile)
        assert answer.code == 0, answer.text
        return {rule: count for rule, count in answer.jobs.items() if rule not in ("all", "plan")}


def command_line(words: Sequence[str], folder: Path, environment: Mapping[str, str], files: Sequence[str]) -> None:
    """What the program `snakemake` does, with words, folder and environment of its own, output and errors in files."""
    from snakemake.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(words)
    for stream, name in zip((sys.stdout, sys.stderr), files, strict=True):
        with open(name, "w") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(main())


@dataclass(frozen=True)
class Answer:
    code: int
    text: str

    @property
    def jobs(self) -> dict[str, int]:
        """Snakemake's table "Job stats"; empty when there is nothing to be done."""
        if "Nothing to be done" in self.text:
            return {}
        lines = self.text.split("Job stats:\n")[1].splitlines()[2:]
        table = lines[: next(place for place, line in enumerate(lines) if line.startswith("total"))]
        return {rule: int(count) for rule, count in (line.split() for line in table)}
