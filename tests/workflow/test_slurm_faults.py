"""A chunk of molecular dynamics on a real SLURM, met in its middle by what happens to jobs there."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.workflow.cluster import CLOSED, CLOSED_SHELL, Campaign, Cluster, Job, missing
from tests.workflow.workplace import MINIMAL, Workplace

pytestmark = [
    pytest.mark.xdist_group("faults on slurm"),
    pytest.mark.skipif(missing() is not None, reason=f"SLURM cannot be started: {missing()}"),
]

# one md chunk of eight particles, each about a second of one core, so that it can be met in its middle
NAME = "chunk"
SLOW = ("particles={n_atoms: [60, 80]}", "md={particles_per_chunk: 8, thermalise_ps: 40}")
CHUNK = f"results/{NAME}/structures/chunk-000000"
ONE_CORE = ("--set-threads", "md=1")


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The slow chunk, made without a fault and without SLURM."""
    place = Workplace.new(root, tmp_path_factory.mktemp("undisturbed") / "top")
    answer = place.snakemake(*MINIMAL, "--config", f"campaign={{name: {NAME}}}", *SLOW, "--", f"{CHUNK}.json")
    assert answer.code == 0, answer.text[-8000:]
    return place


class Met:
    """The slow chunk's campaign on SLURM, met while its md job runs."""

    def __init__(self, cluster: Cluster, place: Workplace) -> None:
        self.cluster, self.place = cluster, place

    def begin(self, *arguments: str) -> Campaign:
        config = ("--config", f"campaign={{name: {NAME}}}", *SLOW)
        return self.cluster.begin(self.place, *MINIMAL, *config, *arguments, "--", f"{CHUNK}.json")

    @property
    def ledger(self) -> list[str]:
        path = self.place.path / f"{CHUNK}.ledger.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def begin_and_meet(self, *arguments: str) -> Campaign:
        campaign = self.begin(*arguments)
        campaign.wait_for(lambda: bool(self.ledger))
        return campaign

    def jobs(self) -> list[Job]:
        return self.cluster.jobs(self.place)

    def must_have_kept(self, early: list[str], undisturbed: Workplace) -> None:
        """What was done before the fault was not done again, and the end is that of the undisturbed run."""
        assert 0 < len(early) < 8
        assert self.ledger[: len(early)] == early
        self.must_have_made(undisturbed)

    def must_have_made(self, undisturbed: Workplace) -> None:
        """The end is that of the undisturbed run."""
        assert len(self.ledger) == 8
        for suffix in (".extxyz", ".json"):
            made, expected = ((top.path / CHUNK).with_suffix(suffix) for top in (self.place, undisturbed))
            if suffix == ".extxyz":
                assert made.read_bytes() == expected.read_bytes()
            else:
                assert json.loads(made.read_text())["files"] == json.loads(expected.read_text())["files"]


def unmade(undisturbed: Workplace, top: Path) -> Workplace:
    """A copy without the chunk."""
    shutil.copytree(undisturbed.path, top, symlinks=True)
    shutil.rmtree(top / "results" / NAME / "structures")
    return Workplace(top)


@pytest.fixture
def met(cluster: Cluster, undisturbed: Workplace, tmp_path: Path) -> Met:
    return Met(cluster, unmade(undisturbed, tmp_path / "top"))


@pytest.fixture(scope="module")
def overdue(
    cluster: Cluster, undisturbed: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Met, Campaign, list[str]]]:
    """A job with a limit of one minute, stopped in its tracks; its campaign, and what it had done."""
    met = Met(cluster, unmade(undisturbed, tmp_path_factory.mktemp("overdue") / "top"))
    campaign = met.begin_and_meet(*ONE_CORE, "--set-resources", "md:runtime=20*attempt-19")
    try:
        assert stop_step(met.place.path)
        yield met, campaign, met.ledger
    finally:
        campaign.stop()


@pytest.mark.usefixtures("overdue")  # its minute passes meanwhile
def test_closed_cluster(undisturbed: Workplace, tmp_path: Path) -> None:
    """A chunk of molecular dynamics, bound to its cores, without the shell's environment."""
    place = unmade(undisturbed, tmp_path / "top")
    with Cluster.started(tmp_path / "slurm", *CLOSED, variables=CLOSED_SHELL) as closed:
        met = Met(closed, place)
        answer = met.begin(*ONE_CORE).end()
    assert (answer.code, answer.jobs) == (0, {"md": 1}), answer.text[-8000:]
    met.must_have_made(undisturbed)


