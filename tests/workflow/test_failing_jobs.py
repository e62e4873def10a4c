"""A job that fails shows its own error last, with the chunk, the particle and a command that repeats it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from alloyscope.store.atomic import checksum
from tests.workflow.workplace import MINIMAL, Workplace

pytestmark = pytest.mark.xdist_group("workflow")

RESULTS = Path("results/minimal")
CLOSING = ["Complete log(s)", "Elapsed time", "WorkflowError", "At least one job did not complete successfully."]


def fail(place: Workplace, target: str, log: str) -> list[str]:
    """Lines of the log of a job that fails, found last in what Snakemake shows of it and once more at its very end."""
    answer = place.snakemake(*MINIMAL, "--", f"{RESULTS}/{target}")
    assert answer.code == 1, answer.text[-4000:]
    lines = (place.path / RESULTS / log).read_text().splitlines()
    shown = answer.text.splitlines()
    ruler = len(shown) - 1 - next(n for n, line in enumerate(reversed(shown)) if set(line) == {"="})
    assert shown[ruler - len(lines) : ruler] == lines
    rest = shown[ruler + 1 :]
    assert rest[0] == "Exiting because a job execution failed. Look above for error messages"
    rule = Path(log).parent.name
    at = rest.index(f"1 job of {rule} failed: {lines[-1].removeprefix(f'alloyscope {rule}: ')}")
    assert rest[at + 1] == f"    see {RESULTS / log}"
    assert [line.split(":")[0] for line in rest[at + 2 :]] == CLOSING
    return lines


def repeat(command: str) -> tuple[int, str]:
    """Exit code and last line of a command that a log offers, pasted in another folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-c", command], cwd="/", capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
    )
    return answer.returncode, answer.stderr.splitlines()[-1]


def test_structure_that_is_not_a_number(copy: Callable[[], Workplace], monkeypatch: pytest.MonkeyPatch) -> None:
    place = copy()
    monkeypatch.chdir(place.path)
    path, manifest = (RESULTS / "structures" / f"chunk-000001.{kind}" for kind in ("extxyz", "json"))
    frame = path.read_text().splitlines()
    frame[2] = f"{frame[2].split()[0]} nan 0 0"
    path.write_text("\n".join(frame) + "\n")
    account = json.loads(manifest.read_text())
    account["files"] = {path.name: checksum(path)}
    manifest.write_text(json.dumps(account))
    particle = next(slot["particle"] for slot in account["slots"] if slot["valid"])

    command, error = fail(place, "descriptors/chunk-000000.json", "logs/describe/chunk-000000.log")
    assert error == (
        f"alloyscope describe: chunk 000000: {path}: particle {particle}: positions must be finite; "
        f"delete {manifest} and run snakemake again"
    )
    assert repeat(command.partition(": to repeat this job alone: ")[2]) == (2, error)


def test_truncated_table(copy: Callable[[], Workplace]) -> None:
    """LAMMPS fails in a worker process; what it and its end have to say comes before the error."""
    place = copy()
    table = place.path / RESULTS / "potential" / "AgCo-orleans.eam.fs"
    table.write_text(table.read_text()[:2000])
    lines = fail(place, "structures/chunk-000001.json", "logs/md/chunk-000001.log")
    assert "to repeat this job alone: cd " in lines[-2]
    assert lines[-1].startswith(
        f"alloyscope md: chunk 000001: LAMMPS cannot run with {RESULTS}/potential/AgCo-orleans.eam.fs ("
    )
