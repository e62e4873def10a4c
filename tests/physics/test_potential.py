"""The SMA, its table, and what LAMMPS makes of it."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.neighborlist import neighbor_list

from alloyscope import cli
from alloyscope.errors import ConfigError, ContractError, SimulationError
from alloyscope.lammps.start import load_lammps
from alloyscope.potential import crystals, sma, table, validate
from alloyscope.potential.evaluate import FromFormula, ThroughLammps
from alloyscope.potential.sets import PotentialSection, packaged_sets, parameter_set
from alloyscope.stages import potential as step
from alloyscope.store.atomic import read_json

AGCO = parameter_set("AgCo")


def test_dimer_energy_by_hand():
    # E = 2 A e^{-p(r/r0-1)} - 2 ξ e^{-q(r/r0-1)}; at r = r0 that is 2 (A - ξ)
    pair = AGCO.pair("Ag", "Ag")
    energy, forces = sma.energy_and_forces(Atoms("Ag2", [[0, 0, 0], [pair.r0_A, 0, 0]]), AGCO)
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


@pytest.mark.parametrize("periodic", [False, True])
def test_forces_are_the_gradient_of_the_energy(periodic: bool):
    atoms = validate.random_cluster(AGCO, 20.0, 3)
    if periodic:  # bonds through every face of a box smaller than two cutoffs
        atoms.set_cell(np.ptp(atoms.positions, axis=0) + 2.0)
        atoms.pbc = True
    forces = sma.energy_and_forces(atoms, AGCO)[1]
    for atom, axis in ((0, 0), (17, 1), (40, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * 1e-5
            energies.append(sma.energy_and_forces(moved, AGCO)[0])
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-5, abs=1e-6)
    assert np.abs(forces.sum(axis=0)).max() < 1e-10


def test_dimer_of_the_formula_in_closed_form():
    # A p e^{-p x} = ξ q e^{-q x} at the minimum: x = ln(p A / (q ξ)) / (p - q), r = r0 (1 + x)
    pair = AGCO.pair("Co", "Co")
    x = np.log(pair.p * pair.A_eV / (pair.q * pair.xi_eV)) / (pair.p - pair.q)
    energy = 2 * (pair.A_eV * np.exp(-pair.p * x) - pair.xi_eV * np.exp(-pair.q * x))
    found = {name: value for name, value, _ in crystals.element_properties("Co", AGCO, FromFormula(AGCO))}
    assert found["Co dimer energy"] == pytest.approx(energy, abs=1e-9)
    assert found["Co dimer length"] == pytest.approx(pair.r0_A * (1 + x), abs=1e-5)


def test_properties_of_an_energy_that_has_closed_forms():
    """Springs between nearest neighbours, φ = k (r − r0)² / 2 − D (fcc: Born and Huang 1954).

    E = −6 D an atom, C11 = √2 k / r0, C12 = C44 = C11 / 2, and hcp is as good as fcc.
    """
    r0_A, k, depth_eV = 2.6, 3.0, 0.4  # eV/Å²

    def springs(atoms: Atoms, relax: bool) -> tuple[float, np.ndarray]:
        distances = neighbor_list("d", atoms, 1.2 * r0_A)
        return float((k * (distances - r0_A) ** 2 / 4 - depth_eV / 2).sum()), np.zeros((len(atoms), 3))

    pair = AGCO.pair("Ag", "Ag").model_copy(update={"r0_A": 1.02 * r0_A})  # the start is off by 2 %
    parameters = AGCO.model_copy(update={"pairs": {"Ag-Ag": pair}})
    found = {name: value for name, value, _ in crystals.element_properties("Ag", parameters, springs)}
    C11_GPa = 160.21766 * np.sqrt(2) * k / r0_A
    assert found == {
        "Ag fcc lattice constant": pytest.approx(np.sqrt(2) * r0_A, abs=1e-5),
        "Ag fcc cohesive energy": pytest.approx(-6 * depth_eV, abs=1e-9),
        "Ag fcc bulk modulus": pytest.approx(2 * C11_GPa / 3, rel=1e-3),
        "Ag fcc C11": pytest.approx(C11_GPa, rel=1e-3),
        "Ag fcc C12": pytest.approx(C11_GPa / 2, rel=1e-3),
        "Ag fcc C44": pytest.approx(C11_GPa / 2, rel=1e-3),
        "Ag hcp minus fcc": pytest.approx(0, abs=1e-5),
        "Ag dimer energy": pytest.approx(-depth_eV, abs=1e-9),
        "Ag dimer length": pytest.approx(r0_A, abs=1e-5),
    }


def test_ordered_compounds_by_hand():
    l1_2 = crystals.ordered("Ag", "Co", 3, AGCO)
    assert sorted(l1_2.get_chemical_symbols()) == ["Ag", "Ag", "Ag", "Co"]
    l1_0 = crystals.ordered("Ag", "Co", 2, AGCO)
    heights = l1_0.get_scaled_positions()[:, 2].round(6) % 1
    assert {(h, s) for h, s in zip(heights, l1_0.get_chemical_symbols())} == {(0.0, "Ag"), (0.5, "Co")}


def test_lammps_takes_boxes_only(tmp_path: Path):
    evaluate = ThroughLammps(None, AGCO, tmp_path)
    with pytest.raises(ContractError, match="periodic along all axes or none"):
        evaluate(Atoms("Ag", pbc=(True, False, False), cell=[4, 4, 4]), False)
    with pytest.raises(ContractError, match="cell must be a box"):
        evaluate(Atoms("Ag", pbc=True, cell=[[0, 2, 2], [2, 0, 2], [2, 2, 0]]), False)


def references_file(path: Path, of: str = "AgCo", name: str = "Ag13 icosahedron", energy_eV: float = -30.7488) -> Path:
    path.write_text(json.dumps({"set": of, "clusters": [{"name": name, "energy_eV": energy_eV}]}))
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the step writes for AgCo, with a reference of the user's own."""
    folder = tmp_path_factory.mktemp("potential")
    own = references_file(folder / "own.json")
    step.run(potential=PotentialSection(set="AgCo"), out=folder / "out", references=[own])
    return folder / "out"


