"""Statistics of a table of particles: shares and means in bins, tests, ordering criteria, typical particles, failures.

All intervals are 95 % intervals.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from alloyscope.contracts import Ordering, require
from alloyscope.intervals import wilson_interval

ORDERS: tuple[str, ...] = get_args(Ordering)
CRITERIA = {"order_enclosure": "enclosure", "order_eta": "η > 0", "order_d_com": "d_com / R_g"}
LEAST_PER_BIN = 40  # ASSUME sufficient: a share near one half then has the interval ± 0.15
MOST_BINS = 24
NUMBER = r"\d+(?:\.\d+)?(?:e[-+]?\d+)?"


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
    """Share of each protocol's valid particles that are core-shell by a criterion (a column of `CRITERIA`).

    Particles without the label (those of one species) do not count.
    """
    labelled = table[table["valid"] & table[criterion].notna()]
    return {
        str(protocol): Share(int((group[criterion] == "core_shell").sum()), len(group))
        for protocol, group in labelled.groupby("protocol")
    }


def agreement(table: pd.DataFrame, criterion: str, other: str = "order_protocol") -> Share:
    """Share of the valid particles with both labels on which two label columns agree."""
    both = table[table["valid"] & table[criterion].notna() & table[other].notna()]
    return Share(int((both[criterion] == both[other]).sum()), len(both))


def by_protocol(table: pd.DataFrame, descriptors: Sequence[str], by: str = "protocol") -> pd.DataFrame:
    """Mean and standard deviation of descriptors over valid particles, by protocol or another column of labels.

    Returns:
        One row per label and descriptor: protocol (or `by`), descriptor, n, mean, std.
    """
    groups = table[table["valid"]].groupby(by, sort=False)
    # One column at a time: one long table of all columns would take 3 GB for a million particles.
    found = [groups[name].agg(n="count", mean="mean", std="std").assign(descriptor=name) for name in descriptors]
    rows: pd.DataFrame = pd.concat(found).reset_index()
    return rows[[by, "descriptor", "n", "mean", "std"]]


def failures(table: pd.DataFrame, alike: bool = False) -> dict[str, int]:
    """Numbers of failed particles by reason, most frequent first; with `alike`, numbers in reasons are ignored."""
    reasons = table.loc[~table["valid"], "reason"].fillna("no reason recorded").astype(str)
    if alike:
        reasons = reasons.str.replace(NUMBER, "…", regex=True)
    return {str(reason): int(count) for reason, count in reasons.value_counts().items()}


def bin_edges(values: pd.Series, least: int = LEAST_PER_BIN, most: int = MOST_BINS) -> NDArray[np.float64]:
    """Edges of bins that hold about equally many values, at least `least` each; fewer values give one bin.

    Equal values are in the same bin, so there may be fewer bins than the number of values allows. A bin contains its
    lower edge; the last bin contains both edges. Without values there is no bin and no edge.
    """
    known = np.sort(values.dropna().to_numpy(np.float64))
    if not len(known):
        return known
    wanted = max(1, min(most, len(known) // least))
    edges = np.unique([*known[np.arange(wanted) * len(known) // wanted], known[-1]])
    counts = np.histogram(known, edges)[0] if len(edges) > 1 else np.array([len(known)])
    while len(counts) > 1 and counts.min() < least:
        poor = int(counts.argmin())
        neighbours = [place for place in (poor - 1, poor + 1) if 0 <= place < len(counts)]
        other = min(neighbours, key=lambda place: counts[place])
        edges = np.delete(edges, max(poor, other))
        counts = np.histogram(known, edges)[0]
    return edges if len(edges) > 1 else np.repeat(edges, 2)


def bin_of(values: pd.Series, edges: NDArray[np.float64]) -> pd.Series:
    """Number of the bin in which each value lies."""
    return pd.Series(np.searchsorted(edges[1:-1], values.to_numpy(np.float64), side="right"), index=values.index)


def _bins(x: pd.Series, y: pd.Series) -> Iterator[tuple[dict[str, float], NDArray[Any]]]:
    """Position and values of each bin of x."""
    known = x.notna() & y.notna()
    x, y = x[known].astype(np.float64), y[known].astype(np.float64)
    edges = bin_edges(x)
    for key, inside in y.groupby(bin_of(x, edges)):
        place = int(str(key))
        middle = float(x[inside.index].mean())
        position = {"low": edges[place], "high": edges[place + 1], "middle": middle, "n": len(inside)}
        yield position, inside.to_numpy()


BIN = ("low", "high", "middle", "n", "value", "value_low", "value_high")


def binned_share(x: pd.Series, hit: pd.Series) -> pd.DataFrame:
    """Share of hits (true or false) against x, with Wilson intervals; rows that lack x or hit do not count.

    Returns:
        One row per bin: low, high (its edges), middle (mean x), n, value, value_low, value_high.
    """
    rows = []
    for place, hits in _bins(x, hit):
        share = Share(int(hits.sum()), len(hits))
        low, high = share.interval
        rows.append(place | {"value": share.value, "value_low": low, "value_high": high})
    return pd.DataFrame(rows, columns=list(BIN))


def binned_mean(x: pd.Series, y: pd.Series) -> pd.DataFrame:
    """Mean of y against x, with Student's t intervals (none for a single value), in the columns of `binned_share`."""
    rows = []
    for place, values in _bins(x, y):
        mean, n = float(values.mean()), len(values)
        half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        rows.append(place | {"value": mean, "value_low": mean - half, "value_high": mean + half})
    return pd.DataFrame(rows, columns=list(BIN))


