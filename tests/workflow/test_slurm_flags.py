"""What is asked of SLURM for each rule, seen by an sbatch that runs nothing."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.workflow.workplace import Workplace

pytestmark = pytest.mark.xdist_group("slurm")

# Stands for every command of SLURM that the plugin calls. sbatch notes its words, refuses every job once, and puts all
# results in place the second time; squeue finds every job completed.
STUB = """#!{python}
import json, pathlib, shutil, sys

here = pathlib.Path(__file__).resolve().parent
calls = here / "calls.jsonl"
noted = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
match pathlib.Path(sys.argv[0]).name:
    case "sbatch":
        with calls.open("a") as handle:
            handle.write(json.dumps(sys.argv[1:]) + "\\n")
        comment = sys.argv.index("--comment") + 1
        if all(words[comment - 1] != sys.argv[comment] for words in noted):
            sys.exit("queue full")
        shutil.copytree(here / "results", "results", dirs_exist_ok=True)
        print(len(noted) + 1)
    case "squeue":
        print("\\n".join(f"{{number + 1}}|COMPLETED" for number in range(len(noted))))
    case "scontrol":
        print("MinJobAge = 300 sec")
"""

CPU, GPU = "-p cpu", "-p gpu --gres=gpu:1"
# config.yaml's: where, cores, MB, minutes of the first attempt
ASKED = {
    "potential": (CPU, 1, 2000, 20),
    "plan": (CPU, 1, 2000, 20),
    "md": (CPU, 4, 2000, 60),
    "describe": (CPU, 1, 2000, 32),
    "structures": (CPU, 1, 4000, 30),
    "statistics": (CPU, 1, 4000, 30),
    "hrtem": (GPU, 1, 4000, 27),
    "gates": (CPU, 1, 4000, 60),
    "dataset": (CPU, 1, 8000, 120),
    "train": (GPU, 8, 8000, 480),
    "evaluate": (GPU, 4, 8000, 120),
    "report": (CPU, 1, 4000, 30),
}
ONE_CHUNK = ("--config", "campaign={name: minimal, n_particles: 8}")  # of config.yaml's 200 particles


@pytest.fixture(scope="module")
def calls(root: Path, finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Options of every sbatch by its comment, in order."""
    folder = tmp_path_factory.mktemp("stub")
    (folder / "results").symlink_to(finished.path / "results")
    for name in ("sbatch", "squeue", "scontrol", "sinfo", "sacct", "srun"):
        (folder / name).write_text(STUB.format(python=sys.executable))
        (folder / name).chmod(0o755)
    place = Workplace.new(root, folder / "campaign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        answer = place.snakemake(*ONE_CHUNK, "--slurm-init-seconds-before-status-checks", "1", profile="slurm")
    assert answer.code == 0, answer.text[-8000:]
    found: dict[str, list[str]] = {}
    for line in (folder / "calls.jsonl").read_text().splitlines():
        words = json.loads(line)
        options = shlex.join(word for word in words if not word.startswith("--wrap="))
        found.setdefault(words[words.index("--comment") + 1], []).append(options.replace(str(place.path), "TOP"))
    return found


def comment(rule: str) -> str:
    wildcards = {"md": "000000", "describe": "000000", "hrtem": "000000", "train": "reading_seed-0"}
    wildcards["evaluate"] = wildcards["train"]
    return f"rule_{rule}" + (f"_wildcards_{wildcards[rule]}" if rule in wildcards else "")


def test_every_rule_is_submitted(calls: dict[str, list[str]]) -> None:
    others = {comment(rule).replace("reading", "denoising") for rule in ("train", "evaluate")}
    assert set(calls) == {comment(rule) for rule in ASKED} | others


@pytest.mark.parametrize("rule", ASKED)
def test_exact_options(calls: dict[str, list[str]], rule: str) -> None:
    """The second attempt asks for twice the memory and time of the first."""
    where, cores, memory_MB, minutes = ASKED[rule]
    partition, _, gres = where.partition(" --gres")
    name = re.search(r"--job-name (\S+)", calls[comment(rule)][0])
    assert name
    folder = comment(rule).replace("_wildcards_", "/")
    for attempt, options in enumerate(calls[comment(rule)], start=1):
        expected = (
            f"--parsable --job-name {name[1]} --output TOP/results/slurm-logs/{folder}/%j.log --export=ALL "
            f"--comment {comment(rule)} {partition} -t {attempt * minutes} --mem {attempt * memory_MB} --requeue "
            f"{'' if gres else '--ntasks=1 '}--cpus-per-task={cores} -D TOP{' --gres' + gres if gres else ''}"
        )
        assert options == expected
    assert len(calls[comment(rule)]) == 2


def test_account_and_partitions_are_set_in_one_place(root: Path, fresh: Workplace) -> None:
    profile = fresh.path / "profiles" / "slurm" / "config.yaml"
    text = profile.read_text()
    assert text.count("slurm_partition: cpu") == text.count("slurm_partition: gpu") == text.count("slurm_account") == 1
    renamed = text.replace("slurm_partition: cpu", "slurm_partition: long").replace("partition: gpu", "partition: a100")
    profile.write_text(renamed.replace("# slurm_account: project ", "slurm_account: nano "))
    text = fresh.dry_run(*ONE_CHUNK, profile="slurm").text
    asked = dict(re.findall(r"^rule (\w+):(?:\n    .*)*?\n    resources: (.*)", text, flags=re.MULTILINE))
    assert set(asked) == {*ASKED, "all"}
    for rule, (where, *_) in ASKED.items():
        assert f"slurm_partition={'a100' if where == GPU else 'long'}" in asked[rule]
        assert "slurm_account=nano" in asked[rule]
