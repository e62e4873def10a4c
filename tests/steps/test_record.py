"""Numbers worth quoting come from a run's files, and docs/results.md says what docs/results.json says."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from alloyscope.config import parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.steps.record import render, run
from alloyscope.store.atomic import checksum, digest, write_json
from alloyscope.store.manifests import Manifest, Slot

CAMPAIGN: dict[str, Any] = {
    "campaign": {"name": "small", "n_particles": 4},
    "md": {"particles_per_chunk": 2},
    "imaging": {"md_chunks_per_chunk": 1, "views": 3},
}
STAMP = {"finished": "2026-01-02T03:04:05+0000", "commit": "abc", "core_s": 6.0, "wall_s": 2.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "small"
    write_json(folder / "plan" / "campaign.json", {"config": parse(CAMPAIGN).model_dump(mode="json")})
    write_json(
        folder / "evaluation" / "reading" / "seed-0" / "metrics.json",
        {"accuracy": 0.75, "accuracy_low": 0.5, "accuracy_high": 0.9, "provenance": STAMP},
    )
    for chunk, seconds in enumerate(((1.0, 3.0), (4.0, 8.0))):
        slots = tuple(Slot(2 * chunk + n, True, seconds=s) for n, s in enumerate(seconds))
        Manifest("md", chunk, "d", slots, {}, {}, STAMP).write(folder / "structures" / f"chunk-00000{chunk}.json")
        hrtem = Manifest("hrtem", chunk, "d", slots, {}, {}, STAMP | {"core_s": 6.0 * (chunk + 1)})
        hrtem.write(folder / "hrtem" / f"chunk-00000{chunk}.json")
    return folder


def read(docs: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((docs / "results.json").read_text())
    return content


def test_score_keeps_its_provenance(folder: Path, tmp_path: Path) -> None:
    run(folder=folder, names=["ordering_accuracy"], docs=tmp_path)
    path = folder / "evaluation" / "reading" / "seed-0" / "metrics.json"
    assert read(tmp_path)["ordering_accuracy"] == {
        "value": 0.75,
        "low": 0.5,
        "high": 0.9,
        "unit": "",
        "command": "snakemake --profile profiles/local",
        "date": "2026-01-02T03:04:05+0000",
        "commit": "abc",
        "config": digest(parse(CAMPAIGN).as_json()),
        "artefact": f"{path} sha256:{checksum(path)}",
    }


def test_costs_by_hand(folder: Path, tmp_path: Path) -> None:
    run(folder=folder, names=["small_md_core_s_per_particle", "small_images_per_core_s"], docs=tmp_path)
    found = read(tmp_path)
    cost, speed = found["small_md_core_s_per_particle"], found["small_images_per_core_s"]
    assert (cost["value"], cost["low"], cost["high"]) == (4.0, 2.0, 6.0)
    assert (speed["value"], speed["low"], speed["high"]) == (12 / 18, 6 / 12, 6 / 6)


def test_wall_time_runs_from_first_job_to_report(folder: Path, tmp_path: Path) -> None:
    now = time.time()
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now - 100))
    write_json(folder / "potential" / "validation.json", {"provenance": STAMP | {"finished": finished}})
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("page")
    run(folder=folder, names=["small_wall_s"], docs=tmp_path)
    assert read(tmp_path)["small_wall_s"]["value"] == pytest.approx(102, abs=2)


def test_recording_keeps_the_other_entries(folder: Path, tmp_path: Path) -> None:
    run(folder=folder, names=["small_images_per_core_s"], docs=tmp_path)
    run(folder=folder, names=["ordering_accuracy"], docs=tmp_path)
    assert read(tmp_path).keys() == {"small_images_per_core_s", "ordering_accuracy"}
    assert (tmp_path / "results.md").read_text() == render(read(tmp_path))
    assert "| `ordering_accuracy` | 0.75 | 0.5 – 0.9 |" in (tmp_path / "results.md").read_text()


def test_unknown_name_records_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown names: speed; known are ordering_accuracy, .*plan_200k_s"):
        run(folder=folder, names=["ordering_accuracy", "speed"], docs=tmp_path)
    with pytest.raises(ConfigError, match=r"unknown names: ordering_accuracy; .*--from FOLDER"):
        run(folder=None, names=["ordering_accuracy"], docs=tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_missing_score_names_what_is_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no size_mae_atoms; it has accuracy, accuracy_high"):
        run(folder=folder, names=["size_mae_atoms"], docs=tmp_path)


def test_unfinished_campaign_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "hrtem" / "chunk-000001.json").unlink()
    with pytest.raises(StoreError, match="1 of 2 chunks are finished, 2 are needed"):
        run(folder=folder, names=["small_images_per_core_s"], docs=tmp_path)


def test_planning_needs_the_full_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("campaign: {n_particles: 5}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"n_particles must be 200000 to record plan_200k; got 5"):
        run(folder=None, names=["plan_200k_s"], docs=tmp_path)


def test_committed_page_agrees_with_the_numbers(root: Path) -> None:
    entries = read(root / "docs")
    assert (root / "docs" / "results.md").read_text() == render(entries), (
        "docs/results.md differs from docs/results.json; mend: alloyscope record --from results/demo NAME"
    )
    assert all(entry["artefact"].count(" sha256:") == 1 for entry in entries.values())


def test_setup_time_is_read_off_the_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"pyvenv\.cfg: missing; run make demo or make test"):
        run(folder=None, names=["setup_s"], docs=tmp_path)
    (tmp_path / ".venv").mkdir()
    for name, stamp in (("pyvenv.cfg", 1_000_000.0), (".installed-package", 1_000_130.5)):
        (tmp_path / ".venv" / name).touch()
        os.utime(tmp_path / ".venv" / name, (stamp, stamp))
    assert run(folder=None, names=["setup_s"], docs=tmp_path)["setup_s"].value == 130.5
