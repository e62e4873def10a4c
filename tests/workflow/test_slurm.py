"""The minimal campaign on a real SLURM, undisturbed and with faults."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.workflow.cluster import Campaign, Cluster, Job, missing
from tests.workflow.workplace import MINIMAL, Answer, Workplace

pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(missing() is not None, reason=f"SLURM cannot be started: {missing()}"),
]

RULES = {"potential": 1, "plan": 1, "md": 2, "describe": 1, "structures": 1, "statistics": 1}
RULES |= {"hrtem": 1, "gates": 1, "dataset": 1, "train": 2, "evaluate": 2, "report": 1}
REMADE = ("md", "describe", "structures", "hrtem", "gates", "dataset")
ON_GPU = {"hrtem", "train", "evaluate"}
DATA = ("structures/*.extxyz", "hrtem/images.zarr/**/*", "hrtem/*.parquet")  # promised to the bit

# one md chunk of eight particles, each about a second of one core, so that it can be met in its middle
NAME = "chunk"
SLOW = ("particles={n_atoms: [60, 80]}", "md={particles_per_chunk: 8, thermalise_ps: 40}")
CHUNK = f"results/{NAME}/structures/chunk-000000"
ONE_CORE = ("--set-threads", "md=1")


def contents(results: Path) -> dict[str, bytes]:
    found = [path for pattern in DATA for path in results.glob(pattern) if path.is_file()]
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in found}


def checksums(results: Path) -> dict[str, dict[str, str]]:
    """What the manifests say of structures and images; the tables of descriptors hold run times too."""
    return {
        f"{stage}/{path.name}": json.loads(path.read_text())["files"]
        for stage in ("structures", "hrtem")
        for path in (results / stage).glob("chunk-*.json")
    }


def must_hold_the_same(made: Path, expected: Path) -> None:
    """Two results folders hold the same data to the bit; only the run times of particles may differ."""
    assert checksums(made) == checksums(expected)
    assert contents(made) == contents(expected)
    assert len(contents(expected)) >= 8
    tables = [pd.read_parquet(results / "structures" / "structures.parquet") for results in (made, expected)]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables), check_exact=True)


# What clusters differ in, each away from the default of Debian's SLURM; the campaign runs on both.
MPI_SPOKEN = ("MpiDefault=pmi2",)  # every job step is a rank of an MPI job
CLOSED = ("TaskPlugin=task/affinity", "SelectTypeParameters=CR_CPU_Memory")
CLOSED_SHELL = {"SBATCH_EXPORT": "NONE"}  # jobs do not inherit the login shell


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.started(tmp_path_factory.mktemp("slurm"), *MPI_SPOKEN) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def slurmed(root: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, list[Job]]:
    """The minimal campaign, run on SLURM; its jobs."""
    place = Workplace.new(root, tmp_path_factory.mktemp("slurmed") / "top")
    answer = cluster.run(place, *MINIMAL)
    assert answer.code == 0, answer.text[-8000:]
    return place, cluster.jobs(place)


def test_every_chunk_is_one_job_on_its_partition(slurmed: tuple[Workplace, list[Job]]) -> None:
    place, jobs = slurmed
    assert {rule: sum(job.rule == rule for job in jobs) for rule in RULES} == RULES
    assert len(jobs) == sum(RULES.values())
    for job in jobs:
        on_gpu = job.rule in ON_GPU
        assert job.fields["JobState"] == "COMPLETED"
        assert job.fields["Partition"] == ("gpu" if on_gpu else "cpu")
        assert job.fields.get("TresPerNode") == ("gres:gpu:1" if on_gpu else None)
        assert job.fields["Requeue"] == "1"
        assert Path(job.fields["StdOut"]).is_relative_to(place.path / "results" / "slurm-logs" / f"rule_{job.rule}")


def test_slurm_and_this_machine_give_the_same_data(slurmed: tuple[Workplace, list[Job]], finished: Workplace) -> None:
    there, here = (place.path / "results" / "minimal" for place in (slurmed[0], finished))
    must_hold_the_same(there, here)
    assert (there / "report" / "index.html").stat().st_size > 10_000


def test_started_again_there_is_nothing_to_do(slurmed: tuple[Workplace, list[Job]], cluster: Cluster) -> None:
    before = len(cluster.jobs(slurmed[0]))
    answer = cluster.run(slurmed[0], *MINIMAL)
    assert (answer.code, answer.jobs) == (0, {})
    assert len(cluster.jobs(slurmed[0])) == before


def test_the_doctor_in_a_job_tells_what_lammps_finds_there(cluster: Cluster) -> None:
    line = cluster.ask(sys.executable, "-m", "alloyscope", "doctor", "--in-job", "-p", "cpu")
    assert re.search(r"^LAMMPS +ok +\d+ \(not told of .*PMI_FD, PMI_JOBID, PMI_RANK, PMI_SIZE\)$", line, re.MULTILINE)


def test_closed_cluster(undisturbed: Workplace, tmp_path: Path) -> None:
    """A chunk of molecular dynamics, bound to its cores, without the shell's environment."""
    place = Workplace(tmp_path / "top")
    shutil.copytree(undisturbed.path, place.path, symlinks=True)
    shutil.rmtree(place.path / "results" / NAME / "structures")
    with Cluster.started(tmp_path / "slurm", *CLOSED, variables=CLOSED_SHELL) as closed:
        met = Met(closed, place)
        answer = met.begin(*ONE_CORE).end()
    assert (answer.code, answer.jobs) == (0, {"md": 1}), answer.text[-8000:]
    met.must_have_made(undisturbed)


