"""A copy of the workflow to play with, and one real run of the minimal campaign to copy from."""

import shutil
import tarfile
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


@pytest.fixture(scope="session")
def kept(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The minimal campaign as commit 3faff46 left it, with Snakemake's records, in today's workflow.

    Enough to ask what would run: tables of potentials, checkpoints, pages and pictures are empty files. Do not change
    it: take a `kept_copy`.
    """
    place = Workplace.new(root, tmp_path_factory.mktemp("kept") / "top")
    with tarfile.open(Path(__file__).with_name("campaign-3faff46.tar.xz")) as archive:
        archive.extractall(place.path, filter="data")
    return place


@pytest.fixture
def kept_copy(kept: Workplace, tmp_path: Path) -> Workplace:
    shutil.copytree(kept.path, tmp_path / "copy", symlinks=True)
    return Workplace(tmp_path / "copy")


@pytest.fixture
def copy(finished: Workplace, tmp_path: Path) -> Callable[[], Workplace]:
    """A copy of the finished campaign, times and Snakemake's records included."""

    def make() -> Workplace:
        shutil.copytree(finished.path, tmp_path / "copy", symlinks=True)
        return Workplace(tmp_path / "copy")

    return make
