"""The campaign that the benchmark makes up is a finished one to Snakemake."""

from dataclasses import replace
from pathlib import Path

import plan_scale
import pytest

from alloyscope.errors import AlloyscopeError


@pytest.fixture
def place(tmp_path: Path) -> plan_scale.Place:
    """1200 particles: 6 md chunks, 2 imaging chunks."""
    return plan_scale.Place.new(tmp_path / "place", 1200)


def test_made_up_campaign_is_finished_until_a_param_changes(place: plan_scale.Place) -> None:
    """Chunk jobs do not depend on the labels: all 10 are left alone."""
    planned = place.dry_run().jobs
    place.finish()  # raises if anything is left
    changed = replace(place, settings=(*place.settings, "labels={ordering: eta}"))
    assert 0 < changed.dry_run().jobs < planned - 10


def test_answer_without_a_table_is_refused() -> None:
    assert plan_scale.jobs_of("Job stats:\njob   count\n----  -----\nmd   1000\ntotal   1418\n") == 1418
    with pytest.raises(AlloyscopeError, match="no table of jobs; it ended with: Error"):
        plan_scale.jobs_of("Error")


def test_names_of_sizes() -> None:
    assert [plan_scale.short(number) for number in (1200, 2000, 200_000, 2_000_000)] == ["1200", "2k", "200k", "2M"]


def test_cost_of_a_job_by_hand() -> None:
    figures = plan_scale.per_job("plan", plan_scale.Run(2.0, 100.0, 10), plan_scale.Run(4.0, 101.0, 1010))
    assert (figures["plan_job_ms"].value, figures["plan_job_kB"].value) == (2.0, 1.0)
