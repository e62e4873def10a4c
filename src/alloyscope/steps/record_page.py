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
HEAD = """# Measured results

Rendered from `docs/results.json` by `alloyscope record`; edit neither. Intervals are 95 % for scores and statistics,
the extremes of chunks or runs for costs and benchmarks, unless `against` says otherwise.
"""


@dataclass(frozen=True)
class Result:
    """A number worth quoting.

    Attributes:
        value, low, high: The number and its interval or range; None where there is none.
        unit: Unit, "" for a pure number.
        command: What reproduces it.
        date: When it was measured.
        commit: Of the source tree.
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
    for title in PAGES:
        entries = {name: entry for name, entry in sorted(results.items()) if page_of(name) == title}
        if entries:
            body = _validation(entries) if title == "Potential validation" else _table(entries)
            lines += [f"## {title}", "", *body]
    return "\n".join(lines)


def _table(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = ["name", "value", "from – to", "unit", "reproduced by", "config", "commit", "date"]
    noted = any(entry.get("note") for entry in entries.values())
    columns += ["against"] if noted else []
    lines = [_row(columns), _row(["---"] * len(columns), "")]
    for name, entry in entries.items():
        low, high = entry["low"], entry["high"]
        cells = [
            f"`{name}`",
            f"{entry['value']:.4g}",
            "" if low is None or high is None else f"{low:.4g} – {high:.4g}",
            entry["unit"],
            f"`{entry['command']}`",
            f"`{entry['config']}`" if entry["config"] else "",
            _commit(entry),
            entry["date"][:10],
        ]
        lines.append(_row([*cells, entry.get("note", "")] if noted else cells))
    return [*lines, ""]


def _validation(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    sets: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, entry in entries.items():
        parameters, _, check = name.removeprefix(VALIDATION).partition(": ")
        sets.setdefault(parameters, {})[check] = entry
    lines = []
    for parameters, checks in sets.items():
        first = next(iter(checks.values()))
        lines += [
            f"### {parameters}",
            "",
            f"`{first['command']}`, commit {_commit(first)}, {first['date'][:10]}.",
            "",
            _row(["check", "value", "reference", "tolerance", "unit", "within", "source of the reference"]),
            _row(["---"] * 7, ""),
        ]
        for check, entry in checks.items():
            cells = [
                check,
                f"{entry['value']:.6g}",
                f"{entry['reference']:.6g}",
                f"{entry['tolerance']:.2g}",
                entry["unit"],
                "yes" if abs(entry["value"] - entry["reference"]) <= entry["tolerance"] else "no",
                entry.get("note", ""),
            ]
            lines.append(_row(cells))
        lines.append("")
    return lines


def _commit(entry: Mapping[str, Any]) -> str:
    return f"`{(entry['commit'] or 'none')[:9]}`"


def _row(cells: Sequence[str], pad: str = " ") -> str:
    texts = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"|{pad}" + f"{pad}|{pad}".join(texts) + f"{pad}|"
