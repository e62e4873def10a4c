"""Every damage is found and named; a repair removes no more than it must, and nothing outside."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from alloyscope.cli import main
from alloyscope.commands import verify
from alloyscope.config.read import parse
from alloyscope.errors import StoreError
from alloyscope.store.atomic import checksum
from alloyscope.store.images import metadata_name, shard_name
from tests.stages.synthetic_md import IMAGING, make_chunk, release, write_released

CHUNKS = 3
WAVES = IMAGING.model_copy(update={"store_waves": True})
HRTEM = tuple(f"hrtem/chunk-00000{n}.json" for n in range(CHUNKS))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    write_released(folder, CHUNKS, WAVES)
    return folder


@pytest.fixture
def folder(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """results/small, as seen from the folder in which Snakemake runs."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(released, "results/small"))


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0x04
    path.write_bytes(raw)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def faults(folder: Path) -> list[str]:
    with pytest.raises(StoreError) as refused:
        verify.run(folder=folder)
    return str(refused.value).splitlines()[:-1]


def test_whole_store(folder: Path) -> None:
    before = files(folder)
    # 3 chunks of structures with a file each, 3 of images with three shards and a table; labels; what is released
    assert verify.run(folder=folder) == f"{folder}: whole; 6 manifests, 22 files, 36 images"
    assert files(folder) == before


@pytest.mark.parametrize("array", ["clean", "counts", "wave"])
@pytest.mark.parametrize("damage", ["payload", "index", "truncated", "empty", "missing"])
def test_damaged_shard_is_named(folder: Path, array: str, damage: str) -> None:
    path = folder / "hrtem" / shard_name(array, 1)
    match damage:
        case "payload":
            flip(path, 40)
        case "index":
            flip(path, -10)
        case "truncated":
            path.write_bytes(path.read_bytes()[:-7])
        case "empty":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
    (found,) = faults(folder)
    assert found.startswith(f"{path}: {'missing' if damage == 'missing' else 'damaged'}")
    assert "hrtem/chunk-000001.json" in found


def test_shard_that_was_damaged_before_its_checksum_was_taken(folder: Path) -> None:
    path, manifest = folder / "hrtem" / shard_name("clean", 2), folder / HRTEM[2]
    flip(path, 40)
    content = json.loads(manifest.read_text())
    content["files"][shard_name("clean", 2)] = checksum(path)
    manifest.write_text(json.dumps(content))
    (found,) = faults(folder)
    assert f"{path}: shard of chunk 000002 is damaged" in found


