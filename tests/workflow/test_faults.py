"""Kills, a second campaign, cut files: the same command again ends as if undisturbed and redoes nothing done."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from alloyscope.commands import status
from alloyscope.store.manifests import Manifest, manifest_name
from tests.waiting import LIMIT_s, wait_until
from tests.workflow.workplace import MINIMAL, Workplace

# three chunks of four particles, each about a second
CAMPAIGN = (
    "--configfile",
    "workflow/campaigns/soak.yaml",
    "--config",
    "campaign={n_particles: 12}",
    "md={particles_per_chunk: 4, thermalise_ps: 100}",
    "--cores",
    "1",
    "--until",
    "md",
    "plan",
)
STRUCTURES = Path("results/soak/structures")


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace.new(root, tmp_path_factory.mktemp("faults") / "undisturbed")
    answer = place.snakemake(*CAMPAIGN)
    assert answer.code == 0, answer.text[-4000:]
    return place


def outcome(place: Workplace) -> list[dict[str, object]]:
    """What the md manifests say, run times aside; every file is compared with its checksum first."""
    found = []
    for path in sorted((place.path / STRUCTURES).glob("chunk-*.json")):
        manifest = Manifest.read(path)
        manifest.verify(path.parent)
        slots = [(slot.particle, slot.valid, slot.reason, slot.attempts) for slot in manifest.slots]
        found.append({"digest": manifest.digest, "files": manifest.files, "slots": slots})
    return found


@contextmanager
def started(place: Workplace) -> Iterator[subprocess.Popen[bytes]]:
    """The campaign, in a session of its own; whatever is left of it ends with the block."""
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--nocolor", *CAMPAIGN]
    with (place.path / "snakemake.out").open("w") as output:  # not a pipe: orphans would hold its end
        process = subprocess.Popen(
            command, cwd=place.path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finished_chunks(place: Workplace) -> list[int]:
    return [chunk for chunk in range(3) if (place.path / STRUCTURES / manifest_name(chunk)).exists()]


def half_done(place: Workplace) -> list[int]:
    """A chunk in its middle, once another is finished."""
    open_chunks = set(range(3)) - set(finished_chunks(place))
    return [chunk for chunk in open_chunks if len(open_chunks) < 3 and len(ledger(place, chunk)) >= 2]


def ledger(place: Workplace, chunk: int) -> list[str]:
    path = place.path / STRUCTURES / f"chunk-00000{chunk}.ledger.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def log_of(place: Workplace, chunk: int) -> str:
    """What the md job says; nothing in the moment between Snakemake's removal of the old log and the new job."""
    with suppress(FileNotFoundError):
        return (place.path / "results" / "soak" / "logs" / "md" / f"chunk-00000{chunk}.log").read_text()
    return ""


