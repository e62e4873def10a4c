"""Frames of the user's structure files by their number, whose cost does not grow with the frames before them.

The places of the frames of an extended XYZ file are kept beside the campaign's structures, in the folder `.frames`,
with an unpacked copy of a compressed file. The first job writes them; the folder may be deleted at any time.
ASE reads files of other formats from their beginning.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.formats import filetype, open_with_compression
from numpy.typing import NDArray

from alloyscope.errors import ConfigError
from alloyscope.store.atomic import checksum, digest

COMPRESSED = (".gz", ".bz2", ".xz")


@dataclass(frozen=True)
class FramesFile:
    """One structure file.

    Attributes:
        path: The file that the user named.
        plain: The file itself, or its unpacked copy.
        sha256: Checksum of the file that the user named.
        starts: Offset of each frame in `plain` and its end [bytes], shape (frames + 1,), int64; empty for a format
            other than extended XYZ.
    """

    path: Path
    plain: Path
    sha256: str
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, path: Path, folder: Path) -> "FramesFile":
        """The file, with what `folder` holds of it; what it lacks is written there.

        Raises:
            ConfigError: the file is damaged.
            OSError: a file cannot be read or written.
        """
        state = path.stat()
        known = folder / digest(str(path.resolve()), str(state.st_size), str(state.st_mtime_ns))
        plain = known.with_suffix(Path(path.stem).suffix or ".txt") if path.suffix in COMPRESSED else path
        index = known.with_suffix(".npz")
        if not (index.exists() and plain.exists()):
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder) as aside:  # several jobs may do this at the same time
                source = path
                if plain is not path:
                    source = Path(aside, plain.name)
                    with open_with_compression(str(path), "rb") as packed, source.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
                np.savez(Path(aside, index.name), starts=frame_starts(source), sha256=checksum(path))
                if plain is not path:
                    source.replace(plain)
                Path(aside, index.name).replace(index)
        with np.load(index) as found:
            return cls(path, plain, str(found["sha256"]), found["starts"])

    def frames(self, first: int) -> Iterator[tuple[int, Atoms]]:
        """Yield the frames and their numbers, from number `first` on, or from 0 on for other formats."""
        if not self.starts.size:
            # ASE takes a name that begins with postgres or mysql for a database, and the text after @ for an index
            yield from enumerate(iread(self.plain.resolve(), index=":", do_not_split_by_at_sign=True))
            return
        with self.plain.open("rb") as handle:
            for number in range(first, len(self.starts) - 1):
                handle.seek(self.starts[number])
                text = handle.read(int(self.starts[number + 1] - self.starts[number])).decode()
                yield from ((number, atoms) for atoms in iread(StringIO(text), format="extxyz"))


def frame_starts(path: Path) -> NDArray[np.int64]:
    """Offsets of the frames of an extended XYZ file and its end; empty for another format or an unusual file."""
    nothing, starts = np.empty(0, np.int64), []
    try:
        if filetype(str(path.resolve())) != "extxyz":
            return nothing
    except Exception:  # noqa: BLE001 - of many classes; a format that ASE cannot tell is not extended XYZ
        return nothing
    with path.open("rb") as handle:
        while (line := handle.readline()).strip():  # ASE ends at an empty line, too
            if not line.strip().isdigit():
                return nothing
            starts.append(handle.tell() - len(line))
            deque(islice(handle, int(line) + 1), maxlen=0)
        return np.array([*starts, handle.tell() - len(line)], np.int64)


def frames(files: Sequence[FramesFile], first: int) -> Iterator[tuple[str, Atoms]]:
    """Yield the frames of all files from number `first` on, each with its origin, `name#frame`.

    Raises:
        ConfigError: a file is damaged, or of a format that ASE does not read.
    """
    passed = 0
    for file in files:
        wanted, count = first - passed, max(file.starts.size - 1, 0)
        if 0 < count <= wanted:
            passed += count
            continue
        try:
            for number, atoms in file.frames(max(wanted, 0)):
                count = max(count, number + 1)
                if number >= wanted:
                    yield f"{file.path.name}#{number}", atoms
        except Exception as error:  # noqa: BLE001 - ASE's readers raise exceptions of many classes
            raise unreadable(file.path, error) from None
        passed += count


def unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"particles.files: {path} cannot be read ({type(error).__name__}: {error}); must be extended XYZ or another "
        f"format that ase.io reads, whole"
    )
