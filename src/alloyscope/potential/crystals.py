"""Properties of crystals and molecules from any energy function: the table with LAMMPS, or the formula itself.

All strains keep the cell a box: C' and C44 follow from the energies of the volume-conserving strain
(1 + δ, 1 / (1 + δ), 1) along ⟨100⟩ and along ⟨110⟩, E/V = 2 C' δ² and 2 C44 δ² (Mehl, PRB 47, 2493 (1993)).
"""

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.units import GPa
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from alloyscope.potential.evaluate import Evaluate
from alloyscope.potential.sets import ParameterSet

Array = NDArray[np.float64]

STRAINS = np.linspace(-0.01, 0.01, 9)  # ASSUME small enough for the fit, and large against errors of the table
CELL_FACTORS = (0.85, 1.15)  # ASSUME the best cell is within these factors of touching spheres of diameter r0
HOST_CELLS = 4  # a 4 × 4 × 4 fcc crystal, 256 atoms, around a dissolved atom
DIMER_A = (0.7, 1.3)  # ASSUME the bond length of a dimer lies between these multiples of r0


def per_atom(evaluate: Evaluate, atoms: Atoms) -> float:
    return evaluate(atoms, False)[0] / len(atoms)


def stretched(atoms: Atoms, factors: tuple[float, float, float]) -> Atoms:
    changed: Atoms = atoms.copy()
    changed.set_cell(atoms.cell * np.array(factors), scale_atoms=True)
    return changed


def best_cell(evaluate: Evaluate, atoms: Atoms, free: tuple[tuple[int, ...], ...]) -> Atoms:
    """Find the cell of least energy; the axes of each group in `free` share one factor."""

    def apply(factors: Array) -> Atoms:
        edges = np.ones(3)
        for group, factor in zip(free, factors, strict=True):
            edges[list(group)] = factor
        return stretched(atoms, (edges[0], edges[1], edges[2]))

    if len(free) == 1:
        found = minimize_scalar(
            lambda factor: per_atom(evaluate, apply(np.array([factor]))),
            bounds=CELL_FACTORS,
            method="bounded",
            options={"xatol": 1e-7},
        )
        return apply(np.array([found.x]))
    found = minimize(
        lambda factors: per_atom(evaluate, apply(factors)),
        np.ones(len(free)),
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-10},
    )
    return apply(found.x)


def curvature(evaluate: Evaluate, atoms: Atoms, factors: Callable[[float], tuple[float, float, float]]) -> float:
    """d²(E/V)/dδ² at δ = 0 [GPa]."""
    energies = [evaluate(stretched(atoms, factors(strain)), False)[0] for strain in STRAINS]
    return float(2 * np.polynomial.polynomial.polyfit(STRAINS, energies, 4)[2] / atoms.get_volume() / GPa)


def fcc(element: str, parameters: ParameterSet) -> Atoms:
    return bulk(element, "fcc", a=np.sqrt(2) * parameters.pair(element, element).r0_A, cubic=True)


