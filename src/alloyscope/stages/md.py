"""Run the molecular dynamics of one md chunk: worker processes simulate its particles with LAMMPS.

Writes the ledger chunk-N.ledger.jsonl, chunk-N.extxyz and, last, the manifest. When the stage is killed and started
again, only the particles that were running are simulated again. When the worker of a particle is killed, the particle
is run again with the same seed, so that its result is the same; after several such kills the stage ends with an error.
A particle that fails is tried again with a new seed, and is in the end recorded as failed with its reason.
"""

import argparse
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from alloyscope.campaign.particles import planned_particle
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import RECIPES
from alloyscope.config.model import MdSection, ParticlesSection
from alloyscope.contracts import Particle, Structure
from alloyscope.errors import ConfigError, SimulationError, at_particle
from alloyscope.ids import chunk_name, particle_id
from alloyscope.lammps.commands import Segment, Simulation, System, Trajectory
from alloyscope.lammps.pool import RunFailure, WorkerPool
from alloyscope.md.checks import largest_cluster, verdict
from alloyscope.md.simulation import simulation
from alloyscope.potential.sets import ParameterSet, parameter_set
from alloyscope.progress import log, progress
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import checksum, digest, write_text
from alloyscope.store.ledger import Entry, Ledger
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import to_text

# How often an attempt is run again, with the same seed, after a failure that is not a property of the particle.
# ASSUME random kills do not hit one particle four times; a lack of memory does, and is not a property of it either
REPEATS = {"killed": 3, "hang": 1}


