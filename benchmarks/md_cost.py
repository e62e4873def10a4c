"""Cost of molecular dynamics: this package against a fresh `lmp` per particle with usual settings.

Both follow the same thermal history of the same planned particles. The plain way is a process and an input script per
particle (`md_plain.py`), a table of 10 000 points, LAMMPS's default neighbour lists (skin 2 Å) and 1 fs throughout;
both use `eam/fs`. Each particle runs ours, plain, ours, on one core, and the two of ours are averaged, so a machine
that grows slower or faster favours neither. Core-seconds count everything a particle takes: processes with their
start, input, start-up of LAMMPS, checks. A stage held until one cluster is left is held in the plain way as often as
in ours.

The ingredients are put back one at a time, all run by `lmp`; the process is ours by `lmp` against ours. Relaxed
energies and order of both ways are compared over all pairs.

Short form: python benchmarks/md_cost.py --cost 2 --small 4 --ingredients 1 --atoms 60 100
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import harness
import md_agreement
import md_law
import md_plain
import numpy as np
from campaign_command import command_of
from harness import Figure
from md_runs import PLAIN_POINTS, PLAIN_SKIN_A, Ours, Pair, PLAIN_TIMESTEP_fs, Workplace, pairs, pick

from alloyscope.campaign.folder import read_campaign
from alloyscope.config.model import Config, ParticlesSection
from alloyscope.config.read import load
from alloyscope.errors import SimulationError
from alloyscope.lammps.pool import WorkerPool
from alloyscope.lammps.start import load_lammps
from alloyscope.progress import log
from alloyscope.stages.md import snapshots
from alloyscope.store.atomic import digest

INGREDIENTS = ("timestep", "table", "skin")


def cost_figures(found: Sequence[Pair]) -> dict[str, Figure]:
    """Plain over ours, of pairs that ran on one core in turn."""
    against = f"a fresh lmp per particle, {PLAIN_POINTS} points, skin {PLAIN_SKIN_A:g} Å, {PLAIN_TIMESTEP_fs:g} fs"
    total = sum(pair.plain_core_s for pair in found) / sum(pair.ours_core_s for pair in found)
    ratios = [pair.ratio for pair in found]
    figures = {
        "md_cost_ratio": Figure.median(ratios, "", against),
        "md_cost_ratio_of_totals": Figure(total, "", against, min(ratios), max(ratios), len(ratios)),
    }
    for protocol in dict.fromkeys(pair.particle.protocol for pair in found):
        own = [pair.ratio for pair in found if pair.particle.protocol == protocol]
        figures[f"md_cost_ratio_{protocol}"] = Figure.median(own, "", against)
    return figures


def ingredient_figures(place: Workplace, found: Sequence[Pair]) -> dict[str, Figure]:
    """How much each ingredient alone makes a particle dearer."""
    factors: dict[str, list[float]] = {name: [] for name in (*INGREDIENTS, "process")}
    for done, pair in enumerate(found, start=1):
        run = place.simulation(pair.particle)
        holds = md_plain.holds_taken(run, pair.ours.steps)
        first = place.lmp(run, holds)
        put_back = {name: place.lmp(run, holds, name).seconds for name in INGREDIENTS}
        ours_s = statistics.fmean((first.seconds, place.lmp(run, holds).seconds))
        for name, seconds in put_back.items():
            factors[name].append(seconds / ours_s)
        factors["process"].append(ours_s / pair.ours_core_s)
        log(
            f"ingredients {done} of {len(found)}: {pair.particle.n_atoms} atoms: "
            + ", ".join(f"{name} {values[-1]:.2f}" for name, values in factors.items())
        )
    what = {
        "timestep": f"{PLAIN_TIMESTEP_fs:g} fs throughout, both by lmp",
        "table": f"{PLAIN_POINTS} points instead of {place.config.potential.n_r}, both by lmp",
        "skin": f"LAMMPS's default neighbour lists instead of skin {place.config.md.skin_A:g} Å, both by lmp",
        "process": "the same settings by a fresh lmp, instead of one worker for all particles",
    }
    return {f"md_cost_factor_{name}": Figure.median(values, "", what[name]) for name, values in factors.items()}


def agreement_figures(place: Workplace, found: Sequence[Pair]) -> dict[str, Figure]:
    """Structures of both ways, over the pairs in which both passed the campaign's verdict."""
    lmp = load_lammps()
    described: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {}
    for pair in found:
        faults = {"ours": place.fault(pair.ours), "plain": place.fault(pair.plain)}
        if any(faults.values()):
            said = "; ".join(f"{way}: {fault}" for way, fault in faults.items() if fault)
            log(f"particle {pair.particle.number} is not compared: {said}")
            continue
        system = place.simulation(pair.particle).system
        ours, plain = (
            md_agreement.describe(lmp, list(snapshots(pair.particle, way))[-1], system)
            for way in (pair.ours, pair.plain)
        )
        described.setdefault(pair.particle.protocol, []).append((ours, plain))
    return md_agreement.figures(described)


