"""Towards Janus particles: two melted droplets are brought into contact, then cooled (docs/physics.md §2)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from alloyscope.contracts import Particle
from alloyscope.lammps.commands import Segment
from alloyscope.md.protocol import Dynamics, Positions, Protocol
from alloyscope.sections import Positive, PositiveRange

CONTACT_A = 2.7  # ASSUME about a bond length: the droplets attract each other, and no atoms overlap
ROOM_A = 8.0  # between the droplets and the wall


class Droplets(Protocol):
    """A droplet of each species melts far from the other; both settle at contact_K, touch, and cool as a pair."""

    aims_at = "janus"
    words = "droplet pair"
    plural = "droplet pairs"
    drawn = ("contact_ps", "cool_ps")
    spelled = True

    melt_K: Positive = 1600.0  # ASSUME both pure droplets of ≤ 1000 atoms are liquid here
    melt_ps: Positive = 5.0
    settle_ps: Positive = 5.0  # from melt_K to contact_K, still separate
    contact_K: Positive = 800.0
    contact_ps: PositiveRange = (10.0, 30.0)  # duration of one hold
    max_holds: int = Field(4, ge=0)  # most repetitions of contact_ps, until one cluster is left
    cool_ps: PositiveRange = (40.0, 80.0)

    def start(
        self, particle: Particle, nearest_A: Sequence[float], rng: np.random.Generator
    ) -> tuple[Positions, float]:
        from alloyscope.md.build import two_droplets

        positions_A = two_droplets(particle.counts, (nearest_A[0], nearest_A[1]), rng)
        return positions_A, float(np.linalg.norm(positions_A, axis=1).max()) + ROOM_A

    def segments(self, times_ps: Mapping[str, float], dynamics: Dynamics, wall_A: float) -> Iterator[Segment]:
        from alloyscope.md.build import Contact
        from alloyscope.md.checks import OneCluster

        yield from dynamics.ramp(self.melt_K, self.melt_K, self.melt_ps, wall_A)
        yield from dynamics.ramp(self.melt_K, self.contact_K, self.settle_ps, wall_A)
        (touch,) = dynamics.ramp(self.contact_K, self.contact_K, times_ps["contact_ps"], wall_A)
        yield replace(
            touch,
            rearrange=Contact(CONTACT_A),
            done=OneCluster(dynamics.min_cluster_fraction),
            max_repeats=self.max_holds,
        )
        yield from dynamics.ramp(self.contact_K, dynamics.final_K, times_ps["cool_ps"], wall_A)

    def mean_ps(self) -> float:
        return self.melt_ps + self.settle_ps + sum(self.contact_ps + self.cool_ps) / 2
