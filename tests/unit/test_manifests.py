"""Manifests: the arbiter of what is done."""

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest

from alloyscope.campaign.folder import read_campaign, write_campaign
from alloyscope.config.read import parse
from alloyscope.errors import StoreError
from alloyscope.potential.sets import PotentialSection
from alloyscope.store.atomic import checksum, read_json, write_json
from alloyscope.store.chunks import finished
from alloyscope.store.manifests import Manifest, Slot, manifest_name


def make(folder: Path, chunk: int) -> Manifest:
    data = folder / f"chunk-{chunk:06d}.extxyz"
    data.write_text(f"data of {chunk}")
    slots = (Slot(4 * chunk, True), Slot(4 * chunk + 1, False, "evaporated", attempts=3, seconds=1.5))
    manifest = Manifest("md", chunk, "abc", slots, {data.name: checksum(data)}, {"particles": 2}, {"wall_s": 1.0})
    manifest.write(folder / manifest_name(chunk))
    return manifest


def test_round_trip(tmp_path: Path) -> None:
    manifest = make(tmp_path, 3)
    assert Manifest.read(tmp_path / "chunk-000003.json") == manifest
    assert manifest.valid_particles == (12,)
    manifest.verify(tmp_path)


def test_flipped_byte_is_named(tmp_path: Path) -> None:
    manifest = make(tmp_path, 3)
    data = tmp_path / "chunk-000003.extxyz"
    content = bytearray(data.read_bytes())
    content[2] ^= 1
    data.write_bytes(content)
    with pytest.raises(StoreError, match=r"chunk-000003\.extxyz: damaged.*delete .*chunk-000003\.json"):
        manifest.verify(tmp_path)


def test_missing_data_are_named(tmp_path: Path) -> None:
    manifest = make(tmp_path, 3)
    (tmp_path / "chunk-000003.extxyz").unlink()
    with pytest.raises(StoreError, match=r"chunk-000003\.extxyz: cannot be read"):
        manifest.verify(tmp_path)


def test_truncated_manifest(tmp_path: Path) -> None:
    make(tmp_path, 0)
    path = tmp_path / "chunk-000000.json"
    path.write_text(path.read_text()[:60])
    with pytest.raises(StoreError, match=r"truncated or not JSON.*delete it and run snakemake again"):
        Manifest.read(path)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"chunk-000007\.json: cannot be read"):
        Manifest.read(tmp_path / "chunk-000007.json")


@pytest.mark.parametrize("content", [{"stage": "md"}, {"slots": [], "surprise": 1}, {"slots": [{"atom": 1}]}])
def test_foreign_json(tmp_path: Path, content: dict[str, object]) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="not a manifest"):
        Manifest.read(tmp_path / "x.json")


def test_finished_chunks(tmp_path: Path) -> None:
    for chunk in (0, 2):
        make(tmp_path, chunk)
    assert finished(tmp_path, 1) == [0]
    with pytest.raises(StoreError, match="2 of 4 chunks are finished, all are needed; missing manifests: 000001, 0000"):
        finished(tmp_path, 4)


def test_slots_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Slot(1, True).valid = False  # type: ignore[misc]


def test_a_campaign_of_an_earlier_version_reads_back_with_the_potential_that_it_had(root: Path, tmp_path: Path) -> None:
    """It spells every key, so a new default, as that of the potential set, does not enter it."""
    with tarfile.open(root / "tests" / "workflow" / "campaign-3faff46.tar.xz") as archive:
        kept = json.load(archive.extractfile("results/minimal/plan/campaign.json"))  # type: ignore[arg-type]
    write_json(tmp_path / "plan" / "campaign.json", kept)
    assert kept["config"]["potential"].keys() == PotentialSection.model_fields.keys()
    assert read_campaign(tmp_path).potential == PotentialSection(set="AgCo") != PotentialSection()
    # what its images are made from reads back, too; `n_foci` of 1 was an envelope on the wave and has gone
    optics = {key: value for key, value in kept["config"]["optics"].items() if key != "n_foci"}
    assert read_campaign(tmp_path).optics.made_from() == optics
    assert read_campaign(tmp_path).imaging.n_slices == kept["config"]["imaging"]["n_slices"]


def test_campaign_file_follows_execution_and_keeps_the_plan_that_stands(tmp_path: Path) -> None:
    path = tmp_path / "campaign.json"
    write_campaign(path, parse({}), {"stage": "plan"})
    fast = parse({"execution": {"device": "cpu"}})
    write_campaign(path, fast)  # the start of a later run
    assert read_json(path)["config"]["execution"]["device"] == "cpu"
    assert read_json(path)["provenance"] == {"stage": "plan"}
    write_campaign(path, parse({}), {"stage": "plan", "again": True})  # the plan's job, which is not told of execution
    assert read_json(path)["config"]["execution"]["device"] == "cpu"
    assert read_json(path)["provenance"]["again"]
    write_campaign(path, parse({"labels": {"ordering": "eta"}}))  # another plan
    assert "provenance" not in read_json(path)
