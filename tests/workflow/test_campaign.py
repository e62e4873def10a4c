"""The minimal campaign, run for real, and the plans of others."""

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from alloyscope.campaign.particles import split_of
from alloyscope.commands import status
from alloyscope.config.read import load
from tests.workflow.workplace import MINIMAL, Workplace

pytestmark = pytest.mark.xdist_group("workflow")


@pytest.fixture
def results(finished: Workplace) -> Path:
    return finished.path / "results" / "minimal"


def test_every_particle_and_image_is_accounted_for(results: Path) -> None:
    structures = pd.read_parquet(results / "structures" / "structures.parquet")
    images = pd.read_parquet(results / "hrtem" / "images.parquet")
    assert structures.particle.tolist() == list(range(8))
    assert structures.reason[~structures.valid].notna().all()
    relaxed = structures[structures.valid]
    assert relaxed.filter(like="cna_").sum(axis=1).tolist() == pytest.approx([1.0] * len(relaxed))
    assert (relaxed.inherent_energy_eV < relaxed.potential_energy_eV).all()
    assert images.groupby("particle").size().eq(2).all()
    valid = structures.set_index("particle").valid
    assert (images.valid == images.particle.map(valid)).all()


def test_no_particle_is_in_two_splits(finished: Workplace, results: Path) -> None:
    config = load(finished.path / "config.yaml", finished.path / MINIMAL[1])
    images = pd.read_parquet(results / "hrtem" / "images.parquet")
    assert images.groupby("particle")["split"].nunique().eq(1).all()
    for row in images.itertuples():
        assert row.split == split_of(int(row.particle), config.splits, config.campaign.seed)


def test_scores_come_from_test_particles_alone(results: Path) -> None:
    images = pd.read_parquet(results / "hrtem" / "images.parquet")
    tested = set(images.particle[images.split == "test"])
    for task in ("reading", "denoising"):
        predictions = pd.read_parquet(results / "evaluation" / task / "seed-0" / "predictions.parquet")
        assert set(predictions.particle) <= tested
        assert len(predictions) > 0


def test_page_is_self_contained(results: Path) -> None:
    page = (results / "report" / "index.html").read_text()
    assert "<html" in page
    for remote in ('src="http', "src='http", 'rel="stylesheet" href', "url(http", "@import"):
        assert remote not in page
    assert (results / "report" / "summary.txt").read_text().strip()


def test_every_rule_leaves_log_and_run_time(results: Path) -> None:
    rules = {"potential", "plan", "md", "describe", "structures", "statistics"}
    rules |= {"hrtem", "gates", "dataset", "train", "evaluate", "report"}
    assert {path.parent.name for path in (results / "benchmarks").rglob("*.tsv")} == rules
    assert {path.parent.name for path in (results / "logs").rglob("*.log")} == rules


def test_status_of_a_finished_campaign(finished: Workplace, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.path)
    lines = status.run(folder=results.relative_to(finished.path)).splitlines()
    for line in lines[2:14]:
        done, planned = line.split()[1], line.split()[3]
        assert done == planned, line
        assert line.split()[4:8] == ["0", "0", "0", "0"], line
    assert "16 images" in next(line for line in lines if line.startswith("hrtem"))
    assert any(line.startswith("gates: all 39 passed, 4 images examined; 2 things were not checked") for line in lines)


def test_printed_command_can_be_pasted(copy: Callable[[], Workplace]) -> None:
    """The line of an md job, taken from Snakemake's output, gives the same structures again."""
    place = copy()
    folder = place.path / "results" / "minimal" / "structures"
    before = (folder / "chunk-000001.extxyz").read_bytes()
    for path in folder.glob("chunk-000001.*"):
        path.unlink()
    target = "results/minimal/structures/chunk-000001.json"
    text = place.dry_run("--printshellcmds", *MINIMAL, "--", target).text
    printed = re.search(r"python -m alloyscope md .*? 2>\S+", text)
    assert printed, text
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-c", printed[0]], cwd=place.path, check=True, env=os.environ | {"PATH": path})
    assert (folder / "chunk-000001.extxyz").read_bytes() == before


def test_commands_on_the_page_run_one_rule_each(copy: Callable[[], Workplace]) -> None:
    place = copy()
    page = (place.path / "results" / "minimal" / "report" / "run.html").read_text()
    lines = [shlex.split(html.unescape(line)) for line in re.findall("<code>(snakemake .*)</code>", page)]
    answers = [place.dry_run(*words[3:]) for words in lines]
    assert [answer.code for answer in answers] == [0] * len(lines)
    rules = ("potential", "plan", "md", "describe", "structures", "statistics")
    rules += ("hrtem", "gates", "dataset", "train", "evaluate", "report")
    several = {"md": 2, "train": 2, "evaluate": 2}
    assert [answer.jobs for answer in answers] == [*({rule: several.get(rule, 1)} for rule in rules), {"md": 1}]


def test_page_on_the_run_knows_what_was_asked(results: Path) -> None:
    """The profiles ask for extended benchmark files; md asks for 16 minutes and 1250 MB."""
    page = (results / "report" / "run.html").read_text()
    row = re.search(r"<tr><td>md</td>.*?</tr>", page)
    assert row
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row[0])
    assert (cells[1], cells[4], cells[6], cells[9]) == ("2", "16.0 min", "1", "1250 MB")


