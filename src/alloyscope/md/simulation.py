"""The simulation of a planned particle."""

from pathlib import Path

import numpy as np

from alloyscope.contracts import Particle
from alloyscope.ids import rng_for, seed_for
from alloyscope.lammps.commands import Simulation, System
from alloyscope.md.protocol import Dynamics
from alloyscope.potential.sets import ParameterSet


def simulation(
    particle: Particle, md: Dynamics, parameters: ParameterSet, potential: Path, seed: int, attempt: int
) -> Simulation:
    """The simulation of a particle; another attempt has other start positions and velocities, but the same atoms."""
    rng = rng_for("start", seed, particle.number, attempt)
    nearest_A = [parameters.pair(element, element).r0_A for element in particle.species]
    protocol = md.protocol(particle.protocol)
    positions_A, wall_A = protocol.start(particle, nearest_A, rng)
    settle = md.ramp(md.final_K, md.final_K, md.settle_ps, wall_A)
    (sampling,) = md.ramp(md.final_K, md.final_K, md.thermalise_ps, wall_A)
    return Simulation(
        system=System(particle.species, np.repeat([0, 1], particle.counts), positions_A, potential, skin_A=md.skin_A),
        segments=(*protocol.segments(protocol.drawn_ps(particle, seed), md, wall_A), *settle),
        sampling=sampling,
        snapshots=md.snapshots,
        spacing_ps=md.snapshot_spacing_ps,
        seed=seed_for("velocities", seed, particle.number, attempt),
        damp_ps=md.damp_ps,
    )
