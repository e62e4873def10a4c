"""The report of a campaign folder made by hand."""

import html
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from alloyscope import cli
from alloyscope.errors import StoreError
from alloyscope.learn.tasks import TASKS
from alloyscope.pages import report, run
from alloyscope.stages import report as report_stage
from alloyscope.store.atomic import read_json, write_json
from alloyscope.wording import duration, interval, mean_and_spread, number
from tests.stages.campaign_folder import DENOISING, FAILED, READING, build
from tests.stages.page_parser import Page


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "demo"
    return folder, build(folder)


@pytest.fixture(scope="module")
def page(made):
    folder, config = made
    report_stage.run(folder=folder, config=config, out=folder / "report" / "index.html")
    return (folder / "report" / "index.html").read_text()


@pytest.fixture
def campaign(made, tmp_path, monkeypatch):
    """A copy to change or damage. Its figures are made but not rendered, which takes most of a report's time."""
    shutil.copytree(made[0], tmp_path / "demo", ignore=shutil.ignore_patterns("report"))
    for module in (report, run):
        monkeypatch.setattr(
            module, "embed", lambda figure, alt, kind="svg": Markup('<img alt="{}" src="#">').format(alt)
        )
    return tmp_path / "demo", made[1]


def make(campaign):
    folder, config = campaign
    report_stage.run(folder=folder, config=config, out=folder / "report" / "index.html")
    return (folder / "report" / "index.html").read_text()


def test_page_is_self_contained(page):
    parsed = Page(page)
    outside = [link for link in parsed.references if not link.startswith(("#", "data:image/"))]
    assert outside == ["run.html", "statistics.html", "run.html"]
    assert not parsed.tags & {"script", "link", "iframe"}
    assert "url(" not in page
    assert "@import" not in page


def test_navigation_leads_somewhere(page):
    parsed = Page(page)
    targets = {link[1:] for link in parsed.references if link.startswith("#")}
    assert targets == set(parsed.ids)
    assert {"reading", "denoising"} <= targets


def test_scores_stand_beside_interval_and_baseline(page):
    text = re.sub(r"<[^>]+>", " ", page)
    text = re.sub(r"\s+", " ", text)
    assert "baseline: always the commoner order 90.0 % 70.0 to 97.0 % 55.0 %" in text
    assert "mean error in size baseline: always the training mean 14.2 atoms 11.0 to 18.0 atoms 61.5 atoms" in text
    assert "95.0 % of the test particles with an order get the right one; the mean error in size is 9.5 atoms" in text
    assert "27.2 dB 26.0 to 28.5 dB 21.5 dB" in text


def test_failed_particle_is_counted_with_its_reason_escaped(page):
    assert "40 particles were planned; 39 are valid, 1 failed, 1 needed more than one attempt" in page
    assert "… clusters &lt;after&gt; … attempts" in page


def test_a_missed_experiment_is_shown_with_its_reason(page):
    assert re.search(r'Ag dimer energy.*<span class="fault">outside</span>.*spectroscopy; 10 %', page)


def test_every_picture_is_there_once(page):
    images = Page(page).images
    assert len(images) == len(set(images))
    assert sum("clean and at" in alt for alt in images) == report.GALLERY
    assert sum(alt.startswith("Noisy, truth, denoised") for alt in images) == 4
    assert sum(alt.startswith("Learning curves") for alt in images) == 2
    for word in ("Confusion matrix", "Predicted against true", "Chemical order against"):
        assert sum(alt.startswith(word) for alt in images) == 1


def test_gallery_runs_from_low_dose_to_high_without_failed_particles(page):
    doses = [float(alt.split("clean and at ")[1].split(" e/")[0]) for alt in Page(page).images if "clean and at" in alt]
    assert doses == sorted(doses)
    assert f"p{FAILED:07d}" not in "".join(Page(page).images)


def test_configuration_is_stated(page, made):
    assert f"n_particles: {made[1].campaign.n_particles}" in page
    assert "python -m alloyscope status results/demo" in page


