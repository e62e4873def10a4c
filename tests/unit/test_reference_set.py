"""The shipped reference particles are what their account says."""

import json
from pathlib import Path

import pytest
from ase.io import read

from alloyscope.store.atomic import checksum


def test_parts_are_as_accounted(root: Path) -> None:
    folder = root / "data" / "agco-reference"
    parts = json.loads((folder / "parts.json").read_text())
    assert [part["file"] for part in parts] == sorted(path.name for path in folder.glob("part-*.extxyz.gz"))
    for part in parts:
        assert checksum(folder / part["file"]) == part["sha256"]
        assert sum(high - low + 1 for low, high in part["numbers"]) == part["particles"]
        assert f"| `{part['file']}` | {part['particles']} | {part['seed']} |" in (folder / "README.md").read_text()


def test_ase_reads_a_part(root: Path) -> None:
    parts = json.loads((root / "data" / "agco-reference" / "parts.json").read_text())
    frames = read(root / "data" / "agco-reference" / parts[-1]["file"], index=":")
    assert len(frames) == parts[-1]["particles"]
    for frame in frames:
        assert set(frame.symbols) == {"Ag", "Co"}
        assert 60 <= len(frame) <= 1000
        assert frame.info["protocol"] in ("gas_quench", "droplets")
        assert frame.positions.mean(axis=0) == pytest.approx(0, abs=1e-3)
        assert -5 < frame.info["potential_energy_eV"] / len(frame) < -2
