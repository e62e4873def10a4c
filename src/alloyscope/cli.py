"""Command line: text to typed arguments; the only error boundary."""

import argparse
import ast
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from alloyscope.errors import PARTICLE_NOTE, AlloyscopeError
from alloyscope.store.locks import alone

# Each module in steps/ has `add_arguments(parser)` and its docstring is the help text. What was parsed goes to
# `main(arguments)` where the module has one, else to `run`, whose parameters bear the names of the flags.
STAGES = (
    "plan",
    "potential",
    "md",
    "files",
    "describe",
    "structures",
    "statistics",
    "film",
    "hrtem",
    "gates",
    "dataset",
    "train",
    "evaluate",
    "report",
    "account",
)
COMMANDS = ("config", *STAGES, "verify", "export", "status", "doctor")


def summary(name: str) -> str:
    """First line of a step's docstring, read without importing the step: torch and LAMMPS take seconds."""
    spec = find_spec(f"alloyscope.steps.{name}")
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def tell(words: Sequence[str], error: Exception, text: str) -> None:
    """Print the error with chunk and particle, last of all; above it, in a log, the command to repeat a stage alone."""
    if words[0] in STAGES and not sys.stderr.isatty():
        again = f"cd {shlex.quote(str(Path.cwd()))} && python -m alloyscope {shlex.join(words)}"
        print(f"alloyscope {words[0]}: to repeat this job alone: {again}", file=sys.stderr)
    place = [f"chunk {words[words.index('--chunk') + 1]}"] if "--chunk" in words[:-1] else []
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(PARTICLE_NOTE)]
    place += [note for note in notes if not re.search(rf"\b{note}\b", text)]
    for line in text.splitlines() or [""]:
        print(f"alloyscope {words[0]}: {', '.join(place)}{': ' * bool(place)}{line}", file=sys.stderr)


def passed_on(run: Callable[..., None], arguments: argparse.Namespace) -> None:
    """Call a step with all that was parsed."""
    run(**{name: value for name, value in vars(arguments).items() if name not in ("command", "main")})


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="alloyscope", description="Simulated nanoalloy images and networks.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    if words and words[0] in COMMANDS:
        step = import_module(f"alloyscope.steps.{words[0]}")
        sub = subparsers.add_parser(words[0], description=step.__doc__)
        step.add_arguments(sub)
        sub.set_defaults(main=getattr(step, "main", partial(passed_on, step.run)))
    else:  # help or a refusal: nothing will run
        for name in COMMANDS:
            subparsers.add_parser(name, help=summary(name))
    try:
        arguments = parser.parse_args(words)  # sections are parsed here, too
        output: Path | None = getattr(arguments, "manifest", None) or getattr(arguments, "out", None)
        with alone(output) if output and words[0] in STAGES else nullcontext():
            arguments.main(arguments)
    except AlloyscopeError as error:
        tell(words, error, str(error))
        return 2
    except Exception as error:  # noqa: BLE001 - nothing lies above; the traceback is printed whole
        traceback.print_exc()
        tell(words, error, f"{type(error).__name__}: {error}")
        return 1
    return 0
