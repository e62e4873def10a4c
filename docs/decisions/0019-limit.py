"""Accuracy of an ideal observer of the order against the dose, for particles of data/agco-reference.

python docs/decisions/0019-limit.py --particles 24
"""

import argparse
from pathlib import Path

import numpy as np
from ase.io import iread

from alloyscope.contracts import Structure
from alloyscope.ids import rng_for
from alloyscope.imaging.hrtem import imager_for
from alloyscope.learn.limit import core_shell, janus, observer, sampled_accuracy
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view

DOSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
SEED, DRAWS = 19, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=24)
    wanted = parser.parse_args().particles
    imaging, optics, detector = ImagingSection(views=1), OpticsSection(), DetectorSection()
    imager, area = imager_for(imaging), imaging.pixel_size_A**2
    frames = list(iread(Path("data/agco-reference/part-001.extxyz.gz"), index=":"))
    exact, sampled, needed = [], [], []
    for number in np.linspace(0, len(frames) - 1, wanted).astype(int).tolist():
        symbols, positions = np.array(frames[number].get_chemical_symbols()), frames[number].positions
        silver, axis = int((symbols == "Ag").sum()), rng_for("axis", SEED, number).standard_normal(3)
        view = drawn_view(number, 0, imaging, optics, detector, SEED)
        jobs = [
            ([Structure(tuple(np.where(first, "Ag", "Co").tolist()), positions)], view)
            for first in (core_shell(positions, silver), janus(positions, silver, axis))
        ]
        images = [np.maximum(image, 1e-6) for image in imager.images(jobs)]
        seen = observer(*images)
        exact.append(seen.accuracy(np.array(DOSES) * area))
        needed.append(seen.electrons_for(0.99) / area)
        rng = rng_for("limit", SEED, number)
        sampled.append([sampled_accuracy(*images, dose * area, DRAWS, rng) for dose in DOSES])
    for dose, one, other in zip(DOSES, np.mean(exact, axis=0), np.mean(sampled, axis=0)):
        print(
            f"{dose:6g} e/Å²: {100 * one:.1f} % from moments, {100 * other:.1f} % of {2 * DRAWS * wanted} drawn images"
        )
    quantiles = np.quantile(needed, (0.1, 0.5, 0.9, 1.0))
    print("dose for 99 %, 10 %, 50 %, 90 % of particles and the worst:", ", ".join(f"{q:.2g}" for q in quantiles))


if __name__ == "__main__":
    main()
