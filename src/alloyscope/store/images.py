"""The image store: one Zarr v3 group, one shard per imaging chunk, and the table of its images.

A chunk writes its shards in a temporary folder and renames them to their places in the shared arrays. `write_metadata`,
which only the stage `dataset` calls, makes the shared arrays readable; their shape follows from the finished chunks.
Zarr reads a missing shard as the fill value: NaN for `clean` and `wave`, 0 for `counts`.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from alloyscope.contracts import View, require
from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name
from alloyscope.store.atomic import refused
from alloyscope.store.manifests import manifest_name
from alloyscope.store.shards import Shuffle, codecs, is_earlier, read_rows, write_rows
from alloyscope.store.tables import Columns

INNER_IMAGES = 8  # an inner chunk holds the largest divisor of a shard's number of images up to this
CLEAN, COUNTS, WAVE = "clean", "counts", "wave"
IMAGES = (CLEAN, COUNTS)
DTYPES = {CLEAN: "float16", COUNTS: "uint16", WAVE: "complex64"}
FILL = {CLEAN: float("nan"), COUNTS: 0, WAVE: complex("nan+nanj")}
SHUFFLES: dict[str, Shuffle] = {CLEAN: "shuffle", COUNTS: "bitshuffle", WAVE: "shuffle"}  # docs/decisions/0007
DIMENSIONS = ("image", "y", "x")

VECTORS = {  # fields of View that take several columns
    "rotation": ("rotation_x", "rotation_y", "rotation_z", "rotation_w"),
    "shift_A": ("shift_y_A", "shift_x_A"),
    "film_offset": ("film_x", "film_y", "film_z"),
}
_TYPES = {int: "int64", float: "float64"}

VIEW_COLUMNS: Columns = {
    column: "float64" if field.name in VECTORS else _TYPES.get(field.type, "string")  # type: ignore[arg-type]
    for field in fields(View)
    for column in VECTORS.get(field.name, (field.name,))
}
CHUNK_COLUMNS: Columns = {
    "image": "int64",  # row in the arrays
    "image_id": "string",
    "chunk": "int64",
    "valid": "bool",
    "reason": "string",
    **VIEW_COLUMNS,
}
# Columns that tables of earlier versions lack, with the values of their images, in which this did not exist.
LATER_COLUMNS = {"drift_A": 0.0, "drift_angle_rad": 0.0, "gain_map_rms": 0.0}


@dataclass(frozen=True)
class ShardShape:
    """Shape of a shard: `capacity` particles in `views` images of `pixels`² each; waves of `wave_grid`², 0 for none."""

    capacity: int
    views: int
    pixels: int
    wave_grid: int = 0

    @property
    def images(self) -> int:
        return self.capacity * self.views

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.images, self.pixels, self.pixels)

    @property
    def inner(self) -> tuple[int, int, int]:
        images = next(n for n in range(min(INNER_IMAGES, self.images), 0, -1) if self.images % n == 0)
        return (images, self.pixels, self.pixels)

    @property
    def blocks(self) -> int:
        """Number of inner chunks of a shard."""
        return self.images // self.inner[0]

    @property
    def arrays(self) -> dict[str, tuple[int, int, int]]:
        """Name and shape of each array's shard."""
        shapes = {CLEAN: self.shape, COUNTS: self.shape}
        return shapes | ({WAVE: (self.images, self.wave_grid, self.wave_grid)} if self.wave_grid else {})

    def empty(self) -> dict[str, NDArray[Any]]:
        """Every array of a shard, filled with the fill value, which means that there is no image."""
        return {name: np.full(shape, FILL[name], DTYPES[name]) for name, shape in self.arrays.items()}


def shard_name(array: str, chunk: int) -> str:
    """Path of a shard relative to the stage's folder."""
    return f"images.zarr/{array}/c/{chunk}/0/0"


def metadata_name(array: str) -> str:
    """Path of an array's metadata relative to the stage's folder; "" gives that of the group."""
    return (Path("images.zarr") / array / "zarr.json").as_posix()


