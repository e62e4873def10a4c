"""Calibration on particles that a network has never seen: intervals and sets that hold, and honest probabilities.

The intervals are split-conformal: half widths are quantiles of the errors on the calibration split. Images of one
particle are not exchangeable with those of another, so each particle counts once, however many images it has (Lee,
Barber and Willett, arXiv:2306.06342). There is one quantile for each range of the electrons per pixel that the image
itself shows, because errors depend on them and the dose is not known. Where the task gives a scale, errors are in units
of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from alloyscope.ids import rng_for
from alloyscope.sections import Section

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEVEL = 0.9
MOST_RANGES = 6  # ranges of electrons per pixel
LEAST_PARTICLES = 40  # in each range; otherwise there are fewer ranges
RESPLITS = 20
STEEPEST = 20.0  # 1/temperature lies between this and its inverse
RELIABILITY_BINS = 10

# How a quantity is transformed, and its bounds
TRANSFORMS: Mapping[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats], float, float]] = {
    "n_atoms": (np.log, np.exp, 0.0, np.inf),
    "fraction_first": (np.asarray, np.asarray, 0.0, 1.0),
}
SIZES = (0, 150, 300, 600)  # lower ends of the ranges of size, in atoms
SCALES = {"n_atoms": "ln_n_atoms_scale", "fraction_first": "fraction_first_scale"}


@dataclass(frozen=True)
class Readings:
    """What a network read in n images, and the truth.

    Attributes:
        group: Particle, or group of related particles, of each image, (n,).
        electrons: Electrons per pixel that the image shows, (n,).
        predicted, truth: The quantities of TRANSFORMS, (n,) each.
        scale: Predicted scale of the error of each transformed quantity, (n,), above 0.
        p_janus: Probability of Janus, (n,).
        janus: 1, 0, or NaN where neither order is stated, (n,).
        strata: Lower end of the range of dose, and of size, in which the image lies, (n,), by name; see `strata`.
    """

    group: NDArray[Any]
    electrons: Floats
    predicted: Mapping[str, Floats]
    truth: Mapping[str, Floats]
    scale: Mapping[str, Floats]
    p_janus: Floats
    janus: Floats
    strata: Mapping[str, Floats]

    @classmethod
    def of(cls, read: Mapping[str, Floats], table: "pd.DataFrame") -> Self:
        """The readings of a task, and the rows of images.parquet that they belong to.

        Args:
            read: `p_janus`, `n_atoms`, `fraction_first`, `electrons`, (n,) each, and the scales if the task gives them.
            table: Columns `group`, `ordering`, `n_atoms`, `fraction_first`, `dose_e_per_A2`.
        """
        numbers = {name: table[name].to_numpy(dtype=np.float64) for name in (*TRANSFORMS, "dose_e_per_A2")}
        order = table["ordering"].astype("string").fillna("").to_numpy(dtype=object)
        return cls(
            group=table["group"].to_numpy(),
            electrons=read["electrons"],
            predicted={name: read[name] for name in TRANSFORMS},
            truth={name: numbers[name] for name in TRANSFORMS},
            scale={name: scale_of(read, name) for name in TRANSFORMS},
            p_janus=read["p_janus"],
            janus=np.select([order == "core_shell", order == "janus"], [0.0, 1.0], np.nan),
            strata=strata(numbers["dose_e_per_A2"], numbers["n_atoms"]),
        )

    def only(self, kept: Mask) -> Self:
        """The readings of some images; `kept` has shape (n,)."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            found[each.name] = (
                {name: array[kept] for name, array in value.items()} if isinstance(value, Mapping) else value[kept]
            )
        return type(self)(**found)

    def errors(self, name: str) -> Floats:
        """|transformed prediction − transformed truth| / scale, (n,)."""
        forward = TRANSFORMS[name][0]
        found: Floats = abs(forward(self.predicted[name]) - forward(self.truth[name])) / self.scale[name]
        return found


def is_reading(read: Mapping[str, Any]) -> bool:
    """Whether a task reads what is calibrated here."""
    return {"p_janus", *TRANSFORMS} <= read.keys()


def scale_of(read: Mapping[str, Floats], name: str) -> Floats:
    """The scale that the task predicts for the error of a quantity, (n,), or ones."""
    found: Floats = np.asarray(read.get(SCALES[name], np.ones_like(read[name])), dtype=np.float64)
    return found


def strata(dose_e_per_A2: Floats, n_atoms: Floats) -> dict[str, Floats]:
    """Lower end of the range of each image: half decades of dose, and SIZES."""
    half_decades = np.floor(2 * np.log10(dose_e_per_A2) + 1e-9)
    sizes = np.asarray(SIZES, dtype=np.float64)
    return {"dose": 10 ** (half_decades / 2), "size": sizes[np.searchsorted(sizes, n_atoms, side="right") - 1]}


