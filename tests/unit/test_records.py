"""Records found by the modules of a folder: what is no record is named."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from alloyscope.config.read import parse
from alloyscope.errors import ConfigError
from alloyscope.records import records

BASE = "class Base:\n    taken = 1\n"


def found(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> list[str]:
    package = folder / f"records_of_{folder.name}"
    package.mkdir()
    for name, text in {"__init__": BASE, **modules}.items():
        (package / f"{name}.py").write_text(text.replace("BASE", f"from {package.name} import Base"))
    monkeypatch.syspath_prepend(folder)
    module = import_module(package.name)
    monkeypatch.delitem(sys.modules, package.name)
    monkeypatch.setitem(sys.modules, package.name, module)
    return list(records(module, module.Base))


def test_the_folder_is_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = "BASE\nclass One(Base): pass\n"
    assert found(tmp_path, monkeypatch, b=one, a=one) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty", ""),
        ("two", "BASE\nclass One(Base): pass\nclass Two(Base): pass\n"),
        ("taken", "BASE\nclass One(Base): pass\n"),
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}\.py: must hold one Base, under a name that Base does not use"):
        found(tmp_path, monkeypatch, **{name: text})


def test_a_task_is_learnt_once() -> None:
    assert parse({"training": {"tasks": ["denoising"]}}).training.tasks == ("denoising",)
    with pytest.raises(ConfigError, match=r"training\.tasks: must differ; got reading, reading"):
        parse({"training": {"tasks": ["reading", "reading"]}})
