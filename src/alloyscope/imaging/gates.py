"""Physics gates: each checks a campaign's real outputs for a fault that otherwise stays unnoticed.

Every gate returns the measured value with its bounds, or raises `GateError`, which stops the campaign.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.constants import c, e, h, m_e
from scipy.spatial import cKDTree
from scipy.stats import kstest, norm

from alloyscope.contracts import Structure
from alloyscope.errors import GateError
from alloyscope.structure.fingerprint import FINGERPRINT
from alloyscope.structure.relatives import TWINS, has_twin_elsewhere, spaces
from alloyscope.units import fcc_111_spacing_A

NORM_LOW, NORM_HIGH = 0.99, 1.001  # correct waves keep 0.998–1 at 384² (benchmarks/gate_values.py)
RELATED_BY = ("particle", "split", "group", "group_in_file", "n_first", "n_second", *FINGERPRINT)  # columns
FALSE_ALARM = 1e-7  # probability per tested quantity that uniform rotations are refused
# The same for the noise of right counts; few electrons or a strong contrast make it larger, by 10 at 6 electrons.
FALSE_ALARM_OF_NOISE = 1e-9

# Bounds as shares of the particle's contrast, which is the standard deviation of its image under plain optics, so that
# they suit 20 atoms and 600. Measured on AgCo and AuCu particles of 20–577 atoms at 384² and slices of 2 Å: species
# swapped 0.31–0.73; slices halved 0.013–0.018 (from 4 slices 0.02–0.07); abTEM on a twice finer grid 0.012–0.025, at
# 256² 0.020–0.048, at 128², which carries no fringe of Co, 0.25–0.63 (benchmarks/gate_values.py).
LEAST_OF_SWAP, MOST_OF_HALVED_SLICES, MOST_OF_FINER_GRID = 0.1, 0.03, 0.1
# Whole images under drawn optics, against abTEM's wave on a twice finer grid and the explicit sums of reference.py.
# Sound images 0.0002–0.0015 of the beam, 0.010–0.020 of the contrast; with the wrong sign of the defocus 0.15–1.6 of
# the contrast (benchmarks/gate_values.py). Bounds: docs/decisions/0014-reference.md.
MOST_OF_BEAM, MOST_OF_CONTRAST = 0.01, 0.06
MOST_OF_LENS = 0.01  # of the contrast: the same wave through two lenses, where single precision costs 1e-4
# Share of the beam: float16 rounds by 3e-4 (rms), and waves of another device or batch agree to rounding.
MOST_OF_REMADE = 1e-3
OFF_DEPTH_A = 0.5  # phases in single precision: our engine is up to 0.3 Å off beside its slices, abTEM less
LEAST_OF_FRINGE = 0.99  # the default grid keeps 0.99998 at 0.49 1/Å, a grid of 128 points 0.002 at 0.75 1/Å


@dataclass(frozen=True)
class Passed:
    """Value that a gate measured, and its bounds."""

    gate: str
    value: float
    low: float | None = None
    high: float | None = None


def _gate(name: str, value: float, message: str, low: float | None = None, high: float | None = None) -> Passed:
    above, below = low is None or value >= low, high is None or value <= high  # both are false for NaN
    if not (above and below):
        raise GateError(message)
    return Passed(name, float(value), low, high)


def rms_difference(image: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Root mean square difference of two images, in their unit."""
    return float(np.sqrt(np.mean((image.astype(np.float64) - other) ** 2)))


