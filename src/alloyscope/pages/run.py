"""The page "the run": cost, failures, hardware and versions of each rule, and the commands to run it again."""

import shlex
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from alloyscope.campaign.benchmarks import JOB, MB_PER_MIB, MEASURED, all_benchmarks, foremost
from alloyscope.campaign.chunks import imaging_chunks, md_chunks
from alloyscope.campaign.folder import write_settings
from alloyscope.campaign.jobs import jobs
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import STAGES, stages_of
from alloyscope.config.model import Config
from alloyscope.errors import StoreError
from alloyscope.figures.run import run_times
from alloyscope.pages.page import embed, render
from alloyscope.progress import log
from alloyscope.store.atomic import read_json, write_text
from alloyscope.store.manifests import Manifest, from_record, manifest_name
from alloyscope.store.workplace import Workplace
from alloyscope.structure.statistics import failures

RECORDED = JOB | {
    "finished": "string",
    "recipe": "Int64",
    "commit": "string",
    "machine": "string",
    "versions": "object",
}


@dataclass(frozen=True)
class Run:
    """The jobs of a results folder.

    Attributes:
        records: One row per job that wrote its provenance, with the columns of `RECORDED`.
        measured: One row per job that has a benchmark file, with the columns of `MEASURED`.
        manifests: Manifests of the chunks, by rule.
    """

    records: pd.DataFrame
    measured: pd.DataFrame
    manifests: dict[str, list[Manifest]]

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read a results folder.

        Raises:
            StoreError: an account or benchmark file is damaged.
        """
        manifests: dict[str, list[Manifest]] = {}
        rows = []
        for place in dict.fromkeys(stage.folder for stage in STAGES.values() if stage.chunked):
            for path in sorted((folder / place).glob("chunk-*.json")):
                manifest = Manifest.read(path)
                manifests.setdefault(manifest.stage, []).append(manifest)
                rows.append(from_record(partial(record_row, path.stem), manifest.provenance, path))
        for stage in STAGES.values():
            if stage.chunked or stage.provenance is None:
                continue
            for path in sorted(folder.glob(stage.provenance.format(task="*", run="*"))):
                content = read_json(path)
                if "provenance" in content:
                    name = "-".join(path.parts[-3:-1]) if stage.trains else ""
                    rows.append(from_record(partial(record_row, name), content["provenance"], path))
        measured = list(all_benchmarks(folder))
        return cls(table(rows, RECORDED), table(measured, MEASURED), manifests)

    @property
    def rules(self) -> list[str]:
        """Rules with at least one job here, in the order of the campaign, without `report`, which writes this page."""
        seen = {*self.records["rule"], *self.measured["rule"]}
        return [rule for rule in STAGES if rule in seen and rule != "report"]

    def jobs(self) -> pd.DataFrame:
        """One row per job: wall time of the whole process, core time, memory, requested resources.

        A value that only one of the two sources holds is taken from that source.
        """
        both = self.measured.merge(self.records, "outer", ["rule", "name"], suffixes=("", "_recorded"))
        both["wall_s"] = both["wall_s"].fillna(both["wall_s_recorded"])
        # Snakemake samples core time every 30 s and misses the end; provenance is taken before the last files.
        both["core_s"] = both[["core_s", "core_s_recorded"]].max(axis=1)
        # Provenance stores the peak of the largest process; Snakemake's benchmark the largest sampled sum of all.
        both["peak_MB"] = both[["peak_MB", "peak_MB_recorded"]].max(axis=1)
        return both[[*JOB, "threads", "asked_MB", "asked_s"]]


def table(rows: list[tuple[Any, ...]], columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def record_row(name: str, record: dict[str, Any]) -> tuple[Any, ...]:
    """A job's provenance as a row of `RECORDED`; an empty name means that the job is the only one of its stage."""
    return (
        record["stage"],
        name or record["stage"],
        record["wall_s"],
        record["core_s"],
        record["peak_memory_MB"] * MB_PER_MIB,
        datetime.fromisoformat(record["finished"]).isoformat(),
        record["recipe"],
        record["commit"] or "–",
        "{cpu}, {cores} cores, {memory_GB:.0f} GB".format_map(record["machine"]),
        record["versions"],
    )


