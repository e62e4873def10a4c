"""Write the report: one self-contained page with the campaign's results, and summary.txt with the main results.

Reads from the folder of a campaign the checks of the potential, the table of particles, the released image set and, for
each evaluated task, its learning curve, scores and predictions. Also writes run.html, the page on the cost of the run,
which `alloyscope account` writes alone, and networks.html, what the networks can tell, if the campaign has named runs
or many particles. A task that was not evaluated has no section; a missing or damaged input is an
error.
"""

import argparse
from pathlib import Path

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import shows_networks
from alloyscope.config.model import Config
from alloyscope.pages import networks, report
from alloyscope.pages import run as run_page
from alloyscope.stages.arguments import add_section


def run(*, folder: Path, config: Config, out: Path) -> None:
    """Write index.html and, beside it, summary.txt, run.html and, if the campaign has it, networks.html.

    Raises:
        StoreError: an input is missing or damaged.
    """
    watch = Stopwatch("report")
    report.write_page(folder, config, out, watch)
    if shows_networks(config):
        networks.write_page(folder, config, out.with_name("networks.html"), watch)
    run_page.write_page(folder, config, out.with_name("run.html"), watch)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, required=True, help="folder of the campaign, e.g. results/demo")
    add_section(parser, "config", Config)
    parser.add_argument("--out", type=Path, required=True, help="page to write, index.html")
