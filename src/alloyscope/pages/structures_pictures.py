"""Pictures of typical particles for the page on structures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from alloyscope.errors import StoreError
from alloyscope.figures import rendering
from alloyscope.figures.style import WORDS
from alloyscope.ids import chunk_name
from alloyscope.lammps.start import load_lammps
from alloyscope.pages.page import embed_pixels
from alloyscope.progress import progress
from alloyscope.store.structures import by_particle, read_structures
from alloyscope.structure import statistics
from alloyscope.structure.statistics import ORDERS

TYPICAL = (  # columns that define a typical particle; lengths that grow with it would only repeat the number of atoms
    "n_atoms",
    "fraction_first",
    "eta",
    "d_com_over_Rg",
    "radial_segregation_A",
    "surface_fraction_first",
    "surface_fraction_second",
    "coverage",
    "mixing_sigma",
    "warren_cowley_alpha",
    "cna_fcc",
    "cna_hcp",
    "cna_icosahedral",
    "cna_other",
    "cna_surface",
)
SIZES = {1: ("all sizes",), 2: ("small", "large"), 3: ("small", "medium", "large")}
PIXELS = 320  # the time to draw grows with the third power: 2 s per picture at 320, 6 s at 480


@dataclass(frozen=True)
class Picked:
    """A particle to show: its row, the size class that it represents, and the number of particles in that class."""

    row: Mapping[str, Any]
    size: str
    n_class: int


def picked(valid: pd.DataFrame) -> list[Picked]:
    """Choose the typical particle of each order and size class, by order, from small to large."""
    ordered = valid.loc[valid["ordering"].isin(ORDERS), ["ordering", *TYPICAL]]
    if ordered.empty:
        return []
    edges = statistics.bin_edges(ordered["n_atoms"], least=1, most=3)
    place = statistics.bin_of(ordered["n_atoms"], edges)
    classes = place + len(SIZES) * ordered["ordering"].map(ORDERS.index)
    found = []
    for number, index in sorted(statistics.typical(ordered, TYPICAL, classes).items()):
        sizes = ordered.loc[place == place[index], "n_atoms"]
        words = f"{SIZES[len(edges) - 1][place[index]]}, {sizes.min()} to {sizes.max()} atoms"
        found.append(Picked(dict(zip(valid.columns, valid.loc[index])), words, int((classes == number).sum())))
    return found


def scenes(particles: Sequence[Picked], folder: Path, species: tuple[str, str]) -> list[rendering.Scene]:
    """Read the last snapshot of each particle from the file of its md chunk.

    Raises:
        StoreError: a file is missing, damaged, or lacks the particle.
    """
    found = []
    for particle in particles:
        number, path = particle.row["particle"], folder / f"chunk-{chunk_name(particle.row['chunk'])}.extxyz"
        snapshots = by_particle(read_structures(path)).get(number)
        if snapshots is None:
            raise StoreError(
                f"{path}: lacks particle {number}, which structures.parquet lists; "
                f"delete the table and run snakemake again"
            )
        found.append(rendering.Scene.of(snapshots[-1], species))
    return found


def picture_section(valid: pd.DataFrame, species: tuple[str, str], folder: Path) -> dict[str, Any]:
    """Draw typical particles, whole and cut open, all at the same scale.

    Args:
        valid: Rows of the valid particles.
        species: First and second species.
        folder: Folder of the structure files.

    Raises:
        StoreError: a structure file is missing, damaged, or lacks its particle.
        SimulationError: LAMMPS cannot draw a picture.
    """
    particles = picked(valid)
    shown = scenes(particles, folder, species)
    field_A = 1.03 * max((scene.extent_A for scene in shown), default=1.0)
    lmp = load_lammps() if shown else None
    orders: dict[str, list[dict[str, Any]]] = {}
    for particle, scene in progress(list(zip(particles, shown)), len(shown), "pictures"):
        row = particle.row
        kind = WORDS[row["ordering"]]
        title = f"{kind}, {row['n_atoms']} atoms"
        whole, cut = (
            embed_pixels(rendering.render(lmp, each, field_A, PIXELS), f"{row['particle_id']}: {title}, {how}")
            for each, how in ((scene, "whole"), (scene.cut, "cut open"))
        )
        orders.setdefault(kind, []).append({"whole": whole, "cut": cut, "row": row, "picked": particle})
    return {
        "orders": orders,
        "bar_percent": 1000 / field_A,
        "colours": {element: rendering.COLOUR[element] for element in species},
    }
