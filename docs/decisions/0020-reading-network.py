"""Numbers of 0020-reading-network.md: python docs/decisions/0020-reading-network.py results/study [--visits N] NAME …

Each NAME is one of CASES. A training of so many visits on the split `train` of a released image set, at the best speed
of one core; scores of the first views of the test particles, averaged over the symmetries of the square.
"""

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from alloyscope.learn import model
from alloyscope.learn.data import ImageData, read_released
from alloyscope.learn.maps import projected_maps, read_particles
from alloyscope.learn.predict import Reader
from alloyscope.learn.scores import further_scores
from alloyscope.learn.task import CELL_PIXELS
from alloyscope.learn.tasks import reading
from alloyscope.learn.tasks.reading import Reading
from alloyscope.microscope.settings import DetectorSection
from alloyscope.stages.train import make_card

VIEWS = 10  # of each test particle
SPECIES = ("Ag", "Co")
CASES: dict[str, dict[str, Any]] = {
    "adamw": {"muon": False, "maps": False},
    "adamw-maps": {"muon": False},
    "muon": {"maps": False},
    "muon-maps": {},
    "crop": {"crop_pixels": 96, "full_share": 0.25},
    "deeper": {"crop_pixels": 96, "full_share": 0.25, "blocks": (1, 2, 2)},
    "wider": {"crop_pixels": 96, "full_share": 0.25, "width": 48},
}


def optimiser(network: torch.nn.Module, muon: bool) -> torch.optim.Optimizer:
    if not muon:
        return torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    return model.optimiser(network.parameters(), 1e-3)


def trained(data: ImageData, learner: model.Learner, muon: bool) -> float:
    """Train; returns visits a second."""
    steps = data.schedule.steps
    stepping = optimiser(learner.network, muon)
    schedule = model.schedule(stepping, steps)
    started = time.perf_counter()
    batches = (raw for epoch in range(data.schedule.epochs) for raw in epoch_of(data, epoch))
    for raw in batches:
        batch = learner.on_after_batch_transfer(raw, 0)
        loss = learner.training_step(batch, 0)
        stepping.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.network.parameters(), 5.0)
        stepping.step()
        schedule.step()
    return steps * data.schedule.batch / (time.perf_counter() - started)


def epoch_of(data: ImageData, epoch: int) -> Any:
    loader = data.loader("train")
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--visits", type=int, default=48_000)
    parser.add_argument("names", nargs="+", choices=CASES, metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    released = read_released(arguments.campaign / "hrtem" / "dataset.json")
    particles = read_particles(arguments.campaign / "structures")
    pixels, detector = released.counts.shape[-1], DetectorSection()
    field_A = pixels * released.pixel_size_A
    maps = {"train": projected_maps(released.rows("train"), particles, SPECIES, field_A, pixels // CELL_PIXELS)}
    table = released.table
    kept = (table["split"] != "test") | (table["view"] < VIEWS)
    tested = replace(released, table=table[kept].reset_index(drop=True))
    weight = reading.MAPS_WEIGHT
    for name in arguments.names:
        case = dict(CASES[name])
        muon = case.pop("muon", True)
        reading.MAPS_WEIGHT = weight if case.pop("maps", True) else 0.0
        task = Reading(visits=arguments.visits, **case)
        data = ImageData(released, task, detector, device="cpu", maps=maps)  # type: ignore[arg-type]
        learner = model.new_learner(make_card(0, task, detector, data, released))
        rate = trained(data, learner, muon)
        shown = ImageData(tested, task, detector, device="cpu")
        read = Reader(task, learner.network, learner.scale).read(shown.batches("test"), "cpu")
        rows = tested.rows("test").reset_index(drop=True)
        predictions = rows[["particle", "view", "dose_e_per_A2"]].assign(**task.table(rows, read))
        scores = task.score(predictions, released.rows("train")) | further_scores(predictions)
        five = scores["views"]["5"]
        weights = sum(math.prod(each.shape) for each in learner.network.parameters())
        print(
            f"{name}: {weights / 1e3:.0f} k weights, {rate:.0f} visits/s; "
            f"order {100 * scores['balanced_accuracy']:.1f} %, "
            f"bright {100 * scores['bright_accuracy']:.1f} %, size {scores['size_mae_atoms']:.1f} atoms, "
            f"composition {scores['composition_mae']:.4f}; five views {100 * five['balanced_accuracy']:.1f} %, "
            f"{five['size_mae_atoms']:.1f} atoms, {five['composition_mae']:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
