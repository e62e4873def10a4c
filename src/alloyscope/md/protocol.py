"""Base classes of molecular dynamics: the thermostat and its timesteps, and the record of a protocol."""

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
    """Settings of the Langevin dynamics that all protocols share (docs/physics.md §2)."""

    particles_per_chunk: int = Field(200, ge=1)
    final_K: Positive = 300.0
    thermalise_ps: Positive = 20.0
    snapshots: int = Field(1, ge=1)
    snapshot_spacing_ps: Positive = 1.0
    # (temperature above which the timestep holds [K], timestep [fs])
    timesteps_fs: tuple[tuple[float, Positive], ...] = ((4000.0, 1.0), (2000.0, 2.0), (1000.0, 3.0), (0.0, 4.0))
    damp_ps: Positive = 1.0
    skin_A: Positive = 1.0
    min_cluster_fraction: Fraction = 0.95
    max_attempts: int = Field(3, ge=1)
    wall_limit_s: Positive = 3600.0  # older place of this key; now in the section `execution`

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        starts = [start for start, _ in self.timesteps_fs]
        if not starts or starts != sorted(starts, reverse=True) or starts[-1] != 0:
            raise ValueError(f"timesteps_fs must fall to temperature 0; got {starts}")
        return self

    @property
    def settle_ps(self) -> float:
        """Time after the last ramp: the temperature lags behind by rate × damp, and the lag decays in five damp."""
        return 5 * self.damp_ps

    def protocol(self, name: str) -> "Protocol":
        """The settings of a protocol; its defaults when the campaign does not use it."""
        from alloyscope.md.protocols import PROTOCOLS

        found: Protocol | None = getattr(self, name, None)
        return found or PROTOCOLS[name]()

    def timestep_fs(self, temperature_K: float) -> float:
        """The timestep for a temperature."""
        return next(step for above_K, step in self.timesteps_fs if temperature_K > above_K or above_K == 0)

    def ramp(self, start_K: float, stop_K: float, duration_ps: float, wall_A: float) -> Iterator[Segment]:
        """Yield the segments of a linear ramp, one per timestep; each has the timestep of its hotter end."""
        high_K, low_K = max(start_K, stop_K), min(start_K, stop_K)
        cuts = [above_K for above_K, _ in self.timesteps_fs if low_K < above_K < high_K]
        edges = [high_K, *cuts, low_K] if start_K >= stop_K else [low_K, *cuts[::-1], high_K]
        for first_K, last_K in pairwise(edges):
            share = 1.0 if start_K == stop_K else abs(first_K - last_K) / (high_K - low_K)
            timestep_fs = self.timestep_fs(max(first_K, last_K))
            yield Segment(first_K, last_K, share * duration_ps, timestep_fs, wall_A)


class Protocol(Section, ABC):
    """The way in which a particle is made. Each module of md/protocols/ holds one; its fields are section `md.<name>`.

    Attributes:
        aims_at: The chemical order that the protocol usually makes; None when the order varies.
        words, plural: Name of the protocol for readers.
        drawn: Names of the fields that hold a range in ps, from which each particle draws its own time; these times are
            columns of the table of particles.
        spelled: Whether every config holds the section, used or not, as the configs of the first campaigns do. A
            later protocol leaves this out; then only configs that give it a weight hold the section.
    """

    aims_at: ClassVar[Ordering | None]
    words: ClassVar[str]
    plural: ClassVar[str]
    drawn: ClassVar[tuple[str, ...]] = ()
    spelled: ClassVar[bool] = False

    @classmethod
    def name(cls) -> str:
        """Name in `particles.protocols`: that of the module."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def start(
        self, particle: Particle, nearest_A: Sequence[float], rng: np.random.Generator
    ) -> tuple[Positions, float]:
        """Start positions of the atoms.

        Args:
            particle: The planned particle; atoms of its first species come first.
            nearest_A: Distance of nearest neighbours in the solid of each species [Å].
            rng: Random stream of this particle and attempt.

        Returns:
            Positions [Å], shape (n, 3), and the radius of the confining sphere around the origin [Å].
        """

    @abstractmethod
    def segments(self, times_ps: Mapping[str, float], dynamics: Dynamics, wall_A: float) -> Iterator[Segment]:
        """Yield the segments from the start to the final temperature.

        Args:
            times_ps: Times drawn for the particle, by the names of `drawn` [ps].
            dynamics: Thermostat, timesteps, final temperature.
            wall_A: Radius of the confining sphere [Å].
        """

    @abstractmethod
    def mean_ps(self) -> float:
        """Mean simulated time of the segments [ps]; a hold that may be repeated is counted once."""

    def drawn_ps(self, particle: Particle, seed: int) -> dict[str, float]:
        """Times drawn for a particle [ps], by the names of `drawn`; they are the same in all attempts."""
        return {
            name: draw_value(getattr(self, name), rng_for(f"{self.name()} {name}", seed, particle.number))
            for name in self.drawn
        }
