"""Calls of a traced command are told apart by the folder they are on."""

import shutil
from pathlib import Path

import metadata_load
import pytest


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_calls_are_counted_by_hand(tmp_path: Path) -> None:
    """One file made below results/ by its relative path and one by its whole path; bash's own are on other files."""
    (tmp_path / "results").mkdir()
    touch = f": > results/one; : > {tmp_path}/results/two"
    own, other = metadata_load.traced(["bash", "-c", touch], tmp_path)
    assert own == 2
    assert other > 0


def test_lines_of_jobs() -> None:
    text = "Shell command: \n  python -m alloyscope md     --chunk 000001  2>>results/minimal/logs/md/1.log\n"
    assert [found.groups() for found in metadata_load.LINE.finditer(text)] == [("md", "results/minimal/logs/md/1.log")]