def share_of_contrast(image: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Rms difference in units of the first image's standard deviation; NaN if that is 0."""
    contrast = float(image.astype(np.float64).std())
    return rms_difference(image, other) / contrast if contrast > 0 else float("nan")


def wavelength_is_relativistic(
    wavelength_A: float, voltage_kV: float, of: str = "wavelength", tolerance: float = 1e-6
) -> Passed:
    """The wavelength is λ = h / √(2 m e U (1 + eU / 2mc²)), evaluated in SI units."""
    energy_J = e * 1e3 * voltage_kV
    expected_A = 1e10 * h / np.sqrt(2 * m_e * energy_J * (1 + energy_J / (2 * m_e * c**2)))
    return _gate(
        of,
        abs(wavelength_A / expected_A - 1),
        f"{of} at {voltage_kV:g} kV must be {expected_A:.6f} Å; got {wavelength_A:.6f}",
        high=tolerance,
    )


def lattice_inside_band_limit(structure: Structure, band_limit_per_A: float, pixel_size_A: float) -> Passed:
    """The {111} fringe of every species, from its real atomic spacing, passes the multislice grid and the camera."""
    limit = min(band_limit_per_A, 0.5 / pixel_size_A)
    finest, worst = finest_fringe_per_A(structure)
    return _gate(
        "{111} inside the band limit",
        finest,
        f"{worst}{{111}} at {finest:.3f} 1/Å must lie below the limit of grid and camera; "
        f"got {limit:.3f}; refine imaging.grid or imaging.pixel_size_A",
        high=limit,
    )


def atoms_inside_box(positions_A: NDArray[np.float64], field_A: float, height_A: float, particle: int) -> Passed:
    """No nucleus lies outside the box, where the periodic grid would silently wrap it to the other side."""
    box = np.array([field_A, field_A, height_A])
    outside = np.any((positions_A < 0) | (positions_A >= box), axis=1)
    worst = np.round(positions_A[int(np.argmax(outside))], 2).tolist() if outside.any() else None
    return _gate(
        "atoms outside the box",
        int(outside.sum()),
        f"particle {particle}: {int(outside.sum())} of {len(outside)} atoms lie outside the box of "
        f"{field_A:.2f} × {field_A:.2f} × {height_A:.2f} Å, the first at {worst}; "
        f"raise imaging.pixels or lower imaging.max_shift_A or particles.n_atoms",
        high=0,
    )


def atoms_scatter_at_their_depth(measured_A: float, real_A: float, slice_A: float) -> Passed:
    """The engine scatters at the real depths of the highest and the lowest atom, within a slice."""
    return _gate(
        "depth of scattering, slices off",
        max(0.0, abs(measured_A - real_A) - OFF_DEPTH_A) / slice_A,
        f"atoms {real_A:.1f} Å apart along the beam must scatter this far apart, within a slice of {slice_A:.2f} Å; "
        f"got {measured_A:.1f}",
        high=1.0,
    )


def finest_fringe_per_A(structure: Structure) -> tuple[float, str]:
    """The largest {111} frequency among the species, from the real atomic spacing, and its species.

    Species with fewer than 13 atoms, which form no closed neighbour shell, are left out; if none is left, it is 0.
    """
    elements, finest = np.array(structure.elements), (0.0, "")
    for element in sorted(set(structure.elements)):
        positions = structure.positions_A[elements == element]
        if len(positions) >= 13:
            spacing_A = float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))
            finest = max(finest, (1 / fcc_111_spacing_A(spacing_A), element))
    return finest


def fringe_passes_engine(kept: float, frequency_per_A: float) -> Passed:
    """A wave of the finest lattice fringe keeps its amplitude on the engine's grid."""
    return _gate(
        "finest fringe through the grid",
        kept,
        f"the multislice grid must carry the fringe of {frequency_per_A:.3f} 1/Å; it keeps {kept:.1%} of its "
        f"amplitude; refine imaging.grid",
        low=LEAST_OF_FRINGE,
    )


def exit_wave_keeps_norm(norm: float, particle: int, view: int) -> Passed:
    """The mean |ψ|² of an exit wave is about 1: electrons are lost only at the band limit, and none are created."""
    return _gate(
        "norm of the exit wave",
        norm,
        f"particle {particle}, view {view}: exit wave must keep a norm of {NORM_LOW} … {NORM_HIGH}; "
        f"got {norm:.5f}; refine imaging.grid",
        NORM_LOW,
        NORM_HIGH,
    )


