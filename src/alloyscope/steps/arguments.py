"""Arguments that several steps share."""

import argparse
import json
from collections.abc import Callable
from typing import TypeVar

from alloyscope.errors import ConfigError
from alloyscope.sections import Section, parse_section

S = TypeVar("S", bound=Section)


def section(model: type[S], name: str) -> Callable[[str], S]:
    """Parser of a config section given as JSON."""

    def parse(text: str) -> S:
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"--{name}: not JSON ({error}); got {text!r}") from None
        return parse_section(model, content, path=name)

    return parse


def add_section(parser: argparse.ArgumentParser, name: str, model: type[S]) -> None:
    """`--NAME JSON`; left out, the section's defaults hold."""
    parser.add_argument(
        f"--{name}",
        type=section(model, name),
        default=model(),
        metavar="JSON",
        help=f"section `{name}` of the config as JSON (default: the package's defaults)",
    )
