"""Chunks: which particles a chunk holds, and which chunks a campaign has."""

from dataclasses import dataclass

from alloyscope.config.model import Config
from alloyscope.ids import chunk_name


@dataclass(frozen=True)
class Chunk:
    """Consecutive particles; only the last chunk may hold fewer particles than its capacity."""

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


def chunk_at(index: int, n_particles: int, capacity: int) -> Chunk:
    first = index * capacity
    return Chunk(index, first, min(capacity, n_particles - first))


def imaging_capacity(config: Config) -> int:
    """Number of particles in a full imaging chunk, which covers a whole number of md chunks."""
    return config.imaging.md_chunks_per_chunk * config.md.particles_per_chunk


def md_chunk(index: int, config: Config) -> Chunk:
    return chunk_at(index, config.campaign.n_particles, config.md.particles_per_chunk)


def md_chunks_of(imaging_chunk: int, config: Config) -> range:
    """The md chunks that an imaging chunk covers; the last imaging chunk may cover fewer."""
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
    """Imaging chunks that the released image set holds: all, or the first `dataset.min_chunks`."""
    return imaging_chunks(config)[: config.dataset.min_chunks]