def keep_only(monkeypatch: pytest.MonkeyPatch, *checks: str) -> None:
    """Leave out the other checks of the step: all of them take a quarter of a minute."""
    for name in {"dimer_curves", "curve_checks", "cluster_checks", "property_checks", "reference_checks"} - {*checks}:
        monkeypatch.setattr(step, name, lambda *_: [])


@pytest.mark.xdist_group("potential")
def test_step_writes_a_table_that_passes_every_check(written: Path):
    content = read_json(written / "validation.json")
    checks = content["checks"]
    missed = [check["name"] for check in checks if not check["passed"]]
    assert missed == ["Ag dimer energy"]  # of the experiment: the second moment overbinds dimers
    by_kind = {
        kind: [check for check in checks if check["kind"] == kind] for kind in ("formula", "computed", "experiment")
    }
    assert len(by_kind["formula"]) == 3 * 4 + 3 * 3 + 2 * 9 + 2 + 4
    values = {check["name"]: check["value"] for check in by_kind["computed"]}
    assert values["Co13@Ag42 icosahedron"] == pytest.approx(-161.4398, abs=1e-3)
    assert values["Ag fcc lattice constant"] == pytest.approx(4.0871, abs=1e-4)
    assert all(check["reason"] and check["source"] for check in checks)
    assert [curve["pair"] for curve in content["curves"]] == ["Ag-Ag", "Ag-Co", "Co-Co"]
    assert (written / "AgCo.eam.fs").stat().st_size > 1_000_000
    assert "</svg>" in (written / "validation.svg").read_text()


