"""Statistics over a table of particles: descriptors by protocol, agreement of ordering criteria, failures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from alloyscope.intervals import wilson_interval

CRITERIA = {"order_eta": "η > 0", "order_d_com": "d_com / R_g"}


@dataclass(frozen=True)
class Share:
    """A share of a finite sample, with its 95 % interval."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.hits, self.total)


def core_shell_share(table: pd.DataFrame, criterion: str) -> dict[str, Share]:
    """How often a criterion (a column of `CRITERIA`) calls the valid particles of each protocol core-shell.

    Particles without the label (one species) do not count.
    """
    labelled = table[table["valid"] & table[criterion].notna()]
    return {
        str(protocol): Share(int((group[criterion] == "core_shell").sum()), len(group))
        for protocol, group in labelled.groupby("protocol")
    }


def agreement(table: pd.DataFrame, criterion: str, other: str = "order_protocol") -> Share:
    """How often two label columns agree on valid particles that have both."""
    both = table[table["valid"] & table[criterion].notna() & table[other].notna()]
    return Share(int((both[criterion] == both[other]).sum()), len(both))


def by_protocol(table: pd.DataFrame, descriptors: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation of descriptors over valid particles.

    Returns:
        One row per protocol and descriptor: protocol, descriptor, n, mean, std.
    """
    valid = table[table["valid"]]
    long = valid.melt(id_vars="protocol", value_vars=list(descriptors), var_name="descriptor")
    grouped = long.groupby(["protocol", "descriptor"], sort=False)["value"]
    return grouped.agg(n="count", mean="mean", std="std").reset_index()


def failures(table: pd.DataFrame) -> dict[str, int]:
    """Particles that failed, by reason, most frequent first."""
    reasons = table.loc[~table["valid"], "reason"].fillna("no reason recorded")
    return {str(reason): int(count) for reason, count in reasons.value_counts().items()}
