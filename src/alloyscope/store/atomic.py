"""Write aside, then rename: a file exists only if it is whole."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alloyscope.errors import StoreError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to it when the block ends well, removed when it does not.

    Raises:
        StoreError: the folder cannot be written, or no space is left.
    """
    # one name, not one per process: what a killed run left is overwritten by the next
    aside = path.with_name(f".{path.name}.aside")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb") as handle:
            os.fsync(handle.fileno())
        aside.replace(path)
    except OSError as error:
        raise StoreError(refused(error.filename or path, error)) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def refused(path: Path | str, error: OSError, kept: str = "nothing was replaced") -> str:
    """What could not be written, why, what is left and, on a full disk, what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what_to_do = "; the disk is full: make room and run snakemake again" if full else ""
    return f"{path}: cannot be written ({error.strerror or error}); {kept}{what_to_do}"


def write_text(path: Path, text: str) -> None:
    with writing(path) as aside:
        aside.write_text(text)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StoreError: missing, truncated, or not an object.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise StoreError(f"{path}: truncated or not JSON ({error}); delete it and run snakemake again") from None
    if not isinstance(content, dict):
        raise StoreError(f"{path}: must be a JSON object; got {type(content).__name__}")
    return content


def checksum(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None


def digest(*texts: str) -> str:
    """Short digest of what a result depends on: sections as JSON, checksums of inputs, recipes."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
