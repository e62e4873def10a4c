"""Waiting for a process, never without a bound."""

import time
from collections.abc import Callable
from typing import Protocol

LIMIT_s = 600.0


class Running(Protocol):
    """A `Popen` of subprocess or psutil."""

    def poll(self) -> int | None: ...


def wait_until(happened: Callable[[], object], process: Running, what: str, pause_s: float = 0.02) -> None:
    """Wait until something has happened while a process runs.

    Raises:
        AssertionError: the process ended before, or LIMIT_s are over.
    """
    end = time.monotonic() + LIMIT_s
    while not happened():
        assert process.poll() is None, f"ended with {process.poll()} before there was {what}"
        assert time.monotonic() < end, f"no {what} within {LIMIT_s:g} s"
        time.sleep(pause_s)
