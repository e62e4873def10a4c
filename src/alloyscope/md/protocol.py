"""What all protocols of molecular dynamics share: the thermostat and its timestep, and the record of a protocol."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from alloyscope.contracts import Ordering, Particle
from alloyscope.ids import draw_value, rng_for
from alloyscope.lammps.commands import Segment
from alloyscope.sections import Fraction, Positive, Section

Positions = NDArray[np.float64]  # (n, 3), Å


class Dynamics(Section):
    """Langevin dynamics of every particle, whatever its protocol (docs/physics.md §2)."""

    particles_per_chunk: int = Field(200, ge=1)
    final_K: Positive = 300.0
    thermalise_ps: Positive = 20.0
    snapshots: int = Field(1, ge=1)
    snapshot_spacing_ps: Positive = 1.0
    # (temperature above which it holds [K], timestep [fs])
    timesteps_fs: tuple[tuple[float, Positive], ...] = ((4000.0, 1.0), (2000.0, 2.0), (1000.0, 3.0), (0.0, 4.0))
    damp_ps: Positive = 1.0
    skin_A: Positive = 1.0
    min_cluster_fraction: Fraction = 0.95
    max_attempts: int = Field(3, ge=1)
    wall_limit_s: Positive = 3600.0  # an older name: the section `execution` has it now

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        starts = [start for start, _ in self.timesteps_fs]
        if not starts or starts != sorted(starts, reverse=True) or starts[-1] != 0:
            raise ValueError(f"timesteps_fs must fall to temperature 0; got {starts}")
        return self

    @property
    def settle_ps(self) -> float:
        """The thermostat lags behind a ramp by rate × damp; five damping times forget it."""
        return 5 * self.damp_ps

    def protocol(self, name: str) -> "Protocol":
        """The settings of a protocol; its defaults where the config does not use it."""
        from alloyscope.md.protocols import PROTOCOLS

        found: Protocol | None = getattr(self, name, None)
        return found or PROTOCOLS[name]()

    def timestep_fs(self, temperature_K: float) -> float:
        """The timestep that is allowed up to a temperature."""
        return next(step for above_K, step in self.timesteps_fs if temperature_K > above_K or above_K == 0)

    def ramp(self, start_K: float, stop_K: float, duration_ps: float, wall_A: float) -> Iterator[Segment]:
        """A linear ramp, cut where the timestep changes; each piece takes the timestep of its hottest end."""
        high_K, low_K = max(start_K, stop_K), min(start_K, stop_K)
        cuts = [above_K for above_K, _ in self.timesteps_fs if low_K < above_K < high_K]
        edges = [high_K, *cuts, low_K] if start_K >= stop_K else [low_K, *cuts[::-1], high_K]
        for first_K, last_K in pairwise(edges):
            share = 1.0 if start_K == stop_K else abs(first_K - last_K) / (high_K - low_K)
            timestep_fs = self.timestep_fs(max(first_K, last_K))
            yield Segment(first_K, last_K, share * duration_ps, timestep_fs, wall_A)


class Protocol(Section, ABC):
    """How a particle is made. Each module of md/protocols/ holds one; its fields are the section `md.<name>`.

    Attributes:
        aims_at: The order that it makes, mostly; None where the order is drawn.
        words, plural: Its name for readers.
        drawn: Fields that hold a range in ps, from which each particle draws its own time; columns of the table of
            particles.
        spelled: The section stands in the config of every campaign, used or not, as in campaigns from before there
            were others. A younger protocol leaves this out and stands there only where it has a weight.
    """

    aims_at: ClassVar[Ordering | None]
    words: ClassVar[str]
    plural: ClassVar[str]
    drawn: ClassVar[tuple[str, ...]] = ()
    spelled: ClassVar[bool] = False

    @classmethod
    def name(cls) -> str:
        """As in `particles.protocols`: the name of its module."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def start(
        self, particle: Particle, nearest_A: Sequence[float], rng: np.random.Generator
    ) -> tuple[Positions, float]:
        """Where the atoms begin.

        Args:
            particle: How many atoms of which species; those of the first species come first.
            nearest_A: Distance of nearest neighbours in the solid of each species [Å].
            rng: The stream of this particle and attempt.

        Returns:
            Positions [Å], shape (n, 3), and the radius of the confining sphere around the origin [Å].
        """

    @abstractmethod
    def segments(self, times_ps: Mapping[str, float], dynamics: Dynamics, wall_A: float) -> Iterator[Segment]:
        """The run from the start to the final temperature.

        Args:
            times_ps: The particle's own times, by the names of `drawn` [ps].
            dynamics: Thermostat, timesteps, final temperature.
            wall_A: Radius of the confining sphere [Å].
        """

    @abstractmethod
    def mean_ps(self) -> float:
        """Mean simulated time of the segments [ps]; a hold that may be repeated is counted once."""

    def drawn_ps(self, particle: Particle, seed: int) -> dict[str, float]:
        """A particle's own times [ps], by the names of `drawn`; the same at each attempt."""
        return {
            name: draw_value(getattr(self, name), rng_for(f"{self.name()} {name}", seed, particle.number))
            for name in self.drawn
        }
