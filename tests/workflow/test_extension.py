"""A protocol, a task and a preset are one new file each: CONTRIBUTING's examples, in a copy of the package, run."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow.workplace import MINIMAL, Workplace

BLOCK = re.compile(r"```(?:python|yaml)\n# src/(alloyscope/\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def extended(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to put on PYTHONPATH: the package, and beside its files those of CONTRIBUTING."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(root / "src" / "alloyscope", folder / "alloyscope", ignore=shutil.ignore_patterns("__pycache__"))
    blocks = BLOCK.findall((root / "CONTRIBUTING.md").read_text())
    assert [Path(name).parent.name for name, _ in blocks] == ["protocols", "tasks", "presets"]
    for name, content in blocks:
        assert not (folder / name).exists()
        (folder / name).write_text(content)
    return folder


@pytest.fixture(autouse=True)
def use(extended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(extended))


def would_run(place: Workplace, *changes: str) -> dict[str, int]:
    """Jobs per rule. In a process of its own: a fork has imported the package already, without what was added."""
    answer = place.snakemake("--dry-run", *MINIMAL, *changes)
    assert answer.code == 0, answer.text
    return {rule: count for rule, count in answer.jobs.items() if rule not in ("all", "plan")}


def test_they_run_nothing_of_a_finished_campaign(finished: Workplace) -> None:
    assert would_run(finished) == {}
    assert would_run(finished, "--config", "particles={protocols: {mixed: 0}}") == {}


def test_a_task_is_learnt_scored_and_reported(copy: Callable[[], Workplace]) -> None:
    """In a finished campaign it costs its own training, and the pages."""
    place = copy()
    learn = (*MINIMAL, "--config", "training={tasks: [reading, denoising, defocus], defocus: {epochs: 1, width: 4}}")
    assert would_run(place, *learn[2:]) == {"train": 1, "evaluate": 1, "report": 1}
    answer = place.snakemake(*learn)
    assert answer.code == 0, answer.text[-8000:]
    results = place.path / "results" / "minimal"
    predictions = pd.read_parquet(results / "evaluation" / "defocus" / "seed-0" / "predictions.parquet")
    assert {"image_id", "defocus_A", "defocus_A_predicted"} <= set(predictions)
    page = (results / "report" / "index.html").read_text()
    assert '<section id="defocus">' in page
    assert "reads the defocus from a single noisy image" in page
    assert "Mean error in defocus: " in (results / "report" / "summary.txt").read_text()


def test_a_protocol_makes_particles_and_a_preset_fills_the_config(copy: Callable[[], Workplace]) -> None:
    """In a finished campaign, whose potential stays."""
    place = copy()
    config = {
        "campaign": {"n_particles": 2},
        "particles": {"protocols": {"gas_quench": 0, "droplets": 0, "mixed": 1}},
        "md": {"particles_per_chunk": 2, "mixed": {"melt_ps": 1, "cool_ps": [2, 3]}},
        "imaging": {"preset": "titan-300"},
        "detector": {"preset": "titan-300", "mtf_c3": 2.5},
    }
    (place.path / "mixed.yaml").write_text(yaml.safe_dump(config))
    both = (*MINIMAL, "mixed.yaml")
    answer = place.snakemake(*both, "--until", "structures")
    assert answer.code == 0, answer.text[-8000:]
    assert "potential" not in answer.jobs
    results = place.path / "results" / "minimal"
    table = pd.read_parquet(results / "structures" / "structures.parquet")
    assert table["protocol"].tolist() == ["mixed", "mixed"]
    assert table["valid"].all()
    assert table["cool_ps"].between(2, 3).all()
    assert table["order_protocol"].isna().all()
    made = yaml.safe_load((results / "plan" / "campaign.json").read_text())["config"]
    assert (made["imaging"]["voltage_kV"], made["imaging"]["pixel_size_A"]) == (300, 0.3)
    assert (made["detector"]["camera"], made["detector"]["mtf_c2"], made["detector"]["mtf_c3"]) == (
        "scintillator",
        [0.35, 0.45],
        2.5,
    )


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (
            "md={mixed: {melt_ps: 2}}",
            "md.mixed: stands there without effect; give mixed a weight in particles.protocols",
        ),
        ("training={defocus: {epochs: 2}}", "training.defocus: stands there without effect; name defocus in training"),
        ("particles={protocols: {onion: 1}}", "must be one of droplets, gas_quench, mixed; got 'onion'"),
        (
            "training={tasks: [reading, counting]}",
            "must be one of defocus, denoising, microscope, reading; got 'counting'",
        ),
    ],
)
def test_settings_without_effect_and_unknown_names_are_refused(finished: Workplace, config: str, fault: str) -> None:
    answer = finished.snakemake("--dry-run", *MINIMAL, "--config", config)
    assert answer.code == 1
    assert fault in answer.text


def test_a_preset_by_its_path(fresh: Workplace, extended: Path) -> None:
    """Its values stand in the config that jobs are given, so the file may be gone afterwards."""
    shutil.copy(extended / "alloyscope" / "data" / "presets" / "titan-300.yaml", fresh.path / "mine.yaml")
    own = (*MINIMAL, "--config", "imaging={preset: mine.yaml}", "optics={preset: mine.yaml}")
    answer = fresh.snakemake(*own, "--until", "plan")
    assert answer.code == 0, answer.text[-8000:]
    (fresh.path / "mine.yaml").unlink()
    status = [sys.executable, "-m", "alloyscope", "status", "results/minimal"]
    assert subprocess.run(status, cwd=fresh.path, check=False).returncode == 0
    kept = json.loads((fresh.path / "results" / "minimal" / "plan" / "campaign.json").read_text())["config"]
    assert (kept["imaging"]["voltage_kV"], kept["optics"]["C30_A"]) == (300, [-1e5, 1e5])
