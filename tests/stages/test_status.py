"""The account of a campaign, from folders made by hand."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alloyscope.campaign.jobs import jobs
from alloyscope.commands import status
from alloyscope.commands.status import look, run
from alloyscope.config.read import parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.store.atomic import write_json
from alloyscope.store.manifests import Manifest, Slot
from alloyscope.store.workplace import Workplace
from tests.stages.status_folder import CAMPAIGN, NOW_s, begin, begun_campaign, cost, row


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return begun_campaign(tmp_path, monkeypatch)


def test_counts_by_hand(folder: Path) -> None:
    text = run(folder=folder)
    assert text.startswith("small: 10 AgCo particles of 60–1000 atoms, 3 images each\n")
    assert row(text, "potential") == ["potential", "1 of 1", "0", "0", "0", "0"]
    assert row(text, "hrtem") == ["hrtem", "0 of 3", "0", "0", "0", "0", "0 images"]
    assert row(text, "train")[1] == "0 of 2"
    assert row(text, "md") == ["md", "1 of 3", "0", "0", "0", "0", "4 of 10 particles, 1 failed"]
    assert "1 particles failed in md: hang: no result after # s" in text


def test_costs_by_hand(folder: Path) -> None:
    text, done = look(folder, NOW_s)
    assert not done
    # 4 + 1 particles took 10 + 10 + 10 + 30 + 15 = 75 s, so the 5 that remain take 75 s; 4 of them in a job of 10 s,
    # which began 610 s ago
    assert row(text, "md", 1) == ["md", "24 particles/h", "1440 particles/h", "0.021", "0.021"]
    assert row(text, "all") == ["all of these", "0.021", "0.021"]
    assert "GPU-hours" not in text
    assert "core-hours used  still needed" in text


def test_rate_of_the_last_hour_leaves_out_what_is_older(folder: Path) -> None:
    slots = tuple(Slot(n, True, seconds=10.0) for n in range(4, 8))
    Manifest("md", 1, "d", slots, {}, {}, cost(90)).write(folder / "structures" / "chunk-000001.json")
    # 4 particles in the last hour; 8 from 90 min 10 s to 10 min ago, that is in 4810 s
    assert row(look(folder, NOW_s)[0], "md", 1)[1:3] == ["4 particles/h", "6 particles/h"]


def test_hours_of_gpus(folder: Path) -> None:
    slots = tuple(Slot(n, n != 3) for n in range(4))
    made = cost(gpu="H100") | {"wall_s": 1800.0, "core_s": 7200.0}
    Manifest("hrtem", 0, "d", slots, {}, {}, made).write(folder / "hrtem" / "chunk-000000.json")
    text = look(folder, NOW_s)[0]
    assert row(text, "hrtem", 1)[-4:] == ["2.0", "3.0", "0.500", "0.750"]  # 4 particles are made, 6 remain
    assert row(text, "md", 1)[-4:] == ["0.021", "0.021", "0.000", "0.000"]


def trained(folder: Path, **changes: Any) -> None:
    """One of two trainings: two epochs of half an hour."""
    account = {"provenance": cost(gpu="H100"), "seconds_per_epoch": [1800.0, 1800.0]}
    write_json(folder / "training" / "reading" / "seed-0" / "run.json", account | changes)


def test_hours_of_a_training_are_those_of_all_its_starts(folder: Path) -> None:
    """The last start took 10 s on two cores; the epochs took an hour."""
    trained(folder)
    assert row(look(folder, NOW_s)[0], "train", 1)[-4:] == ["2.0", "2.0", "1.0", "1.0"]


def test_training_on_cpus_is_ready_by_the_cores_it_keeps_busy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other training takes as long as the first, an hour on two cores."""
    trained(folder, provenance=cost())
    begin(folder, "training/denoising/seed-0/run.json")
    monkeypatch.setattr(Workplace, "alive", property(lambda place: True))
    assert row(look(folder, NOW_s)[0], "train", 1)[1] == "60.0 min"


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
    Manifest("describe", 0, "d", slots, {}, {}, cost()).write(folder / "descriptors" / "chunk-000000.json")
    assert row(run(folder=folder), "describe")[1:] == ["1 of 3", "0", "0", "0", "0", "3 particles"]