def cost_rows(run: Run) -> list[dict[str, Any]]:
    """Time and memory of each rule, used and requested; an unknown value is None."""
    jobs, rows = run.jobs(), []
    for rule in run.rules:
        mine = jobs[jobs["rule"] == rule]
        booked_s = (mine["wall_s"] * mine["threads"]).sum(min_count=len(mine))
        row = {
            "jobs": len(mine),
            "median_s": mine["wall_s"].median(),
            "longest_s": mine["wall_s"].max(),
            "sum_s": mine["wall_s"].sum(),
            "core_s": mine["core_s"].sum(min_count=1),
            "threads": mine["threads"].max(),
            "efficiency": mine["core_s"].sum(min_count=len(mine)) / booked_s if booked_s else float("nan"),
            "peak_MB": mine["peak_MB"].max(),
            "asked_MB": mine["asked_MB"].max(),
            "asked_s": mine["asked_s"].max(),
        }
        rows.append({"rule": rule} | {name: None if pd.isna(value) else value for name, value in row.items()})
    return rows


def survival_rows(run: Run, config: Config) -> list[dict[str, Any]]:
    """Numbers of chunks and particles of each chunked rule: finished, failed, retried, restarted."""
    rows, lost = [], set[int]()
    for rule, manifests in run.manifests.items():
        needed = md_chunks(config) if STAGES[rule].per == "md chunk" else imaging_chunks(config)
        slots = [slot for manifest in manifests for slot in manifest.slots]
        failed = [slot for slot in slots if not slot.valid and slot.particle not in lost]
        lost |= {slot.particle for slot in failed}
        before_s = [earlier_s(manifest) for manifest in manifests if rule == "md"]
        rows.append(
            {
                "rule": rule,
                "chunks": len(manifests),
                "needed": len(needed),
                "particles": len(slots),
                "failed": len(failed),
                "retried": sum(slot.attempts > 1 for slot in slots) if rule == "md" else None,
                "core_s": sum(slot.seconds for slot in slots) if rule == "md" else None,
                "restarted": sum(spent > 0 for spent in before_s),
                "restarted_s": sum(before_s),
                "outside_field": sum(manifest.counts.get("outside_field", 0) for manifest in manifests),
                "reasons": failures(
                    pd.DataFrame({"valid": False, "reason": [slot.reason for slot in failed]}), alike=True
                ),
            }
        )
    return rows


def earlier_s(manifest: Manifest) -> float:
    """Core time of a chunk's particles that exceeds the core time of its last start: earlier starts spent it [s]."""
    return max(0.0, sum(slot.seconds for slot in manifest.slots) - float(manifest.provenance["core_s"]))


def failed_attempts(folder: Path, config: Config) -> dict[str, int] | None:
    """Number of errors in each stage's jobs, as far back as the logs go; None when no log mentions a job."""
    accounts = Workplace.of(folder).accounts()
    known = {
        stage: [accounts[output] for job in of if (output := job.output.resolve()) in accounts]
        for stage, of in jobs(config, folder).items()
    }
    counts = {stage: sum(account.failures for account in found) for stage, found in known.items()}
    return {stage: count for stage, count in counts.items() if count} if any(known.values()) else None


def place_rows(run: Run) -> list[dict[str, Any]]:
    """Dates, recipes, commits and machines of each rule's jobs; distinct values, the most frequent first."""
    rows = []
    for rule in run.rules:
        mine = run.records[run.records["rule"] == rule]
        if len(mine):
            ends = sorted(mine["finished"], key=datetime.fromisoformat)
            found = {name: list(mine[name].value_counts().index) for name in ("recipe", "commit", "machine")}
            rows.append({"rule": rule, "first": ends[0], "last": ends[-1]} | found)
    return rows


