"""The md step: retries, the ledger, and kills in the middle of a chunk."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from alloyscope.campaign.particles import planned_particle
from alloyscope.config.model import MdSection, ParticlesSection
from alloyscope.errors import ConfigError, SimulationError, StoreError
from alloyscope.lammps.commands import Trajectory
from alloyscope.lammps.pool import RunFailure
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.stages import md as step
from alloyscope.store.ledger import Ledger
from alloyscope.store.manifests import Manifest
from alloyscope.store.structures import by_particle, read_structures
from tests.waiting import wait_until

PARTICLES = ParticlesSection(n_atoms=(13, 30))
MD = MdSection.model_validate(
    {
        "gas_quench": {"condense_ps": [3, 4], "hold_ps": 2, "max_holds": 20, "cool_ps": [3, 4]},
        "droplets": {"melt_ps": 1, "settle_ps": 1, "contact_ps": [1, 2], "cool_ps": [3, 4]},
        "damp_ps": 0.3,
        "thermalise_ps": 4,
    }
)
AGCO = parameter_set("AgCo")
STRUCTURES = "chunk-000000.extxyz"


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("potential") / "AgCo.eam.fs"
    path.write_text(setfl(AGCO, PotentialSection()))
    return path


def command(potential: Path, folder: Path, count: int = 4, md: MdSection = MD) -> list[str]:
    arguments = {
        "chunk": 0,
        "first": 0,
        "count": count,
        "seed": 7,
        "particles": PARTICLES.as_json(),
        "md": md.as_json(),
        "potential-set": "AgCo",
        "potential": potential,
        "workers": 1,
        "manifest": folder / "chunk-000000.json",
    }
    flags = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "alloyscope", "md", *flags]


def workers(pid: int) -> list[psutil.Process]:
    """The LAMMPS processes of a step that are alive."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def outcome(folder: Path) -> list[tuple[int, bool, str | None, int]]:
    """What the manifest says of each particle, core time aside."""
    slots = Manifest.read(folder / "chunk-000000.json").slots
    return [(slot.particle, slot.valid, slot.reason, slot.attempts) for slot in slots]


@pytest.fixture(scope="module")
def undisturbed(potential: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(potential, folder), check=True, capture_output=True)
    return folder


def test_chunk_holds_every_particle_in_order_with_its_composition(undisturbed: Path):
    manifest = Manifest.read(undisturbed / "chunk-000000.json")
    manifest.verify(undisturbed)
    assert [slot.particle for slot in manifest.slots] == list(range(4))
    assert manifest.counts["valid"] + manifest.counts["failed"] == 4
    grouped = by_particle(read_structures(undisturbed / "chunk-000000.extxyz"))
    assert tuple(grouped) == manifest.valid_particles
    assert manifest.counts["valid"] >= 3
    for number, (structure,) in grouped.items():
        planned = planned_particle(number, PARTICLES, 7)
        counts = tuple(structure.elements.count(element) for element in planned.species)
        assert sum(counts) >= 0.95 * planned.n_atoms
        assert all(found <= wanted for found, wanted in zip(counts, planned.counts, strict=True))
        assert np.abs(structure.positions_A.mean(axis=0)).max() < 1e-6
        assert -5 < structure.info["potential_energy_eV"] / planned.n_atoms < -1


def test_killed_in_the_middle_and_started_again_gives_the_same_bytes(
    potential: Path, undisturbed: Path, tmp_path: Path
):
    process = subprocess.Popen(command(potential, tmp_path), stderr=subprocess.DEVNULL)
    ledger = tmp_path / "chunk-000000.ledger.jsonl"
    wait_until(lambda: ledger.exists() and ledger.read_text().splitlines(), process, "finished particle")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []  # workers die with the step
    assert not (tmp_path / "chunk-000000.json").exists()
    finished = len(ledger.read_text().splitlines())
    with ledger.open("a") as handle:
        handle.write('0123456789abcdef {"digest": "cut off in the mid')
    again = subprocess.run(command(potential, tmp_path), check=True, capture_output=True, text=True)
    assert f"{finished} of 4 particles are in the ledger" in again.stderr
    assert (tmp_path / STRUCTURES).read_bytes() == (undisturbed / STRUCTURES).read_bytes()
    assert outcome(tmp_path) == outcome(undisturbed)


def test_growing_a_chunk_runs_only_the_new_particles(potential: Path, undisturbed: Path, tmp_path: Path):
    subprocess.run(command(potential, tmp_path, count=2), check=True, capture_output=True)
    grown = subprocess.run(command(potential, tmp_path, count=4), check=True, capture_output=True, text=True)
    assert "2 of 4 particles are in the ledger" in grown.stderr
    assert (tmp_path / STRUCTURES).read_bytes() == (undisturbed / STRUCTURES).read_bytes()


