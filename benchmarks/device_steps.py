"""The steps of benchmarks/device.py; each loads what it needs and no more.

Waves a second are counted over different particles and orientations, the tables of the grid made before. The share of
the bandwidth is what the engine's reads and writes come to, each once through its arrays, against a plain copy.
"""

import argparse
import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
from device_images import images, images_against_abtem
from device_plan import CARD, REHEARSAL, Figures, Plan, backends, copy_B_per_s, times_s, wait_for_torch
from harness import Figure

GOALS = {"device_waves_per_s_256": 5000.0, "device_speed_over_abtem_256": 50.0}  # on an H200


def card(plan: Plan) -> Figures:
    """What the device gives anyone: copies, transforms, matrix products."""
    import torch

    figures = {
        "device_copy_GB_per_s": Figure.median(
            [rate / 1e9 for rate in copy_B_per_s(plan)], "GB/s", f"read and written, {plan.copy_bytes / 2**20:.0f} MiB"
        )
    }
    for grid in plan.grids:
        waves = torch.ones(plan.batch, grid, grid, dtype=torch.complex64, device=plan.device)
        rates = [plan.batch / s for s in times_s(partial(torch.fft.fft2, waves), plan.device, plan.repeats)]
        figures[f"device_fft2_per_s_{grid}"] = Figure.median(rates, "1/s", f"complex64, batches of {plan.batch}, torch")
    size = 8192 if plan.device == "cuda" else 512
    factor = torch.randn(size, size, device=plan.device).to(torch.bfloat16)
    rates = [2e-12 * size**3 / s for s in times_s(lambda: factor @ factor, plan.device, plan.repeats)]
    return figures | {"device_matmul_TFLOP_per_s": Figure.median(rates, "TFLOP/s", f"bfloat16, {size}², torch")}


def network(plan: Plan) -> Figures:
    """Training steps of both networks on images that lie on the device: the ceiling of every training."""
    import torch

    from alloyscope.learn.model import optimiser
    from alloyscope.learn.tasks import TASKS

    figures, batch = {}, 64 if plan.device == "cuda" else 2
    images = torch.rand(batch, 1, 128, 128, device=plan.device)
    electrons = torch.full((batch,), 100.0, device=plan.device)
    for name in ("reading", "denoising"):
        for precision, kept in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            net = TASKS[name](width=32).network().to(plan.device)
            optimizer = optimiser(net.parameters(), 1e-3)

            def step(net: Any = net, optimizer: Any = optimizer, kept: Any = kept) -> None:
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(plan.device, kept, enabled=kept is not torch.float32):
                    output = net(images, electrons)
                output.float().square().mean().backward()
                optimizer.step()

            rates = [batch / s for s in times_s(step, plan.device, plan.repeats)]
            figures[f"device_{name}_network_images_per_s_{precision}"] = Figure.median(
                rates, "1/s", f"forward, backward and step, width 32, 128², batches of {batch}"
            )
    return figures


def boxes(grid: int, count: int) -> tuple[Any, list[Any]]:
    """One particle in many orientations, every slice of every box with atoms."""
    from hrtem_engine import trimmed
    from imaging_cases import alloy

    from alloyscope.microscope.settings import ImagingSection

    imaging = ImagingSection(grid=grid)
    return imaging, [trimmed(alloy(), imaging, number) for number in range(count)]


def agreement(plan: Plan) -> Figures:
    """Exit waves of every backend against NumPy's, as a share of the scattered wave (rms)."""
    from alloyscope.imaging.multislice import Multislice
    from alloyscope.microscope.arrays import CPU

    imaging, slabs = boxes(plan.grids[0], 2)
    expected = Multislice(imaging, CPU).exit_waves(slabs[:1])[0]
    figures = {}
    for name, backend in (pair for pair in backends(plan) if pair[1] is not CPU):
        found = backend.to_numpy(Multislice(imaging, backend).exit_waves(slabs))[0]
        share = float(np.linalg.norm(found - expected) / np.linalg.norm(expected - 1))
        if not share < 1e-4:  # float32: 3e-6 between NumPy and torch on a CPU
            raise SystemExit(f"{name}: exit waves differ from NumPy's by {share:.2g} of the scattered wave")
        figures[f"device_difference_{name}"] = Figure(share, "", f"{plan.grids[0]}², 459 atoms, against NumPy")
    return figures


def traffic_bytes(size: int, species: int) -> float:
    """Reads and writes of one slice, each operation once through its arrays; half spectra count half, the band ⅔."""
    half, band, whole = 4.0, 16 / 3, 8.0  # bytes per point of the grid
    potential = species * (half + half + 2 * half) + (species - 1) * 6 * half
    potential += 3 * (2 * half + 2 * half)  # two transforms and the transposition, phase and amplitude
    flight = 2 * 2 * whole + 2 * 2 * band + 2 * 2 * band + 3 * band
    return (potential + 3 * whole + flight) * size**2


