"""The picture of the microscope's presets: one particle, with and without a film, at three doses.

The files come from `snakemake --profile profiles/local --configfile workflow/campaigns/demo.yaml --config
"imaging={film: {share: 0.5}}" -- results/demo/structures/chunk-000000.json results/demo/film/carbon.extxyz`.

    python docs/presets.py results/demo/structures/chunk-000000.extxyz results/demo/film/carbon.extxyz docs/presets.png

The particle is the largest of the file, in one orientation throughout; what else is drawn follows the preset.
"""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from alloyscope.config.read import parse
from alloyscope.ids import rng_for
from alloyscope.imaging.hrtem import imager_for
from alloyscope.microscope.detector import expose
from alloyscope.microscope.presets import packaged_presets
from alloyscope.microscope.settings import FilmSection, ImagingSection
from alloyscope.microscope.views import drawn_view
from alloyscope.store.structures import read_film, read_structures
from alloyscope.wording import minus

DOSES_e_per_A2 = (1e4, 1e3, 1e2)
SEED, VIEW, THICKNESS_A = 2026, 3, 30.0
IMAGING = ImagingSection(grid=256, max_shift_A=0.0, film=FilmSection(share=1.0, thickness_A=THICKNESS_A))


def main(structures: Path, film: Path, out: Path) -> None:
    particle = max(read_structures(structures), key=lambda structure: len(structure.elements))
    imager = imager_for(IMAGING, film=read_film(film))
    figure = Figure(figsize=(10.6, 4.5), layout="constrained")
    panels = figure.subplots(len(packaged_presets()), 2 * (1 + len(DOSES_e_per_A2)))
    for row, preset in enumerate(packaged_presets()):
        config = parse({"optics": {"preset": preset}, "detector": {"preset": preset}})
        drawn = drawn_view(int(particle.info["particle"]), VIEW, IMAGING, config.optics, config.detector, SEED)
        bare = replace(drawn, film_thickness_A=0.0)
        for half, clean in enumerate(imager.images([([particle], bare), ([particle], drawn)])):
            exposed = [
                expose(
                    clean,
                    dose_e_per_A2=dose,
                    readout_e=drawn.readout_e,
                    gain_map_rms=drawn.gain_map_rms,
                    mtf_parameters=(drawn.mtf_c1, drawn.mtf_c2, drawn.mtf_c3),
                    pixel_size_A=IMAGING.pixel_size_A,
                    detector=config.detector,
                    rng=rng_for("noise", SEED, row, half, int(dose)),
                )
                for dose in DOSES_e_per_A2
            ]
            for axes, image in zip(panels[row, 4 * half : 4 * half + 4], (clean, *exposed)):
                low, high = np.quantile(image, (0.002, 0.998))
                axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
        lens = minus(f"defocus {drawn.defocus_A / 10:.0f} nm\n$C_{{30}}$ {drawn.C30_A / 1e4:.0f} µm")
        panels[row, 0].set_ylabel(f"{preset}\n{lens}", fontsize=9)
    for half, words in enumerate(("no film", f"carbon film, {THICKNESS_A / 10:.0f} nm")):
        titles = ("expected", *(f"{dose:,.0f} e/Å²".replace(",", "\N{THIN SPACE}") for dose in DOSES_e_per_A2))
        for axes, title in zip(panels[0, 4 * half : 4 * half + 4], titles):
            axes.set_title(f"{words}\n{title}" if title == "expected" else title, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    Image.open(buffer).convert("L").save(out, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
