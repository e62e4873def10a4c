"""Ids of particles and images, and random streams with addresses."""

import hashlib
import math

import numpy as np

from alloyscope.sections import Draw, LogUniform


def particle_id(particle: int) -> str:
    return f"p{particle:07d}"


def image_id(particle: int, view: int) -> str:
    return f"{particle_id(particle)}-v{view:02d}"


def chunk_name(chunk: int) -> str:
    """Chunk number with six digits, so that names sort as numbers, for up to a million chunks."""
    return f"{chunk:06d}"


def _digest(purpose: str, parts: tuple[int, ...]) -> bytes:
    return hashlib.sha256("/".join((purpose, *map(str, parts))).encode()).digest()


def rng_for(purpose: str, *parts: int) -> np.random.Generator:
    """Random stream that depends only on its address, e.g. `rng_for("dose", seed, particle, view)`."""
    return np.random.Generator(_bits_for(purpose, parts))


def uniform_for(purpose: str, *parts: int) -> float:
    """The first number that `rng_for(purpose, *parts).random()` gives, in half the time."""
    return float(int(_bits_for(purpose, parts).random_raw()) >> 11) / 2**53


def _bits_for(purpose: str, parts: tuple[int, ...]) -> np.random.Philox:
    # The digest is one large number; NumPy takes half the time for its words, of which the highest must not be zero.
    number = _digest(purpose, parts)
    entropy = np.frombuffer(number[::-1], "<u4") if any(number[:4]) else int.from_bytes(number)
    return np.random.Philox(np.random.SeedSequence(entropy))


def seed_for(purpose: str, *parts: int) -> int:
    """A positive seed below 2²⁹, for programs that need an integer (torch; LAMMPS accepts up to 900 million)."""
    return 1 + int.from_bytes(_digest(purpose, parts)[:8]) % (2**29 - 1)


def draw_value(draw: Draw, rng: np.random.Generator) -> float:
    """Draw one value: fixed, uniform or log-uniform. Every case takes one number from the stream."""
    return value_at(draw, float(rng.random()))


def value_at(draw: Draw, u: float) -> float:
    """The value of a draw whose uniform random number in [0, 1) is `u`."""
    match draw:
        case LogUniform(log_uniform=(low, high)):
            return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        case (low, high):
            return low + u * (high - low)
        case _:
            return draw
