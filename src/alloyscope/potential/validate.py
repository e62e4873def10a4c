"""Checks of a potential table: against the analytic form, and against reference energies through LAMMPS."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from ase.cluster import Icosahedron, Octahedron
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from alloyscope.config import PotentialSection
from alloyscope.ids import rng_for
from alloyscope.parameters import ParameterSet
from alloyscope.potential.sma import energy_and_forces

Array = NDArray[np.float64]
# (elements, positions [Å], relax) → energy [eV], forces [eV/Å]: the table, through LAMMPS
Evaluate = Callable[[tuple[str, ...], Array, bool], tuple[float, Array]]

RANDOM_CLUSTERS = 10
ATOMS_PER_CLUSTER = 60
# ASSUME: both are 1 % of what 300 K gives an atom, ½ kT per degree of freedom and about 0.5 eV/Å
ENERGY_TOLERANCE_eV_per_atom = 4e-4
FORCE_TOLERANCE_eV_per_A = 5e-3
REFERENCE_TOLERANCE_eV = 1e-3


@dataclass(frozen=True)
class Check:
    """One validated number; passed when |value − reference| ≤ tolerance."""

    name: str
    value: float
    reference: float
    tolerance: float
    unit: str
    source: str

    @property
    def passed(self) -> bool:
        return abs(self.value - self.reference) <= self.tolerance


def random_cluster(parameters: ParameterSet, volume_per_atom_A3: float, number: int) -> tuple[tuple[str, ...], Array]:
    """Atoms thrown into a sphere, none closer than 0.8 of the smallest r0."""
    rng = rng_for("validation cluster", number)
    closest_A = 0.8 * min(pair.r0_A for pair in parameters.pairs.values())
    radius_A = (3 * ATOMS_PER_CLUSTER * volume_per_atom_A3 / (4 * np.pi)) ** (1 / 3)
    positions = np.empty((0, 3))
    while len(positions) < ATOMS_PER_CLUSTER:
        point = rng.uniform(-radius_A, radius_A, 3)
        if np.linalg.norm(point) < radius_A and not (np.linalg.norm(positions - point, axis=1) < closest_A).any():
            positions = np.vstack([positions, point])
    return tuple(rng.choice(parameters.elements, ATOMS_PER_CLUSTER).tolist()), positions


def table_checks(parameters: ParameterSet, settings: PotentialSection, evaluate: Evaluate) -> Iterator[Check]:
    """Largest deviation of the table from the analytic form, on dense clusters and at gas density."""
    source = "analytic SMA (potential.sma)"
    energy_errors, force_errors = [], []
    for number in range(RANDOM_CLUSTERS):
        elements, positions = random_cluster(parameters, 20.0, number)
        energy, forces = energy_and_forces(elements, positions, parameters)
        table_energy, table_forces = evaluate(elements, positions, False)
        # the root's slope is infinite at ρ = 0, so atoms that hang on by a thread are the gas check's business
        inner = [len(near) > 1 for near in cKDTree(positions).query_ball_point(positions, 3.2)]
        energy_errors.append(abs(table_energy - energy) / len(elements))
        force_errors.append(float(np.abs(table_forces - forces)[inner].max()))
    yield Check(
        "energy on dense random clusters", max(energy_errors), 0.0, ENERGY_TOLERANCE_eV_per_atom, "eV/atom", source
    )
    yield Check("force on dense random clusters", max(force_errors), 0.0, FORCE_TOLERANCE_eV_per_A, "eV/Å", source)
    gas_errors = []
    for number in range(RANDOM_CLUSTERS):
        elements, positions = random_cluster(parameters, 110.0, number)
        energy = energy_and_forces(elements, positions, parameters)[0]
        gas_errors.append(abs(evaluate(elements, positions, False)[0] - energy) / len(elements))
    worst = 0.24 * np.sqrt(settings.rho_max_eV2 / (settings.n_rho - 1))
    yield Check("energy at gas density", max(gas_errors), 0.0, float(worst), "eV/atom", source + ", bound 0.24 √Δρ")


def reference_checks(parameters: ParameterSet, evaluate: Evaluate) -> Iterator[Check]:
    """Relaxed energies of ideal clusters, where references exist for the set."""
    reference = json.loads((files("alloyscope") / "data" / "reference" / "sma_clusters.json").read_text())
    if reference["set"] != parameters.name:
        return
    for cluster in reference["clusters"]:
        elements, positions = ideal_cluster(cluster["name"], parameters)
        energy, _ = evaluate(elements, positions, True)
        yield Check(
            cluster["name"],
            energy,
            cluster["energy_eV"],
            REFERENCE_TOLERANCE_eV,
            "eV",
            "independent NumPy evaluator (data/reference/sma_clusters.json)",
        )


def ideal_cluster(name: str, parameters: ParameterSet) -> tuple[tuple[str, ...], Array]:
    """Elements and unrelaxed positions of e.g. `Co13@Ag42 icosahedron` or `Ag38 truncated octahedron`."""
    formula, shape = name.split(" ", 1)
    parts = [(element, int(count)) for element, count in re.findall(r"([A-Z][a-z]?)(\d+)", formula)]
    n_atoms = sum(count for _, count in parts)
    outer = parts[-1][0]
    lattice_A = float(np.sqrt(2) * parameters.pair(outer, outer).r0_A)
    if shape == "icosahedron":
        shells = {13: 2, 55: 3, 147: 4}[n_atoms]
        positions = Icosahedron(outer, shells, latticeconstant=lattice_A).positions
    else:
        positions = Octahedron(outer, *{38: (4, 1)}[n_atoms], latticeconstant=lattice_A).positions
    positions = positions - positions.mean(axis=0)
    # the core is what lies nearest to the centre
    order = np.argsort(np.linalg.norm(positions, axis=1), kind="stable")
    elements = tuple(element for element, count in parts for _ in range(count))
    return elements, positions[order]
