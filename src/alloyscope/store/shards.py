"""Reading of rows of a Zarr shard without zarr's event loop.

zarr writes the shards with its sharding codec (https://zarr-specs.readthedocs.io, codecs/sharding-indexed): first the
zstd payloads; then the index, which holds (offset, bytes) of each inner chunk as little-endian uint64; then the crc32c
of the index. benchmarks/zarr_store.py measures how much slower it is to read through zarr.
"""

from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

ENTRY_BYTES, CRC_BYTES = 16, 4


def _index(handle: BinaryIO, n_blocks: int) -> NDArray[np.uint64]:
    size = n_blocks * ENTRY_BYTES + CRC_BYTES
    if (end := handle.seek(0, 2)) < size:
        raise ValueError(f"too short for its index: {end} bytes")
    handle.seek(-size, 2)
    raw = handle.read(size)
    if google_crc32c.value(raw[:-CRC_BYTES]) != int.from_bytes(raw[-CRC_BYTES:], "little"):
        raise ValueError("the index differs from its crc32c")
    return np.frombuffer(raw[:-CRC_BYTES], "<u8").reshape(n_blocks, 2)


def read_rows(
    path: Path,
    rows: NDArray[np.int64],
    n_blocks: int,
    block: tuple[int, ...],
    out: NDArray[np.generic],
    places: NDArray[np.intp],
) -> None:
    """Read rows of one shard, each inner chunk once.

    Args:
        path: File of the shard.
        rows: Rows within the shard, shape (n,).
        n_blocks: Number of inner chunks of the shard, along the first axis.
        block: Shape of an inner chunk.
        out: Array that receives the rows, shape (m, *block[1:]), in the dtype of the Zarr array.
        places: Place of each row in `out`, shape (n,).

    Raises:
        ValueError: the index or a payload is damaged, or of another shape.
        RuntimeError: a payload cannot be decoded, or differs from its checksum.
        OSError: the file cannot be read.
    """
    of_row = rows // block[0]
    with path.open("rb") as handle:
        index = _index(handle, n_blocks)
        for number in np.unique(of_row).tolist():
            offset, size = index[number].tolist()
            handle.seek(offset)
            payload = handle.read(size)
            wanted = of_row == number
            out[places[wanted]] = np.frombuffer(Zstd().decode(payload), out.dtype).reshape(block)[
                rows[wanted] % block[0]
            ]
