"""The account of a campaign, from folders made by hand."""

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alloyscope.config import parse
from alloyscope.errors import StoreError
from alloyscope.steps.status import Workplace, jobs, run
from alloyscope.store.atomic import write_json
from alloyscope.store.ledger import Entry, Ledger
from alloyscope.store.manifests import Manifest, Slot

CAMPAIGN: dict[str, Any] = {
    "campaign": {"name": "small", "n_particles": 10},
    "md": {"particles_per_chunk": 4},
    "imaging": {"md_chunks_per_chunk": 1, "views": 3},
}
COST = {"wall_s": 10.0, "core_s": 20.0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten particles in three chunks: one finished with a failure, one begun; nothing imaged."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results") / "small"
    write_json(folder / "plan" / "campaign.json", {"config": parse(CAMPAIGN).model_dump(mode="json")})
    (folder / "plan" / "particles.parquet").touch()
    (folder / "potential").mkdir()
    (folder / "potential" / "validation.json").touch()
    slots = (*(Slot(n, True, seconds=10.0) for n in range(3)), Slot(3, False, "hang: no result after 30 s", 3, 30.0))
    Manifest("md", 0, "d", slots, {}, {"particles": 4}, COST).write(folder / "structures" / "chunk-000000.json")
    ledger = Ledger(folder / "structures" / "chunk-000001.ledger.jsonl", "d")
    ledger.append(Entry(Slot(4, True, seconds=15.0), "xyz"))
    with ledger.path.open("a") as handle:
        handle.write('0123 {"digest": "d", "slot": {"partic')
    return folder


def begin(folder: Path, name: str) -> None:
    """Snakemake's mark of a job that has started."""
    log = folder / "logs" / "md" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    output = (folder / "structures" / f"{name}.json").as_posix()
    mark = Path(".snakemake") / "incomplete" / base64.urlsafe_b64encode(output.encode()).decode()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text("{}")


def row(text: str, stage: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.split()[0] == stage)
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_counts_by_hand(folder: Path) -> None:
    text = run(folder=folder)
    assert text.startswith("small: 10 AgCo particles of 60–1000 atoms, 3 images each\n")
    assert row(text, "potential")[:5] == ["potential", "1 of 1", "0", "0", "0"]
    assert row(text, "hrtem")[:6] == ["hrtem", "0 of 3", "0", "0", "0", "0 images"]
    assert row(text, "train")[1] == "0 of 2"
    # 4 + 1 particles took 10 + 10 + 10 + 30 + 15 = 75 s, so the 5 that remain take 75 s
    assert row(text, "md") == ["md", "1 of 3", "0", "0", "0", "4 of 10 particles, 1 failed", "75 s on one core"]
    assert "1 particles failed: hang: no result after # s" in text


def test_begun_jobs_are_stopped_without_snakemake(folder: Path) -> None:
    begin(folder, "chunk-000001")
    assert row(run(folder=folder), "md")[1:5] == ["1 of 3", "0", "1", "0"]


def test_begun_jobs_are_running_with_snakemake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(folder, "chunk-000001")
    monkeypatch.setattr(Workplace, "alive", property(lambda place: True))
    cells = row(run(folder=folder), "md")
    assert cells[1:5] == ["1 of 3", "1", "0", "0"]
    # the finished chunk kept 20 / 10 = 2 cores busy
    assert cells[-1] == "75 s on one core, 38 s as it runs now"


def test_failed_jobs_name_their_log(folder: Path) -> None:
    log = folder / "logs" / "md" / "chunk-000002.log"
    log.parent.mkdir(parents=True)
    log.write_text("alloyscope md: something\n")
    text = run(folder=folder)
    assert row(text, "md")[4] == "1"
    assert f"md failed: see {log}" in text


def test_stale_lock_names_the_mend(folder: Path) -> None:
    assert "--unlock" not in run(folder=folder)
    lock = Path(".snakemake") / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/small/plan/particles.parquet\n")
    assert "run once: snakemake --unlock" in run(folder=folder)


def test_damaged_manifest_is_named(folder: Path) -> None:
    (folder / "structures" / "chunk-000002.json").write_text('{"stage": "md"')
    with pytest.raises(StoreError, match=r"chunk-000002\.json: truncated or not JSON"):
        run(folder=folder)


def test_no_campaign(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no campaign here, .*campaign\.json is missing; start one with snakemake"):
        run(folder=tmp_path)


def test_described_particles_are_counted(folder: Path) -> None:
    slots = tuple(Slot(n, n != 3) for n in range(4))
    Manifest("describe", 0, "d", slots, {}, {}, COST).write(folder / "descriptors" / "chunk-000000.json")
    assert row(run(folder=folder), "describe")[1:] == ["1 of 3", "0", "0", "0", "3 particles", "30 s on one core"]


def test_images_are_counted(folder: Path) -> None:
    slots = tuple(Slot(n, n != 3) for n in range(4))
    Manifest("hrtem", 0, "d", slots, {}, {}, COST).write(folder / "hrtem" / "chunk-000000.json")
    cells = row(run(folder=folder), "hrtem")
    assert cells[1] == "1 of 3"
    assert cells[5:] == ["9 images", "30 s on one core"]  # 20 core-seconds for 4 particles, 6 remain


def test_every_job_has_its_own_output(folder: Path) -> None:
    config = parse(json.loads(json.dumps(CAMPAIGN)))
    outputs = [job.output for planned in jobs(config, folder).values() for job in planned]
    assert len(set(outputs)) == len(outputs) == 1 + 1 + 3 + 3 + 1 + 1 + 3 + 1 + 1 + 2 + 2 + 1
    assert asdict(jobs(config, folder)["train"][0])["output"] == folder / "training/reading/seed-0/run.json"
