"""What an entry of docs/results.json holds, and docs/results.md as it is rendered from them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

VALIDATION = "validation_"
PAGES = {  # title → names that belong there; the first that fits
    "Potential validation": VALIDATION,
    "Molecular dynamics": r"md_|pair_style_|melting_|table_|set_speed_|two_processes_|\w+_md_core_s_|\w+_retry_rate_",
    "Structures": r"(?!soak_)\w+_(particles$|valid_share|core_shell_share|eta_|d_com_)",
    "Imaging": r"hrtem_|haadf_|potential_band_|grid_|band_error_|slices_|gate_|zarr_|\w+_images_per_core_s",
    "Learning": r"ordering_|size_|composition_|denoise_|interval_|loader_|train_|count_|reconstruction_",
    "Workflow": "",
}
HEADLINES = {  # what a reader looks for first, those that have been measured
    "hrtem_images_per_core_s": "HRTEM images a second on one core, exit wave to counts",
    "hrtem_speed_same_grid": "images: times faster than abTEM in the same square and slices",
    "hrtem_speed_equal_accuracy": "exit waves: times faster than abTEM at equal accuracy",
    "hrtem_error_of_beam": "error of an image on the default grid",
    "device_waves_per_s_256": "exit waves of 256² a second on a GPU",
    "device_speed_over_abtem_256": "exit waves of 256²: times faster than abTEM on the same GPU",
    "md_cost_ratio": "molecular dynamics: times cheaper than the plain use of LAMMPS",
    "md_full_campaign_core_h": "molecular dynamics of the 200 000 particles of config.yaml",
    "zarr_read_MB_per_s": "reading of images for training",
    "plan_200k_s": "planning of 200 000 particles",
    "soak_identical": "chunks that random kills left as they are without, share",
    "soak_redone_share": "particles that 100 kills in 2000 particles made run again, share",
    "demo_wall_s": "`make demo`, without its installation",
}
DETAIL = re.compile("(energy|force) error")  # checks of the table against its formula, counted and not shown
VALIDATION_HEAD = """\
`alloyscope potential` compares each set through LAMMPS on the table with the formula, with values computed elsewhere
and with experiments. An asterisk marks a value outside the tolerance of one of them.
"""
HEAD = """# Measured results

Rendered from `docs/results.json` by `python -m benchmarks.record`; edit neither. Intervals are 95 % for scores and
statistics, the extremes of chunks or runs for costs and benchmarks, unless `against` says otherwise. Every entry comes
from a committed state of the code, which stands beside its command. [memory] marks a value of others that has not been
looked up again.
"""


@dataclass(frozen=True)
class Result:
    """A number worth quoting.

    Attributes:
        value, low, high: The number and its interval or range; None where there is none.
        unit: Unit, "" for a pure number.
        command: What reproduces it.
        date: When it was measured.
        commit: Of the source tree, which had no uncommitted changes; None outside a checkout.
        config: Digest of the config it was measured with.
        artefact: File it was read from, with its SHA-256.
        reference, tolerance: What a validated value must be, and how closely.
        note: What it is measured against, or where the reference comes from.
    """

    value: float
    low: float | None
    high: float | None
    unit: str
    command: str
    date: str
    commit: str | None
    config: str
    artefact: str
    reference: float | None = None
    tolerance: float | None = None
    note: str = ""

    def entry(self) -> dict[str, Any]:
        """As it stands in docs/results.json; `reference`, `tolerance` and `note` only where there are any."""
        optional = ("reference", "tolerance", "note")
        return {name: value for name, value in asdict(self).items() if name not in optional or value not in (None, "")}


def page_of(name: str) -> str:
    """Title of the section that a name belongs to."""
    return next(title for title, pattern in PAGES.items() if re.match(pattern, name))


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/results.md from docs/results.json."""
    lines = [HEAD]
    if headlines := {words: results[name] for name, words in HEADLINES.items() if name in results}:
        lines += ["## Headlines", "", _row(["what", "value", "from – to", "command"]), _row(["---"] * 4, "")]
        for words, entry in headlines.items():
            lines.append(_row([words, _value(entry), _span(entry), f"`{entry['command']}`"]))
        lines.append("")
    for title in PAGES:
        entries = {name: entry for name, entry in sorted(results.items()) if page_of(name) == title}
        if entries:
            body = _validation(entries) if title == "Potential validation" else _tables(entries)
            lines += [f"## {title}", "", *body]
    return "\n".join(lines)


