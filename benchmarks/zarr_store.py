"""Cost of the image store: writing a shard, and reading images that lie together.

Writing: `write_shard` and the SHA-256 of its files, as a chunk does it, against the plain way to keep the same arrays,
a file each of their bytes and its SHA-256; both end with fsync and run in turn. Reading: 64 images in a row from a warm
cache through `Stack.read`, in MB of images; beside it the same payloads through the codec alone and zarr-python's own
way, in a row and scattered. Other codecs are compared with the store's. Images are simulated, counts drawn anew for
each place in the shard, because noise decides how they compress.

Short form: python benchmarks/zarr_store.py --particles 40 --runs 5
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
from ase.cluster import Octahedron
from harness import Figure
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from alloyscope.config.model import Config
from alloyscope.contracts import Structure
from alloyscope.imaging.hrtem import imager_for
from alloyscope.microscope.views import drawn_view
from alloyscope.store.atomic import checksum
from alloyscope.store.images import CLEAN, COUNTS, SHUFFLES, ShardShape, Stack, write_metadata, write_shard
from alloyscope.store.shards import LEVEL, payload_codec

TOGETHER = 64  # images read at once
OTHERS = {  # the store's codec against itself says how sure the others are
    "zstd_1": Zstd(level=1, checksum=True),
    "zstd_3": Zstd(level=3, checksum=True),
    "zstd_1_shuffle": Blosc("zstd", 1, Blosc.SHUFFLE),
    "lz4_shuffle": Blosc("lz4", LEVEL, Blosc.SHUFFLE),
    "lz4_bitshuffle": Blosc("lz4", LEVEL, Blosc.BITSHUFFLE),
}
DISTINCT = 40  # clean images simulated; neighbours in the shard differ
Arrays = dict[str, NDArray[Any]]


def simulated(shard: ShardShape, config: Config) -> Arrays:
    """A full shard: images of one particle in many views, each with its own noise."""
    atoms = Octahedron("Ag", 9, cutoff=2)
    structure = Structure(tuple(atoms.get_chemical_symbols()), atoms.positions - atoms.positions.mean(axis=0), {})
    sections = (config.imaging, config.optics, config.detector, config.campaign.seed)
    views = [drawn_view(number, 0, *sections) for number in range(DISTINCT)]
    images = np.stack(list(imager_for(config.imaging).images([([structure], view) for view in views])))
    rng, arrays = np.random.default_rng(1), shard.empty()
    for place in range(shard.images):
        image, view = images[place % DISTINCT], views[place % DISTINCT]
        arrays[CLEAN][place] = image
        arrays[COUNTS][place] = rng.poisson(image * (view.dose_e_per_A2 * config.imaging.pixel_size_A**2))
    return arrays


def write_plain(folder: Path, arrays: Arrays) -> None:
    for name, array in arrays.items():
        with (folder / name).open("wb") as handle:
            handle.write(array.data)
            handle.flush()
            os.fsync(handle.fileno())
        checksum(folder / name)


def write_store(folder: Path, arrays: Arrays, shard: ShardShape) -> None:
    for name in write_shard(folder, 0, shard, arrays):
        checksum(folder / name)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def write_figures(folder: Path, arrays: Arrays, shard: ShardShape, runs: int) -> dict[str, Figure]:
    write_plain(folder, arrays)  # both once for nothing: the first pays for the interpreter and the allocator
    write_store(folder, arrays, shard)
    pairs = [
        (seconds(lambda: write_plain(folder, arrays)), seconds(lambda: write_store(folder, arrays, shard)))
        for _ in range(runs)
    ]
    size_MB = sum(array.nbytes for array in arrays.values()) / 1e6
    stored_MB = sum(path.stat().st_size for path in (folder / "images.zarr").rglob("*") if path.is_file()) / 1e6
    alone = [seconds(lambda: [encoded(name, array, shard) for name, array in arrays.items()]) for _ in range(runs)]
    against = f"files of the same {size_MB:.0f} MB, with SHA-256 and fsync, paired runs"
    return {
        "zarr_write_share": Figure.median([plain / store for plain, store in pairs], "", against),
        "zarr_write_MB_per_s": Figure.median([size_MB / store for _, store in pairs], "MB/s", "of images"),
        "zarr_write_codec_share": Figure.median(
            [codec / store for codec, (_, store) in zip(alone, pairs, strict=True)],
            *("", "write_shard; the same payloads through the codec alone"),
        ),
        "zarr_stored_share": Figure(stored_MB / size_MB, "", "bytes of the arrays"),
    }


def encoded(name: str, array: NDArray[Any], shard: ShardShape, codec: Any = None) -> list[bytes]:
    """Payloads of an array, with the store's codec unless another is given."""
    codec = codec or payload_codec(SHUFFLES[name])
    return [codec.encode(block) for block in np.split(array, shard.blocks)]


