"""Record measured numbers in docs/results.json and render docs/results.md.

The command takes each named number from the files of a run, with the commit, the digest of the config and the checksum
of the file; nobody types a number. A campaign (--from) gives scores, costs and statistics of its particles. `make
bench` gives the figures in results/bench. `alloyscope potential` gives validation_SET, every check of a parameter set.
setup_s is read off the environment that make set up in this folder. A name with * stands for each known name that fits.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from alloyscope.errors import AlloyscopeError
from benchmarks.record.campaign import OWN, SCORES
from benchmarks.record.recording import BENCH, MACHINE, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    own = ", ".join(f"CAMPAIGN_{name}" for name in OWN)
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join((*SCORES, *MACHINE))}, {own}, validation_SET, and the figures of make bench",
    )
    parser.add_argument("--from", dest="folder", type=Path, metavar="FOLDER", help="results folder of a campaign")
    parser.add_argument("--bench", type=Path, default=BENCH, metavar="FOLDER", help=f"default: {BENCH}")
    parser.add_argument(
        "--validation",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="where alloyscope potential left validation.json; may be given several times",
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), metavar="FOLDER", help="default: docs")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser()
    arguments = parser.parse_args(words)
    try:
        found = run(
            folder=arguments.folder,
            names=arguments.names,
            docs=arguments.docs,
            bench=arguments.bench,
            validations=arguments.validation,
        )
    except AlloyscopeError as error:  # alloyscope.cli, too, answers an expected error with one line and code 2
        parser.exit(2, f"{parser.prog}: {error}\n")
    for name, result in found.items():
        print(f"{name}: {result.value:.4g} {result.unit}".rstrip())


if __name__ == "__main__":
    main()
