"""One process at a time makes an output."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from alloyscope.errors import StoreError
from alloyscope.store.locks import locked


def test_one_after_the_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ten at once add to a number by reading and writing it: with two inside, an addition is lost."""
    output = tmp_path / "made" / "number.txt"

    def add() -> None:
        with locked(output):
            number = int(output.read_text()) if output.exists() else 0
            threading.Event().wait(0.01)
            output.write_text(str(number + 1))

    threads = [threading.Thread(target=add) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert output.read_text() == "10"
    assert os.listdir(output.parent) == ["number.txt"]
    assert f"held by process {os.getpid()} on {os.uname().nodename}" in capfd.readouterr().err


def test_lock_file_of_a_killed_process_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / ".number.txt.lock").write_text("process 1 on elsewhere")
    with locked(tmp_path / "number.txt"):
        assert (tmp_path / ".number.txt.lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}"
    assert os.listdir(tmp_path) == []


def test_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / "number.txt"):
        pass
    assert "the file system has no locks (Function not implemented); working without one" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_lock_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A lock file that its holder has removed, as a network's file system says it, is made anew; two never go in."""
    answers = [OSError(number, os.strerror(number))]
    flock = fcntl.flock

    def once(held: int, operation: int) -> None:
        if answers:
            raise answers.pop()
        flock(held, operation)

    monkeypatch.setattr(fcntl, "flock", once)
    if number == errno.EIO:
        with pytest.raises(StoreError, match="cannot be locked"), locked(tmp_path / "a.json"):
            pass
    else:
        with locked(tmp_path / "a.json"):
            assert not answers


def test_full_disk_does_not_hold_a_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What then cannot be written is the output, and says so."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with locked(tmp_path / "a.json"):
            assert os.listdir(tmp_path) == [".a.json.lock"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [".", "made/here"])
def test_folder_holds_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with locked(Path(name)):
        assert os.listdir(name) == [".lock"]
    assert os.listdir(name) == []


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("a file stands where the folder should be")
    with pytest.raises(StoreError, match="made: cannot be written"), locked(tmp_path / "made" / "number.txt"):
        pass
