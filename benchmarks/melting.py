"""Melting of the pure elements of a parameter set: bulk by coexistence, a particle by its caloric curve.

Bulk: half of a periodic crystal is melted; at constant enthalpy and no pressure the two phases settle at the melting
temperature (Morris et al., PRB 49, 3109 (1994)). Particle: a cuboctahedron of 561 atoms heated at a constant rate; it
melts where its energy rises most steeply. Cooled at the same rate most stay liquid far below: see melting.svg. About
five minutes an element on one core.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
from ase.build import bulk
from harness import Figure
from matplotlib import pyplot
from numpy.typing import NDArray

from alloyscope.errors import SimulationError
from alloyscope.lammps import commands
from alloyscope.lammps.start import load_lammps
from alloyscope.potential.sets import ParameterSet, PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.potential.validate import ideal_cluster

EXPERIMENT_K = {"Ag": 1235, "Co": 1768, "Au": 1337, "Cu": 1358}  # docs/physics.md §1
CELLS = (5, 5, 16)  # fcc cells: 1600 atoms, longest across the two interfaces
RUNS = 3
MOST_RUNS = 12
RANGE = (0.7, 1.1)  # of the experimental temperature, where the bulk's is sought
TIMESTEP_ps = 0.003  # drift below 1 meV/atom/10 ps up to 2000 K (tests/physics/test_md.py)
WINDOW_K = 20.0  # of the caloric curve


@dataclass(frozen=True)
class Element:
    symbol: str
    parameters: ParameterSet
    table: Path

    def system(self, positions: NDArray[np.float64], cell_A: tuple[float, float, float] | None) -> commands.System:
        types = np.zeros(len(positions), dtype=np.int64)
        return commands.System((self.symbol,), types, positions, self.table, cell_A=cell_A)


def order(positions: NDArray[np.float64], lattice_A: float) -> float:
    """|⟨exp(i 4π x / a)⟩| averaged over x and y: near 1 in a crystal, near 0 in a liquid."""
    waves = np.exp(4j * np.pi * positions[:, :2] / lattice_A)
    return float(np.abs(waves.mean(axis=0)).mean())


def coexistence_K(lmp: Any, element: Element, guess_K: float, seed: int, hold_ps: float) -> float:
    """Temperature at which crystal and melt live side by side; NaN if one has eaten the other."""
    lattice_A = np.sqrt(2) * element.parameters.pair(element.symbol, element.symbol).r0_A
    crystal = bulk(element.symbol, "fcc", a=1.01 * lattice_A, cubic=True).repeat(CELLS)
    x, y, z = crystal.cell.lengths()
    commands.set_up(lmp, element.system(crystal.positions, (x, y, z)))

    def steps(duration_ps: float) -> str:
        return f"run {round(duration_ps / TIMESTEP_ps)}"

    lmp.commands_list(
        [
            f"timestep {TIMESTEP_ps}",
            f"velocity all create {2 * guess_K} {seed}",
            f"fix warm all npt temp {guess_K} {guess_K} 0.1 aniso 0 0 1.0",
            steps(10),
            "unfix warm",
            f"region upper block INF INF INF INF {z / 2} INF",
            "group upper region upper",
            "fix move upper nve",
            f"fix melt upper langevin {2 * guess_K} {2 * guess_K} 0.1 {seed + 1}",
            steps(10),
            f"fix melt upper langevin {guess_K} {guess_K} 0.1 {seed + 2}",
            steps(6),
            "unfix melt",
            "unfix move",
            f"velocity all create {guess_K} {seed + 3} mom yes",
            # across the interfaces only: the melt's pressure would tear the crystal's lattice constant along
            f"fix settle all npt temp {guess_K} {guess_K} 0.1 z 0 0 1.0",
            steps(6),
            "unfix settle",
            "fix free all nph z 0 0 1.0",
            steps(hold_ps / 2),
            "reset_timestep 0",
            f"fix mean all ave/time 10 {round(hold_ps / 2 / TIMESTEP_ps) // 10} "
            f"{round(hold_ps / 2 / TIMESTEP_ps) // 10 * 10} c_thermo_temp",
            steps(hold_ps / 2),
        ]
    )
    temperature_K = float(lmp.extract_fix("mean", 0, 0))
    positions = commands.positions_of(lmp)
    low, high = lmp.extract_box()[:2]
    spacing_A = (high[0] - low[0]) / CELLS[0]
    depth = (positions[:, 2] - low[2]) / (high[2] - low[2])
    solid = order(positions[np.abs(depth - 0.25) < 0.1], spacing_A)
    liquid = order(positions[np.abs(depth - 0.75) < 0.1], spacing_A)
    print(
        f"  {element.symbol} from {guess_K:.0f} K: {temperature_K:.0f} K, order {solid:.2f} | {liquid:.2f}", flush=True
    )
    return temperature_K if solid > 0.4 > 0.25 > liquid else float("nan")


def bulk_melting(lmp: Any, element: Element, hold_ps: float) -> Figure:
    """Halve the range until both phases live, then repeat from the temperature found."""
    low_K, high_K = (share * EXPERIMENT_K[element.symbol] for share in RANGE)
    found: list[float] = []
    guess_K = (low_K + high_K) / 2
    for attempt in range(MOST_RUNS):
        temperature_K = coexistence_K(lmp, element, guess_K, 4711 + 100 * attempt, hold_ps)
        if np.isfinite(temperature_K):
            found.append(temperature_K)
            guess_K = temperature_K
        elif not found:
            low_K, high_K = (guess_K, high_K) if frozen(lmp) else (low_K, guess_K)
            guess_K = (low_K + high_K) / 2
        if len(found) == RUNS + 1:
            break
    if len(found) < 2:
        raise SimulationError(f"{element.symbol}: no lasting coexistence in {MOST_RUNS} runs; make CELLS larger")
    # the first still carries the guess
    return Figure.median(found[1:], "K", f"coexistence; experiment {EXPERIMENT_K[element.symbol]} K [memory]")


def frozen(lmp: Any) -> bool:
    """Whether the whole box is a crystal."""
    low, high = lmp.extract_box()[:2]
    return order(commands.positions_of(lmp), (high[0] - low[0]) / CELLS[0]) > 0.4


def caloric_curve(
    lmp: Any, element: Element, start_K: float, stop_K: float, rate_K_per_ps: float
) -> NDArray[np.float64]:
    """Temperature [K] and energy per atom [eV] in windows, first heating then cooling, shape (windows, 2)."""
    atoms = ideal_cluster(f"{element.symbol}561 cuboctahedron", element.parameters)
    commands.set_up(lmp, element.system(atoms.positions, None))
    radius_A = float(np.linalg.norm(atoms.positions, axis=1).max()) + 8.0
    samples = round(WINDOW_K / rate_K_per_ps / TIMESTEP_ps) // 10
    lmp.commands_list(
        [
            f"timestep {TIMESTEP_ps}",
            f"fix wall all indent {commands.WALL_eV_per_A3} sphere 0 0 0 {radius_A} side in",
            f"velocity all create {start_K} 4711 mom yes rot yes",
            "fix motion all nve",
            "reset_timestep 0",
            f"fix mean all ave/time 10 {samples} {10 * samples} c_thermo_temp c_thermo_pe",
        ]
    )
    points = []
    edges = np.arange(start_K, stop_K + 1, WINDOW_K)
    for number, (first_K, last_K) in enumerate(zip([*edges[:-1], *edges[:0:-1]], [*edges[1:], *edges[-2::-1]])):
        lmp.command(f"fix bath all langevin {first_K} {last_K} 0.5 {815 + number} zero yes")
        lmp.command(f"run {10 * samples}")
        points.append((lmp.extract_fix("mean", 0, 1, 0), lmp.extract_fix("mean", 0, 1, 1) / len(atoms)))
    return np.array(points)


def steepest_K(curve: NDArray[np.float64]) -> float:
    """Temperature of the steepest rise of the energy, smoothed over three windows."""
    energy = np.convolve(curve[:, 1], np.ones(3) / 3, "valid")
    steepest = int(np.argmax(np.abs(np.diff(energy))))
    return float(curve[steepest + 1 : steepest + 3, 0].mean())


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=["AgCo", "AuCu"], metavar="SET")
    parser.add_argument("--hold-ps", type=float, default=30, help="length of a coexistence run (default: 30)")
    parser.add_argument("--rate", type=float, default=4, help="heating and cooling rate [K/ps] (default: 4)")
    arguments = parser.parse_args()
    lmp = load_lammps()
    figures: dict[str, Figure] = {}
    plot, panels = pyplot.subplots(1, len(arguments.sets), figsize=(4.2 * len(arguments.sets), 3.4), squeeze=False)
    with tempfile.TemporaryDirectory() as folder:
        for axes, name in zip(panels[0], arguments.sets):
            parameters, table = parameter_set(name), Path(folder) / f"{name}.eam.fs"
            table.write_text(setfl(parameters, PotentialSection(set=name)))
            for symbol in parameters.elements:
                element = Element(symbol, parameters, table)
                melted = bulk_melting(lmp, element, arguments.hold_ps)
                figures[f"melting_{name}_{symbol}_bulk_K"] = melted
                top_K = WINDOW_K * round(1.15 * melted.value / WINDOW_K)
                curve = caloric_curve(lmp, element, 0.5 * top_K, top_K, arguments.rate)
                heating, cooling = np.split(curve, 2)
                against = f"561 atoms, {arguments.rate:g} K/ps"
                figures[f"melting_{name}_{symbol}_561_heating_K"] = Figure(steepest_K(heating), "K", against)
                (line,) = axes.plot(heating[:, 0], heating[:, 1] - heating[0, 1], label=f"{symbol} heated")
                axes.plot(
                    cooling[:, 0], cooling[:, 1] - heating[0, 1], ":", color=line.get_color(), label=f"{symbol} cooled"
                )
                axes.axvline(melted.value, color=line.get_color(), linewidth=0.8, linestyle="--")
                print(harness.table(figures), flush=True)
            axes.set(title=f"{name}, 561 atoms (bulk dashed)", xlabel="Temperature (K)", ylabel="Energy (eV/atom)")
            axes.legend()
    harness.publish("melting", figures, arguments.out)
    plot.tight_layout()
    plot.savefig(arguments.out / "melting.svg")


if __name__ == "__main__":
    harness.run(main)
