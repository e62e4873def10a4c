"""One process at a time makes an output."""

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
    """Hold `output` while the block runs; wait first while another process holds it.

    The jobs of a Snakemake that was killed go on without it. Started again, Snakemake starts them once more: the
    second waits for the first, and finds what it has done.

    Args:
        output: A file; or, by a name without suffix, a folder.

    Raises:
        StoreError: the folder cannot be written or locked.
    """
    place = output.with_name(f".{output.name}.lock") if output.suffix else output / ".lock"
    held = _take(place)
    try:
        yield
    finally:
        # removed while still held: whoever waits for it sees that it is gone, and makes a new one
        place.unlink(missing_ok=True)
        os.close(held)


def _take(place: Path) -> int:
    """Descriptor of the lock's file."""
    said = False
    while True:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreError(refused(error.filename or place, error)) from None
        if _locked(held, place) and _same_file(held, place):
            with suppress(OSError):  # a full disk: who holds it is a courtesy
                os.truncate(held, 0)
                os.write(held, f"process {os.getpid()} on {os.uname().nodename}".encode())
            return held
        if not said:
            holder = os.pread(held, 200, 0).decode(errors="replace") or "another process"
            log(f"{place}: held by {holder}, which makes the same; waiting until it ends")
            said = True
        os.close(held)
        time.sleep(LOOK_EVERY_S)


def _locked(held: int, place: Path) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno == errno.ESTALE:  # a network's file system: its holder has removed it
            return False
        if error.errno not in NO_LOCKS:
            raise StoreError(f"{place}: cannot be locked ({error.strerror})") from None
        # ASSUME a file system without locks (some Lustre mounts) is better worked on without than not at all:
        # Snakemake's own lock keeps a second campaign away
        log(f"{place}: no locks here ({error.strerror}); going on without")
    return True


def _same_file(held: int, place: Path) -> bool:
    """Whether the file that was locked still lies there: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(held), place.stat())
    except OSError:
        return False
