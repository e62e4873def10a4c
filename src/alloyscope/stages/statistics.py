"""Write the page on structures: how many there are, how they are ordered, what failed, and typical ones in pictures.

Reads the table of particles and, of the structure files beside it, those that hold the particles to be shown; so it
can be made as soon as the structures are there. The pictures are drawn by LAMMPS.
"""

import argparse
from pathlib import Path

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.pages.structures import write_page
from alloyscope.stages.arguments import add_section
from alloyscope.structure.settings import LabelsSection


def run(*, structures: Path, labels: LabelsSection, out: Path) -> None:
    """Write the page.

    Args:
        structures: Table of particles; the structure files lie beside it.
        labels: How they were labelled.
        out: Page to write.

    Raises:
        StoreError: an input is missing or damaged, or no particle is valid.
        SimulationError: LAMMPS cannot draw.
    """
    write_page(structures, labels, out, Stopwatch("statistics"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--structures", type=Path, required=True, help="structures.parquet, the structures beside it")
    add_section(parser, "labels", LabelsSection)
    parser.add_argument("--out", type=Path, required=True, help="page to write, statistics.html")
