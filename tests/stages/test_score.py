"""Models as folders, and scoring from outside: what is read, what is left out and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.cluster import Octahedron
from ase.io import write

from alloyscope.cli import main
from alloyscope.commands import model, score
from alloyscope.config.model import Config
from alloyscope.errors import ConfigError, StoreError
from alloyscope.learn import shipped
from alloyscope.learn.calibration import Calibration
from alloyscope.learn.model import Card, new_learner
from alloyscope.learn.scores import further_scores
from alloyscope.learn.shipped import CARD, WEIGHTS, Model
from alloyscope.learn.tasks import TASKS
from alloyscope.store.atomic import digest, write_json
from alloyscope.store.checkpoints import save_checkpoint
from tests.stages.synthetic_images import build

FIRST = [
    *("particle", "view", "dose_e_per_A2", "p_core_shell"),
    *("n_atoms_predicted", "n_atoms_low", "n_atoms_high"),
    *("fraction_first_predicted", "fraction_first_low", "fraction_first_high", "likeness"),
]
CALIBRATION = Calibration(
    particles=9,
    images=9,
    edges=(),
    quantiles={"n_atoms": (0.5,), "fraction_first": (0.1,)},
    sets=(0.6,),
    temperature=2.0,
)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign whose network has fresh weights: what is tested does not depend on what it knows."""
    folder = tmp_path_factory.mktemp("results") / "small"
    build(folder / "hrtem")
    config = Config().completed()
    write_json(folder / "plan" / "campaign.json", {"config": config.model_dump(mode="json"), "digest": "d"})
    card = Card(
        task="reading",
        seed=3,
        settings=TASKS["reading"](width=4).model_dump(mode="json"),
        detector=config.detector.model_dump(mode="json"),
        centre=(5.0, 0.5),
        spread=(0.5, 0.2),
        seen=[0, 1],
        digest="trained",
    )
    learner = new_learner(card)
    training = folder / "training" / "reading" / "seed-3"
    state = {"hyper_parameters": {"card": vars(card)}, "state_dict": learner.state_dict()}
    save_checkpoint(training / "best.ckpt", state)
    splits = {"train": {"particles": 24, "images": 48}}
    made = {"commit": "abc", "versions": {"torch": "2"}}
    write_json(training / "run.json", {"seed": 3, "epochs": 10, "splits": splits, "provenance": made})
    evaluation = folder / "evaluation" / "reading" / "seed-3"
    metrics = {"training": "trained", "dataset": "synthetic", "symmetries": 8, "size_mae_atoms": 31.0}
    write_json(evaluation / "metrics.json", metrics)
    write_json(evaluation / "calibration.json", CALIBRATION.model_dump(mode="json") | {"likeness": None})
    return folder


