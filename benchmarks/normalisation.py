"""What it costs a network not to know the dose (docs/decisions/0013): `python benchmarks/normalisation.py`.

Images of the reference particles, preset `corrected`, three views each and, with --film, a fourth on a film. The
reading network is trained on images in units of the known dose, with and without errors of gain and offset, and in
units of their own background; each is tested on the same images, as stored and as a camera would give them whose gain
or offset is wrong. About an hour on one core; a second call goes on where the first was ended.
"""

import gzip
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import harness
import numpy as np
import pandas as pd
import torch
from ase.io import iread
from harness import Figure

from alloyscope.campaign.particles import splits_of
from alloyscope.config.model import SplitsSection
from alloyscope.contracts import Structure
from alloyscope.ids import image_id, rng_for
from alloyscope.imaging.exposure import exposed
from alloyscope.imaging.hrtem import imager_for
from alloyscope.learn import data, preparation
from alloyscope.learn.background import Backgrounds, background, backgrounds
from alloyscope.learn.model import Learner, trained_learner
from alloyscope.learn.predict import Reader
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection, FilmSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.progress import progress
from alloyscope.stages import train
from alloyscope.store.atomic import write_json, write_text
from alloyscope.store.checkpoints import load_checkpoint
from alloyscope.store.images import CLEAN, COUNTS, ShardShape, shard_name, views_table, write_metadata, write_shard
from alloyscope.store.structures import read_film, to_text
from alloyscope.structure.order import centre_distance_A
from alloyscope.structure.settings import LabelsSection
from alloyscope.structure.shape import Nanoparticle

SEED = 41
SPECIES = ("Ag", "Co")
STRUCTURES = Path("data/agco-reference/part-001.extxyz.gz")
SHARD = 300  # images
IMAGING = ImagingSection(grid=256, n_slices=10)
ON_FILM = IMAGING.model_copy(update={"film": FilmSection(share=1.0)})
DETECTOR = DetectorSection()
EXACT = {"gain_error": 1.0, "offset_error": 0.0}
Seen = Callable[[torch.Tensor], Backgrounds]


def particles(path: Path, count: int) -> list[Structure]:
    text = gzip.decompress(path.read_bytes()).decode()  # ASE would unpack the file anew for each frame
    frames = itertools.islice(iread(StringIO(text), index=":", format="extxyz"), count)
    return [Structure(tuple(atoms.symbols), atoms.positions - atoms.positions.mean(axis=0)) for atoms in frames]


def labels(structures: Sequence[Structure]) -> pd.DataFrame:
    """One row per particle, as the stage `structures` labels them."""
    shapes = [Nanoparticle.of(structure, SPECIES) for structure in structures]
    ratios = np.array([centre_distance_A(shape) / shape.radius_of_gyration_A for shape in shapes])
    limit = LabelsSection().d_com_over_Rg_limit
    return pd.DataFrame(
        {
            "group": np.arange(len(shapes)),
            "split": splits_of(np.arange(len(shapes)), SplitsSection(calibration=0.0, test=0.2), SEED),
            "ordering": np.where(ratios < limit, "core_shell", "janus"),
            "n_atoms": [len(shape.first) for shape in shapes],
            "fraction_first": [shape.first.mean() for shape in shapes],
        }
    )


def build(folder: Path, structures: Sequence[Structure], film: Path | None) -> Path:
    """Write the image set into folder, a shard at a time, and the structures beside it; returns its dataset.json."""
    optics = OpticsSection()
    views = [drawn_view(p, v, IMAGING, optics, DETECTOR, SEED) for p in range(len(structures)) for v in range(3)]
    if film:
        views += [drawn_view(p, 3, ON_FILM, optics, DETECTOR, SEED) for p in range(len(structures))]
    imager = imager_for(IMAGING, film=read_film(film) if film else None)
    shard = ShardShape(SHARD, 1, IMAGING.pixels)
    shards = [views[start : start + SHARD] for start in range(0, len(views), SHARD)]
    for number, seen in enumerate(shards):
        if (folder / shard_name(COUNTS, number)).exists():
            continue
        arrays = shard.empty()
        images = imager.images([([structures[view.particle]], view) for view in seen])
        for place, (image, view) in enumerate(zip(progress(images, len(seen), f"shard {number}"), seen)):
            arrays[CLEAN][place], arrays[COUNTS][place] = image, exposed(image, view, IMAGING, DETECTOR, SEED)
        write_shard(folder, number, shard, arrays)
    write_metadata(folder, len(shards), shard, {})
    table = views_table(views).assign(image=range(len(views)), valid=True)
    table["image_id"] = [image_id(view.particle, view.view) for view in views]
    table = table.merge(labels(structures), left_on="particle", right_index=True, how="left")
    table.to_parquet(folder / "images.parquet")
    numbered = [replace(each, info={"particle": number}) for number, each in enumerate(structures)]
    write_text(folder.parent / "structures" / "chunk-000000.extxyz", to_text(numbered))
    account = folder / "dataset.json"
    write_json(account, {"digest": f"{len(views)} images", "pixel_size_A": IMAGING.pixel_size_A})
    return account


@dataclass(frozen=True)
class Wrong:
    """Stored counts as a camera of another gain and offset gives them; `vacuum` holds the counts of each row."""

    counts: Any
    vacuum: np.ndarray
    gain: float
    offset: float

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.counts.shape)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        counts = self.gain * self.counts.read(rows) + self.offset * self.vacuum[rows, None, None]
        return counts.astype(np.float32)


