"""Of which commit a result says that it is, and on which GPU it says that it was made."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from alloyscope.campaign import provenance


def torch(initialised: bool) -> SimpleNamespace:
    return SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: initialised, get_device_name=lambda: "H100"))


def cupy(pooled: int) -> SimpleNamespace:
    """Two GPUs, of which the second is in use."""
    return SimpleNamespace(
        get_default_memory_pool=lambda: SimpleNamespace(total_bytes=lambda: pooled),
        cuda=SimpleNamespace(
            Device=lambda: SimpleNamespace(id=1),
            runtime=SimpleNamespace(getDeviceProperties=lambda device: {"name": [b"A100", b"H200"][device]}),
        ),
    )


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({"torch": None, "cupy": None}, None),
        ({"torch": torch(False), "cupy": cupy(0)}, None),  # loaded, but not used
        ({"torch": torch(True), "cupy": None}, "H100"),
        ({"torch": torch(False), "cupy": cupy(512)}, "H200"),
    ],
)
def test_gpu_that_was_worked_on(
    monkeypatch: pytest.MonkeyPatch, modules: dict[str, SimpleNamespace | None], expected: str | None
) -> None:
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert provenance.Stopwatch("hrtem").record()["gpu"] == expected


def test_commit_is_that_of_the_checkout(root: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    assert (provenance.commit() or "").removesuffix("+") == head.stdout.strip()
