"""The step `evaluate`: networks trained on discs read and clean unseen discs; what it refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alloyscope.cli import main
from alloyscope.errors import ConfigError, GateError, StoreError
from alloyscope.learn.task import Task
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection
from alloyscope.stages import evaluate, train
from alloyscope.store.images import shard_name
from tests.stages.synthetic_images import alter, beside, build

SETTINGS = {
    "reading": TASKS["reading"](epochs=40, batch_size=8, width=4, learning_rate=5e-3),
    "denoising": TASKS["denoising"](epochs=6, batch_size=8, width=4, learning_rate=5e-3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image set, both networks trained on it, both evaluated."""
    folder = tmp_path_factory.mktemp("campaign")
    dataset = build(folder / "hrtem")
    task: Task
    for task in ("reading", "denoising"):
        train.run(
            task=task,
            seed=0,
            dataset=dataset,
            settings=SETTINGS[task].model_dump(),
            detector=DetectorSection(dose_e_per_A2=(800.0, 1250.0)),
            loader_workers=0,
            structures=beside(dataset.parent),
            species=("Ag", "Co"),
            out=folder / "training" / task,
        )
        assert main(["evaluate", *arguments(folder, task)]) == 0
    return folder


def arguments(folder: Path, task: Task) -> list[str]:
    words = ["--task", task, "--dataset", folder / "hrtem" / "dataset.json"]
    words += ["--checkpoint", folder / "training" / task / "best.ckpt", "--out", folder / "evaluation" / task]
    return list(map(str, words))


def results(folder: Path, task: Task) -> tuple[pd.DataFrame, dict]:
    out = folder / "evaluation" / task
    return pd.read_parquet(out / "predictions.parquet"), json.loads((out / "metrics.json").read_text())


def test_predictions_cover_the_test_split_alone(folder):
    index = pd.read_parquet(folder / "hrtem" / "images.parquet")
    tested = index[index["valid"] & (index["split"] == "test")]
    for task in ("reading", "denoising"):
        table, scores = results(folder, task)
        assert table["image"].tolist() == tested["image"].tolist()
        assert scores["n_test_images"] == 16
        assert scores["n_test_particles"] == 8


def test_size_and_composition_beat_a_blind_guess(folder):
    _, scores = results(folder, "reading")
    assert scores["size_mae_atoms"] < 0.6 * scores["size_mae_baseline_atoms"]
    assert scores["composition_mae"] < 0.8 * scores["composition_mae_baseline"]
    assert scores["size_mae_atoms_low"] <= scores["size_mae_atoms"] <= scores["size_mae_atoms_high"]


def test_scores_follow_from_the_predictions(folder):
    table, scores = results(folder, "reading")
    assert scores["size_mae_atoms"] == pytest.approx((table["n_atoms_predicted"] - table["n_atoms"]).abs().mean())
    right = table["ordering"] == table["ordering_predicted"]
    assert scores["accuracy"] == pytest.approx(right.mean())
    assert np.sum(scores["confusion"]["true_by_predicted"]) == 16
    assert np.trace(scores["confusion"]["true_by_predicted"]) == right.sum()
    assert np.sum(scores["per_particle"]["confusion"]["true_by_predicted"]) == 8
    assert ((table["p_core_shell"] > 0.5) == (table["ordering_predicted"] == "core_shell")).all()


def test_denoised_images_are_closer_to_the_truth(folder):
    table, scores = results(folder, "denoising")
    assert scores["psnr_dB"] > scores["psnr_noisy_dB"] + 1
    assert scores["psnr_dB"] == pytest.approx(table["psnr_dB"].mean())
    # vacuum of 250 electrons a pixel: PSNR of shot noise is 10 lg 250 = 24 dB, better inside the darker disc
    assert 23.9 < scores["psnr_noisy_dB"] < 25


def test_examples_are_the_images_named(folder):
    table, _ = results(folder, "denoising")
    with np.load(folder / "evaluation" / "denoising" / "examples.npz") as stored:
        noisy, truth, denoised, rows = (stored[name] for name in ("noisy", "truth", "denoised", "image"))
    assert noisy.shape == truth.shape == denoised.shape == (4, 32, 32)
    expected = table.set_index("image").loc[rows]
    for before, after in ((noisy, "psnr_noisy_dB"), (denoised, "psnr_dB")):
        psnr = -10 * np.log10(((before.astype(float) - truth) ** 2).mean(axis=(1, 2)))
        np.testing.assert_allclose(psnr, expected[after], atol=1e-3)


