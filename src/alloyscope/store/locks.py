"""Locks, so that only one process at a time makes an output."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alloyscope.errors import StoreError
from alloyscope.progress import log
from alloyscope.store.atomic import refused

LOOK_EVERY_S = 0.2
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold the lock of `output` while the block runs; wait first until no other process holds it.

    When Snakemake is killed, its jobs go on. When it is started again, it starts them a second time; the second process
    then waits for the first and finds its results.

    Args:
        output: Path of a file or, if it has no suffix, of a folder.

    Raises:
        StoreError: the folder cannot be written or locked.
    """
    place = output.with_name(f".{output.name}.lock") if output.suffix else output / ".lock"
    held = _take(place)
    try:
        yield
    finally:
        # The file is removed while it is still locked: a waiting process sees that it is gone, and makes a new one.
        place.unlink(missing_ok=True)
        os.close(held)


def _take(place: Path) -> int:
    """Lock the file and return its descriptor."""
    said = False
    while True:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreError(refused(error.filename or place, error)) from None
        if _locked(held, place) and _same_file(held, place):
            with suppress(OSError):  # on a full disk the holder's name is left out
                os.truncate(held, 0)
                os.write(held, f"process {os.getpid()} on {os.uname().nodename}".encode())
            return held
        if not said:
            holder = os.pread(held, 200, 0).decode(errors="replace") or "another process"
            log(f"{place}: held by {holder}, which makes the same output; waiting until it ends")
            said = True
        os.close(held)
        time.sleep(LOOK_EVERY_S)


def _locked(held: int, place: Path) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno == errno.ESTALE:  # on a network file system: the holder has removed the file
            return False
        if error.errno not in NO_LOCKS:
            raise StoreError(f"{place}: cannot be locked ({error.strerror})") from None
        # ASSUME on a file system without locks (some Lustre mounts) it is better to work without one than not at all:
        # Snakemake's own lock prevents a second campaign
        log(f"{place}: the file system has no locks ({error.strerror}); working without one")
    return True


def _same_file(held: int, place: Path) -> bool:
    """Whether the path still names the locked file: the last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(held), place.stat())
    except OSError:
        return False
