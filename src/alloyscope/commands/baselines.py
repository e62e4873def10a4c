"""Score baselines of the task `reading` on a released image set: what needs no network is not learnt from the image.

The baselines are trained on the split `train` and scored on the split `test` as networks are: constants, size and
composition without the image, the particle's outline, and descriptors of the image with gradient boosting. Writes their
scores into --out.
"""

import argparse
from pathlib import Path

from alloyscope.learn.baselines import BASELINES, baseline_scores
from alloyscope.learn.data import read_released
from alloyscope.microscope.settings import DetectorSection
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import write_json
from alloyscope.wording import number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=Path, required=True, metavar="FILE", help="dataset.json of the image set")
    add_section(parser, "detector", DetectorSection)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file of the scores")


def run(*, dataset: Path, detector: DetectorSection, out: Path) -> None:
    """Score the baselines.

    Args:
        dataset: dataset.json of the image set.
        detector: The camera; its offset is known.
        out: File to write.

    Raises:
        ContractError: a split is empty.
        StoreError: an input is missing or damaged, or `out` cannot be written.
    """
    released = read_released(dataset)
    found = baseline_scores(released, detector)
    write_json(out, {"dataset": released.digest, "baselines": found})
    for name, scores in found.items():
        balanced = number(scores["balanced_accuracy"], "%")
        print(
            f"{name} ({BASELINES[name]}): balanced accuracy {balanced}, "
            f"size {number(scores['size_mae_atoms'], 'atoms')}, composition {number(scores['composition_mae'])}"
        )
