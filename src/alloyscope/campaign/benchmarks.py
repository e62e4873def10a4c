"""What Snakemake measured of the jobs of a campaign: the files under benchmarks/."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alloyscope.campaign.stages import STAGES
from alloyscope.store.tables import read_csv

MB_PER_MIB = 1.048576  # Snakemake measures in MiB what it calls MB, and is asked in MB


JOB = {"rule": "string", "name": "string", "wall_s": "float64", "core_s": "float64", "peak_MB": "float64"}


MEASURED = JOB | {"threads": "float64", "asked_MB": "float64", "asked_s": "float64", "profile": "string"}


PROFILES = ("slurm", "profiles/node", "profiles/local")  # a campaign may have run with several: the first is named


def benchmark_rows(folder: Path) -> Iterator[tuple[Any, ...]]:
    """A rule's benchmark files as rows of `MEASURED`; what was asked for stands in extended ones alone."""
    for path in sorted(folder.glob("*.tsv")):
        # params stand in the same line, quotes and all
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
    """Snakemake profile that the jobs of a results folder ran with."""
    return foremost(row[-1] for row in all_benchmarks(folder))


def foremost(profiles: Iterable[str]) -> str:
    """The first of PROFILES that is among these; without any, the last."""
    return min(profiles, key=PROFILES.index, default=PROFILES[-1])


def resource(asked: str, name: str) -> float:
    """A number from the dictionary that Snakemake prints, read and not evaluated; NaN where there is none."""
    found = re.search(rf"'{name}': (\d+)", asked)
    return float(found[1]) if found else float("nan")
