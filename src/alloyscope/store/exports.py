"""Images in formats that other programs read: HDF5, PNG, TIFF, with pixel size and every parameter.

HDF5 groups follow HyperSpy's file format 3.3, so that HyperSpy shows pixel size and units. The datasets also have plain
names, which link to the same data.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin

from alloyscope.store.atomic import writing
from alloyscope.store.images import DIMENSIONS, Stack

TOGETHER = 256  # images copied at once
IMAGEJ = "ImageJ=1.54f"  # with this first line, ImageJ and HyperSpy read the resolution in `unit`
RESOLUTION, UNIT_NONE = 10**6, 1  # denominator of TIFF's rational numbers; resolution unit "none": see IMAGEJ


def write_hdf5(path: Path, stacks: Mapping[str, Stack], table: pd.DataFrame, attributes: Mapping[str, Any]) -> None:
    """Write one HDF5 file: a dataset per array, (image, y, x), and a dataset per column of the table under `images/`.

    Args:
        path: File to write.
        stacks: Arrays by name.
        table: Rows of images.parquet; the images in its column `image` are written, in this order.
        attributes: Attributes of the file.

    Raises:
        StoreError: a shard is missing or damaged, or the file cannot be written.
    """
    rows = table["image"].to_numpy(np.int64)
    with writing(path) as aside, h5py.File(aside, "w") as file:
        file.attrs.update({**attributes, "file_format": "HyperSpy", "file_format_version": "3.3"})
        for name, stack in stacks.items():
            shape = (len(rows), *stack.shape[1:])
            data = file.create_dataset(
                name, shape, stack.array.dtype, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1
            )
            for start in range(0, len(rows), TOGETHER):
                data[start : start + TOGETHER] = stack.read(rows[start : start + TOGETHER])
            data.attrs.update(stack.array.attrs.asdict())
            _describe_for_hyperspy(file, data, name, stack.array.attrs["pixel_size_A"])
        for column in table:
            values = table[column]
            if pd.api.types.is_numeric_dtype(values):
                file[f"images/{column}"] = values.to_numpy()
            else:
                text = values.astype("object").where(values.notna(), "").to_list()
                file.create_dataset(f"images/{column}", data=text, dtype=h5py.string_dtype())


def _describe_for_hyperspy(file: h5py.File, data: h5py.Dataset, name: str, pixel_size_A: float) -> None:
    """Write the group `Experiments/<name>`: a link to the data, and its axes."""
    signal = file.create_group(f"Experiments/{name}")
    signal["data"] = data
    signal.attrs.update({"package": "", "package_version": ""})
    for number, (axis, size) in enumerate(zip(DIMENSIONS, data.shape, strict=True)):
        navigates = number == 0
        signal.create_group(f"axis-{number}").attrs.update(
            {
                "_type": "UniformDataAxis",
                "name": axis,
                "units": "" if navigates else "Å",
                "navigate": navigates,
                "is_binned": False,
                "scale": 1.0 if navigates else pixel_size_A,
                "offset": 0.0,
                "size": size,
            }
        )
    signal.create_group("metadata/General").attrs["title"] = name
    signal.create_group("metadata/Signal").attrs["signal_type"] = ""
    signal.create_group("original_metadata")
    signal.create_group("learning_results")


def write_png(path: Path, image: NDArray[Any], bits: int, pixel_size_A: float, record: Mapping[str, Any]) -> None:
    """Write one grey image, whose text chunks give the scale: value = value_at_0 + level × value_per_level.

    In 16 bits, counts are stored unchanged; all other images are scaled to their own range.

    Args:
        path: File to write.
        image: Counts or intensity, shape (height, width).
        bits: Bits per pixel, 8 or 16.
        pixel_size_A: Pixel edge [Å], stored as text, because PNG's own resolution cannot represent it.
        record: The image's row of images.parquet.
    """
    low, step = 0.0, 1.0
    values = image.astype(np.float64)
    if not (bits == 16 and image.dtype == np.uint16):
        low = float(values.min())
        step = float(values.max() - low) / (2**bits - 1) or 1.0
    levels = np.rint((values - low) / step).astype(np.uint8 if bits == 8 else np.uint16)
    text = PngImagePlugin.PngInfo()
    for key, value in {"pixel_size_A": pixel_size_A, "value_at_0": low, "value_per_level": step}.items():
        text.add_text(key, repr(value))
    text.add_text("parameters", json.dumps(record, default=str))
    with writing(path) as aside:
        Image.fromarray(levels).save(aside, "PNG", pnginfo=text)


def write_tiff(path: Path, image: NDArray[Any], pixel_size_A: float, record: Mapping[str, Any]) -> None:
    """Write one image unscaled, as uint16 or float32, with its resolution as ImageJ, HyperSpy and tifffile read it.

    Args:
        path: File to write.
        image: Counts or intensity, shape (height, width).
        pixel_size_A: Pixel edge [Å].
        record: The image's row of images.parquet.
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    about = [IMAGEJ, "unit=angstrom", *(f"{key}={value}" for key, value in record.items())]
    tags[TiffImagePlugin.IMAGEDESCRIPTION] = "\n".join(about) + "\n"
    per_A = TiffImagePlugin.IFDRational(round(RESOLUTION / pixel_size_A), RESOLUTION)
    tags[TiffImagePlugin.X_RESOLUTION] = tags[TiffImagePlugin.Y_RESOLUTION] = per_A
    tags[TiffImagePlugin.RESOLUTION_UNIT] = UNIT_NONE
    pixels = image if image.dtype == np.uint16 else image.astype(np.float32)
    with writing(path) as aside:
        Image.fromarray(pixels).save(aside, "TIFF", tiffinfo=tags)
