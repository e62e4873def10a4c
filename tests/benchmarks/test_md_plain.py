"""The plain way follows the same history as the package, and its script runs."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import md_plain
import numpy as np
import pytest
import yaml
from scipy.spatial.distance import cdist

from alloyscope.config.model import MdSection
from alloyscope.contracts import Particle
from alloyscope.errors import SimulationError
from alloyscope.lammps import commands
from alloyscope.lammps.commands import Segment, Simulation, System
from alloyscope.lammps.start import load_lammps
from alloyscope.md import build, checks
from alloyscope.md.simulation import simulation
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl

AGCO = parameter_set("AgCo")
SHORT = {
    "gas_quench": {"condense_ps": [0.2, 0.2], "hold_ps": 0.1, "max_holds": 2, "cool_ps": [0.2, 0.2]},
    "droplets": {"melt_ps": 0.1, "settle_ps": 0.2, "contact_ps": [0.3, 0.3], "max_holds": 1, "cool_ps": [0.2, 0.2]},
    "damp_ps": 0.1,
    "thermalise_ps": 2.0,
}
OURS = ("neighbor 1.0 bin", "neigh_modify every 1 delay 2 check yes")


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("potential") / "AgCo.eam.fs"
    path.write_text(setfl(AGCO, PotentialSection()))
    return path


def planned(protocol: str, potential: Path) -> Simulation:
    particle = Particle(3, protocol, ("Ag", "Co"), (18, 12))
    return simulation(particle, MdSection.model_validate(SHORT), AGCO, potential, 1, 0)


def test_same_settings_give_the_same_trajectory(potential: Path, tmp_path: Path) -> None:
    """Atoms, velocities, wall, ramps, holds, Langevin seeds and neighbour lists are the same, or this would differ."""
    run = planned("gas_quench", potential)
    run = replace(run, sampling=replace(run.sampling, duration_ps=0.1))
    ours = commands.simulate(load_lammps(), run)
    holds = md_plain.holds_taken(run, ours.steps)
    assert holds == 2  # 30 gas atoms do not condense in half a picosecond
    plain = md_plain.simulate(run, holds, tmp_path, OURS).trajectory
    assert plain.steps == ours.steps
    assert np.abs(plain.positions_A - ours.positions_A).max() < 1e-9
    assert plain.potential_energy_eV == pytest.approx(ours.potential_energy_eV, abs=1e-9)
    assert plain.temperature_K == pytest.approx(ours.temperature_K, abs=1e-9)


def test_plain_droplets_follow_the_same_temperatures_for_as_long(potential: Path, tmp_path: Path) -> None:
    run = planned("droplets", potential)
    ours = commands.simulate(load_lammps(), run)
    holds = md_plain.holds_taken(run, ours.steps)
    plain = md_plain.simulate(md_plain.at_timestep(run, 1.0), holds, tmp_path)
    # melt 0.1, settle 0.2, contact 0.3 and its holds, cool 0.2, settle 5 × 0.1, sample 2.0 ps at 1 fs
    assert plain.trajectory.steps == 3300 + 300 * holds
    segments = [*run.segments, run.sampling]
    repeats = [1 + min(holds, segment.max_repeats) for segment in segments]
    ours_fs = sum(n * segment.steps * segment.timestep_fs for n, segment in zip(repeats, segments, strict=True))
    assert ours_fs == pytest.approx(plain.trajectory.steps, abs=2 * len(segments))  # segments end on whole steps
    ramps = [tuple(map(float, found)) for found in re.findall(r"^fix bath all langevin (\S+) (\S+)", plain.log, re.M)]
    assert ramps[:4] == [(1600, 1600), (1600, 1000), (1000, 800), (800, 800)]
    assert ramps[-2:] == [(300, 300), (300, 300)]
    for temperature_K in (ours.temperature_K, plain.trajectory.temperature_K):
        assert abs(temperature_K - 300) < 4 * checks.temperature_error_K(300, 30, 2.0, 0.1)


def test_lammps_alone_brings_droplets_into_the_same_contact(potential: Path, tmp_path: Path) -> None:
    counts = (40, 25)
    start = build.two_droplets(counts, (2.89, 2.5), np.random.default_rng(3))
    types = np.repeat([0, 1], counts)
    contact = build.Contact(2.7)
    still = Segment(1.0, 1.0, 1e-4, 1e-2, 60.0, rearrange=contact)  # ten steps of 0.01 fs: nothing moves by itself
    system = System(("Ag", "Co"), types, start, potential)
    run = Simulation(system, (still,), replace(still, rearrange=None), 1, 1.0, seed=5, damp_ps=1.0)
    (found,) = md_plain.simulate(run, 0, tmp_path).trajectory.positions_A
    assert 2.69 < cdist(found[:40], found[40:]).min() < 2.701
    assert np.abs(found - contact(start, types)).max() < 0.005
    assert np.abs(found.mean(axis=0)).max() < 0.005


def test_touching_droplets_stay_where_they_are(potential: Path, tmp_path: Path) -> None:
    positions = build.solid_ball(30, 2.6, np.random.default_rng(1))
    still = Segment(1.0, 1.0, 1e-4, 1e-2, 60.0, rearrange=build.Contact(2.7))
    system = System(("Ag", "Co"), np.repeat([0, 1], 15), positions, potential)
    run = Simulation(system, (still,), replace(still, rearrange=None), 1, 1.0, seed=5, damp_ps=1.0)
    (found,) = md_plain.simulate(run, 0, tmp_path).trajectory.positions_A
    assert np.abs(found - positions).max() < 1e-4


def test_what_lammps_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"lmp ended with 1 in .*; its log ends: .*no-such-table"):
        md_plain.simulate(planned("gas_quench", Path("no-such-table")), 0, tmp_path)


@pytest.mark.slow
def test_the_whole_benchmark_on_two_tiny_particles(root: Path, tmp_path: Path) -> None:
    config = {"campaign": {"seed": 1}, "particles": {"n_atoms": [13, 20]}, "md": SHORT}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    options = {"config": "tiny.yaml", "cost": 2, "small": 2, "ingredients": 1, "out": "bench"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    answer = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "md_cost.py"), *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    figures = json.loads((tmp_path / "bench" / "md_cost.json").read_text())["figures"]
    assert figures["md_cost_ratio"]["runs"] == 2
    assert figures["md_cost_ratio_gas_quench"]["runs"] == figures["md_cost_ratio_droplets"]["runs"] == 1
    assert {f"md_cost_factor_{name}" for name in ("timestep", "table", "skin", "process")} < figures.keys()
    assert "md_cost_ratio_of_totals" in answer.stdout


def test_the_chunk_benchmark_on_two_tiny_particles(root: Path, tmp_path: Path) -> None:
    config = {"campaign": {"seed": 1}, "particles": {"n_atoms": [13, 20]}, "md": SHORT}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    words = [sys.executable, str(root / "benchmarks" / "md_chunk.py"), "--config", "tiny.yaml", "--particles", "2"]
    subprocess.run([*words, "--out", "bench"], cwd=tmp_path, check=True, capture_output=True)
    figures = json.loads((tmp_path / "bench" / "md_chunk.json").read_text())["figures"]
    assert 0 < figures["md_run_share"]["value"] < 1
    assert figures["md_worker_MB"]["value"] > 20
