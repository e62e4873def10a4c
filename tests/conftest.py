"""What tests of several folders share."""

import os
from pathlib import Path

import pytest

from alloyscope.config.model import Config
from alloyscope.config.read import parse

os.environ["OMP_NUM_THREADS"] = "1"  # tests share the cores among xdist's workers

ROOT = Path(__file__).resolve().parents[1]


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
