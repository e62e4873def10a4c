"""The doctor tells ok, absent and broken apart, and names the mend."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alloyscope import cli
from alloyscope.commands import doctor
from alloyscope.commands.doctor import Line, Probe, library_lines, python_line, slurm_line, snakemake_line, system_line
from alloyscope.errors import AlloyscopeError


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (Probe("a", "print('banner')\nprint('1.2')", "m"), Line("a", "ok", "1.2")),
        (
            Probe("a", "import no_such_library", "pip install it"),
            Line("a", "broken", "ModuleNotFoundError: No module named 'no_such_library'", "pip install it"),
        ),
        (Probe("a", "import os; os.abort()", "m"), Line("a", "broken", "died with signal 6", "m")),
        (
            Probe("a", "import no_such_library", "m", needs="no-such-program"),
            Line("a", "absent", "no no-such-program on this machine"),
        ),
        (
            Probe("a", "raise SystemExit('no device')", "m", needs=sys.executable),
            Line("a", "absent", "no device", "m"),
        ),
    ],
)
def test_verdicts(probe: Probe, expected: Line) -> None:
    assert list(library_lines((probe,))) == [expected]


def test_python_outside_the_range_is_broken() -> None:
    assert python_line((3, 10, 4)).state == "broken"
    assert python_line((3, 11, 0)) == Line("Python", "ok", f"3.11.0 at {sys.executable}")
    assert python_line((3, 13, 1)) == Line("Python", "ok", f"3.13.1 at {sys.executable}; CI tries 3.11 alone")
    assert "3.14.0; allowed: 3.11, 3.12, 3.13" in str(python_line((3, 14, 0)))


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (("Linux", "x86_64", ("glibc", "2.28")), "ok", "Linux x86_64 glibc 2.28"),
        (("Linux", "x86_64", ("glibc", "2.17")), "broken", "need glibc 2.28 or later; fix: .*envs/alloyscope.def"),
        (("Linux", "x86_64", ("", "")), "broken", "need glibc"),  # Alpine
        (("Linux", "aarch64", ("glibc", "2.39")), "ok", "CI tries Linux on x86-64 alone"),
        (("Darwin", "arm64", ("", "")), "ok", "CI tries Linux on x86-64 alone"),
        (("Darwin", "x86_64", ("", "")), "broken", "Darwin x86_64"),
        (("Windows", "AMD64", ("", "")), "broken", "packages for Linux and macOS alone"),
    ],
)
def test_systems(found: tuple[str, str, tuple[str, str]], state: str, words: str) -> None:
    line = system_line(*found)
    assert line.state == state
    assert re.search(words, str(line))


def test_in_a_job_the_doctor_sees_what_srun_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\nshift\nPMI_FD=33 exec env "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert cli.main(["doctor", "--in-job", "A=b"]) in (0, 2)
    shown = capfd.readouterr().out
    assert f"--ntasks=1 A=b {sys.executable} -m alloyscope doctor\n" in shown
    assert re.search(r"LAMMPS +ok +\d+ \(not told of .*PMI_FD\)", shown)


def test_no_job_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AlloyscopeError, match="no srun on this machine; it is meant for the login node"):
        doctor.run_in_job([])


def test_snakemake_is_found() -> None:
    assert snakemake_line().state == "ok"


def test_no_slurm_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert slurm_line() == Line("SLURM", "absent", "no sbatch on this machine")


def test_lammps_and_its_mpi_library_load() -> None:
    probes = tuple(probe for probe in doctor.PROBES if probe.name in ("LAMMPS", "MPI library"))
    assert [line.state for line in library_lines(probes)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("environment", "state"),
    [({}, "ok"), ({"SLURM_JOB_ID": "7"}, "ok"), ({"SLURM_JOB_ID": "7", "SLURM_STEP_GPUS": "0"}, "broken")],
)
def test_a_gpu_that_was_given_and_cannot_be_used_is_broken(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], state: str
) -> None:
    """Here without a driver; with one, tests/unit/test_gpu.py."""
    for name in ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (probe,) = (probe for probe in doctor.PROBES if probe.name == "GPU of the job")
    blind = "import ctypes\ndef absent(name): raise OSError(name + ': absent')\nctypes.CDLL = absent\n"
    (line,) = library_lines((replace(probe, code=blind + probe.code),))
    assert line.state == state
    if state == "broken":
        assert line.detail == "given (SLURM_STEP_GPUS=0), but there is no CUDA driver here (libcuda.so.1: absent)"
        assert "execution.device: cpu" in line.mend


def test_broken_fails_after_every_line_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [Line("x", "broken", "gone", "put it back"), Line("y", "ok", "1")]
    monkeypatch.setattr(doctor, "run", lambda: lines)
    assert cli.main(["doctor"]) == 2
    shown = capsys.readouterr()
    assert "broken  gone; fix: put it back" in shown.out
    assert "y                  ok      1" in shown.out
    assert shown.err == "alloyscope doctor: broken: x; the lines above say how to fix it\n"


def test_a_probe_that_hangs_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIME_LIMIT_S", 0.2)
    probe = Probe("a", "import time; time.sleep(60)", "m")
    (line,) = library_lines((probe,))
    assert line == Line("a", "broken", "no answer within 0.2 s", "m")
