"""The account of a campaign, from folders made by hand."""

import base64
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alloyscope.config import parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.steps import status, status_engine
from alloyscope.steps.status import jobs, look, run
from alloyscope.steps.status_cost import Cost, made_of_valid
from alloyscope.steps.status_engine import Account, Workplace, read_log
from alloyscope.store.atomic import write_json
from alloyscope.store.ledger import Entry, Ledger
from alloyscope.store.manifests import Manifest, Slot

CAMPAIGN: dict[str, Any] = {
    "campaign": {"name": "small", "n_particles": 10},
    "md": {"particles_per_chunk": 4},
    "imaging": {"md_chunks_per_chunk": 1, "views": 3},
}
NOW_s = 1_800_000_000.0


def cost(minutes_ago: float = 10.0, **other: Any) -> dict[str, Any]:
    """Provenance of a job that took 10 s on two cores."""
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(NOW_s - 60 * minutes_ago))
    return {"wall_s": 10.0, "core_s": 20.0, "finished": finished, **other}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten particles in three chunks: one finished with a failure, one begun; nothing imaged."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results") / "small"
    write_json(folder / "plan" / "campaign.json", {"config": parse(CAMPAIGN).model_dump(mode="json")})
    (folder / "plan" / "particles.parquet").touch()
    write_json(folder / "potential" / "validation.json", {"provenance": cost() | {"core_s": 0.0}})
    slots = (*(Slot(n, True, seconds=10.0) for n in range(3)), Slot(3, False, "hang: no result after 30 s", 3, 30.0))
    Manifest("md", 0, "d", slots, {}, {"particles": 4}, cost()).write(folder / "structures" / "chunk-000000.json")
    ledger = Ledger(folder / "structures" / "chunk-000001.ledger.jsonl", "d")
    ledger.append(Entry(Slot(4, True, seconds=15.0), "xyz"))
    with ledger.path.open("a") as handle:
        handle.write('0123 {"digest": "d", "slot": {"partic')
    return folder


def begin(folder: Path, name: str, content: str = '{"external_jobid": null}') -> None:
    """Snakemake's mark of a job that has started: an md chunk, or what makes a file."""
    log = folder / "logs" / "md" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    output = (folder / (name if "/" in name else f"structures/{name}.json")).as_posix()
    mark = Path(".snakemake") / "incomplete" / base64.urlsafe_b64encode(output.encode()).decode()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(content)


def row(text: str, stage: str, table: int = 0) -> list[str]:
    """Cells of a stage in the first table, of jobs, or the second, of costs."""
    lines = [line for line in text.splitlines() if line.split()[:1] == [stage]]
    return [cell.strip() for cell in lines[table].split("  ") if cell.strip()]


def submit(folder: Path, **slurm: str) -> None:
    """Snakemake's log of a run that gave md chunks to SLURM."""
    log = Path(".snakemake") / "log" / "2026-01-01T000000.000000.snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    blocks = []
    for number, (chunk, job) in enumerate(slurm.items()):
        name = chunk.replace("_", "-")
        blocks.append(
            f"[Thu Jan  1 00:00:00 2026]\nrule md:\n    output: {folder}/structures/{name}.json\n"
            f"    log: {folder}/logs/md/{name}.log\n    jobid: {number}\n    wildcards: chunk=0\n"
            f"Job {number} has been submitted with SLURM jobid {job} (log: slurm_logs/{job}.log).\n"
        )
    log.write_text("".join(blocks))


def stub_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A squeue that leaves its arguments in a file, and then does as told."""
    program, asked = tmp_path / "bin" / "squeue", tmp_path / "asked"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return asked


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
    assert "core-hours used  about to go" in text


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


def test_begun_jobs_are_stopped_without_snakemake(folder: Path) -> None:
    begin(folder, "chunk-000001")
    assert row(run(folder=folder), "md")[1:6] == ["1 of 3", "0", "0", "1", "0"]


def test_begun_jobs_are_running_with_snakemake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(folder, "chunk-000001")
    monkeypatch.setattr(Workplace, "alive", property(lambda place: True))
    text = look(folder, NOW_s)[0]
    assert row(text, "md")[1:6] == ["1 of 3", "1", "0", "0", "0"]
    # 75 core-seconds remain; the finished chunk kept 20 / 10 = 2 cores busy
    assert row(text, "md", 1)[3] == "38 s"


def test_jobs_on_slurm(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake works on another machine; its marks no longer know the ids, its log does."""
    asked = stub_squeue(tmp_path, monkeypatch, "printf '812|RUNNING\\n813|PENDING\\n900|RUNNING\\n'")
    for name in ("chunk-000001", "chunk-000002"):
        begin(folder, name)
    submit(folder, chunk_000001="812", chunk_000002="813")
    (Path(".snakemake") / "locks").mkdir()
    (Path(".snakemake") / "locks" / "0.output.lock").touch()
    text = run(folder=folder)
    assert row(text, "md")[1:6] == ["1 of 3", "1", "1", "0", "0"]
    assert "md on SLURM: chunk-000001 (812)\n" in text
    assert "--unlock" not in text
    assert asked.read_text() == f"--noheader --user {folder.owner()} --format %i|%T\n"


