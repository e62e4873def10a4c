"""Every entry of docs/results.json stands beside a command that makes it: another reader gets the same quantity.

Nothing is simulated. The command's own parser, its config files and its source say what it would make.
"""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from campaign_command import command_of

from alloyscope.config.read import parse
from alloyscope.potential.sets import PotentialSection
from tests.benchmarks.claims import ROOT, Untrue, campaign_of, check, checks_of
from tests.workflow.workplace import DATA_ALONE

ENTRIES: dict[str, dict[str, Any]] = json.loads((ROOT / "docs" / "results.json").read_text())
REFERENCE = "snakemake --profile profiles/local --configfile workflow/campaigns/reference.yaml"
FULL, CHUNK, DIMER = "md_full_campaign_core_h", "python benchmarks/md_chunk.py", "validation_AgCo: Ag dimer length"
OF_400 = f"{REFERENCE} --config 'campaign={{\"n_particles\": 400}}'"
MD_COST = "python benchmarks/md_cost.py"
FULL_COST = {
    "value": 740.5,
    "note": "200000 particles, inside LAMMPS's run loop, from 400 particles of 60–997 atoms; 95 % bootstrap interval",
    "artefact": "results/bench/md_cost.json sha256:",
}

PARTS = ("src/alloyscope", "config.yaml", "workflow/campaigns")
DIGEST = """
import sys
from pathlib import Path
from alloyscope.store.atomic import digest
try:
    from alloyscope.config.read import load
except ModuleNotFoundError:  # an older commit
    from alloyscope.config import load
print(digest(load(*map(Path, sys.argv[1:])).as_json()))
"""
OVERLAYS = {"make demo": "demo", "python benchmarks/soak.py": "soak"}  # the others read config.yaml alone


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def fault(name: str, entry: dict[str, Any]) -> str | None:
    try:
        check(name, entry)
    except Untrue as said:
        return str(said)
    return None


def test_every_command_makes_its_entry() -> None:
    found = {name: fault(name, entry) for name, entry in ENTRIES.items()}
    assert {name: said for name, said in found.items() if said} == {}


