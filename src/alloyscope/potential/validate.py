"""Checks of a potential table with LAMMPS, against the formula and against reference values.

Tolerances are defined here and in the data of the sets, each with its reason; none was chosen after a value was known.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.cluster import Decahedron, Icosahedron, Octahedron
from numpy.typing import NDArray

from alloyscope.errors import ConfigError
from alloyscope.ids import rng_for
from alloyscope.potential.crystals import properties
from alloyscope.potential.evaluate import Evaluate
from alloyscope.potential.sets import ParameterSet, PotentialSection
from alloyscope.potential.sma import Pairs, hopping

Array = NDArray[np.float64]
Kind = Literal["formula", "computed", "experiment"]

RANDOM_CLUSTERS = 10
ATOMS_PER_CLUSTER = 60
DIMER_STEP_A = 0.01
# ASSUME 1 % of an atom's thermal energy (½ kT per degree of freedom) and force (about 0.5 eV/Å) at 300 K
ENERGY_TOLERANCE_eV_per_atom = 4e-4
FORCE_TOLERANCE_eV_per_A = 5e-3
THERMAL = "1 % of what 300 K gives an atom"
BOUND_eV2 = 1.0  # docs/physics.md §1: above this ρ the table is accurate to 1e-7 eV; an atom of a solid has 20–130 eV²
FADING = "bound of a root that is steep at ρ = 0 on a grid of spacing Δρ: 0.24 √Δρ, and the slope of Ξ for forces"
# ASSUME a tenth of the last digit with which such values are quoted
FORMULA_TOLERANCE = {"Å": 1e-4, "eV/atom": 1e-4, "GPa": 0.1, "meV/atom": 0.1, "eV": 1e-3, "": 1e-4}
QUOTED = "a tenth of the last digit such values are quoted with"
REFERENCE_TOLERANCE_eV = 1e-3


@dataclass(frozen=True)
class Check:
    """A validated number, which passes if |value − reference| ≤ tolerance.

    Attributes:
        kind: Origin of the reference: the formula, evaluated without table and LAMMPS; a value computed independently
            with the same parameters; or an experiment. A deviation from the first two means an error, a deviation from
            an experiment is a limit of the model.
    """

    name: str
    value: float
    reference: float
    tolerance: float
    unit: str
    kind: Kind
    source: str
    reason: str

    @property
    def passed(self) -> bool:
        return abs(self.value - self.reference) <= self.tolerance


@dataclass(frozen=True)
class Curve:
    """Error of the table for two atoms as a function of their distance.

    Attributes:
        pair: Pair of elements, e.g. `Ag-Co`.
        r_A, energy_eV, force_eV_per_A: Distances and absolute errors, lists of equal length.
    """

    pair: str
    r_A: list[float]
    energy_eV: list[float]
    force_eV_per_A: list[float]


def random_cluster(parameters: ParameterSet, volume_per_atom_A3: float, number: int) -> Atoms:
    """Make a cluster of random atoms in a sphere, with distances of at least 0.8 of the smallest r0."""
    rng = rng_for("validation cluster", number)
    closest_A = 0.8 * min(pair.r0_A for pair in parameters.pairs.values())
    radius_A = (3 * ATOMS_PER_CLUSTER * volume_per_atom_A3 / (4 * np.pi)) ** (1 / 3)
    positions = np.empty((0, 3))
    while len(positions) < ATOMS_PER_CLUSTER:
        point = rng.uniform(-radius_A, radius_A, 3)
        if np.linalg.norm(point) < radius_A and not (np.linalg.norm(positions - point, axis=1) < closest_A).any():
            positions = np.vstack([positions, point])
    return Atoms(rng.choice(parameters.elements, ATOMS_PER_CLUSTER).tolist(), positions)


def dimer_curves(parameters: ParameterSet, table: Evaluate, formula: Evaluate) -> list[Curve]:
    """Error curves for two atoms of each pair, from 0.75 r0 to the cutoff."""
    curves = []
    for first, second in combinations_with_replacement(parameters.elements, 2):
        pair = parameters.pair(first, second)
        r_A = np.arange(0.75 * pair.r0_A, pair.cut_end_A, DIMER_STEP_A)
        errors = []
        for distance in r_A:
            atoms = Atoms([first, second], [[0, 0, 0], [distance, 0, 0]])
            (energy, forces), (true_energy, true_forces) = table(atoms, False), formula(atoms, False)
            errors.append((abs(energy - true_energy), float(np.abs(forces - true_forces).max())))
        energies, slopes = zip(*errors, strict=True)
        curves.append(Curve(f"{first}-{second}", r_A.tolist(), list(energies), list(slopes)))
    return curves


def root_error_eV(settings: PotentialSection) -> float:
    """Largest error of the tabulated −√ρ, near ρ = 0 (docs/physics.md §1)."""
    return float(0.24 * np.sqrt(settings.rho_max_eV2 / (settings.n_rho - 1)))


def steepest_eV_per_A(parameters: ParameterSet) -> float:
    """Largest error of the force of a weak bond: the maximum of 2 |dΞ/dr| where Ξ² is below BOUND_eV2.

    There, the formula's √ρ of each of the two atoms has the slope dΞ/dr down to ρ = 0, which the table cannot follow.
    """
    slopes = []
    for pair in parameters.pairs.values():
        amplitude, slope = hopping(pair)(np.arange(0.75 * pair.r0_A, pair.cut_end_A, 1e-3))
        slopes.append(float(np.abs(slope[amplitude**2 < BOUND_eV2]).max()))
    return 2 * max(slopes)


def curve_checks(parameters: ParameterSet, settings: PotentialSection, curves: list[Curve]) -> Iterator[Check]:
    """Yield the largest errors for two atoms: with a firm bond, and with a faint bond, where √ρ is steep."""
    faint = ("faint, ρ < 1 eV²", 2 * root_error_eV(settings), steepest_eV_per_A(parameters), FADING)
    firm = ("firm, ρ ≥ 1 eV²", ENERGY_TOLERANCE_eV_per_atom, FORCE_TOLERANCE_eV_per_A, THERMAL)
    for curve in curves:
        density = hopping(parameters.pair(*curve.pair.split("-")))(np.array(curve.r_A))[0] ** 2
        for (words, energy_bound, force_bound, reason), region in (
            (firm, density >= BOUND_eV2),
            (faint, density < BOUND_eV2),
        ):
            if not region.any():
                continue
            for quantity, errors, bound, unit in (
                ("energy", curve.energy_eV, energy_bound, "eV"),
                ("force", curve.force_eV_per_A, force_bound, "eV/Å"),
            ):
                worst = float(np.array(errors)[region].max())
                yield formula_check(f"{quantity} error, {curve.pair} bond ({words})", worst, bound, unit, reason)


def formula_check(name: str, error: float, bound: float, unit: str, reason: str) -> Check:
    return Check(name, error, 0.0, bound, unit, "formula", "formula, without table and LAMMPS", reason)


def cluster_checks(
    parameters: ParameterSet, settings: PotentialSection, table: Evaluate, formula: Evaluate
) -> Iterator[Check]:
    """Yield the largest deviations of the table from the formula for random clusters, from solid to gas density."""
    for volume_A3, words in ((20.0, "dense"), (45.0, "loose"), (110.0, "gas")):
        energy_errors, firm, faint = [], [0.0], [0.0]
        for number in range(RANDOM_CLUSTERS):
            atoms = random_cluster(parameters, volume_A3, number)
            (energy, forces), (true_energy, true_forces) = table(atoms, False), formula(atoms, False)
            energy_errors.append(abs(energy - true_energy) / len(atoms))
            errors = np.abs(forces - true_forces).max(axis=1)
            pairs = Pairs.of(atoms, parameters)
            bound = pairs.densities_eV2(len(atoms)) >= BOUND_eV2
            # The accuracy of an atom's force depends on √ρ of the atom and of its neighbours.
            near_faint = np.bincount(pairs.i, ~bound[pairs.j], len(atoms)) > 0
            firm += errors[bound & ~near_faint].tolist()
            faint += errors[~bound | near_faint].tolist()
        where = f"{words} random clusters ({volume_A3:g} Å³ an atom)"
        dense = words == "dense"
        yield formula_check(
            f"energy error, {where}",
            max(energy_errors),
            ENERGY_TOLERANCE_eV_per_atom if dense else root_error_eV(settings),
            "eV/atom",
            THERMAL if dense else FADING,
        )
        yield formula_check(f"force error, {where}, firm", max(firm), FORCE_TOLERANCE_eV_per_A, "eV/Å", THERMAL)
        yield formula_check(f"force error, {where}, faint", max(faint), steepest_eV_per_A(parameters), "eV/Å", FADING)


def property_checks(parameters: ParameterSet, table: Evaluate, formula: Evaluate) -> Iterator[Check]:
    """Check crystals, dimers, dissolved atoms and ordered compounds against the formula and the set's references.

    Raises:
        ConfigError: a reference names a property that the set does not have.
    """
    found, expected = properties(parameters, table), properties(parameters, formula)
    for name, (value, unit) in found.items():
        tolerance = FORMULA_TOLERANCE[unit]
        yield Check(
            name, value, expected[name][0], tolerance, unit, "formula", "formula, without table and LAMMPS", QUOTED
        )
    for reference in parameters.references:
        if reference.property not in found:
            raise ConfigError(
                f"parameter set {parameters.name}: references: unknown property {reference.property!r}; "
                f"known are {', '.join(found)}"
            )
        value, unit = found[reference.property]
        if unit != reference.unit:
            raise ConfigError(
                f"parameter set {parameters.name}: references: {reference.property} is in {unit}; got {reference.unit}"
            )
        yield Check(
            name=reference.property,
            value=value,
            reference=reference.value,
            tolerance=reference.tolerance,
            unit=unit,
            kind=reference.kind,
            source=reference.source,
            reason=reference.reason,
        )


def packaged_clusters(parameters: ParameterSet) -> dict[str, Any] | None:
    """The reference clusters of this set in the package; None when it has none."""
    found = (json.loads(entry.read_text()) for entry in (files("alloyscope") / "data" / "reference").iterdir())
    return next((reference for reference in found if reference["set"] == parameters.name), None)


def read_clusters(path: Path, parameters: ParameterSet) -> dict[str, Any]:
    """Read reference clusters from a user's file: {"set", "clusters": [{"name", "energy_eV"}, …]}.

    Raises:
        ConfigError: the file cannot be read, has another form, or belongs to another set.
    """
    form = '{"set": NAME, "clusters": [{"name": "Ag13 icosahedron", "energy_eV": -30.7}, …]}'
    try:
        reference: dict[str, Any] = json.loads(path.read_text())
        for cluster in reference["clusters"]:
            str(cluster["name"]), float(cluster["energy_eV"])
        of = reference["set"]
    except OSError as error:
        raise ConfigError(f"--references {path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--references {path}: must be {form}; {type(error).__name__}: {error}") from None
    if of != parameters.name:
        raise ConfigError(f"--references {path}: holds set {of}; must be {parameters.name}")
    return reference


def reference_checks(parameters: ParameterSet, reference: dict[str, Any], table: Evaluate) -> Iterator[Check]:
    """Check the energies of ideal clusters, relaxed with LAMMPS."""
    for cluster in reference["clusters"]:
        energy, _ = table(ideal_cluster(cluster["name"], parameters), True)
        yield Check(
            name=cluster["name"],
            value=energy,
            reference=float(cluster["energy_eV"]),
            tolerance=float(cluster.get("tolerance_eV", REFERENCE_TOLERANCE_eV)),
            unit="eV",
            kind="computed",
            source=reference.get("source", "independent NumPy evaluator (data/reference/sma_clusters.json)"),
            reason="1 meV: references are given to 0.1 meV, and a different local minimum is tens of meV away",
        )


# Shape → function of ase.cluster and its arguments for each size. A cuboctahedron is an octahedron cut such that
# length = 2 cut + 1.
SHAPES: dict[str, tuple[Callable[..., Atoms], list[tuple[int, ...]]]] = {
    "icosahedron": (Icosahedron, [(shells,) for shells in range(2, 9)]),
    "octahedron": (Octahedron, [(length,) for length in range(2, 14)]),
    "truncated octahedron": (Octahedron, [(n, cut) for n in range(4, 18) for cut in range(1, n // 2)]),
    "cuboctahedron": (Octahedron, [(2 * cut + 1, cut) for cut in range(1, 7)]),
    "decahedron": (Decahedron, [(p, q, 0) for p, q in product(range(2, 8), range(1, 8))]),
    "Marks decahedron": (Decahedron, list(product(range(2, 6), range(1, 6), range(1, 4)))),
}


def ideal_cluster(name: str, parameters: ParameterSet) -> Atoms:
    """Build an unrelaxed cluster by name, e.g. `Co13@Ag42 icosahedron` or `Ag38 truncated octahedron`.

    With several species, atoms of a later one lie further from the centre.

    Raises:
        ConfigError: the name has another form, or no such shape has that number of atoms.
    """
    formula, _, shape = name.partition(" ")
    parts = [(element, int(count)) for element, count in re.findall(r"([A-Z][a-z]?)(\d+)", formula)]
    if not parts or shape not in SHAPES or "@".join(f"{e}{n}" for e, n in parts) != formula:
        raise ConfigError(f"cluster {name!r}: must be e.g. 'Co13@Ag42 icosahedron'; shapes are {', '.join(SHAPES)}")
    if unknown := {element for element, _ in parts} - set(parameters.elements):
        raise ConfigError(f"cluster {name!r}: {', '.join(sorted(unknown))} not in set {parameters.name}")
    n_atoms = sum(count for _, count in parts)
    outer = parts[-1][0]
    lattice_A = float(np.sqrt(2) * parameters.pair(outer, outer).r0_A)
    build, sizes = SHAPES[shape]
    for size in sizes:
        cluster = build(outer, *size, latticeconstant=lattice_A)
        if len(cluster) == n_atoms:
            positions = cluster.positions - cluster.positions.mean(axis=0)
            order = np.argsort(np.linalg.norm(positions, axis=1), kind="stable")
            return Atoms([element for element, count in parts for _ in range(count)], positions[order])
    raise ConfigError(f"cluster {name!r}: no {shape} has {n_atoms} atoms")
