"""A copy of the workflow's files, in which Snakemake runs."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs", "slurm")
MINIMAL = ("--configfile", "workflow/campaigns/minimal.yaml")


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
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=1200, check=False)
        return Answer(done.returncode, done.stdout + done.stderr)

    def jobs(self, *arguments: str, profile: str = "profiles/local") -> dict[str, int]:
        """Jobs per rule that Snakemake would run; the rules `all` and `plan`, a leaf, are left out."""
        answer = self.snakemake("--dry-run", *arguments, profile=profile)
        assert answer.code == 0, answer.text
        return {rule: count for rule, count in answer.jobs.items() if rule not in ("all", "plan")}


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
