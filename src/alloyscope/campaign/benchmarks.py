"""Time and memory of a campaign's jobs as Snakemake measured them: the files under benchmarks/."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alloyscope.campaign.stages import STAGES
from alloyscope.store.tables import read_csv

MB_PER_MIB = 1.048576  # Snakemake's benchmark files give MiB under the name MB; its resources are in MB


JOB = {"rule": "string", "name": "string", "wall_s": "float64", "core_s": "float64", "peak_MB": "float64"}


MEASURED = JOB | {"threads": "float64", "asked_MB": "float64", "asked_s": "float64", "profile": "string"}


PROFILES = ("slurm", "profiles/node", "profiles/local")  # the first of those with which a campaign ran is reported


def benchmark_rows(folder: Path) -> Iterator[tuple[Any, ...]]:
    """A rule's benchmark files as rows of `MEASURED`; only extended ones store the requested resources."""
    for path in sorted(folder.glob("*.tsv")):
        # The line also holds the params, with unescaped quotes.
        table = read_csv(path, "\t", quoted=False)
        for row in table.to_dict("records"):
            asked = str(row.get("resources", ""))
            yield (
                folder.name,
                path.stem,
                row["s"],
                row["cpu_time"],
                row["max_rss"] * MB_PER_MIB,
                row.get("threads", float("nan")),
                resource(asked, "mem_mb"),
                60 * resource(asked, "runtime"),
                "slurm" if "'slurm_partition'" in asked else "profiles/node" if "'gpu'" in asked else "profiles/local",
            )


def all_benchmarks(folder: Path) -> Iterator[tuple[Any, ...]]:
    for rule in STAGES:
        yield from benchmark_rows(folder / "benchmarks" / rule)


def profile_of(folder: Path) -> str:
    """Snakemake profile with which the jobs of a results folder ran."""
    return foremost(row[-1] for row in all_benchmarks(folder))


def foremost(profiles: Iterable[str]) -> str:
    """The first of PROFILES that is among these; the last of PROFILES when there are none."""
    return min(profiles, key=PROFILES.index, default=PROFILES[-1])


def resource(asked: str, name: str) -> float:
    """A number from the dictionary that Snakemake prints; NaN when it is absent. The text is not evaluated."""
    found = re.search(rf"'{name}': (\d+)", asked)
    return float(found[1]) if found else float("nan")
