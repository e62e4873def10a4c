"""Write the page on structures: their number, chemical order and failures, and pictures of typical particles.

Reads the table of particles and the structure files that hold the particles to be shown. It needs no images, so the
page can be written as soon as the structures are labelled. LAMMPS draws the pictures.
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
        labels: Settings of the labels.
        out: Page to write.

    Raises:
        StoreError: an input is missing or damaged, or no particle is valid.
        SimulationError: LAMMPS cannot draw a picture.
    """
    write_page(structures, labels, out, Stopwatch("statistics"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--structures", type=Path, required=True, help="structures.parquet, beside the structures")
    add_section(parser, "labels", LabelsSection)
    parser.add_argument("--out", type=Path, required=True, help="page to write, statistics.html")
