"""A released image set with known content: a disc's area is the number of atoms, its depth the composition.

The structures beside it are flat discs of as many atoms, one to a pixel. Core-shell particles are rings, Janus
particles half discs on one side deeper than on the other.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from alloyscope.contracts import Structure
from alloyscope.ids import image_id, rng_for
from alloyscope.store.atomic import write_json, write_text
from alloyscope.store.images import ShardShape, write_metadata, write_shard
from alloyscope.store.structures import to_text

PIXEL_A = 0.5
DOSE_e_per_A2 = 1000.0
SPLITS = ("train", "train", "train", "test", "validation")
VIEWS = 2


def disc(
    n_atoms: int, fraction: float, ordering: str, pixels: int, shift: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    y, x = np.indices((pixels, pixels)) - (pixels - 1) / 2 - shift[:, None, None]
    angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(n_atoms / np.pi)
    inside = np.hypot(x, y) < radius
    deeper = np.hypot(x, y) > 0.6 * radius if ordering == "core_shell" else x * np.cos(angle) + y * np.sin(angle) > 0
    return 1 - inside * (0.1 + 0.3 * fraction) * (1 + 0.5 * deeper)


def flat(particle: int, n_atoms: int, n_first: int) -> Structure:
    """A disc of atoms, the first species inside."""
    y, x = np.indices((64, 64)).reshape(2, -1) - 31.5
    nearest = np.argsort(np.hypot(x, y), kind="stable")[:n_atoms]
    positions_A = PIXEL_A * np.stack([x, y, np.zeros_like(x)], axis=1)[nearest]
    elements = ("Ag",) * n_first + ("Co",) * (n_atoms - n_first)
    return Structure(elements, positions_A, {"particle": particle})


def build(folder: Path, n_particles: int = 40, pixels: int = 32) -> Path:
    """Write the set into folder, its structures beside it; returns its dataset.json. The last particle is not valid."""
    shard = ShardShape(n_particles, VIEWS, pixels)
    clean, counts = np.full(shard.shape, np.nan, np.float16), np.zeros(shard.shape, np.uint16)
    rows, structures = [], []
    for particle in range(n_particles):
        rng = rng_for("synthetic", particle)
        n_atoms, fraction = int(rng.integers(60, 301)), float(rng.uniform(0.1, 0.9))
        ordering = ("core_shell", "janus")[int(rng.integers(2))]
        valid = particle < n_particles - 1
        n_first = round(fraction * n_atoms)
        structures.append(flat(particle, n_atoms, n_first))
        for view in range(VIEWS):
            image = particle * VIEWS + view
            shift = np.zeros(2)
            if valid:
                shift = -rng.uniform(-2, 2, 2)
                clean[image] = disc(n_atoms, fraction, ordering, pixels, shift, rng)
                counts[image] = rng.poisson(clean[image].astype(float) * DOSE_e_per_A2 * PIXEL_A**2)
            rows.append(
                {
                    "image": image,
                    "image_id": image_id(particle, view),
                    "valid": valid,
                    "particle": particle,
                    "group": particle,
                    "view": view,
                    "dose_e_per_A2": DOSE_e_per_A2,
                    "defocus_A": 10.0 * (image % 7 - 3),
                    "C12_A": 0.0,
                    "phi12_rad": 0.0,
                    "mtf_c1": 0.0,
                    "mtf_c2": 0.35,
                    "mtf_c3": 2.5,
                    "split": SPLITS[particle % len(SPLITS)],
                    "ordering": ordering,
                    "n_atoms": n_atoms,
                    "n_first": n_first,
                    "n_second": n_atoms - n_first,
                    "fraction_first": fraction,
                    "rotation_x": 0.0,
                    "rotation_y": 0.0,
                    "rotation_z": 0.0,
                    "rotation_w": 1.0,
                    "shift_y_A": PIXEL_A * shift[0],
                    "shift_x_A": PIXEL_A * shift[1],
                }
            )
    write_text(beside(folder) / "chunk-000000.extxyz", to_text(structures))
    write_shard(folder, 0, shard, {"clean": clean, "counts": counts})
    write_metadata(folder, 1, shard, {})
    pd.DataFrame(rows).to_parquet(folder / "images.parquet")
    account = {"digest": "synthetic", "pixel_size_A": PIXEL_A, "n_images": len(rows), "gain": 1.0, "offset": 0.0}
    write_json(folder / "dataset.json", account)
    return folder / "dataset.json"


def beside(images: Path) -> Path:
    """Folder of the structures of a set."""
    return images.parent / "structures"


def alter(dataset: Path, **columns: object) -> None:
    """Replace whole columns of the image index."""
    path = dataset.parent / "images.parquet"
    pd.read_parquet(path).assign(**columns).to_parquet(path)
