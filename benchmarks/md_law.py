"""What a campaign costs, from what finished particles cost: seconds ≈ a·Nᵇ for each protocol."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alloyscope.campaign.chunks import n_chunks
from alloyscope.campaign.folder import read_campaign
from alloyscope.campaign.particles import planned_particle
from alloyscope.config.model import Config, MdSection, ParticlesSection
from alloyscope.errors import ConfigError, StoreError
from alloyscope.ids import rng_for
from alloyscope.store.chunks import present, read_all

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Cost:
    """What one planned particle took: core time inside LAMMPS's run loop, all attempts."""

    n_atoms: int
    seconds: float
    attempts: int = 1


@dataclass(frozen=True)
class Law:
    """Core time of a particle of N atoms, `retries · a · Nᵇ` [s].

    Attributes:
        a, b: Of one attempt.
        retries: All attempts' time over that of one each.
    """

    a: float
    b: float
    retries: float

    @classmethod
    def fit(cls, costs: Sequence[Cost]) -> "Law":
        """Fit to particles of at least two sizes: b by least squares of the logarithms, a so that the sum is right."""
        n_atoms = np.array([cost.n_atoms for cost in costs], dtype=np.float64)
        seconds = np.array([cost.seconds for cost in costs])
        once = seconds / np.array([cost.attempts for cost in costs])
        b = float(np.polyfit(np.log(n_atoms), np.log(once), 1)[0])
        # the mean of logarithms is not the logarithm of the mean: the sum of what was measured is kept instead
        return cls(float(once.sum() / (n_atoms**b).sum()), b, float(seconds.sum() / once.sum()))

    def mean_s(self, n_atoms: tuple[int, int]) -> float:
        """Mean over sizes drawn uniformly from low to high, both included [s]."""
        sizes = np.arange(n_atoms[0], n_atoms[1] + 1, dtype=np.float64)
        return self.retries * self.a * float((sizes**self.b).mean())


Costs = Mapping[str, Sequence[Cost]]


def cover(costs: Costs, particles: ParticlesSection) -> bool:
    """Has every protocol of a campaign particles of several sizes, from twice its smallest to half its largest?"""
    low, high = particles.n_atoms

    def covered(protocol: str) -> bool:
        sizes = {cost.n_atoms for cost in costs.get(protocol, ())}
        return len(sizes) > 1 and min(sizes) <= 2 * low and 2 * max(sizes) >= high

    return all(covered(protocol) for protocol, weight in particles.protocols.items() if weight > 0)


def core_h(laws: Mapping[str, Law], particles: ParticlesSection, n_particles: int) -> float:
    """Core-hours of a campaign's molecular dynamics."""
    weights = {protocol: weight for protocol, weight in particles.protocols.items() if weight > 0}
    mean_s = sum(weight * laws[protocol].mean_s(particles.n_atoms) for protocol, weight in weights.items())
    return n_particles * mean_s / sum(weights.values()) / 3600


def interval_h(costs: Costs, particles: ParticlesSection, n_particles: int) -> tuple[float, float]:
    """95 % interval of `core_h`: the particles of each protocol drawn again, with replacement."""
    rng = rng_for("bootstrap of costs")
    drawn_h = []
    for _ in range(BOOTSTRAPS):
        laws = {protocol: Law.fit(_redrawn(found, rng)) for protocol, found in costs.items()}
        drawn_h.append(core_h(laws, particles, n_particles))
    low, high = np.percentile(drawn_h, [2.5, 97.5])
    return float(low), float(high)


def _redrawn(costs: Sequence[Cost], rng: np.random.Generator) -> list[Cost]:
    while True:
        drawn = [costs[place] for place in rng.integers(0, len(costs), len(costs))]
        if len({cost.n_atoms for cost in drawn}) > 1:  # no law goes through one size
            return drawn


def finished_costs(folder: Path, config: Config) -> Costs:
    """Costs of the finished chunks of a campaign that simulates particles as `config` does.

    Raises:
        ConfigError: its molecular dynamics differ.
        StoreError: no particle is finished.
    """
    campaign = read_campaign(folder)
    if _physics(campaign.md) != _physics(config.md) or campaign.potential != config.potential:
        raise ConfigError(f"{folder}: its sections md and potential differ from those of the campaign to be judged")
    chunks = present(folder / "structures", n_chunks(campaign.campaign.n_particles, campaign.md.particles_per_chunk))
    slots = [slot for manifest in read_all(folder / "structures", chunks) for slot in manifest.slots]

    def planned() -> Iterator[tuple[str, Cost]]:
        for slot in slots:
            if slot.seconds > 0:  # a run that LAMMPS refused at once has none
                made = planned_particle(slot.particle, campaign.particles, campaign.campaign.seed)
                yield made.protocol, Cost(made.n_atoms, slot.seconds, slot.attempts)

    if not (costs := by_protocol(planned())):
        raise StoreError(f"{folder}: no chunk is finished yet; let the campaign run on")
    return costs


def by_protocol(costs: Iterator[tuple[str, Cost]]) -> dict[str, list[Cost]]:
    grouped: dict[str, list[Cost]] = {}
    for protocol, cost in costs:
        grouped.setdefault(protocol, []).append(cost)
    return grouped


def _physics(md: MdSection) -> MdSection:
    return md.model_copy(update={"particles_per_chunk": 1})