def waves(plan: Plan) -> Figures:
    """Exit waves a second of each backend and grid, batched over different boxes."""
    from alloyscope.imaging.multislice import Multislice

    bandwidth, figures = max(copy_B_per_s(plan)), {}
    for grid, (place, (name, backend)) in itertools.product(plan.grids, enumerate(backends(plan))):
        imaging, slabs = boxes(grid, plan.batch)
        engine = Multislice(imaging, backend)
        groups = [slabs[first : first + backend.batch] for first in range(0, len(slabs), backend.batch)]

        def all_waves(engine: Any = engine, backend: Any = backend, groups: Any = groups) -> None:
            for group in groups:
                backend.to_numpy(engine.exit_waves(group).reshape(-1)[:1])  # one number, to wait for the rest

        rates = [len(slabs) / s for s in times_s(all_waves, plan.device, plan.repeats)]
        moved = slabs[0].n_slices * traffic_bytes(grid, species=2)
        against = f"{grid}², {slabs[0].n_slices} slices, 459 atoms, batches of {backend.batch}, {name}"
        suffix = f"{grid}" if place == 0 else f"{grid}_{name}"
        rate = Figure.median(rates, "1/s", against)
        figures[f"device_waves_per_s_{suffix}"] = rate
        figures[f"device_waves_share_of_copy_{suffix}"] = Figure(
            rate.value * moved / bandwidth, "", f"{moved / 1e6:.0f} MB a wave, {bandwidth / 1e9:.0f} GB/s; {against}"
        )
    return figures


def against_abtem(plan: Plan) -> Figures:
    """Exit waves, one structure at a time and as one ensemble, and images a second against abTEM on the same device."""
    from hrtem_engine import BestAbtem

    from alloyscope.imaging.multislice import Multislice

    (name, backend), figures = backends(plan)[0], {}
    if plan.device == "cuda" and name != "cupy":
        raise SystemExit("abTEM reaches a GPU through CuPy alone, and CuPy does not work here")
    for grid in plan.grids:
        imaging, slabs = boxes(grid, max(plan.batch, plan.abtem_waves))
        engine, theirs = Multislice(imaging, backend), BestAbtem(imaging, "gpu" if plan.device == "cuda" else "cpu")
        few = slabs[: plan.abtem_waves]
        own = slabs[: backend.batch]

        def ours(engine: Any = engine, own: Any = own) -> None:
            backend.to_numpy(engine.exit_waves(own).reshape(-1)[:1])

        ours_s = min(times_s(ours, "cpu", plan.repeats)) / len(own)
        for form, action in (("", theirs.exit_waves), ("_ensemble", theirs.ensemble)):
            ratios = [s / len(few) / ours_s for s in times_s(partial(action, few), "cpu", plan.repeats)]
            how = f"as one ensemble of {len(few)}" if form else "one structure at a time"
            figures[f"device_speed_over_abtem{form}_{grid}"] = Figure.median(
                ratios, "", f"abTEM on the same device, {how}; {grid}², {slabs[0].n_slices} slices, {name}"
            )
    return figures | images_against_abtem(plan, backend)


def imaging(plan: Plan) -> Figures:
    """The whole step hrtem on a chunk: structures in, shard and manifest written, the check against abTEM beside it."""
    from hrtem_engine import run_chunk

    with tempfile.TemporaryDirectory() as folder:
        ran = run_chunk(Path(folder), plan.particles, "gpu" if plan.device == "cuda" else "cpu", time.perf_counter)
    made_s = ran["total"] - ran["check"]
    against = f"{ran['images']:.0f} images of 60 to 1000 atoms, default grid, without the check"
    return {
        "device_images_per_s": Figure(ran["images"] / made_s, "1/s", against),
        "device_images_engine_share": Figure(ran["engine"] / made_s, "", f"of the time; {against}"),
        "device_images_check_s": Figure(ran["check"], "s", "one wave against abTEM on a twice finer grid"),
    }


