"""The command that runs a campaign once more: what its config says beyond the files of the checkout stands in it."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alloyscope.config.model import Config
from alloyscope.config.read import load

ROOT = Path(__file__).resolve().parents[1]
BASE = Path("config.yaml")


def command_of(config: Config) -> str:
    """`make demo`, or the line of snakemake that plans a campaign of exactly this config."""
    overlay = Path(f"workflow/campaigns/{config.campaign.name}.yaml")
    known = (ROOT / overlay).exists()
    files = load(ROOT / BASE, *[ROOT / overlay] * known)
    if config == files and config.campaign.name == "demo":
        return "make demo"
    words = ["snakemake", "--profile", "profiles/local", *["--configfile", overlay.as_posix()] * known]
    if more := beyond(files.model_dump(mode="json"), config.model_dump(mode="json")):
        words += ["--config", *(f"{section}={json.dumps(values)}" for section, values in more.items())]
    return shlex.join(words)


def beyond(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be laid over the base, by Snakemake's rule that mappings merge, to give what is wanted."""
    return {
        key: beyond(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in wanted.items()
        if key not in base or base[key] != value
    }