def test_whole_node_job_finishes_what_is_missing(cluster: Cluster, finished: Workplace, tmp_path: Path) -> None:
    """profiles/node/job.sh, on a campaign without its second md chunk and without its images, and with a lock left."""
    top = tmp_path / "top"
    shutil.copytree(finished.path, top, symlinks=True)
    results = top / "results" / "minimal"
    shutil.rmtree(results / "hrtem")
    for path in (results / "structures").glob("chunk-000001.*"):
        path.unlink()
    target = "results/minimal/hrtem/dataset.json"
    lock = top / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(target)
    mark = top / ".snakemake" / "node-job"  # a job before was ended by its time
    mark.touch()
    cluster.ask("sbatch", "--wait", f"--chdir={top}", str(top / "profiles" / "node" / "job.sh"), *MINIMAL, "--", target)
    (log,) = top.glob("alloyscope-*.log")
    assert Answer(0, log.read_text()).jobs == dict.fromkeys(REMADE, 1)
    assert not mark.exists()
    must_hold_the_same(results, finished.path / "results" / "minimal")


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


@pytest.fixture
def met(cluster: Cluster, undisturbed: Workplace, tmp_path: Path) -> Met:
    place = Workplace(tmp_path / "top")
    shutil.copytree(undisturbed.path, place.path, symlinks=True)
    shutil.rmtree(place.path / "results" / NAME / "structures")
    return Met(cluster, place)


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


def test_walltime_exceeded_is_tried_again_with_more(met: Met, undisturbed: Workplace) -> None:
    """The job is stopped in its tracks, so that it meets its limit of one minute."""
    campaign = met.begin_and_meet(*ONE_CORE, "--set-resources", "md:runtime=20*attempt-19")
    stopped = stop_step(met.place.path)
    early = met.ledger
    answer = campaign.end()
    assert answer.code == 0, answer.text[-8000:]
    assert stopped
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
        early = met.ledger
    answer = campaign.end()
    assert answer.code == 0, answer.text[-8000:]
    (job,) = met.jobs()
    assert (job.fields["JobState"], job.fields["Restarts"]) == ("COMPLETED", "1")
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


def stop_step(top: Path) -> list[int]:
    """Stop the md step that runs in a folder, and its workers, as a hang would; their process ids."""
    steps = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(top) and process.info["cmdline"][1:4] == ["-m", "alloyscope", "md"]
    ]
    whole = [process for step in steps for process in (step, *step.children(recursive=True))]
    for process in whole:
        process.suspend()
    return [process.pid for process in whole]
