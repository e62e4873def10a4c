"""What the imaging benchmarks compare is the same particle in the same box, and abTEM made fast is abTEM."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import convergence
import device_steps
import hrtem_engine
import imaging_cases
import numpy as np
import pytest
from imaging_cases import Seen

from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.microscope.settings import ImagingSection

IMAGING = ImagingSection(pixels=96, grid=192, n_slices=5)


def test_trimmed_box_holds_atoms_in_every_slice() -> None:
    slab = hrtem_engine.trimmed(imaging_cases.alloy(), ImagingSection())
    assert set(slab.slices()) == set(range(20))
    assert set(slab.elements) == {"Ag", "Co"}
    assert np.ptp(slab.positions_A[:, 2]) == pytest.approx(slab.height_A, abs=0.02)


def test_abtem_made_fast_gives_the_same_wave() -> None:
    slab = hrtem_engine.trimmed(imaging_cases.alloy(), IMAGING)
    fast, plain = hrtem_engine.BestAbtem(IMAGING), AbtemEngine(IMAGING, "cpu")
    np.testing.assert_allclose(fast.exit_waves([slab]), plain.exit_waves([slab]), atol=1e-4)


def test_abtem_ensemble_gives_the_waves_of_its_members() -> None:
    slabs = [hrtem_engine.trimmed(imaging_cases.alloy(), IMAGING, number) for number in range(2)]
    tallest = max(slab.height_A for slab in slabs)
    slabs = [replace(slab, height_A=tallest) for slab in slabs]
    abtems = hrtem_engine.BestAbtem(IMAGING)
    together, apart = abtems.ensemble(slabs), abtems.exit_waves(slabs)
    np.testing.assert_allclose(together, apart, atol=1e-4)
    assert np.abs(apart[0] - apart[1]).max() > 0.1


def test_band_error_by_hand() -> None:
    # one coefficient in each band; the second is off by 30 %
    k = np.array([[0.1, 0.5]])
    truth = Seen(np.zeros((1, 1), np.float32), np.array([[2.0, 1.0j]], np.complex64), k)
    found = replace(truth, spectrum=np.array([[2.0, 1.3j]], np.complex64))
    assert imaging_cases.band_error(found, truth, 0.0, 0.3) == 0.0
    assert imaging_cases.band_error(found, truth, 0.3, 0.6) == pytest.approx(0.3, rel=1e-6)


def test_traffic_by_hand() -> None:
    # bytes a point, one species. Potential: matrix product 4, factors 4 + 8, three passes of 16 over two half spectra
    # or what they become. Transmission 24. Flight: rows there 16, band out, there, kernel, back and in 5 × 16 / 3 × 2,
    # kernel once more, rows back 16
    assert device_steps.traffic_bytes(1, species=1) == pytest.approx(16 + 48 + 24 + 32 + 11 * 16 / 3)


@pytest.mark.slow
def test_a_small_convergence(root: Path, tmp_path: Path) -> None:
    words = ["--elements", "Co", "--finest", "384", "--out", str(tmp_path), "--figure", str(tmp_path / "curve.svg")]
    script = str(root / "benchmarks" / "convergence.py")
    answer = subprocess.run([sys.executable, script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    figures = json.loads((tmp_path / "convergence.json").read_text())["figures"]
    for orientation in imaging_cases.ORIENTATIONS:
        ours, unmatched = (
            figures[f"grid_error_{name}_Co_{orientation}_256"]["value"] for name in ("ours", "unmatched")
        )
        assert 0 < ours < 0.75 * unmatched
        slices = [figures[f"slices_error_Co_{orientation}_{n}"]["value"] for n in convergence.SLICES]
        assert slices == sorted(slices, reverse=True)
    assert "</svg>" in (tmp_path / "curve.svg").read_text()
