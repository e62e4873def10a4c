"""Config → particles, chunks and splits: the only combinatorics of the campaign."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, pow
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from alloyscope.config import SPLIT_BLOCK, Config, ParticlesSection, Split, SplitsSection
from alloyscope.contracts import ABERRATIONS, Particle, View
from alloyscope.ids import chunk_name, draw_value, rng_for
from alloyscope.instrument import WAVE_STEP_A, DetectorSection, FilmSection, ImagingSection, OpticsSection
from alloyscope.sections import Draw
from alloyscope.units import scherzer_defocus_A

# Raised by hand when a stage's results change; passed as params, so Snakemake reruns that stage and what follows.
RECIPES = {
    "potential": 2,
    "md": 1,
    "files": 1,
    "describe": 1,
    "structures": 2,
    "statistics": 1,
    "film": 1,
    "hrtem": 3,
    "gates": 1,
    "dataset": 2,
    "train": 1,
    "evaluate": 1,
    "report": 1,
}


@dataclass(frozen=True)
class Chunk:
    """A run of consecutive particles; only the last chunk may hold fewer than its capacity."""

    index: int
    first: int
    count: int

    @property
    def name(self) -> str:
        return chunk_name(self.index)

    @property
    def particles(self) -> range:
        return range(self.first, self.first + self.count)


def n_chunks(n_particles: int, capacity: int) -> int:
    return -(-n_particles // capacity)


def chunk(index: int, n_particles: int, capacity: int) -> Chunk:
    first = index * capacity
    return Chunk(index, first, min(capacity, n_particles - first))


def chunks(n_particles: int, capacity: int) -> Iterator[Chunk]:
    return (chunk(index, n_particles, capacity) for index in range(n_chunks(n_particles, capacity)))


def imaging_capacity(config: Config) -> int:
    """Particles of a full imaging chunk: a whole number of md chunks."""
    return config.imaging.md_chunks_per_chunk * config.md.particles_per_chunk


def imaging_memory_MB(config: Config) -> int:
    """Main memory of an imaging job. With waves, three times their bytes: measured 2.75 while a shard is written."""
    grid = 1.05 * config.imaging.field_A / WAVE_STEP_A  # at most, whatever size the FFT likes
    images = imaging_capacity(config) * config.imaging.views
    return 4000 + config.imaging.store_waves * ceil(3 * 8e-6 * images * grid**2)


def simulated_ps(config: Config) -> float:
    """Mean simulated time of a particle, holds that are repeated counted once."""
    md, weights = config.md, config.particles.protocols
    gas, pair = md.gas_quench, md.droplets
    length_ps = {
        "gas_quench": sum(gas.condense_ps + gas.cool_ps) / 2 + gas.hold_ps,
        "droplets": pair.melt_ps + pair.settle_ps + sum(pair.contact_ps + pair.cool_ps) / 2,
    }
    drawn_ps = sum(weight * length_ps[name] for name, weight in weights.items()) / sum(weights.values())
    return drawn_ps + md.settle_ps + md.thermalise_ps + (md.snapshots - 1) * md.snapshot_spacing_ps


def job_minutes(stage: Literal["md", "describe", "hrtem"], config: Config, cores: int = 1) -> int:
    """Minutes to ask for a chunk's job: four times the measured core time, and a quarter of an hour to start.

    Measured on one core: md 13.3 s (155 ps) and describe 0.25 s a particle of 60–1000 atoms, with their number to the
    power 1.2; hrtem 18 images a second at 384² points and 20 slices. A GPU is faster.
    """
    size = pow(sum(config.particles.n_atoms) / (60 + 1000), 1.2)
    imaging = config.imaging
    match stage:
        case "md":
            core_s = 13.3 * size * simulated_ps(config) / 155 * config.md.particles_per_chunk
        case "describe":
            core_s = 0.25 * size * imaging_capacity(config)
        case "hrtem":
            waves = imaging_capacity(config) * imaging.views * (imaging.snapshots_per_image or config.md.snapshots)
            core_s = waves / 18 * (imaging.grid / 384) ** 2 * imaging.n_slices / 20
    return 15 + ceil(4 * core_s / 60 / cores)


def md_chunk(index: int, config: Config) -> Chunk:
    return chunk(index, config.campaign.n_particles, config.md.particles_per_chunk)


def md_chunks_of(imaging_chunk: int, config: Config) -> range:
    """The md chunks whose particles an imaging chunk shows; the last imaging chunk may have fewer."""
    each = config.imaging.md_chunks_per_chunk
    total = n_chunks(config.campaign.n_particles, config.md.particles_per_chunk)
    return range(imaging_chunk * each, min((imaging_chunk + 1) * each, total))


def md_chunks(config: Config) -> range:
    """All md chunks of a campaign."""
    return range(n_chunks(config.campaign.n_particles, config.md.particles_per_chunk))


def imaging_chunks(config: Config) -> range:
    """All imaging chunks of a campaign."""
    return range(n_chunks(config.campaign.n_particles, imaging_capacity(config)))


def released_chunks(config: Config) -> range:
    """Imaging chunks that the data set waits for and holds: all, or the first `dataset.min_chunks`."""
    return imaging_chunks(config)[: config.dataset.min_chunks]


def split_of(particle: int, splits: SplitsSection, seed: int) -> Split:
    """Split of a particle, from its number alone: its rank within a block of SPLIT_BLOCK decides."""
    return splits_of(np.array([particle]), splits, seed)[0]


def splits_of(particles: NDArray[np.int64], splits: SplitsSection, seed: int) -> list[Split]:
    """Splits of many particles, shape (n,); each block is shuffled once."""
    names: tuple[Split, ...] = get_args(Split)
    edges = np.cumsum([getattr(splits, name) for name in names])
    by_rank = np.searchsorted(edges, (np.arange(SPLIT_BLOCK) + 0.5) / SPLIT_BLOCK).clip(max=len(names) - 1)
    blocks, which = np.unique(particles // SPLIT_BLOCK, return_inverse=True)
    ranks = np.array([rng_for("split", seed, block).permutation(SPLIT_BLOCK) for block in blocks.tolist()])
    found = by_rank[ranks[which, particles % SPLIT_BLOCK]]
    return [names[place] for place in found.tolist()]


def particle(number: int, particles: ParticlesSection, seed: int) -> Particle:
    """The planned particle of a number. Both protocols draw size and composition from one distribution."""
    rng = rng_for("particle", seed, number)
    low, high = particles.n_atoms
    n_atoms = int(rng.integers(low, high + 1))
    fraction = float(rng.uniform(*particles.fraction_first))
    n_first = min(max(round(fraction * n_atoms), 1), n_atoms - 1)
    names = sorted(particles.protocols)
    weights = np.cumsum([particles.protocols[name] for name in names])
    protocol = names[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
    return Particle(number, protocol, particles.species, (n_first, n_atoms - n_first))


def rotation(particle: int, view: int, seed: int) -> tuple[float, float, float, float]:
    """Unit quaternion (x, y, z, w), uniform on SO(3): a normal 4-vector, normalised (Muller 1959)."""
    quaternion = rng_for("rotation", seed, particle, view).standard_normal(4)
    x, y, z, w = (quaternion / np.linalg.norm(quaternion)).tolist()
    return x, y, z, w


def view(
    particle: int,
    view: int,
    imaging: ImagingSection,
    optics: OpticsSection,
    detector: DetectorSection,
    seed: int,
) -> View:
    """Every drawn parameter of one image. Each parameter has its own stream, so adding one moves no other."""

    def value(name: str, draw: Draw) -> float:
        return draw_value(draw, rng_for(name, seed, particle, view))

    def angle(name: str) -> float:
        return value(name, (0.0, 2 * np.pi))

    shift = (-imaging.max_shift_A, imaging.max_shift_A)
    names = OpticsSection.model_fields.keys() - {"preset", "defocus_from_scherzer", "n_foci"}
    drawn_optics: dict[str, Any] = {name: value(name, getattr(optics, name)) for name in names}
    if optics.defocus_from_scherzer:
        drawn_optics["defocus_A"] += scherzer_defocus_A(drawn_optics["C30_A"], imaging.voltage_kV)
    drawn_detector: dict[str, Any] = {
        name: value(name, getattr(detector, name))
        for name in ("dose_e_per_A2", "mtf_c1", "mtf_c2", "mtf_c3", "readout_e")
    }
    angles: dict[str, Any] = {f"phi{n}{m}_rad": angle(f"phi{n}{m}") for n, m in ABERRATIONS if m}
    return View(
        particle=particle,
        view=view,
        engine=imaging.engine,
        rotation=rotation(particle, view, seed),
        shift_A=(value("shift_y", shift), value("shift_x", shift)),
        n_foci=optics.n_foci,
        vibration_angle_rad=value("vibration_angle", (0.0, np.pi)),
        **drawn_optics,
        **drawn_detector,
        **angles,
        **film_of(imaging.film, value),
    )


def film_of(film: FilmSection, value: Callable[[str, Draw], float]) -> dict[str, Any]:
    """The film of one image, as fields of View."""
    if value("film", (0.0, 1.0)) >= film.share:
        return {}
    return {
        "film_thickness_A": value("film_thickness_A", film.thickness_A),
        "film_angle_rad": value("film_angle", (0.0, 2 * np.pi)),
        "film_offset": tuple(value(f"film_{axis}", (0.0, 1.0)) for axis in "xyz"),
    }


def snapshots(particle: int, view: int, kept: int, wanted: int | None, seed: int) -> tuple[int, ...]:
    """Which of a particle's `kept` snapshots one image averages; None wants all."""
    if wanted is None or wanted >= kept:
        return tuple(range(kept))
    chosen = rng_for("snapshots", seed, particle, view).choice(kept, wanted, replace=False)
    return tuple(sorted(chosen.tolist()))
