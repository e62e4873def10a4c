"""Make the supporting film of amorphous carbon: LAMMPS quenches a periodic block from the melt.

Writes carbon.extxyz and carbon.json, which lists every check with its value, bounds and source. When a check fails,
nothing is written.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.errors import SimulationError
from alloyscope.lammps.start import load_lammps
from alloyscope.md.carbon import checks, melt_and_quench
from alloyscope.microscope.settings import FilmSection
from alloyscope.progress import log
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import write_json, write_text
from alloyscope.store.structures import film_text


def run(*, film: FilmSection, seed: int, out: Path) -> None:
    """Write the block and its checks.

    Raises:
        SimulationError: LAMMPS is absent, or the block is not amorphous carbon; nothing is written.
    """
    watch = Stopwatch("film")
    lmp = load_lammps()
    block = melt_and_quench(lmp, film, seed)
    lmp.close()
    found = checks(block)
    for check in found:
        inside = "within" if check.passed else "NOT within"
        log(f"{check.name}: {check.value:.4g} {check.unit}, {inside} {check.low:g} … {check.high:g}")
    if failed := [check.name for check in found if not check.passed]:
        raise SimulationError(
            f"film: {', '.join(failed)}: outside the bounds of amorphous carbon; "
            f"raise imaging.film.melt_ps or quench_ps, or edge_A, whose block holds {len(block.positions_A)} atoms"
        )
    write_text(out, film_text(block))
    rows = [asdict(check) | {"passed": check.passed} for check in found]
    settings = film.model_dump(mode="json")
    write_json(out.with_suffix(".json"), {"settings": settings, "checks": rows, "provenance": watch.record()})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_section(parser, "film", FilmSection)
    parser.add_argument("--seed", type=int, required=True, help="seed of the campaign")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="block to write, carbon.extxyz")
