"""Presets of the microscope: data files whose values stand in for keys that a config leaves out."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import yaml

Preset = Literal["corrected", "uncorrected", "orleans-2026"]


@cache
def _content(preset: Preset) -> dict[str, dict[str, Any]]:
    path = files("alloyscope") / "data" / "presets" / f"{preset}.yaml"
    content: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def over_preset(section: Literal["optics", "detector"], given: Any) -> Any:
    """A section as it was given, laid key by key over the preset it names; faults are left to the section's model."""
    preset = given.get("preset") if isinstance(given, Mapping) else None
    return {**_content(preset)[section], **given} if preset in get_args(Preset) else given
