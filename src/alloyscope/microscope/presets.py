"""Presets of the microscope: YAML files with values for keys that a config leaves out."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

SECTIONS = ("imaging", "optics", "detector")


def packaged_presets() -> tuple[str, ...]:
    """Names of the presets in the package: the files of data/presets."""
    folder = files("alloyscope") / "data" / "presets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir()))


@cache
def preset(name: str) -> dict[str, dict[str, Any]]:
    """Read the sections of a preset, given by the name of a packaged one or by the path of a YAML file.

    Raises:
        ValueError: there is no such preset, or it holds anything but sections.
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
    """Fill the keys that a section leaves out with the values of its preset.

    A section that leaves out no key needs no preset file. Jobs get such sections, and results store them.

    Args:
        section: Name of the section.
        default: Preset of a section that names none.
        fields: Keys of the section.
        given: Content of the section; content that is not a mapping is returned, for the section's model to refuse.

    Raises:
        ValueError: there is no such preset.
    """
    if not isinstance(given, Mapping):
        return given
    name = given.get("preset", default)
    if not isinstance(name, str) or fields.keys() <= given.keys():
        return given
    return {**preset(name).get(section, {}), **given}
