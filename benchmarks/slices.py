"""Error of slices and of a particle's own square: `python benchmarks/slices.py`, a quarter of an hour of one core.

Particles of data/agco-reference over the whole range of sizes, in drawn orientations under plain optics. The truth is
the engine's own image with slices of ⅛ Å on the whole field of view (against abTEM: benchmarks/convergence.py).
"""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import harness
import numpy as np
from harness import Figure
from imaging_cases import SEED, particles

from alloyscope.contracts import Structure, View
from alloyscope.imaging import box, multislice
from alloyscope.imaging.gates import rms_difference
from alloyscope.imaging.hrtem import imager_for, plain_optics
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view

THIN_A = 0.125
THICKNESSES_A = (0.5, 1.0, 1.5, 2.0, 3.0)
MARGINS_A = (2.0, 2.5, 3.0, 4.0, 6.0)
WHOLE_FIELD_A = 100.0  # a margin beyond any field of view

Image = Callable[..., np.ndarray]


def images_of(structure: Structure, seen: View) -> Image:
    def image(margin_A: float = WHOLE_FIELD_A, **changed: object) -> np.ndarray:
        imaging = ImagingSection(device="cpu", **changed)
        with patch.object(multislice, "MARGIN_A", margin_A):
            return next(imager_for(imaging).images([([structure], seen)]))

    return image


def of_thickness(image: Image) -> dict[str, float]:
    truth = image(slice_A=THIN_A)
    found = {f"slices_error_{slice_A:g}_A": rms_difference(image(slice_A=slice_A), truth) for slice_A in THICKNESSES_A}
    with patch.object(box, "_half_slice_A", lambda *_: THIN_A / 2):  # as abTEM: atoms scatter half a slice too early
        found |= {
            f"slices_error_{slice_A:g}_A_upper_face": rms_difference(image(slice_A=slice_A), truth)
            for slice_A in THICKNESSES_A
        }
        found["slices_error_20_slices_upper_face"] = rms_difference(image(n_slices=20), truth)
    return found | {"slices_error_20_slices": rms_difference(image(n_slices=20), truth)}


def of_margin(image: Image) -> dict[str, float]:
    whole = image()
    return {f"square_error_{margin_A:g}_A": rms_difference(image(margin_A), whole) for margin_A in MARGINS_A}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--particles", type=int, default=8, metavar="N", help="default: 8")
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []
    for number, structure in enumerate(particles(arguments.particles)):
        drawn = drawn_view(number, 0, ImagingSection(), OpticsSection(), DetectorSection(), SEED)
        image = images_of(structure, replace(plain_optics(drawn), angular_spread_mrad=0.0))
        rows.append(of_thickness(image) | of_margin(image))
        text = ", ".join(f"{name} {value:.4%}" for name, value in rows[-1].items())
        print(f"{len(structure.elements)} atoms: {text}", flush=True)
    against = f"{len(rows)} particles of 60 to 1000 atoms; slices of {THIN_A:g} Å, or the whole field of view"
    figures = {name: Figure.median([1e2 * row[name] for row in rows], "% of beam", against) for name in rows[0]}
    harness.publish("slices", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
