"""What the stages of a campaign have made, how fast, and what it took, from manifests, ledgers and accounts."""

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
SLOT = '"slot": '  # in a line of a ledger


@dataclass(frozen=True)
class Cost:
    """Time of processors.

    Attributes:
        core_s: Core-seconds worked, not booked.
        gpu_s: Seconds that jobs with a GPU took.
    """

    core_s: float = 0.0
    gpu_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.core_s + other.core_s, self.gpu_s + other.gpu_s)

    def __mul__(self, factor: float) -> "Cost":
        return Cost(self.core_s * factor, self.gpu_s * factor)


@dataclass(frozen=True)
class Ended:
    """A job that ended: when, after what time, with what made."""

    at_s: float
    wall_s: float
    made: int


@dataclass(frozen=True)
class StageProgress:
    """What a stage has made so far.

    Attributes:
        text: For the reader.
        spent: Of all that is finished, and of the finished particles of unfinished chunks.
        left: Of what remains, judged by what is finished; None when nothing is.
        cores_per_job: Cores that a job keeps busy.
        unit: What its rate counts; empty: it has no rate worth a line.
        ended: Finished jobs.
        reasons: Failed particles by reason.
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
    """The class of a reason: its numbers do not tell failures apart."""
    return re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", reason)


def numbers_of(provenance: dict[str, Any]) -> dict[str, Any]:
    """What is needed here of a step's record."""
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
    """Finished particles of an unfinished chunk; a line that is just being written is left out."""
    decoder = json.JSONDecoder()
    with path.open(errors="replace") as lines:
        for line in lines:
            try:  # the structures that follow the slot are a thousand times longer, and need no parsing
                slot, _ = decoder.raw_decode(line, line.index(SLOT) + len(SLOT))
                if line.endswith("\n"):
                    yield Slot(**slot)
            except (ValueError, TypeError):
                continue


def manifests_in(folder: Path, chunks: range) -> dict[int, Manifest]:
    """Manifests by chunk, of their provenance what is needed here.

    Raises:
        StoreError: one is damaged.
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
    """Of md, or of files in its place; and the particles that failed."""
    chunks = md_chunks(config)
    total = min(len(chunks) * config.md.particles_per_chunk, config.campaign.n_particles)
    found = manifests_in(folder, chunks)
    slots = [slot for manifest in found.values() for slot in manifest.slots]
    # an interrupted chunk's provenance knows its last start alone, its slots know the particles' time alone
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
    """Of a stage in imaging chunks that makes `each` things of every valid particle."""
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
    """Of a stage whose jobs leave an account with provenance; others cost nothing worth a line.

    Raises:
        StoreError: an account is damaged.
    """
    found = []
    for path in accounts:
        content = read_json(path)
        record = from_record(numbers_of, content.get("provenance", {}), path)
        # a training that was resumed records its last start; its epochs are those of all starts
        longer = max(1.0, sum(content.get("seconds_per_epoch", ())) / max(record["wall_s"], 1e-3))
        found.append(record | {name: longer * record[name] for name in ("wall_s", "core_s")})
    spent = sum((cost_of(record) for record in found), Cost())
    return StageProgress(
        spent=spent,
        left=spent * ((planned - len(found)) / len(found)) if found else None,
        cores_per_job=cores_per_job(found),
    )


def gates_text(path: Path) -> str:
    """Verdict of the gates.

    Raises:
        StoreError: the account is damaged.
    """
    content = read_json(path)
    try:
        return f"gates: all {len(content['gates'])} passed, {len(content['images'])} images examined ({path})"
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path}: not an account of gates ({error}); delete it and run snakemake again") from None
