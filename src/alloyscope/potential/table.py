"""The SMA as an eam/fs table: E_i = F(Σ ρ) + ½ Σ φ with φ = 2A e^{…}, ρ = Ξ², F = −√ρ for every element."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from alloyscope.potential.sets import ParameterSet, PotentialSection
from alloyscope.potential.sma import hopping, repulsion
from alloyscope.units import ATOMIC_NUMBER, ATOMIC_MASS_u


def setfl(parameters: ParameterSet, settings: PotentialSection) -> str:
    """Text of the setfl (eam/fs) file. It has one global cutoff; a pair with a shorter one has zeros in the table."""
    elements = parameters.elements
    cutoff_A = max(pair.cut_end_A for pair in parameters.pairs.values())
    r_A = np.linspace(0.0, cutoff_A, settings.n_r)
    rho_eV2 = np.linspace(0.0, settings.rho_max_eV2, settings.n_rho)
    lines = [
        f"SMA set {parameters.name}: {parameters.description.strip()}",
        *(f"{name}: {parameters.sources[name]}" for name in list(parameters.pairs)[:1]),
        "written by alloyscope; E_i = F(rho) + 1/2 sum phi; metal units",
        f"{len(elements)} {' '.join(elements)}",
        f"{settings.n_rho} {rho_eV2[1]:.16e} {settings.n_r} {r_A[1]:.16e} {cutoff_A:.16e}",
    ]
    for element in elements:
        lattice_A = np.sqrt(2) * parameters.pair(element, element).r0_A
        lines.append(f"{ATOMIC_NUMBER[element]} {ATOMIC_MASS_u[element]} {lattice_A:.6f} fcc")
        lines += _column(-np.sqrt(rho_eV2))
        for other in elements:
            lines += _column(hopping(parameters.pair(element, other))(r_A)[0] ** 2)
    for i, j in product(range(len(elements)), repeat=2):
        if j <= i:
            lines += _column(r_A * 2 * repulsion(parameters.pair(elements[i], elements[j]))(r_A)[0])
    return "\n".join(lines) + "\n"


def _column(values: NDArray[np.float64]) -> list[str]:
    return [" ".join(f"{value:.16e}" for value in row) for row in np.split(values, range(5, len(values), 5))]
