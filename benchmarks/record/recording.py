"""What can be recorded, and how docs/results.json and docs/results.md take it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from alloyscope.errors import ConfigError, StoreError
from alloyscope.parameters import parameter_set
from alloyscope.provenance import commit
from alloyscope.store.atomic import checksum, read_json, write_json, write_text
from benchmarks.record.campaign import STAMP, Measure, RecordedCampaign, measures
from benchmarks.record.files import benchmarks, validation, validation_name
from benchmarks.record.page import VALIDATION, Result, render

BENCH = Path("results/bench")

Source = Callable[[], dict[str, Result]]


def setup() -> dict[str, Result]:
    """setup_s: wall time from creating the environment to the installed package, by the stamps that make leaves.

    Raises:
        StoreError: the environment was not set up by make in this folder.
    """
    begun, ready = Path(".venv/pyvenv.cfg"), Path(".venv/.installed-package")
    try:
        started, ended = begun.stat().st_mtime, ready.stat().st_mtime
    except OSError as error:
        raise StoreError(f"{error.filename}: missing; run make demo or make test here first") from None
    result = Result(
        value=round(ended - started, 1),
        low=None,
        high=None,
        unit="s",
        command="make .venv/.installed-package",
        date=time.strftime(STAMP, time.localtime(ended)),
        commit=commit(),
        config="",
        artefact=f"{begun} sha256:{checksum(begun)}",
    )
    return {"setup_s": result}


MACHINE: dict[str, Source] = {"setup_s": setup}


def _measured(name: str, measure: Measure, campaign: RecordedCampaign) -> dict[str, Result]:
    return {name: measure(campaign)}


def _read(name: str, result: Result) -> dict[str, Result]:
    return {name: result}


def sources(campaign: RecordedCampaign | None, bench: Path, validations: Sequence[Path]) -> dict[str, Source]:
    """Every name that can be recorded, with what measures it (and perhaps others with it)."""
    known: dict[str, Source] = {}
    if campaign is not None:
        known |= {name: partial(_measured, name, measure, campaign) for name, measure in measures(campaign).items()}
        known[VALIDATION + parameter_set(campaign.config.potential.set).name] = partial(
            validation, campaign.folder / "potential"
        )
    known |= {name: partial(_read, name, result) for name, result in benchmarks(bench).items()}
    known |= {validation_name(folder): partial(validation, folder) for folder in validations}
    return known | MACHINE


def chosen(names: Sequence[str], known: Iterable[str], hint: str) -> list[str]:
    """Names with their patterns filled in.

    Raises:
        ConfigError: a name, or a pattern, fits nothing; lists what is known.
    """
    known = list(known)
    fitting = {name: [other for other in known if fnmatchcase(other, name)] for name in names}
    if unknown := [name for name, found in fitting.items() if not found]:
        raise ConfigError(f"unknown names: {', '.join(unknown)}; known are {', '.join(known)}{hint}")
    return list(dict.fromkeys(name for found in fitting.values() for name in found))


def merged(entries: Mapping[str, object], found: Mapping[str, Result], names: Sequence[str]) -> dict[str, object]:
    """Entries with the found ones in place of their predecessors; a validation's vanished checks vanish here too."""
    stale = tuple(f"{name}: " for name in names if name.startswith(VALIDATION))
    kept = {name: entry for name, entry in entries.items() if not (stale and name.startswith(stale))}
    return kept | {name: result.entry() for name, result in found.items()}


def require_committed(found: Mapping[str, Result]) -> None:
    """A number worth quoting can be measured again by whoever has its commit.

    Raises:
        StoreError: some were measured on code with uncommitted changes, or outside a checkout; lists them.
    """
    if homeless := [name for name, result in found.items() if not result.commit or result.commit.endswith("+")]:
        raise StoreError(
            f"measured on uncommitted code: {', '.join(homeless)}; commit the changes and measure again, "
            f"nothing has been recorded"
        )


def run(
    *, folder: Path | None, names: Sequence[str], docs: Path, bench: Path = BENCH, validations: Sequence[Path] = ()
) -> dict[str, Result]:
    """Measure, merge into docs/results.json, render docs/results.md.

    Args:
        folder: Results folder of a campaign.
        names: What to record; * fills in.
        docs: Folder of both files.
        bench: Folder of the benchmarks' files.
        validations: Folders in which `alloyscope potential` left validation.json; the campaign's own is known.

    Raises:
        ConfigError: a name is unknown, or needs a campaign's folder.
        StoreError: files are missing or damaged, or come from uncommitted code.
    """
    campaign = None if folder is None else RecordedCampaign.read(folder)
    known = sources(campaign, bench, validations)
    hint = "; --from FOLDER adds a campaign's own, --validation FOLDER a potential's, make bench the benchmarks'"
    wanted = chosen(names, known, hint)
    found: dict[str, Result] = {}
    for source in dict.fromkeys(known[name] for name in wanted):
        measured = source().items()
        found |= {name: result for name, result in measured if name.partition(": ")[0] in wanted}
    require_committed(found)
    path = docs / "results.json"
    entries = merged(read_json(path) if path.exists() else {}, found, wanted)
    write_json(path, entries)
    write_text(docs / "results.md", render(read_json(path)))
    return found
