"""Structures as extended XYZ: one file per md chunk holds its particles in order, one frame per snapshot."""

from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread, read, write

from alloyscope.contracts import Film, Structure
from alloyscope.errors import ContractError, StoreError


def to_text(structures: Iterable[Structure]) -> str:
    """Write snapshots as extended XYZ with positions to 1e-8 Å, so that equal structures give equal bytes."""
    buffer = StringIO()
    frames = [Atoms(s.elements, positions=s.positions_A, info=dict(s.info)) for s in structures]
    write(buffer, frames, format="extxyz")
    return buffer.getvalue()


def from_text(text: str) -> list[Structure]:
    """Parse snapshots, in file order.

    Raises:
        ContractError: a frame is not a valid structure; the message names its particle.
    """
    return [structure_of(frame) for frame in read(StringIO(text), index=":", format="extxyz")]


def structure_of(frame: Atoms) -> Structure:
    try:
        return Structure(
            tuple(frame.get_chemical_symbols()),
            np.asarray(frame.positions, dtype=np.float64),
            dict(frame.info),
        )
    except ContractError as error:
        raise ContractError(f"particle {frame.info.get('particle', '?')}: {error}") from None


def read_structures(path: Path) -> list[Structure]:
    """Read all frames of a file.

    Raises:
        StoreError: the file is missing or is not complete extended XYZ, or a frame is not a valid structure.
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
    except ContractError as error:
        raise StoreError(f"{path}: {error}; delete {path.with_suffix('.json')} and run snakemake again") from None


def by_particle(structures: Iterable[Structure]) -> dict[int, list[Structure]]:
    """Snapshots of each particle, in file order."""
    grouped: dict[int, list[Structure]] = {}
    for structure in structures:
        grouped.setdefault(int(structure.info["particle"]), []).append(structure)
    return grouped


def film_text(film: Film) -> str:
    """Write a periodic block of carbon as extended XYZ."""
    buffer = StringIO()
    write(buffer, Atoms(f"C{len(film.positions_A)}", film.positions_A, cell=film.edges_A, pbc=True), format="extxyz")
    return buffer.getvalue()


def read_film(path: Path) -> Film:
    """Read a periodic block of carbon.

    Raises:
        StoreError: the file is missing, or holds no block of carbon in extended XYZ.
    """
    try:
        atoms = next(iread(StringIO(path.read_text()), format="extxyz"))
        if set(atoms.get_chemical_symbols()) != {"C"}:
            raise ValueError(f"must hold only carbon; got {atoms.get_chemical_formula()}")
        edges = atoms.cell.lengths()
        return Film(np.mod(atoms.positions, edges), tuple(edges.tolist()))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); run the stage `film` first") from None
    except (ValueError, KeyError, IndexError, StopIteration, ContractError) as error:
        raise StoreError(f"{path}: not a film ({error}); delete it and run snakemake again") from None
