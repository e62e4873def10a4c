"""Structures as extended XYZ: one file per md chunk, particles in order, every snapshot a frame."""

from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from alloyscope.contracts import Structure
from alloyscope.errors import StoreError


def to_text(structures: Iterable[Structure]) -> str:
    """Extended XYZ of snapshots; positions to 1e-8 Å, so the same structures give the same bytes."""
    buffer = StringIO()
    frames = [Atoms(s.elements, positions=s.positions_A, info=dict(s.info)) for s in structures]
    write(buffer, frames, format="extxyz")
    return buffer.getvalue()


def from_text(text: str) -> list[Structure]:
    frames = read(StringIO(text), index=":", format="extxyz")
    return [
        Structure(
            tuple(frame.get_chemical_symbols()),
            np.asarray(frame.positions, dtype=np.float64),
            dict(frame.info),
        )
        for frame in frames
    ]


def read_structures(path: Path) -> list[Structure]:
    """All frames of a file.

    Raises:
        StoreError: missing, or not whole extended XYZ.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
    if not text:
        return []
    try:
        return from_text(text)
    except (ValueError, KeyError, IndexError, StopIteration, OSError) as error:
        raise StoreError(
            f"{path}: truncated or not extended XYZ ({error}); delete it and run snakemake again"
        ) from None


def by_particle(structures: Iterable[Structure]) -> dict[int, list[Structure]]:
    """Snapshots of each particle, in file order."""
    grouped: dict[int, list[Structure]] = {}
    for structure in structures:
        grouped.setdefault(int(structure.info["particle"]), []).append(structure)
    return grouped