@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize("victim", ["job", "snakemake and its jobs", "snakemake alone"])
def test_killed_in_the_middle(
    fresh: Workplace, undisturbed: Workplace, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    with started(fresh) as process:
        wait_until(lambda: half_done(fresh), process, "chunk in its middle", pause_s=0.01)
        (middle,), finished = half_done(fresh), finished_chunks(fresh)
        done = [path for chunk in finished for path in (fresh.path / STRUCTURES).glob(f"chunk-00000{chunk}.*")]
        done += (fresh.path / "results" / "soak" / "potential").iterdir()
        times, entries = {path: path.stat().st_mtime_ns for path in done}, ledger(fresh, middle)
        (job,) = [p for p in psutil.Process(process.pid).children(recursive=True) if "alloyscope" in p.cmdline()]
        if victim == "job":
            job.kill()
        elif victim == "snakemake alone":
            job.suspend()  # so that it still works when the same job is started once more
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(LIMIT_s) == (1 if victim == "job" else -signal.SIGKILL)

        if victim != "job":
            monkeypatch.chdir(fresh.path)
            assert "snakemake --unlock" in status.run(folder=Path("results/soak"))
            refused = fresh.forked(*CAMPAIGN)
            assert refused.code == 1, refused.text[-4000:]
            assert "--unlock" in refused.text
            assert fresh.forked(*CAMPAIGN, "--unlock").code == 0
        if victim == "snakemake alone":
            waits = f"held by process {job.pid} on"
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(fresh.snakemake, *CAMPAIGN)
                end = time.monotonic() + LIMIT_s
                while waits not in log_of(fresh, middle) and not waiting.done():
                    assert time.monotonic() < end, f"nobody waits within {LIMIT_s:g} s"
                    time.sleep(0.05)
                job.resume()
                again = waiting.result()
            assert waits in log_of(fresh, middle)
        else:
            again = fresh.snakemake(*CAMPAIGN)
    assert again.code == 0, again.text[-4000:]
    # a job killed alone does not keep Snakemake from the others
    assert again.jobs == {"md": 1 if victim == "job" else 3 - len(finished)}
    assert outcome(fresh) == outcome(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in done} == times
    for chunk in range(3):
        assert len(ledger(fresh, chunk)) == 4  # no particle was finished twice
    assert ledger(fresh, middle)[: len(entries)] == entries


@pytest.mark.xdist_group("faults")
def test_second_campaign_on_the_same_folder_is_refused(fresh: Workplace, undisturbed: Workplace) -> None:
    with started(fresh) as first:
        wait_until(lambda: list(fresh.path.glob(".snakemake/locks/*.lock")), first, "lock")
        second = fresh.snakemake(*CAMPAIGN)
        assert second.code == 1
        assert "Directory cannot be locked" in second.text
        assert "no other Snakemake process" in second.text
        assert first.wait(LIMIT_s) == 0, (fresh.path / "snakemake.out").read_text()[-4000:]
    assert outcome(fresh) == outcome(undisturbed)
    assert [len(ledger(fresh, chunk)) for chunk in range(3)] == [4, 4, 4]


@pytest.mark.xdist_group("workflow")  # shares the finished campaign
@pytest.mark.parametrize(
    ("cut", "later", "again"),
    [
        ("structures/chunk-000001.extxyz", "descriptors/chunk-000000.json", {"md": 1, "describe": 1}),
        ("structures/chunk-000001.json", "descriptors/chunk-000000.json", {"md": 1, "describe": 1}),
        ("hrtem/images.zarr/clean/c/0/0/0", "hrtem/dataset.json", {"hrtem": 1, "gates": 1, "dataset": 1}),
        ("hrtem/chunk-000000.json", "hrtem/dataset.json", {"hrtem": 1, "gates": 1, "dataset": 1}),
    ],
    ids=["structure file", "manifest of structures", "shard", "manifest of images"],
)
def test_truncated_file_is_named_and_made_again(
    copy: Callable[[], Workplace], cut: str, later: str, again: dict[str, int]
) -> None:
    """Cut before the step that reads it: the step names what to delete, and then the same command mends."""
    place = copy()
    results = place.path / "results" / "minimal"
    data = [path for name in ("structures", "hrtem") for path in (results / name).rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in data if path.suffix != ".json"}
    (results / later).unlink()
    whole = (results / cut).read_bytes()
    (results / cut).write_bytes(whole[: len(whole) // 2])
    target = ("--", f"results/minimal/{later}")
    refused = place.snakemake(*MINIMAL, *target)
    assert refused.code == 1, refused.text[-4000:]
    named = re.search(rf"{re.escape(cut)}: .*delete (\S+|it) ?.*and run snakemake again", refused.text)
    assert named, refused.text[-4000:]
    (results / cut if named[1] == "it" else place.path / named[1]).unlink()
    answer = place.snakemake(*MINIMAL, *target)
    assert answer.code == 0, answer.text[-4000:]
    assert answer.jobs == again
    assert {path: path.read_bytes() for path in before} == before
