"""How images converge as grid and slices are refined, ours and abTEM's: `python benchmarks/convergence.py`.

The truth is the engine's own image on 1408² points (0.04 Å) over the whole field; abTEM, which builds its potential in
another way, comes ever nearer to it. `--figure FILE` draws the curves.
"""

from pathlib import Path
from unittest.mock import patch

import harness
import matplotlib
import numpy as np
from harness import Figure
from imaging_cases import ORIENTATIONS, band_error, pure, see, view

from alloyscope.imaging import multislice
from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.imaging.gates import rms_difference
from alloyscope.imaging.multislice import Multislice, Square
from alloyscope.microscope.arrays import CPU, Array
from alloyscope.microscope.settings import ImagingSection

GRIDS = (256, 384, 512, 768, 1024)
FINEST = 1408  # 11 points a pixel, 0.0395 Å
BANDS_per_A = ((0.0, 0.3), (0.3, 0.6), (0.6, 1.2), (1.2, 1.5))
BANDS_AT = (384, 512)
SLICES = (10, 20, 40, 80)
MANY_SLICES = 160
SLICES_AT = 512


class Unmatched(Square):
    """The potential cut at the grid's limit, and nothing done about it."""

    def _factor(self, element: str) -> Array:
        with patch.object(multislice, "correction_A2", lambda *_: np.zeros_like):
            return super()._factor(element)


def engine(name: str, imaging: ImagingSection) -> Multislice | AbtemEngine:
    match name:
        case "ours":
            return Multislice(imaging, CPU)
        case "unmatched":
            unmatched = Multislice(imaging, CPU)
            unmatched.kind = Unmatched
            return unmatched
        case _:
            return AbtemEngine(imaging, "cpu")


def grids(element: str, orientation: str, finest: int, coarser: tuple[int, ...]) -> dict[str, Figure]:
    """Error of the camera image and of the wave's bands on each grid, either engine, against our own finest."""
    structure, seen = pure(element), view(orientation)
    fine = ImagingSection(grid=finest, n_slices=20)
    truth = see(Multislice(fine, CPU), fine, structure, seen)
    figures = {}
    against = f"our engine at {finest}², {len(structure.elements)} atoms, 20 slices"
    for name in ("ours", "unmatched", "abtem"):
        for grid in (*coarser, *((finest,) if name == "abtem" else ())):
            imaging = ImagingSection(grid=grid, n_slices=20)
            found = see(engine(name, imaging), imaging, structure, seen)
            key = f"{name}_{element}_{orientation}_{grid}"
            figures[f"grid_error_{key}"] = Figure(1e2 * rms_difference(found.image, truth.image), "% of beam", against)
            for low, high in BANDS_per_A if grid in BANDS_AT else ():
                error = 1e2 * band_error(found, truth, low, high)
                figures[f"band_error_{key}_{low:g}-{high:g}"] = Figure(error, "% of scattered wave", against)
    return figures


def slices(element: str, orientation: str, grid: int, many: int) -> dict[str, Figure]:
    """Error of the camera image for each number of slices, against many."""
    structure, seen = pure(element), view(orientation)

    def image(n_slices: int) -> np.ndarray:
        imaging = ImagingSection(grid=grid, n_slices=n_slices)
        return see(Multislice(imaging, CPU), imaging, structure, seen).image

    truth = image(many)
    against = f"{many} slices on {grid}², {len(structure.elements)} atoms"
    return {
        f"slices_error_{element}_{orientation}_{n}": Figure(1e2 * rms_difference(image(n), truth), "% of beam", against)
        for n in SLICES
    }


def curve(figures: dict[str, Figure], prefix: str) -> tuple[list[int], list[float]]:
    """Numbers that end the names beginning so, in order, and the figures' values."""
    found = sorted((int(name.removeprefix(prefix)), figures[name].value) for name in figures if name.startswith(prefix))
    return [number for number, _ in found], [value for _, value in found]


def draw(figures: dict[str, Figure], elements: list[str], path: Path) -> None:
    """Error of the camera image against the grid, for either orientation, and against the number of slices."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "alloyscope", "font.size": 8})
    canvas, axes = pyplot.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
    for colour, element in enumerate(elements):
        for axis, orientation in zip(axes, ORIENTATIONS):
            for name, style in (("ours", "o-"), ("abtem", "s:")):
                points = curve(figures, f"grid_error_{name}_{element}_{orientation}_")
                label = f"{element}, {'ours' if name == 'ours' else 'abTEM'}"
                axis.loglog(*points, style, ms=3.5, color=f"C{colour}", label=label)
        for orientation, style in zip(ORIENTATIONS, ("o-", "s--")):
            points = curve(figures, f"slices_error_{element}_{orientation}_")
            axes[2].loglog(*points, style, ms=3.5, color=f"C{colour}", label=f"{element}, {orientation}")
    for axis, orientation in zip(axes, ORIENTATIONS):
        ticks = (*GRIDS, FINEST)
        axis.set(title=orientation, xlabel="grid", xticks=ticks, xticklabels=[f"{grid}²" for grid in ticks])
        axis.tick_params(axis="x", labelrotation=45)
    axes[2].set(title="slice thickness", xlabel=f"slices, on {SLICES_AT}²", xticks=SLICES, xticklabels=SLICES)
    axes[0].set_ylabel("error of the camera image, rms [% of beam]")
    for axis in axes:
        axis.minorticks_off()
        axis.axhline(0.2, color="0.6", lw=0.8)
    axes[0].legend(fontsize=6.5, ncols=2)
    axes[2].legend(fontsize=6.5, ncols=2)
    canvas.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--elements", nargs="+", default=["Ag", "Co", "Au", "Cu"], metavar="E")
    parser.add_argument("--finest", type=int, default=FINEST, metavar="N", help=f"of the truth (default: {FINEST})")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the curves, too")
    arguments = parser.parse_args()
    coarser = tuple(grid for grid in GRIDS if grid < arguments.finest)
    figures: dict[str, Figure] = {}
    for element in arguments.elements:
        for orientation in ORIENTATIONS:
            print(f"{element}, {orientation}", flush=True)
            figures |= grids(element, orientation, arguments.finest, coarser)
            figures |= slices(element, orientation, min(SLICES_AT, arguments.finest), MANY_SLICES)
    if arguments.figure:
        draw(figures, arguments.elements, arguments.figure)
    harness.publish("convergence", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
