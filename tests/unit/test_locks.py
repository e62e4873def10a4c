"""One process at a time makes an output."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from alloyscope.errors import StoreError
from alloyscope.store.locks import alone


def test_one_after_the_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ten at once add to a number by reading and writing it: with two inside, an addition is lost."""
    output = tmp_path / "made" / "number"

    def add() -> None:
        with alone(output):
            number = int(output.read_text()) if output.exists() else 0
            threading.Event().wait(0.01)
            output.write_text(str(number + 1))

    threads = [threading.Thread(target=add) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert output.read_text() == "10"
    assert os.listdir(output.parent) == ["number"]
    assert f"held by process {os.getpid()} on {os.uname().nodename}" in capfd.readouterr().err


def test_lock_file_of_a_killed_process_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / ".number.lock").write_text("process 1 on elsewhere")
    with alone(tmp_path / "number"):
        assert (tmp_path / ".number.lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}"
    assert os.listdir(tmp_path) == []


def test_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path / "number"):
        pass
    assert "no locks here (Function not implemented); going on without" in capsys.readouterr().err


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("a file stands where the folder should be")
    with pytest.raises(StoreError, match="made: cannot be written"), alone(tmp_path / "made" / "number"):
        pass