def test_refuses_a_network_that_saw_a_test_particle(folder, tmp_path):
    dataset = build(tmp_path / "hrtem")
    split = pd.read_parquet(dataset.parent / "images.parquet")["split"]
    alter(dataset, split=split.replace({"test": "train", "train": "test"}))
    with pytest.raises(GateError, match=r"24 of 24 test particles, or relatives of theirs, were seen .*: 0"):
        evaluate.run(
            task="reading",
            dataset=dataset,
            checkpoint=folder / "training" / "reading" / "best.ckpt",
            out=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_refuses_a_network_that_saw_a_relative_of_a_test_particle(folder, tmp_path):
    dataset = build(tmp_path / "hrtem")
    table = pd.read_parquet(dataset.parent / "images.parquet")
    train, test = (int(table.loc[table["split"] == split, "particle"].iloc[0]) for split in ("train", "test"))
    alter(dataset, group=table["group"].replace({test: train}))
    with pytest.raises(GateError, match=rf"1 of 8 test particles, or relatives of theirs, were seen in .*: {test};"):
        evaluate.run(
            task="reading",
            dataset=dataset,
            checkpoint=folder / "training" / "reading" / "best.ckpt",
            out=tmp_path / "out",
        )


def test_refuses_a_network_for_another_task(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"must be a network for denoising; .* is one for reading"):
        evaluate.run(
            task="denoising",
            dataset=folder / "hrtem" / "dataset.json",
            checkpoint=folder / "training" / "reading" / "best.ckpt",
            out=tmp_path / "out",
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read .* run the stage `train` first"), (b"not a checkpoint", "damaged or not a checkpoint")],
)
def test_refuses_a_missing_or_damaged_checkpoint(folder, tmp_path, content, message):
    path = tmp_path / "best.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        evaluate.run(task="reading", dataset=folder / "hrtem" / "dataset.json", checkpoint=path, out=tmp_path / "out")


@pytest.mark.parametrize("array", ["clean", "counts"])
def test_refuses_a_missing_shard(folder, tmp_path, array):
    dataset = build(tmp_path / "hrtem")
    (dataset.parent / shard_name(array, 0)).unlink()
    with pytest.raises(StoreError, match=r"chunk 000000 is missing; delete .*/chunk-000000.json and run snakemake"):
        evaluate_reading(folder, dataset)
    assert not (tmp_path / "out").exists()


def test_refuses_a_damaged_shard(folder, tmp_path):
    dataset = build(tmp_path / "hrtem")
    path = dataset.parent / shard_name("counts", 0)
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 0x01  # in the shard's index
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=r"chunk 000000 is damaged .*; delete .*/chunk-000000.json and run snakemake"):
        evaluate_reading(folder, dataset)
    assert not (tmp_path / "out").exists()


def evaluate_reading(folder: Path, dataset: Path) -> None:
    checkpoint = folder / "training" / "reading" / "best.ckpt"
    evaluate.run(task="reading", dataset=dataset, checkpoint=checkpoint, out=dataset.parents[1] / "out")


def test_log_says_what_was_scored_and_how_well(folder, tmp_path, capsys):
    evaluate_reading(folder, build(tmp_path / "hrtem"))
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    log = capsys.readouterr().err
    assert "reading: scoring 16 images of 8 particles with " in log
    assert f"reading: accuracy {scores['accuracy']:.3g}, size_mae_atoms {scores['size_mae_atoms']:.3g}, " in log


@pytest.mark.parametrize("labelled", [True, False])
def test_particles_without_an_order_are_scored_for_size_and_composition(folder, tmp_path, capsys, labelled):
    dataset = build(tmp_path / "hrtem")
    table = pd.read_parquet(dataset.parent / "images.parquet")
    neither, pure = (table["particle"] % 10 == 3) | (not labelled), table["particle"] % 4 > 1
    ordering = table["ordering"].astype("string").mask(neither & ~pure, "other")
    alter(dataset, ordering=ordering.mask(neither & pure))
    evaluate_reading(folder, dataset)
    predictions = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    known = predictions["ordering"].isin(["core_shell", "janus"])
    assert scores["n_test_images"] == len(predictions) == 16
    assert scores["n_ordered"] == known.sum() == (8 if labelled else 0)
    right = (predictions["ordering"] == predictions["ordering_predicted"])[known]
    assert scores["accuracy"] == (pytest.approx(right.mean()) if labelled else None)
    error = (predictions["n_atoms_predicted"] - predictions["n_atoms"]).abs().mean()
    assert scores["size_mae_atoms"] == pytest.approx(error)
    log = capsys.readouterr().err
    assert f"in the split test, {16 - scores['n_ordered']} of 16 images are of particles" in log
    assert ("accuracy without a value" in log) == (not labelled)


def test_another_set_is_scored_without_the_particles_that_were_seen(folder, tmp_path):
    """The other set holds the particles of the first; three that were trained on have other counts there."""
    trained_on, other = folder / "hrtem" / "dataset.json", build(tmp_path / "hrtem")
    index = pd.read_parquet(other.parent / "images.parquet")
    fresh = index["particle"].isin(index.loc[index["split"] == "train", "particle"].unique()[:3])
    alter(other, split="test", n_first=index["n_first"].where(~fresh, 5000))
    checkpoint = folder / "training" / "reading" / "best.ckpt"
    evaluate.run(task="reading", dataset=other, trained_on=trained_on, checkpoint=checkpoint, out=tmp_path / "out")
    tested = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    expected = index[index["valid"] & (fresh | (index["split"] == "test"))]
    assert tested["image"].tolist() == expected["image"].tolist()
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert scores["n_training_particles"] == index.loc[index["split"] == "train", "particle"].nunique()


def test_a_split_by_image_is_scored_on_the_images_held_back(folder, tmp_path):
    dataset = folder / "hrtem" / "dataset.json"
    train.run(
        task="reading",
        seed=0,
        dataset=dataset,
        settings={"epochs": 1, "batch_size": 8, "width": 4, "split": "image"},
        detector=DetectorSection(),
        loader_workers=0,
        structures=beside(dataset.parent),
        species=("Ag", "Co"),
        out=tmp_path / "run",
    )
    evaluate.run(task="reading", dataset=dataset, checkpoint=tmp_path / "run" / "best.ckpt", out=tmp_path / "out")
    index = pd.read_parquet(folder / "hrtem" / "images.parquet")
    tested = pd.read_parquet(tmp_path / "out" / "predictions.parquet")["particle"]
    assert set(tested) <= set(index.loc[index["split"] == "train", "particle"])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["split_by"] == "image"
