"""Speed of the imaging engine, paired with abTEM's: `python benchmarks/hrtem_engine.py`, one idle core, ten minutes.

abTEM at its best: eager, float32, FFTW with measured plans, one thread, infinite projection, its integrator and with it
the scattering factors kept from particle to particle, the box cut to the particle's own height. Both get the same box,
and every one of its 20 slices holds atoms. Times are core seconds; ratios are those of neighbouring runs.

A GPU is measured by benchmarks/device.py.
"""

import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import abtem
import harness
import numpy as np
from abtem.inelastic.phonons import AtomsEnsemble
from abtem.integrals import ScatteringFactorProjectionIntegrals
from ase import Atoms
from harness import Figure
from imaging_cases import SEED, alloy, see, view

from alloyscope.contracts import Structure
from alloyscope.imaging import abtem_engine, multislice
from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.imaging.box import MARGIN_A, Slab, slabs
from alloyscope.imaging.gates import rms_difference
from alloyscope.imaging.multislice import Multislice
from alloyscope.microscope.arrays import CPU
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import rotation
from alloyscope.stages import hrtem
from alloyscope.store.atomic import checksum, write_text
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import to_text

EQUAL_AT = 256  # our grid in the comparison at equal error
FINEST = 1408
EARLIER_CORE_S = 0.38  # an image of 96² points and 15 slices by an earlier Fortran program, core seconds


class BestAbtem(AbtemEngine):
    """abTEM set up for speed."""

    def __init__(self, imaging: ImagingSection, device: str = "cpu", refine: int = 1) -> None:
        super().__init__(imaging, device, refine)
        self.integrator = ScatteringFactorProjectionIntegrals("lobato")
        self.settings = {**abtem_engine.SETTINGS, "fftw.planning_effort": "FFTW_MEASURE", "device": device}

    def _exit_wave(self, slab: Slab, incident: None = None) -> np.ndarray:
        cell = (slab.field_A, slab.field_A, slab.height_A)
        with abtem.config.set(self.settings):
            potential = abtem.Potential(
                Atoms(slab.elements, positions=slab.positions_A, cell=cell),
                gpts=self.size,
                slice_thickness=(slab.height_A / self.n_slices,) * self.n_slices,
                integrator=self.integrator,
            )
            wave = abtem.PlaneWave(energy=self.energy_eV).multislice(potential, lazy=False)
            return np.asarray(wave.to_cpu().array, np.complex64).T

    def ensemble(self, boxes: Sequence[Slab]) -> np.ndarray:
        """Exit waves of different particles as members of one of abTEM's ensembles, in a box that holds the tallest."""
        height_A = max(slab.height_A for slab in boxes)
        cell = (boxes[0].field_A, boxes[0].field_A, height_A)
        members = [Atoms(slab.elements, positions=slab.positions_A, cell=cell) for slab in boxes]
        with abtem.config.set(self.settings):
            potential = abtem.Potential(
                AtomsEnsemble(members, ensemble_mean=False, cell=members[0].cell),
                gpts=self.size,
                slice_thickness=(height_A / self.n_slices,) * self.n_slices,
                integrator=self.integrator,
            )
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "ensemble_mean=False")  # as wanted: one wave each
                waves = abtem.PlaneWave(energy=self.energy_eV).multislice(potential, lazy=False)
            return np.asarray(waves.to_cpu().array, np.complex64).swapaxes(1, 2)


def trimmed(structure: Structure, imaging: ImagingSection, number: int = 0) -> Slab:
    """The particle in one of many orientations, in a box of its own height."""
    turned = replace(view("tilted"), rotation=rotation(number, 0, SEED))
    slab = slabs([structure], turned, imaging)[0]
    spare_A = 0.005
    lifted = slab.positions_A - [0, 0, MARGIN_A - spare_A]
    return replace(slab, positions_A=lifted, height_A=slab.height_A - 2 * (MARGIN_A - spare_A))


