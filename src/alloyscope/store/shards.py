"""Writing and reading of Zarr shards without zarr's event loop.

A shard is what zarr's sharding codec makes (https://zarr-specs.readthedocs.io, codecs/sharding-indexed): first the
payload of each inner chunk, in Blosc's format and with its crc32c; then the index, which holds (offset, bytes) of each
inner chunk as little-endian uint64; then the crc32c of the index. Payloads of earlier versions are zstd frames with
zstd's own checksum. benchmarks/zarr_store.py measures how much slower zarr is.
"""

import os
from pathlib import Path
from typing import Any, BinaryIO, Literal

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec  # zarr turns Blosc's threads off, which mix up the blocks

Shuffle = Literal["shuffle", "bitshuffle"]  # bytes, or bits, of the same place in each value are put together

ENTRY_BYTES, CRC_BYTES = 16, 4
LEVEL = 5  # of lz4
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # first bytes of a zstd frame (RFC 8878, 3.1.1)
BLOSC_VERSION = b"\x02"  # first byte of a Blosc header


def codecs(shuffle: Shuffle, value_bytes: int, earlier: bool) -> list[Any]:
    """The codecs of the payloads in the metadata of a Zarr array: those of `write_rows`, or of earlier versions."""
    if earlier:
        return [ZstdCodec(level=1, checksum=True)]
    return [BloscCodec(cname="lz4", clevel=LEVEL, shuffle=shuffle, typesize=value_bytes), Crc32cCodec()]


def payload_codec(shuffle: Shuffle) -> Blosc:
    """Blosc as the payloads need it; their crc32c follows."""
    return Blosc(cname="lz4", clevel=LEVEL, shuffle=Blosc.SHUFFLE if shuffle == "shuffle" else Blosc.BITSHUFFLE)


def is_earlier(path: Path) -> bool | None:
    """Whether an earlier version wrote the shard; None if its first bytes are damaged.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as handle:
        start = handle.read(len(ZSTD_MAGIC))
    return start == ZSTD_MAGIC if start == ZSTD_MAGIC or start[:1] == BLOSC_VERSION else None


def _crc(raw: bytes) -> bytes:
    return int(google_crc32c.value(raw)).to_bytes(CRC_BYTES, "little")


def write_rows(path: Path, rows: NDArray[np.generic], n_blocks: int, shuffle: Shuffle) -> None:
    """Write a shard and flush it to the disk.

    Args:
        path: File of the shard.
        rows: All rows of the shard, in the dtype of the Zarr array.
        n_blocks: Number of inner chunks of the shard, along the first axis.
        shuffle: What Blosc puts together before it compresses.

    Raises:
        OSError: the file cannot be written.
    """
    codec = payload_codec(shuffle)
    index, end = np.empty((n_blocks, 2), "<u8"), 0
    with path.open("wb") as handle:
        for number, block in enumerate(np.split(rows, n_blocks)):
            payload = codec.encode(np.ascontiguousarray(block))
            size = handle.write(payload) + handle.write(_crc(payload))
            index[number] = end, size
            end += size
        handle.write(index.tobytes())
        handle.write(_crc(index.tobytes()))
        handle.flush()
        os.fsync(handle.fileno())


def _index(handle: BinaryIO, n_blocks: int) -> NDArray[np.uint64]:
    size = n_blocks * ENTRY_BYTES + CRC_BYTES
    if (end := handle.seek(0, 2)) < size:
        raise ValueError(f"too short for its index: {end} bytes")
    handle.seek(-size, 2)
    raw = handle.read(size)
    if _crc(raw[:-CRC_BYTES]) != raw[-CRC_BYTES:]:
        raise ValueError("the index differs from its crc32c")
    return np.frombuffer(raw[:-CRC_BYTES], "<u8").reshape(n_blocks, 2)


def _decoded(payload: bytes) -> bytes:
    if payload.startswith(ZSTD_MAGIC):
        return bytes(Zstd().decode(payload))
    if _crc(payload[:-CRC_BYTES]) != payload[-CRC_BYTES:]:
        raise ValueError("a payload differs from its crc32c")
    return bytes(Blosc().decode(payload[:-CRC_BYTES]))


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
        RuntimeError: a payload cannot be decoded, or a zstd frame differs from its checksum.
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
            out[places[wanted]] = np.frombuffer(_decoded(payload), out.dtype).reshape(block)[rows[wanted] % block[0]]
