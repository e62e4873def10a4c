"""Record a campaign's measured numbers in docs/results.json and render docs/results.md.

Takes each named number from the files of a finished campaign, with its commit, config digest and the checksum of the
file it comes from; nothing is typed. The names plan_200k_s and plan_200k_MB are measured here and now, by a dry run of
config.yaml; setup_s is read off the environment that make set up in this folder.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alloyscope.config import Config, Task, load
from alloyscope.errors import AlloyscopeError, ConfigError, StoreError
from alloyscope.plan import imaging_capacity, n_chunks
from alloyscope.provenance import commit
from alloyscope.store.atomic import checksum, digest, read_json, write_json, write_text
from alloyscope.store.manifests import Manifest, finished, manifest_name, read_all, read_campaign

REPEATS = 3
STAMP = "%Y-%m-%dT%H:%M:%S%z"


@dataclass(frozen=True)
class Result:
    """A number worth quoting.

    Attributes:
        value, low, high: The number and its interval or range; None where there is none.
        unit: Unit, "" for a pure number.
        command: What reproduces it.
        date: When it was measured.
        commit: Of the source tree.
        config: Digest of the campaign's resolved config.
        artefact: File it was read from, with its SHA-256.
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


@dataclass(frozen=True)
class Campaign:
    """A finished campaign's folder and config."""

    folder: Path
    config: Config

    @classmethod
    def read(cls, folder: Path) -> "Campaign":
        return cls(folder, read_campaign(folder))

    @property
    def name(self) -> str:
        return self.config.campaign.name

    @property
    def command(self) -> str:
        if self.name == "demo":
            return "make demo"
        overlay = f"workflow/campaigns/{self.name}.yaml"
        laid_over = f" --configfile {overlay}" if Path(overlay).exists() else ""
        return f"snakemake --profile profiles/local{laid_over}"

    def result(
        self, value: float, low: float | None, high: float | None, unit: str, artefact: Path, provenance: dict[str, Any]
    ) -> Result:
        return Result(
            value=value,
            low=low,
            high=high,
            unit=unit,
            command=self.command,
            date=provenance["finished"],
            commit=provenance["commit"],
            config=digest(self.config.as_json()),
            artefact=f"{artefact} sha256:{checksum(artefact)}",
        )


Measure = Callable[[Campaign], Result]


def score(task: Task, key: str, unit: str) -> Measure:
    """A score of the first run's evaluation on the test split, with its 95 % interval."""

    def measure(campaign: Campaign) -> Result:
        run = f"seed-{campaign.config.training.seeds[0]}"
        path = campaign.folder / "evaluation" / task / run / "metrics.json"
        metrics = read_json(path)
        if key not in metrics:
            raise StoreError(f"{path}: holds no {key}; it has {', '.join(sorted(metrics))}")
        low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
        return campaign.result(metrics[key], low, high, unit, path, metrics["provenance"])

    return measure


def _manifests(campaign: Campaign, place: str, capacity: int) -> tuple[Path, list[Manifest]]:
    total = n_chunks(campaign.config.campaign.n_particles, capacity)
    found = finished(campaign.folder / place, total, None)
    return campaign.folder / place / manifest_name(found[-1]), read_all(campaign.folder / place, found)


def md_core_s_per_particle(campaign: Campaign) -> Result:
    """Core-seconds inside LAMMPS for one particle, failed attempts included; low and high are the chunks' extremes."""
    path, manifests = _manifests(campaign, "structures", campaign.config.md.particles_per_chunk)
    chunks = [statistics.fmean(slot.seconds for slot in manifest.slots) for manifest in manifests]
    mean = statistics.fmean(slot.seconds for manifest in manifests for slot in manifest.slots)
    return campaign.result(mean, min(chunks), max(chunks), "s", path, manifests[-1].provenance)


def images_per_core_s(campaign: Campaign) -> Result:
    """Images per core-second of the whole step, checks and writing included; low and high are the chunks' extremes."""
    path, manifests = _manifests(campaign, "hrtem", imaging_capacity(campaign.config))
    made = [len(manifest.valid_particles) * campaign.config.imaging.views for manifest in manifests]
    spent = [manifest.provenance["core_s"] for manifest in manifests]
    rates = [images / seconds for images, seconds in zip(made, spent, strict=True)]
    provenance = manifests[-1].provenance
    return campaign.result(sum(made) / sum(spent), min(rates), max(rates), "1/s", path, provenance)


def wall_s(campaign: Campaign) -> Result:
    """From the start of the first job to the end of the report, pauses included."""
    first = read_json(campaign.folder / "potential" / "validation.json")["provenance"]
    page = campaign.folder / "report" / "index.html"
    try:
        ended = page.stat().st_mtime
    except OSError as error:
        raise StoreError(f"{page}: cannot be read ({error.strerror}); run the campaign to its end first") from None
    started = time.mktime(time.strptime(first["finished"][:19], STAMP[:-2])) - first["wall_s"]
    last = {"finished": time.strftime(STAMP, time.localtime(ended)), "commit": first["commit"]}
    return campaign.result(round(ended - started, 1), None, None, "s", page, last)


