"""Do two ways of running the same particles give the same structures? Means, errors, paired differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from harness import Figure
from numpy.typing import NDArray

from alloyscope.contracts import Structure
from alloyscope.intervals import NORMAL_95
from alloyscope.lammps import commands
from alloyscope.lammps.commands import System
from alloyscope.structure import order
from alloyscope.structure.shape import Nanoparticle

UNITS = {
    "inherent_energy": "eV/atom",
    "d_com_over_Rg": "",
    "eta": "",
    "radial_segregation": "Å",
    "warren_cowley_bond_ends": "",
}
LIKELY_LARGEST = 2.8  # 95 % of the time the largest of ten standard normal numbers is below: (1 − 2Φ(−z))¹⁰ = 0.95


@dataclass(frozen=True)
class Difference:
    """Paired values of one descriptor.

    Attributes:
        first, second: Values of both ways, shape (pairs,).
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float((self.first - self.second).mean())

    @property
    def standard_error(self) -> float:
        return standard_error(self.first - self.second)

    @property
    def in_errors(self) -> float:
        """Mean difference in units of its standard error; 0 when both ways agree to the last digit."""
        return self.mean / self.standard_error if self.standard_error else 0.0


def standard_error(values: NDArray[np.float64]) -> float:
    """Of a mean, shape (n,), n ≥ 2."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def describe(lmp: object, structure: Structure, system: System) -> dict[str, float]:
    """Descriptors of a final structure, by the names of UNITS.

    Args:
        lmp: LAMMPS instance for the relaxation.
        structure: Largest cluster of the last snapshot.
        system: Gives species and potential.
    """
    types = np.array([system.species.index(element) for element in structure.elements])
    relaxed = System(system.species, types, structure.positions_A, system.potential)
    energy_eV, _ = commands.energy_and_forces(lmp, relaxed, relax=True)
    body = Nanoparticle.of(structure, (system.species[0], system.species[1]))
    return {
        "inherent_energy": energy_eV / body.n_atoms,
        "d_com_over_Rg": order.centre_distance_A(body) / body.radius_of_gyration_A,
        "eta": order.eta(body),
        "radial_segregation": order.radial_segregation_A(body),
        "warren_cowley_bond_ends": order.Bonds.of(body).warren_cowley,
    }


def figures(
    described: Mapping[str, Sequence[tuple[Mapping[str, float], Mapping[str, float]]]],
) -> dict[str, Figure]:
    """Differences of all descriptors by protocol, and the largest of them in standard errors.

    Args:
        described: Descriptors of (ours, plain) for each pair of valid particles.
    """
    found: dict[str, Figure] = {}
    in_errors: list[float] = []
    for protocol, both in described.items():
        if len(both) < 2:
            continue  # no error without a second pair
        for name, unit in UNITS.items():
            ours, plain = (np.array([pair[way][name] for pair in both]) for way in (0, 1))
            difference = Difference(ours, plain)
            in_errors.append(abs(difference.in_errors))
            means = " and ".join(
                f"{way} {values.mean():.4f} ± {standard_error(values):.4f}"
                for way, values in (("ours", ours), ("plain", plain))
            )
            half = NORMAL_95 * difference.standard_error
            found[f"md_{name}_difference_{protocol}"] = Figure(
                difference.mean,
                unit,
                f"{means}: {difference.in_errors:+.1f} standard errors",
                difference.mean - half,
                difference.mean + half,
                len(both),
            )
    if in_errors:
        found["md_largest_difference"] = Figure(
            max(in_errors),
            "standard errors",
            f"of {len(in_errors)} paired differences; ten of chance alone stay below {LIKELY_LARGEST} in 95 % of cases",
            runs=len(in_errors),
        )
    return found
