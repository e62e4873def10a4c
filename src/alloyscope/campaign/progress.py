"""Products, rates and costs of a campaign's stages, from manifests, ledgers and accounts."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from alloyscope.campaign.chunks import imaging_capacity, imaging_chunks, md_chunks
from alloyscope.config.model import Config
from alloyscope.errors import StoreError
from alloyscope.store.atomic import read_json
from alloyscope.store.manifests import Manifest, Slot, from_record, manifest_name

HOUR_s = 3600.0
SLOT = '"slot": '  # precedes the slot in a line of a ledger


@dataclass(frozen=True)
class Cost:
    """Processor time.

    Attributes:
        core_s: Core-seconds used (not reserved).
        gpu_s: Wall time of jobs that used a GPU [s].
    """

    core_s: float = 0.0
    gpu_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.core_s + other.core_s, self.gpu_s + other.gpu_s)

    def __mul__(self, factor: float) -> "Cost":
        return Cost(self.core_s * factor, self.gpu_s * factor)


@dataclass(frozen=True)
class Ended:
    """A job that ended: time of its end, duration, number of things made."""

    at_s: float
    wall_s: float
    made: int


@dataclass(frozen=True)
class StageProgress:
    """Products and cost of a stage so far.

    Attributes:
        text: Description of the products, for the reader.
        spent: Cost of the finished jobs, and of the finished particles of unfinished chunks.
        left: Estimated cost of the rest, extrapolated from the finished part; None when nothing is finished.
        cores_per_job: Mean number of cores that a job keeps busy.
        unit: Unit of the rate; empty when no rate is shown.
        ended: Finished jobs.
        reasons: Number of failed particles by reason.
    """

    text: str = ""
    spent: Cost = Cost()
    left: Cost | None = None
    cores_per_job: float = 1.0
    unit: str = ""
    ended: tuple[Ended, ...] = ()
    reasons: Counter[str] = field(default_factory=Counter)

    def per_hour(self, now_s: float, window_s: float | None = None) -> float | None:
        """Things made per hour in the last `window_s`, or from the first job's start to the last one's end."""
        if not self.ended:
            return None
        begun = min(job.at_s - job.wall_s for job in self.ended)
        low, high = (begun, max(job.at_s for job in self.ended)) if window_s is None else (now_s - window_s, now_s)
        made = sum(job.made for job in self.ended if low <= job.at_s <= high)
        return made * HOUR_s / max(high - max(low, begun), 1.0)


def masked(reason: str) -> str:
    """The reason with its numbers masked, so that failures of one kind are counted together."""
    return re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", reason)


def numbers_of(provenance: dict[str, Any]) -> dict[str, Any]:
    """The entries of a stage's provenance that are needed here."""
    return {
        "wall_s": float(provenance["wall_s"]),
        "core_s": float(provenance["core_s"]),
        "at_s": datetime.fromisoformat(provenance["finished"]).timestamp(),
        "gpu": provenance.get("gpu"),
    }


def cost_of(numbers: dict[str, Any]) -> Cost:
    return Cost(numbers["core_s"], numbers["wall_s"] if numbers["gpu"] else 0.0)


def ended(numbers: dict[str, Any], made: int) -> Ended:
    return Ended(numbers["at_s"], numbers["wall_s"], made)


def ledger_slots(path: Path) -> Iterator[Slot]:
    """Yield the finished particles of an unfinished chunk; an incomplete line is left out."""
    decoder = json.JSONDecoder()
    with path.open(errors="replace") as lines:
        for line in lines:
            try:  # parse only the slot: the structures that follow it are a thousand times longer
                slot, _ = decoder.raw_decode(line, line.index(SLOT) + len(SLOT))
                if line.endswith("\n"):
                    yield Slot(**slot)
            except (ValueError, TypeError):
                continue


def manifests_in(folder: Path, chunks: range) -> dict[int, Manifest]:
    """Read the manifests, by chunk, with the entries of their provenance that are needed here.

    Raises:
        StoreError: a manifest is damaged.
    """
    found = {}
    for chunk in chunks:
        if (path := folder / manifest_name(chunk)).exists():
            manifest = Manifest.read(path)
            found[chunk] = replace(manifest, provenance=from_record(numbers_of, manifest.provenance, path))
    return found


def cores_per_job(records: Sequence[dict[str, Any]]) -> float:
    ratios = [record["core_s"] / max(record["wall_s"], 1e-3) for record in records]
    return max(1.0, sum(ratios) / len(ratios)) if ratios else 1.0


