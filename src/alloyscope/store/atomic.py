"""Atomic writing: a file is written under another name and then renamed, so it exists only if it is complete."""

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
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, and remove it if not.

    Raises:
        StoreError: the folder cannot be written, or no space is left.
    """
    # All processes use the same name, so that the next run overwrites what a killed run left.
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
    """Message that a file could not be written: the reason, what is kept and, on a full disk, what to do."""
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
        StoreError: the file is missing or truncated, or holds no object.
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
    """Short digest of the inputs of a result: sections as JSON, checksums of files, recipes."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
