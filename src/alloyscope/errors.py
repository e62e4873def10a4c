"""Errors a user can mend. The command line prints them as one line and exits with 2."""

from collections.abc import Iterator
from contextlib import contextmanager

PARTICLE_NOTE = "particle "


class AlloyscopeError(Exception):
    """Something outside the program is wrong: the message says what, what is allowed, and what to do."""


class ConfigError(AlloyscopeError):
    """The configuration asks for something impossible; lists every fault with its path."""


class ContractError(AlloyscopeError):
    """Data handed from one stage to the next breaks its contract (shape, dtype, unit, order)."""


class StoreError(AlloyscopeError):
    """A file is missing, damaged, or cannot be written."""


class SimulationError(AlloyscopeError):
    """A simulation cannot be run at all (one failed particle is a value, not this error)."""


class GateError(AlloyscopeError):
    """A physics gate failed: the images must not be used."""


@contextmanager
def at_particle(particle: int) -> Iterator[None]:
    """What goes wrong inside is about this particle: the error says so, whatever its kind."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{PARTICLE_NOTE}{particle}")
        raise
