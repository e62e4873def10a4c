"""Checkpoints hold only plain data and tensors, so that loading one cannot run code."""

import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from alloyscope.errors import StoreError
from alloyscope.store.atomic import writing


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        StoreError: the folder cannot be written, or no space is left.
    """
    # Write to memory first: on a full disk, torch's own writer raises an "enforce fail" that does not name the file.
    content = BytesIO()
    torch.save(dict(checkpoint), content)
    with writing(path) as aside:
        aside.write_bytes(content.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of the stage `train`.

    Raises:
        StoreError: the file is missing or damaged, or is not such a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error}); run the stage `train` first") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"{path}: damaged or not a checkpoint ({reason}); delete it and train again") from None
    if not isinstance(content, dict) or "card" not in content.get("hyper_parameters", {}):
        raise StoreError(f"{path}: not a checkpoint of the stage `train`; train again")
    return content