@dataclass(frozen=True)
class RankTest:
    """Two-sided test whether one sample is higher than another (Mann & Whitney, Ann. Math. Stat. 18, 50 (1947)).

    Attributes:
        n: Sizes of both samples.
        medians: Medians of both samples.
        superiority: Probability that a value of the first exceeds one of the second, ties counted half; ½ if equal.
        p: Probability of a superiority at least as far from ½ if both samples come from one distribution.
    """

    n: tuple[int, int]
    medians: tuple[float, float]
    superiority: float
    p: float

    @classmethod
    def of(cls, first: pd.Series, second: pd.Series) -> "RankTest | None":
        """Compare the known values of two samples; None when there are none in one of them."""
        first, second = first.dropna(), second.dropna()
        if first.empty or second.empty:
            return None
        if first.nunique() == 1 and second.nunique() == 1 and first.iloc[0] == second.iloc[0]:
            superiority, p = 0.5, 1.0  # scipy would divide by zero
        else:
            found = stats.mannwhitneyu(first.to_numpy(np.float64), second.to_numpy(np.float64))
            superiority, p = float(found.statistic) / (len(first) * len(second)), float(found.pvalue)
        return cls((len(first), len(second)), (float(first.median()), float(second.median())), superiority, p)


@dataclass(frozen=True)
class Deviation:
    """The largest difference between the cumulative distributions of two samples (Kolmogorov–Smirnov, two-sided).

    Attributes:
        n: Sizes of both samples.
        largest: D, the largest difference.
        at: Value at which it occurs.
        p: Probability of a D at least as large if both samples come from one distribution.
    """

    n: tuple[int, int]
    largest: float
    at: float
    p: float

    def visible(self, level: float) -> float:
        """Smallest D that is significant between samples of these sizes, asymptotically: √(−½ ln(p/2) (n + m) / nm)."""
        return math.sqrt(-0.5 * math.log(level / 2) * sum(self.n) / math.prod(self.n))

    @classmethod
    def of(cls, first: pd.Series, second: pd.Series) -> "Deviation | None":
        """Compare the known values of two samples; None when there are none in one of them."""
        first, second = first.dropna(), second.dropna()
        if first.empty or second.empty:
            return None
        # For more than a few hundred values the asymptotic p-value is accurate, and the exact one is slow.
        method = "exact" if max(len(first), len(second)) <= 300 else "asymp"
        found = stats.ks_2samp(first.to_numpy(np.float64), second.to_numpy(np.float64), method=method)
        n = (len(first), len(second))
        return cls(n, float(found.statistic), float(found.statistic_location), float(found.pvalue))


def mean_by_size(table: pd.DataFrame, columns: Sequence[str], by: str, most: int = 6) -> pd.DataFrame:
    """Means of columns over the particles of each label and size bin; particles that lack a column do not count.

    Returns:
        One row per label of the column `by` and bin of `n_atoms` (the same bins for every label): by, low, high, n and
        the columns.
    """
    known = table.dropna(subset=[*columns, by])
    edges = bin_edges(known["n_atoms"], most=most)
    places = bin_of(known["n_atoms"], edges)
    means = known.assign(low=edges[places], high=edges[places + 1]).groupby([by, "low", "high"])
    return means[list(columns)].mean().assign(n=means.size()).reset_index()


def crossed(table: pd.DataFrame, one: str, other: str) -> dict[tuple[str, str], int]:
    """Numbers of valid particles with both labels, by the pair of labels, e.g. ("core_shell", "janus")."""
    both = table[table["valid"] & table[one].notna() & table[other].notna()]
    return {(str(a), str(b)): len(group) for (a, b), group in both.groupby([one, other])}


def typical(table: pd.DataFrame, columns: Sequence[str], classes: pd.Series) -> dict[int, int]:
    """The particle of each class that is nearest to the median of the class, as class → index in the table.

    Distances are Euclidean over the columns, each in units of its standard deviation over the table. Constant columns,
    and particles that lack one of the others, are left out.

    Raises:
        ContractError: no particle has all columns.
    """
    varied = [name for name in columns if table[name].nunique() > 1]
    known = table[varied].dropna()
    require(len(known) > 0, f"typical particles need descriptors; none has all of {', '.join(columns)}")
    scaled = known / known.std(ddof=0).replace(0.0, 1.0)
    distances = {
        int(str(place)): ((group - group.median()) ** 2).sum(axis=1) for place, group in scaled.groupby(classes)
    }
    return {place: int(str(distance.idxmin())) for place, distance in distances.items()}
