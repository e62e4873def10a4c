"""Energies of clusters and crystals, from the table with LAMMPS and from the formula."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.optimize import minimize

from alloyscope.contracts import require
from alloyscope.lammps import commands
from alloyscope.potential.sets import ParameterSet
from alloyscope.potential.sma import energy_and_forces

Array = NDArray[np.float64]
# (cluster or crystal in a box, relax the positions first) → energy [eV] and forces [eV/Å], shape (n, 3)
Evaluate = Callable[[Atoms, bool], tuple[float, Array]]


@dataclass
class ThroughLammps:
    """Evaluates the table with LAMMPS. The atoms stay loaded while only positions and cell change.

    Raises:
        ContractError: the atoms are periodic along some axes only, or their cell is not a box.
    """

    lmp: Any
    parameters: ParameterSet
    table: Path
    _loaded: tuple[bool, tuple[str, ...]] | None = field(default=None, init=False)

    def __call__(self, atoms: Atoms, relax: bool) -> tuple[float, Array]:
        periodic = bool(atoms.pbc.all())
        require(periodic or not atoms.pbc.any(), f"atoms must be periodic along all axes or none; got {atoms.pbc}")
        a, b, c = atoms.cell.lengths()
        require(not periodic or np.allclose(atoms.cell, np.diag((a, b, c))), f"cell must be a box; got {atoms.cell}")
        kind = (periodic, tuple(atoms.get_chemical_symbols()))
        positions_A = atoms.get_positions(wrap=periodic)
        if kind == self._loaded and not relax:
            if periodic:
                self.lmp.command(f"change_box all x final 0 {a} y final 0 {b} z final 0 {c}")
            commands.set_positions(self.lmp, positions_A)
            return commands.energy_of_state(self.lmp)
        elements = self.parameters.elements
        types = np.array([elements.index(element) for element in kind[1]])
        cell_A = (a, b, c) if periodic else None
        system = commands.System(elements, types, positions_A, self.table, cell_A=cell_A)
        self._loaded = kind
        return commands.energy_and_forces(self.lmp, system, relax)


@dataclass(frozen=True)
class FromFormula:
    """Evaluates the analytic second-moment energy, without table and LAMMPS."""

    parameters: ParameterSet

    def __call__(self, atoms: Atoms, relax: bool) -> tuple[float, Array]:
        if not relax:
            return energy_and_forces(atoms, self.parameters)
        moved = atoms.copy()

        def objective(flat: Array) -> tuple[float, Array]:
            moved.positions = flat.reshape(-1, 3)
            energy, forces = energy_and_forces(moved, self.parameters)
            return energy, -forces.ravel()

        found = minimize(objective, atoms.positions.ravel(), jac=True, method="L-BFGS-B", options={"gtol": 1e-4})
        moved.positions = found.x.reshape(-1, 3)
        return energy_and_forces(moved, self.parameters)
