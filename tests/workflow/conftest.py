"""A copy of the workflow to play with, and one real run of the minimal campaign to copy from."""

import fcntl
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workflow.cluster import MPI_SPOKEN, Cluster
from tests.workflow.workplace import DATA_ALONE, MINIMAL, Workplace


@pytest.fixture
def fresh(root: Path, tmp_path: Path) -> Workplace:
    return Workplace.new(root, tmp_path / "fresh")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # until the file is closed
        yield


@pytest.fixture(scope="session")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The minimal campaign, run for real, once for all of xdist's workers. Do not change it: take a `copy`."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    top, said = shared / "finished", shared / "finished.txt"
    with alone(shared / "finished.lock"):
        if not said.exists():
            answer = Workplace.new(root, top).snakemake(*MINIMAL)
            said.write_text(answer.text if answer.code else "")
    text = said.read_text()
    assert not text, text[-8000:]
    return Workplace(top)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.started(tmp_path_factory.mktemp("slurm"), *MPI_SPOKEN) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kept(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The minimal campaign as commit 3faff46 left it, with Snakemake's records, in today's workflow.

    Enough to ask what would run: tables of potentials, checkpoints, pages and pictures are empty files. Its potential
    set was AgCo, which was the default then; CHANGELOG.md tells its owner to name it. Do not change it: take a
    `kept_copy`.
    """
    place = Workplace.new(root, tmp_path_factory.mktemp("kept") / "top")
    settings = place.path / "config.yaml"
    settings.write_text(settings.read_text().replace("  set: AgCo-orleans\n", "  set: AgCo\n"))
    with tarfile.open(Path(__file__).with_name("campaign-3faff46.tar.xz")) as archive:
        archive.extractall(place.path, **DATA_ALONE)
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