def test_commands_are_quoted_for_a_shell(campaign):
    folder, config = campaign
    results = "my results;touch owned"
    config = config.model_copy(update={"campaign": config.campaign.model_copy(update={"results": results})})
    out = folder / "$(touch owned)" / "index.html"
    report_stage.run(folder=folder, config=config, out=out)
    first = re.search(r"<pre>(snakemake .*?)</pre>", out.read_text(), re.DOTALL)
    again = re.search(r"<pre>(snakemake .*? --force .*?)</pre>", out.read_text())
    assert first
    assert again
    assert shlex.split(html.unescape(first[1]))[-2:] == ["status", f"{results}/demo"]
    assert shlex.split(html.unescape(again[1]))[-2:] == ["--force", str(out)]


def test_summary_is_a_few_plain_lines(made, page):
    lines = (made[0] / "report" / "summary.txt").read_text().splitlines()
    assert lines[0].startswith("39 of 40 AgCo particles came out whole")
    assert "Ordering accuracy: 90.0 % (95 % interval 70.0 to 97.0 %); always the commoner order: 55.0 %." in lines
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("name", "low", "high", "beaten"),
    [
        ("accuracy", 0.56, 0.97, True),  # guess: 0.55
        ("accuracy", 0.55, 0.97, False),
        ("accuracy", 0.10, 0.40, False),
        ("accuracy", None, None, True),
        ("size_mae_atoms", 11.0, 61.0, True),  # guess: 61.5
        ("size_mae_atoms", 11.0, 62.0, False),
        ("size_mae_atoms", 70.0, 90.0, False),
        ("size_mae_atoms", None, None, True),
    ],
)
def test_score_that_does_not_beat_its_guess_says_so(made, name, low, high, beaten):
    metrics = READING | {"n_test_images": 45, "n_test_particles": 9, f"{name}_low": low, f"{name}_high": high}
    rows = report.score_rows(TASKS["reading"](), ["seed-0"], [metrics])
    lines = report.sentences(made[1], {"valid": 1, "particles": 1, "images": 5}, rows)
    said = [line.endswith("; no better than that guess.") for line in lines]
    assert said == [False, name == "accuracy" and not beaten, name == "size_mae_atoms" and not beaten, False, False]


def test_structures_in_short(page, made):
    """Enclosure and d_com say what the protocol aims at; η says core-shell everywhere."""
    core = (pd.read_parquet(made[0] / "structures" / "structures.parquet")["order_protocol"] == "core_shell").sum()
    assert f"{core} particles are core-shell ({100 * core / 39:.1f} %)" in page
    assert "enclosure agrees with the order that the protocol aims at in 100.0 %" in page
    assert f"η &gt; 0 in {100 * core / 39:.1f} %, d_com" in page
    assert "d_com / R_g in 100.0 %; neither order counts as disagreement." in page
    assert '<a href="statistics.html">' in page


def test_page_marks_a_score_that_does_not_beat_its_guess(campaign):
    path = campaign[0] / "evaluation" / "reading" / "seed-0" / "metrics.json"
    write_json(path, read_json(path) | {"accuracy": 0.422, "accuracy_low": 0.174, "accuracy_high": 0.717})
    text = make(campaign)
    assert "baseline: always the commoner order; no better than that guess<" in text
    assert text.count("no better than that guess") == 1


def test_log_names_the_page_and_its_size(campaign, capsys):
    size = len(make(campaign).encode())
    assert f"index.html: written, {size / 1000:.0f} kB" in capsys.readouterr().err


def test_page_on_the_run_is_written_beside(campaign):
    make(campaign)
    text = (campaign[0] / "report" / "run.html").read_text()
    assert all(f"<td>{rule}</td>" in text for rule in ("potential", "md", "describe", "hrtem", "train"))
    assert re.search(r"<td>numpy</td><td>[\d.]+</td>", text)


@pytest.mark.parametrize(("task", "other"), [("reading", "denoising"), ("denoising", "reading")])
def test_task_that_was_not_evaluated_has_no_section(campaign, task, other):
    shutil.rmtree(campaign[0] / "evaluation" / task)
    ids = Page(make(campaign)).ids
    assert task not in ids
    assert other in ids


def test_report_before_any_training(campaign):
    for name in ("evaluation", "training", "benchmarks"):
        shutil.rmtree(campaign[0] / name)
    text = make(campaign)
    assert "No task has been evaluated yet" in text
    assert not {"reading", "denoising"} & set(Page(text).ids)


