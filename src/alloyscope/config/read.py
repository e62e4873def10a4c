"""Read YAML or JSON into a checked Config; write its JSON schema."""

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


def started(content: Any, main: bool) -> Config:
    """The config with which a run of Snakemake was started, also in the processes that it starts.

    On a cluster each job reads the files of the config again, and a user may have edited them, or a preset that they
    name by its path, in the meantime. The main process therefore keeps the resolved config in an environment variable,
    which the other processes inherit (docs/decisions/0008).

    Args:
        content: The config as this process read it from the files.
        main: Whether this is the main process.

    Raises:
        ConfigError: lists every fault.
    """
    if FROZEN in os.environ and not main:
        return parse(json.loads(os.environ[FROZEN]))
    config = parse(content)
    if main:
        os.environ[FROZEN] = json.dumps(config.model_dump(mode="json"))
    return config


def parse(content: Any) -> Config:
    """Check a whole config: each section, and the relations between sections.

    Raises:
        ConfigError: the config is faulty; the message lists every fault with its path.
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
    """Return the valid fields of a faulty section, so that the checks across sections can still run."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        faulty = {fault["loc"][0] for fault in error.errors() if fault["loc"]}
        kept = {key: value for key, value in content.items() if key not in faulty} if faulty else {}
        with suppress(ValidationError):
            return model.model_validate(kept)
    return model()


def load(*paths: Path) -> Config:
    """Read YAML files; values of later files replace those of earlier ones, key by key.

    Raises:
        ConfigError: a file is missing or not YAML, or the config is faulty.
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
    """Merge two configs as Snakemake does: mappings are merged, all other values are replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def json_schema() -> str:
    """JSON schema of config.yaml; `workflow/schema/config.schema.json` holds this text."""
    return json.dumps(Config.model_json_schema(), indent=2, sort_keys=True) + "\n"
