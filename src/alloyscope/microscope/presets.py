"""Presets of the microscope: YAML whose values stand in for keys that a config leaves out."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

SECTIONS = ("imaging", "optics", "detector")


def packaged_presets() -> tuple[str, ...]:
    """Names of the presets that come with the package: the files of data/presets."""
    folder = files("alloyscope") / "data" / "presets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir()))


@cache
def preset(name: str) -> dict[str, dict[str, Any]]:
    """The sections of a packaged preset, or of a user's own by the path of its YAML file.

    Raises:
        ValueError: there is no such preset, or it holds something else than sections.
    """
    if name in packaged_presets():
        text = (files("alloyscope") / "data" / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        known = ", ".join(packaged_presets())
        raise ValueError(f"preset must be one of {known} or the path of a .yaml file; got {name!r}")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"preset {name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key, {}), dict) for key in SECTIONS):
        raise ValueError(f"preset {name}: must hold the sections {', '.join(SECTIONS)}, or some of them")
    if unknown := sorted(map(str, content.keys() - set(SECTIONS))):
        raise ValueError(f"preset {name}: {', '.join(unknown)}: unknown section; known are {', '.join(SECTIONS)}")
    return content


def over_preset(section: str, default: str, fields: Mapping[str, Any], given: Any) -> Any:
    """A section as it was given, laid key by key over the preset that it names.

    A section that leaves no key out needs no preset: so a job, and who reads the results later, need no file of it.

    Args:
        section: Its name.
        default: The preset of a section that names none.
        fields: Keys of the section.
        given: The section's content; whatever is no mapping is left to the section's model.

    Raises:
        ValueError: there is no such preset.
    """
    if not isinstance(given, Mapping):
        return given
    name = given.get("preset", default)
    if not isinstance(name, str) or fields.keys() <= given.keys():
        return given
    return {**preset(name).get(section, {}), **given}
