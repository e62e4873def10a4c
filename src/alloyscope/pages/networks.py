"""The page "What the networks can tell": what the readings of the test images depend on, and what more data would give.

It is made from the predictions of the runs of the task `reading`. A figure whose columns or runs are missing is left
out, with a sentence that says why.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.config.model import Config
from alloyscope.figures.learning import confusion_matrix
from alloyscope.figures.study import Bins, abstention, against, growth, reliability_diagram
from alloyscope.ids import chunk_name
from alloyscope.learn import study
from alloyscope.learn.metrics import Score, mean_score
from alloyscope.learn.scores import balanced
from alloyscope.learn.task import Task
from alloyscope.learn.tasks.reading import ORDERINGS, ordered
from alloyscope.pages.page import embed, render, thousands
from alloyscope.progress import log
from alloyscope.store.atomic import read_json, write_text
from alloyscope.store.structures import by_particle, read_structures
from alloyscope.store.tables import read_table
from alloyscope.wording import interval, minus, number

TASK = "reading"
FULL_SET = 200_000  # particles of the campaign of config.yaml, to which learning curves are extrapolated
TURNED = 2000  # most particles whose structures are read for their orientation
DOSES = np.geomspace(1e2, 1e4, 7)  # [e/Å²]; the outer bins reach to the lowest and highest dose
ROWS = {  # score → words and unit
    "ordering_accuracy": ("Order, balanced accuracy", "%"),
    "ordering_accuracy_bright": ("the same above 1000 e/Å²", "%"),
    "ordering_accuracy_small": ("the same up to 600 atoms", "%"),
    "views5_ordering_accuracy": ("Order, five views together", "%"),
    "views10_ordering_accuracy": ("Order, ten views together", "%"),
    "size_mae_atoms": ("Size, mean absolute error", "atoms"),
    "size_rms_atoms": ("Size, root mean square error", "atoms"),
    "size_relative": ("Size, mean relative error", "%"),
    "size_mae_atoms_small": ("Size up to 600 atoms", "atoms"),
    "views5_size_mae_atoms": ("Size, five views together", "atoms"),
    "composition_mae": ("Composition, mean absolute error", ""),
    "views5_composition_mae": ("Composition, five views together", ""),
}
IN_RUNS = (*tuple(ROWS)[:2], "views5_ordering_accuracy", "size_mae_atoms", "composition_mae")


@dataclass(frozen=True)
class Shown:
    """A figure with its sentence; without a figure, the sentence says why."""

    title: str
    sentence: str
    figure: Figure | None = None


@dataclass(frozen=True)
class Tested:
    """An evaluation: name, settings and seed of the run, metrics.json, joined predictions."""

    name: str
    settings: Task
    seed: int
    metrics: Mapping[str, Any]
    table: pd.DataFrame
    scores: Mapping[str, Score]


def read_tests(folder: Path, config: Config, images: pd.DataFrame, structures: pd.DataFrame) -> list[Tested]:
    """Every finished evaluation of the readers, in the order of the config; predictions of other sets stay unjoined."""
    found = []
    for name, run in config.training.runs_of(TASK).items():
        for test, other in run.tests(name).items():
            place = folder / "evaluation" / TASK / test
            if not (place / "metrics.json").is_file():
                continue
            table = read_table(place / "predictions.parquet")
            table = study.joined(table, images, structures) if other is None else table.assign(group=table["particle"])
            metrics = read_json(place / "metrics.json")
            found.append(Tested(test, run.settings, run.seed, metrics, table, study.headline(table)))
    return found


def with_orientation(table: pd.DataFrame, structures: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add `axis_cosine`, |cos| between the beam and the line through the centres of a particle's two species."""
    quaternion = [f"rotation_{part}" for part in "xyzw"]
    tested = table["particle"].drop_duplicates()[:TURNED]
    chunks = structures.loc[structures["particle"].isin(tested), "chunk"].unique()
    paths = [folder / "structures" / f"chunk-{chunk_name(int(chunk))}.extxyz" for chunk in chunks]
    if not set(quaternion) <= set(table) or not all(path.is_file() for path in paths):
        return table
    wanted_numbers, axes = set(tested), {}
    for path in paths:
        for particle, (first, *_) in by_particle(read_structures(path)).items():
            if particle in wanted_numbers:
                kind = np.array(first.elements)
                sides = [first.positions_A[kind == element].mean(axis=0) for element in np.unique(kind)]
                axes[particle] = sides[0] - sides[1] if len(sides) == 2 else np.full(3, np.nan)
    of_rows = np.array([axes.get(particle, np.full(3, np.nan)) for particle in table["particle"]])
    return table.assign(axis_cosine=study.axis_cosine(of_rows, table[quaternion].to_numpy(dtype=float)))


