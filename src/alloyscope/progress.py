"""Progress of long work: a bar on a terminal, plain lines in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_EVERY_S = 10.0


def log(text: str) -> None:
    """Print one line on standard error, above a progress bar if there is one."""
    tqdm.write(text, file=sys.stderr)


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items and show how many are done."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit="")
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last >= LINE_EVERY_S:
            last = now
            log(f"{what}: {done} of {total}, {now - started:.0f} s")
