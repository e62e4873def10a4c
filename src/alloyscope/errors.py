"""Errors that a user can correct. The command line prints them without a traceback and exits with 2."""

from collections.abc import Iterator
from contextlib import contextmanager

PARTICLE_NOTE = "particle "


class AlloyscopeError(Exception):
    """A fault outside the program; the message says what is wrong, what is allowed, and what to do."""


class ConfigError(AlloyscopeError):
    """The config asks for something impossible; the message lists every fault with its path."""


class ContractError(AlloyscopeError):
    """Data that pass from one stage to the next break their contract (shape, dtype, unit, order)."""


class StoreError(AlloyscopeError):
    """A file is missing, damaged, or cannot be written."""


class SimulationError(AlloyscopeError):
    """A simulation cannot run at all; a single failed particle is a result and not this error."""


class GateError(AlloyscopeError):
    """A physics gate failed: the images must not be used."""


@contextmanager
def at_particle(particle: int) -> Iterator[None]:
    """Add the number of the particle to any error that is raised inside."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{PARTICLE_NOTE}{particle}")
        raise
