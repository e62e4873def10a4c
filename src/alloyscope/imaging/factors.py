"""Scattering factors of atoms, and their correction for the frequency limit of a grid.

When an atom's potential V is cut at a grid's limit K, its transmission function exp(iσV) changes also far below K,
because exp is not linear. The matched factor g is complex, is zero beyond K, and has the transmission function of the
atom wherever the grid can represent it:

    F{exp(i F⁻¹g)}(k) = F{exp(iσV)}(k)  for all k < K

g tends to the factor σf of the potential as K grows; its imaginary part removes the electrons that the atom scatters
beyond K. docs/decisions/0006-grid.md gives the gain in accuracy.
"""

from functools import cache

import numpy as np
from abtem.parametrizations import LobatoParametrization
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import j0

from alloyscope.units import interaction_constant_rad_per_VA

RADIUS_A = 8.0  # ASSUME the second order of σV is negligible beyond; the first order is used in closed form
NODES = 8  # nodes of a Gauss–Legendre panel
STEPS = 6  # iterations of Newton's method; Au at 256² over 55.65 Å: residuals 0.2, 1e-2, 9e-5, 5e-9, 1e-15


@cache
def _lobato() -> LobatoParametrization:
    return LobatoParametrization()


def projected_factor_VA2(element: str, k2_per_A2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fourier transform of an atom's projected potential [V Å²].

    Lobato & Van Dyck, Acta Cryst. A 70, 636 (2014): 8π Σ a (1/(b (q² + b²)) + b/(q² + b²)²), q = 2πk, with abTEM's
    scaled parameters.
    """
    parameters = np.asarray(_lobato().scaled_parameters(element, "projected_scattering_factor"), np.float64)
    a, b = parameters.reshape(2, -1, *(1,) * k2_per_A2.ndim)
    q2 = (4 * np.pi**2 * k2_per_A2)[None]
    terms: NDArray[np.float64] = a / (b * (q2 + b**2)) + a * b / (q2 + b**2) ** 2
    factor: NDArray[np.float64] = 8 * np.pi * terms.sum(axis=0)
    return factor


@cache
def correction_A2(element: str, limit_per_A: float, voltage_kV: float) -> CubicSpline:
    """Correction g − σf [rad Å²] that matches an atom's factor to a grid, complex.

    Args:
        element: Chemical symbol.
        limit_per_A: Largest frequency of the sliced potential, K.
        voltage_kV: Acceleration voltage.

    Returns:
        Function of the frequency k [1/Å], valid for k < limit_per_A.
    """
    sigma = interaction_constant_rad_per_VA(voltage_kV)
    k, k_weight = _nodes(np.linspace(0, limit_per_A, int(3 * limit_per_A * RADIUS_A) // NODES + 4))
    fine = min(0.1, 0.5 / limit_per_A)
    r, r_weight = _nodes(np.concatenate([[0], np.geomspace(1e-4, fine, 6), np.arange(2 * fine, RADIUS_A, fine)]))
    bessel = j0(2 * np.pi * np.outer(k, r))
    # Hankel transforms from r to k and back.
    forward = 2 * np.pi * bessel * (r * r_weight)
    backward = 2 * np.pi * (bessel * (k * k_weight)[:, None]).T

    factor = sigma * projected_factor_VA2(element, k**2)
    phase = sigma * _lobato().projected_potential(element)(r)
    wanted = forward @ (np.expm1(1j * phase) - 1j * phase) + 1j * factor
    matched = factor.astype(complex)
    for _ in range(STEPS):
        phase = backward @ matched
        missing = wanted - (forward @ (np.expm1(1j * phase) - 1j * phase) + 1j * matched)
        slope = 1j * ((forward * np.expm1(1j * phase)) @ backward + np.eye(len(k)))
        matched = matched + np.linalg.solve(slope, missing)
    return CubicSpline(k, matched - factor)


def _nodes(edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss–Legendre nodes and weights on the panels between the edges."""
    x, weight = np.polynomial.legendre.leggauss(NODES)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * x).ravel(), (half * weight).ravel()