class Calibration(Section):
    """What the calibration split says of a network.

    Attributes:
        level: Share of the images whose interval, and whose set, holds the truth.
        particles, images: Numbers that the calibration rests on.
        edges: Electrons per pixel between the ranges, rising.
        quantiles: Of each quantity, the quantile of `Readings.errors` in each range; None: too few particles, and the
            interval is everything.
        sets: In each range, the quantile of 1 − p(true order); None as above.
        temperature: Divisor of the logit of the order; 1 leaves it.
    """

    level: float = LEVEL
    particles: int
    images: int
    edges: tuple[float, ...]
    quantiles: dict[str, tuple[float | None, ...]]
    sets: tuple[float | None, ...]
    temperature: float

    @classmethod
    def of(cls, readings: Readings, level: float = LEVEL) -> Self:
        """Calibrate; the readings must be of particles that the network has not seen, at least one."""
        edges = ranges(readings.electrons, readings.group)
        place = np.searchsorted(edges, readings.electrons, side="right")
        known = ~np.isnan(readings.janus)
        heat = temperature(readings.p_janus[known], readings.janus[known])
        p_true = np.where(readings.janus == 1, tempered(readings.p_janus, heat), 1 - tempered(readings.p_janus, heat))

        def per_range(errors: Floats, of: Mask) -> tuple[float | None, ...]:
            found = []
            for number in range(len(edges) + 1):
                inside = (place == number) & of
                quantile = hierarchical_quantile(errors[inside], readings.group[inside], level)
                found.append(quantile if np.isfinite(quantile) else None)
            return tuple(found)

        everywhere = np.ones(len(place), dtype=bool)
        return cls(
            level=level,
            particles=len(np.unique(readings.group)),
            images=len(place),
            edges=tuple(edges.tolist()),
            quantiles={name: per_range(readings.errors(name), everywhere) for name in readings.predicted},
            sets=per_range(1 - p_true, known),
            temperature=heat,
        )

    def _at(self, values: tuple[float | None, ...], electrons: Floats) -> Floats:
        table = np.array([np.inf if value is None else value for value in values])
        found: Floats = table[np.searchsorted(self.edges, electrons, side="right")]
        return found

    def interval(self, name: str, predicted: Floats, scale: Floats, electrons: Floats) -> tuple[Floats, Floats]:
        """Ends of the interval of a quantity for each image, (n,) each, within the bounds of the quantity."""
        forward, backward, least, most = TRANSFORMS[name]
        half = self._at(self.quantiles[name], electrons) * scale
        ends = [np.clip(backward(forward(predicted) + sign * half), least, most) for sign in (-1, 1)]
        return ends[0], ends[1]

    def intervals(self, read: Mapping[str, Floats]) -> dict[str, Floats]:
        """Columns `<quantity>_low` and `<quantity>_high` of the readings, (n,) each."""
        found: dict[str, Floats] = {}
        for name in TRANSFORMS:
            ends = self.interval(name, read[name], scale_of(read, name), read["electrons"])
            found |= dict(zip((f"{name}_low", f"{name}_high"), ends))
        return found

    def orders(self, p_janus: Floats, electrons: Floats) -> tuple[Mask, Mask]:
        """Whether the set of possible orders holds core-shell, and Janus, (n,) each; it is never empty.

        Args:
            p_janus: Probability as the network says it, before the temperature.
            electrons: Electrons per pixel that the image shows.
        """
        p, limit = tempered(p_janus, self.temperature), self._at(self.sets, electrons)
        return (p <= limit) | (p <= 0.5), (1 - p <= limit) | (p > 0.5)


def hierarchical_quantile(scores: Floats, groups: NDArray[Any], level: float) -> float:
    """The score below which an image of a new group lies with the probability `level`, at least; ∞ with few groups.

    Quantile of the scores with the weight 1/((K + 1) n_k) for each of the n_k images of a group, of which there are K,
    and 1/(K + 1) at infinity (Lee, Barber and Willett, arXiv:2306.06342). With one image in each group it is the
    ⌈(K + 1) level⌉-th smallest score.

    Args:
        scores: Scores of the images, (n,).
        groups: Group of each image, (n,).
        level: Share between 0 and 1.
    """
    if not len(scores):
        return np.inf
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    cumulated = np.cumsum(1 / counts[inverse][order]) / (len(counts) + 1)
    place = int(np.searchsorted(cumulated, level - 1e-9))
    return float(scores[order[place]]) if place < len(scores) else np.inf


def ranges(electrons: Floats, groups: NDArray[Any]) -> Floats:
    """Edges between ranges of electrons per pixel with equally many images; as many as the particles allow."""
    for number in range(MOST_RANGES, 1, -1):
        edges = np.quantile(electrons, np.arange(1, number) / number)
        place = np.searchsorted(edges, electrons, side="right")
        if all(len(np.unique(groups[place == each])) >= LEAST_PARTICLES for each in range(number)):
            return edges
    return np.empty(0)


def logit(p: Floats) -> Floats:
    p = np.clip(p, 1e-7, 1 - 1e-7)
    found: Floats = np.log(p / (1 - p))
    return found


def tempered(p: Floats, temperature: float) -> Floats:
    """Probabilities with their logits divided by the temperature."""
    found: Floats = 1 / (1 + np.exp(-logit(p) / temperature))
    return found


