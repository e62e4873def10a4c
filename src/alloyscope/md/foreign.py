"""Structures of the user's own files as snapshots."""

import math
from errno import EDQUOT, ENOSPC
from lzma import LZMAError
from pathlib import Path
from zlib import error as ZlibError

import numpy as np
from ase import Atoms

from alloyscope.contracts import OWN, Structure
from alloyscope.errors import StoreError
from alloyscope.md.checks import largest_cluster
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.store.atomic import refused
from alloyscope.store.frames import FramesFile, unreadable


def opened(path: Path, folder: Path) -> FramesFile:
    """The file with the places of its frames, which are kept in the folder.

    Raises:
        ConfigError: the file is damaged.
        StoreError: the folder cannot be written.
    """
    try:
        return FramesFile.of(path, folder)
    except OSError as error:
        inside = error.filename and Path(error.filename).absolute().is_relative_to(folder.absolute())
        if inside or error.errno in (ENOSPC, EDQUOT):
            raise StoreError(refused(error.filename or folder, error)) from error
        raise unreadable(path, error) from None
    except (EOFError, LZMAError, ValueError, ZlibError) as error:
        raise unreadable(path, error) from None


def number_or_nan(value: object) -> float:
    """The value as a finite number; NaN for any other content of a comment line."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def structure_of(number: int, origin: str, atoms: Atoms) -> Structure:
    """Make a snapshot of a frame: its largest cluster, centred; other atoms are left out as if evaporated."""
    kept = largest_cluster(atoms.positions)
    elements = tuple(symbol for symbol, inside in zip(atoms.get_chemical_symbols(), kept, strict=True) if inside)
    positions_A = np.asarray(atoms.positions[kept], dtype=np.float64)
    protocol = str(atoms.info.get("protocol", OWN))
    energy = atoms.calc.results.get("energy") if atoms.calc else None  # ASE stores a file's `energy` there
    info = {
        "particle": number,
        "protocol": protocol if protocol in PROTOCOLS else OWN,
        "snapshot": 0,
        "n_atoms": len(elements),
        "potential_energy_eV": number_or_nan(atoms.info.get("potential_energy_eV", energy)),
        "temperature_K": number_or_nan(atoms.info.get("temperature_K")),
        "origin": origin,
    }
    group = atoms.info.get("group", "")
    if np.size(group) and str(group).strip():  # ASE reads an empty value as an empty array
        info["group"] = str(group).strip()
    return Structure(elements, positions_A - positions_A.mean(axis=0), info)
