"""docs/dataset.md: its code runs, and it names every array and column."""

import re
from pathlib import Path

import numpy as np
import pytest

from alloyscope.campaign.tables import LABEL_COLUMNS, ORDER_LABELS
from alloyscope.store.images import CHUNK_COLUMNS, DTYPES, views_of
from alloyscope.store.tables import read_table
from alloyscope.structure.descriptors import DESCRIPTORS
from tests.stages.synthetic_md import IMAGING, write_released


def page(root: Path) -> str:
    return (root / "docs" / "dataset.md").read_text()


def test_code_opens_the_store_and_recomputes_an_image(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_released(tmp_path / "results" / "demo", 1, IMAGING.model_copy(update={"store_waves": True}))
    monkeypatch.chdir(tmp_path)
    opening, again = re.findall(r"```python\n(.*?)```", page(root), re.DOTALL)
    assert len(list(filter(None, opening.splitlines()))) == 5
    names = {"view": views_of(read_table(tmp_path / "results/demo/hrtem/images.parquet"))[0]}
    exec(opening, names)
    exec(again, names)
    counts, clean, image = (np.asarray(names[name]) for name in ("counts", "clean", "image"))
    assert (counts.dtype, clean.dtype) == ("uint16", "float16")
    assert np.abs(image[0] - clean.astype(np.float32)).max() < 2**-11 + 1e-6


def described(text: str) -> set[str]:
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return {name for line in rows for name in re.findall(r"`(\w+)`", line.split("|")[1])}


def test_every_array_and_column_is_described(root: Path) -> None:
    images, particles = page(root).split("### Labels and descriptors in structures.parquet")
    assert described(images) == {*CHUNK_COLUMNS, *LABEL_COLUMNS, *DTYPES}
    assert described(particles) == {*DESCRIPTORS, *ORDER_LABELS} - {"ordering"}  # a column of both tables


def test_a_wave_takes_as_many_times_the_bytes_as_the_page_says(root: Path) -> None:
    times = float(re.search(r"A wave takes ([\d.]+) times", page(root))[1])
    assert times == pytest.approx(280**2 * 8 / (128**2 * 4), abs=0.05)
