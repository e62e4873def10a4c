"""What a benchmark writes is what it prints, and what `python -m benchmarks.record` takes."""

import json
import math
import sys
from pathlib import Path

import harness
import pytest
from harness import Figure

from alloyscope.errors import AlloyscopeError, ConfigError
from benchmarks.record.files import benchmarks

FIGURES = {
    "speed": Figure.median([3.0, 1.0, 2.5], "", "the other way"),
    "memory": Figure(120.0, "MB", "one run"),
}


def test_median_lies_between_the_extremes() -> None:
    assert FIGURES["speed"] == Figure(2.5, "", "the other way", 1.0, 3.0, 3)


def test_a_figure_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        Figure(1.0, "", "nothing", math.nan, 2.0)


def test_file_holds_figures_and_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/area.py", "--from", "a folder"])
    content = json.loads(harness.publish("area", FIGURES, tmp_path, config="c0ffee").read_text())
    assert content["figures"]["speed"] == {
        "value": 2.5,
        "unit": "",
        "min": 1.0,
        "max": 3.0,
        "runs": 3,
        "against": "the other way",
    }
    assert content["command"] == "python benchmarks/area.py --from 'a folder'"
    assert content["config"] == "c0ffee"
    assert {"machine", "versions", "commit", "date"} < content.keys()
    recorded = benchmarks(tmp_path)
    assert recorded["speed"].low == 1.0
    assert recorded["memory"].high is None
    assert recorded["memory"].command == content["command"]


def test_table_says_the_same() -> None:
    header, speed, memory = harness.table(FIGURES).splitlines()
    assert header.split() == ["figure", "value", "min", "–", "max", "unit", "runs", "against"]
    assert speed.split() == ["speed", "2.5", "1", "–", "3", "3", "the", "other", "way"]
    assert memory.split() == ["memory", "120", "MB", "1", "one", "run"]


def test_what_a_user_can_mend_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ConfigError("no such config")

    monkeypatch.setattr(sys, "argv", ["benchmarks/area.py"])
    with pytest.raises(SystemExit, match=r"area\.py: no such config"):
        harness.run(fails)


def test_command_leaves_out_where_the_file_goes():
    assert harness.line_of("md_cost", ["--cost", "2", "--out", "elsewhere"]) == "python benchmarks/md_cost.py --cost 2"


def test_peak_memory_is_the_programs_own() -> None:
    """A program that fills 60 MB takes 50 to 70 more than one that fills none, however large this process has been."""
    bytes(300_000_000)
    small, large = (harness.peak_MB([sys.executable, "-c", f"bytearray(b'x') * {size}"]) for size in (1, 60_000_000))
    assert small < 100
    assert 50 < large - small < 70
    with pytest.raises(AlloyscopeError, match="exit code 3 of"):
        harness.peak_MB([sys.executable, "-c", "raise SystemExit(3)"])
