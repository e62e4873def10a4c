"""Numbers worth quoting come from a run's files, and docs/results.md says what docs/results.json says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from alloyscope.config.read import parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.store.atomic import checksum, digest, write_json
from alloyscope.store.manifests import Manifest, Slot
from benchmarks.record import recording
from benchmarks.record.__main__ import main
from benchmarks.record.page import PAGES, page_of, render
from benchmarks.record.recording import run

CAMPAIGN: dict[str, Any] = {
    "campaign": {"name": "small", "n_particles": 4},
    "potential": {"set": "AgCo"},
    "md": {"particles_per_chunk": 2},
    "imaging": {"md_chunks_per_chunk": 1, "views": 3},
}
STAMP = {"finished": "2026-01-02T03:04:05+0000", "commit": "abc", "core_s": 6.0, "wall_s": 2.0}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks of this checkout do not matter here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "small"
    write_json(folder / "plan" / "campaign.json", {"config": parse(CAMPAIGN).model_dump(mode="json")})
    write_json(
        folder / "evaluation" / "reading" / "seed-0" / "metrics.json",
        {"accuracy": 0.75, "accuracy_low": 0.5, "accuracy_high": 0.9, "provenance": STAMP},
    )
    for chunk, seconds in enumerate(((1.0, 3.0), (4.0, 8.0))):
        slots = tuple(Slot(2 * chunk + n, True, seconds=s) for n, s in enumerate(seconds))
        Manifest("md", chunk, "d", slots, {}, {}, STAMP).write(folder / "structures" / f"chunk-00000{chunk}.json")
        hrtem = Manifest("hrtem", chunk, "d", slots, {}, {}, STAMP | {"core_s": 6.0 * (chunk + 1)})
        hrtem.write(folder / "hrtem" / f"chunk-00000{chunk}.json")
    return folder


TABLE = pd.DataFrame(
    {
        "valid": [True, True, True, False, True, True],
        "attempts": [1, 2, 1, 3, 1, 1],
        "protocol": ["gas_quench"] * 4 + ["droplets"] * 2,
        "order_protocol": ["core_shell"] * 3 + [None] + ["janus"] * 2,
        "order_eta": ["core_shell", "janus", "core_shell", None, "core_shell", "janus"],
        "order_d_com": ["core_shell"] * 3 + [None, "janus", "core_shell"],
        "ordering": ["core_shell"] * 3 + [None, "janus", "core_shell"],
        "eta": [0.5, -0.5, 1.5, None, 0.25, None],
        "d_com_over_Rg": [0.1, 0.1, 0.1, None, 0.75, 1.25],
    }
)


@pytest.fixture
def described(folder: Path) -> Path:
    (folder / "structures").mkdir(exist_ok=True)
    TABLE.to_parquet(folder / "structures" / "structures.parquet")
    write_json(folder / "structures" / "structures.json", {"provenance": STAMP})
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    figure = {"value": 3.0, "unit": "", "min": 2.5, "max": 3.5, "runs": 4, "against": "a fresh lmp | per particle"}
    content = {
        "figures": {"md_cost_ratio": figure, "md_worker_MB": figure | {"unit": "MB", "min": None, "max": None}},
        "command": "python benchmarks/md_cost.py --cost 4",
        "commit": "abc",
        "config": "c0ffee",
        "date": "2026-01-02T03:04:05+0000",
    }
    write_json(tmp_path / "bench" / "md_cost.json", content)
    return tmp_path / "bench"


def potential(folder: Path, **changed: Any) -> Path:
    """A folder with the validation of a set: three checks, two of one name."""
    check = {"name": "a", "value": 1.5, "reference": 1.0, "tolerance": 1.0, "unit": "Å", "kind": "formula"}
    checks = [
        check | {"source": "formula", "reason": "r"},
        check | {"kind": "experiment", "tolerance": 0.25, "source": "a book [memory]", "reason": "r"},
        check | {"name": "b", "source": "formula", "reason": "r"},
    ]
    content = {"set": {"name": "AgCo"}, "settings": {"set": "AgCo"}, "checks": checks, "provenance": STAMP}
    write_json(folder / "validation.json", content | changed)
    return folder


def read(docs: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((docs / "results.json").read_text())
    return content


def test_score_keeps_its_provenance(folder: Path, tmp_path: Path) -> None:
    run(folder=folder, names=["ordering_accuracy"], docs=tmp_path)
    path = folder / "evaluation" / "reading" / "seed-0" / "metrics.json"
    assert read(tmp_path)["ordering_accuracy"] == {
        "value": 0.75,
        "low": 0.5,
        "high": 0.9,
        "unit": "",
        "command": 'snakemake --profile profiles/local --config \'campaign={"name": "small", "n_particles": 4}\' '
        '\'potential={"set": "AgCo"}\' \'md={"particles_per_chunk": 2}\' '
        '\'imaging={"views": 3, "md_chunks_per_chunk": 1}\'',
        "date": "2026-01-02T03:04:05+0000",
        "commit": "abc",
        "config": digest(parse(CAMPAIGN).as_json()),
        "artefact": f"{path} sha256:{checksum(path)}",
    }


def test_costs_by_hand(folder: Path, tmp_path: Path) -> None:
    run(folder=folder, names=["small_md_core_s_per_particle", "small_images_per_core_s"], docs=tmp_path)
    found = read(tmp_path)
    cost, speed = found["small_md_core_s_per_particle"], found["small_images_per_core_s"]
    assert (cost["value"], cost["low"], cost["high"]) == (4.0, 2.0, 6.0)
    assert (speed["value"], speed["low"], speed["high"]) == (12 / 18, 6 / 12, 6 / 6)


def test_wall_time_runs_from_first_job_to_report(folder: Path, tmp_path: Path) -> None:
    now = time.time()
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now - 100))
    write_json(folder / "potential" / "validation.json", {"provenance": STAMP | {"finished": finished}})
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("page")
    run(folder=folder, names=["small_wall_s"], docs=tmp_path)
    assert read(tmp_path)["small_wall_s"]["value"] == pytest.approx(102, abs=2)


def test_recording_keeps_the_other_entries(folder: Path, tmp_path: Path) -> None:
    run(folder=folder, names=["small_images_per_core_s"], docs=tmp_path)
    run(folder=folder, names=["ordering_accuracy"], docs=tmp_path)
    assert read(tmp_path).keys() == {"small_images_per_core_s", "ordering_accuracy"}
    assert (tmp_path / "results.md").read_text() == render(read(tmp_path))
    assert "| `ordering_accuracy` | 0.75 | 0.5 – 0.9 |" in (tmp_path / "results.md").read_text()


def test_unknown_name_records_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown names: speed; known are ordering_accuracy, .*setup_s"):
        run(folder=folder, names=["ordering_accuracy", "speed"], docs=tmp_path)
    with pytest.raises(ConfigError, match=r"unknown names: ordering_accuracy; .*--from FOLDER"):
        run(folder=None, names=["ordering_accuracy"], docs=tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_missing_score_names_what_is_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no size_mae_atoms; it has accuracy, accuracy_high"):
        run(folder=folder, names=["size_mae_atoms"], docs=tmp_path)


def test_unfinished_campaign_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "hrtem" / "chunk-000001.json").unlink()
    with pytest.raises(StoreError, match="1 of 2 chunks are finished, all are needed"):
        run(folder=folder, names=["small_images_per_core_s"], docs=tmp_path)


def test_committed_page_agrees_with_the_numbers(root: Path) -> None:
    entries = read(root / "docs")
    assert (root / "docs" / "results.md").read_text() == render(entries), (
        "docs/results.md differs from docs/results.json; mend: python -m benchmarks.record --from results/demo NAME"
    )
    assert all(entry["artefact"].count(" sha256:") == 1 for entry in entries.values())
    assert [name for name, entry in entries.items() if entry["commit"].endswith("+")] == []


def test_setup_time_is_read_off_the_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "commit", lambda: "abc")
    with pytest.raises(StoreError, match=r"pyvenv\.cfg: missing; run make demo or make test"):
        run(folder=None, names=["setup_s"], docs=tmp_path)
    (tmp_path / ".venv").mkdir()
    for name, stamp in (("pyvenv.cfg", 1_000_000.0), (".installed-package", 1_000_130.5)):
        (tmp_path / ".venv" / name).touch()
        os.utime(tmp_path / ".venv" / name, (stamp, stamp))
    assert run(folder=None, names=["setup_s"], docs=tmp_path)["setup_s"].value == 130.5


def test_statistics_of_particles_by_hand(described: Path, tmp_path: Path) -> None:
    run(folder=described, names=["small_*share*", "small_*agreement", "small_retry_rate_*"], docs=tmp_path)
    run(folder=described, names=["small_particles", "small_eta_gas_quench", "small_d_com_over_Rg_*"], docs=tmp_path)
    found = {name.removeprefix("small_"): entry for name, entry in read(tmp_path).items()}
    values = {name: entry["value"] for name, entry in found.items()}
    assert values == {
        "particles": 6,
        "valid_share": 5 / 6,
        "core_shell_share_gas_quench": 1.0,
        "core_shell_share_droplets": 0.5,
        "eta_agreement": 3 / 5,
        "d_com_agreement": 4 / 5,
        "retry_rate_gas_quench": 2 / 4,
        "retry_rate_droplets": 0.0,
        "eta_gas_quench": 0.5,
        "d_com_over_Rg_gas_quench": pytest.approx(0.1),
        "d_com_over_Rg_droplets": 1.0,
    }
    # Wilson, 2 of 4: (1/2 ± z √(1/16 + z²/64) / (1 + z²/4)), z = 1.96
    assert found["retry_rate_gas_quench"]["low"] == pytest.approx(0.1500, abs=1e-4)
    assert found["retry_rate_gas_quench"]["high"] == pytest.approx(0.8500, abs=1e-4)
    # standard deviation 1 of three values: 1.96 / √3
    assert found["eta_gas_quench"]["high"] == pytest.approx(0.5 + 1.1316, abs=1e-4)
    assert found["particles"]["low"] is None


def test_statistic_of_too_few_particles_is_refused(described: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds too few particles for eta_droplets; leave that name out"):
        run(folder=described, names=["small_eta_droplets"], docs=tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_benchmark_keeps_its_command_and_what_it_is_against(bench: Path, tmp_path: Path) -> None:
    run(folder=None, names=["md_*"], docs=tmp_path, bench=bench)
    path = bench / "md_cost.json"
    assert read(tmp_path)["md_cost_ratio"] == {
        "value": 3.0,
        "low": 2.5,
        "high": 3.5,
        "unit": "",
        "command": "python benchmarks/md_cost.py --cost 4",
        "date": "2026-01-02T03:04:05+0000",
        "commit": "abc",
        "config": "c0ffee",
        "artefact": f"{path} sha256:{checksum(path)}",
        "note": "a fresh lmp | per particle",
    }
    page = (tmp_path / "results.md").read_text()
    headline = "| molecular dynamics: times cheaper than the plain use of LAMMPS | 3 | 2.5 – 3.5 | `python"
    assert page.index("## Headlines") < page.index(headline) < page.index("## Molecular dynamics")
    run_line = "`python benchmarks/md_cost.py --cost 4`, commit `abc`, config `c0ffee`, 2026-01-02:"
    assert page.count(run_line) == 1
    assert "| `md_cost_ratio` | 3 | 2.5 – 3.5 | a fresh lmp \\| per particle |" in page
    assert "| `md_worker_MB` | 3 MB |  | a fresh" in page


@pytest.mark.parametrize("commit", ["abc+", None])
def test_numbers_of_uncommitted_code_are_refused(bench: Path, tmp_path: Path, commit: str | None) -> None:
    content = json.loads((bench / "md_cost.json").read_text())
    write_json(bench / "md_cost.json", content | {"commit": commit})
    with pytest.raises(StoreError, match="measured on uncommitted code: md_cost_ratio; commit the changes and measure"):
        run(folder=None, names=["md_cost_ratio"], docs=tmp_path, bench=bench)
    assert not (tmp_path / "results.json").exists()


def test_unknown_name_lists_the_benchmarks_too(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown names: md_cost; known are md_cost_ratio, md_worker_MB, setup_s"):
        run(folder=None, names=["md_cost"], docs=tmp_path, bench=bench)
    with pytest.raises(ConfigError, match=r"unknown names: zarr_\*; .*make bench"):
        run(folder=None, names=["zarr_*"], docs=tmp_path, bench=bench)


def test_a_figure_has_one_file(bench: Path, tmp_path: Path) -> None:
    (bench / "old.json").write_bytes((bench / "md_cost.json").read_bytes())
    with pytest.raises(StoreError, match=r"old\.json: holds md_cost_ratio, which another file of .* holds too"):
        run(folder=None, names=["md_cost_ratio"], docs=tmp_path, bench=bench)
    (bench / "old.json").write_text('{"figures": {"a": {"value": 1}}}')
    with pytest.raises(StoreError, match=r"old\.json: no benchmark's file"):
        run(folder=None, names=["md_cost_ratio"], docs=tmp_path, bench=bench)


def test_validation_records_every_check(tmp_path: Path) -> None:
    place = potential(tmp_path / "potential")
    found = run(folder=None, names=["validation_AgCo"], docs=tmp_path, validations=[place])
    assert list(found) == ["validation_AgCo: a (formula)", "validation_AgCo: a (experiment)", "validation_AgCo: b"]
    measured = read(tmp_path)["validation_AgCo: a (experiment)"]
    assert [measured[key] for key in ("value", "reference", "tolerance", "low", "high", "note")] == [
        1.5,
        1.0,
        0.25,
        0.75,
        1.25,
        "a book [memory]",
    ]
    assert measured["command"] == f"alloyscope potential --set AgCo --out {place}"
    page = (tmp_path / "results.md").read_text()
    assert f"| AgCo | 3 | a (experiment) | `alloyscope potential --set AgCo --out {place}` | `abc` |" in page
    assert "| quantity | unit | AgCo | experiment |" in page
    assert "| a | Å | 1.5* | 1 [memory] |" in page
    assert "| b | Å | 1.5 |  |" in page


def test_recorded_again_a_validation_loses_the_checks_it_no_longer_has(bench: Path, tmp_path: Path) -> None:
    place = potential(tmp_path / "potential")
    run(folder=None, names=["validation_AgCo", "md_worker_MB"], docs=tmp_path, bench=bench, validations=[place])
    checks = json.loads((place / "validation.json").read_text())["checks"]
    potential(place, checks=checks[:1])
    run(folder=None, names=["validation_AgCo"], docs=tmp_path, bench=bench, validations=[place])
    assert read(tmp_path).keys() == {"validation_AgCo: a", "md_worker_MB"}


def test_validation_of_a_campaign_names_its_settings(folder: Path, tmp_path: Path) -> None:
    place = potential(folder / "potential", settings={"set": "AgCo", "n_r": 5000})
    run(folder=folder, names=["validation_AgCo"], docs=tmp_path)
    command = read(tmp_path)["validation_AgCo: b"]["command"]
    assert command.startswith("alloyscope potential --potential '{")
    assert '"n_r":5000' in command
    potential(place, checks=[{"name": "a"}])
    with pytest.raises(StoreError, match=r"validation\.json: no validation of a potential"):
        run(folder=folder, names=["validation_AgCo"], docs=tmp_path)


def test_every_name_has_its_section() -> None:
    names = {
        "validation_AuCu: b": "Potential validation",
        "md_cost_ratio": "Molecular dynamics",
        "pair_style_opt_cost_60_atoms_2000_points": "Molecular dynamics",
        "melting_AgCo_Ag_K": "Molecular dynamics",
        "demo_md_core_s_per_particle": "Molecular dynamics",
        "reference_retry_rate_droplets": "Molecular dynamics",
        "reference_particles": "Structures",
        "reference_core_shell_share_gas_quench": "Structures",
        "reference_d_com_over_Rg_droplets": "Structures",
        "hrtem_error_of_beam": "Imaging",
        "demo_images_per_core_s": "Imaging",
        "ordering_accuracy_image_split": "Learning",
        "count_pure_exact_statistical": "Learning",
        "plan_2M_s": "Workflow",
        "demo_wall_s": "Workflow",
    }
    assert {name: page_of(name) for name in names} == names
    assert set(names.values()) == set(PAGES)


def test_command_line_names_what_it_recorded(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["md_worker_MB", "--bench", str(bench), "--docs", str(tmp_path)])
    assert capsys.readouterr().out == "md_worker_MB: 3 MB\n"
    assert read(tmp_path).keys() == {"md_worker_MB"}


def test_what_a_user_can_mend_is_one_line_and_code_2(root: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.record", "nothing"], cwd=root, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stderr.startswith("python -m benchmarks.record: unknown names: nothing; known are ")
