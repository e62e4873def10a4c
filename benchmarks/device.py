"""All that only a GPU can show, in order of worth, in some minutes: `python benchmarks/device.py --minutes 9`.

Each step is a process with a time limit of its own. It writes its figures at once, with the card, the driver and the
versions, to a file of its own in --out; `python -m benchmarks.record --bench results/bench/device 'device_*'` quotes
them. A step whose packages are missing is left out and named; envs/device-wheels.txt lists them. The steps that need
least come first, and this file needs nothing but Python. `--rehearse` does everything small on a CPU, within 90
seconds.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
STARTING_S = 5.0  # ASSUME what a step needs to begin: with less left, none is begun
ENGINE = (
    *("numpy", "scipy", "pydantic", "pyfftw", "ase", "abtem"),
    *("pandas", "pyarrow", "zarr", "numcodecs", "google_crc32c", "yaml", "threadpoolctl"),
)


@dataclass(frozen=True)
class Step:
    """One thing to measure.

    Attributes:
        name: Of the function in device_steps.py, and of the file.
        limit_s: After which it is ended.
        needs: Packages without which it is left out.
    """

    name: str
    limit_s: float
    needs: tuple[str, ...]


STEPS = (
    Step("card", 45, ("numpy", "torch")),
    Step("network", 60, ("numpy", "torch")),
    Step("backends", 60, (*ENGINE, "torch")),
    Step("waves", 90, (*ENGINE, "torch")),
    Step("images", 90, (*ENGINE, "torch")),
    Step("against_abtem", 120, (*ENGINE, "torch")),
    Step("imaging", 120, (*ENGINE, "torch")),
    Step("training", 120, (*ENGINE, "torch", "pytorch_lightning", "torchmetrics")),
)


def missing(step: Step) -> list[str]:
    return [name for name in step.needs if importlib.util.find_spec(name) is None]


def environment() -> dict[str, str]:
    """The package of this checkout comes first, whether or not it is installed."""
    paths = [str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def carry_out(step: Step, out: Path, rehearse: bool, left_s: float) -> str:
    """Run a step; how it ended."""
    if lacking := missing(step):
        return f"left out: {', '.join(lacking)} missing here, see envs/device-wheels.txt"
    if left_s < STARTING_S:
        return "left out: no time is left"
    (out / f"{step.name}.json").unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "device_steps.py"), step.name, "--out", str(out)]
    began, limit_s = time.monotonic(), min(step.limit_s, left_s)
    try:
        done = subprocess.run([*command, *["--rehearse"] * rehearse], env=environment(), timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return f"failed: ended after its {limit_s:g} s"
    took = f"{time.monotonic() - began:.0f} s"
    return f"done in {took}" if done.returncode == 0 else f"failed after {took} with code {done.returncode}"


def rows(path: Path) -> list[str]:
    """Figures of a step's file as lines of text."""
    if not path.exists():
        return []
    figures = json.loads(path.read_text())["figures"]
    return [
        f"    {name:<44} {figure['value']:>11.4g} {figure['unit']:<9} {figure['against']}"
        for name, figure in figures.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, metavar="N", help="for all steps (default: 9)")
    parser.add_argument("--rehearse", action="store_true", help="everything small, on a CPU")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS], help="these steps alone")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results/bench/device, device-rehearsal")
    arguments = parser.parse_args()
    out = arguments.out or Path("results/bench", "device-rehearsal" if arguments.rehearse else "device")
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    ended: dict[str, str] = {}
    for step in STEPS:
        if arguments.only is None or step.name in arguments.only:
            ended[step.name] = carry_out(step, out, arguments.rehearse, end - time.monotonic())
            print(f"{step.name}: {ended[step.name]}", flush=True)
    print()
    for name, how in ended.items():
        print("\n".join([f"{name}: {how}", *(rows(out / f"{name}.json") if how.startswith("done") else [])]))
    return int(any(not how.startswith("done") for how in ended.values()))


if __name__ == "__main__":
    sys.exit(main())
