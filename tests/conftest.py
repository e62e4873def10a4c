"""What tests of several folders share."""

import os
from pathlib import Path

import pytest

from alloyscope.config.model import Config
from alloyscope.config.read import parse

os.environ["OMP_NUM_THREADS"] = "1"  # tests share the cores among xdist's workers

ROOT = Path(__file__).resolve().parents[1]

# groups of xdist, which take minutes, then folders
LONGEST_FIRST = ("slurm", "faults on slurm", "workflow", "faults", "potential", "physics", "steps", "benchmarks")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long begins first, and a file whose tests name no group is one, because they share its fixtures."""

    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))

    def turn(item: pytest.Item) -> int:
        names = (item.get_closest_marker("xdist_group").args[0], item.path.parent.name)
        return next((place for place, name in enumerate(LONGEST_FIRST) if name in names), len(LONGEST_FIRST))

    items.sort(key=turn)


@pytest.fixture(scope="session")
def root() -> Path:
    """Top of the checkout."""
    return ROOT


@pytest.fixture
def small_config() -> Config:
    """Ten particles in md chunks of four, imaging chunks of eight."""
    return parse(
        {
            "campaign": {"n_particles": 10},
            "md": {"particles_per_chunk": 4},
            "imaging": {"md_chunks_per_chunk": 2, "views": 3},
        }
    )
