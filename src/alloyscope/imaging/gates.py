"""Physics gates: faults that earlier code carried silently, each as a check on real artefacts.

Every gate returns nothing or raises `GateError`, and the campaign stops.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.constants import c, e, h, m_e
from scipy.spatial import cKDTree
from scipy.stats import kstest, norm

from alloyscope.contracts import Structure
from alloyscope.errors import GateError
from alloyscope.units import fcc_111_spacing_A

NORM_LOW, NORM_HIGH = 0.99, 1.001  # right waves keep 0.993–0.9999 at 256² to 512² (405 atoms of Ag or Au)
FALSE_ALARM = 1e-7  # probability per tested quantity that sound rotations are refused


def _gate(passed: bool, message: str) -> None:
    if not passed:
        raise GateError(message)


def rms_difference(image: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Root mean square difference of two images, in their unit."""
    return float(np.sqrt(np.mean((image.astype(np.float64) - other) ** 2)))


def wavelength_is_relativistic(wavelength_A: float, voltage_kV: float) -> None:
    """λ = h / √(2 m e U (1 + eU / 2mc²)), evaluated in SI units."""
    energy_J = e * 1e3 * voltage_kV
    expected_A = 1e10 * h / np.sqrt(2 * m_e * energy_J * (1 + energy_J / (2 * m_e * c**2)))
    _gate(
        abs(wavelength_A / expected_A - 1) < 1e-6,
        f"wavelength at {voltage_kV:g} kV must be {expected_A:.6f} Å; got {wavelength_A:.6f}",
    )


def lattice_inside_band_limit(structure: Structure, band_limit_per_A: float, pixel_size_A: float) -> None:
    """{111} of every species, from the spacing its atoms really have, passes the multislice grid and the camera.

    Species with fewer than 13 atoms, no closed neighbour shell, are left out.
    """
    elements = np.array(structure.elements)
    limit = min(band_limit_per_A, 0.5 / pixel_size_A)
    for element in sorted(set(structure.elements)):
        positions = structure.positions_A[elements == element]
        if len(positions) < 13:
            continue
        spacing_A = float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))
        frequency = 1 / fcc_111_spacing_A(spacing_A)
        _gate(
            frequency < limit,
            f"{element}{{111}} at {frequency:.3f} 1/Å must lie below the limit of grid and camera; "
            f"got {limit:.3f}; refine imaging.grid or imaging.pixel_size_A",
        )


def atoms_inside_box(positions_A: NDArray[np.float64], field_A: float, height_A: float, particle: int) -> None:
    """No nucleus lies outside the box: such an atom would be wrapped to the other side silently."""
    box = np.array([field_A, field_A, height_A])
    outside = np.any((positions_A < 0) | (positions_A >= box), axis=1)
    if outside.any():
        worst = positions_A[int(np.argmax(outside))]
        raise GateError(
            f"particle {particle}: {int(outside.sum())} of {len(outside)} atoms lie outside the box of "
            f"{field_A:.2f} × {field_A:.2f} × {height_A:.2f} Å, the first at {np.round(worst, 2).tolist()}; "
            f"raise imaging.pixels or lower imaging.max_shift_A or particles.n_atoms"
        )


def exit_wave_keeps_norm(norm: float, particle: int, view: int) -> None:
    """Mean |ψ|² of an exit wave: electrons may be lost at the band limit only, and never made."""
    _gate(
        NORM_LOW <= norm <= NORM_HIGH,
        f"particle {particle}, view {view}: exit wave must keep a norm of {NORM_LOW} … {NORM_HIGH}; "
        f"got {norm:.5f}; refine imaging.grid",
    )


def agrees_with_reference(
    image: NDArray[np.float32], reference: NDArray[np.float32], bound: float, particle: int, view: int
) -> None:
    """Camera image within `bound` of the beam (rms) of abTEM's."""
    difference = rms_difference(image, reference)
    _gate(
        difference <= bound,
        f"particle {particle}, view {view}: image must agree with abTEM within {bound:.2%} of the beam (rms); "
        f"got {difference:.2%}; refine imaging.grid, or the engine is wrong",
    )


def species_matter(image: NDArray[np.float32], swapped: NDArray[np.float32], least: float = 0.005) -> None:
    """Swapping the species changes the image by at least `least` of the beam (rms)."""
    difference = rms_difference(image, swapped)
    _gate(
        difference >= least,
        f"swapping species must change the image by {least:.2%} of the beam (rms) or more; got {difference:.2%}",
    )


def slices_converged(image: NDArray[np.float32], halved: NDArray[np.float32], bound: float = 0.005) -> None:
    """Halving the slices changes the image by less than `bound` of the beam (rms)."""
    difference = rms_difference(image, halved)
    _gate(
        difference <= bound,
        f"halving the slices must change the image by {bound:.2%} of the beam (rms) at most; got {difference:.2%}; "
        f"raise imaging.n_slices",
    )


def rotations_uniform(quaternions: NDArray[np.float64]) -> None:
    """Rotations are uniform on SO(3).

    For uniform rotations the unit quaternion is uniform on the 3-sphere: |q_i| has the distribution function
    (2/π)(x √(1 − x²) + arcsin x), q_i q_j has mean 0 and variance 1/24, and each axis is turned to a direction whose
    cosines are uniform on [−1, 1].

    Args:
        quaternions: Unit quaternions (x, y, z, w), shape (n, 4); their signs do not matter.
    """
    faults = []
    for axis, name in enumerate("xyzw"):
        p_value = float(kstest(np.abs(quaternions[:, axis]), _component_distribution).pvalue)
        if p_value < FALSE_ALARM:
            faults.append(f"|q_{name}| (p = {p_value:.1e})")
    for first, second in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        mean = float(np.mean(quaternions[:, first] * quaternions[:, second]))
        p_value = float(2 * norm.sf(abs(mean) * np.sqrt(24 * len(quaternions))))
        if p_value < FALSE_ALARM:
            faults.append(f"q_{'xyzw'[first]} q_{'xyzw'[second]} (p = {p_value:.1e})")
    x, y, z, w = quaternions.T
    for name, cosine in {
        "x": 1 - 2 * (y**2 + z**2),
        "y": 1 - 2 * (x**2 + z**2),
        "z": w**2 + z**2 - x**2 - y**2,
    }.items():
        p_value = float(kstest(cosine, "uniform", args=(-1, 2)).pvalue)
        if p_value < FALSE_ALARM:
            faults.append(f"turn of the {name} axis (p = {p_value:.1e})")
    _gate(not faults, f"{len(quaternions)} rotations must be uniform on SO(3); they are not in {', '.join(faults)}")


def _component_distribution(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.clip(x, 0, 1)
    return 2 / np.pi * (x * np.sqrt(1 - x**2) + np.arcsin(x))


def splits_disjoint(particles: Sequence[int] | pd.Series, splits: Sequence[str] | pd.Series) -> None:
    """No particle is in two splits."""
    table = pd.DataFrame({"particle": particles, "split": splits}).drop_duplicates()
    twice = table[table["particle"].duplicated(keep=False)]
    if len(twice):
        first = twice["particle"].iloc[0]
        where = ", ".join(sorted(twice.loc[twice["particle"] == first, "split"].astype(str)))
        raise GateError(
            f"each particle must be in one split; {twice['particle'].nunique()} are in several, "
            f"the first is particle {first} in {where}"
        )
