"""The device script loses no minute: what is missing or too slow is named, and the rest goes on."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import device
import device_steps
import numpy as np
import pytest
from device import STEPS, Step, carry_out, rows
from device_images import coherent_images
from imaging_cases import view

from alloyscope.microscope.optics import Lens


def test_steps_that_need_least_come_first() -> None:
    needs = [len(step.needs) for step in STEPS]
    assert needs == sorted(needs)
    assert [step.name for step in STEPS] == list(device_steps.STEPS)
    assert sum(step.limit_s for step in STEPS) <= 12 * 60  # within the minutes that a card is lent, starts included


def test_wheels_are_those_of_the_lock(root: Path) -> None:
    wheels, lock = (
        [line for line in (root / "envs" / name).read_text().splitlines() if line and line[0] not in "#-"]
        for name in ("device-wheels.txt", "requirements.lock")
    )
    assert set(wheels) <= set(lock)
    assert any(line.startswith("abTEM==") for line in wheels)


def test_a_step_without_its_packages_is_left_out(tmp_path: Path) -> None:
    step = Step("card", 10, ("numpy", "no_such_package"))
    assert carry_out(step, tmp_path, True, 60) == "left out: no_such_package missing here, see envs/device-wheels.txt"
    assert carry_out(Step("card", 10, ()), tmp_path, True, 1) == "left out: no time is left"


def test_a_step_that_hangs_is_ended_and_an_old_file_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "HERE", tmp_path)
    (tmp_path / "device_steps.py").write_text("import time; time.sleep(60)")
    (tmp_path / "card.json").write_text("{}")
    assert carry_out(Step("card", 0.5, ()), tmp_path, True, 60) == "failed: ended after its 0.5 s"
    assert not (tmp_path / "card.json").exists()
    (tmp_path / "device_steps.py").write_text("raise SystemExit(3)")
    assert re.fullmatch(r"failed after \d+ s with code 3", carry_out(Step("card", 10, ()), tmp_path, True, 60))


def test_a_grating_needs_one_coherent_image_per_order_that_focus_shifts_differently() -> None:
    lens, grating = Lens(128, 40.0, 200.0), np.exp(0.3j * np.cos(2 * np.pi * np.arange(128) * 16 / 128))
    waves = np.broadcast_to(grating, (1, 128, 128)).astype(np.complex64)
    sharp = replace(view("tilted"), focal_spread_A=0.0, angular_spread_mrad=0.0)
    assert coherent_images(waves, [sharp], lens) == 1
    # The orders lie at 0.4 and 0.8 1/Å, which are 10 and 20 mrad; the third one lies beyond the aperture.
    for aperture_mrad, expected in ((5.0, 1), (15.0, 2), (25.0, 3)):
        blurred = replace(sharp, focal_spread_A=100.0, aperture_mrad=aperture_mrad)
        assert coherent_images(waves, [blurred], lens) == expected


def test_figures_are_written_with_device_and_command(tmp_path: Path) -> None:
    """The script as it is called, one step of it."""
    words = ["--rehearse", "--only", "card", "--out", str(tmp_path)]
    command = [sys.executable, device.__file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "card.json").read_text())
    assert content["machine"]["card"] == "none: a rehearsal on a CPU"
    assert content["command"] == "python benchmarks/device.py --only card --rehearse"
    assert content["figures"]["device_copy_GB_per_s"]["value"] > 0.1
    assert any("device_copy_GB_per_s" in line for line in rows(tmp_path / "card.json"))
    assert done.stdout.count("done in") == 2