@pytest.mark.parametrize(
    "name",
    [
        "structures/chunk-000002.extxyz",
        "structures/structures.parquet",
        "hrtem/chunk-000000.parquet",
        "hrtem/images.parquet",
        "hrtem/ro-crate-metadata.json",
        *(f"hrtem/{metadata_name(array)}" for array in ("", "clean", "counts", "wave")),
    ],
)
def test_flipped_byte_in_any_file_is_named(folder: Path, name: str) -> None:
    flip(folder / name, (folder / name).stat().st_size // 2)
    assert any(line.startswith(f"{folder / name}: damaged") for line in faults(folder))


@pytest.mark.parametrize("name", [*HRTEM, "structures/chunk-000001.json", "hrtem/dataset.json"])
def test_truncated_account_is_named(folder: Path, name: str) -> None:
    text = (folder / name).read_text()
    (folder / name).write_text(text[: len(text) // 2])
    assert faults(folder)[0].startswith(f"{folder / name}: truncated or not JSON")


def test_missing_manifest_of_a_released_chunk_is_named(folder: Path) -> None:
    (folder / HRTEM[1]).unlink()
    assert faults(folder) == [f"{folder / HRTEM[1]}: missing, dataset.json counts its images"]


def test_every_fault_is_listed(folder: Path) -> None:
    flip(folder / "hrtem" / shard_name("clean", 0), 40)
    (folder / "hrtem" / shard_name("counts", 2)).unlink()
    flip(folder / "structures" / "chunk-000001.extxyz", 40)
    assert len(faults(folder)) == 3


def test_lost_rows_are_named(folder: Path) -> None:
    path = folder / "hrtem" / "images.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    account = folder / "hrtem" / "dataset.json"
    content = json.loads(account.read_text())
    content["files"]["images.parquet"] = checksum(path)
    account.write_text(json.dumps(content))
    assert faults(folder) == [f"{path}: has 11 rows, dataset.json says 12"]


def test_unfinished_campaign_is_whole(folder: Path) -> None:
    for name in (HRTEM[2], "hrtem/dataset.json", "structures/structures.parquet", "structures/structures.json"):
        (folder / name).unlink()
    assert "whole; 5 manifests, 11 files" in verify.run(folder=folder)


def test_folder_without_a_campaign(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no campaign here"):
        verify.run(folder=tmp_path)


def test_exit_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert "whole" in capsys.readouterr().out
    (folder / "hrtem" / shard_name("clean", 0)).unlink()
    assert main(["verify", str(folder)]) == 2
    assert "clean/c/0/0/0: missing" in capsys.readouterr().err


def test_repair_of_an_image_chunk_and_the_images_it_gives(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed command is run for real in tests/workflow; here the steps it runs."""
    before = files(folder)
    flip(folder / "hrtem" / shard_name("counts", 1), 40)
    assert main(["verify", str(folder), "--repair"]) == 2
    out, err = capsys.readouterr()
    command = "snakemake --profile profiles/local --configfile results/small/plan/config.yaml"
    assert out == f"{command} -- results/small/hrtem/dataset.json\n"
    gone = before.keys() - files(folder).keys()
    assert gone == {HRTEM[1], "hrtem/dataset.json", "hrtem/images.parquet"}
    assert all(f"removed {folder / name}" in err for name in gone)
    make_chunk(folder, 1, imaging=WAVES)
    release(folder, CHUNKS, WAVES)
    assert "whole" in verify.run(folder=folder)
    after = files(folder)
    for name in before:
        if name not in {HRTEM[1], "hrtem/dataset.json", "hrtem/ro-crate-metadata.json"}:  # these hold times
            assert after[name] == before[name], name


@pytest.mark.parametrize(
    ("damaged", "removed"),
    [
        (
            "structures/chunk-000001.extxyz",
            {"structures/chunk-000001.json", HRTEM[1], "structures/structures.parquet"},
        ),
        ("structures/structures.parquet", {"structures/structures.parquet"}),
        ("hrtem/images.parquet", set()),
        (f"hrtem/{metadata_name('clean')}", set()),
    ],
)
def test_repair_removes_what_follows(folder: Path, damaged: str, removed: set[str]) -> None:
    before = files(folder).keys()
    flip(folder / damaged, 40)
    with pytest.raises(StoreError, match="run the printed command"):
        verify.run(folder=folder, mend=True)
    assert before - files(folder).keys() == removed | {"hrtem/dataset.json", "hrtem/images.parquet"}


def test_md_chunk_takes_the_imaging_chunk_that_shows_it() -> None:
    config = parse({"imaging": {"md_chunks_per_chunk": 5}})
    names = verify.to_remove([verify.Fault("", "", "md", 13)], config)
    chunks = [name for name in names if "chunk" in name]
    assert chunks == ["structures/chunk-000013.json", "descriptors/chunk-000002.json", "hrtem/chunk-000002.json"]


def test_repair_of_a_whole_store_removes_nothing(folder: Path) -> None:
    before = files(folder)
    assert "whole" in verify.run(folder=folder, mend=True)
    assert files(folder) == before


def test_nothing_outside_the_results_is_removed(folder: Path, tmp_path: Path) -> None:
    outside = Path(shutil.move(folder / "hrtem", tmp_path / "elsewhere"))
    (folder / "hrtem").symlink_to(outside)
    (outside / shard_name("clean", 0)).unlink()
    before = files(outside)
    with pytest.raises(StoreError, match="outside the results folder"):
        verify.run(folder=folder, mend=True)
    assert files(outside) == before


def test_manifest_that_names_a_file_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    path = folder / HRTEM[0]
    content = json.loads(path.read_text())
    content["files"]["../../../precious"] = "0" * 64
    path.write_text(json.dumps(content))
    assert faults(folder) == [f"{path}: names a file outside the results folder, ../../../precious"]
    with pytest.raises(StoreError):
        verify.run(folder=folder, mend=True)
    assert (tmp_path / "precious").read_text() == "mine"


def test_repair_from_another_place_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "hrtem" / shard_name("clean", 0)).unlink()
    before = files(folder)
    monkeypatch.chdir(tmp_path / "results")
    with pytest.raises(StoreError, match="run `alloyscope verify --repair` from the folder in which snakemake runs"):
        verify.run(folder=tmp_path / folder, mend=True)
    assert files(tmp_path / folder) == before


def test_repair_while_snakemake_works_here_is_refused(folder: Path) -> None:
    """Its process may be on another machine: the lock decides."""
    (folder / "hrtem" / shard_name("clean", 0)).unlink()
    lock = Path(".snakemake/locks/0.output.lock")
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    before = files(folder)
    with pytest.raises(StoreError, match="if none is running, run `snakemake --unlock` first"):
        verify.run(folder=folder, mend=True)
    assert files(folder) == before