def temperature(p: Floats, truth: Floats) -> float:
    """The temperature with the greatest likelihood (Guo et al. 2017), within [1/STEEPEST, STEEPEST]; 1 without images.

    With β = 1/T and logits z, the derivative of the mean negative log-likelihood is ⟨(σ(βz) − truth) z⟩. It rises with
    β, and bisection finds its zero.

    Args:
        p: Probability of class 1, (n,).
        truth: Class, 0 or 1, (n,).
    """
    if not len(p):
        return 1.0
    z = logit(p)
    low, high = 1 / STEEPEST, STEEPEST
    for _ in range(60):
        beta = (low + high) / 2
        slope = float(((1 / (1 + np.exp(-beta * z)) - truth) * z).mean())
        low, high = (beta, high) if slope <= 0 else (low, beta)
    return 2 / (low + high)


def reliability(
    p: Floats, truth: Floats, groups: NDArray[Any] | None = None, bins: int = RELIABILITY_BINS
) -> tuple[list[dict[str, float]], float | None]:
    """Reliability bins of equal width, and the expected calibration error: the mean over images of |share − mean p|.

    Args:
        p: Probability of class 1, (n,).
        truth: Class, 0 or 1, (n,).
        groups: Group of each image, (n,), to count them.
        bins: Number of bins.

    Returns:
        For each bin that holds images: mean probability, share of class 1, numbers of images and of groups; and the
        error.
    """
    place = np.minimum((p * bins).astype(int), bins - 1)
    counted = np.arange(len(p)) if groups is None else groups
    found = [
        {
            "p": float(p[inside].mean()),
            "share": float(truth[inside].mean()),
            "images": int(inside.sum()),
            "groups": len(np.unique(counted[inside])),
        }
        for inside in (place == number for number in range(bins))
        if inside.any()
    ]
    error = sum(each["images"] * abs(each["share"] - each["p"]) for each in found) / len(p) if len(p) else None
    return found, error


def coverage(readings: Readings, share: float, resplits: int = RESPLITS) -> dict[str, Any]:
    """Coverage and widths of intervals and sets, averaged over random divisions of the groups into two parts.

    Args:
        readings: Of all particles that the network has not seen.
        share: Share of the groups in the part that calibrates; the other part is tested.
        resplits: Number of divisions.

    Returns:
        For each quantity and for `order`: `coverage`, its standard deviation over the divisions, `width` (None if an
        interval is unbounded; for `order`, the mean number of orders in a set), and the same for each stratum.
    """
    names, found = np.unique(readings.group), []
    n_calibrate = min(max(1, round(share * len(names))), len(names) - 1)
    for division in range(resplits):
        chosen = rng_for("resplit", division, len(names)).permutation(names)[:n_calibrate]
        inside = np.isin(readings.group, chosen)
        found.append(_held(Calibration.of(readings.only(inside)), readings.only(~inside)))
    parts = {"calibration": n_calibrate, "test": len(names) - n_calibrate}
    account: dict[str, Any] = {"level": LEVEL, "resplits": resplits, "particles": parts}
    for name in [name for name in found[0] if all(name in each for each in found)]:
        account[name] = _summary([each[name] for each in found]) | {
            f"by_{stratum}": _by_stratum([each[name] for each in found], stratum) for stratum in readings.strata
        }
    return account


Held = tuple[Mask, Floats, Mapping[str, Floats]]  # whether it holds, its width, strata; of the images


def _held(calibration: Calibration, tested: Readings) -> dict[str, Held]:
    found: dict[str, Held] = {}
    for name, predicted in tested.predicted.items():
        low, high = calibration.interval(name, predicted, tested.scale[name], tested.electrons)
        truth = tested.truth[name]
        found[name] = ((low <= truth) & (truth <= high), high - low, tested.strata)
    known = ~np.isnan(tested.janus)
    if known.any():
        part = tested.only(known)
        core_shell, janus = calibration.orders(part.p_janus, part.electrons)
        sizes = core_shell.astype(float) + janus
        found["order"] = (np.where(part.janus == 1, janus, core_shell), sizes, part.strata)
    return found


def _summary(held: list[Held]) -> dict[str, Any]:
    shares = [float(holds.mean()) for holds, _, _ in held if len(holds)]
    widths = np.array([float(width.mean()) for _, width, _ in held if len(width)])
    if not shares:
        return {"coverage": None, "coverage_spread": None, "width": None}
    width = float(widths.mean()) if np.isfinite(widths).all() else None
    return {"coverage": float(np.mean(shares)), "coverage_spread": float(np.std(shares)), "width": width}


def _by_stratum(held: list[Held], stratum: str) -> dict[str, Any]:
    numbers = sorted({number for _, _, strata in held for number in strata[stratum].tolist()})

    def inside(one: Held, number: int) -> Held:
        kept = one[2][stratum] == number
        return one[0][kept], one[1][kept], {}

    return {f"{number:.4g}": _summary([inside(one, number) for one in held]) for number in numbers}
