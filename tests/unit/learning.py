"""A small released set, and a network's card, for the tests of learning."""

import numpy as np
import pandas as pd

from alloyscope.learn.data import Released
from alloyscope.learn.model import Card
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection
from alloyscope.sections import LogUniform

PIXEL_A = 0.5
DETECTOR = DetectorSection(dose_e_per_A2=LogUniform(log_uniform=(100.0, 10_000.0)), gain=2.0, offset=10)


class Both(TASKS["reading"]):
    """Reading that is given the truth as well."""

    reads = ("clean",)


BOTH = Both(gain_error=1.0, offset_error=0.0)  # in units of the image's own background
BY_DOSE = Both(normalised_by="dose", gain_error=1.0, offset_error=0.0)


def released_set() -> Released:
    """Four training images of 16² pixels: a ramp at row 0, vacuum otherwise; stored counts of exactly the mean."""
    clean = np.ones((4, 16, 16), np.float16)
    clean[0] = np.linspace(0.5, 1.5, 256).reshape(16, 16)
    dose = 400.0  # 100 electrons a pixel
    counts = np.rint(10 + 2 * 100 * clean.astype(float)).astype(np.uint16)
    table = pd.DataFrame(
        {
            "image": range(4),
            "particle": [0, 0, 1, 1],
            "dose_e_per_A2": dose,
            "mtf_c1": 0.0,
            "mtf_c2": 0.35,
            "mtf_c3": 2.5,
            "split": "train",
            "ordering": ["janus", "janus", "core_shell", "core_shell"],
            "n_atoms": [100, 100, 200, 200],
            "fraction_first": [0.25, 0.25, 0.75, 0.75],
        }
    )
    return Released(table, clean, counts, PIXEL_A, "digest")


def card(task="reading", **changes) -> Card:
    fields = {
        "task": task,
        "seed": 0,
        "settings": TASKS[task](width=4).model_dump(mode="json"),
        "detector": DETECTOR.model_dump(mode="json"),
        "centre": (5.0, 0.5),
        "spread": (0.5, 0.2),
        "seen": [0, 1],
        "digest": "0",
    }
    return Card(**{**fields, **changes})
