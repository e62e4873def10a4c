"""Towards core-shell particles: a hot mixed gas in a confining sphere is quenched (docs/physics.md §2)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydantic import Field

from alloyscope.contracts import Particle
from alloyscope.lammps.commands import Segment
from alloyscope.md.protocol import Dynamics, Positions, Protocol
from alloyscope.sections import Positive, PositiveRange


class GasQuench(Protocol):
    """The gas condenses, is held until one cluster is left, and cools."""

    aims_at = "core_shell"
    words = "gas quench"
    plural = "gas quenches"
    drawn = ("condense_ps", "cool_ps")
    spelled = True

    start_K: Positive = 7500.0
    condense_K: Positive = 2000.0
    condense_ps: PositiveRange = (40.0, 80.0)
    hold_ps: Positive = 10.0  # repeated at condense_K until one cluster is left
    max_holds: int = Field(12, ge=0)
    cool_ps: PositiveRange = (60.0, 140.0)
    volume_per_atom_A3: Positive = 110.0  # ASSUME enough room to condense: docs/physics.md §2

    def start(
        self, particle: Particle, nearest_A: Sequence[float], rng: np.random.Generator
    ) -> tuple[Positions, float]:
        from alloyscope.md.build import gas, sphere_radius_A

        radius_A = sphere_radius_A(particle.n_atoms, self.volume_per_atom_A3)
        return gas(particle.n_atoms, radius_A, rng), radius_A

    def segments(self, times_ps: Mapping[str, float], dynamics: Dynamics, wall_A: float) -> Iterator[Segment]:
        from alloyscope.md.checks import OneCluster

        yield from dynamics.ramp(self.start_K, self.condense_K, times_ps["condense_ps"], wall_A)
        yield Segment(
            self.condense_K,
            self.condense_K,
            self.hold_ps,
            dynamics.timestep_fs(self.condense_K),
            wall_A,
            done=OneCluster(dynamics.min_cluster_fraction),
            max_repeats=self.max_holds,
        )
        yield from dynamics.ramp(self.condense_K, dynamics.final_K, times_ps["cool_ps"], wall_A)

    def mean_ps(self) -> float:
        return sum(self.condense_ps + self.cool_ps) / 2 + self.hold_ps