def test_jobs_whose_snakemake_was_killed_here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_squeue(tmp_path, monkeypatch, "echo '812|RUNNING'")
    begin(folder, "chunk-000001")
    submit(folder, chunk_000001="812")
    (Path(".snakemake") / "locks").mkdir()
    (Path(".snakemake") / "locks" / "0.output.lock").touch()
    (log,) = Path(".snakemake").glob("log/*.snakemake.log")
    log.write_text(f"  Host: {platform.node()}\nSLURM run ID: 1b2c-3d\n{log.read_text()}")
    refused = log.with_name("2026-01-02T000000.000000.snakemake.log")  # a start that met the lock
    refused.write_text(f"  Host: {platform.node()}\nLockException\n")
    text = run(folder=folder)
    assert row(text, "md")[1:6] == ["1 of 3", "1", "0", "0", "0"]
    assert "was killed, and nothing will follow them: end them with scancel --name=1b2c-3d, then run snakemake" in text
    log.write_text(log.read_text().replace(platform.node(), "login2"))
    assert "scancel" not in run(folder=folder)


@pytest.mark.parametrize("alive", [False, True])
def test_job_that_left_slurm_has_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """Cancelled, say, and not yet begun again by the Snakemake of a new start."""
    stub_squeue(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(Workplace, "alive", property(lambda place: alive))
    begin(folder, "chunk-000001")
    submit(folder, chunk_000001="812")
    assert row(run(folder=folder), "md")[1:6] == ["1 of 3", "0", "0", "1", "0"]


def test_mark_knows_the_job_before_it_starts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_squeue(tmp_path, monkeypatch, "echo '812|PENDING'")
    begin(folder, "chunk-000001", '{"external_jobid": "812"}')
    assert row(run(folder=folder), "md")[1:6] == ["1 of 3", "0", "1", "0", "0"]


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1", "slurm_load_jobs error: Unable to contact"),
        ("exit 3", "exit code 3"),
        ("exec sleep 60", "no answer in 0.2 s"),
    ],
)
def test_squeue_that_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, fault: str
) -> None:
    stub_squeue(tmp_path, monkeypatch, script)
    monkeypatch.setattr(status_engine, "SQUEUE_TIMEOUT_s", 0.2)
    begin(folder, "chunk-000001")
    submit(folder, chunk_000001="812")
    text = run(folder=folder)
    assert f"squeue says nothing of the jobs on SLURM: {fault}" in text
    assert row(text, "md")[1:6] == ["1 of 3", "0", "0", "1", "0"]


def test_squeue_is_not_asked_about_jobs_of_this_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stub_squeue(tmp_path, monkeypatch, "exit 1")
    begin(folder, "chunk-000001")
    assert "squeue" not in run(folder=folder)
    assert not asked.exists()


