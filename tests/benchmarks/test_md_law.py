"""What a campaign costs, from a few particles: laws with known answers."""

import os
from pathlib import Path

import md_chunk
import md_law
import numpy as np
import pytest
from md_law import Cost, Law

from alloyscope.campaign.particles import planned_particle
from alloyscope.config.model import Config, ParticlesSection
from alloyscope.config.read import parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.store.atomic import write_json
from alloyscope.store.manifests import Manifest, Slot, manifest_name

SIZES = (16, 25, 100, 400)


def test_a_power_law_is_found_again() -> None:
    law = Law.fit([Cost(n, 0.25 * n**1.5) for n in SIZES])
    assert (law.a, law.b, law.retries) == pytest.approx((0.25, 1.5, 1.0))


def test_attempts_count_as_overhead_not_as_size() -> None:
    # 16 + 25 + 100 + 400 s of single attempts; the third particle needed three: 541 s and 741 s
    law = Law.fit([Cost(n, n * (3 if n == 100 else 1), 3 if n == 100 else 1) for n in SIZES])
    assert (law.a, law.b, law.retries) == pytest.approx((1.0, 1.0, 741 / 541))


def test_scatter_keeps_the_sum() -> None:
    costs = [Cost(n, n * scatter) for n, scatter in zip(SIZES, (0.5, 2.0, 1.25, 0.9), strict=True)]
    law = Law.fit(costs)
    assert sum(law.a * n**law.b for n in SIZES) == pytest.approx(sum(cost.seconds for cost in costs))


def test_mean_over_sizes_by_hand() -> None:
    # sizes 2, 3, 4: (4 + 9 + 16) / 3, twice as long for the retries
    assert Law(3.0, 2.0, 2.0).mean_s((2, 4)) == pytest.approx(2 * 3 * 29 / 3)


def test_campaign_weighs_its_protocols() -> None:
    particles = ParticlesSection(n_atoms=(100, 100), protocols={"gas_quench": 3.0, "droplets": 1.0})
    laws = {"gas_quench": Law(0.1, 1.0, 1.0), "droplets": Law(0.01, 1.0, 2.0)}
    # 0.75 · 10 s + 0.25 · 2 s = 8 s each
    assert md_law.core_h(laws, particles, 900) == pytest.approx(2.0)


def test_interval_closes_on_an_exact_law_and_opens_with_scatter() -> None:
    particles = ParticlesSection(n_atoms=(20, 400), protocols={"gas_quench": 1.0})
    exact = {"gas_quench": [Cost(n, 0.1 * n) for n in SIZES]}
    low, high = md_law.interval_h(exact, particles, 1000)
    assert low == pytest.approx(1000 * 0.1 * 210 / 3600)
    assert high == pytest.approx(low)
    scattered = {"gas_quench": [Cost(n, 0.1 * n * f) for n, f in zip(SIZES, (0.8, 1.2, 0.9, 1.1), strict=True)]}
    low, high = md_law.interval_h(scattered, particles, 1000)
    assert low < 1000 * 0.1 * 210 / 3600 < high


def test_particles_must_cover_the_sizes_of_the_campaign() -> None:
    particles = ParticlesSection(n_atoms=(60, 1000), protocols={"droplets": 1.0})
    assert md_law.cover({"droplets": [Cost(120, 1.0), Cost(500, 1.0)]}, particles)
    assert not md_law.cover({"droplets": [Cost(121, 1.0), Cost(500, 1.0)]}, particles)
    assert not md_law.cover({"droplets": [Cost(120, 1.0), Cost(499, 1.0)]}, particles)
    assert not md_law.cover({"gas_quench": [Cost(120, 1.0), Cost(500, 1.0)]}, particles)


@pytest.fixture
def campaign(tmp_path: Path, small_config: Config) -> Path:
    """One of three chunks is finished: particles that took 1, 2, 4 and no seconds."""
    write_json(tmp_path / "plan" / "campaign.json", {"config": small_config.model_dump(mode="json")})
    seconds, attempts = (1.0, 2.0, 4.0, 0.0), (1, 2, 1, 3)
    slots = tuple(Slot(n, n < 3, None, attempts[n], seconds[n]) for n in range(4))
    Manifest("md", 0, "d", slots, {}, {}, {}).write(tmp_path / "structures" / manifest_name(0))
    return tmp_path


def test_costs_of_an_unfinished_campaign(campaign: Path, small_config: Config) -> None:
    costs = md_law.finished_costs(campaign, small_config)
    planned = [planned_particle(n, small_config.particles, small_config.campaign.seed) for n in range(3)]
    found = {(protocol, cost) for protocol, of_protocol in costs.items() for cost in of_protocol}
    assert found == {
        (made.protocol, Cost(made.n_atoms, seconds, attempts))
        for made, seconds, attempts in zip(planned, (1.0, 2.0, 4.0), (1, 2, 1), strict=True)
    }


def test_costs_of_other_physics_are_refused(campaign: Path) -> None:
    with pytest.raises(ConfigError, match="its sections md and potential differ"):
        md_law.finished_costs(campaign, parse({"md": {"damp_ps": 2.0}}))
    chunks_of_another_size = parse({"md": {"particles_per_chunk": 7}})
    assert md_law.finished_costs(campaign, chunks_of_another_size)
    (campaign / "structures" / manifest_name(0)).unlink()
    with pytest.raises(StoreError, match="no chunk is finished yet"):
        md_law.finished_costs(campaign, chunks_of_another_size)


def test_schedule_of_two_workers_by_hand() -> None:
    # 3 | 1, then 2 beside it until 3, then 2 on either until 5
    assert md_chunk.makespan_s([3.0, 1.0, 2.0, 2.0], 2) == 5.0
    assert md_chunk.makespan_s([3.0, 1.0, 2.0, 2.0], 1) == 8.0


def test_peak_memory_of_this_process_is_what_it_holds() -> None:
    assert md_chunk.peak_memory_MB(1 << 30) == 0.0  # no such process
    held = np.ones(50_000_000 // 8)
    assert md_chunk.peak_memory_MB(os.getpid()) > held.nbytes / 1024**2
