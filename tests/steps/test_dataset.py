"""The dataset step: labels joined, faults refused by name, growth."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alloyscope import plan
from alloyscope.cli import main
from alloyscope.errors import GateError, StoreError
from alloyscope.steps import dataset
from alloyscope.store.atomic import checksum
from alloyscope.store.images import open_array, shard_name
from alloyscope.store.manifests import Manifest
from alloyscope.store.tables import read_table
from tests.steps.synthetic_md import DETECTOR, IMAGING, PER_CHUNK, labels_table, make_chunk, write_md_chunk

CHUNKS = 3


@pytest.fixture(scope="module")
def imaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imaged")
    for chunk in range(CHUNKS):
        write_md_chunk(folder / "structures", chunk)
        make_chunk(folder, chunk)
    labels_table(CHUNKS * PER_CHUNK).to_parquet(folder / "structures" / "structures.parquet")
    return folder


@pytest.fixture
def campaign(imaged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(imaged, tmp_path / "campaign"))


def release(campaign: Path, **changed: Any) -> dict[str, Any]:
    inputs = {
        "images": campaign / "hrtem",
        "chunks": CHUNKS,
        "min_chunks": None,
        "capacity": PER_CHUNK,
        "structures": campaign / "structures" / "structures.parquet",
        "imaging": IMAGING,
        "detector": DETECTOR,
        "out": campaign / "hrtem" / "dataset.json",
    }
    dataset.run(**{**inputs, **changed})
    account: dict[str, Any] = json.loads((campaign / "hrtem" / "dataset.json").read_text())
    return account


def change_labels(campaign: Path, change: Any) -> None:
    path = campaign / "structures" / "structures.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def rewrite_table(campaign: Path, chunk: int, table: pd.DataFrame) -> None:
    """A chunk's table replaced, and its manifest told so."""
    name = f"chunk-00000{chunk}"
    table.to_parquet(campaign / "hrtem" / f"{name}.parquet")
    path = campaign / "hrtem" / f"{name}.json"
    content = json.loads(path.read_text())
    content["files"][f"{name}.parquet"] = checksum(campaign / "hrtem" / f"{name}.parquet")
    path.write_text(json.dumps(content))


def test_released_set_accounts_for_every_image(campaign: Path) -> None:
    account = release(campaign)
    assert account["n_images"] == 12
    assert account["n_valid_images"] == 10
    assert account["shape"] == [12, 32, 32]
    assert sum(split["particles"] for split in account["splits"].values()) == 5
    assert sum(split["images"] for split in account["splits"].values()) == 10
    table = read_table(campaign / "hrtem" / "images.parquet")
    assert table["image"].tolist() == list(range(12))
    assert (table.groupby("particle")["split"].nunique() == 1).all()
    assert table.loc[table["valid"], "ordering"].eq("core_shell").all()
    clean = open_array(campaign / "hrtem", "clean")
    assert clean.attrs["pixel_size_A"] == IMAGING.pixel_size_A
    assert open_array(campaign / "hrtem", "counts").attrs["gain"] == 1.0
    np.testing.assert_array_equal(np.isnan(clean[:, 0, 0]), ~table["valid"])


def test_digest_follows_images_and_labels(campaign: Path) -> None:
    first = release(campaign)["digest"]
    assert release(campaign)["digest"] == first
    change_labels(campaign, lambda labels: labels.assign(ordering="janus"))
    assert release(campaign)["digest"] != first


def test_starts_on_the_chunks_finished_so_far(campaign: Path) -> None:
    (campaign / "hrtem" / "chunk-000001.json").unlink()
    with pytest.raises(StoreError, match="2 of 3 chunks are finished, 3 are needed; missing manifests: 000001"):
        release(campaign)
    account = release(campaign, min_chunks=2)
    assert (account["chunks"], account["n_images"], account["shape"][0]) == (2, 8, 12)
    assert read_table(campaign / "hrtem" / "images.parquet")["chunk"].unique().tolist() == [0, 2]


def test_imaged_chunks_without_labels_wait(campaign: Path) -> None:
    change_labels(campaign, lambda labels: labels[labels["particle"] < 4])
    assert release(campaign, min_chunks=1)["chunks"] == 2
    with pytest.raises(StoreError, match="labels 2 of 3 imaged chunks, 3 are needed"):
        release(campaign, min_chunks=3)


