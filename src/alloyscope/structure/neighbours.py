"""Inherent structure of a particle, and the classes of its atoms from common-neighbour analysis.

Common-neighbour analysis: Honeycutt & Andersen, J. Phys. Chem. 91, 4950 (1987); Faken & Jónsson, Comput. Mater. Sci. 2,
279 (1994). LAMMPS does the relaxation and the analysis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alloyscope.errors import ConfigError, SimulationError
from alloyscope.lammps import commands

CLOSE_PACKED = 12  # neighbours of an inner atom
PATTERNS = {1: "fcc", 2: "hcp", 4: "icosahedral"}  # numbers of LAMMPS's compute cna/atom; 3 is bcc, 5 none of them
CLASSES = (*PATTERNS.values(), "other", "surface")
RESIDUAL_eV_per_A = 1e-3  # ASSUME relaxed: bonds are stiffer than 1 eV/Å², so no atom is 0.001 Å off its minimum


def shell_cutoff_A(nearest_A: Sequence[float]) -> float:
    """Cutoff between the first and the second neighbour shell of every species [Å].

    Args:
        nearest_A: Nearest-neighbour distance r0 of each species.

    Raises:
        ConfigError: the first neighbours of one species are as far away as the second ones of another.
    """
    first_A, second_A = max(nearest_A), math.sqrt(2) * min(nearest_A)
    if first_A >= second_A:
        raise ConfigError(
            f"r0 of {', '.join(f'{r0_A:g}' for r0_A in nearest_A)} Å leave no room for a common neighbour cutoff; the "
            f"longest must be below √2 times the shortest, {second_A:.3f} Å: choose other species or parameters"
        )
    # ASSUME halfway. LAMMPS takes one cutoff for all pairs; in relaxed AgCo particles such distances are rarest.
    return (first_A + second_A) / 2


@dataclass(frozen=True)
class Inherent:
    """A particle relaxed to the nearest minimum of its energy.

    Attributes:
        energy_eV: Potential energy.
        residual_eV_per_A: Largest remaining force component.
        pattern: Number of LAMMPS's compute cna/atom for each atom, shape (n,).
        coordination: Number of neighbours within the cutoff, shape (n,).
    """

    energy_eV: float
    residual_eV_per_A: float
    pattern: NDArray[np.int64]
    coordination: NDArray[np.int64]

    @classmethod
    def of(cls, lmp: Any, system: commands.System, cutoff_A: float) -> "Inherent":
        """Relax a particle in a LAMMPS instance.

        Raises:
            SimulationError: LAMMPS reports an error; the message is that of LAMMPS.
        """
        try:
            energy_eV, forces = commands.energy_and_forces(lmp, system, relax=True)
            pattern, coordination = commands.neighbourhoods(lmp, cutoff_A)
        except Exception as error:  # the lammps module raises bare Exception
            raise SimulationError(" ".join(str(error).split())) from error
        return cls(energy_eV, float(np.abs(forces).max()), pattern, coordination)

    @property
    def relaxed(self) -> bool:
        return self.residual_eV_per_A <= RESIDUAL_eV_per_A

    @property
    def classes(self) -> NDArray[np.str_]:
        """Class of every atom, shape (n,): `surface` if it has fewer than 12 neighbours, else its pattern."""
        inner = np.array([PATTERNS.get(number, "other") for number in self.pattern.tolist()])
        return np.where(self.coordination < CLOSE_PACKED, "surface", inner)

    @property
    def fractions(self) -> dict[str, float]:
        """Share of the atoms in each of `CLASSES`; they add up to 1."""
        return {name: float((self.classes == name).mean()) for name in CLASSES}