def campaign_figures(full: Config, found: Sequence[Pair], source: Path | None) -> dict[str, Figure]:
    """Core-hours of the full campaign, from another campaign's particles or from the pairs."""
    costs: md_law.Costs = (
        md_law.by_protocol(
            (pair.particle.protocol, md_law.Cost(pair.particle.n_atoms, pair.ours.seconds)) for pair in found
        )
        if source is None
        else md_law.finished_costs(source, full)
    )
    if not md_law.cover(costs, full.particles):
        log("no cost of the full campaign: the particles that ran do not cover its sizes (--from takes a campaign's)")
        return {}
    costs = {protocol: of_protocol for protocol, of_protocol in costs.items() if full.particles.protocols.get(protocol)}
    laws = {protocol: md_law.Law.fit(of_protocol) for protocol, of_protocol in costs.items()}
    n_particles, runs = full.campaign.n_particles, sum(map(len, costs.values()))
    sizes = [cost.n_atoms for of_protocol in costs.values() for cost in of_protocol]
    said = f"{runs} particles of {min(sizes)}–{max(sizes)} atoms"
    figures = {
        "md_full_campaign_core_h": Figure(
            md_law.core_h(laws, full.particles, n_particles),
            "core-h",
            f"{n_particles} particles, inside LAMMPS's run loop, from {said}; 95 % bootstrap interval",
            *md_law.interval_h(costs, full.particles, n_particles),
            runs,
        )
    }
    for protocol, law in laws.items():
        exponent = Figure(law.b, "", "core time of one attempt ∝ N^b", runs=len(costs[protocol]))
        figures[f"md_cost_exponent_{protocol}"] = exponent
        if source is not None:  # the pairs are first attempts
            retries = Figure(law.retries, "", "one attempt for each particle", runs=len(costs[protocol]))
            figures[f"md_retry_cost_{protocol}"] = retries
    return figures


def measure(full: Config, arguments: argparse.Namespace, folder: Path) -> dict[str, Figure]:
    particles = full.particles
    if arguments.atoms:
        particles = ParticlesSection.model_validate(particles.model_dump() | {"n_atoms": tuple(arguments.atoms)})
    config = full.model_copy(update={"particles": particles})
    place = Workplace.make(config, folder)
    low, high = particles.n_atoms
    protocols = sum(weight > 0 for weight in particles.protocols.values())
    seed = config.campaign.seed
    stretches = min(max(1, arguments.cost // protocols), high + 1 - low)
    for_cost = pick(particles, seed, np.linspace(low, high + 1, stretches + 1).tolist(), 1, set())
    taken = {planned.number for planned in for_cost}
    small = pick(particles, seed, [low, min(2 * low, high) + 1], arguments.small // protocols, taken)
    with WorkerPool(1, config.md.wall_limit_s) as pool:
        ours = Ours(place, pool)
        ours.start(for_cost[0])
        timed = list(pairs(ours, for_cost, twice=True))
        if not timed:
            raise SimulationError("no particle ran both ways; alloyscope doctor checks LAMMPS")
        compared = [*timed, *pairs(ours, small, twice=False)]
    figures = cost_figures(timed)
    some = dict.fromkeys(np.linspace(0, len(timed) - 1, arguments.ingredients).round().astype(int).tolist())
    figures |= ingredient_figures(place, [timed[number] for number in some]) if some else {}
    figures |= agreement_figures(place, compared)
    return figures | campaign_figures(full, compared, arguments.folder)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), metavar="FILE", help="default: config.yaml")
    parser.add_argument("--cost", type=int, default=10, metavar="N", help="particles of all sizes (default: 10)")
    parser.add_argument(
        "--small", type=int, default=24, metavar="N", help="small ones more, for structure (default: 24)"
    )
    parser.add_argument("--ingredients", type=int, default=4, metavar="N", help="particles of those (default: 4)")
    parser.add_argument("--atoms", type=int, nargs=2, metavar=("LOW", "HIGH"), help="sizes (default: the config's)")
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="campaign whose finished particles give the full cost",
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    full = load(arguments.config)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(full, arguments, Path(folder))
    log(f"{(time.perf_counter() - started) / 60:.0f} min")
    command = harness.line_of("md_cost", sys.argv[1:])
    if arguments.folder:  # nobody finds the same particles there without the campaign that made them
        command = f"{command_of(read_campaign(arguments.folder))} && {command}"
    harness.publish("md_cost", figures, arguments.out, digest(full.as_json()), command)


if __name__ == "__main__":
    harness.run(main)