@dataclass(frozen=True)
class Trial:
    """State of one particle in the queue."""

    particle: Particle
    attempt: int = 0
    ended: tuple[str, ...] = ()  # kinds of failure after which this attempt was repeated
    seconds: float = 0.0
    reasons: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class ChunkSettings:
    """Settings that all particles of a chunk share."""

    md: MdSection
    wall_limit_s: float
    parameters: ParameterSet
    potential: Path
    seed: int

    def entries(self, particles: list[Particle], workers: int) -> Iterator[Entry]:
        """Simulate particles; yield each when it is valid or has used up its attempts."""
        waiting = deque(Trial(planned) for planned in particles)
        running: dict[int, Trial] = {}
        with WorkerPool(workers, self.wall_limit_s) as pool:
            if waiting:
                self._probe(pool)
                log(f"LAMMPS runs; {len(waiting)} particles to simulate on {workers} cores")
            while waiting or running:
                while waiting and pool.busy < workers:
                    trial = waiting.popleft()
                    running[trial.particle.number] = trial
                    with at_particle(trial.particle.number):
                        prepared = simulation(
                            trial.particle, self.md, self.parameters, self.potential, self.seed, trial.attempt
                        )
                    pool.submit(trial.particle.number, prepared)
                number, outcome = pool.next_outcome()
                with at_particle(number):
                    result = self._judge(running.pop(number), outcome)
                if isinstance(result, Trial):
                    waiting.append(result)
                else:
                    yield result

    def _probe(self, pool: WorkerPool) -> None:
        """Run eight atoms for ten timesteps: a broken LAMMPS or table must stop the stage, not use up all attempts."""
        element = self.parameters.elements[0]
        r0_A = self.parameters.pair(element, element).r0_A
        cube = r0_A * np.stack(np.meshgrid(*[[0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
        system = System((element,), np.zeros(8, dtype=np.int64), cube, self.potential)
        segment = Segment(self.md.final_K, self.md.final_K, 0.01, 1.0, 20.0)
        probe = Simulation(system, (segment,), segment, 1, 1.0, seed=1, damp_ps=self.md.damp_ps)
        for _ in range(1 + REPEATS["killed"]):
            pool.submit(-1, probe)
            outcome = pool.next_outcome()[1]
            if isinstance(outcome, Trajectory):
                return
            failure = outcome
            if failure.kind != "killed":
                break
        raise SimulationError(
            f"LAMMPS cannot run with {self.potential} ({failure.kind}: {failure.reason}); "
            f"check LAMMPS with alloyscope doctor; if the table is damaged, delete it and run snakemake again"
        )

    def _judge(self, trial: Trial, outcome: Trajectory | RunFailure) -> Entry | Trial:
        if isinstance(outcome, RunFailure):
            reason, seconds = f"{outcome.kind}: {outcome.reason}", trial.seconds
            if trial.ended.count(outcome.kind) < REPEATS.get(outcome.kind, 0):
                log(f"{particle_id(trial.particle.number)}: {reason}; repeated with the same seed")
                return replace(trial, ended=(*trial.ended, outcome.kind))
            if outcome.kind == "killed":
                raise SimulationError(
                    f"{reason}, {REPEATS['killed'] + 1} times over: the workers are killed, most likely for lack of "
                    f"memory; give the job more memory and run snakemake again; finished particles are kept"
                )
        else:
            seconds = trial.seconds + outcome.seconds
            found = verdict(
                snapshots_A=outcome.positions_A,
                energies_eV=outcome.potential_energy_eV,
                temperature_K=outcome.temperature_K,
                target_K=self.md.final_K,
                sampled_ps=self.md.thermalise_ps,
                damp_ps=self.md.damp_ps,
                min_cluster_fraction=self.md.min_cluster_fraction,
            )
            if found is None:
                slot = Slot(trial.particle.number, True, None, trial.attempt + 1, round(seconds, 3))
                return Entry(slot, to_text(snapshots(trial.particle, outcome)))
            reason = found
        log(f"{particle_id(trial.particle.number)}: attempt {trial.attempt + 1}: {reason}")
        reasons = (*trial.reasons, reason)
        if trial.attempt + 1 < self.md.max_attempts:
            return Trial(trial.particle, trial.attempt + 1, (), seconds, reasons)
        slot = Slot(trial.particle.number, False, reasons[-1], trial.attempt + 1, round(seconds, 3))
        return Entry(slot)


def snapshots(planned: Particle, trajectory: Trajectory) -> Iterator[Structure]:
    """Yield the particle in each snapshot: its largest cluster, centred; evaporated atoms are left out."""
    for number, (positions_A, energy_eV) in enumerate(
        zip(trajectory.positions_A, trajectory.potential_energy_eV, strict=True)
    ):
        kept = largest_cluster(positions_A)
        elements = tuple(element for element, inside in zip(planned.elements, kept, strict=True) if inside)
        info = {
            "particle": planned.number,
            "protocol": planned.protocol,
            "snapshot": number,
            "n_atoms": len(elements),
            "potential_energy_eV": round(float(energy_eV), 6),
            "temperature_K": round(trajectory.temperature_K, 3),
        }
        yield Structure(elements, positions_A[kept] - positions_A[kept].mean(axis=0), info)


def run(
    *,
    chunk: int,
    first: int,
    count: int,
    seed: int,
    particles: ParticlesSection,
    md: MdSection,
    potential_set: str,
    potential: Path,
    workers: int,
    manifest: Path,
    wall_limit_s: float | None = None,
) -> None:
    watch = Stopwatch("md")
    if manifest.name != manifest_name(chunk):
        raise SimulationError(f"--manifest must end in {manifest_name(chunk)} for chunk {chunk}; got {manifest.name}")
    made_from = digest(md.as_json(), particles.as_json(), checksum(potential), str(seed), str(RECIPES["md"]))
    stem = manifest.with_suffix("")
    structures = stem.with_suffix(".extxyz")
    ledger = Ledger(stem.with_suffix(".ledger.jsonl"), made_from)
    entries = ledger.open()
    wanted = range(first, first + count)
    todo = [planned_particle(number, particles, seed) for number in wanted if number not in entries]
    if len(todo) < count:
        log(f"chunk {chunk_name(chunk)}: {count - len(todo)} of {count} particles are in the ledger")
    parameters = parameter_set(potential_set)
    if missing := set(particles.species) - set(parameters.elements):
        raise ConfigError(
            f"particles.species: {', '.join(sorted(missing))} not in --potential-set {potential_set}; "
            f"it has {', '.join(parameters.elements)}"
        )
    source = ChunkSettings(md, wall_limit_s or md.wall_limit_s, parameters, potential, seed)
    for entry in progress(source.entries(todo, workers), len(todo), f"md {chunk_name(chunk)}, particles"):
        ledger.append(entry)
        entries[entry.slot.particle] = entry
    done = [entries[number] for number in wanted]
    write_text(structures, "".join(entry.xyz for entry in done))
    slots = tuple(entry.slot for entry in done)
    failures = Counter(slot.reason for slot in slots if not slot.valid)
    Manifest(
        stage="md",
        chunk=chunk,
        digest=made_from,
        settings=made_from,
        slots=slots,
        files={structures.name: checksum(structures)},
        counts={"particles": count, "valid": sum(slot.valid for slot in slots), "failed": failures.total()},
        provenance=watch.record() | {"sections": {"md": md.model_dump(), "particles": particles.model_dump()}},
    ).write(manifest)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunk", type=int, required=True, metavar="N", help="chunk number")
    parser.add_argument("--first", type=int, required=True, metavar="N", help="number of its first particle")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="particles in the chunk")
    parser.add_argument("--seed", type=int, required=True, metavar="N", help="seed of the campaign")
    add_section(parser, "particles", ParticlesSection)
    add_section(parser, "md", MdSection)
    parser.add_argument("--potential-set", required=True, metavar="SET", help="parameter set, for start distances")
    parser.add_argument("--potential", type=Path, required=True, metavar="FILE", help="eam/fs table")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes, one core each")
    parser.add_argument(
        "--wall-limit-s",
        type=float,
        metavar="S",
        help="time after which a particle's run counts as hung (default: md.wall_limit_s)",
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="manifest to write, last")