@pytest.mark.xdist_group("potential")
def test_reference_energies_of_the_users_own(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # the same cluster as among the packaged ones, and one that is 0.1 eV off
    names = [check["name"] for check in read_json(written / "validation.json")["checks"]]
    assert names.count("Ag13 icosahedron") == 2
    wrong = references_file(tmp_path / "wrong.json", name="Co55 icosahedron", energy_eV=-214.1324)
    keep_only(monkeypatch, "reference_checks")
    with pytest.raises(SimulationError, match="the table fails Co55 icosahedron"):
        step.run(potential=PotentialSection(set="AgCo"), out=tmp_path / "wrong", references=[wrong])
    assert not (tmp_path / "wrong").exists()


def test_a_wrong_table_is_refused_and_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # φ without its factor 2: the classical slip
    half = parameter_set("AgCo").model_copy(
        update={"pairs": {name: pair.model_copy(update={"A_eV": pair.A_eV / 2}) for name, pair in AGCO.pairs.items()}}
    )
    right = table.setfl
    monkeypatch.setattr(step, "setfl", lambda parameters, settings: right(half, settings))
    keep_only(monkeypatch, "dimer_curves", "curve_checks")
    with pytest.raises(SimulationError, match=r"set AgCo: the table fails energy error, Ag-Ag bond \(firm"):
        step.run(potential=PotentialSection(set="AgCo"), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"set": "AuCu", "clusters": []}', "holds set AuCu; must be AgCo"),
        ('{"set": "AgCo", "clusters": [{"name": "Ag13 icosahedron"}]}', "KeyError: 'energy_eV'"),
        ("not json", "must be"),
        (None, "cannot be read"),
    ],
)
def test_faulty_reference_files_are_refused(tmp_path: Path, content: str | None, message: str):
    path = tmp_path / "references.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        validate.read_clusters(path, AGCO)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Ag14 icosahedron", "no icosahedron has 14 atoms"),
        ("Au13 icosahedron", "Au not in set AgCo"),
        ("Ag13 dodecahedron", "shapes are icosahedron"),
        ("13 icosahedron", "must be e.g."),
    ],
)
def test_clusters_without_such_a_shape_are_refused(name: str, message: str):
    with pytest.raises(ConfigError, match=message):
        validate.ideal_cluster(name, AGCO)


@pytest.mark.parametrize(
    ("name", "neighbours"),  # coordination → how many atoms have it, of ideal touching spheres
    [
        ("Ag13 cuboctahedron", {5: 12, 12: 1}),
        ("Ag38 truncated octahedron", {6: 24, 9: 8, 12: 6}),
        ("Ag19 octahedron", {4: 6, 7: 12, 12: 1}),
        ("Co1@Ag6 decahedron", {4: 5, 6: 2}),
    ],
)
def test_ideal_clusters_by_their_coordination(name: str, neighbours: dict[int, int]):
    atoms = validate.ideal_cluster(name, AGCO)
    reach = 1.2 * AGCO.pair("Ag", "Ag").r0_A
    distances = atoms.get_all_distances()
    counts = ((distances < reach) & (distances > 0)).sum(axis=1)
    assert dict(zip(*np.unique(counts, return_counts=True), strict=True)) == neighbours


@pytest.mark.parametrize(("name", "contacts"), [("Ag38 truncated octahedron", 144), ("Ag75 Marks decahedron", 319)])
def test_ideal_clusters_by_their_contacts(name: str, contacts: int):
    # nearest-neighbour contacts of the Lennard-Jones minima, Wales and Doye, J. Phys. Chem. A 101, 5111 (1997)
    distances = validate.ideal_cluster(name, AGCO).get_all_distances()
    reach = 1.2 * AGCO.pair("Ag", "Ag").r0_A
    assert ((distances < reach) & (distances > 0)).sum() == 2 * contacts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pairs: pairs.pop("Ag-Co"), "needs the pair Ag-Co exactly once"),
        (lambda pairs: pairs["Ag-Co"].update(cut_end_A=4.0), "cutoff window must satisfy"),
        (lambda pairs: pairs["Ag-Ag"].update(cut_start_A=5.1), "cutoff window must satisfy"),
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


