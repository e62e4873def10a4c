"""Speed of imaging, paired with abTEM's: `python benchmarks/hrtem_engine.py`, one idle core, half an hour.

Particles of data/agco-reference over the whole range of sizes, in drawn orientations under drawn optics. Ours is the
expected camera image: exit wave, partially coherent lens, camera. abTEM's is at its best: eager, float32, FFTW with
measured plans, one thread, infinite projection, its integrator and with it the scattering factors kept from particle to
particle; its lens is its own, one image with envelopes on the wave, and it has no camera. Times are core seconds; the
ratios are of one particle each, of the medians of runs made in turn.

- field of view: abTEM as its user would run it: the field of view on the same grid, 20 slices.
- same grid: abTEM in our own square of the particle, on the same grid, with the same slices.
- equal accuracy: the cheapest of abTEM's grids and slices whose image is as near to abTEM's on 2048² points with slices
  of ½ Å as ours is, for three sizes; under plain optics, so that abTEM's coherence does not count as an error.

A GPU is measured by benchmarks/device.py.
"""

import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import abtem
import harness
import numpy as np
from abtem.inelastic.phonons import AtomsEnsemble
from abtem.integrals import ScatteringFactorProjectionIntegrals
from ase import Atoms
from harness import Figure
from imaging_cases import SEED, alloy, particles, see, view

from alloyscope.contracts import Film, Structure, View
from alloyscope.imaging import abtem_engine
from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.imaging.box import Slab, slabs
from alloyscope.imaging.gates import rms_difference, share_of_contrast
from alloyscope.imaging.hrtem import Imager, imager_for, plain_optics
from alloyscope.imaging.multislice import Multislice
from alloyscope.imaging.reference import coefficients_of
from alloyscope.microscope.arrays import CPU
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.optics import Lens
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view, rotation
from alloyscope.stages import hrtem
from alloyscope.store.atomic import checksum, write_text
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import read_film, to_text

USUAL_SLICES = 20  # of abTEM's user
TRUTH_GRID, TRUTH_SLICE_A = 2048, 0.5
COARSER = (512, 640, 768, 896, 1024, 1280, 1536)  # abTEM's grids at equal accuracy
THINNER_A = (2.0, 1.0, 0.5)  # and its slices
EARLIER_CORE_S = 0.38  # an image of 96² points and 15 slices by an earlier Fortran program, core seconds


class BestAbtem(AbtemEngine):
    """abTEM set up for speed."""

    def __init__(self, imaging: ImagingSection, device: str = "cpu", refine: int = 1) -> None:
        super().__init__(imaging, device, refine)
        self.integrator = ScatteringFactorProjectionIntegrals("lobato")
        self.settings = {**abtem_engine.SETTINGS, "fftw.planning_effort": "FFTW_MEASURE", "device": device}

    def _potential(self, atoms: Any, slab: Slab) -> Any:
        return abtem.Potential(
            atoms, gpts=self.size, slice_thickness=(slab.slice_A,) * slab.n_slices, integrator=self.integrator
        )

    def _waves(self, slab: Slab) -> Any:
        cell = (slab.field_A, slab.field_A, slab.height_A)
        atoms = Atoms(slab.elements, positions=slab.positions_A, cell=cell)
        return abtem.PlaneWave(energy=self.energy_eV).multislice(self._potential(atoms, slab), lazy=False)

    def _exit_wave(self, slab: Slab, incident: None = None) -> np.ndarray:
        with abtem.config.set(self.settings):
            return np.asarray(self._waves(slab).to_cpu().array, np.complex64).T

    def image(self, slab: Slab, seen: View) -> np.ndarray:
        """Intensity behind abTEM's lens, with its envelopes, on its grid."""
        with abtem.config.set(self.settings):
            lens = abtem.CTF(
                energy=self.energy_eV,
                defocus=seen.defocus_A,
                semiangle_cutoff=seen.aperture_mrad,
                focal_spread=seen.focal_spread_A,
                angular_spread=seen.angular_spread_mrad,
                **coefficients_of(seen),
            )
            return np.asarray(self._waves(slab).apply_ctf(lens).intensity().to_cpu().array)

    def ensemble(self, boxes: Sequence[Slab]) -> np.ndarray:
        """Exit waves of different particles as members of one of abTEM's ensembles, in a box that holds the tallest."""
        tallest = max(boxes, key=lambda slab: slab.height_A)
        cell = (tallest.field_A, tallest.field_A, tallest.height_A)
        members = [Atoms(slab.elements, positions=slab.positions_A, cell=cell) for slab in boxes]
        with abtem.config.set(self.settings), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ensemble_mean=False")  # as wanted: one wave each
            atoms = AtomsEnsemble(members, ensemble_mean=False, cell=members[0].cell)
            waves = abtem.PlaneWave(energy=self.energy_eV).multislice(self._potential(atoms, tallest), lazy=False)
            return np.asarray(waves.to_cpu().array, np.complex64).swapaxes(1, 2)


