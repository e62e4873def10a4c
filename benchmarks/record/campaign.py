"""The numbers of a campaign that are worth quoting: scores of its networks, costs, statistics of its particles."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alloyscope.campaign.chunks import imaging_capacity, n_chunks
from alloyscope.campaign.folder import read_campaign
from alloyscope.config.model import Config
from alloyscope.errors import StoreError
from alloyscope.intervals import NORMAL_95, wilson_interval
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.store.atomic import checksum, digest, read_json
from alloyscope.store.chunks import finished, read_all
from alloyscope.store.manifests import Manifest, manifest_name
from alloyscope.store.tables import read_table
from benchmarks.campaign_command import command_of
from benchmarks.record.page import Result

STAMP = "%Y-%m-%dT%H:%M:%S%z"


@dataclass(frozen=True)
class RecordedCampaign:
    """A finished campaign's folder and config."""

    folder: Path
    config: Config

    @classmethod
    def read(cls, folder: Path) -> "RecordedCampaign":
        return cls(folder, read_campaign(folder))

    @property
    def name(self) -> str:
        return self.config.campaign.name

    @property
    def command(self) -> str:
        return command_of(self.config)

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


Measure = Callable[[RecordedCampaign], Result]


def score(task: str, key: str, unit: str) -> Measure:
    """A score of the first run's evaluation on the test split, with its 95 % interval."""

    def measure(campaign: RecordedCampaign) -> Result:
        run = f"seed-{campaign.config.training.seeds[0]}"
        path = campaign.folder / "evaluation" / task / run / "metrics.json"
        metrics = read_json(path)
        if key not in metrics:
            raise StoreError(f"{path}: holds no {key}; it has {', '.join(sorted(metrics))}")
        low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
        return campaign.result(metrics[key], low, high, unit, path, metrics["provenance"])

    return measure


def _manifests(campaign: RecordedCampaign, place: str, capacity: int) -> tuple[Path, list[Manifest]]:
    total = n_chunks(campaign.config.campaign.n_particles, capacity)
    found = finished(campaign.folder / place, total)
    return campaign.folder / place / manifest_name(found[-1]), read_all(campaign.folder / place, found)


def md_core_s_per_particle(campaign: RecordedCampaign) -> Result:
    """Core-seconds inside LAMMPS for one particle, failed attempts included; low and high are the chunks' extremes."""
    path, manifests = _manifests(campaign, "structures", campaign.config.md.particles_per_chunk)
    chunks = [statistics.fmean(slot.seconds for slot in manifest.slots) for manifest in manifests]
    mean = statistics.fmean(slot.seconds for manifest in manifests for slot in manifest.slots)
    return campaign.result(mean, min(chunks), max(chunks), "s", path, manifests[-1].provenance)


def images_per_core_s(campaign: RecordedCampaign) -> Result:
    """Images per core-second of the whole step, checks and writing included; low and high are the chunks' extremes."""
    path, manifests = _manifests(campaign, "hrtem", imaging_capacity(campaign.config))
    made = [len(manifest.valid_particles) * campaign.config.imaging.views for manifest in manifests]
    spent = [manifest.provenance["core_s"] for manifest in manifests]
    rates = [images / seconds for images, seconds in zip(made, spent, strict=True)]
    provenance = manifests[-1].provenance
    return campaign.result(sum(made) / sum(spent), min(rates), max(rates), "1/s", path, provenance)


def wall_s(campaign: RecordedCampaign) -> Result:
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


Estimate = tuple[float, float | None, float | None]  # value and 95 % interval
OfTable = Callable[[pd.DataFrame], Estimate]


def share(hits: "pd.Series[bool]") -> Estimate:
    """Share of true values, with its Wilson interval; NaN of nothing."""
    return (float(hits.mean()) if len(hits) else math.nan, *wilson_interval(int(hits.sum()), len(hits)))


def mean(values: NDArray[np.float64]) -> Estimate:
    """Mean of values, shape (n,), and 1.96 standard errors to either side; NaN below two values."""
    if len(values) < 2:
        return math.nan, math.nan, math.nan
    centre, half = float(values.mean()), NORMAL_95 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return centre, centre - half, centre + half


def agreement(criterion: str) -> OfTable:
    """How often a label agrees with the order that the protocol aims at, where both exist."""

    def estimate(table: pd.DataFrame) -> Estimate:
        both = table[table["valid"] & table[criterion].notna() & table["order_protocol"].notna()]
        return share(both[criterion] == both["order_protocol"])

    return estimate


def core_shell_share(protocol: str) -> OfTable:
    """Share of the campaign's own label among the valid, labelled particles of a protocol."""

    def estimate(table: pd.DataFrame) -> Estimate:
        of = table[table["valid"] & table["ordering"].notna() & (table["protocol"] == protocol)]
        return share(of["ordering"] == "core_shell")

    return estimate


def retry_rate(protocol: str) -> OfTable:
    """Share of the planned particles of a protocol that took more than one attempt."""
    return lambda table: share(table.loc[table["protocol"] == protocol, "attempts"] > 1)


def descriptor(name: str, protocol: str) -> OfTable:
    """Mean of a descriptor over the valid particles of a protocol."""
    return lambda table: mean(
        table.loc[table["valid"] & (table["protocol"] == protocol), name].dropna().to_numpy(dtype=np.float64)
    )


STATISTICS: dict[str, OfTable] = {
    "particles": lambda table: (float(len(table)), None, None),
    "valid_share": lambda table: share(table["valid"]),
    "eta_agreement": agreement("order_eta"),
    "d_com_agreement": agreement("order_d_com"),
    **{f"core_shell_share_{protocol}": core_shell_share(protocol) for protocol in PROTOCOLS},
    **{f"retry_rate_{protocol}": retry_rate(protocol) for protocol in PROTOCOLS},
    **{f"{name}_{protocol}": descriptor(name, protocol) for name in ("d_com_over_Rg", "eta") for protocol in PROTOCOLS},
}


def statistic(name: str) -> Measure:
    """A number of STATISTICS, from structures.parquet."""

    def measure(campaign: RecordedCampaign) -> Result:
        path = campaign.folder / "structures" / "structures.parquet"
        value, low, high = STATISTICS[name](read_table(path))
        if not all(math.isfinite(number) for number in (value, low, high) if number is not None):
            raise StoreError(f"{path}: holds too few particles for {name}; leave that name out")
        account = read_json(path.with_suffix(".json"))
        return campaign.result(value, low, high, "", path, account["provenance"])

    return measure


SCORES: dict[str, Measure] = {
    "ordering_accuracy": score("reading", "accuracy", ""),
    "size_mae_atoms": score("reading", "size_mae_atoms", "atoms"),
    "composition_mae": score("reading", "composition_mae", ""),
    "denoise_psnr_dB": score("denoising", "psnr_dB", "dB"),
    "denoise_ssim": score("denoising", "ssim", ""),
}
OWN: dict[str, Measure] = {  # recorded with the campaign's name in front: demo_wall_s
    "wall_s": wall_s,
    "md_core_s_per_particle": md_core_s_per_particle,
    "images_per_core_s": images_per_core_s,
    **{name: statistic(name) for name in STATISTICS},
}


def measures(campaign: RecordedCampaign) -> dict[str, Measure]:
    return SCORES | {f"{campaign.name}_{name}": measure for name, measure in OWN.items()}
