"""Particles, chunks and splits follow from the particle's number alone."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alloyscope.campaign.chunks import (
    chunk_at,
    imaging_capacity,
    imaging_chunks,
    md_chunks,
    md_chunks_of,
    n_chunks,
    released_chunks,
)
from alloyscope.campaign.costs import imaging_memory_MB, job_minutes, simulated_ps
from alloyscope.campaign.particles import planned_particle, split_of
from alloyscope.config.model import SPLIT_BLOCK, Config, ParticlesSection, SplitsSection
from alloyscope.config.read import parse
from alloyscope.errors import ConfigError
from alloyscope.md.simulation import simulation
from alloyscope.microscope.settings import FilmSection, ImagingSection
from alloyscope.microscope.views import drawn_snapshots, drawn_view, rotation
from alloyscope.potential.sets import parameter_set
from alloyscope.stages.arguments import whole_config
from alloyscope.stages.plan import planned, run


def grown(config: Config, n_particles: int) -> Config:
    return config.model_copy(update={"campaign": config.campaign.model_copy(update={"n_particles": n_particles})})


def test_growing_leaves_earlier_rows_equal(small_config: Config) -> None:
    few, many = planned(small_config), planned(grown(small_config, 25))
    pd.testing.assert_frame_equal(many.iloc[:10], few)


def test_chunks_cover_every_particle_once(small_config: Config) -> None:
    found = [list(chunk_at(index, 10, 4).particles) for index in range(n_chunks(10, 4))]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert imaging_capacity(small_config) == 8
    assert [list(md_chunks_of(n, small_config)) for n in range(2)] == [[0, 1], [2]]


@pytest.mark.parametrize(("min_chunks", "released"), [(None, 2), (1, 1), (9, 2)])
def test_chunks_of_a_campaign(small_config: Config, min_chunks: int | None, released: int) -> None:
    dataset = small_config.dataset.model_copy(update={"min_chunks": min_chunks})
    config = small_config.model_copy(update={"dataset": dataset})
    assert released_chunks(config) == range(released)
    assert (md_chunks(config), imaging_chunks(config)) == (range(3), range(2))


def test_particles_keep_the_bounds() -> None:
    section = ParticlesSection(n_atoms=(60, 64), fraction_first=(0.25, 0.5))
    found = [planned_particle(number, section, 1) for number in range(2000)]
    assert {p.n_atoms for p in found} == {60, 61, 62, 63, 64}
    assert all(0.25 - 0.5 / 60 <= p.counts[0] / p.n_atoms <= 0.5 + 0.5 / 60 for p in found)
    protocols = Counter(p.protocol for p in found)
    assert abs(protocols["droplets"] - 1000) < 5 * math.sqrt(2000 / 4)


def test_protocol_tells_nothing_about_size() -> None:
    """Else a network could read the order off the size."""
    found = [planned_particle(number, ParticlesSection(n_atoms=(60, 1000)), 1) for number in range(4000)]
    sizes = [np.array([p.n_atoms for p in found if p.protocol == name]) for name in ("gas_quench", "droplets")]
    spread = 940 / math.sqrt(12)
    assert abs(sizes[0].mean() - sizes[1].mean()) < 5 * spread * math.sqrt(1 / len(sizes[0]) + 1 / len(sizes[1]))


def test_another_seed_is_another_campaign() -> None:
    one, two = (planned_particle(5, ParticlesSection(), seed) for seed in (1, 2))
    assert one != two


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (SplitsSection(), {"train": 14, "validation": 2, "calibration": 2, "test": 2}),
        (
            SplitsSection(train=0.6, validation=0.1, calibration=0.1, test=0.2),
            {"train": 12, "validation": 2, "calibration": 2, "test": 4},
        ),
        (SplitsSection(train=0.5, validation=0.0, calibration=0.0, test=0.5), {"train": 10, "test": 10}),
    ],
)
def test_each_block_holds_the_fractions(splits: SplitsSection, expected: dict[str, int]) -> None:
    for block in range(5):
        numbers = range(block * SPLIT_BLOCK, (block + 1) * SPLIT_BLOCK)
        assert Counter(split_of(number, splits, 3) for number in numbers) == expected


def test_splits_differ_from_block_to_block() -> None:
    patterns = {tuple(split_of(b * SPLIT_BLOCK + n, SplitsSection(), 3) for n in range(SPLIT_BLOCK)) for b in range(9)}
    assert len(patterns) == 9


def test_rotations_are_uniform_on_so3() -> None:
    """A fixed vector is turned to a uniform direction; the angle has density (1 − cos θ)/π, its mean π/2 + 2/π."""
    quaternions = np.array([rotation(n, 0, 1) for n in range(3000)])
    assert np.allclose(np.linalg.norm(quaternions, axis=1), 1)
    x, y, z, w = quaternions.T
    turned = np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x**2 + y**2)])
    assert np.abs(turned.mean(axis=1)).max() < 5 / math.sqrt(3 * 3000)
    assert (2 * np.arccos(np.abs(w))).mean() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=5 * 0.65 / math.sqrt(3000))


def test_changing_one_parameter_moves_no_other() -> None:
    config = Config()
    optics = config.optics.model_copy(update={"defocus_A": (0.0, 1.0)})
    one = drawn_view(3, 1, config.imaging, config.optics, config.detector, 7)
    two = drawn_view(3, 1, config.imaging, optics, config.detector, 7)
    differing = {name for name in vars(one) if getattr(one, name) != getattr(two, name)}
    assert differing == {"defocus_A"}


def test_snapshots_are_drawn_for_each_view() -> None:
    drawn = [drawn_snapshots(3, number, 10, 4, seed=7) for number in range(200)]
    assert all(len(set(chosen)) == 4 and chosen == tuple(sorted(chosen)) for chosen in drawn)
    # each of the 10 is in 4/10 of the views
    shares = np.bincount(np.concatenate(drawn), minlength=10) / 200
    assert np.abs(shares - 0.4).max() < 4 * math.sqrt(0.4 * 0.6 / 200)
    assert drawn_snapshots(3, 0, 10, None, seed=7) == tuple(range(10))
    assert drawn_snapshots(3, 0, 0, None, seed=7) == ()


def test_film_shows_in_its_share_of_the_images_and_moves_no_other_draw() -> None:
    config = Config()
    film = FilmSection(share=0.3, thickness_A=(20.0, 40.0))
    covered = config.imaging.model_copy(update={"film": film})
    bare, drawn = (
        [drawn_view(n, 0, imaging, config.optics, config.detector, 7) for n in range(1000)]
        for imaging in (config.imaging, covered)
    )
    with_film = [one for one in drawn if one.film_thickness_A > 0]
    assert len(with_film) == pytest.approx(300, abs=4 * math.sqrt(210))
    assert np.mean([one.film_thickness_A for one in with_film]) == pytest.approx(30, abs=1.5)
    fields = {"film_thickness_A": 0.0, "film_angle_rad": 0.0, "film_offset": (0.0, 0.0, 0.0)}
    assert [replace(one, **fields) for one in drawn] == bare


def test_table_names_the_seed_that_md_uses(small_config: Config) -> None:
    row = planned(small_config).iloc[7]
    seed = small_config.campaign.seed
    particle = planned_particle(7, small_config.particles, seed)
    first = simulation(particle, small_config.md, parameter_set("AgCo"), Path("AgCo.eam.fs"), seed, 0)
    assert row.seed == first.seed
    assert (row.n_first, row.n_second) == particle.counts


def test_splits_of_own_structures_are_not_planned() -> None:
    """They follow from the structures, which nobody has read yet."""
    config = parse({"campaign": {"n_particles": 3}, "particles": {"source": "files", "files": ["own.extxyz"]}})
    assert planned(config)["split"].tolist() == [None] * 3
    assert planned(parse({"campaign": {"n_particles": 3}}))["split"].notna().all()


def test_step_writes_table_and_config(small_config: Config, tmp_path: Path) -> None:
    run(config=small_config, out=tmp_path / "plan" / "particles.parquet")
    table = pd.read_parquet(tmp_path / "plan" / "particles.parquet")
    assert table.particle.tolist() == list(range(10))
    assert table.chunk.tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert (tmp_path / "plan" / "campaign.json").exists()


def test_whole_config_is_checked() -> None:
    assert whole_config(parse({}).as_json()) == parse({})
    with pytest.raises(ConfigError, match="--config: not JSON"):
        whole_config("{")
    with pytest.raises(ConfigError, match=r"particles\.species: Pt has no parameters"):
        whole_config('{"particles": {"species": ["Ag", "Pt"]}}')


def test_imaging_jobs_ask_for_the_memory_that_waves_take() -> None:
    """5000 waves of 280² points at 8 bytes are 3.14 GB; writing them takes three times as much."""
    assert imaging_memory_MB(Config()) == 4000
    stored = imaging_memory_MB(Config(imaging=ImagingSection(store_waves=True, md_chunks_per_chunk=5)))
    assert 3 * 3136 <= stored - 4000 <= 1.15 * 3 * 3136


def test_minutes_follow_the_size_of_a_chunk() -> None:
    """config.yaml: 200 × 13.3 core-s on 4 cores, 1000 × 0.25 s, 5000 / 30 s; four times as much, and 15 minutes."""
    config = Config(imaging=ImagingSection(md_chunks_per_chunk=5, views=5))
    assert [job_minutes("md", config, 4), job_minutes("describe", config), job_minutes("hrtem", config)] == [60, 32, 27]
    assert job_minutes("md", config, 1) == 15 + math.ceil(4 * 200 * 13.3 / 60)
    longer = config.md.model_copy(update={"thermalise_ps": 175.0})
    assert job_minutes("md", config.model_copy(update={"md": longer}), 1) == 15 + math.ceil(4 * 200 * 26.6 / 60)
    double = Config(imaging=ImagingSection(md_chunks_per_chunk=5, views=10))
    assert job_minutes("hrtem", double) == 15 + math.ceil(4 * 10_000 / 30 / 60)


@pytest.mark.parametrize("protocol", ["gas_quench", "droplets"])
def test_simulated_time_is_that_of_the_segments(protocol: str) -> None:
    """Nothing is drawn here; what remains is the rounding of each segment to whole steps."""
    md = {
        "gas_quench": {"condense_ps": [50, 50], "cool_ps": [70, 70]},
        "droplets": {"contact_ps": [20, 20], "cool_ps": [45, 45]},
    }
    config = parse({"particles": {"protocols": {protocol: 1.0}}, "md": md})
    first = planned_particle(0, config.particles, 1)
    made = simulation(first, config.md, parameter_set("AgCo"), Path("AgCo.eam.fs"), 1, 0)
    time_ps = sum(1e-3 * segment.steps * segment.timestep_fs for segment in (*made.segments, made.sampling))
    assert simulated_ps(config) == pytest.approx(time_ps, abs=0.1)
