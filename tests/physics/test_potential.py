"""The SMA, its table, and what LAMMPS makes of it."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml

from alloyscope import config, lammps_engine
from alloyscope.errors import ConfigError, SimulationError
from alloyscope.parameters import packaged_sets, parameter_set
from alloyscope.potential import sma, table, validate
from alloyscope.steps import potential as step
from alloyscope.store.atomic import read_json

AGCO = parameter_set("AgCo")


def test_dimer_energy_by_hand():
    # E = 2 A e^{-p(r/r0-1)} - 2 ξ e^{-q(r/r0-1)}; at r = r0 that is 2 (A - ξ)
    pair = AGCO.pair("Ag", "Ag")
    energy, forces = sma.energy_and_forces(("Ag", "Ag"), np.array([[0.0, 0, 0], [pair.r0_A, 0, 0]]), AGCO)
    assert energy == pytest.approx(2 * (pair.A_eV - pair.xi_eV), abs=1e-12)
    slope = 2 * (-pair.A_eV * pair.p + pair.xi_eV * pair.q) / pair.r0_A
    assert forces[1, 0] == pytest.approx(-slope, abs=1e-12)


def test_bulk_cohesion_and_lattice_of_silver():
    # docs/physics.md §1: a 4.0871 Å, -2.9500 eV; here an analytic lattice sum, no table
    def energy_per_atom(lattice_A: float) -> float:
        cells = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
        basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
        r_A = np.linalg.norm(lattice_A * (cells + basis).reshape(-1, 3), axis=1)
        r_A = r_A[r_A > 0.1]
        pair = AGCO.pair("Ag", "Ag")
        return float(sma.repulsion(pair)(r_A)[0].sum() - np.sqrt((sma.hopping(pair)(r_A)[0] ** 2).sum()))

    lattices = np.linspace(4.06, 4.11, 501)
    energies = [energy_per_atom(lattice) for lattice in lattices]
    assert lattices[int(np.argmin(energies))] == pytest.approx(4.0871, abs=2e-4)
    assert min(energies) == pytest.approx(-2.9500, abs=1e-4)


def test_cutoff_is_smooth_to_second_order():
    for pair in AGCO.pairs.values():
        for function in (sma.repulsion(pair), sma.hopping(pair)):
            for edge_A in (pair.cut_start_A, pair.cut_end_A):
                below, above = (function(np.array([edge_A + sign * 1e-9])) for sign in (-1, 1))
                assert below[0] == pytest.approx(above[0], abs=1e-8)
                assert below[1] == pytest.approx(above[1], abs=1e-7)
                h = 1e-5
                curvature = []  # from either side, extrapolated to the edge
                for side in (-1, 1):
                    near, middle, far = function(edge_A + side * h * np.array([1, 2, 3]))[1]
                    last, before = side * (middle - near) / h, side * (far - middle) / h
                    curvature.append(last + 1.5 * (last - before))
                assert curvature[0] == pytest.approx(curvature[1], abs=1e-4)
            assert function(np.array([pair.cut_end_A, 9.0]))[0].tolist() == [0.0, 0.0]


def test_forces_are_the_gradient_of_the_energy():
    elements, positions = validate.random_cluster(AGCO, 20.0, 3)
    forces = sma.energy_and_forces(elements, positions, AGCO)[1]
    for atom, axis in ((0, 0), (17, 1), (40, 2)):
        moved = [positions.copy() for _ in range(2)]
        for sign, copy in zip((1, -1), moved, strict=True):
            copy[atom, axis] += sign * 1e-5
        energies = [sma.energy_and_forces(elements, copy, AGCO)[0] for copy in moved]
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-5, abs=1e-6)
    assert np.abs(forces.sum(axis=0)).max() < 1e-10


def test_step_writes_a_table_that_passes_every_check(tmp_path: Path):
    step.run(potential=config.PotentialSection(), out=tmp_path)
    checks = {check["name"]: check for check in read_json(tmp_path / "validation.json")["checks"]}
    assert all(check["passed"] for check in checks.values())
    assert checks["Co13@Ag42 icosahedron"]["value"] == pytest.approx(-161.4398, abs=1e-3)
    assert len(checks) == 3 + 9
    assert (tmp_path / "AgCo.eam.fs").stat().st_size > 1_000_000


def test_a_wrong_table_is_refused_and_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # φ without its factor 2: the classical slip
    half = parameter_set("AgCo").model_copy(
        update={"pairs": {name: pair.model_copy(update={"A_eV": pair.A_eV / 2}) for name, pair in AGCO.pairs.items()}}
    )
    right = table.setfl
    monkeypatch.setattr(step, "setfl", lambda parameters, settings: right(half, settings))
    with pytest.raises(SimulationError, match="set AgCo: the table fails energy on dense random clusters"):
        step.run(potential=config.PotentialSection(), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pairs: pairs.pop("Ag-Co"), "needs the pair Ag-Co exactly once"),
        (lambda pairs: pairs["Ag-Co"].update(cut_end_A=4.0), "cutoff window must satisfy"),
        (lambda pairs: pairs.update({"Ag-Xx": pairs["Ag-Ag"]}), r"unknown elements \['Xx'\]"),
    ],
)
def test_faulty_parameter_sets_are_refused(tmp_path: Path, change, message: str):
    content = AGCO.model_dump()
    change(content["pairs"])
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message):
        parameter_set(str(path))


def test_every_packaged_set_is_whole():
    for name in packaged_sets():
        parameters = parameter_set(name)
        for first, second in combinations(parameters.elements, 2):
            assert parameters.pair(first, second) == parameters.pair(second, first)


def test_lammps_gives_the_analytic_forces_for_gold_and_copper(tmp_path: Path):
    parameters = parameter_set("AuCu")
    path = tmp_path / "AuCu.eam.fs"
    path.write_text(table.setfl(parameters, config.PotentialSection(set="AuCu")))
    elements, positions = validate.random_cluster(parameters, 20.0, 5)
    types = np.array([parameters.elements.index(element) for element in elements])
    lmp = lammps_engine.load_lammps()
    system = lammps_engine.System(parameters.elements, types, positions, path)
    energy, forces = lammps_engine.energy_and_forces(lmp, system)
    expected_energy, expected_forces = sma.energy_and_forces(elements, positions, parameters)
    assert energy == pytest.approx(expected_energy, abs=1e-6)
    assert np.abs(forces - expected_forces).max() < 1e-3
    lmp.close()
