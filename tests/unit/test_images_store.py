"""The image store: shards, metadata, faults, and the table of views."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from alloyscope.contracts import ABERRATIONS
from alloyscope.errors import ContractError, StoreError
from alloyscope.microscope.settings import DetectorSection, FilmSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.store.images import (
    CLEAN,
    COUNTS,
    LATER_COLUMNS,
    VIEW_COLUMNS,
    ShardShape,
    Stack,
    open_array,
    read_images,
    read_unreleased,
    shard_name,
    views_of,
    views_table,
    write_metadata,
    write_shard,
)

SHARD = ShardShape(capacity=6, views=2, pixels=16)


def content(chunk: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(chunk)
    return {
        CLEAN: rng.uniform(0.5, 1.5, SHARD.shape).astype(np.float16),
        COUNTS: rng.poisson(40, SHARD.shape).astype(np.uint16),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for chunk in (0, 2):
        write_shard(tmp_path, chunk, SHARD, content(chunk))
    write_metadata(tmp_path, 3, SHARD, {CLEAN: {"units": "beam"}, "": {"pixel_size_A": 0.5}})
    return tmp_path


@pytest.mark.parametrize(("capacity", "views", "inner"), [(6, 5, 6), (200, 5, 8), (1, 1, 1), (11, 1, 1), (1, 7, 7)])
def test_inner_chunks_divide_the_shard(capacity: int, views: int, inner: int) -> None:
    assert ShardShape(capacity, views, 16).inner[0] == inner


def test_shards_read_back_bit_equal(folder: Path) -> None:
    for name in (CLEAN, COUNTS):
        np.testing.assert_array_equal(read_images(folder, name, 24, 36), content(2)[name])
        np.testing.assert_array_equal(read_images(folder, name, 3, 9), content(0)[name][3:9])
    array = open_array(folder, CLEAN)
    assert array.shape == (36, 16, 16)
    assert array.attrs["units"] == "beam"
    assert array.metadata.dimension_names == ("image", "y", "x")


@pytest.mark.parametrize("rows", [[0], [11, 3, 3, 30], list(range(24, 36)), [35, 0, 24, 11, 1, 25]])
def test_zarr_reads_the_same(folder: Path, rows: list[int]) -> None:
    for name in (CLEAN, COUNTS):
        found = Stack.open(folder, name).read(np.array(rows))
        np.testing.assert_array_equal(found, open_array(folder, name).oindex[np.array(rows)])


def test_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for run in ("one", "two"):
        write_shard(tmp_path / run, 0, SHARD, content(0))
        digests.add(hashlib.sha256((tmp_path / run / shard_name(CLEAN, 0)).read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("name", [CLEAN, COUNTS])
def test_zarr_writes_the_same_bytes(folder: Path, tmp_path: Path, name: str) -> None:
    like = open_array(folder, name)
    theirs = zarr.create_array(
        tmp_path / "theirs",
        shape=SHARD.shape,
        dtype=like.dtype,
        shards=like.shards,
        chunks=like.chunks,
        compressors=like.compressors,
        fill_value=like.fill_value,
        config={"write_empty_chunks": True},
    )
    theirs[:] = content(2)[name]
    assert (tmp_path / "theirs/c/0/0/0").read_bytes() == (folder / shard_name(name, 2)).read_bytes()


def earlier(folder: Path, chunk: int) -> None:
    """A chunk as earlier versions wrote it, with zstd, through zarr."""
    for name, images in content(chunk).items():
        array = zarr.create_array(
            folder / "aside" / name,
            shape=SHARD.shape,
            dtype=images.dtype,
            shards=SHARD.shape,
            chunks=SHARD.inner,
            compressors=ZstdCodec(level=1, checksum=True),
            overwrite=True,
        )
        array[:] = images
        place = folder / shard_name(name, chunk)
        place.parent.mkdir(parents=True, exist_ok=True)
        (folder / "aside" / name / "c/0/0/0").rename(place)


def test_shards_of_earlier_versions_are_read_and_released_as_what_they_are(tmp_path: Path) -> None:
    earlier(tmp_path, 1)
    write_metadata(tmp_path, 2, SHARD, {})
    rows = np.array([20, 13])
    for name, images in content(1).items():
        np.testing.assert_array_equal(open_array(tmp_path, name)[12:24], images)
        np.testing.assert_array_equal(Stack.open(tmp_path, name).read(rows), images[rows - 12])
        np.testing.assert_array_equal(read_unreleased(tmp_path, 1, SHARD, name, 5), images[5])


def test_chunks_of_two_codecs_are_not_released_as_one_store(tmp_path: Path) -> None:
    earlier(tmp_path, 1)
    write_shard(tmp_path, 0, SHARD, content(0))
    with pytest.raises(StoreError, match=r"shards of clean of chunks 1 have the codec of an earlier version"):
        write_metadata(tmp_path, 2, SHARD, {})
    assert not (tmp_path / "images.zarr" / "zarr.json").exists()


def test_a_damaged_first_byte_does_not_decide_on_the_codec(tmp_path: Path) -> None:
    for chunk in (0, 1):
        earlier(tmp_path, chunk)
    damaged = tmp_path / shard_name(CLEAN, 0)
    damaged.write_bytes(b"?" + damaged.read_bytes()[1:])
    write_metadata(tmp_path, 2, SHARD, {})
    np.testing.assert_array_equal(open_array(tmp_path, CLEAN)[12:24], content(1)[CLEAN])


@pytest.mark.parametrize("place", [0, 3, 40])
def test_flipped_byte_in_a_shard_of_an_earlier_version_is_refused_by_name(tmp_path: Path, place: int) -> None:
    earlier(tmp_path, 1)
    write_metadata(tmp_path, 2, SHARD, {})
    path = tmp_path / shard_name(CLEAN, 1)
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0x01
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="shard of chunk 000001 is damaged"):
        read_images(tmp_path, CLEAN, 12, 24)


def test_growing_leaves_finished_shards_alone(folder: Path) -> None:
    before = (folder / shard_name(CLEAN, 0)).stat()
    write_shard(folder, 3, SHARD, content(3))
    write_metadata(folder, 4, SHARD, {})
    assert (folder / shard_name(CLEAN, 0)).stat().st_mtime_ns == before.st_mtime_ns
    np.testing.assert_array_equal(read_images(folder, COUNTS, 36, 48), content(3)[COUNTS])


def test_missing_shard_reads_as_nan_and_is_refused_by_name(folder: Path) -> None:
    assert np.isnan(open_array(folder, CLEAN)[12:24]).all()
    with pytest.raises(StoreError, match="shard of chunk 000001 is missing"):
        read_images(folder, CLEAN, 10, 14)


def test_rows_come_in_the_order_asked_from_the_shards_they_need(folder: Path) -> None:
    stack = Stack.open(folder, COUNTS)
    first, last = content(0)[COUNTS], content(2)[COUNTS]
    np.testing.assert_array_equal(stack.read(np.array([30, 2, 25, 0])), [last[6], first[2], last[1], first[0]])
    np.testing.assert_array_equal(stack[30], last[6])
    with pytest.raises(StoreError, match=r"chunk 000001 is missing; delete .*/chunk-000001.json and run snakemake"):
        stack.check(np.array([30, 12]))


@pytest.mark.parametrize("name", [CLEAN, COUNTS])
@pytest.mark.parametrize("place", [40, -10])
def test_flipped_byte_is_refused_by_name(folder: Path, name: str, place: int) -> None:
    path = folder / shard_name(name, 2)
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0x01  # in the first payload, and in the shard's index
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="shard of chunk 000002 is damaged"):
        read_images(folder, name, 24, 36)
    np.testing.assert_array_equal(read_images(folder, name, 0, 12), content(0)[name])


def test_image_of_a_chunk_before_its_release(tmp_path: Path) -> None:
    write_shard(tmp_path, 3, SHARD, content(3))
    np.testing.assert_array_equal(read_unreleased(tmp_path, 3, SHARD, CLEAN, 5), content(3)[CLEAN][5])
    assert not (tmp_path / "images.zarr" / "zarr.json").exists()
    with pytest.raises(StoreError, match=r"counts/c/2/0/0: missing or damaged .* delete .*chunk-000002.json"):
        read_unreleased(tmp_path, 2, SHARD, COUNTS, 0)


def test_store_without_metadata_says_what_to_run(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, SHARD, content(0))
    with pytest.raises(StoreError, match=r"no readable array .* run the stage `dataset` first"):
        open_array(tmp_path, CLEAN)


def test_shard_of_another_shape_or_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"clean: a shard must be \(12, 16, 16\); got \(11, 16, 16\)"):
        write_shard(tmp_path, 0, SHARD, {**content(0), CLEAN: content(0)[CLEAN][1:]})
    with pytest.raises(ContractError, match="counts: must be uint16; got float16"):
        write_shard(tmp_path, 0, SHARD, {**content(0), COUNTS: content(0)[CLEAN]})
    with pytest.raises(ContractError, match=r"needs the arrays \['clean', 'counts'\]; got \['clean'\]"):
        write_shard(tmp_path, 0, SHARD, {CLEAN: content(0)[CLEAN]})
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        write_shard(tmp_path / "file", 0, SHARD, content(0))


def test_every_field_of_a_view_survives_the_table() -> None:
    optics = OpticsSection(**{f"C{n}{m}_A": (1.0, 2.0) for n, m in ABERRATIONS})
    imaging = ImagingSection(engine="abtem", film=FilmSection(share=0.5))
    views = [
        replace(
            drawn_view(7, number, imaging, optics, DetectorSection(readout_e=(0.1, 0.2)), seed=2),
            snapshots=tuple(range(number)),
        )
        for number in range(8)
    ]
    assert {view.film_thickness_A for view in views} == {0.0, 30.0}
    table = views_table(views)
    assert list(table.columns) == list(VIEW_COLUMNS)
    assert views_of(table) == views


def test_a_table_of_an_earlier_version_has_views_that_neither_drift_nor_have_gains() -> None:
    views = [drawn_view(7, n, ImagingSection(), OpticsSection(), DetectorSection(), seed=2) for n in range(3)]
    assert views_of(views_table(views).drop(columns=list(LATER_COLUMNS))) == views
    drifting = [replace(view, drift_A=1.5, drift_angle_rad=0.3, gain_map_rms=0.01) for view in views]
    assert views_of(views_table(drifting)) == drifting
