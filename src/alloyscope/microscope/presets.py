"""Presets of the microscope: YAML files with values for keys that a config leaves out."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

SECTIONS = ("imaging", "optics", "detector")
# keys of `imaging` that belong to a microscope or to its simulation; the others belong to a campaign
IMAGING = ("voltage_kV", "pixels", "pixel_size_A", "grid", "slice_A", "n_slices", "max_shift_A", "film")


def packaged_presets() -> tuple[str, ...]:
    """Names of the presets in the package: the files of data/presets."""
    folder = files("alloyscope") / "data" / "presets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir()))


@cache
def preset(name: str) -> dict[str, dict[str, Any]]:
    """Read the sections of a preset, given by the name of a packaged one or by the path of a YAML file.

    Raises:
        ValueError: there is no such preset, it cannot be read, or it holds anything but sections of a microscope.
    """
    if name in packaged_presets():
        text = (files("alloyscope") / "data" / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    elif name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"preset {name}: cannot be read ({error})") from None
    else:
        known = ", ".join(packaged_presets())
        raise ValueError(f"preset must be one of {known} or the path of a .yaml file; got {name!r}")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"preset {name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key) or {}, dict) for key in SECTIONS):
        raise ValueError(f"preset {name}: must hold the sections {', '.join(SECTIONS)}, or some of them")
    if unknown := sorted(map(str, content.keys() - set(SECTIONS))):
        raise ValueError(f"preset {name}: {', '.join(unknown)}: unknown section; known are {', '.join(SECTIONS)}")
    if others := sorted(map(str, (content.get("imaging") or {}).keys() - set(IMAGING))):
        raise ValueError(f"preset {name}: imaging.{others[0]}: must be one of {', '.join(IMAGING)}")
    return {key: section or {} for key, section in content.items()}


def over_preset(section: str, default: str, needed: set[str], given: Any) -> Any:
    """Fill the keys that a section leaves out with the values of its preset.

    A section that leaves out none of the needed keys needs no preset file. Jobs get such sections, and results store
    them.

    Args:
        section: Name of the section.
        default: Preset of a section that names none.
        needed: Keys of the section, but for those that are left out while they have their neutral value.
        given: Content of the section; content that is not a mapping is returned, for the section's model to refuse.

    Raises:
        ValueError: there is no such preset, or a preset of the user's own lacks the section.
    """
    if not isinstance(given, Mapping):
        return given
    name = given.get("preset", default)
    if not isinstance(name, str) or needed <= given.keys():
        return given
    content = preset(name)
    if section not in content and name not in packaged_presets():
        raise ValueError(f"preset {name}: has no section {section}")
    return _laid_over(content.get(section, {}), given)


def _laid_over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a mapping over another one, key by key, also inside of mappings; a draw is one value."""

    def inner(key: str) -> bool:
        return all(isinstance(of[key], Mapping) and "log_uniform" not in of[key] for of in (base, given))

    both = {key: _laid_over(base[key], given[key]) for key in base.keys() & given.keys() if inner(key)}
    return {**base, **given, **both}
