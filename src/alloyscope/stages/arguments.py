"""Command-line arguments that several stages share."""

import argparse
import json
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from alloyscope.config.model import Config
from alloyscope.config.read import parse
from alloyscope.errors import ConfigError
from alloyscope.microscope.settings import Device
from alloyscope.sections import Section, parse_section

S = TypeVar("S", bound=Section)


def section(model: type[S], name: str) -> Callable[[str], S]:
    """Return a parser for a config section given as JSON."""
    return lambda text: parse_section(model, content(name)(text), path=name)


def content(name: str) -> Callable[[str], Any]:
    """Return a parser for an argument given as JSON."""

    def parse(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigError(f"--{name}: not JSON ({error}); got {text!r}") from None

    return parse


def add_section(parser: argparse.ArgumentParser, name: str, model: type[Section], required: bool = True) -> None:
    """Add the argument `--NAME JSON`; an optional section that is left out takes its defaults."""
    parser.add_argument(
        f"--{name}",
        type=section(model, name),
        required=required,
        default=None if required else model(),
        metavar="JSON",
        help=f"section `{name}` of the config as JSON; '{{}}' for its defaults",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    words = "device that computes (default: auto, a GPU if there is one)"
    parser.add_argument("--device", choices=get_args(Device), help=words)


def whole_config(text: str) -> Config:
    """Parse the whole config from JSON, with the checks across sections."""
    return parse(content("config")(text))