def dependences(table: pd.DataFrame, species: str) -> Iterator[Shown]:
    """Accuracy and errors against parameters of the image and of the particle."""
    dose = table["dose_e_per_A2"]
    doses = np.array([min(DOSES[0], dose.min()), *DOSES[1:-1], max(DOSES[-1], dose.max())])
    parameters: list[tuple[str, str, str, Any, bool]] = [
        ("dose", "dose_e_per_A2", "Dose (e/Å²)", doses, True),
        ("size", "n_atoms", "Atoms", None, False),
        ("composition", "fraction_first", f"{species} fraction", None, False),
        ("defocus", "defocus_A", "Defocus (Å)", None, False),
        ("orientation", "axis_cosine", "|cos| of axis and beam", np.linspace(0, 1, 6), False),
        ("distance of the centres", "d_com_over_Rg", "d_com / R_g", None, False),
        ("order parameter", "eta", "η", None, False),
    ]
    for words, column, axis, edges, logarithmic in parameters:
        if column not in table or table[column].notna().sum() < 2:
            yield Shown(f"Against {words}", f"Left out: the predictions cannot be joined with a column {column}.")
            continue
        limits = study.quantile_edges(table[column]) if edges is None else edges
        if len(limits) < 2:
            yield Shown(f"Against {words}", f"Left out: all test images have the same {words}.")
            continue
        # An orientation has a meaning for Janus particles: core-shell ones have nearly no axis.
        janus = table[(table["ordering"] == "janus") & table[column].notna()]
        of = janus if column == "axis_cosine" and len(janus) else table
        scored = {
            "Order, balanced": (study.binned(of, column, limits, balanced), True),
            "Size error (atoms)": (study.binned(of, column, limits, study.error_of("n_atoms")), False),
            "Composition error": (study.binned(of, column, limits, study.error_of("fraction_first")), False),
        }
        panels = [Bins(bins, axis, score, logarithmic, share) for score, (bins, share) in scored.items() if len(bins)]
        told = _told(panels[0].table, axis) if panels[0].share else "No test image has an order."
        told += " Only Janus particles are counted." if of is not table else ""
        yield Shown(f"Against {words}", told, against(panels))


def _rounded(value: float) -> str:
    return minus(f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}")


def _told(bins: pd.DataFrame, axis: str) -> str:
    least, most = (bins.iloc[place(bins["value"].to_numpy())] for place in (np.argmin, np.argmax))
    return (
        f"The order is read right in {number(least['value'], '%')} near {axis} = {_rounded(least['x'])} and in "
        f"{number(most['value'], '%')} near {_rounded(most['x'])}; points stand at the mean of their bin, with 95 % "
        f"intervals over groups of related particles, {int(bins['particles'].min())} particles or more in each."
    )


