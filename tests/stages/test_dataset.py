"""The dataset step: labels joined, faults refused by name, growth."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from alloyscope.cli import main
from alloyscope.errors import StoreError
from alloyscope.microscope.settings import DetectorSection
from alloyscope.potential.sets import parameter_set
from alloyscope.stages import dataset
from alloyscope.stages.gates import whole_rows
from alloyscope.store.atomic import checksum, digest
from alloyscope.store.images import LATER_COLUMNS, ShardShape, open_array, shard_name
from alloyscope.store.manifests import Manifest
from alloyscope.store.tables import read_table
from tests.stages.synthetic_md import (
    DETECTOR,
    IMAGING,
    OPTICS,
    PER_CHUNK,
    configuration,
    labels_table,
    make_chunk,
    write_md_chunk,
)

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
        "capacity": PER_CHUNK,
        "structures": campaign / "structures" / "structures.parquet",
        "imaging": IMAGING,
        "detector": DETECTOR,
        "config": configuration(CHUNKS * PER_CHUNK, changed.get("imaging", IMAGING)),
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


def test_a_chunk_of_an_earlier_version_is_released_beside_new_ones(campaign: Path) -> None:
    """Its table has no columns of drift and gains; its settings are those of a campaign that has none."""
    table = read_table(campaign / "hrtem" / "chunk-000001.parquet")
    rewrite_table(campaign, 1, table.drop(columns=list(LATER_COLUMNS)))
    release(campaign)
    released = read_table(campaign / "hrtem" / "images.parquet")
    assert len(released) == 12
    assert (released[list(LATER_COLUMNS)] == 0).all(axis=None)
    shard = ShardShape(PER_CHUNK, IMAGING.views, IMAGING.pixels)
    examined = whole_rows(campaign / "hrtem", [0, shard.images], shard)  # of the gates, from both
    assert examined["chunk"].tolist() == [0, 1]
    assert (examined[list(LATER_COLUMNS)] == 0).all(axis=None)


def test_digest_follows_images_and_labels(campaign: Path) -> None:
    first = release(campaign)["digest"]
    assert release(campaign)["digest"] == first
    change_labels(campaign, lambda labels: labels.assign(ordering="janus"))
    assert release(campaign)["digest"] != first


def test_every_chunk_asked_for_must_be_finished(campaign: Path) -> None:
    (campaign / "hrtem" / "chunk-000001.json").unlink()
    with pytest.raises(StoreError, match="2 of 3 chunks are finished, all are needed; missing manifests: 000001"):
        release(campaign)


def test_the_first_chunks_are_a_set_of_their_own(campaign: Path) -> None:
    """`dataset.min_chunks` of 2; labels of the third chunk are not there yet."""
    change_labels(campaign, lambda labels: labels[labels["particle"] < 4])
    account = release(campaign, chunks=2)
    assert (account["chunks"], account["n_images"], account["shape"][0]) == (2, 8, 8)
    assert read_table(campaign / "hrtem" / "images.parquet")["chunk"].unique().tolist() == [0, 1]


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
    with pytest.raises(
        StoreError,
        match=r"must hold the 2 particles .* from 2 on, with 2 rows each; holds [34] rows",
    ):
        release(campaign)


def test_particle_nobody_accounts_for_is_refused(campaign: Path) -> None:
    path = campaign / "hrtem" / "chunk-000001.json"
    content = json.loads(path.read_text())
    content["slots"].pop(0)
    path.write_text(json.dumps(content))
    with pytest.raises(
        StoreError,
        match=r"must hold the 1 particles .* from 2 on, with 2 rows each; holds 4 rows",
    ):
        release(campaign)


def test_manifest_without_a_shard_is_refused(campaign: Path) -> None:
    path = campaign / "hrtem" / "chunk-000001.json"
    content = json.loads(path.read_text())
    del content["files"][shard_name("counts", 1)]
    path.write_text(json.dumps(content))
    assert Manifest.read(path).files
    with pytest.raises(StoreError, match=r"chunk-000001\.json: must list"):
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


def test_attributes_show_pixel_size_and_units_to_other_programs(campaign: Path) -> None:
    """OME-NGFF 0.5, as napari reads it: the axes of each array by name, the step of each in its unit."""
    release(campaign)
    group = zarr.open_group(campaign / "hrtem" / "images.zarr", mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    for picture in ome["multiscales"]:
        array = group[picture["datasets"][0]["path"]]
        assert [axis["name"] for axis in picture["axes"]] == list(array.metadata.dimension_names)
        assert [axis.get("unit") for axis in picture["axes"]] == [None, "angstrom", "angstrom"]
        step = picture["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert step == [1.0, IMAGING.pixel_size_A, IMAGING.pixel_size_A]
    assert [picture["name"] for picture in ome["multiscales"]] == ["clean", "counts"]


def entities(campaign: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((campaign / "hrtem" / "ro-crate-metadata.json").read_text())
    assert content["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    found = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(found) == len(content["@graph"])
    return found


def test_crate_has_what_ro_crate_1_1_requires(campaign: Path) -> None:
    """Sections 4 and 5 of the specification: descriptor, root with its four properties, parts that are described."""
    account = release(campaign)
    found = entities(campaign)
    descriptor, root = found["ro-crate-metadata.json"], found["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    assert root["@type"] == "Dataset"
    assert root["name"]
    assert "10 simulated" in root["description"]
    assert datetime.fromisoformat(root["datePublished"]).year >= 2026
    assert root["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    assert root["version"] == account["digest"]

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["@id"]] if value.keys() == {"@id"} else []
            value = value.values()
        if isinstance(value, list | type({}.values())):
            for item in value:
                yield from references(item)

    outside = {"https://w3id.org/ro/crate/1.1"}
    assert set(references([list(entity.values()) for entity in found.values()])) <= found.keys() | outside
    for entity in found.values():
        assert {"@id", "@type"} < entity.keys()
        assert not any(isinstance(value, dict) and value.keys() != {"@id"} for value in entity.values())  # flat


def test_crate_lists_every_file_with_its_checksum(campaign: Path) -> None:
    release(campaign)
    found = entities(campaign)
    parts = {part["@id"] for name in ("./", "images.zarr/") for part in found[name]["hasPart"]} - {"images.zarr/"}
    folder = campaign / "hrtem"
    assert parts == {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (path.is_file() and not path.name.startswith(("chunk-00000", "ro-crate"))) or path.suffix == ".parquet"
    }
    for name in parts - {"dataset.json"}:
        assert found[name]["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_crate_says_what_the_set_was_made_from(campaign: Path) -> None:
    release(campaign)
    found = entities(campaign)
    config = configuration(10 * CHUNKS * PER_CHUNK)  # how many there are does not matter
    assert found["#config"]["value"] == digest(config.image_settings())
    sources = parameter_set("AgCo-orleans").sources
    assert found["#potential"]["citation"] == [f"{pair}: {sources[pair]}" for pair in ("Ag-Ag", "Ag-Co", "Co-Co")]
    assert "danielfoerster2/md_victor, commit 29ddf96" in sources["Ag-Co"]


def test_set_says_which_camera_made_it(campaign: Path) -> None:
    """dataset.json, the store and the crate; what is drawn for each image is in the index."""
    detector = DetectorSection(
        preset="orleans-2026", camera="scintillator", gain=4.0, offset=100, mtf_c2=(0.3, 0.4), readout_e=1.5
    )
    camera = release(campaign, detector=detector)["camera"]
    assert camera == {
        "kind": "scintillator",
        "pixels": 32,
        "pixel_size_A": IMAGING.pixel_size_A,
        "voltage_kV": 200.0,
        "gain": 4.0,
        "offset": 100,
        "dose_e_per_A2": [3000.0, 15000.0],
        "mtf_c1": 1.0,
        "mtf_c2": [0.3, 0.4],
        "mtf_c3": [2.4, 2.6],
        "readout_e": 1.5,
        "gain_map_rms": 0.0,
        "presets": {"imaging": "corrected", "optics": "corrected", "detector": "orleans-2026"},
    }
    group = zarr.open_group(campaign / "hrtem" / "images.zarr", mode="r")
    assert group.attrs["camera"] == camera
    counts = {name: group["counts"].attrs[name] for name in ("camera", "gain", "offset")}
    assert counts == {"camera": "scintillator", "gain": 4.0, "offset": 100}
    found = entities(campaign)
    assert {"@id": "#camera"} in found["#campaign"]["instrument"]
    assert found["#camera"]["name"] == "simulated scintillator camera, 32² pixels"
    properties = [found[each["@id"]] for each in found["#camera"]["additionalProperty"]]
    values = {each["name"]: each["value"] for each in properties}
    assert (values["kind"], values["gain"], values["mtf_c2"]) == ("scintillator", 4.0, "[0.3,0.4]")
    assert values["preset of detector"] == "orleans-2026"
    drawn = {"mtf_c1", "mtf_c2", "mtf_c3", "readout_e", "dose_e_per_A2"}
    assert drawn <= set(read_table(campaign / "hrtem" / "images.parquet").columns) & camera.keys()


def test_waves_are_released_with_the_images(tmp_path: Path) -> None:
    imaging = IMAGING.model_copy(update={"store_waves": True})
    write_md_chunk(tmp_path / "structures", 0)
    make_chunk(tmp_path, 0, imaging=imaging)
    labels_table(PER_CHUNK).to_parquet(tmp_path / "structures" / "structures.parquet")
    assert release(tmp_path, chunks=1, imaging=imaging)["wave_grid"] == 70
    wave = open_array(tmp_path / "hrtem", "wave")
    assert (wave.shape, wave.dtype) == ((4, 70, 70), np.complex64)
    assert wave.attrs["pixel_size_A"] == pytest.approx(0.19876, abs=1e-5)  # 13.913 Å over 70 points
    assert wave.attrs["aperture_mrad"] == OPTICS.aperture_mrad
    assert wave.attrs["angular_spread_mrad"] == OPTICS.angular_spread_mrad[1]
    make_chunk(tmp_path, 0)  # and no longer
    release(tmp_path, chunks=1)
    assert not [path for path in (tmp_path / "hrtem" / "images.zarr" / "wave").rglob("*") if path.is_file()]


def test_command_line(campaign: Path) -> None:
    words = ["dataset", "--images", str(campaign / "hrtem"), "--chunks", "3", "--capacity", str(PER_CHUNK)]
    words += ["--structures", str(campaign / "structures" / "structures.parquet"), "--imaging", IMAGING.as_json()]
    words += [
        "--detector",
        DETECTOR.as_json(),
        "--config",
        configuration(6).image_settings(),
        "--out",
        str(campaign / "hrtem" / "dataset.json"),
    ]
    assert main(words) == 0
    assert json.loads((campaign / "hrtem" / "dataset.json").read_text())["n_images"] == 12
