"""A file exists only if it is whole."""

import os
from pathlib import Path

import pytest

from alloyscope.errors import StoreError
from alloyscope.store.atomic import checksum, digest, read_json, write_json, write_text, writing


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with writing(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_unwritable_folder(tmp_path: Path) -> None:
    """A file in the place of the folder: permissions do not stop root, who may run the tests."""
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError, match=r"results.*cannot be written .*; nothing was replaced"):
        write_json(tmp_path / "results" / "a.json", {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_no_space_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_to_full_disk() -> None:
        with writing(path) as aside:
            aside.symlink_to("/dev/full")
            aside.write_text("new")

    said = r"cannot be written \(No space left on device\); nothing was replaced; the disk is full: make room and run"
    with pytest.raises(StoreError, match=said):
        write_to_full_disk()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"b": [1, 2.5, None], "a": "Å"})
    assert read_json(path) == {"b": [1, 2.5, None], "a": "Å"}


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1', "truncated or not JSON"), ("[1]", "must be a JSON object; got list"), (None, "cannot be read")],
)
def test_unreadable_json(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreError, match=message):
        read_json(path)


def test_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, example B.1
    assert checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_keeps_its_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
