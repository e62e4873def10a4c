"""How much benchmarks/device.py measures, on which backends, and how it takes the time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness import Figure

Figures = dict[str, Figure]


@dataclass(frozen=True)
class Plan:
    """How much is measured, on a card or in a rehearsal on a CPU."""

    device: str
    grids: tuple[int, ...]
    batch: int
    repeats: int
    copy_bytes: int
    abtem_waves: int
    particles: int
    images: int


CARD = Plan("cuda", (256, 384, 512), 64, 5, 2**30, 16, 64, 8192)
REHEARSAL = Plan("cpu", (128,), 2, 1, 2**24, 2, 4, 64)


def wait_for_torch(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def times_s(action: Callable[[], Any], device: str, repeats: int) -> list[float]:
    """Wall seconds of an action, the device waited for, after one run that makes tables and plans."""
    found = []
    for _ in range(repeats + 1):
        wait_for_torch(device)
        began = time.perf_counter()
        action()
        wait_for_torch(device)
        found.append(time.perf_counter() - began)
    return found[1:]


def copy_B_per_s(plan: Plan) -> list[float]:
    """Bytes read and written in a second by a plain copy on the device."""
    import torch

    source, target = (torch.ones(plan.copy_bytes // 4, device=plan.device) for _ in range(2))
    return [2 * plan.copy_bytes / s for s in times_s(lambda: target.copy_(source), plan.device, 2 * plan.repeats)]


def backends(plan: Plan) -> list[tuple[str, Any]]:
    """Array backends of the device, the one that imaging prefers first."""
    from alloyscope.microscope.arrays import CPU, CupyBackend, gpu_backend, torch_backend

    if plan.device == "cpu":
        return [("numpy", CPU), ("torch", torch_backend("cpu", plan.batch))]
    preferred = gpu_backend()
    cupy = [("cupy", preferred)] if isinstance(preferred, CupyBackend) else []
    return [*cupy, ("torch", torch_backend("cuda", plan.batch))]
