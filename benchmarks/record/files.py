"""Results of benchmarks and of potential validation, from the files that hold them."""

import shlex
from collections import Counter
from pathlib import Path

from alloyscope.config import PotentialSection
from alloyscope.errors import StoreError
from alloyscope.sections import parse_section
from alloyscope.store.atomic import checksum, read_json
from benchmarks.record.page import VALIDATION, Result


def benchmarks(folder: Path) -> dict[str, Result]:
    """Every figure of the files in a folder.

    Raises:
        StoreError: a file is damaged or no benchmark's, or two files hold the same figure.
    """
    found: dict[str, Result] = {}
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        try:
            results = {
                name: Result(
                    value=figure["value"],
                    low=figure["min"],
                    high=figure["max"],
                    unit=figure["unit"],
                    command=content["command"],
                    date=content["date"],
                    commit=content["commit"],
                    config=content.get("config", ""),
                    artefact=f"{path} sha256:{checksum(path)}",
                    note=figure["against"],
                )
                for name, figure in content["figures"].items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: no benchmark's file ({error!r}); delete it and run make bench") from None
        if twice := found.keys() & results.keys():
            raise StoreError(f"{path}: holds {min(twice)}, which another file of {folder} holds too; delete one")
        found |= results
    return found


def validation(folder: Path) -> dict[str, Result]:
    """Every check that `alloyscope potential` left in a folder, as `validation_<set>: <check>`.

    A name that several checks share (a quantity against the formula and against experiment) is told apart by the kind
    of reference.

    Raises:
        StoreError: validation.json is missing, damaged, or holds other things.
    """
    path = folder / "validation.json"
    content = read_json(path)
    try:
        checks, stamp, parameters = content["checks"], content["provenance"], content["set"]["name"]
        names = Counter(check["name"] for check in checks)
        found: dict[str, Result] = {}
        for check in checks:
            words = check["name"] if names[check["name"]] == 1 else f"{check['name']} ({check['kind']})"
            found[f"{VALIDATION}{parameters}: {words}"] = Result(
                value=check["value"],
                low=check["reference"] - check["tolerance"],
                high=check["reference"] + check["tolerance"],
                unit=check["unit"],
                command=validation_command(content["settings"], folder),
                date=stamp["finished"],
                commit=stamp["commit"],
                config="",
                artefact=f"{path} sha256:{checksum(path)}",
                reference=check["reference"],
                tolerance=check["tolerance"],
                note=check["source"],
            )
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path}: no validation of a potential ({error!r}); run alloyscope potential again") from None
    if len(found) < len(checks):
        raise StoreError(f"{path}: {len(checks) - len(found)} checks have the name and kind of another; rename them")
    return found


def validation_name(folder: Path) -> str:
    """`validation_<set>` of the validation in a folder, by which all its checks are recorded."""
    return next(iter(validation(folder)), VALIDATION).partition(": ")[0]


def validation_command(settings: dict[str, object], folder: Path) -> str:
    """What makes a validation with these settings; settings that differ from the defaults are named."""
    potential = parse_section(PotentialSection, settings, path="potential")
    if potential == PotentialSection(set=potential.set):
        return shlex.join(["alloyscope", "potential", "--set", potential.set, "--out", str(folder)])
    return shlex.join(["alloyscope", "potential", "--potential", potential.as_json(), "--out", str(folder)])