def without_electrons(images: torch.Tensor) -> Backgrounds:
    """The same number of electrons for every image, so that the network has the image alone."""
    levels = backgrounds(images).levels
    return Backgrounds(levels, levels / 200**0.5)


LEVEL_IMAGES = 200
DOSES_e_per_A2 = (100, 300, 1000, 3000, 10_000)
WINDOWS = {"whole": slice(None), "corner": slice(40, None)}  # the particle in the middle; in a corner of 88² pixels
VARIANTS: dict[str, tuple[dict[str, Any], Seen]] = {  # settings of the task, how an image is divided by its background
    "dose": ({"normalised_by": "dose", **EXACT}, backgrounds),
    "dose_with_errors": ({"normalised_by": "dose"}, backgrounds),
    "background": ({}, backgrounds),
    "background_without_electrons": ({}, without_electrons),
}
CONDITIONS = {  # factor on the gain, or the dose; counts added, as a share of the vacuum's
    "as_stored": (1.0, 0.0),
    "gain_1.005": (1.005, 0.0),
    "gain_1.05": (1.05, 0.0),
    "gain_1.5": (1.5, 0.0),
    "offset_0.02": (1.0, 0.02),
    "offset_0.1": (1.0, 0.1),
}


def predictions(learner: Learner, released: data.Released) -> pd.DataFrame:
    """The table of test images as the stage `evaluate` writes it."""
    images = data.ImageData(released, learner.task, DETECTOR, device="cpu")
    tested = released.rows("test").reset_index(drop=True)
    arrays = Reader(learner.task, learner.network, learner.scale, symmetries=1).read(images.batches("test"), "cpu")
    assert np.array_equal(arrays.pop("row"), tested["image"])
    return tested[["particle", "film_thickness_A"]].assign(**learner.task.table(tested, arrays))


def measured(variant: str, folder: Path, released: data.Released) -> dict[str, Figure]:
    """Scores of one network on the test images, under every condition."""
    learner = trained_learner(load_checkpoint(folder / train.BEST))
    training = released.rows("train")
    vacuum = np.zeros(released.counts.shape[0])
    vacuum[released.table["image"]] = released.table["dose_e_per_A2"] * released.pixel_size_A**2
    figures = {}
    for condition, (gain, offset) in CONDITIONS.items():
        found = predictions(learner, replace(released, counts=Wrong(released.counts, vacuum, gain, offset)))
        for ground, group in found.groupby(found["film_thickness_A"] > 0):
            scores = learner.task.score(group, training)
            where = "film" if ground else "vacuum"
            for score, unit in (("size_mae_atoms", "atoms"), ("composition_mae", ""), ("accuracy", "")):
                figures[f"normalisation_{variant}_{condition}_{where}_{score}"] = Figure(
                    scores[score],
                    unit,
                    f"{condition.replace('_', ' ')}, {where}; {len(group)} test images",
                    scores[f"{score}_low"],
                    scores[f"{score}_high"],
                    len(group),
                )
    return figures


def levels(released: data.Released) -> dict[str, Figure]:
    """Error of the vacuum's level in fresh noise: the background, and the means of the frame and of the image."""
    rows = released.table.loc[released.table["film_thickness_A"] == 0, "image"].to_numpy()[:LEVEL_IMAGES]
    images = released.clean.read(rows).astype(np.float64)
    figures = {}
    for (window, part), dose in itertools.product(WINDOWS.items(), DOSES_e_per_A2):
        electrons = dose * released.pixel_size_A**2
        found: dict[str, list[float]] = {"background": [], "frame": [], "mean": []}
        for row, image in zip(rows, images):
            counts = rng_for("levels", SEED, dose, int(row)).poisson(electrons * image[part, part])
            width = len(counts) // 8
            inside = counts[width:-width, width:-width]
            found["background"].append(background(counts).level)
            found["frame"].append((counts.sum() - inside.sum()) / (counts.size - inside.size))
            found["mean"].append(counts.mean())
        for name, values in found.items():
            errors = 100 * (np.array(values) / electrons - 1)
            figures[f"level_error_{name}_{window}_{dose}"] = Figure(
                float(np.sqrt(np.mean(errors**2))),
                "%",
                f"vacuum; rms, {window}, {dose} e/Å², mean {errors.mean():+.2f} %",
                runs=len(rows),
            )
    return figures


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--particles", type=int, default=900, metavar="N")
    parser.add_argument("--film", type=Path, metavar="FILE", help="block of carbon: `alloyscope film --help`")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="networks (default: all)")
    parser.add_argument("--set", type=Path, default=Path("results/normalisation"), metavar="FOLDER")
    arguments = parser.parse_args()
    account = arguments.set / "hrtem" / "dataset.json"
    if not account.exists():
        build(account.parent, particles(STRUCTURES, arguments.particles), arguments.film)
    figures = levels(data.read_released(account))
    for variant in arguments.only:
        changes, seen = VARIANTS[variant]
        settings = TASKS["reading"](epochs=arguments.epochs, batch_size=32, learning_rate=2e-3, width=16, **changes)
        folder = arguments.set / "training" / variant
        with patch.object(preparation, "backgrounds", seen):
            train.run(
                task="reading",
                seed=0,
                dataset=account,
                settings=settings.model_dump(mode="json"),
                detector=DETECTOR,
                loader_workers=0,
                structures=arguments.set / "structures",
                species=SPECIES,
                out=folder,
            )
            figures |= measured(variant, folder, data.read_released(account))
    harness.publish("normalisation", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
