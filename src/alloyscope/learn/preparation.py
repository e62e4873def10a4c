"""From what a loader gathers to what a network sees, on the device that trains.

Images are exposed, divided by their background, cropped and turned in batches. A loader that did this image by image
would take a quarter of a training's time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from alloyscope.errors import ContractError
from alloyscope.learn.background import backgrounds
from alloyscope.learn.exposure import Cameras, expose
from alloyscope.learn.task import Batch, Task
from alloyscope.microscope.settings import DetectorSection

CACHED_IMAGES = 16  # images that a CPU takes at once, so that they stay in its cache

# What a loader gathers for n images, by name:
#     row (n,), vacuum_e (n,) [electrons per pixel in vacuum, as the table says], labels (n,)
#     counts (n, y, x) uint16, for images as they are stored
#     clean (n, y, x) float16 or float32, if the task reads it or images are exposed anew
#     maps (n, species, rows, columns) float16, if the task reads them
#     cameras: Cameras, and noise_seed: int, for images that are exposed anew
#     turns: numbers of images, one after another, that each of the 8 symmetries of the square takes
#     corners: ((row, column), …) of the crops, and crop_pixels, if images are cropped
Raw = Mapping[str, Any]
NOT_SHOWN = {"vacuum_e", "counts", "clean", "maps", "cameras", "noise_seed", "turns", "corners", "crop_pixels"}


def prepared(raw: Raw, task: Task, detector: DetectorSection) -> Batch:
    """Make the batch that `Task` describes.

    Args:
        raw: What the loader has gathered, on the device that shall hold the batch.
        task: How images are normalised, and what a batch must hold.
        detector: Offset, gain and kind of the camera.

    Raises:
        ContractError: an image has no background above the camera's offset; the message names its row.
    """
    rows: torch.Tensor = raw["row"]
    generator = None
    if "cameras" in raw:
        generator = torch.Generator(rows.device)
        generator.manual_seed(raw["noise_seed"])
    step = CACHED_IMAGES if rows.device.type == "cpu" else len(rows)
    parts = [
        _arrays(_part(raw, slice(start, start + step)), task, detector, generator)
        for start in range(0, len(rows), step)
    ]
    arrays = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    electrons = arrays.pop("electrons")
    if "corners" in raw:
        pixels = arrays["image"].shape[-1]
        arrays = {name: _cropped(array, pixels, raw) for name, array in arrays.items()}
    if turns := raw.get("turns"):
        arrays = {name: turned_in_groups(array, turns) for name, array in arrays.items()}
    others = {name: values for name, values in raw.items() if name not in NOT_SHOWN}
    return {**arrays, "electrons": electrons, **others}


def _part(raw: Raw, part: slice) -> dict[str, Any]:
    """Arrays of a part of the images."""
    found = {name: raw[name][part] for name in ("row", "vacuum_e", "counts", "clean", "maps") if name in raw}
    if "cameras" in raw:
        found["cameras"] = Cameras(*(values[part] for values in raw["cameras"]))
    return found


def _arrays(
    raw: Mapping[str, Any], task: Task, detector: DetectorSection, generator: torch.Generator | None
) -> dict[str, torch.Tensor]:
    """Image, electrons and the arrays that the task reads, (n, 1, y, x), (n,) and so on."""
    clean = raw["clean"].float() if "clean" in raw else None
    if generator is None:
        counts, vacuum_e = raw["counts"].float(), raw["vacuum_e"]
    else:
        assert clean is not None
        counts, vacuum_e = expose(clean, raw["cameras"], detector, generator), raw["cameras"].vacuum_e
    signal = counts.sub_(detector.offset)
    if task.normalised_by == "background":
        levels, electrons = _levels(signal, raw["row"])
    else:
        levels, electrons = detector.gain * vacuum_e, vacuum_e
    arrays = {"image": signal.div_(levels[:, None, None])[:, None], "electrons": electrons}
    if "clean" in task.reads:
        assert clean is not None
        if task.normalised_by == "background":
            clean = clean / _levels(clean, raw["row"])[0][:, None, None]
        arrays["clean"] = clean[:, None]
    if "maps" in raw:
        arrays["maps"] = raw["maps"].float()
    return arrays


def _levels(signal: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels of the backgrounds and their electrons, (n,) each."""
    found = backgrounds(signal)
    if not bool((found.levels > 0).all()):  # NaN is not above 0 either
        place = int((~(found.levels > 0)).nonzero()[0])
        level = float(found.levels[place])
        raise ContractError(
            f"image {int(rows[place])}: the background of an image must be above the camera's offset; got {level:g} "
            "counts above it (nan: the image is not finite everywhere)"
        )
    return found.levels, found.electrons


def _cropped(array: torch.Tensor, pixels: int, raw: Raw) -> torch.Tensor:
    """Crops of images of so many pixels or, on their coarser grid, of maps; corners are multiples of its cells."""
    cell = pixels // array.shape[-1]
    size = raw["crop_pixels"] // cell
    return torch.stack(
        [
            image[..., row // cell : row // cell + size, column // cell : column // cell + size]
            for image, (row, column) in zip(array, raw["corners"])
        ]
    )


def turned(image: torch.Tensor, symmetry: int) -> torch.Tensor:
    """Apply one of the 8 symmetries of the square, without interpolation: quarter turns 0–3, then the same mirrored."""
    quarter_turns = image.rot90(symmetry % 4, dims=(-2, -1))
    return quarter_turns.flip(-1) if symmetry >= 4 else quarter_turns


def turned_in_groups(images: torch.Tensor, turns: Sequence[int]) -> torch.Tensor:
    """Turn the first `turns[0]` images by symmetry 0, the next by symmetry 1, and so on."""
    groups = torch.split(images, list(turns))
    return torch.cat([turned(group, symmetry) for symmetry, group in enumerate(groups) if len(group)])
