"""What `alloyscope status` makes of Snakemake's logs, marks and locks, and of squeue."""

import os
import platform
import re
from pathlib import Path

import pytest

from alloyscope.commands import status
from alloyscope.commands.status import look, run
from alloyscope.store import workplace
from alloyscope.store.workplace import Account, Workplace, read_log
from tests.stages.status_folder import NOW_s, begin, begun_campaign, row, stub_squeue, submit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return begun_campaign(tmp_path, monkeypatch)


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
    assert "was killed, and no job will follow them: end them with scancel --name=1b2c-3d, then run snakemake" in text
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
    monkeypatch.setattr(workplace, "SQUEUE_TIMEOUT_s", 0.2)
    begin(folder, "chunk-000001")
    submit(folder, chunk_000001="812")
    text = run(folder=folder)
    assert f"squeue does not report the jobs on SLURM: {fault}" in text
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
    assert "if none runs on another machine either, run once: snakemake --unlock" in text
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
