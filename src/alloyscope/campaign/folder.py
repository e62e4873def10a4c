"""The resolved config that is stored in a results folder."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from alloyscope.config.model import Config
from alloyscope.config.read import parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.store.atomic import digest, read_json, write_json, write_text


def write_campaign(path: Path, config: Config, provenance: dict[str, Any] | None = None) -> None:
    """Write the resolved config, unless the same config is already stored and no provenance is given.

    The stage `plan` passes its provenance; the start of the workflow passes none and keeps the stored provenance of an
    equal config. The digest leaves out the section `execution`, and so do the params of `plan`: `plan` therefore keeps
    the stored section `execution`.

    Raises:
        StoreError: the folder cannot be written.
    """
    content: dict[str, Any] = {"config": config.model_dump(mode="json"), "digest": digest(config.as_json())}
    with suppress(StoreError):
        before = read_json(path)
        if before.get("digest") == content["digest"]:  # only the sections `execution` can differ
            if provenance is None:
                provenance = before.get("provenance")
                if before.get("config") == content["config"]:
                    return
            else:  # `plan` does not get the section `execution`
                content["config"]["execution"] = before["config"].get("execution", content["config"]["execution"])
    write_json(path, content if provenance is None else content | {"provenance": provenance})


def read_campaign(folder: Path) -> Config:
    """Read the resolved config of the campaign in a results folder, as its last start wrote it.

    Raises:
        StoreError: the folder holds no campaign, or its account is damaged.
    """
    path = folder / "plan" / "campaign.json"
    if not path.exists():
        raise StoreError(f"{folder}: no campaign here, {path} is missing; start one with snakemake, or name its folder")
    try:
        return parse(read_json(path)["config"])
    except (KeyError, ConfigError) as error:
        raise StoreError(f"{path}: holds no valid config ({error}); delete it and run snakemake again") from None


def write_settings(folder: Path, config: Config) -> Path:
    """Write the resolved config beside the plan, for use with `--configfile`.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = folder / "plan" / "config.yaml"
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    return path
