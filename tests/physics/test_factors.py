"""Factors matched to a grid against a brute-force transform of the atom's transmission function."""

from itertools import pairwise

import numpy as np
import pytest
from abtem.parametrizations import LobatoParametrization
from numpy.typing import NDArray

from alloyscope.imaging.factors import correction_A2, projected_factor_VA2
from alloyscope.units import interaction_constant_rad_per_VA

FIELD_A, SIZE = 12.0, 960
SIGMA = interaction_constant_rad_per_VA(200.0)


def spectrum(transmission: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return np.fft.fft2(transmission - 1) * (FIELD_A / SIZE) ** 2


@pytest.mark.parametrize(("element", "limit_per_A"), [("Co", 2.3), ("Ag", 3.5), ("Au", 2.3), ("Au", 4.6)])
def test_transmission_is_the_atoms_own_inside_the_limit(element: str, limit_per_A: float) -> None:
    # the nucleus lies between grid points: V has a logarithmic peak there
    x = (np.arange(SIZE) - SIZE / 2 + 0.5) * FIELD_A / SIZE
    r = np.hypot(x[:, None], x[None])
    potential = LobatoParametrization().projected_potential(element)(r.ravel()).reshape(r.shape)
    k = np.fft.fftfreq(SIZE, FIELD_A / SIZE)
    k2 = k[:, None] ** 2 + k[None] ** 2
    inside = k2 < limit_per_A**2
    own = spectrum(np.exp(1j * SIGMA * potential))[inside]

    to_centre = np.exp(-2j * np.pi * (k[:, None] + k[None]) * (FIELD_A / 2 - FIELD_A / SIZE / 2))
    cut = np.where(inside, SIGMA * projected_factor_VA2(element, k2), 0)
    matched = cut + np.where(inside, correction_A2(element, limit_per_A, 200.0)(np.sqrt(k2)), 0)
    off = []
    for factor in (cut, matched):
        phase = np.fft.ifft2(factor * to_centre) * (SIZE / FIELD_A) ** 2
        off.append(np.linalg.norm(spectrum(np.exp(1j * phase))[inside] - own) / np.linalg.norm(own))
    assert off[0] > 0.04
    assert off[1] < 0.003  # the sum over the peak's own points is good to 0.002


def test_correction_fades_as_the_grid_is_refined() -> None:
    sizes = [abs(correction_A2("Au", limit, 200.0)(1.0)) for limit in (2.0, 4.0, 8.0, 16.0)]
    assert all(finer < 0.6 * coarser for coarser, finer in pairwise(sizes))


def test_what_is_scattered_beyond_the_limit_is_lost_not_made() -> None:
    for element in ("Co", "Cu", "Ag", "Au"):
        assert (correction_A2(element, 3.5, 200.0)(np.linspace(0, 3.4, 50)).imag > 0).all()