def test_snakemake_report_with_captions(copy: Callable[[], Workplace]) -> None:
    place = copy()
    answer = place.snakemake("--report", "report.html", *MINIMAL)
    assert answer.code == 0, answer.text
    assert (place.path / "report.html").stat().st_size > 10_000


def test_one_particle_per_chunk(copy: Callable[[], Workplace]) -> None:
    """Structures do not depend on the chunk size."""
    place = copy()
    results = place.path / "results"
    shutil.copytree(results / "minimal" / "potential", results / "single" / "potential")
    manifests = [f"results/single/structures/chunk-00000{n}.json" for n in range(2)]
    change = ["campaign={name: single, n_particles: 2}", "md={particles_per_chunk: 1}"]
    answer = place.snakemake(*MINIMAL, "--config", *change, "--", *manifests)
    assert answer.code == 0, answer.text[-4000:]
    assert answer.jobs == {"md": 2}
    single = [(place.path / manifest).with_suffix(".extxyz").read_text() for manifest in manifests]
    together = (results / "minimal" / "structures" / "chunk-000000.extxyz").read_text()
    assert together.startswith("".join(single))


def test_structures_of_the_users_own_take_the_place_of_md(copy: Callable[[], Workplace]) -> None:
    """The structures of the minimal campaign, read as files, are described as they were."""
    place = copy()
    own = place.path / "own"
    own.mkdir()
    for chunk in range(2):
        name = f"chunk-00000{chunk}.extxyz"
        shutil.copy(place.path / "results" / "minimal" / "structures" / name, own / name)
    change = ["campaign={name: own}", "particles={source: files, files: ['own/*.extxyz']}"]
    target = "results/own/structures/structures.parquet"
    answer = place.snakemake(*MINIMAL, "--config", *change, "--", target)
    assert answer.code == 0, answer.text[-4000:]
    assert answer.jobs == {"potential": 1, "files": 2, "describe": 1, "structures": 1}
    made, read = (
        pd.read_parquet(place.path / "results" / name / "structures" / "structures.parquet")
        for name in ("minimal", "own")
    )
    made = made[made.valid].reset_index(drop=True)
    same = ["protocol", "n_atoms", "n_first", "eta", "d_com_over_Rg", "cna_surface", "potential_energy_eV", "ordering"]
    pd.testing.assert_frame_equal(made[same], read.loc[: len(made) - 1, same])


def test_full_campaign_plans_on_slurm(fresh: Workplace) -> None:
    """1000 md chunks of 200 particles, 200 imaging chunks of 1000, each described and imaged."""
    answer = fresh.snakemake("--dry-run", profile="slurm")
    assert answer.code == 0, answer.text[-4000:]
    single = dict.fromkeys(("all", "plan", "potential", "structures", "statistics", "gates", "dataset", "report"), 1)
    assert answer.jobs == single | {"md": 1000, "describe": 200, "hrtem": 200, "train": 2, "evaluate": 2}


def test_film_is_made_once_and_only_when_images_show_it(fresh: Workplace) -> None:
    show = "imaging={film: {share: 0.5}}"
    jobs = fresh.jobs(*MINIMAL, "--config", show)
    assert (jobs["film"], jobs["hrtem"], jobs["gates"]) == (1, 1, 1)
    text = fresh.dry_run("--printshellcmds", *MINIMAL, "--config", show).text
    assert text.count("--film results/minimal/film/carbon.extxyz") == 2
    assert "film" not in fresh.jobs(*MINIMAL)


def test_statistics_of_the_structures_need_no_image(fresh: Workplace) -> None:
    jobs = fresh.jobs(*MINIMAL, "--", "results/minimal/report/statistics.html")
    assert jobs == {"potential": 1, "md": 2, "describe": 1, "structures": 1, "statistics": 1}


def test_campaign_overlay(fresh: Workplace) -> None:
    """50 particles, 6 in an md chunk, 12 in an imaging chunk."""
    overlay = "campaign: {n_particles: 50}\nmd: {particles_per_chunk: 6}\nimaging: {md_chunks_per_chunk: 2}\n"
    (fresh.path / "small.yaml").write_text(overlay)
    jobs = fresh.jobs("--configfile", "small.yaml")
    assert (jobs["md"], jobs["describe"], jobs["hrtem"]) == (9, 5, 5)


def test_all_config_faults_are_listed_before_any_job(fresh: Workplace) -> None:
    answer = fresh.snakemake(*MINIMAL, "--config", "imaging={views: 0, colour: red}", "particles={n_atoms: [90, 20]}")
    assert answer.code == 1
    for fault in ("imaging.views: ", "imaging.colour: unknown key", "particles.n_atoms: must be [low, high]"):
        assert fault in answer.text
    assert "Traceback" not in answer.text
    assert not (fresh.path / "results").exists()


def test_resolved_config_is_kept(results: Path, finished: Workplace) -> None:
    kept = json.loads((results / "plan" / "campaign.json").read_text())["config"]
    config = load(finished.path / "config.yaml", finished.path / MINIMAL[1])
    assert kept == config.model_dump(mode="json")
