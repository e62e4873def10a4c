"""What the benchmarks share: figures, the file they are written to, the table that is printed.

`python benchmarks/NAME.py` writes results/bench/NAME.json; `python -m benchmarks.record` quotes figures from there.
"""

import argparse
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from alloyscope import provenance
from alloyscope.errors import AlloyscopeError
from alloyscope.store.atomic import write_json


@dataclass(frozen=True)
class Figure:
    """A measured number.

    Attributes:
        value: The number.
        unit: Its unit, "" for a ratio.
        against: What it is compared with, or how it was measured.
        min, max: Extremes of the runs, or the ends of an interval; None for a single run.
        runs: Measurements that went into it.
    """

    value: float
    unit: str
    against: str
    min: float | None = None
    max: float | None = None
    runs: int = 1

    def __post_init__(self) -> None:
        numbers = [number for number in (self.value, self.min, self.max) if number is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"a figure must be finite; got {self}")

    @classmethod
    def median(cls, values: Sequence[float], unit: str, against: str) -> Self:
        """The median of several runs, between their extremes."""
        return cls(statistics.median(values), unit, against, min(values), max(values), len(values))


# a program starts with its parent's peak as its own: measured from a process that never grows
MEASURE = """
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
os.write(int(sys.argv[1]), str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
sys.exit(code)
"""


def peak_MB(command: Sequence[str], cwd: Path | None = None, output: IO[str] | int = subprocess.DEVNULL) -> float:
    """Run a program; peak resident memory [MB] of it or of the largest process it waited for.

    Raises:
        AlloyscopeError: it fails.
    """
    ours, its = os.pipe()
    with open(ours) as answer:
        words = [sys.executable, "-c", MEASURE, str(its), *command]
        done = subprocess.run(words, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, pass_fds=[its], check=False)
        os.close(its)
        if done.returncode:
            line = shlex.join(command)[:300]
            raise AlloyscopeError(f"exit code {done.returncode} of {line}; run it by hand to see why")
        return int(answer.read()) / 1024


def parser(description: str | None) -> argparse.ArgumentParser:
    """Command line of a benchmark, with the option that all of them have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--out", type=Path, default=Path("results/bench"), metavar="FOLDER", help="default: results/bench"
    )
    return made


def table(figures: dict[str, Figure]) -> str:
    """Figures as columns of text."""
    rows = [("figure", "value", "min – max", "unit", "runs", "against")]
    for name, figure in figures.items():
        span = "" if figure.min is None or figure.max is None else f"{figure.min:.4g} – {figure.max:.4g}"
        rows.append((name, f"{figure.value:.4g}", span, figure.unit, str(figure.runs), figure.against))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def line_of(area: str, words: Sequence[str]) -> str:
    """What reproduces a benchmark: where its file goes does not belong to it."""
    kept = [word for before, word in zip(["", *words], words) if "--out" not in (before, word)]
    return shlex.join(["python", f"benchmarks/{area}.py", *kept])


def publish(
    area: str,
    figures: dict[str, Figure],
    out: Path,
    config: str = "",
    command: str | None = None,
    device: Mapping[str, str] | None = None,
) -> Path:
    """Write results/bench/<area>.json and print the same as a table.

    Args:
        area: Name of the benchmark, and of its file.
        figures: By name; a name is used by one benchmark only.
        out: Folder of the files.
        config: Digest of the config that was measured, if any.
        command: What reproduces the figures, if not this process's own words.
        device: The accelerator that was measured, its driver and its libraries.
    """
    path = out / f"{area}.json"
    write_json(
        path,
        {
            "figures": {name: asdict(figure) for name, figure in figures.items()},
            "machine": provenance.machine() | dict(device or {}),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "command": command or line_of(area, sys.argv[1:]),
            "config": config,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    )
    print(f"\n{table(figures)}\n\n{path}", flush=True)
    return path


def run(main: Callable[[], None]) -> None:
    """Call a benchmark; what the user can mend is one line, not a traceback."""
    try:
        main()
    except AlloyscopeError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