def training(plan: Plan) -> Figures:
    """Training of both tasks by their own loops, images read from a store; the share of waiting for data."""
    from pytorch_lightning import Callback

    from alloyscope.learn.data import ImageData, read_released
    from alloyscope.learn.model import Card, make_trainer, new_learner, quiet_lightning
    from alloyscope.learn.task import CELL_PIXELS
    from alloyscope.learn.tasks import TASKS
    from alloyscope.microscope.settings import DetectorSection

    class Clock(Callback):
        """Times of the batches after the first: when each was asked for, came, and was done."""

        def __init__(self) -> None:
            self.waited, self.worked, self.asked = 0.0, 0.0, 0.0

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            self.came = time.perf_counter()
            self.waited += self.came - self.asked if index > 1 else 0.0

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            wait_for_torch(plan.device)
            self.asked = time.perf_counter()
            self.worked += self.asked - self.came if index > 1 else 0.0

    figures, detector = {}, DetectorSection()
    with tempfile.TemporaryDirectory() as folder:
        released = read_released(released_set(Path(folder), plan.images))
        maps = np.ones((len(released.rows("train")), 2, 128 // CELL_PIXELS, 128 // CELL_PIXELS), np.float16)
        for task in ("reading", "denoising"):
            settings = TASKS[task](epochs=1, batch_size=64 if plan.device == "cuda" else 8)
            data = ImageData(released, settings, detector, maps={"train": maps} if "maps" in settings.reads else None)
            made = Card(task, 0, settings.model_dump(), detector.model_dump(), (5.0, 0.5), (1.0, 0.3), (), "device")
            clock = Clock()
            trainer = make_trainer(max_epochs=1, callbacks=[clock], enable_checkpointing=False, limit_val_batches=0)
            with quiet_lightning():
                trainer.fit(new_learner(made), datamodule=data)
            seen = settings.batch_size * (trainer.global_step - 2)
            took = clock.waited + clock.worked
            against = f"{task}, width {settings.width}, 128², batches of {settings.batch_size}, noise drawn anew"
            figures[f"device_{task}_images_per_s"] = Figure(seen / took, "1/s", against)
            figures[f"device_{task}_wait_share"] = Figure(clock.waited / took, "", f"waiting for data; {against}")
    return figures


def released_set(folder: Path, images: int) -> Path:
    """A released set of 128² pixels: discs of random depth, counts of dose 1000; its dataset.json."""
    import pandas as pd

    from alloyscope.ids import image_id
    from alloyscope.store.atomic import write_json
    from alloyscope.store.images import ShardShape, write_metadata, write_shard

    shard, rng = ShardShape(images, 1, 128), np.random.default_rng(0)
    y, x = np.indices((128, 128)) - 63.5
    depth = rng.uniform(0.02, 0.3, (images, 1, 1))
    clean = (1 - depth * (np.hypot(x, y) < 30)).astype(np.float16)
    counts = rng.poisson(clean.astype(np.float32) * 189).astype(np.uint16)
    write_shard(folder, 0, shard, {"clean": clean, "counts": counts})
    write_metadata(folder, 1, shard, {})
    number = np.arange(images)
    columns = {
        "image": number,
        "image_id": [image_id(particle, 0) for particle in number.tolist()],
        "valid": True,
        "particle": number,
        "group": number,
        "view": 0,
        "dose_e_per_A2": 1000.0,
        "mtf_c1": 0.0,
        "mtf_c2": 0.35,
        "mtf_c3": 2.5,
        "split": np.where(number % 8, "train", "validation"),
        "ordering": np.where(number % 2, "janus", "core_shell"),
        "n_atoms": 100 + number % 900,
        "fraction_first": 0.5,
    }
    pd.DataFrame(columns).to_parquet(folder / "images.parquet")
    write_json(folder / "dataset.json", {"digest": "device", "pixel_size_A": 0.43478})
    return folder / "dataset.json"


STEPS: dict[str, Callable[[Plan], Figures]] = {
    "card": card,
    "network": network,
    "backends": agreement,
    "waves": waves,
    "images": images,
    "against_abtem": against_abtem,
    "imaging": imaging,
    "training": training,
}


def device_facts(device: str) -> dict[str, str]:
    """Card, driver and the versions that count on it."""
    import torch

    if device == "cpu":
        return {"card": "none: a rehearsal on a CPU"}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    facts = {"card": torch.cuda.get_device_name(), "driver": driver, "torch_cuda": str(torch.version.cuda)}
    try:
        import cupy
    except ImportError:
        return facts | {"cupy": "absent"}
    return facts | {"cupy": f"{cupy.__version__}, CUDA {cupy.cuda.runtime.runtimeGetVersion()}"}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(words)
    plan = REHEARSAL if arguments.rehearse else CARD
    figures = STEPS[arguments.step](plan)
    for name in figures.keys() & GOALS.keys():
        print(f"{name}: {figures[name].value:.0f}, goal {GOALS[name]:.0f} on an H200")
    command = f"python benchmarks/device.py --only {arguments.step}{' --rehearse' * arguments.rehearse}"
    harness.publish(arguments.step, figures, arguments.out, command=command, device=device_facts(plan.device))


if __name__ == "__main__":
    harness.run(main)