def agrees_with_reference(
    image: NDArray[np.floating], reference: NDArray[np.floating], particle: int, view: int
) -> Passed:
    """The camera image, under plain optics, agrees with abTEM's on a twice finer grid.

    The bound is a share of the particle's own contrast, so that it binds for 20 atoms, whose contrast is some 2 % of
    the beam, as for 600.
    """
    share = share_of_contrast(image, reference)
    return _gate(
        "abTEM on a finer grid",
        share,
        f"particle {particle}, view {view}: abTEM on a twice finer grid must change the image by "
        f"{MOST_OF_FINER_GRID:.0%} of its contrast at most; got {share:.1%}, which is "
        f"{rms_difference(image, reference):.2%} of the beam; refine imaging.grid, or the engine is wrong",
        high=MOST_OF_FINER_GRID,
    )


def lens_agrees(image: NDArray[np.floating], reference: NDArray[np.floating]) -> Passed:
    """Lens and camera make the reference's image of the same wave, under strong aberrations of every kind."""
    share = share_of_contrast(reference, image)
    return _gate(
        "lens and camera, of the contrast",
        share,
        f"lens and camera must make the reference's image of a wave within {MOST_OF_LENS:.0%} of its contrast (rms); "
        f"got {share:.1%}; an aberration, the aperture, the vibration or the MTF is wrong",
        high=MOST_OF_LENS,
    )


def whole_image_agrees(
    image: NDArray[np.floating], reference: NDArray[np.floating], contrast: float
) -> tuple[Passed, Passed]:
    """The stored image agrees with the reference image, optics, film and camera included.

    Args:
        image: The stored image.
        reference: The same by reference.py.
        contrast: The particle's contrast under plain optics, because a drawn focus may leave it nearly none.

    Returns:
        The rms difference as a share of the beam, and as a share of the contrast.
    """
    of_beam = rms_difference(image, reference)
    of_contrast = of_beam / contrast if contrast > 0 else float("nan")
    message = (
        f"the whole image must agree with the reference's within {MOST_OF_BEAM:.2%} of the beam and "
        f"{MOST_OF_CONTRAST:.0%} of the particle's contrast (rms); got {of_beam:.3%} and {of_contrast:.1%}; the lens "
        f"or the camera is wrong, or refine imaging.grid"
    )
    return (
        _gate("whole image, of the beam", of_beam, message, high=MOST_OF_BEAM),
        _gate("whole image, of the contrast", of_contrast, message, high=MOST_OF_CONTRAST),
    )


def noise_is_the_cameras(p_values: Mapping[str, float]) -> Passed:
    """Mean, variance and spectrum of the counts are those of the camera.

    Args:
        p_values: Probability, for each tested quantity, that right counts deviate as far (`noise.p_values`). Each is
            tested at `FALSE_ALARM_OF_NOISE`.
    """
    faults = [f"{name} (p = {value:.1e})" for name, value in p_values.items() if not value >= FALSE_ALARM_OF_NOISE]
    return _gate(
        "noise, least p",
        min(p_values.values()),
        f"the counts must have the noise of their camera and dose around the expected image; they differ in "
        f"{', '.join(faults)}; detector, dose or MTF of the counts are wrong",
        low=FALSE_ALARM_OF_NOISE,
    )


def image_is_remade(stored: NDArray[np.floating], remade: NDArray[np.floating]) -> Passed:
    """The stored image equals the one that its structure and its row of parameters give."""
    difference = rms_difference(remade, stored)
    return _gate(
        "stored image against remade one",
        difference,
        f"stored image must be what its structure and parameters give, within {MOST_OF_REMADE:.2%} of the beam (rms); "
        f"got {difference:.2%}; delete the manifests of hrtem and run snakemake again",
        high=MOST_OF_REMADE,
    )


def species_matter(image: NDArray[np.floating], swapped: NDArray[np.floating]) -> Passed:
    """Swapping the species changes the image."""
    share = share_of_contrast(image, swapped)
    return _gate(
        "species swapped",
        share,
        f"swapping species must change the image by {LEAST_OF_SWAP:.0%} of its contrast or more; got {share:.1%}",
        low=LEAST_OF_SWAP,
    )


