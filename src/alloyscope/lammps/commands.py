"""LAMMPS commands that load a system, run a simulation, and compute energies and neighbourhoods."""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alloyscope.errors import ConfigError
from alloyscope.units import ATOMIC_MASS_u

Positions = NDArray[np.float64]  # (n, 3), Å
Types = NDArray[np.int64]  # (n,), index into Simulation.species

SAMPLE_EVERY = 10  # timesteps between temperature samples
WALL_eV_per_A3 = 10.0  # ASSUME stiff enough: an atom of 5 eV (far above kT at 7500 K) enters the wall by 1.1 Å


@dataclass(frozen=True)
class Segment:
    """A segment of Langevin dynamics.

    Attributes:
        start_K, stop_K: Temperature of the thermostat, ramped linearly.
        duration_ps: Duration, rounded to whole timesteps.
        timestep_fs: Timestep of the integration.
        wall_radius_A: Radius of the confining sphere around the origin.
        rearrange: Function that moves the atoms before the segment starts: (positions, types) → positions.
        done: Function of the positions after the segment; the segment is repeated while it returns False.
        max_repeats: Largest number of repetitions.
    """

    start_K: float
    stop_K: float
    duration_ps: float
    timestep_fs: float
    wall_radius_A: float
    rearrange: Callable[[Positions, Types], Positions] | None = None
    done: Callable[[Positions], bool] | None = None
    max_repeats: int = 0

    @property
    def steps(self) -> int:
        return max(1, round(1e3 * self.duration_ps / self.timestep_fs))


@dataclass(frozen=True)
class System:
    """A free cluster or, with a cell, a crystal, and its potential.

    Attributes:
        species: Chemical symbols in the order of atom types.
        types: Index into species of each atom, shape (n,).
        positions_A: Positions, shape (n, 3); those of a crystal lie inside its cell.
        potential: eam/fs table.
        skin_A: Skin of the neighbour lists.
        cell_A: Edges of a periodic box that begins at the origin.
    """

    species: tuple[str, ...]
    types: Types
    positions_A: Positions
    potential: Path
    skin_A: float = 1.0
    cell_A: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        path = str(self.potential)
        if '"' in path or not path.isprintable():  # the path becomes part of a LAMMPS command
            raise ConfigError(f"potential: the path must hold no double quotes or line breaks; got {path!r}; rename it")


@dataclass(frozen=True)
class Simulation:
    """One run from start positions to snapshots.

    Attributes:
        system: The simulated system.
        segments: Segments, run in order; velocities are drawn at the start temperature of the first one.
        sampling: Segment after the others, over which the temperature is averaged.
        snapshots: Number of frames, taken `spacing_ps` apart from the end of sampling on.
    """

    system: System
    segments: tuple[Segment, ...]
    sampling: Segment
    snapshots: int
    spacing_ps: float
    seed: int
    damp_ps: float


@dataclass(frozen=True)
class Trajectory:
    """Result of a finished run.

    Attributes:
        positions_A: Positions of the snapshots, shape (snapshots, n, 3).
        potential_energy_eV: Energy of each snapshot, shape (snapshots,).
        temperature_K: Mean over the sampling segment, with 3n − 3 degrees of freedom.
        steps: Number of MD timesteps.
        seconds: Core time inside LAMMPS's run loop.
    """

    positions_A: NDArray[np.float64]
    potential_energy_eV: NDArray[np.float64]
    temperature_K: float
    steps: int
    seconds: float


def set_up(lmp: Any, system: System) -> None:
    """Clear the instance and load a system; its atoms get the ids 1 to n, in order."""
    lmp.command("clear")
    half = float(np.abs(system.positions_A).max()) + 5.0
    edges = [(0.0, edge) for edge in system.cell_A] if system.cell_A else [(-half, half)] * 3
    lmp.commands_list(
        [
            "units metal",
            "atom_style atomic",
            "atom_modify map array",
            "boundary p p p" if system.cell_A else "boundary s s s",
            f"region box block {' '.join(f'{low} {high}' for low, high in edges)}",
            f"create_box {len(system.species)} box",
        ]
    )
    n_atoms = len(system.types)
    lmp.create_atoms(n_atoms, None, (system.types + 1).tolist(), system.positions_A.ravel().tolist())
    if lmp.get_natoms() != n_atoms:
        raise RuntimeError(f"LAMMPS took {lmp.get_natoms()} of {n_atoms} atoms")
    lmp.commands_list(
        [
            *(f"mass {i} {ATOMIC_MASS_u[element]}" for i, element in enumerate(system.species, start=1)),
            "pair_style eam/fs",  # docs/decisions/0002: eam/fs/opt refills its tables at every timestep
            f'pair_coeff * * "{system.potential}" {" ".join(system.species)}',
            # LAMMPS cannot bin a box that is much smaller than the cutoff.
            f"neighbor {system.skin_A} {'nsq' if n_atoms < 13 and not system.cell_A else 'bin'}",
            "neigh_modify every 1 delay 2 check yes",
            "thermo 1000",
        ]
    )


