"""What is exported is what is stored, with pixel size, units and parameters."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alloyscope.cli import main
from alloyscope.commands import export
from alloyscope.errors import StoreError
from alloyscope.store.images import CHUNK_COLUMNS, read_images, shard_name
from tests.stages.synthetic_md import IMAGING, write_released

PIXEL_A = IMAGING.pixel_size_A  # 10/23 Å


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles 0 to 3 in two views; particle 1, images 2 and 3, has failed."""
    folder = tmp_path_factory.mktemp("campaigns") / "small"
    write_released(folder, 2, IMAGING.model_copy(update={"store_waves": True}))
    return folder


def stored(folder: Path, name: str) -> np.ndarray:
    return read_images(folder / "hrtem", name, 0, 8)


def test_hdf5_holds_arrays_columns_and_attributes(folder: Path, tmp_path: Path) -> None:
    (path,) = export.run(folder=folder, to="hdf5", out=tmp_path)
    kept = [0, 1, 4, 5, 6, 7]
    table = pd.read_parquet(folder / "hrtem" / "images.parquet")
    with h5py.File(path) as file:
        for name in ("clean", "counts", "wave"):
            np.testing.assert_array_equal(file[name][:], stored(folder, name)[kept])
        assert file["images/image"][:].tolist() == kept
        assert set(file["images"]) == set(table.columns) > set(CHUNK_COLUMNS)
        for column in table:
            values = file[f"images/{column}"]
            found = values.asstr()[:] if h5py.check_string_dtype(values.dtype) else values[:]
            expected = table[column].iloc[kept]
            assert found.tolist() == expected.where(expected.notna(), "").tolist(), column
        assert file["counts"].attrs["gain"] == 1.0
        assert file.attrs["pixel_size_A"] == PIXEL_A
        assert file["counts"].attrs["camera"] == json.loads(file.attrs["camera"])["kind"] == "counting"


def test_hdf5_has_the_groups_that_hyperspy_reads(folder: Path, tmp_path: Path) -> None:
    """File format 3.3: https://hyperspy.org/rosettasciio/file_specification/hspy_spec.html."""
    (path,) = export.run(folder=folder, to="hdf5", out=tmp_path, images=slice(0, 2))
    with h5py.File(path) as file:
        assert (file.attrs["file_format"], file.attrs["file_format_version"]) == ("HyperSpy", "3.3")
        for name, step in (("clean", PIXEL_A), ("counts", PIXEL_A), ("wave", IMAGING.field_A / 70)):
            signal = file["Experiments"][name]
            assert signal["data"] == file[name]  # a link, no copy
            axes = [dict(signal[f"axis-{number}"].attrs) for number in range(3)]
            assert [axis["size"] for axis in axes] == list(file[name].shape)
            assert [axis["scale"] for axis in axes] == pytest.approx([1, step, step])
            assert [axis["units"] for axis in axes] == ["", "Å", "Å"]
            assert [bool(axis["navigate"]) for axis in axes] == [True, False, False]
            assert signal["metadata/General"].attrs["title"] == name


def test_png_of_counts_are_the_counts(folder: Path, tmp_path: Path) -> None:
    paths = export.run(folder=folder, to="png", out=tmp_path, images=slice(0, 3))
    assert [path.name for path in paths] == ["p0000000-v00-counts.png", "p0000000-v01-counts.png"]
    with Image.open(paths[1]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), stored(folder, "counts")[1])
        assert float(picture.text["pixel_size_A"]) == PIXEL_A
        assert json.loads(picture.text["parameters"])["image_id"] == "p0000000-v01"


@pytest.mark.parametrize(("array", "bits"), [("counts", 8), ("clean", 8), ("clean", 16)])
def test_levels_of_a_png_give_the_values_back(folder: Path, tmp_path: Path, array: str, bits: int) -> None:
    (path,) = export.run(folder=folder, to="png", out=tmp_path, images=slice(4, 5), array=array, bits=bits)
    with Image.open(path) as picture:
        levels = np.asarray(picture).astype(float)
        low, step = (float(picture.text[name]) for name in ("value_at_0", "value_per_level"))
    assert (levels.min(), levels.max()) == (0, 2**bits - 1)
    assert np.abs(low + levels * step - stored(folder, array)[4].astype(float)).max() <= 0.5 * step * (1 + 1e-9)


@pytest.mark.parametrize(("array", "dtype"), [("counts", np.uint16), ("clean", np.float32)])
def test_tiff_holds_values_and_pixel_size(folder: Path, tmp_path: Path, array: str, dtype: type) -> None:
    (path,) = export.run(folder=folder, to="tiff", out=tmp_path, images=slice(7, 8), array=array)
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels, stored(folder, array)[7].astype(dtype))
        assert float(picture.tag_v2[282]) == float(picture.tag_v2[283]) == pytest.approx(2.3)  # pixels per Å
        about = dict(line.split("=", 1) for line in picture.tag_v2[270].splitlines())
    assert about["unit"] == "angstrom"
    assert about["image_id"] == "p0000003-v01"


def test_damaged_shard_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in (path for path in folder.rglob("*") if path.is_file()):
        (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    (copy / "hrtem" / shard_name("counts", 1)).unlink()
    with pytest.raises(StoreError, match="shard of chunk 000001 is missing"):
        export.run(folder=copy, to="hdf5", out=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_range_without_images(folder: Path, tmp_path: Path) -> None:
    for rows in (slice(2, 4), slice(8, None)):
        with pytest.raises(StoreError, match="no image of a valid particle in this range; the rows are 0 to 7"):
            export.run(folder=folder, to="png", out=tmp_path, images=rows)


def test_nothing_released(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no released images, .*dataset.json is missing"):
        export.run(folder=tmp_path, to="png", out=tmp_path)


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(folder), "--to", "tiff", "--array", "clean", "--out", str(tmp_path), "--images"]
    assert main([*words, "4:"]) == 0
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(SystemExit):
        main([*words, "4"])
    assert "must be a range of rows, a:b; got '4'" in capsys.readouterr().err
