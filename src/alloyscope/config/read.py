"""From YAML or JSON to a checked Config, and its JSON schema."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alloyscope.config.checks import cross_faults, unused_faults
from alloyscope.config.model import Config
from alloyscope.errors import ConfigError
from alloyscope.sections import S, Section, parse_section

FROZEN = "ALLOYSCOPE_CONFIG"  # environment variable


def frozen(content: Any, main: bool) -> Any:
    """The config as the process that began a run of Snakemake read it, for the processes that it starts too.

    On a cluster each job reads the config's files again, in which a user may have begun to plan something else.

    Args:
        content: As this process read it.
        main: Whether this is the process that begins.
    """
    if main:
        os.environ[FROZEN] = json.dumps(content)
    return json.loads(os.environ[FROZEN]) if FROZEN in os.environ else content


def parse(content: Any) -> Config:
    """Check a whole configuration and what its sections ask of one another.

    Raises:
        ConfigError: lists every fault with its path.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"config: must hold sections; got {content!r}")
    faults: list[str] = []
    sections: dict[str, Section] = {}
    for name, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        try:
            given = content.get(name)
            sections[name] = parse_section(model, {} if given is None else given, path=name)
        except ConfigError as error:
            faults.append(str(error))
            sections[name] = _sound_part(model, content[name])
    faults += [
        f"{key}: unknown section; known are {', '.join(Config.model_fields)}"
        for key in content
        if key not in Config.model_fields
    ]
    given = Config.model_validate(sections)
    config = given.completed()
    faults += [*unused_faults(given), *cross_faults(config)]
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def _sound_part(model: type[S], content: Any) -> S:
    """What of a faulty section can stand, so that the checks across sections still run on it."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        faulty = {fault["loc"][0] for fault in error.errors() if fault["loc"]}
        kept = {key: value for key, value in content.items() if key not in faulty} if faulty else {}
        with suppress(ValidationError):
            return model.model_validate(kept)
    return model()


def load(*paths: Path) -> Config:
    """Read YAML files, later ones laid over earlier ones section by section, key by key.

    Raises:
        ConfigError: a file is missing or not YAML, or the content is faulty.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: must hold sections; got {type(content).__name__}")
        merged = _merge(merged, content)
    return parse(merged)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Snakemake's rule for several config files: mappings merge, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def json_schema() -> str:
    """JSON schema of config.yaml; `workflow/schema/config.schema.json` is this text."""
    return json.dumps(Config.model_json_schema(), indent=2, sort_keys=True) + "\n"