def test_images_and_particles_outside_the_field_are_counted(folder: Path) -> None:
    """Particle 3 failed in md, particle 2 reaches out of the field of view."""
    outside = "view 1: 12 of 300 atoms lie outside the box"
    slots = (Slot(0, True), Slot(1, True), Slot(2, False, outside), Slot(3, False, "hang: no result after 30 s"))
    manifest = Manifest("hrtem", 0, "d", slots, {}, {"images": 6, "outside_field": 1}, cost())
    manifest.write(folder / "hrtem" / "chunk-000000.json")
    text = look(folder, NOW_s)[0]
    assert row(text, "hrtem")[1::5] == ["1 of 3", "6 images, 1 particles outside the field of view"]
    assert row(text, "hrtem", 1)[2] == "0.6 images/s"
    assert "1 particles failed in hrtem: view #: # of # atoms lie outside the box\n" in text
    assert text.count("particles failed in") == 2  # each is counted where it failed first


def test_verdicts_of_the_gates(folder: Path) -> None:
    path = folder / "hrtem" / "gates.json"
    write_json(path, {"gates": [{"gate": "a"}, {"gate": "b"}], "images": ["a"], "provenance": cost()})
    assert f"gates: all 2 passed, 1 images examined ({path})" in run(folder=folder)
    write_json(path, {"gates": [{"gate": "a"}], "unchecked": ["b"], "images": ["a"], "provenance": cost()})
    assert f"gates: all 1 passed, 1 images examined; 1 thing was not checked ({path})" in run(folder=folder)
    write_json(path, {"gates": [], "provenance": cost()})
    with pytest.raises(StoreError, match=r"gates\.json: not an account of gates \('images'\); delete it"):
        run(folder=folder)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({}, "'wall_s'"), ({"wall_s": 1.0, "core_s": 1.0}, "'finished'"), (cost(finished="today"), "Invalid isoformat.*")],
)
@pytest.mark.parametrize("name", ["training/reading/seed-0/run.json", "structures/chunk-000002.json"])
def test_provenance_that_is_not_whole_is_named(folder: Path, name: str, changes: dict[str, Any], missing: str) -> None:
    if name.startswith("training"):
        write_json(folder / name, {"provenance": changes} if changes else {})
    else:
        Manifest("md", 2, "d", (), {}, {}, changes).write(folder / name)
    message = rf"{name}: holds no provenance, or not all of it \({missing}\); delete it and run snakemake again"
    with pytest.raises(StoreError, match=message):
        run(folder=folder)


def finish(folder: Path, campaign: dict[str, Any] = CAMPAIGN) -> None:
    """Every output exists."""
    for planned in jobs(parse(campaign), folder).values():
        for job in planned:
            if not job.output.exists() and job.output.parent.name in ("structures", "descriptors", "hrtem"):
                Manifest("any", 0, "d", (Slot(0, True),), {}, {}, cost()).write(job.output)
            elif not job.output.exists():
                write_json(job.output, {"provenance": cost()})
    write_json(folder / "hrtem" / "gates.json", {"gates": [], "images": [], "provenance": cost()})


def test_watch_ends_when_all_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            finish(folder)

    monkeypatch.setattr(status.time, "sleep", sleep)
    status.watch(folder, 7.0)
    text = capsys.readouterr().out
    assert slept == [7.0, 7.0]
    assert text.count("small: 10 AgCo particles") == 3
    assert "\x1b" not in text  # not a terminal


def test_watch_needs_a_time(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"--watch must be above 0 seconds; got 0"):
        status.watch(folder, 0.0)


def test_interrupt_ends_watch_in_order(folder: Path) -> None:
    command = [sys.executable, "-m", "alloyscope", "status", str(folder), "--watch", "600"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as process:
        assert process.stdout is not None
        assert "small: 10 AgCo particles" in process.stdout.readline()
        while process.stdout.readline().split()[:1] != ["all"]:  # the account's last line: it sleeps now, or soon
            pass
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (0, "")


def test_every_job_has_its_own_output(folder: Path) -> None:
    config = parse(json.loads(json.dumps(CAMPAIGN)))
    outputs = [job.output for planned in jobs(config, folder).values() for job in planned]
    assert len(set(outputs)) == len(outputs) == 1 + 1 + 3 + 3 + 1 + 1 + 3 + 1 + 1 + 2 + 2 + 1
    assert asdict(jobs(config, folder)["train"][0])["output"] == folder / "training/reading/seed-0/run.json"