def _tables(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One table for each run: command, commit, config and day stand once, above it."""
    runs: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, entry in entries.items():
        made_from = f", config `{entry['config']}`" if entry["config"] else ""
        run = f"`{entry['command']}`, commit {_commit(entry)}{made_from}, {entry['date'][:10]}:"
        runs.setdefault(run, {})[name] = entry
    lines = []
    for run, found in runs.items():
        columns = ["name", "value", "from – to"]
        columns += ["against"] if any(entry.get("note") for entry in found.values()) else []
        lines += [run, "", _row(columns), _row(["---"] * len(columns), "")]
        for name, entry in found.items():
            lines.append(_row([f"`{name}`", _value(entry), _span(entry), entry.get("note", "")][: len(columns)]))
        lines.append("")
    return lines


def _validation(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a physicist looks at, one column for each set; the rest of the checks counted."""
    sets: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, entry in entries.items():
        parameters, _, check = name.removeprefix(VALIDATION).partition(": ")
        sets.setdefault(parameters, {})[check] = entry
    lines = [VALIDATION_HEAD]
    lines += [_row(["set", "checks", "missed", "command", "commit"]), _row(["---"] * 5, "")]
    for parameters, checks in sets.items():
        first = next(iter(checks.values()))
        missed = [check for check, entry in checks.items() if not _within(entry)]
        cells = [parameters, str(len(checks)), "; ".join(missed) or "none", f"`{first['command']}`", _commit(first)]
        lines.append(_row(cells))
    return [*lines, "", *_quantities(sets), ""]


def _quantities(sets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """One row for each quantity: its value in each set, and what experiments say."""
    lines = [_row(["quantity", "unit", *sets, "experiment"]), _row(["---"] * (len(sets) + 3), "")]
    shown = {_quantity(check) for checks in sets.values() for check in checks if not DETAIL.match(check)}
    for quantity in sorted(shown):
        values: list[str] = []
        measured: set[str] = set()
        units: set[str] = set()
        for checks in sets.values():
            found = {check: entry for check, entry in checks.items() if _quantity(check) == quantity}
            units |= {entry["unit"] for entry in found.values()}
            missed = "*" if not all(map(_within, found.values())) else ""
            values.append(f"{next(iter(found.values()))['value']:.5g}{missed}" if found else "")
            if entry := found.get(f"{quantity} (experiment)"):
                measured.add(f"{entry['reference']:.5g}{' [memory]' * ('[memory]' in entry.get('note', ''))}")
        lines.append(_row([quantity, ", ".join(sorted(units)), *values, ", ".join(sorted(measured))]))
    return lines


def _quantity(check: str) -> str:
    """A check's name without the kind of its reference."""
    return re.sub(r" \((formula|computed|experiment)\)$", "", check)


def _within(entry: Mapping[str, Any]) -> bool:
    return bool(abs(entry["value"] - entry["reference"]) <= entry["tolerance"])


def _value(entry: Mapping[str, Any]) -> str:
    return f"{entry['value']:.4g} {entry['unit']}".rstrip()


def _span(entry: Mapping[str, Any]) -> str:
    low, high = entry["low"], entry["high"]
    return "" if low is None or high is None else f"{low:.4g} – {high:.4g}"


def _commit(entry: Mapping[str, Any]) -> str:
    return f"`{(entry['commit'] or 'none')[:9]}`"


def _row(cells: Sequence[str], pad: str = " ") -> str:
    texts = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"|{pad}" + f"{pad}|{pad}".join(texts) + f"{pad}|"