def test_every_config_is_the_one_of_its_commit(tmp_path: Path) -> None:
    """The digest beside a number is that of the config which the command reads in the commit beside it."""
    made = {(e["commit"], e["command"], e["config"]) for e in ENTRIES.values() if e["config"]}
    unknown: list[str] = []
    for commit, command, claimed in sorted(made):
        if subprocess.run(["git", "cat-file", "-e", f"{commit}:config.yaml"], capture_output=True).returncode:
            unknown.append(commit)
            continue
        parts = subprocess.run(["git", "archive", commit, *PARTS], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(parts)) as archive:
            archive.extractall(place := tmp_path / commit, **DATA_ALONE)
        overlay = OVERLAYS.get(command.split(" --")[0])
        files = ["config.yaml", *[f"workflow/campaigns/{overlay}.yaml"] * bool(overlay)]
        found = subprocess.run(
            [sys.executable, "-c", DIGEST, *files],
            cwd=place,
            env=os.environ | {"PYTHONPATH": "src"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (commit, command, found.stdout.strip()) == (commit, command, claimed)
    if unknown:
        pytest.skip(f"this checkout has no commit {', '.join(unknown)}; the others were compared")


def test_a_validation_is_recorded_whole() -> None:
    recorded = {name for name in ENTRIES if name.startswith("validation_")}
    sets = {name.partition(": ")[0].removeprefix("validation_") for name in recorded}
    assert recorded == {name for of in sets for name in checks_of(PotentialSection(set=of))}


def test_a_campaign_that_plans_what_is_claimed() -> None:
    command = f"{OF_400} && {MD_COST} --from results/reference"
    assert fault(FULL, FULL_COST | {"command": command}) is None
    particles = {"value": 400, "artefact": "results/reference/structures/structures.parquet sha256:"}
    assert fault("reference_particles", particles | {"command": OF_400}) is None


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("md_run_share", {"command": "python benchmarks/md_chunks.py"}, "no benchmark benchmarks/md_chunks.py"),
        ("md_run_share", {"command": f"{CHUNK} --chunk 20"}, "refused: .*--chunk 20"),
        ("md_run_share", {"command": f"{CHUNK} --particles many"}, "refused: .*invalid int"),
        ("md_run_share", {"command": f"{CHUNK} --config no.yaml"}, "no config no.yaml"),
        ("md_run_share", {"command": f"{CHUNK} --particles 40"}, "20 particles are planned nowhere"),
        ("md_run_share", {"command": MD_COST}, "the command writes results/bench/md_cost.json"),
        ("md_run_shares", {}, "makes no figure of this name"),
        ("gate_swopped", {}, "makes no figure of this name"),
        ("zarr_clean_zstd_17_speed", {}, "makes no figure of this name"),
        ("plan_2M_s", {"command": "python benchmarks/plan_scale.py"}, "makes no figure of this name"),
        ("grid_error_ours_Ag_tilted_384", {"command": "python benchmarks/convergence.py --elements Co"}, "no figure"),
        ("soak_particles", {"command": "python benchmarks/soak.py --particles 200"}, "2000 particles are none"),
        ("status_s", {"note": "100000 particles, 1000 md chunks"}, "100000 particles are planned nowhere"),
        ("md_run_share", {"note": "20 particles of 13–1000 atoms"}, "no config plans particles of 13 to 1000 atoms"),
        ("demo_wall_s", {"command": "make dmeo"}, "No rule to make target"),
        ("demo_wall_s", {"command": "make .venv/.installed-package"}, "the result setup_s alone"),
        ("demo_wall_s", {"command": REFERENCE}, "campaign reference has no result of this name"),
        ("ordering_accuracy", {"command": REFERENCE}, "the artefact is none of results/reference"),
        ("demo_wall_s", {"command": f"{REFERENCE}.yml"}, "cannot be read|does not exist|No such file"),
        ("demo_wall_s", {"command": "snakemake --profile nowhere"}, "there is no profile nowhere"),
        ("demo_md_core_s_per_particle", {"artefact": "results/demo/structures/chunk-000019.json"}, "is 7"),
        ("ordering_accuracy", {"artefact": "results/demo/evaluation/reading/seed-3/metrics.json"}, "the seeds are"),
        (DIMER, {"command": "alloyscope potential --set AgNi --out x"}, "must be one of"),
        (DIMER, {"command": "alloyscope potential --set AuCu --out x"}, "no check of this name"),
        (DIMER, {"command": "alloyscope potential --out x --tell"}, "refused: .*--tell"),
        ("validation_AgCo: Ag fcc C99 (formula)", {}, "no check of this name"),
        ("validation_AgCo: Ag fcc C11 (experiment)", {"reference": 130}, "the set says"),
        ("validation_AgCo: Ag fcc C11 (experiment)", {"note": "looked up"}, "the set says"),
        ("setup_s", {"command": "sleep 102.8"}, "nobody knows what sleep"),
        (FULL, {"command": f"{MD_COST} --from results/reference"}, "no command before it makes"),
        (FULL, {"command": f"{REFERENCE} && {MD_COST} --from results/reference"}, "no campaign plans 400"),
        (FULL, {"command": f"{OF_400} && {MD_COST} --from results/demo"}, "no command before it makes"),
        (
            "reference_particles",
            {"command": REFERENCE, "value": 400, "artefact": "results/reference/x"},
            "1000 particles",
        ),
    ],
)
def test_what_does_not_hold_is_seen(name: str, changed: dict[str, Any], said: str) -> None:
    like = [entry for other, entry in ENTRIES.items() if other.partition("_")[0] == name.partition("_")[0]]
    entry = FULL_COST if name == FULL else ENTRIES.get(name, next(iter(like), {}))
    found = fault(name, entry | changed)
    assert found is not None
    assert re.search(said, found), found


@pytest.mark.parametrize(
    "content",
    [
        {"campaign": {"name": "reference", "n_particles": 400}},
        {"campaign": {"name": "demo", "n_particles": 20}, "md": {"gas_quench": {"hold_ps": 7}}},
        {"campaign": {"name": "small"}, "detector": {"dose_e_per_A2": {"log_uniform": [10, 20]}}},
    ],
)
def test_a_campaigns_command_says_its_whole_config(content: dict[str, Any]) -> None:
    config = parse(content)
    assert campaign_of(tuple(shlex.split(command_of(config)))) == config


def test_the_demos_command() -> None:
    made = campaign_of(("make", "demo"))
    assert made is not None
    assert command_of(made) == "make demo"
    assert command_of(made.model_copy(update={"labels": parse({"labels": {"ordering": "eta"}}).labels})) != "make demo"