def _dry_run() -> tuple[float, float]:
    """Wall time [s] and peak memory [MB] of planning the full campaign."""
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--dry-run"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AlloyscopeError("snakemake --profile slurm --dry-run failed; run it by hand to see why")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def planning() -> dict[str, Result]:
    """plan_200k_s and plan_200k_MB: median, least and most of REPEATS dry runs.

    Raises:
        ConfigError: config.yaml is not the campaign of 200 000 particles.
    """
    path = Path("config.yaml")
    config = load(path)
    if config.campaign.n_particles != 200_000:
        raise ConfigError(f"campaign.n_particles must be 200000 to record plan_200k; got {config.campaign.n_particles}")
    runs = [_dry_run() for _ in range(REPEATS)]

    def result(values: Iterable[float], unit: str) -> Result:
        ordered = sorted(round(value, 2) for value in values)
        return Result(
            value=statistics.median(ordered),
            low=ordered[0],
            high=ordered[-1],
            unit=unit,
            command="snakemake --profile slurm --dry-run",
            date=time.strftime(STAMP),
            commit=commit(),
            config=digest(config.as_json()),
            artefact=f"{path} sha256:{checksum(path)}",
        )

    return {
        "plan_200k_s": result((seconds for seconds, _ in runs), "s"),
        "plan_200k_MB": result((memory for _, memory in runs), "MB"),
    }


def setup() -> Result:
    """Wall time from creating the environment to the installed package, by the stamps that make leaves.

    Raises:
        StoreError: the environment was not set up by make in this folder.
    """
    begun, ready = Path(".venv/pyvenv.cfg"), Path(".venv/.installed-package")
    try:
        started, ended = begun.stat().st_mtime, ready.stat().st_mtime
    except OSError as error:
        raise StoreError(f"{error.filename}: missing; run make demo or make test here first") from None
    return Result(
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


MACHINE: dict[str, Callable[[], dict[str, Result]]] = {
    "plan_200k_s": planning,
    "plan_200k_MB": planning,
    "setup_s": lambda: {"setup_s": setup()},
}
SCORES: dict[str, Measure] = {
    "ordering_accuracy": score("reading", "accuracy", ""),
    "size_mae_atoms": score("reading", "size_mae_atoms", "atoms"),
    "composition_mae": score("reading", "composition_mae", ""),
    "denoise_psnr_dB": score("denoising", "psnr_dB", "dB"),
    "denoise_ssim": score("denoising", "ssim", ""),
}
COSTS: dict[str, Measure] = {  # recorded with the campaign's name in front: demo_wall_s
    "wall_s": wall_s,
    "md_core_s_per_particle": md_core_s_per_particle,
    "images_per_core_s": images_per_core_s,
}


def render(results: dict[str, dict[str, Any]]) -> str:
    """docs/results.md from docs/results.json."""
    lines = [
        "# Measured results",
        "",
        "Rendered from `docs/results.json` by `alloyscope record`; edit neither. Intervals are 95 % for scores, the",
        "extremes of chunks or runs for costs.",
        "",
        "| name | value | from – to | unit | reproduced by | config | commit | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in sorted(results.items()):
        low, high = entry["low"], entry["high"]
        span = "" if low is None or high is None else f"{low:.4g} – {high:.4g}"
        lines.append(
            f"| `{name}` | {entry['value']:.4g} | {span} | {entry['unit']} | `{entry['command']}` | "
            f"`{entry['config']}` | `{(entry['commit'] or 'none')[:9]}` | {entry['date'][:10]} |"
        )
    return "\n".join(lines) + "\n"


def measures(campaign: Campaign | None) -> dict[str, Measure]:
    if campaign is None:
        return {}
    return SCORES | {f"{campaign.name}_{name}": measure for name, measure in COSTS.items()}


def run(*, folder: Path | None, names: Sequence[str], docs: Path) -> dict[str, Result]:
    """Measure, merge into docs/results.json, render docs/results.md.

    Raises:
        ConfigError: a name is unknown, or needs a campaign's folder.
        StoreError: the campaign's files are missing or damaged.
    """
    campaign = None if folder is None else Campaign.read(folder)
    known = measures(campaign)
    if unknown := [name for name in names if name not in known and name not in MACHINE]:
        hint = "" if campaign else "; --from FOLDER adds a campaign's own"
        raise ConfigError(f"unknown names: {', '.join(unknown)}; known are {', '.join((*known, *MACHINE))}{hint}")
    found = {name: known[name](campaign) for name in names if name in known and campaign is not None}
    for measure in dict.fromkeys(MACHINE[name] for name in names if name in MACHINE):
        found |= {name: result for name, result in measure().items() if name in names}
    path = docs / "results.json"
    entries = (read_json(path) if path.exists() else {}) | {name: asdict(result) for name, result in found.items()}
    write_json(path, entries)
    write_text(docs / "results.md", render(entries))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    costs = ", ".join(f"CAMPAIGN_{name}" for name in COSTS)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"of {', '.join((*SCORES, *MACHINE))}, {costs}")
    parser.add_argument("--from", dest="folder", type=Path, metavar="FOLDER", help="results folder of a campaign")
    parser.add_argument("--docs", type=Path, default=Path("docs"), metavar="FOLDER", help="default: docs")


def main(arguments: argparse.Namespace) -> None:
    for name, result in run(folder=arguments.folder, names=arguments.names, docs=arguments.docs).items():
        print(f"{name}: {result.value:.4g} {result.unit}".rstrip())
