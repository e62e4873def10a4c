"""Estimates of what jobs need: simulated time, core time, memory."""

from math import ceil, pow
from typing import Literal

from alloyscope.campaign.chunks import imaging_capacity
from alloyscope.config.model import Config
from alloyscope.microscope.settings import WAVE_STEP_A


def imaging_memory_MB(config: Config) -> int:
    """Memory to request for an imaging job [MB].

    Waves need three times their size; the measured peak, while a shard is written, was 2.75 times.
    """
    grid = 1.05 * config.imaging.field_A / WAVE_STEP_A  # at most: FFT-friendly sizes add up to 5 %
    images = imaging_capacity(config) * config.imaging.views
    return 4000 + config.imaging.store_waves * ceil(3 * 8e-6 * images * grid**2)


def simulated_ps(config: Config) -> float:
    """Mean simulated time of a particle [ps]; a hold that may be repeated is counted once."""
    md, weights = config.md, config.particles.protocols
    drawn_ps = sum(weight * md.protocol(name).mean_ps() for name, weight in weights.items()) / sum(weights.values())
    return drawn_ps + md.settle_ps + md.thermalise_ps + (md.snapshots - 1) * md.snapshot_spacing_ps


def job_minutes(stage: Literal["md", "describe", "hrtem"], config: Config, cores: int = 1) -> int:
    """Minutes to request for a chunk's job: four times the estimated core time, and a quarter of an hour to start.

    The estimate scales times measured on one core. A particle of 60–1000 atoms took 13.3 s in `md` (155 ps) and 0.25 s
    in `describe`; both grow with the number of atoms to the power 1.2. `hrtem` made 30 images per second at 384² points
    of the field of view, on 13 slices in the mean. A GPU is faster.
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
            core_s = waves / 30 * (imaging.grid / 384) ** 2 * (imaging.n_slices or 26 / imaging.slice_A) / 13
    return 15 + ceil(4 * core_s / 60 / cores)
