"""The minimal campaign on a real SLURM."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from alloyscope.microscope import gpu
from tests.workflow.cluster import Cluster, Job, missing
from tests.workflow.workplace import MINIMAL, Answer, Workplace

pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(missing() is not None, reason=f"SLURM cannot be started: {missing()}"),
]

RULES = {"potential": 1, "plan": 1, "md": 2, "describe": 1, "structures": 1, "statistics": 1}
RULES |= {"hrtem": 1, "gates": 1, "dataset": 1, "train": 2, "evaluate": 2, "report": 1}
REMADE = ("md", "describe", "structures", "hrtem", "gates", "dataset")
ON_GPU = {"hrtem", "train", "evaluate"}
ON_CPU = ("--config", "execution={device: cpu}")  # the GPU that SLURM gives here is /dev/null
DATA = ("structures/*.extxyz", "hrtem/images.zarr/**/*", "hrtem/*.parquet")  # promised to the bit


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


@pytest.fixture(scope="module")
def slurmed(root: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, list[Job]]:
    """The minimal campaign, run on SLURM; its jobs."""
    place = Workplace.new(root, tmp_path_factory.mktemp("slurmed") / "top")
    answer = cluster.run(place, *MINIMAL, *ON_CPU)
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
    answer = cluster.run(slurmed[0], *MINIMAL, *ON_CPU)
    assert (answer.code, answer.jobs) == (0, {})
    assert len(cluster.jobs(slurmed[0])) == before


def test_the_doctor_in_a_job_tells_what_lammps_finds_there(cluster: Cluster) -> None:
    line = cluster.ask(sys.executable, "-m", "alloyscope", "doctor", "--in-job", "-p", "cpu")
    assert re.search(r"^LAMMPS +ok +\d+ \(not told of .*PMI_FD, PMI_JOBID, PMI_RANK, PMI_SIZE\)$", line, re.MULTILINE)


def test_the_doctor_in_a_job_tells_whether_its_gpu_can_be_used(cluster: Cluster) -> None:
    given = rf"{'broken' if gpu.driver_fault() else 'ok'} +given \(SLURM_STEP_GPUS=0\)"
    for options, line in ((("cpu",), "ok +none was given to this environment"), (("gpu", "--gres=gpu:1"), given)):
        command = [sys.executable, "-m", "alloyscope", "doctor", "--in-job", "-p", *options]
        shown = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=600).stdout
        assert re.search(rf"^GPU of the job +{line}", shown, re.MULTILINE), shown


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
    job = str(top / "profiles" / "node" / "job.sh")
    cluster.ask("sbatch", "--wait", f"--chdir={top}", job, *MINIMAL, *ON_CPU, "--", target)
    (log,) = top.glob("alloyscope-*.log")
    assert Answer(0, log.read_text()).jobs == dict.fromkeys(REMADE, 1)
    assert not mark.exists()
    must_hold_the_same(results, finished.path / "results" / "minimal")