def test_results_that_are_a_link(
    folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on clusters, where results lie on another disk than the checkout."""
    disk = tmp_path_factory.mktemp("disk") / "results"
    (tmp_path / "results").rename(disk)
    (tmp_path / "results").symlink_to(disk)
    stub_squeue(tmp_path, monkeypatch, "echo '812|RUNNING'")
    begin(folder, "chunk-000001", '{"external_jobid": "812"}')
    submit(folder)
    next((Path(".snakemake") / "log").iterdir()).write_text(STARTED + FAILED)
    for seen in (folder, disk / "small"):
        text = run(folder=seen)
        assert row(text, "md")[1:6] == ["1 of 3", "1", "0", "0", "1"]
        assert "1 job of md failed: SLURM says TIMEOUT\n" in text


def test_status_of_another_checkout(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begin(folder, "chunk-000001")
    (tmp_path / "other" / ".snakemake").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    assert row(run(folder=".." / folder), "md")[1:6] == ["1 of 3", "0", "0", "1", "0"]


def begin_on_another_node(folder: Path, minutes_ago: float) -> None:
    """A job of a Snakemake that works inside an allocation, and when it last wrote."""
    begin(folder, "chunk-000002")
    log = folder / "logs" / "md" / "chunk-000002.log"
    os.utime(log, (NOW_s - 60 * minutes_ago,) * 2)
    lock = Path(".snakemake") / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    submit(folder)
    started = STARTED.splitlines(keepends=True)[:-1]
    next((Path(".snakemake") / "log").iterdir()).write_text("".join(["SNAKEMAKE\n  Host: node17\n", *started]))


def test_job_of_a_snakemake_on_another_machine_runs_while_it_writes(folder: Path) -> None:
    begin_on_another_node(folder, minutes_ago=3.0)
    text = look(folder, NOW_s)[0]
    assert row(text, "md")[1:6] == ["1 of 3", "1", "0", "0", "0"]
    assert "--unlock" not in text
    os.utime(folder / "logs" / "md" / "chunk-000002.log", (0.0, 0.0))
    ledger = folder / "structures" / "chunk-000002.ledger.jsonl"
    ledger.touch()
    os.utime(ledger, (NOW_s - 60.0,) * 2)
    assert row(look(folder, NOW_s)[0], "md")[2] == "1"


def test_silent_job_of_a_snakemake_on_another_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_on_another_node(folder, minutes_ago=11.0)
    text = look(folder, NOW_s)[0]
    assert row(text, "md")[1:6] == ["1 of 3", "0", "0", "1", "0"]
    assert "1 job counted as stopped may still work on node17: nothing written for 10.0 min\n" in text
    assert "if none does on another machine either, run once: snakemake --unlock" in text
    monkeypatch.setattr(status.platform, "node", lambda: "node17")  # there it is known that no snakemake works
    assert "may still work" not in look(folder, NOW_s)[0]


def test_killed_here_a_moment_ago_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_on_another_node(folder, minutes_ago=0.1)
    monkeypatch.setattr(status.platform, "node", lambda: "node17")
    text = look(folder, NOW_s)[0]
    assert row(text, "md")[1:6] == ["1 of 3", "0", "0", "1", "0"]
    assert "--unlock" in text


def test_without_slurm(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(folder, "chunk-000001")
    submit(folder, chunk_000001="812")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "squeue" not in run(folder=folder)


def fail(folder: Path, name: str, text: str) -> Path:
    log = folder / "logs" / "md" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


def test_failed_jobs_by_class(folder: Path) -> None:
    logs = [fail(folder, f"chunk-00000{n}", f"md: 1 of 4\nalloyscope md: chunk 00000{n}: no room\n\n") for n in (1, 2)]
    text = run(folder=folder)
    assert row(text, "md")[5] == "2"
    assert f"2 jobs of md failed: chunk 000001: no room\n    see {logs[0]}, {logs[1]}\n" in text


def test_a_log_without_an_error_is_no_failure(folder: Path) -> None:
    fail(folder, "chunk-000002", "md 000002, particles: 2 of 2, 1 s\n")
    assert row(run(folder=folder), "md")[1:6] == ["1 of 3", "0", "0", "0", "0"]


STARTED = """rule md:
    input: t
    output: results/small/structures/chunk-000002.json
    jobid: 4
Job 4 has been submitted with SLURM jobid 77 (log: s).
"""
FAILED = """[Thu Jan  1 00:00:00 2026]
Error in rule md:
    message: SLURM-job '77' failed, SLURM status is: 'TIMEOUT'. Reason unavailable.
    jobid: 4
    output: results/small/structures/chunk-000002.json
    log: l, s (check log file(s) for error details)
"""
UNSUBMITTED = STARTED[: STARTED.index("Job 4")]
CLOUD = "For further error details see the cluster/cloud log and the log files of the involved rule(s)."
EXCEPTION = "exception: no account"
NODE_FAIL = "SLURM-job '77' failed due to a node failure, SLURM status is: 'NODE_FAIL'. Failed nodes will be excluded."
REFUSED = f"""SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: nix
sbatch: error: Batch job submission failed: Invalid partition name specified'.
    sbatch call:
        sbatch --parsable -p nix --wrap="python -m snakemake"
{CLOUD}"""
REFUSAL = "sbatch: invalid partition specified: nix; Batch job submission failed: Invalid partition name specified"


def failed_with(message: str) -> str:
    return re.sub("(?<=message: ).*", message, FAILED)


SHOWN = """Logfile s:
================================================================================
SNAKEMAKE
=========
localrule md:
    output: results/small/structures/chunk-000002.json
    jobid: 0
Finished jobid: 4 (Rule: md)
================================================================================
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STARTED, Account("77")),
        (STARTED + FAILED, Account("77", True, "TIMEOUT", failures=1)),
        (STARTED + FAILED + SHOWN, Account("77", True, "TIMEOUT", failures=1)),  # a log within the log says nothing
        (3 * (STARTED + FAILED + SHOWN), Account("77", True, "TIMEOUT", failures=3)),  # and hides none between two
        (STARTED + failed_with("None"), Account("77", True, failures=1)),
        (STARTED + failed_with(CLOUD), Account("77", True, failures=1)),
        (STARTED + failed_with("exception: no account\nof yours." + CLOUD), Account("77", True, None, EXCEPTION, 1)),
        (STARTED + failed_with(NODE_FAIL), Account("77", True, "NODE_FAIL", failures=1)),
        (UNSUBMITTED + failed_with(REFUSED), Account(None, True, None, REFUSAL, 1)),
        # the third attempt was refused, the second had run
        (2 * (STARTED + FAILED) + UNSUBMITTED + failed_with(REFUSED), Account(None, True, None, REFUSAL, 3)),
        (STARTED + FAILED + STARTED.replace("77", "78"), Account("78", failures=1)),
        (STARTED + "Finished jobid: 4 (Rule: md)\n", Account()),
        (STARTED + FAILED + "Finished jobid: 5 (Rule: md)\n", Account("77", True, "TIMEOUT", failures=1)),
        ("  Host: node17\n" + STARTED, Account("77", host="node17")),
    ],
)
def test_snakemake_log(text: str, expected: Account) -> None:
    accounts: dict[str, Account] = {}
    read_log(text, accounts)
    assert accounts == {"results/small/structures/chunk-000002.json": expected}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("md 000002, particles: 1 of 2, 10 s\n", "SLURM says TIMEOUT"),
        ("alloyscope md: disk full\n", "disk full"),
    ],
)
def test_reason_of_a_job_that_slurm_ended(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, reason: str
) -> None:
    stub_squeue(tmp_path, monkeypatch, "exit 0")
    submit(folder)
    next((Path(".snakemake") / "log").iterdir()).write_text(STARTED + FAILED + SHOWN)
    log = fail(folder, "chunk-000002", said)
    assert f"1 job of md failed: {reason}\n    see {log}\n" in run(folder=folder)


