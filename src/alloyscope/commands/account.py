"""Write the page "the run": cost, failures, hardware and versions of each rule, and the commands to run it again.

Reads benchmark files, manifests and the provenance of the other stages from the results folder of a campaign, finished
or not, and Snakemake's logs. Writes report/run.html and plan/config.yaml, the resolved config that the commands on the
page use. The rule `report` writes this page too.
"""

import argparse
from pathlib import Path

from alloyscope.campaign.folder import read_campaign
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.pages.run import write_page


def run(*, folder: Path) -> None:
    """Write the page.

    Raises:
        StoreError: the folder holds no campaign, or one of its files is damaged.
    """
    write_page(folder, read_campaign(folder), folder / "report" / "run.html", Stopwatch("report"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="results folder of a campaign, e.g. results/demo")