@pytest.mark.parametrize("name", ["clean", "counts"])
def test_flipped_byte_names_the_chunk(campaign: Path, name: str) -> None:
    path = campaign / "hrtem" / shard_name(name, 1)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=r"damaged, its SHA-256 differs from manifest 000001; delete .*000001.json"):
        release(campaign)
    assert not (campaign / "hrtem" / "dataset.json").exists()


def test_missing_shard_is_named(campaign: Path) -> None:
    (campaign / "hrtem" / shard_name("clean", 2)).unlink()
    with pytest.raises(StoreError, match=r"clean/c/2/0/0: cannot be read"):
        release(campaign)


@pytest.mark.parametrize("fault", ["row lost", "row doubled", "validity"])
def test_unaccounted_images_are_refused(campaign: Path, fault: str) -> None:
    table = read_table(campaign / "hrtem" / "chunk-000001.parquet")
    faulty = {
        "row lost": table.drop(index=2),
        "row doubled": table.iloc[[0, 1, 1, 3]],
        "validity": table.assign(valid=False),
    }
    rewrite_table(campaign, 1, faulty[fault])
    with pytest.raises(StoreError, match="chunk 000001: 2 particles in 2 views need 4 rows in order, from particle 2"):
        release(campaign)


def test_particle_nobody_accounts_for_is_refused(campaign: Path) -> None:
    path = campaign / "hrtem" / "chunk-000001.json"
    content = json.loads(path.read_text())
    content["slots"].pop(0)
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="chunk 000001: 1 particles in 2 views need 2 rows in order, from particle 2"):
        release(campaign)


def test_manifest_without_a_shard_is_refused(campaign: Path) -> None:
    path = campaign / "hrtem" / "chunk-000001.json"
    content = json.loads(path.read_text())
    del content["files"][shard_name("counts", 1)]
    path.write_text(json.dumps(content))
    assert Manifest.read(path).files
    with pytest.raises(StoreError, match="chunk 000001: its manifest must list"):
        release(campaign)


def test_particle_in_two_splits_is_refused(campaign: Path) -> None:
    change_labels(campaign, lambda labels: pd.concat([labels, labels.iloc[[3]].assign(split="test")]))
    with pytest.raises(GateError, match="the first is particle 3 in test"):
        release(campaign)


def test_faulty_labels_are_named(campaign: Path) -> None:
    sound = pd.read_parquet(campaign / "structures" / "structures.parquet")
    faults = {
        "1 imaged particles have no labels, the first is 5": sound[sound["particle"] != 5],
        "1 imaged particles have no labels, the first is 4": sound.assign(valid=sound["particle"].isin([0, 2, 3, 5])),
        "particle 2 has several rows": pd.concat([sound, sound.iloc[[2]]]),
        "has no column ordering": sound.drop(columns="ordering"),
    }
    for message, labels in faults.items():
        labels.to_parquet(campaign / "structures" / "structures.parquet")
        with pytest.raises(StoreError, match=message):
            release(campaign)


def test_rotations_that_are_not_uniform_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "rotation", lambda *_: (0.0, 0.0, 0.0, 1.0))
    for chunk in range(CHUNKS):
        write_md_chunk(tmp_path / "structures", chunk)
        make_chunk(tmp_path, chunk)
    labels_table(CHUNKS * PER_CHUNK).to_parquet(tmp_path / "structures" / "structures.parquet")
    with pytest.raises(GateError, match="12 rotations must be uniform"):
        release(tmp_path)


def test_command_line(campaign: Path) -> None:
    words = ["dataset", "--images", str(campaign / "hrtem"), "--chunks", "3", "--capacity", str(PER_CHUNK)]
    words += ["--structures", str(campaign / "structures" / "structures.parquet"), "--imaging", IMAGING.as_json()]
    words += ["--detector", DETECTOR.as_json(), "--out", str(campaign / "hrtem" / "dataset.json")]
    assert main(words) == 0
    assert json.loads((campaign / "hrtem" / "dataset.json").read_text())["n_images"] == 12