def test_several_seeds_are_named(campaign):
    folder, config = campaign
    for stage in ("evaluation", "training"):
        shutil.copytree(folder / stage / "denoising" / "seed-0", folder / stage / "denoising" / "seed-1")
    path = folder / "evaluation" / "denoising" / "seed-1" / "metrics.json"
    write_json(path, read_json(path) | {"psnr_dB": DENOISING["psnr_dB"] + 1})
    training = config.training.model_copy(update={"seeds": (0, 1)})
    text = make((folder, config.model_copy(update={"training": training})))
    assert "PSNR of the denoised image (seed-1)" in text
    assert "28.2 dB" in text


def test_pure_particles_have_no_ordering(campaign):
    folder, _ = campaign
    path = folder / "hrtem" / "images.parquet"
    pd.read_parquet(path).assign(ordering=pd.array([None] * 200, dtype="string")).to_parquet(path)
    assert "no label" in make(campaign)


def test_particles_of_neither_order_are_counted_per_split(campaign):
    folder, _ = campaign
    path = folder / "structures" / "structures.parquet"
    table = pd.read_parquet(path)
    table.loc[table["valid"] & (table["split"] == "test"), "ordering"] = "other"
    table.to_parquet(path)
    n = int((table["ordering"] == "other").sum())
    text = make(campaign)
    cell = '<td class="n">'
    assert re.search(rf"<td>test</td>({cell}\d+</td>){{2}}{cell}0</td>{cell}0</td>{cell}{n}</td>", text)
    assert f"{n} particles are neither" in text


def test_a_score_without_a_value_is_left_out(campaign):
    folder, _ = campaign
    path = folder / "evaluation" / "reading" / "seed-0" / "metrics.json"
    names = ("accuracy", "accuracy_low", "accuracy_high", "accuracy_baseline")
    metrics = read_json(path) | dict.fromkeys(names)
    metrics["per_particle"] = metrics["per_particle"] | dict.fromkeys(names)
    write_json(path, metrics)
    predictions = folder / "evaluation" / "reading" / "seed-0" / "predictions.parquet"
    pd.read_parquet(predictions).assign(ordering="other").to_parquet(predictions)
    text = make(campaign)
    assert "ordering accuracy" not in text
    assert "mean error in size" in text
    assert "are of particles that are neither core-shell nor Janus" in text


@pytest.mark.parametrize(
    "name",
    [
        "structures/structures.parquet",
        "hrtem/images.parquet",
        "hrtem/dataset.json",
        "potential/validation.json",
        "evaluation/reading/seed-0/metrics.json",
        "evaluation/denoising/seed-0/predictions.parquet",
        "evaluation/denoising/seed-0/examples.npz",
        "training/reading/seed-0/metrics.csv",
    ],
)
def test_missing_input_is_named(campaign, name):
    (campaign[0] / name).unlink()
    with pytest.raises(StoreError, match=re.escape(name)):
        make(campaign)
    assert not (campaign[0] / "report" / "index.html").exists()


def test_damaged_table_is_named(campaign):
    path = campaign[0] / "benchmarks" / "md" / "md.tsv"
    path.write_text("")
    with pytest.raises(StoreError, match=r"md.tsv: not a table"):
        make(campaign)


def test_truncated_examples_are_named(campaign):
    path = campaign[0] / "evaluation" / "denoising" / "seed-0" / "examples.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"examples.npz: missing or damaged"):
        make(campaign)


def test_command_line_without_a_folder(tmp_path, capsys):
    assert (
        cli.main(["report", "--folder", str(tmp_path / "none"), "--config", "{}", "--out", str(tmp_path / "x.html")])
        == 2
    )
    assert "no such folder; give the folder of a campaign" in capsys.readouterr().err


def test_numbers_in_words():
    assert number(0.9, "%") == "90.0 %"
    assert number(-1.5) == "−1.500"
    assert number(12.34, "atoms") == "12.3 atoms"
    assert number(None) == number(np.nan) == "–"
    assert interval(11, 18.04, "atoms") == "11.0 to 18.0 atoms"
    assert mean_and_spread(-541.3, 250.6) == "−541 ± 251"
    assert mean_and_spread(5.887, 0.0913) == "5.887 ± 0.091"
    assert mean_and_spread(3.0, float("nan")) == "3.0"
    assert (duration(5.25), duration(119), duration(120), duration(7200)) == ("5.2 s", "119 s", "2.0 min", "2.0 h")
