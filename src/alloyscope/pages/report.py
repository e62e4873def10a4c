"""The report: one self-contained page with the campaign's results, and summary.txt with the main results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup
from numpy.typing import NDArray

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import shows_networks
from alloyscope.config.model import Config
from alloyscope.contracts import Split
from alloyscope.errors import StoreError
from alloyscope.figures.images import image_row
from alloyscope.figures.learning import learning_curves
from alloyscope.figures.potential import validation
from alloyscope.figures.structures import order_plane
from alloyscope.figures.style import WORDS
from alloyscope.ids import particle_id
from alloyscope.learn.task import Block, Evaluated, Picture, Task
from alloyscope.pages.page import embed, protocol_looks, render
from alloyscope.progress import log
from alloyscope.store.atomic import read_json, write_text
from alloyscope.store.images import CLEAN, COUNTS, read_images
from alloyscope.store.tables import read_csv, read_table
from alloyscope.structure import statistics
from alloyscope.wording import interval, minus, number

GALLERY = 8


def counts_of(structures: pd.DataFrame, images: pd.DataFrame) -> dict[str, Any]:
    """Numbers of particles and images: planned, valid, failed by reason, and per split."""
    per_split = []
    for split in get_args(Split):
        particles, pictures = structures[structures["split"] == split], images[images["split"] == split]
        per_split.append(
            {
                "split": split,
                "particles": len(particles),
                "valid": int(particles["valid"].sum()),
                "images": int(pictures["valid"].sum()),
                **{order: int((particles["ordering"] == order).sum()) for order in statistics.ORDERS},
            }
        )
    return {
        "particles": len(structures),
        "valid": int(structures["valid"].sum()),
        "failures": statistics.failures(structures, alike=True),
        "retried": int((structures["attempts"] > 1).sum()),
        "images": int(images["valid"].sum()),
        "splits": per_split,
    }


def structure_section(structures: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Short form of the page on structures: the order of the particles, and the agreement of the criteria."""
    labels = structures.loc[structures["valid"], "ordering"].dropna()
    agreement = {words: statistics.agreement(structures, name) for name, words in statistics.CRITERIA.items()}
    return {
        "orders": {order: statistics.Share(int((labels == order).sum()), len(labels)) for order in statistics.ORDERS},
        "agreement": {words: share for words, share in agreement.items() if share.total},
        "plane": embed(
            order_plane(structures, config.labels.d_com_over_Rg_limit, protocol_looks()),
            "Chemical order against the distance of the species' centres",
        ),
    }


def gallery(folder: Path, images: pd.DataFrame, pixel_size_A: float) -> list[Markup]:
    """Example pairs of a clean and a noisy image, from the lowest dose to the highest."""
    valid = images[images["valid"]].sort_values(["dose_e_per_A2", "image"])
    picked = valid.iloc[np.unique(np.linspace(0, len(valid) - 1, min(GALLERY, len(valid))).astype(int))]
    pictures = []
    for row in picked.to_dict("records"):
        pair = [read_images(folder / "hrtem", name, row["image"], row["image"] + 1)[0] for name in (CLEAN, COUNTS)]
        kind = WORDS.get(str(row["ordering"]), "no label")
        title = f"{particle_id(int(row['particle']))} · {kind} · {row['n_atoms']} atoms"
        noisy = minus(f"{row['dose_e_per_A2']:.0f} e/Å², defocus {row['defocus_A'] / 10:+.1f} nm")
        figure = image_row(pair, ("clean", noisy), title, pixel_size_A)
        pictures.append(embed(figure, f"{title}, clean and at {noisy}", "png"))
    return pictures


def read_task(folder: Path, name: str, config: Config) -> Evaluated | None:
    """Read the runs of a task with its own settings, or its first named run; None if the task was not evaluated."""
    runs = list(config.training.runs_of(name))[: len(config.training.seeds) or 1]
    runs = [run for run in runs if (folder / "evaluation" / name / run).is_dir()]
    if not runs:
        return None
    evaluation, training = folder / "evaluation" / name / runs[0], folder / "training" / name / runs[0]
    return Evaluated(
        runs=runs,
        metrics=[read_json(folder / "evaluation" / name / run / "metrics.json") for run in runs],
        training=read_json(training / "run.json"),
        curves=read_csv(training / "metrics.csv"),
        predictions=read_table(evaluation / "predictions.parquet"),
        examples=read_examples(evaluation / "examples.npz") if config.training.task(name).examples else {},
        species=config.particles.species,
        pixel_size_A=config.imaging.pixel_size_A,
    )


