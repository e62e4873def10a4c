"""Cost of an MD step against pair style and table length: `python benchmarks/pair_style.py` (docs/decisions/0002)."""

import statistics
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

STYLES = ("eam/fs", "eam/fs/opt")
POINTS = (1000, 2000, 5000, 10000)
ATOMS = (60, 180, 400, 1000)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="paired runs of each case (default: 5)")
    arguments = parser.parse_args()
    parameters = parameter_set("AgCo")
    lmp = load_lammps()
    figures = {}
    print("atoms  n_r   eam/fs [µs/step]  eam/fs/opt [µs/step]  ratio (median of paired runs)")
    with tempfile.TemporaryDirectory() as folder:
        for n_r in POINTS:
            path = Path(folder) / f"{n_r}.eam.fs"
            path.write_text(setfl(parameters, PotentialSection(n_r=n_r)))
            for n_atoms in ATOMS:
                rng = np.random.default_rng(n_atoms)
                system = commands.System(("Ag", "Co"), rng.integers(0, 2, n_atoms), solid_ball(n_atoms, 2.8, rng), path)
                pairs = [[cost_us(lmp, system, style) for style in STYLES] for _ in range(arguments.repeats)]
                plain, opt = (statistics.median(column) for column in zip(*pairs, strict=True))
                ratio = Figure.median([second / first for first, second in pairs], "", "eam/fs, paired runs")
                figures[f"pair_style_opt_cost_{n_atoms}_atoms_{n_r}_points"] = ratio
                print(f"{n_atoms:5d} {n_r:5d} {plain:17.0f} {opt:21.0f}  {ratio.value:.2f}", flush=True)
    harness.publish("pair_style", figures, arguments.out)


def cost_us(lmp: object, system: commands.System, style: str) -> float:
    """Core time of one NVE step at 800 K [µs]."""
    commands.set_up(lmp, system)
    steps = 40_000 // len(system.types)
    lmp.commands_list(  # type: ignore[attr-defined]
        [
            f"pair_style {style}",
            f"pair_coeff * * {system.potential} {' '.join(system.species)}",
            "velocity all create 800 4711",
            "fix motion all nve",
            "timestep 0.002",
            "run 50",
        ]
    )
    started = time.process_time()
    lmp.command(f"run {steps}")  # type: ignore[attr-defined]
    return 1e6 * (time.process_time() - started) / steps


if __name__ == "__main__":
    harness.run(main)
