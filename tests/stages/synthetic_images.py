"""A released image set with known content: a disc's area is the number of atoms, its depth the composition.

Core-shell particles are rings, Janus particles half discs on one side deeper than on the other.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from alloyscope.ids import image_id, rng_for
from alloyscope.store.atomic import write_json
from alloyscope.store.images import ShardShape, write_metadata, write_shard

PIXEL_A = 0.5
DOSE_e_per_A2 = 1000.0
SPLITS = ("train", "train", "train", "test", "validation")
VIEWS = 2


def disc(n_atoms: int, fraction: float, ordering: str, pixels: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((pixels, pixels)) - (pixels - 1) / 2 + rng.uniform(-2, 2, (2, 1, 1))
    angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(n_atoms / np.pi)
    inside = np.hypot(x, y) < radius
    deeper = np.hypot(x, y) > 0.6 * radius if ordering == "core_shell" else x * np.cos(angle) + y * np.sin(angle) > 0
    return 1 - inside * (0.1 + 0.3 * fraction) * (1 + 0.5 * deeper)


def build(folder: Path, n_particles: int = 40, pixels: int = 32) -> Path:
    """Write the set into folder; returns its dataset.json. The last particle is not valid."""
    shard = ShardShape(n_particles, VIEWS, pixels)
    clean, counts = np.full(shard.shape, np.nan, np.float16), np.zeros(shard.shape, np.uint16)
    rows = []
    for particle in range(n_particles):
        rng = rng_for("synthetic", particle)
        n_atoms, fraction = int(rng.integers(60, 301)), float(rng.uniform(0.1, 0.9))
        ordering = ("core_shell", "janus")[int(rng.integers(2))]
        valid = particle < n_particles - 1
        for view in range(VIEWS):
            image = particle * VIEWS + view
            if valid:
                clean[image] = disc(n_atoms, fraction, ordering, pixels, rng)
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
                    "mtf_c1": 0.0,
                    "mtf_c2": 0.35,
                    "mtf_c3": 2.5,
                    "split": SPLITS[particle % len(SPLITS)],
                    "ordering": ordering,
                    "n_atoms": n_atoms,
                    "n_first": round(fraction * n_atoms),
                    "n_second": n_atoms - round(fraction * n_atoms),
                    "fraction_first": fraction,
                }
            )
    write_shard(folder, 0, shard, {"clean": clean, "counts": counts})
    write_metadata(folder, 1, shard, {})
    pd.DataFrame(rows).to_parquet(folder / "images.parquet")
    account = {"digest": "synthetic", "pixel_size_A": PIXEL_A, "n_images": len(rows), "gain": 1.0, "offset": 0.0}
    write_json(folder / "dataset.json", account)
    return folder / "dataset.json"


def alter(dataset: Path, **columns: object) -> None:
    """Replace whole columns of the image index."""
    path = dataset.parent / "images.parquet"
    pd.read_parquet(path).assign(**columns).to_parquet(path)
