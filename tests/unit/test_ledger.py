"""What a disk that fills up does to a ledger."""

import resource
import signal
from pathlib import Path

import pytest

from alloyscope.errors import StoreError
from alloyscope.store.ledger import Entry, Ledger
from alloyscope.store.manifests import Slot


def test_line_that_does_not_fit_costs_only_itself(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow in the middle of the second line."""
    ledger = Ledger(tmp_path / "chunk-000000.ledger.jsonl", "d")
    entries = [Entry(Slot(number, True, None, 1, 0.5), "xyz" * 20) for number in range(3)]
    ledger.append(entries[0])
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.path.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"ledger\.jsonl: cannot be written \(.+\); finished particles are kept"):
            ledger.append(entries[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not ledger.path.read_text().endswith("\n")
    assert ledger.open() == {0: entries[0]}
    ledger.append(entries[2])
    assert ledger.open() == {0: entries[0], 2: entries[2]}
