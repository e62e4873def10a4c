"""A damaged campaign is repaired by the command that `alloyscope verify --repair` prints."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from alloyscope.commands import verify
from alloyscope.errors import StoreError
from tests.workflow.workplace import Workplace

pytestmark = pytest.mark.xdist_group("workflow")

FOLDER = Path("results/minimal")
DATA = ("structures/chunk-000001.extxyz", "structures/structures.parquet", "hrtem/images.zarr", "hrtem/images.parquet")


def contents(folder: Path) -> dict[str, bytes]:
    found = [path for name in DATA for path in (folder / name, *(folder / name).rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_printed_command_makes_the_store_whole_again(
    copy: Callable[[], Workplace], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = copy()
    monkeypatch.chdir(place.path)
    whole = verify.run(folder=FOLDER)
    before = contents(FOLDER)
    for name in ("structures/chunk-000001.extxyz", "hrtem/images.zarr/counts/c/0/0/0"):
        raw = bytearray((FOLDER / name).read_bytes())
        raw[len(raw) // 2] ^= 0x01
        (FOLDER / name).write_bytes(raw)
    with pytest.raises(StoreError, match="run the printed command"):
        verify.run(folder=FOLDER, mend=True)
    command = shlex.split(capsys.readouterr().out)
    assert command[:3] == ["snakemake", "--profile", "profiles/local"]
    answer = place.snakemake(*command[3:])
    assert answer.code == 0, answer.text[-4000:]
    assert answer.jobs == dict.fromkeys(("md", "describe", "structures", "hrtem", "gates", "dataset"), 1)
    assert verify.run(folder=FOLDER) == whole
    assert contents(FOLDER) == before
