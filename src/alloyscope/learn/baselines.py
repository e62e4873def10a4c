"""Baselines of the task reading, trained on the training split and scored on the test split as networks are.

What they reach is not read from the image's details: `constants` see nothing, `told` knows the true number of atoms and
composition and guesses the order, `silhouette` sees the particle's true outline, and `descriptors` sees the projected
area, the radial profile and the power spectrum of the noisy image. All but the first use gradient boosting.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alloyscope.learn.comparison import images_of
from alloyscope.learn.data import Released
from alloyscope.learn.descriptors import image_descriptors, silhouette_descriptors
from alloyscope.learn.tasks.reading import ORDERINGS, Reading, ordered
from alloyscope.microscope.settings import DetectorSection

SEED = 0  # boosting draws at random which tenth of the rows tells it when to stop
BASELINES = {
    "constants": "the same answer for every image",
    "told": "told size and composition, not the image",
    "silhouette": "the true outline of the particle",
    "descriptors": "area, radial profile and power spectrum",
}

Features = NDArray[np.float64]  # (n, features)


def baseline_scores(released: Released, detector: DetectorSection) -> dict[str, dict[str, Any]]:
    """Scores of each of BASELINES, as `Reading.score` gives them.

    Raises:
        ContractError: a split is empty.
        StoreError: an image is missing or damaged.
    """
    training, tested = (released.rows(split).reset_index(drop=True) for split in ("train", "test"))
    features = features_by_baseline(released, detector)
    return {
        name: Reading().score(predictions(training, tested, *(make(table) for table in (training, tested))), training)
        for name, make in features.items()
    }


def features_by_baseline(
    released: Released, detector: DetectorSection
) -> dict[str, Callable[[pd.DataFrame], Features | None]]:
    """What each baseline knows of the rows of a table; None for `constants`."""
    look = images_of(released, detector)

    def seen(table: pd.DataFrame) -> Features:
        found = (look(row) for row in table["image"].tolist())
        return np.array([image_descriptors(image, electrons) for image, _, electrons in found])

    def outline(table: pd.DataFrame) -> Features:
        return np.array([silhouette_descriptors(look(row)[1]) for row in table["image"].tolist()])

    return {
        "constants": lambda table: None,
        "told": lambda table: table[["n_atoms", "fraction_first"]].to_numpy(dtype=np.float64),
        "silhouette": outline,
        "descriptors": seen,
    }


def predictions(
    training: pd.DataFrame, tested: pd.DataFrame, known: Features | None, shown: Features | None
) -> pd.DataFrame:
    """Predictions for the test rows, with the columns of the task.

    Args:
        training, tested: Rows of images.parquet.
        known, shown: What is known of each of them; None for the best constants: the median of the numbers of atoms and
            of the compositions, which have the smallest mean error, and the commoner order.
    """
    with_order = ordered(training)
    janus = (training["ordering"] == ORDERINGS[1]).to_numpy(dtype=bool)
    numbers = {name: training[name].to_numpy(dtype=np.float64) for name in ("n_atoms", "fraction_first")}
    if known is None or shown is None:
        p_janus = np.full(len(tested), janus[with_order].mean() if with_order.any() else 0.5)
        guessed = {name: np.full(len(tested), np.median(values)) for name, values in numbers.items()}
    else:
        p_janus = _classified(known[with_order], janus[with_order], shown)
        guessed = {
            "n_atoms": np.exp(_fitted(known, np.log(numbers["n_atoms"]), shown)),
            "fraction_first": np.clip(_fitted(known, numbers["fraction_first"], shown), 0, 1),
        }
    read = {"p_janus": p_janus, **guessed}
    kept = tested[[name for name in ("image", "particle", "group", "view", "dose_e_per_A2") if name in tested]]
    return kept.assign(**Reading().table(tested, read))


def _classified(known: Features, janus: NDArray[np.bool_], shown: Features) -> NDArray[np.float64]:
    """Probability of Janus; classes weigh alike, as in the balanced accuracy."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if len(np.unique(janus)) < 2:
        return np.full(len(shown), float(janus.mean()) if len(janus) else 0.5)
    model = HistGradientBoostingClassifier(class_weight="balanced", random_state=SEED, early_stopping=True)
    return np.asarray(model.fit(known, janus).predict_proba(shown)[:, 1], dtype=np.float64)


def _fitted(known: Features, values: NDArray[np.float64], shown: Features) -> NDArray[np.float64]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(loss="absolute_error", random_state=SEED, early_stopping=True)
    return np.asarray(model.fit(known, values).predict(shown), dtype=np.float64)