def element_properties(element: str, parameters: ParameterSet, evaluate: Evaluate) -> Iterator[tuple[str, float, str]]:
    """Yield name, value and unit of each property of a pure element."""
    crystal = best_cell(evaluate, fcc(element, parameters), ((0, 1, 2),))
    lattice_A, cohesive = float(crystal.cell[0, 0]), per_atom(evaluate, crystal)
    yield f"{element} fcc lattice constant", lattice_A, "Å"
    yield f"{element} fcc cohesive energy", cohesive, "eV/atom"
    # E/V = 9/2 B δ² under (1 + δ) along all axes
    modulus = curvature(evaluate, crystal, lambda d: (1 + d, 1 + d, 1 + d)) / 9
    shear = curvature(evaluate, crystal, lambda d: (1 + d, 1 / (1 + d), 1)) / 4
    diagonal = make_supercell(crystal, [[1, -1, 0], [1, 1, 0], [0, 0, 1]])
    diagonal.rotate(45, "z", rotate_cell=True)
    diagonal.set_cell(np.diag(diagonal.cell.lengths()), scale_atoms=False)
    diagonal.wrap()
    c44 = curvature(evaluate, diagonal, lambda d: (1 + d, 1 / (1 + d), 1)) / 4
    yield f"{element} fcc bulk modulus", modulus, "GPa"
    yield f"{element} fcc C11", modulus + 4 * shear / 3, "GPa"
    yield f"{element} fcc C12", modulus - 2 * shear / 3, "GPa"
    yield f"{element} fcc C44", c44, "GPa"
    r0_A = lattice_A / np.sqrt(2)
    hexagonal = bulk(element, "hcp", a=r0_A, c=np.sqrt(8 / 3) * r0_A, orthorhombic=True)
    stacked = best_cell(evaluate, hexagonal, ((0, 1), (2,)))
    yield f"{element} hcp minus fcc", 1e3 * (per_atom(evaluate, stacked) - cohesive), "meV/atom"
    distance_A = parameters.pair(element, element).r0_A

    def dimer(length_A: float) -> float:
        return evaluate(Atoms([element] * 2, [[0, 0, 0], [length_A, 0, 0]]), False)[0]

    bounds = (DIMER_A[0] * distance_A, DIMER_A[1] * distance_A)
    found = minimize_scalar(dimer, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    yield f"{element} dimer energy", float(found.fun), "eV"
    yield f"{element} dimer length", float(found.x), "Å"


def alloy_properties(parameters: ParameterSet, evaluate: Evaluate) -> Iterator[tuple[str, float, str]]:
    """Yield name, value and unit of dissolution energies and of ordered compounds, for all pairs of elements."""
    crystals = {e: best_cell(evaluate, fcc(e, parameters), ((0, 1, 2),)) for e in parameters.elements}
    pure = {element: per_atom(evaluate, crystal) for element, crystal in crystals.items()}
    for guest, host in permutations(parameters.elements, 2):
        solution = crystals[host].repeat(HOST_CELLS)
        solution.symbols[0] = guest
        energy = evaluate(solution, True)[0] - (len(solution) - 1) * pure[host] - pure[guest]
        yield f"{guest} in {host} dissolution energy", energy, "eV"
    for first, second in permutations(parameters.elements, 2):
        compound = ordered(first, second, 3, parameters)
        energy = per_atom(evaluate, best_cell(evaluate, compound, ((0, 1, 2),)))
        yield (
            f"{first}3{second} L1_2 formation energy",
            1e3 * (energy - 0.75 * pure[first] - 0.25 * pure[second]),
            "meV/atom",
        )
        if first < second:
            layered = best_cell(evaluate, ordered(first, second, 2, parameters), ((0, 1), (2,)))
            energy = per_atom(evaluate, layered)
            a, _, c = layered.cell.lengths()
            yield f"{first}{second} L1_0 c/a", float(c / a), ""
            yield (
                f"{first}{second} L1_0 formation energy",
                1e3 * (energy - 0.5 * pure[first] - 0.5 * pure[second]),
                "meV/atom",
            )


def ordered(first: str, second: str, n_first: int, parameters: ParameterSet) -> Atoms:
    """L1₂ (3 of 4 atoms of the first element) or L1₀ (2 of 4, in layers along z) on an fcc cell."""
    crystal = fcc(first, parameters)
    crystal.set_cell(np.sqrt(2) * parameters.pair(first, second).r0_A * np.eye(3), scale_atoms=True)
    heights = crystal.get_scaled_positions()[:, 2]
    layers = np.argsort(heights, kind="stable")  # two atoms at z = 0, two at ½
    for index in layers[n_first:]:
        crystal.symbols[index] = second
    return crystal


def properties(parameters: ParameterSet, evaluate: Evaluate) -> dict[str, tuple[float, str]]:
    """Every property with its unit, by name."""
    found = [item for element in parameters.elements for item in element_properties(element, parameters, evaluate)]
    found += alloy_properties(parameters, evaluate)
    return {name: (value, unit) for name, value, unit in found}