EARLIER = "md 000002, particles: 2 of 4, 40 s\nalloyscope md: disk full\n"


@pytest.mark.parametrize(
    ("started", "message", "said", "reason"),
    [
        (UNSUBMITTED, "None", "", "killed or crashed; its log is empty"),
        (UNSUBMITTED, "None", "md: 3 of 6, 40 s\n", "killed or crashed; its log ends with: md: 3 of 6, 40 s"),
        (UNSUBMITTED, "None", None, "killed or crashed; it left no log"),
        (STARTED, "SLURM status is: 'FAILED'", "", "killed or crashed; its log is empty; SLURM job 77"),
        (STARTED, NODE_FAIL, "md: 3 of 6, 40 s\n", "SLURM says NODE_FAIL"),
        (UNSUBMITTED, REFUSED, None, REFUSAL),
        # logs are appended to: their end counts, and of a refused submission no line
        (STARTED, NODE_FAIL, EARLIER + "md: 3 of 6, 40 s\n", "SLURM says NODE_FAIL"),
        (UNSUBMITTED, REFUSED, EARLIER, REFUSAL),
    ],
)
def test_reason_of_a_job_that_says_none(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: str,
    message: str,
    said: str | None,
    reason: str,
) -> None:
    stub_squeue(tmp_path, monkeypatch, "exit 0")
    submit(folder)
    next((Path(".snakemake") / "log").iterdir()).write_text(started + failed_with(message))
    seen = "no log" if said is None else f"see {fail(folder, 'chunk-000002', said)}"
    assert f"1 job of md failed: {reason}\n    {seen}\n" in run(folder=folder)


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
    write_json(path, {"gates": [{"passed": True}, {"passed": True}], "images": ["a"], "provenance": cost()})
    assert f"gates: 2 of 2 passed, 1 images examined ({path})" in run(folder=folder)
    write_json(path, {"gates": [{}], "images": ["a"], "provenance": cost()})
    with pytest.raises(StoreError, match=r"gates\.json: not an account of gates \('passed'\); delete it"):
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


def test_data_set_of_the_first_chunks_ends_with_them(folder: Path) -> None:
    """The first imaging chunk shows the four particles of the first md chunk; one of them has failed."""
    campaign = CAMPAIGN | {"dataset": {"min_chunks": 1}}
    write_json(folder / "plan" / "campaign.json", {"config": parse(campaign).model_dump(mode="json")})
    assert row(run(folder=folder), "md") == ["md", "1 of 1", "0", "0", "0", "0", "3 of 4 particles, 1 failed"]
    slots = tuple(Slot(n, n != 3) for n in range(2))
    Manifest("hrtem", 0, "d", slots, {}, {}, cost()).write(folder / "hrtem" / "chunk-000000.json")
    begun = made_of_valid(folder / "hrtem", parse(campaign), 3, "images", set())
    assert begun.left == Cost(20.0)  # two of four particles took 20 s
    finish(folder, campaign)
    assert look(folder, NOW_s)[1]


def test_watch_needs_a_time(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"--watch must be above 0 seconds; got 0"):
        status.watch(folder, 0.0)


def test_interrupt_ends_watch_in_order(folder: Path) -> None:
    command = [sys.executable, "-m", "alloyscope", "status", str(folder), "--watch", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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
