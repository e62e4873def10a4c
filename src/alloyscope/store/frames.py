"""Frames of the user's structure files by their number, whose cost does not grow with the frames before them.

The places of the frames of an extended XYZ file are kept beside the campaign's structures, in the folder `.frames`,
with an unpacked copy of a compressed file. The first job writes them; the folder may be deleted at any time.
ASE reads files of other formats from their beginning.
"""

import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from zipfile import BadZipFile

import numpy as np
from ase import Atoms
from ase.io import iread, read
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
    def of(cls, path: Path, folder: Path) -> Self:
        """The file, with what `folder` holds of it; what it lacks, or what is damaged there, is written anew.

        Raises:
            ValueError: the file claims more atoms than it can hold.
            OSError: a file cannot be read or written.
        """
        state = path.stat()
        facts = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        known = folder / digest(str(path.resolve()), *map(str, facts))
        plain = known / path.stem if path.suffix in COMPRESSED else path  # ASE tells some formats by their names
        index = known / "frames.npz"
        unusable = (OSError, EOFError, ValueError, KeyError, BadZipFile)
        with suppress(*unusable), index.open("rb") as handle, np.load(handle) as found:
            if plain.stat().st_size == int(found["size"]):
                return cls(path, plain, str(found["sha256"]), found["starts"])
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as aside:  # several jobs may do this at the same time
            source = path
            if plain is not path:
                source = Path(aside, "file", path.stem)
                source.parent.mkdir()
                with open_with_compression(str(path), "rb") as packed, source.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                    os.fsync(unpacked.fileno())
            made = cls(path, plain, checksum(path), frame_starts(source))
            with Path(aside, index.name).open("wb") as new:
                np.savez(new, starts=made.starts, sha256=made.sha256, size=source.stat().st_size)
                os.fsync(new.fileno())
            known.mkdir(exist_ok=True)
            if plain is not path:
                source.replace(plain)
            Path(aside, index.name).replace(index)
        return made

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
                atoms = read(StringIO(text), index=0, format="extxyz")
                assert isinstance(atoms, Atoms)
                yield number, atoms

    def count(self) -> int:
        """Number of frames."""
        return self.starts.size - 1 if self.starts.size else sum(1 for _ in self.frames(0))


def frame_starts(path: Path) -> NDArray[np.int64]:
    """Offsets of the frames of an extended XYZ file and its end; empty for another format or an unusual file.

    Raises:
        ValueError: a frame claims more atoms than the file has bytes.
    """
    nothing, starts = np.empty(0, np.int64), []
    try:
        if filetype(str(path.resolve())) != "extxyz":
            return nothing
    except Exception:  # noqa: BLE001 - of many classes; a format that ASE cannot tell is not extended XYZ
        return nothing
    size = path.stat().st_size
    with path.open("rb") as handle:
        while (line := handle.readline()).strip():  # ASE ends at an empty line, too
            if not line.strip().isdigit():
                return nothing
            starts.append(handle.tell() - len(line))
            if int(line) > size:
                raise ValueError(f"frame {len(starts) - 1} claims {int(line)} atoms in a file of {size} bytes")
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