def read_examples(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays noisy, truth and denoised, shape (n, y, x), and their image rows.

    Raises:
        StoreError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as handle, np.load(handle) as stored:
            return {name: stored[name] for name in ("noisy", "truth", "denoised", "image")}
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise StoreError(f"{path}: missing or damaged ({error}); run the stage `evaluate` again") from None


def task_section(task: Task, found: Evaluated) -> dict[str, Any]:
    """A task's section of the page: its own blocks, then its learning curves."""
    curves = learning_curves(found.curves, {shown.name: shown.axis for shown in task.shown})
    caption = (
        f"Learning curves; on the right, scores on the validation split. The weights of epoch "
        f"{found.training['best_epoch'] + 1} had the lowest validation loss and are the ones scored."
    )
    learnt = Block(pictures=[Picture(curves, f"Learning curves, {task.name()}", caption, "wide")])
    return {
        "name": task.name(),
        "heading": task.heading,
        "does": task.does,
        "blocks": [
            {
                "text": block.text,
                "rows": block.rows,
                "figures": figures_of(block.pictures),
                "images": images_of(block.pictures),
            }
            for block in [*task.section(found), learnt]
        ],
    }


def figures_of(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Figures with their captions, ready for the page."""
    return [
        {"image": embed(each.figure, each.alt), "caption": each.caption, "width": each.width}
        for each in pictures
        if not each.pixels
    ]


def images_of(pictures: Sequence[Picture]) -> list[Markup]:
    """Pictures of images, ready for the page, which shows them together."""
    return [embed(each.figure, each.alt, "png") for each in pictures if each.pixels]


def score_rows(task: Task, runs: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per score and run: value, 95 % interval, baseline, and whether the score is better than the baseline.

    A score without a value, because no test image has the label, gives no row.
    """
    return [
        {
            "words": shown.words,
            "run": run if len(runs) > 1 else None,
            "unit": shown.unit,
            "value": content[shown.name],
            "low": content[f"{shown.name}_low"],
            "high": content[f"{shown.name}_high"],
            "baseline": content[shown.baseline],
            "baseline_words": shown.baseline_words,
            "beaten": shown.beats(content),
            "n_images": content["n_test_images"],
            "n_particles": content["n_test_particles"],
        }
        for shown in task.shown
        for run, content in zip(runs, metrics)
        if content[shown.name] is not None
    ]


def sentences(config: Config, counts: Mapping[str, Any], scores: list[dict[str, Any]]) -> list[str]:
    """The main results in a few sentences."""
    first, second = config.particles.species
    lines = [
        f"{counts['valid']} of {counts['particles']} {first}{second} particles came out whole; "
        f"they are shown in {counts['images']} image pairs."
    ]
    for row in scores:
        unit, words = row["unit"], row["words"]
        lines.append(
            f"{words[0].upper()}{words[1:]}: {number(row['value'], unit)} "
            f"(95 % interval {interval(row['low'], row['high'], unit)}); "
            f"{row['baseline_words']}: {number(row['baseline'], unit)}"
            f"{'' if row['beaten'] else '; no better than that guess'}."
        )
    if scores:
        lines.append(
            f"Scored on {scores[0]['n_images']} images of {scores[0]['n_particles']} particles "
            "that no network saw in training."
        )
    return lines


def write_page(folder: Path, config: Config, out: Path, watch: Stopwatch) -> None:
    """Write the page and, beside it, summary.txt.

    Args:
        folder: Results folder of the campaign.
        config: Config of the campaign.
        out: Page to write.
        watch: Stopwatch of the job that writes the page.

    Raises:
        StoreError: an input is missing or damaged.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder; give the folder of a campaign, e.g. results/demo")
    structures = read_table(folder / "structures" / "structures.parquet")
    images = read_table(folder / "hrtem" / "images.parquet")
    released = read_json(folder / "hrtem" / "dataset.json")
    potential = read_json(folder / "potential" / "validation.json")
    learnt = [(config.training.task(name), read_task(folder, name, config)) for name in config.training.tasks]
    evaluated = [(task, found) for task, found in learnt if found]
    counts = counts_of(structures, images)
    scores = [row for task, found in evaluated for row in score_rows(task, found.runs, found.metrics)]
    lines = sentences(config, counts, scores)
    page = render(
        "index.html",
        config=config,
        words=WORDS,
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        folder=folder,
        out=out,
        counts=counts,
        scores=scores,
        lines=lines,
        structures=structure_section(structures, config),
        gallery=gallery(folder, images, config.imaging.pixel_size_A),
        tasks=[task_section(task, found) for task, found in evaluated],
        potential=potential,
        potential_figure=embed(
            validation(pd.DataFrame(potential["checks"]), potential["curves"], potential["set"]["name"]),
            "Checks of the potential",
        ),
        released=released,
        networks=shows_networks(config),
        own=watch.record(),
    )
    write_text(out.with_name("summary.txt"), "\n".join(lines) + "\n")
    write_text(out, page)
    log(f"{out}: written, {len(page.encode()) / 1000:.0f} kB")
