"""The picture of the README: `python docs/gallery.py results/demo docs/gallery.png`."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from alloyscope.figures.style import WORDS
from alloyscope.store.atomic import read_json
from alloyscope.store.images import CLEAN, COUNTS, read_images
from alloyscope.store.tables import read_table

COLUMNS = 5


def main(folder: Path, out: Path) -> None:
    first, second = read_json(folder / "plan" / "campaign.json")["config"]["particles"]["species"]
    images = read_table(folder / "hrtem" / "images.parquet")
    one_view = images[images["valid"] & (images["split"] == "test")].groupby("particle").head(1)
    rows = one_view.sort_values("dose_e_per_A2").iloc[np.linspace(0, len(one_view) - 1, COLUMNS).astype(int)]
    figure = Figure(figsize=(2 * COLUMNS, 4.5), layout="constrained")
    panels = figure.subplots(2, COLUMNS)
    for column, row in enumerate(rows.to_dict("records")):
        for axes, name in zip(panels[:, column], (CLEAN, COUNTS)):
            image = read_images(folder / "hrtem", name, row["image"], row["image"] + 1)[0].astype(np.float64)
            low, high = np.quantile(image, (0.002, 0.998))
            axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes.set_axis_off()
        kind = WORDS.get(str(row["ordering"]), "no label")
        panels[0, column].set_title(f"{kind}, {row['n_first']} {first} + {row['n_second']} {second}", fontsize=9)
        panels[1, column].set_title(f"{row['dose_e_per_A2']:.0f} e/Å²", fontsize=9)
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
