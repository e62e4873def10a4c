"""Molecular dynamics: the start, the thermostat, energy conservation, and what a failing run becomes."""

import multiprocessing
import os
import signal
import struct
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from alloyscope.config.model import MdSection
from alloyscope.contracts import Particle
from alloyscope.lammps import commands, pool
from alloyscope.lammps.commands import Segment, Simulation, System, Trajectory
from alloyscope.lammps.pool import RunFailure, WorkerPool
from alloyscope.lammps.start import load_lammps
from alloyscope.md import build, checks
from alloyscope.md.simulation import simulation
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl

AGCO = parameter_set("AgCo")


@pytest.fixture(scope="session")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("potential") / "AgCo.eam.fs"
    path.write_text(setfl(AGCO, PotentialSection()))
    return path


def short_run(potential: Path, segment: Segment, n_atoms: int = 20) -> Simulation:
    positions = build.solid_ball(n_atoms, 2.7, np.random.default_rng(0))
    system = System(("Ag", "Co"), np.repeat([0, 1], n_atoms // 2), positions, potential)
    return Simulation(system, (segment,), Segment(300, 300, 0.1, 4, 15), 2, 0.05, seed=11, damp_ps=1.0)


def test_timestep_follows_temperature():
    md = MdSection()
    segments = list(md.ramp(7500, 300, 72, 20.0))
    assert [segment.timestep_fs for segment in segments] == [1, 2, 3, 4]
    assert sum(segment.duration_ps for segment in segments) == pytest.approx(72)
    assert segments[0].duration_ps == pytest.approx(72 * 3500 / 7200)
    assert [segment.start_K for segment in segments] == [7500, 4000, 2000, 1000]
    assert segments[-1].stop_K == 300


def test_both_protocols_keep_number_and_composition():
    for protocol in ("gas_quench", "droplets"):
        planned = Particle(7, protocol, ("Ag", "Co"), (31, 22))
        runs = [simulation(planned, MdSection(), AGCO, Path("x"), 1, attempt) for attempt in (0, 1)]
        for run in runs:
            assert np.bincount(run.system.types).tolist() == [31, 22]
        assert runs[0].seed != runs[1].seed
        assert not np.allclose(runs[0].system.positions_A, runs[1].system.positions_A)


def test_droplets_start_apart_and_meet():
    positions = build.two_droplets((60, 40), (2.89, 2.5), np.random.default_rng(3))
    types = np.repeat([0, 1], (60, 40))

    def gap(at: np.ndarray) -> float:
        return float(np.linalg.norm(at[:60, None] - at[None, 60:], axis=-1).min())

    assert gap(positions) > 2 * 5.0  # twice the longest cutoff
    met = build.Contact(2.7)(positions, types)
    assert gap(met) == pytest.approx(2.7, abs=1e-6)
    # only the distance between the droplets changes
    assert np.allclose(met[:60] - met[0], positions[:60] - positions[0])


def test_largest_cluster_by_hand():
    chain = np.array([[0.0, 0, 0], [3, 0, 0], [6, 0, 0], [20, 0, 0]])
    assert checks.largest_cluster(chain).tolist() == [True, True, True, False]
    assert checks.OneCluster(0.75)(chain)
    assert not checks.OneCluster(0.76)(chain)


def test_verdict_names_what_is_wrong():
    chain = np.array([[[0.0, 0, 0], [3, 0, 0], [6, 0, 0], [20, 0, 0]]])
    common = {"target_K": 300.0, "sampled_ps": 20.0, "damp_ps": 1.0, "energies_eV": np.zeros(1)}
    assert "largest cluster holds 75%" in str(
        checks.verdict(snapshots_A=chain, temperature_K=300, min_cluster_fraction=0.95, **common)
    )
    # 3n - 3 = 9 degrees of freedom, 20 samples: σ = 300 √(2/9/20) = 31.6 K, and 3.891 σ = 123.0 K
    for temperature_K in (178, 422):
        verdict = checks.verdict(snapshots_A=chain, temperature_K=temperature_K, min_cluster_fraction=0.5, **common)
        assert verdict is None
    for temperature_K in (176, 424):
        assert "not within 123.0 K of 300 K" in str(
            checks.verdict(snapshots_A=chain, temperature_K=temperature_K, min_cluster_fraction=0.5, **common)
        )
    assert "not finite" in str(
        checks.verdict(snapshots_A=chain * np.nan, temperature_K=300, min_cluster_fraction=0.5, **common)
    )


@pytest.mark.parametrize("n_atoms", [60, 300, 1000])
def test_one_good_run_in_ten_thousand_is_refused_for_its_temperature(n_atoms: int):
    """In closed form: ν T̄/T has the χ² distribution with ν = (3n − 3) · sampled/damp degrees of freedom."""
    sampled_ps, damp_ps, freedom = 20.0, 1.0, (3 * n_atoms - 3) * 20
    bound_K = checks.temperature_bound_K(300.0, n_atoms, sampled_ps, damp_ps)
    above, below = 1 + bound_K / 300, 1 - bound_K / 300
    refused = chi2.sf(freedom * above, freedom) + chi2.cdf(freedom * below, freedom)
    assert refused == pytest.approx(1e-4, rel=0.1)


@pytest.mark.parametrize(("temperature_K", "timestep_fs"), [(7500, 1), (4000, 2), (2000, 3), (1000, 4)])
def test_energy_is_conserved_at_every_timestep_used(potential: Path, temperature_K: float, timestep_fs: float):
    n_atoms, rng = 80, np.random.default_rng(5)
    radius_A = build.sphere_radius_A(n_atoms, 110.0)
    hot = temperature_K > 3000
    positions = build.gas(n_atoms, radius_A, rng) if hot else build.solid_ball(n_atoms, 2.75, rng)
    lmp = load_lammps()
    commands.set_up(lmp, System(("Ag", "Co"), rng.integers(0, 2, n_atoms), positions, potential))
    lmp.commands_list(
        [
            f"fix wall all indent {commands.WALL_eV_per_A3} sphere 0 0 0 {radius_A if hot else 40} side in",
            "fix_modify wall energy yes",
            f"velocity all create {temperature_K} 4711 mom yes",
            "fix motion all nve",
            f"fix bath all langevin {temperature_K} {temperature_K} 0.3 815 zero yes",
            "timestep 0.001",
            "run 2000",
            "unfix bath",
            f"timestep {timestep_fs / 1000}",
            "run 0",
        ]
    )
    energies = []
    for _ in range(10):
        lmp.command(f"run {1000 // timestep_fs}")
        energies.append(lmp.get_thermo("etotal"))
    lmp.close()
    drift_meV = 1e3 * 10 * np.polyfit(np.arange(10), energies, 1)[0] / n_atoms
    assert abs(drift_meV) < 1.0  # per atom and 10 ps


def test_same_seed_same_bits_in_a_reused_process(potential: Path):
    run = short_run(potential, Segment(600, 300, 0.5, 2, 15))
    with WorkerPool(1, 60) as pool:
        results = []
        for key in range(3):
            pool.submit(key, replace(run, seed=99) if key == 1 else run)
            results.append(pool.next_outcome()[1])
    first, other, again = results
    assert isinstance(first, Trajectory)
    assert isinstance(other, Trajectory)
    assert isinstance(again, Trajectory)
    assert first.positions_A.shape == (2, 20, 3)
    assert first.positions_A.tobytes() == again.positions_A.tobytes()
    assert first.positions_A.tobytes() != other.positions_A.tobytes()


def test_temperature_is_what_the_thermostat_says(potential: Path):
    positions = build.solid_ball(100, 2.7, np.random.default_rng(0))
    system = System(("Ag", "Co"), np.repeat([0, 1], 50), positions, potential)
    sampling = Segment(300, 300, 20, 4, 20)
    run = Simulation(system, (Segment(300, 300, 4, 4, 20),), sampling, 1, 1.0, seed=5, damp_ps=1.0)
    result = commands.simulate(load_lammps(), run)
    assert abs(result.temperature_K - 300) < 3 * checks.temperature_error_K(300, 100, 20, 1.0)
    assert result.steps == 6000


def abort(positions: np.ndarray) -> bool:
    os.abort()


def sleep(positions: np.ndarray) -> bool:
    time.sleep(60)
    return True


def blow_up(positions: np.ndarray, types: np.ndarray) -> np.ndarray:
    return positions * np.nan


def test_a_lost_atom_is_an_error(potential: Path):
    lmp = load_lammps()

    def lose_one(positions: np.ndarray) -> bool:
        lmp.commands_list(["group gone id 7", "delete_atoms group gone compress no"])
        return True

    with pytest.raises(Exception, match="ERROR"):
        commands.simulate(lmp, short_run(potential, Segment(300, 300, 0.1, 4, 15, done=lose_one)))
    lmp.close()


def test_droplets_that_drift_apart_are_held_at_the_contact_temperature(potential: Path):
    """Contact is repeated until one cluster is left, max_holds times at most."""
    asked = []

    def never(positions: np.ndarray) -> bool:
        asked.append(len(positions))
        return False

    planned = Particle(7, "droplets", ("Ag", "Co"), (12, 10))
    md = MdSection()
    segments = simulation(planned, md, AGCO, potential, 1, 0).segments
    (join,) = [segment for segment in segments if segment.rearrange is not None]
    assert isinstance(join.done, checks.OneCluster)
    assert join.max_repeats == md.droplets.max_holds == 4
    commands.simulate(
        load_lammps(),
        short_run(potential, replace(join, duration_ps=0.1, done=never, rearrange=None), n_atoms=22),
    )
    assert asked == [22] * 5


def half_an_answer(connection: Connection) -> None:
    os.write(connection.fileno(), struct.pack("!i", 1000) + b"the beginning")  # as Connection.send does: length, bytes
    os.kill(os.getpid(), signal.SIGKILL)


def test_worker_killed_in_the_middle_of_its_answer():
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=half_an_answer, args=(there,))
    process.start()
    there.close()
    seat = pool._Seat(process, here)
    assert WorkerPool(1, 60)._receive(seat) == RunFailure("killed", "worker process ended: SIGKILL")


def test_error_abort_and_hang_become_values_and_the_pool_goes_on(potential: Path):
    fine = Segment(300, 300, 0.1, 4, 15)
    runs = {
        1: short_run(potential, replace(fine, done=abort)),
        3: replace(short_run(potential, fine), system=short_run(Path("no-such-table"), fine).system),
        4: short_run(potential, replace(fine, rearrange=blow_up)),
        5: short_run(potential, fine),
    }
    outcomes = {}
    with WorkerPool(2, wall_limit_s=120) as pool:
        waiting = list(runs)
        while waiting or pool.busy:
            while waiting and pool.busy < 2:
                pool.submit(waiting[0], runs[waiting.pop(0)])
            key, outcome = pool.next_outcome()
            outcomes[key] = outcome
        pool.wall_limit_s = 1.0  # a worker is warm by now: only the run itself counts
        pool.submit(2, short_run(potential, replace(fine, done=sleep)))
        outcomes[2] = pool.next_outcome()[1]
    assert outcomes[1] == RunFailure("died", "worker process ended: SIGABRT")
    assert outcomes[2] == RunFailure("hang", "no result after 1 s")
    for key in (3, 4):
        assert isinstance(outcomes[key], RunFailure)
        assert outcomes[key].kind == "error"
        assert "ERROR" in outcomes[key].reason
    assert isinstance(outcomes[5], Trajectory)
