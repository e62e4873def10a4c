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


def add_section(parser: argparse.ArgumentParser, name: str, model: type[Section], required: bool = True) -> None:
    """`--NAME JSON`; where a section may be left out, its defaults hold."""
    parser.add_argument(
        f"--{name}",
        type=section(model, name),
        required=required,
        default=None if required else model(),
        metavar="JSON",
        help=f"section `{name}` of the config as JSON; '{{}}' for its defaults",
    )