def core_s(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Core seconds of both, run in turn, after one run each that makes tables and plans."""
    ours()
    theirs()
    pairs = [(core_s(ours), core_s(theirs)) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def speed(name: str, our_grid: int, their_grid: int, repeats: int, against: str) -> dict[str, Figure]:
    ours, theirs = ImagingSection(grid=our_grid), ImagingSection(grid=their_grid)
    engine, abtems = Multislice(ours, CPU), BestAbtem(theirs)
    slab = trimmed(alloy(), ours)
    assert len(set(slab.slices(ours.n_slices))) == ours.n_slices
    our_s, their_s = paired(lambda: engine.exit_waves([slab]), lambda: abtems.exit_waves([slab]), repeats)
    return {
        f"hrtem_speed_{name}": Figure.median([b / a for a, b in zip(our_s, their_s)], "", against),
        f"hrtem_wave_core_ms_ours_{our_grid}": Figure.median([1e3 * s for s in our_s], "ms", f"{our_grid}², 20 slices"),
        f"hrtem_wave_core_ms_abtem_{their_grid}": Figure.median(
            [1e3 * s for s in their_s], "ms", f"{their_grid}², 20 slices"
        ),
    }


def equal_accuracy(repeats: int, most: int) -> dict[str, Figure]:
    """Times at equal error of the camera image: abTEM's grid is the first, a multiple of 128, as good as ours."""
    structure, seen = alloy(), view("tilted")

    def image(engine: Callable[[ImagingSection], Multislice | AbtemEngine], grid: int) -> np.ndarray:
        imaging = ImagingSection(grid=grid)
        return see(engine(imaging), imaging, structure, seen).image

    def ours(imaging: ImagingSection) -> Multislice:
        return Multislice(imaging, CPU)

    truth = image(ours, FINEST)
    default = ImagingSection().grid
    error = {grid: rms_difference(image(ours, grid), truth) for grid in (EQUAL_AT, default)}
    against = f"our engine at {FINEST}², {len(structure.elements)} atoms, tilted, off-centre"
    figures = {"hrtem_error_of_beam": Figure(1e2 * error[default], "%", f"{default}²; {against}")}
    print(f"our error at {EQUAL_AT}²: {error[EQUAL_AT]:.3%}, at {default}²: {error[default]:.3%}", flush=True)
    for grid in range(EQUAL_AT, most + 1, 128):
        theirs = rms_difference(image(BestAbtem, grid), truth)
        print(f"abTEM's error at {grid}²: {theirs:.3%}", flush=True)
        if theirs <= error[EQUAL_AT]:
            against = f"abTEM on {grid}² ({theirs:.3%} of the beam), ours on {EQUAL_AT}² ({error[EQUAL_AT]:.3%})"
            return figures | speed("equal_accuracy", EQUAL_AT, grid, repeats, against)
    print(f"abTEM is not as good up to {most}²: no figure at equal error", flush=True)
    return figures


def write_structures(folder: Path, count: int) -> None:
    """An md chunk of the same particle over and over, each with its own number and so its own views."""
    frames = [replace(alloy(), info={"particle": n, "protocol": "gas_quench", "snapshot": 0}) for n in range(count)]
    name = manifest_name(0).replace(".json", ".extxyz")
    write_text(folder / name, to_text(frames))
    slots = tuple(Slot(n, True) for n in range(count))
    Manifest("md", 0, "0" * 16, slots, {name: checksum(folder / name)}, {}, {}).write(folder / manifest_name(0))


def run_chunk(
    folder: Path, count: int, device: Literal["cpu", "gpu"] = "cpu", clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """One imaging chunk through the step: seconds by part, as the clock counts them, peak of resident memory [MB]."""
    write_structures(folder / "structures", count)
    spent = {"engine": 0.0, "check": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start, engine = clock(), spent["engine"]
            result = function(*args, **kwargs)
            if name == "check":
                spent["engine"] = engine
            spent[name] += clock() - start
            return result

        return call

    multislice.Multislice.exit_waves = timed("engine", multislice.Multislice.exit_waves)
    hrtem.check_sample = timed("check", hrtem.check_sample)
    inputs = {"chunk": 0, "md_chunks": [0], "structures": folder / "structures", "capacity": count, "seed": SEED}
    sections = {
        "imaging": ImagingSection(device=device),
        "optics": OpticsSection(),
        "detector": DetectorSection(),
    }
    manifest = folder / "hrtem" / manifest_name(0)
    start = clock()
    hrtem.run(**inputs, **sections, manifest=manifest)
    total = clock() - start
    peak_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**spent, "total": total, "images": count * ImagingSection().views, "peak_MB": peak_MB}


def whole_chunk(count: int) -> dict[str, Figure]:
    """A chunk in a process of its own: structures in, shard written."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        ran = pool.submit(run_chunk, Path(folder), count).result()
    made = ran["total"] - ran["check"]
    against = f"{ran['images']:.0f} images of 459 atoms, {ImagingSection().grid}², 20 slices, without the check"
    return {
        "hrtem_images_per_core_s": Figure(ran["images"] / made, "1/s", against),
        "hrtem_engine_share": Figure(ran["engine"] / made, "", against),
        "hrtem_rest_share": Figure(1 - ran["engine"] / made, "", f"optics, noise, reading, writing; {against}"),
        "hrtem_check_core_s": Figure(ran["check"], "s", "one wave against abTEM on a twice finer grid"),
        "hrtem_peak_MB": Figure(ran["peak_MB"], "MB", f"the whole step, {against.replace('without', 'with')}"),
    }


def against_earlier(repeats: int) -> dict[str, Figure]:
    """The grid and slices of an earlier program: exit wave, lens and camera."""
    imaging = ImagingSection(pixels=96, grid=96, n_slices=15)
    engine, structure, seen = Multislice(imaging, CPU), alloy(), replace(view("tilted"), aperture_mrad=15.0)

    def image() -> None:
        see(engine, imaging, structure, seen)

    image()
    ratios = [EARLIER_CORE_S / core_s(image) for _ in range(repeats)]
    return {
        "hrtem_speed_96": Figure.median(
            ratios, "", f"{EARLIER_CORE_S} core-seconds of an earlier program [memory]; 96², 15 slices, 459 atoms"
        )
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=9, metavar="N", help="default: 9")
    parser.add_argument("--particles", type=int, default=40, metavar="N", help="of the whole chunk (default: 40)")
    parser.add_argument("--most", type=int, default=2048, metavar="N", help="abTEM's finest grid (default: 2048)")
    arguments = parser.parse_args()
    default = ImagingSection().grid
    figures = speed("same_grid", default, default, arguments.repeats, f"abTEM on the same {default}²")
    figures |= equal_accuracy(max(1, arguments.repeats // 3), arguments.most)
    figures |= whole_chunk(arguments.particles)
    figures |= against_earlier(arguments.repeats)
    harness.publish("hrtem_engine", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
