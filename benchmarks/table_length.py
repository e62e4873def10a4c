"""Force error and speed against the length of the table, and speed of the sets (docs/decisions/0004 and 0005).

About two minutes.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Figure

from alloyscope.lammps import commands
from alloyscope.lammps.start import load_lammps
from alloyscope.md.build import solid_ball
from alloyscope.potential.evaluate import ThroughLammps
from alloyscope.potential.sets import PotentialSection, packaged_sets, parameter_set
from alloyscope.potential.sma import energy_and_forces
from alloyscope.potential.table import setfl
from alloyscope.potential.validate import RANDOM_CLUSTERS, random_cluster

POINTS = (500, 1000, 2000, 5000, 10_000, 20_000)
ATOMS = (60, 400, 1000)
STEPS = 60_000  # atoms × steps of a timing


def steps_per_s(lmp: Any, system: commands.System) -> float:
    """Of core time, Langevin dynamics at 800 K as in the campaign."""
    commands.set_up(lmp, system)
    lmp.commands_list(
        [
            "velocity all create 800 4711",
            "fix motion all nve",
            "fix bath all langevin 800 800 1.0 815 zero yes",
            "timestep 0.004",
            "run 50",
        ]
    )
    steps = STEPS // len(system.types)
    started = time.process_time()
    lmp.command(f"run {steps}")
    return steps / (time.process_time() - started)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds over all lengths (default: 5)")
    arguments = parser.parse_args()
    parameters = parameter_set("AgCo")
    lmp = load_lammps()
    clusters = [random_cluster(parameters, 20.0, number) for number in range(RANDOM_CLUSTERS)]
    expected = [energy_and_forces(atoms, parameters)[1] for atoms in clusters]
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as folder:
        tables = {n_r: Path(folder) / f"{n_r}.eam.fs" for n_r in POINTS}
        for n_r, path in tables.items():
            path.write_text(setfl(parameters, PotentialSection(n_r=n_r)))
            table = ThroughLammps(lmp, parameters, path)
            errors = [np.abs(table(atoms, False)[1] - forces) for atoms, forces in zip(clusters, expected)]
            worst, rms = max(e.max() for e in errors), float(np.sqrt(np.mean([np.mean(e**2) for e in errors])))
            figures[f"table_force_error_{n_r}_points"] = Figure(
                float(worst), "eV/Å", f"formula; largest of 10 dense random clusters, rms {rms:.1e}", runs=len(errors)
            )
        for n_atoms in ATOMS:
            rng = np.random.default_rng(n_atoms)
            types, positions = rng.integers(0, 2, n_atoms), solid_ball(n_atoms, 2.8, rng)
            rounds = []
            for _ in range(arguments.repeats):
                rounds.append(
                    {
                        n_r: steps_per_s(lmp, commands.System(parameters.elements, types, positions, path))
                        for n_r, path in tables.items()
                    }
                )
            for n_r in POINTS:
                figures[f"table_speed_{n_atoms}_atoms_{n_r}_points"] = Figure.median(
                    [one[n_r] / one[2000] for one in rounds], "", "2000 points, same round"
                )
                rate = statistics.median(one[n_r] for one in rounds)
                print(f"{n_atoms:5d} atoms {n_r:6d} points {rate:8.0f} steps/s", flush=True)
        figures |= speed_of_sets(lmp, Path(folder), arguments.repeats)
    harness.publish("table_length", figures, arguments.out)


def speed_of_sets(lmp: Any, folder: Path, repeats: int) -> dict[str, Figure]:
    """MD speed of 400 atoms with each packaged set, against AgCo: what its cutoffs cost."""
    systems = {}
    for name in packaged_sets():
        parameters, path = parameter_set(name), folder / f"{name}.eam.fs"
        path.write_text(setfl(parameters, PotentialSection(set=name)))
        rng = np.random.default_rng(400)
        nearest_A = float(np.mean([pair.r0_A for pair in parameters.pairs.values()]))
        types, positions = rng.integers(0, 2, 400), solid_ball(400, nearest_A, rng)
        systems[name] = commands.System(parameters.elements, types, positions, path)
    rounds = [{name: steps_per_s(lmp, system) for name, system in systems.items()} for _ in range(repeats)]
    return {
        f"set_speed_{name}_400_atoms": Figure.median(
            [one[name] / one["AgCo"] for one in rounds], "", "set AgCo, same round"
        )
        for name in systems
    }


if __name__ == "__main__":
    harness.run(main)
