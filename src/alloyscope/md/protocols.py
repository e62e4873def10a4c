"""How a particle is made: gas quench (towards core-shell) or two droplets in contact (towards Janus)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import assert_never

import numpy as np

from alloyscope.config import MdSection
from alloyscope.contracts import Particle
from alloyscope.ids import draw_value, rng_for, seed_for
from alloyscope.lammps.commands import Simulation, Stage, System
from alloyscope.md.build import Contact, gas, sphere_radius_A, two_droplets
from alloyscope.md.checks import OneCluster
from alloyscope.parameters import ParameterSet

CONTACT_A = 2.7  # ASSUME about a bond length: the droplets attract, none of their atoms overlap
ROOM_A = 8.0  # between a particle and the wall, once there is a particle


def timestep_fs(temperature_K: float, md: MdSection) -> float:
    """Timestep allowed up to a temperature."""
    return next(step for above_K, step in md.timesteps_fs if temperature_K > above_K or above_K == 0)


def ramp(start_K: float, stop_K: float, duration_ps: float, wall_A: float, md: MdSection) -> Iterator[Stage]:
    """A linear ramp, cut where the timestep changes; a stretch takes the step of its hottest end."""
    high_K, low_K = max(start_K, stop_K), min(start_K, stop_K)
    cuts = [above_K for above_K, _ in md.timesteps_fs if low_K < above_K < high_K]
    edges = [high_K, *cuts, low_K] if start_K >= stop_K else [low_K, *cuts[::-1], high_K]
    for first_K, last_K in pairwise(edges):
        share = 1.0 if start_K == stop_K else abs(first_K - last_K) / (high_K - low_K)
        hot_K = max(first_K, last_K)
        yield Stage(first_K, last_K, share * duration_ps, timestep_fs(hot_K, md), wall_A)


def drawn_times_ps(particle: Particle, md: MdSection, seed: int) -> dict[str, float]:
    """The times of a particle's protocol that are drawn, by their names in the config [ps]; the same at each attempt.

    `contact_ps` is the length of one hold: it is repeated until one cluster is left.
    """
    match particle.protocol:
        case "gas_quench":
            ranges_ps = {"condense_ps": md.gas_quench.condense_ps, "cool_ps": md.gas_quench.cool_ps}
        case "droplets":
            ranges_ps = {"contact_ps": md.droplets.contact_ps, "cool_ps": md.droplets.cool_ps}
        case _:
            assert_never(particle.protocol)
    return {
        name: draw_value(range_ps, rng_for(f"{particle.protocol} {name}", seed, particle.number))
        for name, range_ps in ranges_ps.items()
    }


def gas_quench(particle: Particle, md: MdSection, wall_A: float, seed: int) -> tuple[Stage, ...]:
    """Condense a hot gas, wait until one cluster is left, cool it."""
    settings, times_ps = md.gas_quench, drawn_times_ps(particle, md, seed)
    *condense, last = ramp(settings.start_K, settings.condense_K, times_ps["condense_ps"], wall_A, md)
    hold = Stage(
        settings.condense_K,
        settings.condense_K,
        settings.hold_ps,
        timestep_fs(settings.condense_K, md),
        wall_A,
        done=OneCluster(md.min_cluster_fraction),
        max_repeats=settings.max_holds,
    )
    cool = ramp(settings.condense_K, md.final_K, times_ps["cool_ps"], wall_A, md)
    return (*condense, last, hold, *cool)


def droplets(particle: Particle, md: MdSection, wall_A: float, seed: int) -> tuple[Stage, ...]:
    """Melt two droplets apart from one another, bring them to 800 K and into contact, cool the pair."""
    settings, times_ps = md.droplets, drawn_times_ps(particle, md, seed)
    melt = ramp(settings.melt_K, settings.melt_K, settings.melt_ps, wall_A, md)
    settle = ramp(settings.melt_K, settings.contact_K, settings.settle_ps, wall_A, md)
    (touch,) = ramp(settings.contact_K, settings.contact_K, times_ps["contact_ps"], wall_A, md)
    join = replace(
        touch,
        rearrange=Contact(CONTACT_A),
        done=OneCluster(md.min_cluster_fraction),
        max_repeats=settings.max_holds,
    )
    cool = ramp(settings.contact_K, md.final_K, times_ps["cool_ps"], wall_A, md)
    return (*melt, *settle, join, *cool)


def simulation(
    particle: Particle, md: MdSection, parameters: ParameterSet, potential: Path, seed: int, attempt: int
) -> Simulation:
    """The whole run of a particle; another attempt has other positions and velocities, the same N and composition."""
    rng = rng_for("start", seed, particle.number, attempt)
    nearest = [parameters.pair(element, element).r0_A for element in particle.species]
    match particle.protocol:
        case "gas_quench":
            radius_A = sphere_radius_A(particle.n_atoms, md.gas_quench.volume_per_atom_A3)
            positions, wall_A = gas(particle.n_atoms, radius_A, rng), radius_A
            stages = gas_quench(particle, md, wall_A, seed)
        case "droplets":
            positions = two_droplets(particle.counts, (nearest[0], nearest[1]), rng)
            wall_A = float(np.linalg.norm(positions, axis=1).max()) + ROOM_A
            stages = droplets(particle, md, wall_A, seed)
        case _:
            assert_never(particle.protocol)
    settle = ramp(md.final_K, md.final_K, md.settle_ps, wall_A, md)
    (sampling,) = ramp(md.final_K, md.final_K, md.thermalise_ps, wall_A, md)
    return Simulation(
        system=System(particle.species, np.repeat([0, 1], particle.counts), positions, potential, skin_A=md.skin_A),
        stages=(*stages, *settle),
        sampling=sampling,
        snapshots=md.snapshots,
        spacing_ps=md.snapshot_spacing_ps,
        seed=seed_for("velocities", seed, particle.number, attempt),
        damp_ps=md.damp_ps,
    )
