"""What this machine gives two processes that share nothing: the ceiling of `md_two_workers_speed`. Half a minute."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
from harness import Figure

from alloyscope.lammps import commands
from alloyscope.lammps.start import load_lammps
from alloyscope.md.build import solid_ball
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl

ATOMS, STEPS, ROUNDS = 500, 8000, 5


def run(table: Path) -> None:
    """One process: time the run loop and print its wall time."""
    parameters, rng = parameter_set("AgCo"), np.random.default_rng(0)
    lmp = load_lammps()
    types, positions = rng.integers(0, 2, ATOMS), solid_ball(ATOMS, 2.8, rng)
    commands.set_up(lmp, commands.System(parameters.elements, types, positions, table))
    lmp.commands_list(["velocity all create 300 4711", "fix motion all nve", "timestep 0.004", "run 500"])
    started = time.perf_counter()
    lmp.command(f"run {STEPS}")
    print(time.perf_counter() - started)


def wall_s(table: Path, processes: int) -> float:
    """Mean wall time of the run loops of processes that run side by side."""
    command = [sys.executable, __file__, "--table", str(table)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return float(np.mean([float(process.communicate()[0]) for process in started]))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--table", type=Path, help="run one process on this table (for the benchmark itself)")
    arguments = parser.parse_args()
    if arguments.table:
        run(arguments.table)
        return
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "AgCo.eam.fs"
        table.write_text(setfl(parameter_set("AgCo"), PotentialSection()))
        ratios = [2 * wall_s(table, 1) / wall_s(table, 2) for _ in range(ROUNDS)]
    against = f"one LAMMPS process; two side by side, {ATOMS} atoms, run loop alone"
    harness.publish("two_processes", {"two_processes_speed": Figure.median(ratios, "", against)}, arguments.out)


if __name__ == "__main__":
    harness.run(main)