def positions_of(lmp: Any) -> Positions:
    """Positions in the order in which the atoms were created, shape (n, 3)."""
    return np.array(lmp.gather_atoms("x", 1, 3), dtype=np.float64).reshape(-1, 3)


def set_positions(lmp: Any, positions_A: Positions) -> None:
    """Set the positions of all atoms, shape (n, 3), in the order in which the atoms were created."""
    flat = np.ascontiguousarray(positions_A).ravel()
    lmp.scatter_atoms("x", 1, 3, (ctypes.c_double * len(flat))(*flat))


@dataclass
class _Clock:
    steps: int = 0
    seconds: float = 0.0

    def run(self, lmp: Any, steps: int) -> None:
        started = time.process_time()
        lmp.command(f"run {steps}")
        self.seconds += time.process_time() - started
        self.steps += steps


def _run_segment(lmp: Any, run: Simulation, segment: Segment, number: int, clock: _Clock) -> None:
    if segment.rearrange is not None:
        set_positions(lmp, segment.rearrange(positions_of(lmp), run.system.types))
    lmp.commands_list(
        [
            f"timestep {1e-3 * segment.timestep_fs}",
            f"fix wall all indent {WALL_eV_per_A3} sphere 0 0 0 {segment.wall_radius_A} side in",
        ]
    )
    for repeat in range(segment.max_repeats + 1):
        # Each segment and each repetition has its own Langevin seed, so that no noise is used twice.
        seed = run.seed + 1000 * number + repeat
        lmp.command(f"fix bath all langevin {segment.start_K} {segment.stop_K} {run.damp_ps} {seed} zero yes")
        clock.run(lmp, segment.steps)
        if segment.done is None or segment.done(positions_of(lmp)):
            break


def simulate(lmp: Any, run: Simulation) -> Trajectory:
    """Run a simulation in a given LAMMPS instance."""
    set_up(lmp, run.system)
    lmp.command(f"velocity all create {run.segments[0].start_K} {run.seed} mom yes rot yes dist gaussian")
    lmp.command("fix motion all nve")
    clock = _Clock()
    for number, segment in enumerate(run.segments, start=1):
        _run_segment(lmp, run, segment, number, clock)
    samples = run.sampling.steps // SAMPLE_EVERY
    lmp.command("reset_timestep 0")  # ave/time counts from timestep 0
    lmp.command(f"fix mean all ave/time {SAMPLE_EVERY} {samples} {SAMPLE_EVERY * samples} c_thermo_temp")
    _run_segment(lmp, run, run.sampling, len(run.segments) + 1, clock)
    temperature_K = float(lmp.extract_fix("mean", 0, 0))
    lmp.command("unfix mean")
    frames, energies = [positions_of(lmp)], [lmp.get_thermo("pe")]
    for _ in range(run.snapshots - 1):
        clock.run(lmp, max(1, round(1e3 * run.spacing_ps / run.sampling.timestep_fs)))
        frames.append(positions_of(lmp))
        energies.append(lmp.get_thermo("pe"))
    return Trajectory(np.stack(frames), np.array(energies), temperature_K, clock.steps, clock.seconds)


def energy_and_forces(lmp: Any, system: System, relax: bool = False) -> tuple[float, Positions]:
    """Potential energy [eV] and forces [eV/Å], shape (n, 3), of a system, which is relaxed first if `relax`."""
    set_up(lmp, system)
    if relax:
        lmp.command("min_style cg")
        lmp.command("minimize 0 1e-6 5000 50000")
    return energy_of_state(lmp)


def energy_of_state(lmp: Any) -> tuple[float, Positions]:
    """Potential energy [eV] and forces [eV/Å], shape (n, 3), of the loaded system."""
    lmp.command("run 0")
    return float(lmp.get_thermo("pe")), np.array(lmp.gather_atoms("f", 1, 3), dtype=np.float64).reshape(-1, 3)


def neighbourhoods(lmp: Any, cutoff_A: float) -> tuple[Types, Types]:
    """Common-neighbour pattern and coordination of every atom of the loaded system, shape (n,) each.

    The pattern is the number of `compute cna/atom`: 1 fcc, 2 hcp, 3 bcc, 4 icosahedral, 5 none of them.
    """
    lmp.command(f"compute pattern all cna/atom {cutoff_A}")
    lmp.command(f"compute coordination all coord/atom cutoff {cutoff_A}")
    lmp.command("run 0")
    pattern, coordination = (np.array(lmp.gather(f"c_{name}", 1, 1)) for name in ("pattern", "coordination"))
    return pattern.astype(np.int64), coordination.astype(np.int64)