def trimmed(structure: Structure, imaging: ImagingSection, number: int = 0) -> Slab:
    """The particle in one of many orientations, in a box of its own height, each of whose slices holds atoms."""
    turned = replace(view("tilted"), rotation=rotation(number, 0, SEED))
    slab = slabs([structure], turned, imaging.model_copy(update={"n_slices": USUAL_SLICES}))[0]
    spare_A = 0.005
    depth = slab.positions_A[:, 2]
    lifted = slab.positions_A - [0, 0, depth.min() - spare_A]
    return replace(slab, positions_A=lifted, height_A=float(np.ptp(depth)) + 2 * spare_A)


def core_s(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def medians(actions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median core seconds of each action, run in turn, after one run each that makes tables and plans."""
    for action in actions:
        action()
    return np.median([[core_s(action) for action in actions] for _ in range(repeats)], axis=0).tolist()


def own_square(engine: Multislice, slab: Slab) -> tuple[Slab, int]:
    """The slab in its own square of the engine's grid, and the points along an edge."""
    size = engine.square(slab)
    y, x = engine._corner(slab, size)
    step_A = slab.field_A / engine.size
    return replace(slab, positions_A=slab.positions_A - [x * step_A, y * step_A, 0], field_A=size * step_A), size


def drawn(number: int, preset: str) -> View:
    sections = (ImagingSection(preset=preset), OpticsSection(preset=preset), DetectorSection(preset=preset))
    return drawn_view(number, 0, *sections, SEED)


def speeds(structures: Sequence[Structure], preset: str, repeats: int) -> dict[str, Figure]:
    """Ratios of abTEM's core seconds to ours, each over the particles."""
    imaging = ImagingSection(preset=preset, device="cpu")
    usual = imaging.model_copy(update={"n_slices": USUAL_SLICES})
    ours, field, squares = imager_for(imaging), BestAbtem(usual), dict[int, BestAbtem]()
    rows = []
    for number, structure in enumerate(structures):
        seen = drawn(number, preset)
        slab, size = own_square(ours.engine, slabs([structure], seen, imaging)[0])
        square = squares.setdefault(size, BestAbtem(imaging.model_copy(update={"grid": size})))
        actions = [
            partial(one_image, ours, structure, seen),
            partial(field.image, slabs([structure], seen, usual)[0], seen),
            partial(square.image, slab, seen),
            partial(ours.engine.exit_waves, slabs([structure], seen, imaging)),
        ]
        rows.append([len(structure.elements), slab.n_slices, size, *medians(actions, repeats)])
        print(preset, rows[-1][:3], *(f"{1e3 * s:.1f} ms" for s in rows[-1][3:]), flush=True)
    atoms, _, _, image_s, field_s, square_s, wave_s = np.array(rows).T
    suffix = "" if preset == "corrected" else f"_{preset}"
    against = f"{len(rows)} particles of {atoms.min():.0f} to {atoms.max():.0f} atoms, {preset}"
    values = {
        "speed_field_of_view": (field_s / image_s, "", f"abTEM on {imaging.grid}², {USUAL_SLICES} slices; {against}"),
        "speed_same_grid": (square_s / image_s, "", f"abTEM in the same square and slices; {against}"),
        "image_core_ms": (1e3 * image_s, "ms", against),
        "wave_core_ms": (1e3 * wave_s, "ms", f"exit wave alone; {against}"),
    }
    return {f"hrtem_{name}{suffix}": Figure.median(each.tolist(), *rest) for name, (each, *rest) in values.items()}


def one_image(imager: Imager, structure: Structure, seen: View) -> np.ndarray:
    return next(imager.images([([structure], seen)]))


def with_film(structures: Sequence[Structure], film: Film, repeats: int) -> dict[str, Figure]:
    """Core seconds of an image with 30 Å of carbon under the particle, which needs the whole field of view."""
    imager = imager_for(ImagingSection(device="cpu"), film=film)
    spent = []
    for number, structure in enumerate(structures):
        seen = replace(drawn(number, "corrected"), film_thickness_A=30.0)
        spent += medians([partial(one_image, imager, structure, seen)], repeats)
    against = f"{len(spent)} particles, corrected, 30 Å of carbon"
    return {"hrtem_image_core_ms_film": Figure.median([1e3 * s for s in spent], "ms", against)}


def plain_image(wave: np.ndarray, seen: View, imaging: ImagingSection) -> np.ndarray:
    lens = Lens(wave.shape[-1], imaging.field_A, imaging.voltage_kV)
    return camera_image(image_intensity(wave[None], [seen], lens, CPU), [seen], imaging.pixels, imaging.field_A, CPU)[0]


@dataclass(frozen=True)
class Judged:
    """Images of one particle under plain coherent optics, judged against abTEM's on a very fine grid."""

    structure: Structure
    seen: View
    truth: np.ndarray

    @classmethod
    def of(cls, number: int, structure: Structure) -> "Judged":
        seen = replace(plain_optics(drawn(number, "corrected")), focal_spread_A=0.0, angular_spread_mrad=0.0)
        engine, slab = cls.abtems(structure, seen, TRUTH_GRID, TRUTH_SLICE_A)
        return cls(structure, seen, plain_image(engine.exit_waves([slab])[0], seen, ImagingSection()))

    @staticmethod
    def abtems(structure: Structure, seen: View, grid: int, slice_A: float) -> tuple[BestAbtem, Slab]:
        imaging = ImagingSection(grid=grid, slice_A=slice_A)
        return BestAbtem(imaging), slabs([structure], seen, imaging)[0]

    def good_enough(self, slice_A: float, error: float) -> tuple[int, BestAbtem, Slab] | None:
        """The first of abTEM's grids whose error is at most `error`."""
        for grid in COARSER:
            engine, slab = self.abtems(self.structure, self.seen, grid, slice_A)
            image = plain_image(engine.exit_waves([slab])[0], self.seen, ImagingSection())
            if rms_difference(image, self.truth) <= error:
                return grid, engine, slab
        return None


def equal_accuracy(structures: Sequence[Structure], repeats: int) -> dict[str, Figure]:
    """Our error against abTEM on a very fine grid, and how much longer abTEM takes for the same error."""
    imaging = ImagingSection()
    ours = Multislice(imaging, CPU)
    beam, contrast, ratios, chosen = [], [], [], []
    for number, structure in enumerate(structures):
        judged = Judged.of(number, structure)
        box = slabs([structure], judged.seen, imaging)
        made = plain_image(ours.exit_waves(box)[0], judged.seen, imaging)
        beam.append(1e2 * rms_difference(made, judged.truth))
        contrast.append(1e2 * share_of_contrast(judged.truth, made))
        our_s = medians([partial(ours.exit_waves, box)], repeats)[0]
        found = []
        for slice_A in THINNER_A:
            if enough := judged.good_enough(slice_A, beam[-1] / 1e2):
                grid, engine, slab = enough
                found.append((medians([partial(engine.exit_waves, [slab])], 1)[0], grid, slice_A))
        atoms = f"{len(structure.elements)} atoms"
        if not found:
            print(f"{atoms}: no grid of abTEM up to {COARSER[-1]}² is as good as ours, {beam[-1]:.3f} %", flush=True)
            continue
        took_s, grid, slice_A = min(found)
        ratios.append(took_s / our_s)
        chosen.append(f"{atoms} {grid}², {slice_A:g} Å")
        print(f"{chosen[-1]}: {took_s:.2f} s, ours {our_s:.4f} s, error {beam[-1]:.3f} % of the beam", flush=True)
    truth = f"abTEM on {TRUTH_GRID}², slices of {TRUTH_SLICE_A:g} Å, plain coherent optics"
    figures = {
        "hrtem_error_of_beam": Figure.median(beam, "%", truth),
        "hrtem_error_of_contrast": Figure.median(contrast, "%", truth),
    }
    if ratios:
        against = f"exit waves; judged by {truth}; abTEM: {'; '.join(chosen)}"
        figures["hrtem_speed_equal_accuracy"] = Figure.median(ratios, "", against)
    return figures


def write_structures(folder: Path, count: int) -> None:
    """An md chunk of reference particles over the whole range of sizes."""
    frames = [
        replace(structure, info={"particle": n, "protocol": "gas_quench", "snapshot": 0})
        for n, structure in enumerate(particles(count))
    ]
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

    inputs = {"chunk": 0, "md_chunks": [0], "structures": folder / "structures", "capacity": count, "seed": SEED}
    sections = {
        "imaging": ImagingSection(device=device),
        "optics": OpticsSection(),
        "detector": DetectorSection(),
    }
    manifest = folder / "hrtem" / manifest_name(0)
    engine, check = timed("engine", Multislice.exit_waves), timed("check", hrtem.check_sample)
    with patch.object(Multislice, "exit_waves", engine), patch.object(hrtem, "check_sample", check):
        start = clock()
        hrtem.run(**inputs, **sections, manifest=manifest)
        total = clock() - start
    peak_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**spent, "total": total, "images": count * ImagingSection().views, "peak_MB": peak_MB}


def run_chunks(folder: Path, count: int, repeats: int) -> list[dict[str, float]]:
    return [run_chunk(folder / str(number), count) for number in range(repeats)]


def whole_chunk(count: int, repeats: int) -> dict[str, Figure]:
    """Chunks in a process of their own, one after the other: structures in, shard written."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        ran = pool.submit(run_chunks, Path(folder), count, repeats).result()
    images, made = ran[0]["images"], [each["total"] - each["check"] for each in ran]
    shares = [each["engine"] / s for each, s in zip(ran, made)]
    against = f"{images:.0f} images of 60 to 1000 atoms, default settings, without the check"
    rest = f"optics, noise, reading, writing; {against}"
    whole = f"the whole step, {against.replace('without', 'with')}"
    return {
        "hrtem_images_per_core_s": Figure.median([images / s for s in made], "1/s", against),
        "hrtem_engine_share": Figure.median(shares, "", against),
        "hrtem_rest_share": Figure.median([1 - share for share in shares], "", rest),
        "hrtem_check_core_s": Figure.median(
            [each["check"] for each in ran], "s", "one wave against abTEM on a twice finer grid"
        ),
        "hrtem_peak_MB": Figure(max(each["peak_MB"] for each in ran), "MB", whole),
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
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="default: 7")
    parser.add_argument("--particles", type=int, default=12, metavar="N", help="of each comparison (default: 12)")
    parser.add_argument("--fine", type=int, default=3, metavar="N", help="at equal accuracy (default: 3)")
    parser.add_argument("--chunk", type=int, default=40, metavar="N", help="particles of the whole chunk (default: 40)")
    parser.add_argument("--film", type=Path, metavar="FILE", help="block of `alloyscope film`, to measure with a film")
    arguments = parser.parse_args()
    structures = particles(arguments.particles)
    figures = speeds(structures, "corrected", arguments.repeats)
    figures |= speeds(structures, "uncorrected", arguments.repeats)
    if arguments.film:
        figures |= with_film(structures[::3], read_film(arguments.film), 3)
    figures |= equal_accuracy(particles(arguments.fine + 2)[1:-1], arguments.repeats)
    figures |= whole_chunk(arguments.chunk, arguments.repeats)
    figures |= against_earlier(arguments.repeats)
    harness.publish("hrtem_engine", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
