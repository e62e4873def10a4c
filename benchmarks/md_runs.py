"""Runs of planned particles, ours and the plain way, with what each cost."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import md_plain
import psutil

from alloyscope.campaign.particles import planned_particle
from alloyscope.config.model import Config, ParticlesSection
from alloyscope.contracts import Particle
from alloyscope.errors import SimulationError
from alloyscope.lammps.commands import Segment, Simulation, Trajectory
from alloyscope.lammps.pool import RunFailure, WorkerPool
from alloyscope.md.checks import verdict
from alloyscope.md.simulation import simulation
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.progress import log
from alloyscope.stages.md import snapshots
from alloyscope.store.structures import to_text

PLAIN_TIMESTEP_fs = 1.0
PLAIN_POINTS = 10_000
PLAIN_SKIN_A = 2.0  # LAMMPS's default in metal units; the plain script does not set it


@dataclass(frozen=True)
class Workplace:
    """What all runs have in common.

    Attributes:
        config: The campaign; `particles.n_atoms` is the range that is measured.
        folder: For input and output of `lmp`.
        table, long_table: The campaign's potential, and the one of PLAIN_POINTS points.
    """

    config: Config
    folder: Path
    table: Path
    long_table: Path

    @classmethod
    def make(cls, config: Config, folder: Path) -> "Workplace":
        parameters = parameter_set(config.potential.set)
        made = cls(config, folder, folder / "campaign.eam.fs", folder / "long.eam.fs")
        made.table.write_text(setfl(parameters, config.potential))
        long = PotentialSection.model_validate(config.potential.model_dump() | {"n_r": PLAIN_POINTS})
        made.long_table.write_text(setfl(parameters, long))
        return made

    def simulation(self, planned: Particle) -> Simulation:
        """First attempt of a particle, one snapshot."""
        md = self.config.md.model_copy(update={"snapshots": 1})
        parameters = parameter_set(self.config.potential.set)
        return simulation(planned, md, parameters, self.table, self.config.campaign.seed, 0)

    def neighbours(self, run: Simulation) -> tuple[str, ...]:
        """The commands of `commands.set_up`."""
        return (f"neighbor {run.system.skin_A} bin", "neigh_modify every 1 delay 2 check yes")

    def with_table(self, run: Simulation) -> Simulation:
        return replace(run, system=replace(run.system, potential=self.long_table))

    def plain(self, run: Simulation, holds: int) -> Trajectory:
        """Everything put back: `seconds` is the whole core time."""
        put_back = self.with_table(md_plain.at_timestep(run, PLAIN_TIMESTEP_fs))
        return md_plain.simulate(put_back, holds, self.folder / "plain").trajectory

    def lmp(self, run: Simulation, holds: int, ingredient: str | None = None) -> Trajectory:
        """Our settings run by `lmp`, with one ingredient put back."""
        neighbours = () if ingredient == "skin" else self.neighbours(run)
        if ingredient == "timestep":
            run = md_plain.at_timestep(run, PLAIN_TIMESTEP_fs)
        if ingredient == "table":
            run = self.with_table(run)
        return md_plain.simulate(run, holds, self.folder / "plain", neighbours).trajectory

    def fault(self, found: Trajectory) -> str | None:
        """Why a run cannot be used, by the campaign's own verdict."""
        md = self.config.md
        return verdict(
            snapshots_A=found.positions_A,
            energies_eV=found.potential_energy_eV,
            temperature_K=found.temperature_K,
            target_K=md.final_K,
            sampled_ps=md.thermalise_ps,
            damp_ps=md.damp_ps,
            min_cluster_fraction=md.min_cluster_fraction,
        )


@dataclass
class Ours:
    """The package's way: one worker process for all particles.

    Attributes:
        start_s: Core time of starting the worker, and as much again for the step's own process, which imports the
            same; shared by the particles of a chunk.
    """

    place: Workplace
    pool: WorkerPool
    start_s: float = 0.0

    def start(self, planned: Particle) -> None:
        """Start the worker with a run of one step."""
        before = tree_core_s()
        run = self.place.simulation(planned)
        one_step = Segment(300.0, 300.0, 1e-3, 1.0, run.segments[0].wall_radius_A)
        self._trajectory(replace(run, segments=(one_step,), sampling=replace(one_step, duration_ps=0.01)))
        self.start_s = 2 * (tree_core_s() - before)

    def run(self, planned: Particle) -> tuple[Trajectory, float]:
        """Trajectory, and the core time of everything that the md step does for a particle."""
        before = tree_core_s()
        found = self._trajectory(self.place.simulation(planned))
        self.place.fault(found)
        to_text(snapshots(planned, found))
        return found, tree_core_s() - before + self.start_s / self.place.config.md.particles_per_chunk

    def _trajectory(self, run: Simulation) -> Trajectory:
        self.pool.submit(0, run)
        outcome = self.pool.next_outcome()[1]
        if isinstance(outcome, RunFailure):
            raise SimulationError(f"{outcome.kind}: {outcome.reason}")
        return outcome


def tree_core_s() -> float:
    """Core time of this process and of its children, the ended ones too [s]."""
    here = psutil.Process()
    own = here.cpu_times()
    children = [child.cpu_times() for child in here.children()]
    return float(sum(own[:4]) + sum(times.user + times.system for times in children))


@dataclass(frozen=True)
class Pair:
    """One particle both ways."""

    particle: Particle
    ours: Trajectory
    plain: Trajectory
    ours_core_s: float

    @property
    def plain_core_s(self) -> float:
        return self.plain.seconds

    @property
    def ratio(self) -> float:
        return self.plain_core_s / self.ours_core_s


def pick(
    section: ParticlesSection, seed: int, edges: Sequence[float], per_cell: int, without: set[int]
) -> list[Particle]:
    """The first planned particles in each cell of protocol and size, `edges[i] ≤ N < edges[i + 1]`."""
    protocols = [protocol for protocol, weight in section.protocols.items() if weight > 0]
    found: dict[tuple[str, int], list[Particle]] = {
        (protocol, cell): [] for cell in range(len(edges) - 1) for protocol in protocols
    }
    number = 0
    while any(len(cell) < per_cell for cell in found.values()):
        planned = planned_particle(number, section, seed)
        for (protocol, cell), members in found.items():
            inside = edges[cell] <= planned.n_atoms < edges[cell + 1] and planned.protocol == protocol
            if inside and len(members) < per_cell and number not in without:
                members.append(planned)
        number += 1
    return [planned for members in found.values() for planned in members]


def pairs(ours: Ours, chosen: Sequence[Particle], twice: bool) -> Iterator[Pair]:
    """Run particles both ways; one that LAMMPS refuses is left out."""
    for done, planned in enumerate(chosen, start=1):
        try:
            found, first_s = ours.run(planned)
            run = ours.place.simulation(planned)
            plain = ours.place.plain(run, md_plain.holds_taken(run, found.steps))
            spent = statistics.fmean((first_s, ours.run(planned)[1])) if twice else first_s
        except SimulationError as error:
            log(f"particle {planned.number} is left out: {error}")
            continue
        pair = Pair(planned, found, plain, spent)
        log(
            f"pair {done} of {len(chosen)}: {planned.protocol}, {planned.n_atoms} atoms: ours {spent:.1f} s, "
            f"plain {plain.seconds:.1f} s, ratio {pair.ratio:.2f}"
        )
        yield pair
