"""Which particles are run, and what their core time is."""

import subprocess
import sys
from pathlib import Path

import md_runs
import pytest
from md_runs import PLAIN_POINTS, Pair, Workplace

from alloyscope.campaign.particles import planned_particle
from alloyscope.config.model import ParticlesSection
from alloyscope.config.read import parse
from alloyscope.lammps.commands import Trajectory

PARTICLES = ParticlesSection(n_atoms=(60, 1000))


def test_each_protocol_gets_the_first_particles_of_each_size() -> None:
    edges = [60, 400, 1001]
    without = {md_runs.pick(PARTICLES, 2026, edges, 1, set())[0].number}
    found = md_runs.pick(PARTICLES, 2026, edges, 2, without)
    expected = []
    planned = [planned_particle(number, PARTICLES, 2026) for number in range(100) if number not in without]
    for low, high in ((60, 400), (400, 1001)):
        for protocol in ("gas_quench", "droplets"):
            cell = [made for made in planned if made.protocol == protocol and low <= made.n_atoms < high]
            expected += cell[:2]
    assert found == expected
    assert len(found) == 8


def test_a_protocol_without_weight_is_not_waited_for() -> None:
    particles = ParticlesSection(protocols={"gas_quench": 0.0, "droplets": 1.0})
    assert [made.protocol for made in md_runs.pick(particles, 1, [60, 1001], 2, set())] == ["droplets"] * 2


def test_core_time_counts_ended_children() -> None:
    before = md_runs.tree_core_s()
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert md_runs.tree_core_s() - before >= 0.45


def test_ratio_is_plain_over_ours() -> None:
    made = planned_particle(0, PARTICLES, 1)
    plain = Trajectory(positions_A=None, potential_energy_eV=None, temperature_K=300.0, steps=1, seconds=30.0)
    assert Pair(made, plain, plain, ours_core_s=12.0).ratio == pytest.approx(2.5)


def test_plain_table_is_long_and_else_the_campaigns(tmp_path: Path) -> None:
    place = Workplace.make(parse({"potential": {"n_r": 3000}}), tmp_path)
    settings, long_settings = (path.read_text().splitlines()[4].split() for path in (place.table, place.long_table))
    assert (settings[2], long_settings[2]) == ("3000", str(PLAIN_POINTS))
    assert (settings[0], settings[1], settings[4]) == (long_settings[0], long_settings[1], long_settings[4])
