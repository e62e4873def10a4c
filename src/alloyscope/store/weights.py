"""Weights of a network as safetensors: numbers and their names, of which nothing can be executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from alloyscope.errors import StoreError
from alloyscope.store.atomic import writing

if TYPE_CHECKING:
    from torch import Tensor


def save_weights(path: Path, weights: Mapping[str, "Tensor"]) -> None:
    """Write tensors atomically.

    Raises:
        StoreError: the folder cannot be written, or no space is left.
    """
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    with writing(path) as aside:
        aside.write_bytes(content)


def load_weights(path: Path) -> dict[str, "Tensor"]:
    """Read tensors.

    Raises:
        StoreError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error}); export the model again") from None
    except SafetensorError as error:
        raise StoreError(f"{path}: damaged or not safetensors ({error}); export the model again") from None
