"""Checks that involve several sections of a config."""

import re

from alloyscope.config.model import Config
from alloyscope.config.runs import RunSection
from alloyscope.errors import ConfigError
from alloyscope.learn.tasks import TASKS
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.microscope.settings import ImagingSection, aperture_faults
from alloyscope.potential.sets import parameter_set
from alloyscope.units import fcc_111_spacing_A

MOST_CHUNKS = 1_000_000  # names of chunks have six digits


def cross_faults(config: Config) -> list[str]:
    """Faults of a config whose sections are valid each by itself."""
    try:
        parameters = parameter_set(config.potential.set)
    except ConfigError as error:
        return [str(error)]
    faults = aperture_faults(config.imaging, config.optics)
    if config.imaging.store_waves and config.particles.source == "md" and config.md.snapshots > 1:
        faults.append(
            f"imaging.store_waves: one wave per image cannot stand for several snapshots; md.snapshots must be 1; "
            f"got {config.md.snapshots}"
        )
    if config.campaign.n_particles > MOST_CHUNKS * config.md.particles_per_chunk:
        least = -(-config.campaign.n_particles // MOST_CHUNKS)
        faults.append(
            f"md.particles_per_chunk: {config.md.particles_per_chunk} makes more than {MOST_CHUNKS} chunks of "
            f"{config.campaign.n_particles} particles; must be at least {least}"
        )
    faults += _snapshot_faults(config)
    faults += [fault for name, run in config.training.runs.items() for fault in _run_faults(name, run, config)]
    for species in config.particles.species:
        if species not in parameters.elements:
            faults.append(
                f"particles.species: {species} has no parameters in set {config.potential.set}; "
                f"it has {', '.join(parameters.elements)}"
            )
            continue
        faults += _resolution_faults(config.imaging, species, parameters.pair(species, species).r0_A)
    return faults


def unused_faults(config: Config) -> list[str]:
    """Settings that would be ignored without a word: those of a protocol without a weight, of a task not learnt.

    Protocols and tasks that stand in every config are left out.
    """
    faults = [
        f"md.{name}: stands there without effect; give {name} a weight in particles.protocols, or leave it out"
        for name, protocol in PROTOCOLS.items()
        if not protocol.spelled and getattr(config.md, name) and name not in config.particles.protocols
    ]
    return faults + [
        f"training.{name}: stands there without effect; name {name} in training.tasks, or leave it out"
        for name, task in TASKS.items()
        if not task.spelled and getattr(config.training, name) and name not in config.training.tasks
    ]


def _snapshot_faults(config: Config) -> list[str]:
    wanted = config.imaging.snapshots_per_image
    kept, why = (config.md.snapshots, "md.snapshots") if config.particles.source == "md" else (1, "one frame each")
    if wanted is None or wanted <= kept:
        return []
    return [f"imaging.snapshots_per_image: must be at most the {kept} that a particle has ({why}); got {wanted}"]


def _run_faults(name: str, run: RunSection, config: Config) -> list[str]:
    path = f"training.runs.{name}"
    if re.fullmatch(r"seed-\d+", name):
        return [f"{path}: names like seed-0 belong to the runs that training.seeds makes; choose another name"]
    if run.task not in config.training.tasks:
        return [
            f"{path}.task: must be one of training.tasks, {', '.join(config.training.tasks) or 'which is empty'}; "
            f"got {run.task}"
        ]
    try:
        settings = run.settings(config.training.task(run.task), path)
    except ConfigError as error:
        return [str(error)]
    limits = (
        ("particles", settings.particles, config.campaign.n_particles, "campaign.n_particles"),
        ("views", settings.views, config.imaging.views, "imaging.views"),
    )
    return [
        f"{path}.{key}: must be at most {most} ({where}); got {wanted}"
        for key, wanted, most, where in limits
        if wanted is not None and wanted > most
    ]


def _resolution_faults(imaging: ImagingSection, species: str, r0_A: float) -> list[str]:
    frequency = 1 / fcc_111_spacing_A(r0_A)
    faults = []
    if frequency >= 0.5 / imaging.pixel_size_A:
        faults.append(
            f"imaging.pixel_size_A: {imaging.pixel_size_A:g} cuts {species}{{111}} at {frequency:.3f} 1/Å; "
            f"must be below {0.5 / frequency:.3f}"
        )
    if frequency >= imaging.band_limit_per_A:
        faults.append(
            f"imaging.grid: {imaging.grid} over {imaging.field_A:.1f} Å carries {imaging.band_limit_per_A:.3f} 1/Å "
            f"and cuts {species}{{111}} at {frequency:.3f}; must be above {3 * imaging.field_A * frequency:.0f}"
        )
    return faults