def test_changed_settings_do_not_use_the_old_ledger(potential: Path, tmp_path: Path):
    subprocess.run(command(potential, tmp_path, count=1), check=True, capture_output=True)
    longer = MD.model_copy(update={"thermalise_ps": 5.0})
    done = subprocess.run(command(potential, tmp_path, count=1, md=longer), check=True, capture_output=True, text=True)
    assert "in the ledger" not in done.stderr


def test_a_killed_worker_costs_time_alone(potential: Path, tmp_path: Path):
    """Twice the same particle: once while its worker loads LAMMPS or runs, once at the next sight."""
    longer = MD.model_copy(update={"thermalise_ps": 200.0})
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    subprocess.run(command(potential, undisturbed, 2, longer), check=True, capture_output=True)
    process = subprocess.Popen(command(potential, disturbed, 2, longer), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("LAMMPS runs; 2 particles to simulate")
    killed: list[psutil.Process] = []
    for _ in range(2):
        wait_until(lambda: set(workers(process.pid)) - set(killed), process, "living worker")
        time.sleep(0.1)
        killed.append((set(workers(process.pid)) - set(killed)).pop())
        killed[-1].kill()
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0
    assert errors.count("killed: worker process ended: SIGKILL; repeated with the same seed") == 2
    assert (disturbed / STRUCTURES).read_bytes() == (undisturbed / STRUCTURES).read_bytes()
    assert outcome(disturbed) == outcome(undisturbed)


def test_two_processes_on_one_chunk_run_no_particle_twice(potential: Path, tmp_path: Path):
    """What happens when Snakemake is started again while a job of its killed self still runs."""
    longer = MD.model_copy(update={"thermalise_ps": 200.0})
    words = command(potential, tmp_path, 4, longer)
    first = psutil.Popen(words, stderr=subprocess.DEVNULL)
    ledger = tmp_path / "chunk-000000.ledger.jsonl"
    wait_until(ledger.exists, first, "ledger")
    first.suspend()  # so that it still works when the second begins, however long that takes
    second = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    heard = ""
    while f"held by process {first.pid}" not in heard:
        line = second.stderr.readline()
        assert line, heard
        heard += line
    first.resume()
    heard += second.communicate(timeout=600)[1]
    assert (first.wait(600), second.returncode) == (0, 0)
    assert "4 of 4 particles are in the ledger" in heard
    assert len(ledger.read_text().splitlines()) == 4
    Manifest.read(tmp_path / "chunk-000000.json").verify(tmp_path)
    assert not list(tmp_path.glob(".*.lock"))


def test_a_limit_from_execution_holds_in_place_of_the_section_s(potential: Path, tmp_path: Path):
    words = [*command(potential, tmp_path, 1), "--wall-limit-s", "0.001"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "hang: no result after 0.001 s" in done.stderr


def test_retry_policy():
    chunk = step.ChunkSettings(MdSection(max_attempts=2), 60.0, AGCO, Path("x"), 7)
    trial = step.Trial(planned_particle(3, PARTICLES, 7))
    hang, killed = RunFailure("hang", "no result after 5 s"), RunFailure("killed", "worker process ended: SIGKILL")
    # three kills and a hang repeat the same attempt, and so the same seed; what comes again then has a cause
    repeated = trial
    for failure in (killed, hang, killed, killed):
        repeated = chunk._judge(repeated, failure)
        assert isinstance(repeated, step.Trial)
        assert repeated.attempt == 0
    second = chunk._judge(repeated, hang)
    assert isinstance(second, step.Trial)
    assert (second.attempt, second.ended) == (1, ())
    # kills come from outside: they are never a verdict on the particle
    with pytest.raises(
        SimulationError, match=r"killed: .*SIGKILL, 4 times over: .*lack of memory; .*particles are kept"
    ):
        chunk._judge(repeated, killed)
    # two clusters: the last attempt is used up, the particle fails with its reason
    apart = np.array([[[0.0, 0, 0], [30, 0, 0]]])
    last = chunk._judge(second, Trajectory(apart, np.zeros(1), 300.0, 100, 2.5))
    assert not isinstance(last, step.Trial)
    assert not last.slot.valid
    assert last.slot.reason == "largest cluster holds 50% of the atoms, below 95%"
    assert (last.slot.attempts, last.slot.seconds) == (2, 2.5)


@pytest.mark.parametrize(
    ("protocol", "changes", "reason"),
    [
        # far too much room: the gas stays many clusters
        (
            "gas_quench",
            {"gas_quench": MD.gas_quench.model_copy(update={"volume_per_atom_A3": 20_000.0, "max_holds": 1})},
            r"largest cluster holds \d+% of the atoms, below 95%",
        ),
        # a step in which hot atoms fly through one another
        ("droplets", {"timesteps_fs": ((0.0, 60.0),)}, r"(error: ERROR|died: worker process ended: SIG|.* not finite)"),
    ],
)
def test_every_kind_of_failed_run_is_retried_then_recorded(
    potential: Path, tmp_path: Path, protocol: str, changes: dict, reason: str
):
    particles = PARTICLES.model_copy(update={"protocols": {protocol: 1.0}})
    step.run(
        chunk=0,
        first=0,
        count=2,
        seed=7,
        particles=particles,
        md=MD.model_copy(update={"max_attempts": 2, "thermalise_ps": 1.0} | changes),
        potential_set="AgCo",
        potential=potential,
        workers=1,
        manifest=tmp_path / "chunk-000000.json",
    )
    manifest = Manifest.read(tmp_path / "chunk-000000.json")
    assert [(slot.valid, slot.attempts) for slot in manifest.slots] == [(False, 2)] * 2
    for slot in manifest.slots:
        assert re.fullmatch(reason + ".*", str(slot.reason)), slot.reason
    assert read_structures(tmp_path / "chunk-000000.extxyz") == []


def test_evaporated_atoms_are_left_out():
    planned = planned_particle(3, PARTICLES, 7)
    positions = np.arange(planned.n_atoms)[:, None] * np.array([2.8, 0.0, 0.0])
    positions[0] = [-500.0, 0.0, 0.0]  # one atom of the first species is gone
    (structure,) = step.snapshots(planned, Trajectory(positions[None], np.zeros(1), 300.0, 1, 0.0))
    assert structure.elements == planned.elements[1:]
    assert structure.info["n_atoms"] == planned.n_atoms - 1


def test_manifest_of_another_chunk_is_refused(potential: Path, tmp_path: Path):
    with pytest.raises(SimulationError, match=r"must end in chunk-000001\.json for chunk 1; got chunk-000000\.json"):
        step.run(
            chunk=1, first=4, count=4, seed=7, particles=PARTICLES, md=MD, potential_set="AgCo",
            potential=potential, workers=1, manifest=tmp_path / "chunk-000000.json",
        )  # fmt: skip


def test_folder_that_cannot_be_written_is_one_clear_error(potential: Path, tmp_path: Path):
    blocked = tmp_path / "structures"
    blocked.write_text("a file stands where the folder should be")
    with pytest.raises(
        StoreError, match=r"chunk-000000.ledger.jsonl: cannot be written \((Not a directory|File exists)"
    ):
        step.run(
            chunk=0, first=0, count=1, seed=7, particles=PARTICLES, md=MD, potential_set="AgCo",
            potential=potential, workers=1, manifest=blocked / "chunk-000000.json",
        )  # fmt: skip


def test_a_broken_table_stops_the_step_and_costs_no_particle(potential: Path, tmp_path: Path):
    cut = tmp_path / "AgCo.eam.fs"
    cut.write_bytes(potential.read_bytes()[:100_000])
    process = subprocess.run(command(cut, tmp_path), check=False, capture_output=True, text=True)
    assert process.returncode == 2
    assert f"LAMMPS cannot run with {cut}" in process.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [cut]


def test_species_without_parameters_are_refused(potential: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="Au, Cu not in --potential-set AgCo; it has Ag, Co"):
        step.run(
            chunk=0, first=0, count=1, seed=7, particles=ParticlesSection(species=("Au", "Cu")), md=MD,
            potential_set="AgCo", potential=potential, workers=1, manifest=tmp_path / "chunk-000000.json",
        )  # fmt: skip


def test_ledger_drops_a_damaged_line_and_keeps_the_rest(undisturbed: Path, tmp_path: Path):
    lines = (undisturbed / "chunk-000000.ledger.jsonl").read_text().splitlines(keepends=True)
    digest = json.loads(lines[0].partition(" ")[2])["digest"]
    path = tmp_path / "ledger.jsonl"
    path.write_text(lines[0] + lines[1].replace("Co", "Ag", 1) + lines[2])
    entries = Ledger(path, digest).open()
    assert len(entries) == 2
    assert len(path.read_text().splitlines()) == 2
    assert Ledger(path, "another digest").open() == {}
