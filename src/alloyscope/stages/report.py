"""Write the report: one self-contained page with the campaign's results, and summary.txt with the same in a few lines.

Reads the folder of a campaign: checks of the potential, the table of particles, the released image set, and for each
task that was evaluated its learning curve, scores and predictions. What the run cost stands on its own page, run.html,
which is made as well (`alloyscope account` makes it alone). A task that was not evaluated has no section; a missing or
damaged input is an error.
"""

import argparse
from pathlib import Path

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.config.model import Config
from alloyscope.pages import report
from alloyscope.pages import run as run_page
from alloyscope.stages.arguments import add_section


def run(*, folder: Path, config: Config, out: Path) -> None:
    """Write index.html and, beside it, summary.txt and run.html.

    Raises:
        StoreError: an input is missing or damaged.
    """
    watch = Stopwatch("report")
    report.write_page(folder, config, out, watch)
    run_page.write_page(folder, config, out.with_name("run.html"), watch)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, required=True, help="folder of the campaign, e.g. results/demo")
    add_section(parser, "config", Config)
    parser.add_argument("--out", type=Path, required=True, help="page to write, index.html")
