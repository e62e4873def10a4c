"""Write the report: one self-contained page with the campaign's results, and summary.txt with the same in a few lines.

Reads the folder of a campaign: checks of the potential, the table of particles, the released image set, and for each
task that was evaluated its learning curve, scores and predictions. What the run cost stands on its own page
(`alloyscope account`). A task that was not evaluated has no section; a missing or damaged input is an error.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup
from numpy.typing import NDArray

from alloyscope import figures, figures_structures
from alloyscope.config import Config, Split, Task
from alloyscope.errors import StoreError
from alloyscope.figures_potential import validation
from alloyscope.ids import particle_id
from alloyscope.progress import log
from alloyscope.provenance import Stopwatch
from alloyscope.steps import account
from alloyscope.steps.arguments import add_section
from alloyscope.steps.page import embed, render
from alloyscope.store.atomic import read_json, write_text
from alloyscope.store.images import CLEAN, COUNTS, read_images
from alloyscope.store.tables import read_csv, read_table
from alloyscope.structure import statistics
from alloyscope.wording import interval, minus, number

GALLERY = 8
# metric, words, unit, its baseline, what that is
SCORES: dict[Task, tuple[tuple[str, str, str, str, str], ...]] = {
    "reading": (
        ("accuracy", "ordering accuracy", "%", "accuracy_baseline", "always the commoner order"),
        ("size_mae_atoms", "mean error in size", "atoms", "size_mae_baseline_atoms", "always the training mean"),
        ("composition_mae", "mean error in composition", "", "composition_mae_baseline", "always the training mean"),
    ),
    "denoising": (
        ("psnr_dB", "PSNR of the denoised image", "dB", "psnr_empty_dB", "an image without a particle"),
        ("ssim", "SSIM of the denoised image", "", "ssim_empty", "an image without a particle"),
    ),
}
ERRORS = {"size_mae_atoms", "composition_mae"}  # of these, lower is better


def counts_of(structures: pd.DataFrame, images: pd.DataFrame) -> dict[str, Any]:
    """Particles and images: planned, valid, failed by reason, per split."""
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
    """What the page on structures tells at length: the order of the particles, and how far criteria agree."""
    labels = structures.loc[structures["valid"], "ordering"].dropna()
    agreement = {words: statistics.agreement(structures, name) for name, words in statistics.CRITERIA.items()}
    return {
        "orders": {order: statistics.Share(int((labels == order).sum()), len(labels)) for order in statistics.ORDERS},
        "agreement": {words: share for words, share in agreement.items() if share.total},
        "plane": embed(
            figures_structures.order_plane(structures, config.labels.d_com_over_Rg_limit),
            "Chemical order against the distance of the species' centres",
        ),
    }


def gallery(folder: Path, images: pd.DataFrame, pixel_size_A: float) -> list[Markup]:
    """Pairs clean | noisy from the lowest dose to the highest."""
    valid = images[images["valid"]].sort_values(["dose_e_per_A2", "image"])
    picked = valid.iloc[np.unique(np.linspace(0, len(valid) - 1, min(GALLERY, len(valid))).astype(int))]
    pictures = []
    for row in picked.to_dict("records"):
        pair = [read_images(folder / "hrtem", name, row["image"], row["image"] + 1)[0] for name in (CLEAN, COUNTS)]
        kind = figures.WORDS.get(str(row["ordering"]), "one species")
        title = f"{particle_id(int(row['particle']))} · {kind} · {row['n_atoms']} atoms"
        noisy = minus(f"{row['dose_e_per_A2']:.0f} e/Å², defocus {row['defocus_A'] / 10:+.1f} nm")
        figure = figures.image_row(pair, ("clean", noisy), title, pixel_size_A)
        pictures.append(embed(figure, f"{title}, clean and at {noisy}", "png"))
    return pictures


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated of one task; curves, predictions and examples are those of the first run."""

    runs: list[str]
    metrics: list[dict[str, Any]]
    training: dict[str, Any]
    curves: pd.DataFrame
    predictions: pd.DataFrame
    examples: dict[str, NDArray[Any]]


def read_task(folder: Path, task: Task, config: Config) -> Evaluated | None:
    """Every run of a task; None if it was not evaluated."""
    runs = [f"seed-{seed}" for seed in config.training.seeds]
    runs = [run for run in runs if (folder / "evaluation" / task / run).is_dir()]
    if not runs:
        return None
    evaluation, training = folder / "evaluation" / task / runs[0], folder / "training" / task / runs[0]
    return Evaluated(
        runs=runs,
        metrics=[read_json(folder / "evaluation" / task / run / "metrics.json") for run in runs],
        training=read_json(training / "run.json"),
        curves=read_csv(training / "metrics.csv"),
        predictions=read_table(evaluation / "predictions.parquet"),
        examples=read_examples(evaluation / "examples.npz") if task == "denoising" else {},
    )