def test_cancelled_chunk_goes_on_where_it_was(met: Met, undisturbed: Workplace) -> None:
    campaign = met.begin_and_meet("--retries", "0", *ONE_CORE)
    met.cluster.ask("scancel", met.jobs()[0].id)
    answer = campaign.end()
    assert answer.code == 1
    assert "CANCELLED" in answer.text
    early = met.ledger
    again = met.begin("--retries", "0", *ONE_CORE).end()
    assert (again.code, again.jobs) == (0, {"md": 1}), again.text[-8000:]
    met.must_have_kept(early, undisturbed)


def test_walltime_exceeded_is_tried_again_with_more(
    overdue: tuple[Met, Campaign, list[str]], undisturbed: Workplace
) -> None:
    met, campaign, early = overdue
    answer = campaign.end()
    assert answer.code == 0, answer.text[-8000:]
    assert [(job.fields["JobState"], job.fields["TimeLimit"]) for job in met.jobs()] == [
        ("TIMEOUT", "00:01:00"),
        ("COMPLETED", "00:21:00"),
    ]
    met.must_have_kept(early, undisturbed)


def test_drained_node_takes_no_job_but_ends_its_own(met: Met, undisturbed: Workplace) -> None:
    """And a job takes its settings from the start of the campaign, whatever its files say by then."""
    with taken(met.cluster, "drain"):
        campaign = met.begin(*ONE_CORE)
        campaign.wait_for(lambda: [job.fields["JobState"] for job in met.jobs()] == ["PENDING"])
        assert (met.place.path / "results" / NAME / "plan" / "campaign.json").exists()  # `status` works from the start
        settings = met.place.path / MINIMAL[1]
        settings.write_text(settings.read_text().replace("hold_ps: 5", "hold_ps: 6") + "\nlabels: {ordering: eta}\n")
    campaign.wait_for(lambda: bool(met.ledger))
    with taken(met.cluster, "drain"):
        early = met.ledger
        answer = campaign.end()
    assert answer.code == 0, answer.text[-8000:]
    assert [job.fields["Restarts"] for job in met.jobs()] == ["0"]
    met.must_have_kept(early, undisturbed)


def test_lost_node_queues_its_job_again(met: Met, undisturbed: Workplace) -> None:
    campaign = met.begin_and_meet(*ONE_CORE)
    with taken(met.cluster, "down"):
        # SLURM ends the job's processes; a node that came back with them could not take the same job again
        campaign.wait_for(lambda: not stages_in(met.place.path))
        early = met.ledger
    answer = campaign.end()
    assert answer.code == 0, answer.text[-8000:]
    # Snakemake, which looks every second here, may see the node fail before SLURM queues the job again: it tries, too
    first, *others = met.jobs()
    assert (first.fields["JobState"], first.fields["Restarts"]) == ("COMPLETED", "1")
    assert all(job.fields["JobState"] == "COMPLETED" for job in others)
    met.must_have_kept(early, undisturbed)


@contextmanager
def taken(cluster: Cluster, state: str) -> Iterator[None]:
    """The node in another state, until the block ends."""
    cluster.ask("scontrol", "update", "nodename=node", f"state={state}", "reason=test")
    try:
        yield
    finally:
        # a node that was down comes back by itself when its daemon reports, and then cannot be resumed
        back = "scontrol update nodename=node state=resume || sinfo --noheader --format=%t | grep -qE 'idle|mix|alloc'"
        cluster.ask("sh", "-c", back)


def stages_in(top: Path) -> list[psutil.Process]:
    """The processes of the stage md that run in a folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(top) and (process.info["cmdline"] or [])[1:4] == ["-m", "alloyscope", "md"]
    ]


def stop_step(top: Path) -> list[int]:
    """Stop the md stage that runs in a folder, and its workers, as a hang would; their process ids."""
    whole = [process for stage in stages_in(top) for process in (stage, *stage.children(recursive=True))]
    for process in whole:
        process.suspend()
    return [process.pid for process in whole]
