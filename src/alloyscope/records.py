"""Records: each module of a folder holds one class, so that the folder is the table of records."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def records(package: ModuleType, base: type[T]) -> dict[str, type[T]]:
    """The record of each module of a package, by the module's name, in alphabetical order.

    Args:
        package: Package whose modules hold the records.
        base: Base class of the records.
    """
    found = {}
    for name in sorted(module.name for module in iter_modules(package.__path__)):
        module = import_module(f"{package.__name__}.{name}")
        kinds = [
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module.__name__
        ]
        if len(kinds) != 1 or hasattr(base, name) or name in getattr(base, "model_fields", ()):
            raise TypeError(
                f"{module.__file__}: must hold one {base.__name__}, under a name that {base.__name__} does not use; "
                f"holds {len(kinds)}"
            )
        found[name] = kinds[0]
    return found