def slices_converged(image: NDArray[np.floating], halved: NDArray[np.floating]) -> Passed:
    """Halving the slices hardly changes the image."""
    share = share_of_contrast(image, halved)
    return _gate(
        "slices halved",
        share,
        f"halving the slices must change the image by {MOST_OF_HALVED_SLICES:.0%} of its contrast at most; "
        f"got {share:.1%}; lower imaging.slice_A or raise imaging.n_slices",
        high=MOST_OF_HALVED_SLICES,
    )


def rotations_uniform(quaternions: NDArray[np.float64]) -> Passed:
    """Rotations are uniform on SO(3).

    For uniform rotations the unit quaternion is uniform on the 3-sphere: |q_i| has the distribution function
    (2/π)(x √(1 − x²) + arcsin x); q_i q_j has mean 0 and variance 1/24; and the cosine between each axis and its
    rotated image is uniform on [−1, 1].

    Args:
        quaternions: Unit quaternions (x, y, z, w), shape (n, 4); their signs do not matter.
    """
    faults, least = [], 1.0
    for axis, name in enumerate("xyzw"):
        p_value = float(kstest(np.abs(quaternions[:, axis]), _component_distribution).pvalue)
        least = min(least, p_value)
        if p_value < FALSE_ALARM:
            faults.append(f"|q_{name}| (p = {p_value:.1e})")
    for first, second in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        mean = float(np.mean(quaternions[:, first] * quaternions[:, second]))
        p_value = float(2 * norm.sf(abs(mean) * np.sqrt(24 * len(quaternions))))
        least = min(least, p_value)
        if p_value < FALSE_ALARM:
            faults.append(f"q_{'xyzw'[first]} q_{'xyzw'[second]} (p = {p_value:.1e})")
    x, y, z, w = quaternions.T
    for name, cosine in {
        "x": 1 - 2 * (y**2 + z**2),
        "y": 1 - 2 * (x**2 + z**2),
        "z": w**2 + z**2 - x**2 - y**2,
    }.items():
        p_value = float(kstest(cosine, "uniform", args=(-1, 2)).pvalue)
        least = min(least, p_value)
        if p_value < FALSE_ALARM:
            faults.append(f"turn of the {name} axis (p = {p_value:.1e})")
    return _gate(
        "rotations uniform, least p",
        least,
        f"{len(quaternions)} rotations must be uniform on SO(3); they are not in {', '.join(faults)}",
        low=FALSE_ALARM,
    )


def _component_distribution(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.clip(x, 0, 1)
    return 2 / np.pi * (x * np.sqrt(1 - x**2) + np.arcsin(x))


def no_relatives_across_splits(table: pd.DataFrame) -> Passed:
    """No particle is related to a particle of another split, so that no network is tested on what it has seen.

    Relatives have the same group, the same name of a group in the user's file, or nearly the same fingerprint.

    Args:
        table: One row per valid particle, with the columns of `RELATED_BY`.
    """
    splits = table["split"]
    leaking = splits.groupby(table["group"]).transform("nunique").to_numpy() > 1
    named = table["group_in_file"].notna()
    leaking[named] |= splits[named].groupby(table.loc[named, "group_in_file"]).transform("nunique").to_numpy() > 1
    compositions = table[["n_first", "n_second"]].to_numpy(np.int64)
    parts = splits.factorize()[0]
    for points in spaces(compositions, table[list(FINGERPRINT)].to_numpy(), TWINS):
        leaking |= has_twin_elsewhere(points, parts)
    first = ", ".join(str(number) for number in table.loc[leaking, "particle"].tolist()[:2])
    return _gate(
        "related particles in two splits",
        int(leaking.sum()),
        f"{int(leaking.sum())} particles are related to one of another split, the first are {first}; give "
        f"related frames the same `group` in their files (docs/own-structures.md)",
        high=0,
    )