def read_examples(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays noisy, truth, denoised (n, y, x) and their image rows.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with path.open("rb") as handle, np.load(handle) as stored:
            return {name: stored[name] for name in ("noisy", "truth", "denoised", "image")}
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise StoreError(f"{path}: missing or damaged ({error}); run the step `evaluate` again") from None


def reading_section(reading: Evaluated, species: str) -> dict[str, Any]:
    return {
        "training": reading.training,
        "per_particle": reading.metrics[0]["per_particle"],
        "curves": embed(figures.learning_curves(reading.curves), "Learning curves, reading"),
        "confusion": embed(figures.confusion_matrix(reading.predictions), "Confusion matrix of the ordering"),
        "scatter": embed(
            figures.predicted_against_true(reading.predictions, species), "Predicted against true size and composition"
        ),
    }


def denoising_section(denoising: Evaluated, pixel_size_A: float) -> dict[str, Any]:
    scores = denoising.predictions.set_index("image")
    triplets = []
    for row, *panels in zip(*(denoising.examples[name] for name in ("image", "noisy", "truth", "denoised"))):
        score = scores.loc[row]
        title = (
            f"{particle_id(int(score['particle']))} · {score['dose_e_per_A2']:.0f} e/Å² · "
            f"PSNR {score['psnr_noisy_dB']:.1f} → {score['psnr_dB']:.1f} dB, "
            f"SSIM {score['ssim_noisy']:.2f} → {score['ssim']:.2f}"
        )
        figure = figures.image_row(panels, ("noisy", "truth", "denoised"), title, pixel_size_A, shared_grey=(1, 2))
        triplets.append(embed(figure, f"Noisy, truth, denoised: {title}", "png"))
    return {
        "training": denoising.training,
        "curves": embed(figures.learning_curves(denoising.curves), "Learning curves, denoising"),
        "triplets": triplets,
        "doses": embed(figures.quality_against_dose(denoising.predictions), "Image quality against dose"),
    }


def beats(name: str, content: Mapping[str, Any], baseline: float) -> bool:
    """Whether the whole 95 % interval of a score, or its value where there is none, is better than its baseline."""
    if name in ERRORS:
        high = content[f"{name}_high"]
        return bool((content[name] if high is None else high) < baseline)
    low = content[f"{name}_low"]
    return bool((content[name] if low is None else low) > baseline)


def score_rows(task: Task, runs: list[str], metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per score and run: value, 95 % interval, baseline, and whether that is beaten."""
    return [
        {
            "words": words,
            "run": run if len(runs) > 1 else None,
            "unit": unit,
            "value": content[name],
            "low": content[f"{name}_low"],
            "high": content[f"{name}_high"],
            "baseline": content[baseline],
            "baseline_words": baseline_words,
            "beaten": beats(name, content, content[baseline]),
            "n_images": content["n_test_images"],
            "n_particles": content["n_test_particles"],
        }
        for name, words, unit, baseline, baseline_words in SCORES[task]
        for run, content in zip(runs, metrics)
    ]


def sentences(config: Config, counts: Mapping[str, Any], scores: list[dict[str, Any]]) -> list[str]:
    """The result in a few plain lines."""
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


def run(*, folder: Path, config: Config, out: Path) -> None:
    """Write index.html and, beside it, summary.txt and run.html.

    Raises:
        StoreError: an input is missing or damaged.
    """
    watch = Stopwatch("report")
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder; give the folder of a campaign, e.g. results/demo")
    structures = read_table(folder / "structures" / "structures.parquet")
    images = read_table(folder / "hrtem" / "images.parquet")
    released = read_json(folder / "hrtem" / "dataset.json")
    potential = read_json(folder / "potential" / "validation.json")
    tasks = {task: read_task(folder, task, config) for task in get_args(Task)}

    reading, denoising = tasks["reading"], tasks["denoising"]
    pixel_size_A, first = config.imaging.pixel_size_A, config.particles.species[0]
    counts = counts_of(structures, images)
    scores = [row for task, found in tasks.items() if found for row in score_rows(task, found.runs, found.metrics)]
    lines = sentences(config, counts, scores)
    page = render(
        "index.html",
        config=config,
        words=figures.WORDS,
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        folder=folder,
        out=out,
        counts=counts,
        scores=scores,
        lines=lines,
        structures=structure_section(structures, config),
        gallery=gallery(folder, images, pixel_size_A),
        reading=reading_section(reading, first) if reading else None,
        denoising=denoising_section(denoising, pixel_size_A) if denoising else None,
        potential=potential,
        potential_figure=embed(
            validation(pd.DataFrame(potential["checks"]), potential["curves"], potential["set"]["name"]),
            "Checks of the potential",
        ),
        released=released,
        own=watch.record(),
    )
    write_text(out.with_name("summary.txt"), "\n".join(lines) + "\n")
    write_text(out, page)
    account.run(folder=folder, config=config, out=out.with_name("run.html"))
    log(f"{out}: written, {len(page.encode()) / 1000:.0f} kB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, required=True, help="folder of the campaign, e.g. results/demo")
    add_section(parser, "config", Config)
    parser.add_argument("--out", type=Path, required=True, help="page to write, index.html")
