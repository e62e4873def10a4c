"""What Snakemake runs again, and what it leaves alone, in a finished campaign of this and of an earlier version."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from alloyscope.campaign.stages import STAGES
from alloyscope.commands import verify
from tests.workflow.workplace import MINIMAL, Workplace

LABELLED = {"structures": 1, "statistics": 1}
LEARNING = {"train": 2, "evaluate": 2, "report": 1}


@pytest.fixture
def copied(copy: Callable[[], Workplace]) -> Workplace:
    return copy()


def test_an_earlier_version_keeps_its_molecular_dynamics(kept: Workplace) -> None:
    """Values of params as today's rules give them: one new default in one of them would run its stage again.

    The stages whose results have changed since then run; `potential` and `md` do not.
    """
    assert kept.jobs(*MINIMAL) == {
        "describe": 1,
        **LABELLED,
        "hrtem": 1,
        "gates": 1,
        "dataset": 1,
        **LEARNING,
    }


def test_an_earlier_version_is_whole(kept: Workplace) -> None:
    said = verify.run(folder=kept.path / "results" / "minimal")
    assert "whole; 4 manifests" in said
    assert "describe, hrtem: of an earlier version, snakemake will make them again" in said


def test_an_earlier_version_grows(kept: Workplace) -> None:
    answer = kept.dry_run(*MINIMAL, "--config", "campaign={n_particles: 17}")
    begun = {line.split()[-1] for line in answer.text.splitlines() if line.startswith("    output: ")}
    assert {name for name in begun if "/structures/chunk-" in name} == {
        f"results/minimal/structures/chunk-00000{n}.json" for n in (2, 3, 4)
    }


def test_a_finished_campaign_has_nothing_to_do(finished: Workplace) -> None:
    assert finished.jobs(*MINIMAL) == {}


def test_rules_make_what_the_table_of_stages_says(finished: Workplace) -> None:
    """Outputs, logs and benchmarks stand written out in the rules, for who reads one, and in the table."""
    answer = finished.snakemake("--dry-run", "--forceall", *MINIMAL, "--config", "imaging={film: {share: 0.5}}")
    blocks = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", answer.text, re.MULTILINE)
    rules = {name: dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE)) for name, block in blocks}
    assert rules.keys() - {"all"} == STAGES.keys() - {"files"}
    for name, rule in rules.items():
        if name == "all":
            continue
        stage, words = STAGES[name], dict(re.findall(r"(\w+)=([^,]+)", rule.get("wildcards", "")))
        paths = (path.format(set="AgCo-orleans", **words) for path in (stage.proof, *stage.beside))
        assert set(rule["output"].split(", ")) == {f"results/minimal/{path}" for path in paths}
        log = f"results/minimal/{stage.log.format(**words)}"
        assert rule["log"] == log
        assert rule["benchmark"] == log.replace("/logs/", "/benchmarks/").replace(".log", ".tsv")


@pytest.mark.parametrize(
    "change",
    [
        "execution={wall_limit_s: 100, device: cpu, checked_waves: 2}",
        "campaign={results: results}",
    ],
)
def test_what_no_stage_is_made_from_reruns_nothing(finished: Workplace, change: str) -> None:
    assert finished.jobs(*MINIMAL, "--config", change) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # the old names of what is now in `execution`
        ("imaging={checked_waves: 2}", {"hrtem": 1, "gates": 1, "dataset": 1, **LEARNING}),
        ("optics={C30_A: 1000}", {"hrtem": 1, "gates": 1, "dataset": 1, **LEARNING}),
        ("labels={ordering: eta}", {**LABELLED, "gates": 1, "dataset": 1, **LEARNING}),
        ("dataset={gated_images: 2}", {"gates": 1, "dataset": 1, **LEARNING}),
        ("training={reading: {epochs: 3}}", {"train": 1, "evaluate": 1, "report": 1}),
        (
            "md={thermalise_ps: 2}",
            {"md": 2, "describe": 1, **LABELLED, "hrtem": 1, "gates": 1, "dataset": 1, **LEARNING},
        ),
        (
            "campaign={n_particles: 12}",
            {"md": 1, "describe": 1, **LABELLED, "hrtem": 1, "gates": 1, "dataset": 1, **LEARNING},
        ),
    ],
)
def test_a_change_reruns_what_depends_on_it(finished: Workplace, change: str, expected: dict[str, int]) -> None:
    assert finished.jobs(*MINIMAL, "--config", change) == expected


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (
            "structures/chunk-000001.json",
            {"md": 1, "describe": 1, **LABELLED, "hrtem": 1, "gates": 1, "dataset": 1, **LEARNING},
        ),
        ("descriptors/chunk-000000.json", {"describe": 1, **LABELLED, "gates": 1, "dataset": 1, **LEARNING}),
        ("hrtem/chunk-000000.json", {"hrtem": 1, "gates": 1, "dataset": 1, **LEARNING}),
        ("hrtem/dataset.json", {"dataset": 1, **LEARNING}),
    ],
)
def test_what_is_lost_is_made_again(copied: Workplace, lost: str, expected: dict[str, int]) -> None:
    """Also when nothing that is still to be done asks for it."""
    (copied.path / "results" / "minimal" / lost).unlink()
    assert copied.jobs(*MINIMAL) == expected


def test_growing_computes_only_new_chunks(finished: Workplace) -> None:
    """8 particles in md chunks 0, 1 and imaging chunk 0 are finished; 17 need md 2 to 4, and imaging chunks 1 and 2."""
    answer = finished.dry_run(*MINIMAL, "--config", "campaign={n_particles: 17}")
    begun = {
        line.split()[-1] for line in answer.text.splitlines() if line.startswith("    output: ") and "chunk-" in line
    }
    folder = "results/minimal"
    assert begun == {
        *(f"{folder}/structures/chunk-00000{n}.json" for n in (2, 3, 4)),
        *(f"{folder}/{place}/chunk-00000{n}.json" for place in ("descriptors", "hrtem") for n in (1, 2)),
    }


def test_min_chunks_trains_early_and_finishes_the_campaign(finished: Workplace) -> None:
    """Four times the particles; the set asked for is the one imaging chunk that is there, so learning is up to date."""
    jobs = finished.jobs(*MINIMAL, "--config", "campaign={n_particles: 32}", "dataset={min_chunks: 1}")
    assert jobs == {"md": 6, "describe": 3, "hrtem": 3, "report": 1}


def test_commands_of_the_docs(finished: Workplace, root: Path) -> None:
    """Each line of docs/rerunning.md runs the jobs that it names."""
    text = (root / "docs" / "rerunning.md").read_text()
    lines = re.findall(r"^snakemake --profile profiles/local (.*?) +# (.*)$", text, re.MULTILINE)
    assert len(lines) == text.count("\nsnakemake ")
    jobs = [finished.jobs(*line[0].split()) for line in lines]
    named = [{rule: int(n) for rule, n in (job.split() for job in line[1].split(", "))} for line in lines]
    assert jobs == named


def test_rewording_a_rule_reruns_nothing(copied: Workplace) -> None:
    for rules in (copied.path / "workflow" / "rules").glob("*.smk"):
        reworded = rules.read_text().replace("python -m alloyscope", "python  -m  alloyscope")
        rules.write_text(f"# another comment\n{reworded}")
    assert copied.jobs(*MINIMAL) == {}


@pytest.mark.parametrize(
    ("deleted", "expected"),
    [
        (["structures/chunk-000001.json", "descriptors/chunk-000000.json"], {"md": 1, "describe": 1, "hrtem": 1}),
        (["descriptors/chunk-000000.json"], {"describe": 1}),
    ],
)
def test_deleted_manifest_reruns_its_chunk(copied: Workplace, deleted: list[str], expected: dict[str, int]) -> None:
    """What a StoreError asks for; the step that refused the chunk has written nothing, and nothing has followed it."""
    results = copied.path / "results" / "minimal"
    for name in (*deleted, "structures/structures.parquet", "hrtem/dataset.json", "hrtem/images.parquet"):
        (results / name).unlink()
    for later in ("training", "evaluation", "report"):
        shutil.rmtree(results / later)
    assert copied.jobs(*MINIMAL) == {**expected, **LABELLED, "gates": 1, "dataset": 1, **LEARNING}