def judgement(table: pd.DataFrame) -> Iterator[Shown]:
    """Confusion, abstention and reliability."""
    known = table[ordered(table)]
    if known.empty:
        yield Shown("The order", "Left out: no test image is of a core-shell or Janus particle.")
        return
    right = known["ordering"] == known["ordering_predicted"]
    others = len(table) - len(known)
    yield Shown(
        "Confusion",
        f"{len(known)} images of core-shell and Janus particles by true and read order; {others} images of particles "
        "that are neither are not counted here.",
        confusion_matrix(known),
    )
    curve = study.risk_coverage(known["p_core_shell"], right)
    half = curve.iloc[(len(curve) - 1) // 2]
    yield Shown(
        "Abstention",
        f"If the network reads only the half of the images of which it is surest, {number(half['risk'], '%')} are "
        f"wrong instead of {number(curve['risk'].iloc[-1], '%')}.",
        abstention(curve),
    )
    truth = known["ordering"] == ORDERINGS[0]
    bins, error = study.reliability(known["p_core_shell"], truth, known["group"])
    yield Shown(
        "Reliability",
        f"The stated probability of core-shell differs from what came true by {number(error, '%')} on average over "
        "images (expected calibration error); bars are 95 % intervals that count groups, not images.",
        reliability_diagram(bins),
    )


def coverage(table: pd.DataFrame) -> Shown:
    """How often 90 % intervals of size and composition hold, against dose."""
    title, panels, said = "Intervals", [], []
    for column, words in (("n_atoms", "size"), ("fraction_first", "composition")):
        low, high = (f"{column}_{end}" for end in ("low", "high"))
        if low not in table or high not in table or table[low].isna().all():
            return Shown(title, f"Left out: the predictions have no intervals ({low}, {high}).")
        held = table.assign(held=table[column].between(table[low], table[high]).astype(float))
        bins = study.binned(held, "dose_e_per_A2", study.quantile_edges(held["dose_e_per_A2"]), _share_held)
        panels.append(Bins(bins, "Dose (e/Å²)", f"True {words} inside", log=True, share=True))
        said.append(f"{number(_share_held(held).value, '%')} of the intervals of {words}")
    return Shown(title, f"Of the 90 % intervals, {' and '.join(said)} hold the truth.", against(panels))


def _share_held(rows: pd.DataFrame) -> Score:
    return mean_score(rows["held"], rows["group"])


def learning_curve(tests: Sequence[Tested], key: str, words: str) -> Shown:
    """Share of orders read wrong, against the number of particles or views in training."""
    title = f"More {words}"
    runs = {test.name: test.settings for test in tests if "@" not in test.name and test.settings.split == "particle"}
    chosen = set(study.differing(runs, key))
    used = [test for test in tests if test.name in chosen and test.scores["ordering_accuracy"].value is not None]
    if len(used) < 2:
        return Shown(title, f"Left out: no two runs differ in {key} alone; name some in training.runs.")
    sizes = [_size(test, key) for test in used]
    scores = [test.scores["ordering_accuracy"] for test in used]
    rows = [(x, *(None if end is None else 1 - end for end in (s.value, s.high, s.low))) for x, s in zip(sizes, scores)]
    table = pd.DataFrame(rows, columns=["x", "value", "low", "high"]).astype(float).sort_values("x")
    axis, spreads = f"{words[0].upper()}{words[1:]}", study.spread_of(scores)
    sentence = f"Share of orders read wrong, against {words}; every run was shown {_visits(used[0].settings)}."
    if key != "particles" or len(set(sizes)) < 3 or not (spreads > 0).all() or (table["value"] <= 0).any():
        return Shown(title, sentence, growth(table, axis, "Order read wrong"))
    law = study.PowerLaw.fit(sizes, [1 - float(s.value or 0) for s in scores], spreads)
    at = np.geomspace(min(sizes), FULL_SET, 60)
    ends: NDArray[np.float64] = np.array([[e or np.nan for e in (s.value, s.low, s.high)] for s in map(law.at, at)]).T
    far = law.at(FULL_SET)
    sentence += (
        f" The errors go as the number of particles to the power {minus(f'{-law.exponent:.2f}')} ± "
        f"{law.covariance[1, 1] ** 0.5:.2f}; if that law held so far, {thousands(FULL_SET)} particles would leave "
        f"{number(far.value, '%')} ({interval(far.low, far.high, '%')}) wrong at the same number of visits."
    )
    return Shown(title, sentence, growth(table, axis, "Order read wrong", (at, ends)))


def _size(test: Tested, key: str) -> float:
    value = getattr(test.settings, key)
    if value is None:
        value = test.metrics["n_training_particles"] if key == "particles" else test.table["view"].max() + 1
    return float(value)


def _visits(settings: Task) -> str:
    visits = getattr(settings, "visits", None)
    return f"{thousands(visits)} images" if visits else f"every image {settings.epochs} times"


def score_rows(test: Tested, beside: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """One row per main score: what it is, of the network with its interval, and of what stands beside it."""
    return [
        {
            "words": words,
            "here": number(score.value, unit),
            "interval": interval(score.low, score.high, unit),
            "beside": [number(scores.get(name), unit) for scores in beside.values()],
        }
        for name, (words, unit) in ROWS.items()
        if (score := test.scores.get(name)) is not None and score.value is not None
    ]


def others_of(folder: Path, test: Tested) -> dict[str, dict[str, float]]:
    """Scores that stand beside the network's: constant answers, then those in evaluation/reading/baselines.json.

    That file holds, by name, scores under the names of `ROWS`; the limit is one of them.
    """
    constant = {name: 0.5 for name in ROWS if "ordering_accuracy" in name}
    for name, entry in (("size_mae_atoms", "size_mae_baseline_atoms"), ("composition_mae", "composition_mae_baseline")):
        if test.metrics.get(entry) is not None:
            constant |= {name: test.metrics[entry], f"views5_{name}": test.metrics[entry]}
    path = folder / "evaluation" / TASK / "baselines.json"
    return {"constant answers": constant} | (read_json(path) if path.is_file() else {})


def run_rows(tests: Sequence[Tested]) -> list[dict[str, Any]]:
    """One row per run and image set."""
    return [
        {
            "name": test.name,
            "particles": test.metrics.get("n_training_particles"),
            "views": test.settings.views or "all",
            "split": test.settings.split,
            "seed": test.seed,
            "scores": [
                number(test.scores[name].value, ROWS[name][1]) if name in test.scores else "–" for name in IN_RUNS
            ],
            "interval": interval(test.scores[IN_RUNS[0]].low, test.scores[IN_RUNS[0]].high, "%"),
        }
        for test in tests
    ]


def leaks(tests: Sequence[Tested]) -> str:
    """What a split by image claims above a split by particle, of runs that differ in nothing else."""
    said = []
    for leak in tests:
        honest = [
            other
            for other in tests
            if leak.settings.split == "image"
            and (other.settings, other.seed) == (leak.settings.model_copy(update={"split": "particle"}), leak.seed)
            and "@" not in other.name
        ]
        if not honest:
            continue
        claimed, true = (test.scores["ordering_accuracy"].value for test in (leak, honest[0]))
        if claimed is not None and true is not None:
            said.append(
                f"With {honest[0].metrics.get('n_training_particles')} particles, a split by image claims "
                f"{number(claimed, '%')}, and particles never seen are read right in {number(true, '%')}."
            )
    return " ".join(said) or "No run is split by image, so that the claim of such a split is not known."


def write_page(folder: Path, config: Config, out: Path, watch: Stopwatch) -> None:
    """Write the page.

    Raises:
        StoreError: an input is missing or damaged.
    """
    structures, images = (
        read_table(folder / name) for name in ("structures/structures.parquet", "hrtem/images.parquet")
    )
    tests = read_tests(folder, config, images, structures)
    shown: list[Shown] = []
    beside: dict[str, dict[str, float]] = {}
    if tests:
        beside = others_of(folder, tests[0])
        table = with_orientation(tests[0].table, structures, folder)
        shown = [*dependences(table, config.particles.species[0]), *judgement(table), coverage(table)]
        shown += [learning_curve(tests, "particles", "particles in training")]
        shown += [learning_curve(tests, "views", "views of a particle in training")]
    page = render(
        "networks.html",
        name=config.campaign.name,
        species=config.particles.species,
        tests=tests,
        scores=score_rows(tests[0], beside) if tests else [],
        beside=list(beside),
        figures=[
            {
                "title": each.title,
                "sentence": each.sentence,
                "image": embed(each.figure, f"{each.title}: {each.sentence}") if each.figure else "",
            }
            for each in shown
        ],
        runs=run_rows(tests),
        run_scores=[ROWS[name][0] for name in IN_RUNS],
        leaks=leaks(tests),
        own=watch.record(),
    )
    write_text(out, page)
    log(f"{out}: written, {len(page.encode()) / 1000:.0f} kB")