def md_made(folder: Path, config: Config) -> tuple[StageProgress, set[int]]:
    """Progress of the stage `md`, or of `files` in its place, and the numbers of the failed particles."""
    chunks = md_chunks(config)
    total = min(len(chunks) * config.md.particles_per_chunk, config.campaign.n_particles)
    found = manifests_in(folder, chunks)
    slots = [slot for manifest in found.values() for slot in manifest.slots]
    # The provenance of an interrupted chunk counts only its last start; its slots count only the particles' time.
    spent_s = sum(max(m.provenance["core_s"], sum(slot.seconds for slot in m.slots)) for m in found.values())
    for chunk in chunks:
        ledger = (folder / manifest_name(chunk)).with_suffix(".ledger.jsonl")
        if chunk not in found and ledger.exists():
            begun = list(ledger_slots(ledger))
            spent_s += sum(slot.seconds for slot in begun)
            slots += begun
    failed = [slot for slot in slots if not slot.valid]
    made = StageProgress(
        text=f"{len(slots) - len(failed)} of {total} particles" + (f", {len(failed)} failed" if failed else ""),
        spent=Cost(spent_s),
        left=Cost(spent_s) * ((total - len(slots)) / len(slots)) if slots else None,
        cores_per_job=cores_per_job([manifest.provenance for manifest in found.values()]),
        unit="particles",
        ended=tuple(ended(manifest.provenance, len(manifest.slots)) for manifest in found.values()),
        reasons=Counter(masked(slot.reason or "no reason given") for slot in failed),
    )
    return made, {slot.particle for slot in failed}


def made_of_valid(folder: Path, config: Config, each: int, what: str, failed_before: set[int]) -> StageProgress:
    """Progress of a stage in imaging chunks that makes `each` things from every valid particle.

    Args:
        folder: Folder of the stage.
        config: Config of the campaign.
        each: Number of things made from a particle.
        what: Name of these things, in the plural.
        failed_before: Particles that failed in an earlier stage.
    """
    chunks = imaging_chunks(config)
    total = min(len(chunks) * imaging_capacity(config), config.campaign.n_particles)
    found = manifests_in(folder, chunks).values()
    things = sum(len(manifest.valid_particles) for manifest in found) * each
    particles = sum(len(manifest.slots) for manifest in found)
    outside = sum(manifest.counts.get("outside_field", 0) for manifest in found)
    spent = sum((cost_of(manifest.provenance) for manifest in found), Cost())
    new = (slot for m in found for slot in m.slots if not slot.valid and slot.particle not in failed_before)
    return StageProgress(
        text=f"{things} {what}" + (f", {outside} particles outside the field of view" if outside else ""),
        spent=spent,
        left=spent * ((total - particles) / particles) if particles else None,
        cores_per_job=cores_per_job([manifest.provenance for manifest in found]),
        unit=what,
        ended=tuple(ended(manifest.provenance, len(manifest.valid_particles) * each) for manifest in found),
        reasons=Counter(masked(slot.reason or "no reason given") for slot in new),
    )


def made_of_jobs(accounts: Iterable[Path], planned: int) -> StageProgress:
    """Cost of a stage whose jobs leave an account with provenance.

    Raises:
        StoreError: an account is damaged.
    """
    found = []
    for path in accounts:
        content = read_json(path)
        record = from_record(numbers_of, content.get("provenance", {}), path)
        # The provenance of a resumed training counts only its last start; its epochs are those of all starts.
        longer = max(1.0, sum(content.get("seconds_per_epoch", ())) / max(record["wall_s"], 1e-3))
        found.append(record | {name: longer * record[name] for name in ("wall_s", "core_s")})
    spent = sum((cost_of(record) for record in found), Cost())
    return StageProgress(
        spent=spent,
        left=spent * ((planned - len(found)) / len(found)) if found else None,
        cores_per_job=cores_per_job(found),
    )


def gates_text(path: Path) -> str:
    """Result of the gates, as one line.

    Raises:
        StoreError: the account is damaged.
    """
    content = read_json(path)
    try:
        left = len(content.get("unchecked", []))
        words = f"; {left} {'thing was' if left == 1 else 'things were'} not checked" if left else ""
        return f"gates: all {len(content['gates'])} passed, {len(content['images'])} images examined{words} ({path})"
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path}: not an account of gates ({error}); delete it and run snakemake again") from None
