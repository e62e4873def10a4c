"""A copy of the workflow to play with, and one real run of the minimal campaign to copy from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.workplace import MINIMAL, Workplace


@pytest.fixture
def fresh(root: Path, tmp_path: Path) -> Workplace:
    return Workplace.new(root, tmp_path / "fresh")


@pytest.fixture(scope="session")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The minimal campaign, run for real. Do not change it: take a `copy`."""
    place = Workplace.new(root, tmp_path_factory.mktemp("campaign") / "finished")
    answer = place.snakemake(*MINIMAL)
    assert answer.code == 0, answer.text[-8000:]
    return place


@pytest.fixture
def copy(finished: Workplace, tmp_path: Path) -> Callable[[], Workplace]:
    """A copy of the finished campaign, times and Snakemake's records included."""

    def make() -> Workplace:
        shutil.copytree(finished.path, tmp_path / "copy", symlinks=True)
        return Workplace(tmp_path / "copy")

    return make
