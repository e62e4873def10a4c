"""The benchmark of normalisation at its smallest: networks of one epoch, but the right dependences."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_small_comparison(root: Path, tmp_path: Path) -> None:
    words = ["--particles", "20", "--epochs", "1", "--only", "dose", "background", "--out", str(tmp_path)]
    script = str(root / "benchmarks" / "normalisation.py")
    command = [sys.executable, script, *words, "--set", str(tmp_path / "set")]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    figures = json.loads((tmp_path / "normalisation.json").read_text())["figures"]

    def size_error(variant: str, condition: str) -> float:
        return figures[f"normalisation_{variant}_{condition}_vacuum_size_mae_atoms"]["value"]

    assert figures["normalisation_dose_as_stored_vacuum_size_mae_atoms"]["runs"] == 12  # a fifth of 20, three views
    for gain in ("gain_1.005", "gain_1.05", "gain_1.5"):
        assert size_error("background", gain) == pytest.approx(size_error("background", "as_stored"), rel=1e-3)
    for window, most in (("whole", 0.15), ("corner", 0.4)):
        own, mean = (figures[f"level_error_{name}_{window}_10000"]["value"] for name in ("background", "mean"))
        assert own < min(most, mean)
    assert size_error("dose", "gain_1.5") != pytest.approx(size_error("dose", "as_stored"), rel=1e-2)