def version_rows(run: Run) -> list[dict[str, Any]]:
    """Versions of each package; each version with the rules that used it and their numbers of jobs."""
    packages = dict.fromkeys(name for versions in run.records["versions"] for name in versions)
    rows = []
    for package in packages:
        used: dict[str, Counter[str]] = {}
        for rule, versions in zip(run.records["rule"], run.records["versions"], strict=True):
            used.setdefault(versions.get(package, "not recorded"), Counter())[rule] += 1
        words = {found: ", ".join(f"{rule} {n}" for rule, n in rules.items()) for found, rules in used.items()}
        rows.append({"package": package, "used": words, "mixed": len(used) > 1})
    return rows


def gate_rows(folder: Path) -> list[dict[str, Any]]:
    """Every gate with the range of its values over the examined images; empty before the stage `gates` has run."""
    path = folder / "hrtem" / "gates.json"
    if not path.exists():
        return []
    try:
        gates = pd.DataFrame(read_json(path)["gates"], columns=["of", "gate", "value", "low", "high"])
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: no list of gates ({error}); delete it and run snakemake again") from None
    return [
        {
            "gate": gate,
            "asked": len(mine),
            "least": mine["value"].min(),
            "most": mine["value"].max(),
            "low": None if pd.isna(mine["low"].iloc[0]) else mine["low"].iloc[0],
            "high": None if pd.isna(mine["high"].iloc[0]) else mine["high"].iloc[0],
        }
        for gate, mine in gates.groupby("gate", sort=False)
    ]


def unchecked(folder: Path) -> list[str]:
    """What no gate has checked, in words; empty before the stage `gates` has run."""
    path = folder / "hrtem" / "gates.json"
    return [str(words) for words in read_json(path).get("unchecked", [])] if path.exists() else []


def commands(config: Config, settings: Path, profile: str) -> dict[str, str]:
    """The command that runs the jobs of each rule again, and no later rule; the last one runs one chunk again."""
    start = ["snakemake", "--profile", profile, "--configfile", settings.as_posix()]
    chunk = config.folder / "structures" / manifest_name(0)
    lines = {
        rule.name: shlex.join([*start, "--forcerun", rule.name, "--until", rule.name]) for rule in stages_of(config)
    }
    return lines | {"one chunk": shlex.join([*start, "--force", chunk.as_posix()])}


def write_page(folder: Path, config: Config, out: Path, watch: Stopwatch) -> None:
    """Write the page.

    Args:
        folder: Results folder of the campaign, finished or not.
        config: Config of the campaign.
        out: Page to write.
        watch: Stopwatch of the job that writes the page.

    Raises:
        StoreError: a file of the campaign is damaged.
    """
    found = Run.read(folder)
    costs = cost_rows(found)
    profile = foremost(found.measured["profile"])
    pages = {"index.html": "report of the whole campaign", "statistics.html": "statistics of the structures"}
    settings = write_settings(folder, config)
    named = config.folder / settings.relative_to(folder)
    page = render(
        "run.html",
        config=config,
        folder=folder,
        costs=costs,
        figure=embed(run_times({row["rule"]: row["sum_s"] for row in costs}), "Time per rule") if costs else None,
        survival=survival_rows(found, config),
        failed=failed_attempts(folder, config),
        gates=gate_rows(folder),
        unchecked=unchecked(folder),
        places=place_rows(found),
        versions=version_rows(found),
        commands=commands(config, named, profile),
        profile=profile,
        pages={name: words for name, words in pages.items() if out.with_name(name).exists()},
        own=watch.record(),
    )
    write_text(out, page)
    log(f"{out}: written, {len(page.encode()) / 1000:.0f} kB")
