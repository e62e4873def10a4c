"""One process at a time makes an output."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from alloyscope.errors import StoreError
from alloyscope.progress import log
from alloyscope.store.atomic import refused

LOOK_EVERY_S = 0.2


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Hold `output` while the block runs; wait first while another process holds it.

    The jobs of a Snakemake that was killed go on without it. Started again, Snakemake starts them once more: the
    second waits for the first, and finds what it has done.

    Raises:
        StoreError: the folder cannot be written.
    """
    place = output.with_name(f".{output.name}.lock")
    handle = _take(place)
    try:
        yield
    finally:
        # removed while still held: whoever waits for it sees that it is gone, and makes a new one
        place.unlink(missing_ok=True)
        handle.close()


def _take(place: Path) -> TextIOWrapper:
    said = False
    while True:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle = place.open("a+")
        except OSError as error:
            raise StoreError(refused(error.filename or place, error)) from None
        if _locked(handle) and _same_file(handle, place):
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {os.uname().nodename}")
            handle.flush()
            return handle
        if not said:
            handle.seek(0)
            log(f"{place}: held by {handle.read() or 'another process'}, which makes the same; waiting until it ends")
            said = True
        handle.close()
        time.sleep(LOOK_EVERY_S)


def _locked(handle: TextIOWrapper) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # ASSUME a file system without locks (some Lustre mounts) is better worked on without than not at all:
        # Snakemake's own lock keeps a second campaign away
        log(f"{handle.name}: no locks here ({error.strerror}); going on without")
    return True


def _same_file(handle: TextIOWrapper, place: Path) -> bool:
    """Whether the file that was locked still lies there: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), place.stat())
    except FileNotFoundError:
        return False
