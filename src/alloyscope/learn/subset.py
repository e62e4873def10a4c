"""Which images of a released set a run is trained and tested on.

A run may be shown fewer particles or views than the split `train` holds, or be split by image, as it should not be:
then the same particles are trained on and tested, and the score says what such a split would have claimed.
"""

from collections.abc import Collection

import pandas as pd

from alloyscope.errors import ConfigError, ContractError
from alloyscope.ids import uniform_for
from alloyscope.learn.task import Task

TRAINED, VALIDATED = 0.8, 0.1  # shares of the images of a split by image; the rest is tested


def chosen(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The images of a released set that a run of a task sees: rows of its table.

    Images of the split `train` that the settings `particles` and `views` leave out are dropped. With `split: image`,
    the images left, of all these particles, are divided at random between training, validation and test, and those of
    other particles take no part; the split `calibration` stays.

    Raises:
        ConfigError: the split `train` holds fewer particles than the run asks for.
    """
    training = table["split"] == "train"
    numbers = table.loc[training, "particle"].drop_duplicates().sort_values()
    if task.particles is not None and task.particles > len(numbers):
        raise ConfigError(
            f"particles: must be at most {len(numbers)}, the particles with valid images in the split train; "
            f"got {task.particles}"
        )
    kept = training & table["particle"].isin(numbers.iloc[: task.particles])
    if task.views is not None:
        kept &= table["view"] < task.views
    if task.split == "particle":
        return table[kept | ~training].reset_index(drop=True)
    shown = table[kept | (table["split"] == "calibration")].reset_index(drop=True)
    return shown.assign(split=_by_image(shown))


def _by_image(table: pd.DataFrame) -> pd.Series:
    drawn = table["image"].map(lambda image: uniform_for("leak", int(image)))
    names = drawn.map(lambda u: "train" if u < TRAINED else "validation" if u < TRAINED + VALIDATED else "test")
    return names.where(table["split"] != "calibration", "calibration").astype(table["split"].dtype)


def unseen(table: pd.DataFrame, trained: pd.DataFrame, seen: Collection[int]) -> pd.DataFrame:
    """Rows of another image set without the test images of particles that a network may have seen.

    Numbers of particles mean nothing in another set. A particle is the same one, or is taken for it, if it has as many
    atoms of each species: this finds it at another temperature, too, and leaves out a few others by chance.

    Args:
        table: Rows of the set to be tested.
        trained: Rows of the set that the network was trained on.
        seen: Particles of that set which the network has seen.

    Raises:
        ContractError: no test image is left.
    """
    counts = ["n_first", "n_second"]
    known = pd.MultiIndex.from_frame(trained.loc[trained["particle"].isin(seen), counts])
    tested = table["split"] == "test"
    left = table[~(tested & pd.MultiIndex.from_frame(table[counts]).isin(known))].reset_index(drop=True)
    if tested.any() and not (left["split"] == "test").any():
        raise ContractError(
            "every test particle of the other set has as many atoms of each species as one that the network has seen; "
            "test on other particles"
        )
    return left