@contextmanager
def _folder_aside(folder: Path, name: str) -> Iterator[Path]:
    aside = folder / f".{name}.aside"
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed run
    try:
        aside.mkdir(parents=True)
        yield aside
    except OSError as error:
        raise StoreError(refused(folder, error)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_shard(folder: Path, chunk: int, shard: ShardShape, images: dict[str, NDArray[Any]]) -> list[str]:
    """Write a chunk's images; the shard of each array is written atomically.

    Args:
        folder: Folder of the stage (`hrtem/`).
        chunk: Chunk number.
        shard: Shape of every shard of the store.
        images: The arrays of `shard.arrays`, in their shapes. The chunk's shards of other arrays are removed.

    Returns:
        Names of the shard files, relative to `folder`.

    Raises:
        ContractError: arrays, shapes or dtypes are wrong.
        StoreError: the folder cannot be written, or no space is left.
    """
    shapes = shard.arrays
    require(images.keys() == shapes.keys(), f"a shard needs the arrays {sorted(shapes)}; got {sorted(images)}")
    for name, array in images.items():
        require(array.shape == shapes[name], f"{name}: a shard must be {shapes[name]}; got {array.shape}")
        require(array.dtype == DTYPES[name], f"{name}: must be {DTYPES[name]}; got {array.dtype}")
    with _folder_aside(folder, f"chunk-{chunk_name(chunk)}") as aside:
        for name, array in images.items():
            write_rows(aside / name, array, shard.blocks, SHUFFLES[name])
        # Shards are moved only when all are complete, so that a full disk replaces none.
        for name in images:
            place = folder / shard_name(name, chunk)
            place.parent.mkdir(parents=True, exist_ok=True)
            (aside / name).replace(place)
        for name in DTYPES.keys() - images.keys():
            (folder / shard_name(name, chunk)).unlink(missing_ok=True)
    return [shard_name(name, chunk) for name in images]


def read_unreleased(folder: Path, chunk: int, shard: ShardShape, name: str, place: int) -> NDArray[Any]:
    """Read one image of a finished chunk, without the metadata of the shared arrays; `place` counts within the chunk.

    Raises:
        StoreError: the shard is missing or damaged.
    """
    path = folder / shard_name(name, chunk)
    image = np.empty((1, *shard.arrays[name][1:]), DTYPES[name])
    try:
        block = (shard.inner[0], *image.shape[1:])
        read_rows(path, np.array([place]), shard.blocks, block, image, np.array([0]))
    except (RuntimeError, ValueError, OSError) as error:
        raise StoreError(
            f"{path}: missing or damaged ({error}); delete {folder / manifest_name(chunk)} and run snakemake again"
        ) from None
    return np.asarray(image[0])


def write_metadata(folder: Path, n_chunks: int, shard: ShardShape, attributes: dict[str, dict[str, Any]]) -> None:
    """Write the metadata of the shared arrays, with the codecs of their shards, which are not touched.

    Args:
        folder: Folder of the stage.
        n_chunks: Number of the last finished chunk + 1.
        shard: Shape of every shard.
        attributes: Attributes of the group (key "") and of each array.

    Raises:
        StoreError: the folder cannot be written, or its shards have different codecs.
    """
    with _folder_aside(folder, "metadata") as aside:
        zarr.create_group(store=aside, attributes=attributes.get("", {}), overwrite=True)
        for name, whole in shard.arrays.items():
            earlier = _earlier(folder, name, n_chunks)
            zarr.create_array(
                store=aside,
                name=name,
                shape=(n_chunks * shard.images, *whole[1:]),
                shards=whole,
                chunks=(shard.inner[0], *whole[1:]),
                dtype=DTYPES[name],
                compressors=codecs(SHUFFLES[name], np.dtype(DTYPES[name]).itemsize, earlier),
                fill_value=FILL[name],
                dimension_names=DIMENSIONS,
                attributes=attributes.get(name, {}),
            )
        for name in (*shard.arrays, ""):
            place = folder / metadata_name(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            (aside / name / "zarr.json").replace(place)
        for name in DTYPES.keys() - shard.arrays.keys():
            (folder / metadata_name(name)).unlink(missing_ok=True)


def _earlier(folder: Path, name: str, n_chunks: int) -> bool:
    """Whether the shards of an array have the codec of earlier versions; the metadata know one codec."""
    paths = {chunk: folder / shard_name(name, chunk) for chunk in range(n_chunks)}
    try:
        kinds = {chunk: is_earlier(path) for chunk, path in paths.items() if path.exists()}
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be read ({error.strerror})") from None
    earlier = [chunk for chunk, kind in kinds.items() if kind]
    if earlier and False in kinds.values():
        raise StoreError(
            f"{folder}: the shards of {name} of chunks {', '.join(map(str, earlier))} have the codec of an earlier "
            "version, others do not; delete the manifests of these chunks and run snakemake again"
        )
    return bool(earlier)


def open_array(folder: Path, name: str) -> Any:
    """Open the shared array `clean`, `counts` or `wave`, read-only.

    Raises:
        StoreError: the metadata of the store are missing or damaged.
    """
    try:
        return zarr.open_array(store=folder / "images.zarr", path=name, mode="r")
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{folder / 'images.zarr' / name}: no readable array ({error}); run the stage `dataset` first"
        ) from None


@dataclass(frozen=True)
class Stack:
    """One array of the store, (image, y, x). A missing or damaged shard is a StoreError.

    Attributes:
        folder: Folder of the stage (`hrtem/`).
        name: `clean`, `counts` or `wave`.
        array: The Zarr array.
    """

    folder: Path
    name: str
    array: Any

    @classmethod
    def open(cls, folder: Path, name: str) -> "Stack":
        return cls(folder, name, open_array(folder, name))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def check(self, rows: NDArray[np.int64]) -> None:
        """Check that every shard that holds one of the rows exists.

        Raises:
            StoreError: a shard is missing; the message names the first one.
        """
        for chunk in np.unique(rows // self.array.shards[0]).tolist():
            with self._shard(chunk):
                pass

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read the images of the rows, in the order of the rows.

        Raises:
            StoreError: a shard is missing or damaged; the message names its chunk.
        """
        images = np.empty((len(rows), *self.shape[1:]), DTYPES[self.name])
        per_shard, block = self.array.shards[0], self.array.chunks
        chunks = rows // per_shard
        for chunk in np.unique(chunks).tolist():
            here = np.flatnonzero(chunks == chunk)
            with self._shard(chunk) as place:
                read_rows(place, rows[here] % per_shard, per_shard // block[0], block, images, here)
        return images

    def __getitem__(self, row: int) -> NDArray[Any]:
        image: NDArray[Any] = self.read(np.array([row]))[0]
        return image

    @contextmanager
    def _shard(self, chunk: int) -> Iterator[Path]:
        place = self.folder / shard_name(self.name, chunk)
        mend = f"delete {self.folder / manifest_name(chunk)} and run snakemake again"
        if not place.exists():
            raise StoreError(f"{place}: shard of chunk {chunk_name(chunk)} is missing; {mend}")
        try:
            yield place
        except (RuntimeError, ValueError, OSError) as error:
            raise StoreError(f"{place}: shard of chunk {chunk_name(chunk)} is damaged ({error}); {mend}") from None


def read_images(folder: Path, name: str, start: int, stop: int) -> NDArray[Any]:
    """Read the images of consecutive rows.

    Raises:
        StoreError: a shard is missing or damaged; the message names its chunk.
    """
    return Stack.open(folder, name).read(np.arange(start, stop))


def views_table(views: Sequence[View]) -> pd.DataFrame:
    """One row per view, columns as in `VIEW_COLUMNS`."""
    columns: dict[str, list[Any]] = {}
    for field in fields(View):
        values = [getattr(view, field.name) for view in views]
        if field.name in VECTORS:
            for place, column in enumerate(VECTORS[field.name]):
                columns[column] = [value[place] for value in values]
        elif field.name == "snapshots":  # as text: "0 3 7"
            columns[field.name] = [" ".join(map(str, value)) for value in values]
        else:
            columns[field.name] = values
    return pd.DataFrame(columns).astype(dict(VIEW_COLUMNS))


def with_later_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A table of an earlier version with the columns that it lacks."""
    return table.assign(**{name: value for name, value in LATER_COLUMNS.items() if name not in table})


def views_of(table: pd.DataFrame) -> list[View]:
    """Views of table rows: the inverse of `views_table`."""
    views = []
    table = with_later_columns(table)
    for record in table[list(VIEW_COLUMNS)].to_dict("records"):
        values: dict[str, Any] = {str(name): value for name, value in record.items()}
        vectors = {name: tuple(values.pop(column) for column in columns) for name, columns in VECTORS.items()}
        snapshots = tuple(map(int, values["snapshots"].split()))
        views.append(View(**{**values, **vectors, "snapshots": snapshots}))
    return views