def codec_figures(arrays: Arrays, shard: ShardShape, runs: int) -> dict[str, Figure]:
    """What other codecs than the store's would keep, and how fast they write and read, next to the store's."""
    figures = {}
    for name, array in arrays.items():
        own, kept = payload_codec(SHUFFLES[name]), encoded(name, array, shard)
        for other, codec in OTHERS.items():
            payloads = encoded(name, array, shard, codec)
            writing, reading = [], []
            for _ in range(runs):
                own_s = seconds(partial(encoded, name, array, shard))
                writing.append(own_s / seconds(partial(encoded, name, array, shard, codec)))
                own_s = seconds(lambda own=own, kept=kept: [own.decode(payload) for payload in kept])
                reading.append(
                    own_s / seconds(lambda codec=codec, payloads=payloads: [codec.decode(each) for each in payloads])
                )
            stored, against = sum(map(len, payloads)) / array.nbytes, "the store's codec, paired runs"
            figures |= {
                f"zarr_{name}_{other}_stored_share": Figure(stored, "", f"bytes of {name}"),
                f"zarr_{name}_{other}_speed": Figure.median(writing, "", against),
                f"zarr_{name}_{other}_read_speed": Figure.median(reading, "", against),
            }
    return figures


def read_figures(folder: Path, arrays: Arrays, shard: ShardShape, runs: int) -> dict[str, Figure]:
    write_metadata(folder, 1, shard, {})
    rng, figures = np.random.default_rng(2), {}
    for name, array in arrays.items():
        stack, size_MB, inner = Stack.open(folder, name), array[:TOGETHER].nbytes / 1e6, shard.inner[0]
        codec = payload_codec(SHUFFLES[name])
        stack.read(np.arange(TOGETHER))
        rates: dict[str, list[float]] = {"ours": [], "zarr": [], "scattered": [], "zarr_scattered": [], "codec": []}
        for _ in range(runs):
            start = int(rng.integers(0, (shard.images - TOGETHER) // inner)) * inner
            rows, scattered = np.arange(start, start + TOGETHER), rng.permutation(shard.images)[:TOGETHER]
            payloads = [codec.encode(array[place : place + inner]) for place in rows[::inner].tolist()]
            works: dict[str, Callable[[], object]] = {
                "ours": partial(stack.read, rows),
                "zarr": partial(stack.array.__getitem__, slice(start, start + TOGETHER)),
                "scattered": partial(stack.read, scattered),
                "zarr_scattered": partial(stack.array.oindex.__getitem__, scattered),
                "codec": partial(list, map(codec.decode, payloads)),
            }
            for way, work in works.items():
                rates[way].append(size_MB / seconds(work))
        suffix = "" if name == CLEAN else f"_{name}"
        in_a_row = f"{TOGETHER} images in a row of {name}, warm cache"
        figures |= {
            f"zarr_read{suffix}_MB_per_s": Figure.median(rates["ours"], "MB/s", in_a_row),
            f"zarr_read_codec_alone{suffix}_MB_per_s": Figure.median(rates["codec"], "MB/s", "the same payloads"),
            f"zarr_read_speed{suffix}": ratio(rates["ours"], rates["zarr"], f"zarr-python, {in_a_row}, paired runs"),
            f"zarr_read_scattered_speed{suffix}": ratio(
                rates["scattered"], rates["zarr_scattered"], f"zarr-python, {TOGETHER} scattered images, paired runs"
            ),
        }
    return figures


def ratio(rates: list[float], others: list[float], against: str) -> Figure:
    return Figure.median([rate / other for rate, other in zip(rates, others, strict=True)], "", against)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--particles", type=int, default=200, metavar="N", help="of the shard (default: 200)")
    parser.add_argument("--runs", type=int, default=15, metavar="N", help="paired runs (default: 15)")
    arguments = parser.parse_args()
    config = Config()
    shard = ShardShape(arguments.particles, config.imaging.views, config.imaging.pixels)
    arrays = simulated(shard, config)
    with tempfile.TemporaryDirectory() as place:
        figures = write_figures(Path(place), arrays, shard, arguments.runs)
        figures |= codec_figures(arrays, shard, arguments.runs)
        figures |= read_figures(Path(place), arrays, shard, arguments.runs)
    harness.publish("zarr_store", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