@pytest.mark.parametrize(
    ("cluster", "energy_eV", "with_AgCo_eV"),  # docs/physics.md §1
    [
        ("Co1@Ag12 icosahedron", -32.0772, -32.7486),
        ("Co13@Ag42 icosahedron", -158.6302, -161.4398),
        ("Ag13@Co42 icosahedron", -170.9591, -176.0878),
        ("Ag55 icosahedron", -142.505, -142.505),
        ("Co55 icosahedron", -214.0324, -214.0324),
    ],
)
def test_the_default_set_repels_mixing_more_than_AgCo(cluster: str, energy_eV: float, with_AgCo_eV: float):
    for name, expected_eV in ((PotentialSection().set, energy_eV), ("AgCo", with_AgCo_eV)):
        parameters = parameter_set(name)
        found_eV, _ = FromFormula(parameters)(validate.ideal_cluster(cluster, parameters), True)
        assert found_eV == pytest.approx(expected_eV, abs=1e-3)


def test_reference_clusters_of_the_package_belong_to_one_set_each():
    found = {name: validate.packaged_clusters(parameter_set(name)) for name in packaged_sets()}
    mixed = {
        name: {c["name"]: c["energy_eV"] for c in clusters["clusters"]} for name, clusters in found.items() if clusters
    }
    assert mixed.keys() == {"AgCo", "AgCo-orleans"}
    assert [mixed[name]["Co13@Ag42 icosahedron"] for name in ("AgCo", "AgCo-orleans")] == [-161.4398, -158.6302]


def test_lammps_gives_the_analytic_forces_for_gold_and_copper(tmp_path: Path):
    parameters = parameter_set("AuCu")
    path = tmp_path / "AuCu.eam.fs"
    path.write_text(table.setfl(parameters, PotentialSection(set="AuCu")))
    atoms = validate.random_cluster(parameters, 20.0, 5)
    lmp = load_lammps()
    energy, forces = ThroughLammps(lmp, parameters, path)(atoms, False)
    expected_energy, expected_forces = sma.energy_and_forces(atoms, parameters)
    assert energy == pytest.approx(expected_energy, abs=1e-6)
    assert np.abs(forces - expected_forces).max() < 1e-3
    lmp.close()


def test_a_reference_to_an_unknown_property_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = AGCO.model_dump(mode="json")
    content["references"] = [content["references"][0] | {"property": "Ag boiling point"}]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    keep_only(monkeypatch, "property_checks")
    monkeypatch.setattr(validate, "properties", lambda *_: {"Ag fcc lattice constant": (4.0871, "Å")})
    with pytest.raises(ConfigError, match="unknown property 'Ag boiling point'; known are Ag fcc lattice constant"):
        step.run(potential=PotentialSection(set=str(path)), out=tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xdist_group(f"potential of {name}"))
        for name in sorted(set(packaged_sets()) - {"AgCo"})
    ],
)
def test_every_other_packaged_set_gives_what_its_parameters_must_give(tmp_path: Path, name: str):
    assert cli.main(["potential", "--set", name, "--out", str(tmp_path)]) == 0
    checks = read_json(tmp_path / "validation.json")["checks"]
    assert {check["kind"] for check in checks if not check["passed"]} <= {"experiment"}
    if name == "AgCo-orleans":
        values = {check["name"]: check["value"] for check in checks if check["kind"] == "computed"}
        assert values["Co in Ag dissolution energy"] == pytest.approx(0.996, abs=1e-3)
        assert values["Ag in Co dissolution energy"] == pytest.approx(1.584, abs=1e-3)
        assert values["Co13@Ag42 icosahedron"] == pytest.approx(-158.6302, abs=1e-3)
        assert values["Ag fcc lattice constant"] == pytest.approx(4.0871, abs=1e-4)
