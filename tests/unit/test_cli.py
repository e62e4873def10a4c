"""The command line: every step has help, expected errors are one line and exit code 2, others keep their traceback.

A stage that fails ends its log with the command that repeats it and, last, the error.
"""

import argparse
import inspect
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from alloyscope import cli
from alloyscope.errors import StoreError, at_particle
from alloyscope.stages import md


@pytest.mark.parametrize("command", cli.MODULES)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: alloyscope {command}" in capsys.readouterr().out


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")}
    assert words >= set(cli.MODULES)


def test_overview_imports_no_step() -> None:
    """Torch and LAMMPS take seconds."""
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alloyscope", "--help"], capture_output=True, text=True
    )
    assert answer.returncode == 0
    assert "Print how far a campaign is." in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "alloyscope.cli" in imported
    assert not imported & {"torch", "lammps", *cli.MODULES.values()}


def test_unknown_command_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["reprot"])
    assert ended.value.code == 2
    assert "invalid choice: 'reprot' (choose from 'potential', 'plan'" in capsys.readouterr().err


def test_expected_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("alloyscope status: ")


def test_faulty_section_is_an_expected_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "potential"
    assert cli.main(["potential", "--potential", '{"n_r": 1, "colour": 2}', "--out", str(out)]) == 2
    text = capsys.readouterr().err
    assert "potential.n_r: " in text
    assert "potential.colour: unknown key" in text
    assert not out.exists()


def test_section_that_is_not_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["potential", "--potential", "{", "--out", str(tmp_path)]) == 2
    assert "--potential: not JSON" in capsys.readouterr().err


def test_all_config_faults_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("particles: {n_atoms: [500, 100], color: red}\nimaging: {views: 0}\n")
    assert cli.main(["config", str(path)]) == 2
    text = capsys.readouterr().err
    for fault in ("particles.n_atoms: must be", "particles.color: unknown key", "imaging.views: "):
        assert fault in text


def test_resolved_config_can_be_read_again(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay = tmp_path / "small.yaml"
    overlay.write_text("campaign: {n_particles: 50}\nmd: {particles_per_chunk: 6}\nimaging: {md_chunks_per_chunk: 2}\n")
    assert cli.main(["config", str(root / "config.yaml"), str(overlay)]) == 0
    first = capsys.readouterr().out
    assert first.startswith("# 50 particles in 9 md chunks\n# 250 images in 5 imaging chunks")
    (tmp_path / "resolved.yaml").write_text(first)
    assert cli.main(["config", str(tmp_path / "resolved.yaml")]) == 0
    assert capsys.readouterr().out == first


def test_module_can_be_run() -> None:
    answer = subprocess.run([sys.executable, "-m", "alloyscope", "status", "nowhere"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr.startswith("alloyscope status: nowhere: no campaign here")


PLAN = ("plan", "--config", "{", "--out", "a folder/particles.parquet")


def test_failing_stage_ends_its_log_with_command_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(PLAN) == 2
    command, error = capsys.readouterr().err.splitlines()
    said, _, pasted = command.partition(": to repeat this job alone: ")
    assert said == "alloyscope plan"
    assert shlex.split(pasted) == ["cd", str(Path.cwd()), "&&", "python", "-m", "alloyscope", *PLAN]
    assert error.startswith("alloyscope plan: --config: ")


def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    """The step md fails with an error of particle 7."""

    def run(**arguments: object) -> None:
        with at_particle(7):
            raise error

    monkeypatch.setattr(md, "run", run)
    monkeypatch.chdir(tmp_path)  # the output is locked by a file beside it


MD = (
    *("md", "--chunk", "000012", "--first", "0", "--count", "1", "--seed", "1", "--particles", "{}", "--md", "{}"),
    *("--potential-set", "AgCo", "--potential", "t", "--manifest", "m"),
)


def test_failing_chunk_names_chunk_and_particle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, tmp_path, StoreError("disk full\nand slow"))
    assert cli.main(MD) == 2
    place = "alloyscope md: chunk 000012, particle 7: "
    assert capsys.readouterr().err.splitlines()[1:] == [f"{place}disk full", f"{place}and slow"]


def test_particle_is_named_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, tmp_path, StoreError("no structure of particle 7 (particle 70 has one)"))
    assert cli.main(MD) == 2
    assert (
        capsys.readouterr().err.splitlines()[1].startswith("alloyscope md: chunk 000012: no structure of particle 7 ")
    )


def test_unexpected_error_keeps_its_traceback_and_comes_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, tmp_path, ZeroDivisionError("by hand"))
    assert cli.main(MD) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("test_cli.py" in line for line in lines)
    assert "to repeat this job alone" in lines[-2]
    assert lines[-1] == "alloyscope md: chunk 000012, particle 7: ZeroDivisionError: by hand"


def test_nothing_follows_the_error(tmp_path: Path) -> None:
    """Libraries speak while the process is torn down; after an error they are not heard."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os\natexit.register(os.write, 2, b'torn down\\n')\natexit.register(print, 'end')\n"
    )
    for command, code, last in (
        (PLAN, 2, "alloyscope plan: --config: "),
        (("config", "--schema"), 0, "torn down"),
    ):
        answer = subprocess.run(
            [sys.executable, "-m", "alloyscope", *command],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        )
        assert answer.returncode == code
        assert answer.stdout.endswith("end\n")
        assert answer.stderr.splitlines()[-1].startswith(last)


@pytest.mark.parametrize("name", cli.STAGES)
def test_flags_bear_the_names_of_what_they_set(name: str) -> None:
    """A step without a `main` of its own gets what was parsed, and no flag has a second home for a default."""
    step = import_module(cli.MODULES[name])
    if hasattr(step, "main"):
        return
    parser = argparse.ArgumentParser()
    step.add_arguments(parser)
    flags = {action.dest for action in parser._actions} - {"help"}
    parameters = inspect.signature(step.run).parameters
    assert flags == parameters.keys()
    assert all(parameter.default in (inspect.Parameter.empty, None) for parameter in parameters.values())


def test_a_section_left_out_is_no_silent_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["statistics", "--structures", "s.parquet", "--out", str(tmp_path / "x.html")])
    assert "the following arguments are required: --labels" in capsys.readouterr().err