@pytest.fixture(scope="module")
def folder(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "mine"
    model.export(training=campaign / "training" / "reading" / "seed-3", out=out)
    return out


def particle(first: str, second: str) -> Atoms:
    """An octahedron of 85 atoms, of the first species above z = 0 and of the second below."""
    atoms = Octahedron("Ag", 5, 0)
    atoms.symbols[:] = [first if z > 1e-3 else second for z in atoms.positions[:, 2] - atoms.positions[:, 2].mean()]
    return Atoms(atoms.get_chemical_symbols(), atoms.positions)


def test_a_model_comes_back_without_its_campaign(campaign: Path, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CARD, WEIGHTS}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    found = Model.load(folder)
    expected = torch.load(campaign / "training/reading/seed-3/best.ckpt", weights_only=True)["state_dict"]
    for name, tensor in found.reader.network.state_dict().items():
        assert torch.equal(tensor, expected[f"network.{name}"])
    origin = found.card.trained_on
    assert (found.card.name, origin.particles, origin.visits, origin.seed) == ("mine", 24, 480, 3)
    assert found.card.calibration == CALIBRATION
    table = pd.read_parquet(campaign / "hrtem" / "images.parquet")
    assert origin.n_atoms[2] == pytest.approx(table.loc[table["split"] == "train", "n_atoms"].mean(), rel=0.05)


def test_card_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "mine: reading for AgCo at 200 kV with 0.4348 Å pixels (128 pixels, 55.7 Å)" in shown
    assert "mean error in size: 31.0 atoms" in shown


def test_readings_do_not_depend_on_how_the_image_is_turned(folder: Path) -> None:
    reader = Model.load(folder).reader
    image, electrons = torch.rand(2, 1, 32, 32) + 0.5, torch.tensor([100.0, 400.0])
    straight = reader.output(image, electrons)
    for turned in (torch.rot90(image, 1, (-2, -1)), image.flip(-1), image.transpose(-1, -2)):
        torch.testing.assert_close(reader.output(turned, electrons), straight)
    assert not torch.allclose(reader.network(image, electrons), reader.network(image.flip(-1), electrons))


def test_structures_are_imaged_read_and_scored(folder: Path, tmp_path: Path) -> None:
    files = tmp_path / "a.extxyz", tmp_path / "b.xyz"
    write(files[0], [particle("Ag", "Co"), particle("Au", "Cu")], format="extxyz")
    write(files[1], particle("Co", "Ag"), format="xyz")
    words = ["--structures", *map(str, files), "--views", "2", "--seed", "5", "--out", str(tmp_path / "out")]
    assert main(["score", "--model", str(folder), *words]) == 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(table.columns[: len(FIRST)]) == FIRST
    assert list(pd.read_parquet(tmp_path / "out" / "predictions.parquet").columns) == list(table.columns)
    assert table["particle"].tolist() == [0, 0, 2, 2]  # the frame left out keeps its number
    assert table["view"].tolist() == [0, 1, 0, 1]
    assert (table["n_atoms"] == 85).all()
    above = (table["n_atoms_high"] / table["n_atoms_predicted"]).to_numpy()
    assert (above > 1).all()
    assert above == pytest.approx((table["n_atoms_predicted"] / table["n_atoms_low"]).to_numpy())  # alike in ln n
    assert table["likeness"].isna().all()
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [one["particle"] for one in scores["left_out"]] == [1]
    assert scores["left_out"][0]["origin"] == "a.extxyz#1"
    assert scores["size_mae_atoms"] == pytest.approx((table["n_atoms_predicted"] - 85).abs().mean())
    inside = (table["n_atoms_low"] <= 85) & (table["n_atoms_high"] >= 85)
    assert scores["coverage"]["n_atoms"]["coverage"] == pytest.approx(inside.mean())
    assert table["ordering"].eq("janus").all()
    # images depend on seed, frame and view alone
    score.run(model=str(folder), structures=[files[0]], views=1, seed=5, out=tmp_path / "again")
    again = pd.read_parquet(tmp_path / "again" / "predictions.parquet")
    assert again["n_atoms_predicted"].iloc[0] == pytest.approx(table["n_atoms_predicted"].iloc[0], rel=1e-4)


def test_another_voltage_pixel_or_material_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    card = Model.load(folder).card
    card.require("mine", voltage_kV=200.0, pixel_size_A=10 / 23 * 1.001, species=("Ag", "Co"))
    with pytest.raises(ConfigError, match=r"^model mine is for AgCo .* it has 300 kV, 0.3 Å pixels; take .*$"):
        card.require("it", voltage_kV=300.0, pixel_size_A=0.3)
    with pytest.raises(ConfigError, match="it has species Co and Ag"):
        card.require("it", species=("Co", "Ag"))
    path = tmp_path / "gold.extxyz"
    write(path, particle("Au", "Cu"), format="extxyz")
    with pytest.raises(ConfigError, match=r"no whole particle of Ag and Co among 1 frames; the first: holds Au, Cu"):
        score.run(model=str(folder), structures=[path], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sets_of_other_pixels_and_foreign_folders_are_refused(folder: Path, campaign: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 0.5 Å pixels"):
        score.run(model=str(folder), dataset=campaign, out=tmp_path / "out")
    with pytest.raises(StoreError, match=r"no released set; dataset.json must be in it"):
        score.run(model=str(folder), dataset=tmp_path, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="and only one"):
        score.run(model=str(folder), out=tmp_path / "out")
    with pytest.raises(ConfigError, match="--structures: no file "):
        score.run(model=str(folder), structures=[tmp_path / "none.xyz"], out=tmp_path / "out")


def test_of_its_own_campaign_a_model_reads_the_test_split_alone(
    folder: Path, campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "SAME", 1.0)  # the synthetic set has pixels of 0.5 Å
    scores = score.run(model=str(folder), dataset=campaign / "hrtem", out=tmp_path / "out")
    table = pd.read_parquet(campaign / "hrtem" / "images.parquet")
    tested = table[table["valid"] & (table["split"] == "test")]
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert found["particle"].tolist() == tested["particle"].tolist()
    assert scores["n_images"] == len(tested) == 16
    write_json(folder / CARD, json.loads((folder / CARD).read_text()))
    assert digest(Config().completed().image_settings()) == Model.load(folder).card.trained_on.images_digest


def test_damaged_and_unknown_models_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model must be a folder with card.json, or .*; got 'nothing'"):
        shipped.model_folder("nothing")
    copy = tmp_path / "copy"
    copy.mkdir()
    content = json.loads((folder / CARD).read_text())
    write_json(copy / CARD, content)
    (copy / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"its checksum is not that of card.json"):
        Model.load(copy)
    (copy / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    write_json(copy / CARD, content | {"task": "juggling"})
    with pytest.raises(ConfigError, match=r"task must be one of .*; got 'juggling'"):
        Model.load(copy)
    write_json(copy / CARD, content | {"format": 2})
    with pytest.raises(ConfigError, match=r"card.json.format"):
        Model.load(copy)


def test_export_refuses_what_is_no_training_or_not_evaluated(campaign: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be the folder of a training"):
        model.export(training=campaign / "evaluation" / "reading" / "seed-3", out=tmp_path)


def test_further_scores_of_a_table_done_by_hand() -> None:
    table = pd.DataFrame(
        {
            "particle": [0] * 5 + [1] * 5 + [2] * 5,
            "view": list(range(5)) * 3,
            "dose_e_per_A2": [500.0, 2000, 500, 500, 500] * 3,
            "ordering": ["janus"] * 5 + ["core_shell"] * 5 + ["other"] * 5,
            "p_core_shell": [0.1, 0.9, 0.1, 0.1, 0.1] + [0.9] * 5 + [0.5] * 5,
            "n_atoms": [100] * 15,
            "n_atoms_predicted": [90.0, 110, 100, 100, 100] * 3,
            "fraction_first": [0.5] * 15,
            "fraction_first_predicted": [0.4] * 15,
        }
    )
    found = further_scores(table)
    assert found["balanced_accuracy"] == pytest.approx((0.8 + 1) / 2)
    assert found["bright_accuracy"] == pytest.approx(0.5)  # the Janus particle is read as core-shell there
    assert found["size_relative_error"] == pytest.approx(0.04)
    assert found["size_rms_atoms"] == pytest.approx(np.sqrt(40))
    assert set(found["views"]) == {"5"}
    assert found["views"]["5"]["balanced_accuracy"] == 1.0
    assert found["views"]["5"]["size_mae_atoms"] == pytest.approx(100 * (1 - 0.99**0.2))  # of the mean of ln n
    assert found["views"]["5"]["composition_mae"] == pytest.approx(0.1)
