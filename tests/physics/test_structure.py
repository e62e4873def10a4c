"""Descriptors against answers known by hand."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from ase.cluster import Icosahedron, Octahedron

from alloyscope.contracts import Structure
from alloyscope.errors import ConfigError, ContractError, SimulationError
from alloyscope.lammps.commands import System
from alloyscope.lammps.start import load_lammps
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.structure import order, shape, statistics
from alloyscope.structure.neighbours import CLASSES, Inherent, shell_cutoff_A
from alloyscope.structure.shape import Nanoparticle

AGCO = parameter_set("AgCo")

AIMS = {"gas_quench": "core_shell", "droplets": "janus"}


def body(positions, first, diameter=1.0):
    positions = np.asarray(positions, dtype=float)
    return Nanoparticle(positions, np.asarray(first, dtype=bool), np.full(len(positions), diameter))


def icosahedron(bond=1.0):
    """Twelve vertices around a centre, which stands first; vertex to vertex 1.0515 times vertex to centre."""
    phi = (1 + math.sqrt(5)) / 2
    vertices = [v for a, b in product((1, -1), (phi, -phi)) for v in ((0, a, b), (a, b, 0), (b, 0, a))]
    return np.array([(0, 0, 0), *vertices]) * bond / math.sqrt(1 + phi**2)


def cuboctahedron():
    """An fcc atom and its twelve neighbours at distance 1."""
    points = [p for p in product((-1, 0, 1), repeat=3) if sum(map(abs, p)) == 2]
    return np.array([(0, 0, 0), *points]) / math.sqrt(2)


def fcc_ball(radius, bond=1.0):
    cells = np.array([p for p in product(range(-12, 13), repeat=3) if sum(p) % 2 == 0])
    points = cells * bond / math.sqrt(2)
    return points[np.linalg.norm(points, axis=1) <= radius]


def test_dimer():
    dimer = body([(0, 0, 0), (0, 0, 1)], [True, False])
    assert dimer.radius_of_gyration_A == pytest.approx(0.5)
    assert order.centre_distance_A(dimer) == pytest.approx(1.0)
    # both atoms lie outside 0.8 R_g, so the composition terms vanish: η = −1 / (2 · ½)
    assert order.eta(dimer) == pytest.approx(-1.0)
    assert order.Bonds.of(dimer) == order.Bonds(0, 0, 1)
    assert dimer.surface.all()


def test_icosahedron_with_a_central_atom_of_the_second_species():
    core = body(icosahedron(), [False] + 12 * [True])
    # R_g² = 12/13; outer composition 1, inner 0, x = 12/13, centres coincide: η = 2/13 + 24/13
    assert core.radius_of_gyration_A == pytest.approx(math.sqrt(12 / 13))
    assert order.eta(core) == pytest.approx(2.0)
    assert order.centre_distance_A(core) == pytest.approx(0, abs=1e-12)
    assert order.radial_segregation_A(core) == pytest.approx(1.0)
    assert order.coverage(core) == 1.0
    assert core.surface.tolist() == [False] + 12 * [True]
    assert shape.surface_fraction(core, core.first) == 1.0
    assert shape.surface_fraction(core, ~core.first) == 0.0
    bonds = order.Bonds.of(core)
    assert bonds == order.Bonds(30, 0, 12)
    assert bonds.mixing == pytest.approx(18 / 42)


def test_the_inverse_core_shell_counts_as_core_shell_too():
    inverse = body(icosahedron(), [True] + 12 * [False])
    assert order.eta(inverse) == pytest.approx(2.0)
    assert order.radial_segregation_A(inverse) == pytest.approx(-1.0)
    assert order.coverage(inverse) == 0.0


def test_two_separate_halves():
    cube = np.array(list(product((0.0, 1.0), repeat=3))) - 0.5
    halves = body(np.concatenate([cube + np.array([5, 0, 0]), cube - np.array([5, 0, 0])]), 8 * [True] + 8 * [False])
    assert shape.largest_cluster_fraction(halves) == 0.5
    assert order.centre_distance_A(halves) == pytest.approx(10.0)
    # |r|² = (5 ± ½)² + ½, on average 25.75; R_g = √25.75 and 0.8 R_g = 4.06 < 4.56: all atoms are outside
    assert halves.radius_of_gyration_A == pytest.approx(math.sqrt(25.75))
    assert order.eta(halves) == pytest.approx(-10 / (2 * math.sqrt(25.75)))
    bonds = order.Bonds.of(halves)
    assert bonds == order.Bonds(12, 12, 0)
    assert bonds.mixing == 1.0
    assert bonds.warren_cowley == order.warren_cowley(halves) == 1.0
    assert order.radial_segregation_A(halves) == pytest.approx(0, abs=1e-12)


def test_layers_of_l10_around_one_atom():
    positions = cuboctahedron()
    ordered = body(positions, np.isclose(positions[:, 2], 0))
    # by hand: the centre has 4 like and 8 unlike neighbours; of the 24 edges 16 are unlike, 8 join the second species
    bonds = order.Bonds.of(ordered)
    assert bonds == order.Bonds(4, 8, 24)
    assert bonds.mixing == pytest.approx(-1 / 3)
    assert bonds.warren_cowley == pytest.approx(1 - 24 * 72 / (32 * 40))
    # 24 of the 2 · 4 + 24 neighbours of first-species atoms are unlike; 8 of 13 atoms are of the second species
    assert order.warren_cowley(ordered) == pytest.approx(1 - (24 / 32) / (8 / 13))


def test_large_l10_block_approaches_the_bulk_value():
    positions = fcc_ball(6.0)
    ordered = body(positions, np.round(positions[:, 2] * math.sqrt(2)).astype(int) % 2 == 0)
    assert order.Bonds.of(ordered).warren_cowley == pytest.approx(-1 / 3, abs=0.03)
    assert order.warren_cowley(ordered) == pytest.approx(-1 / 3, abs=0.03)


def test_random_particle_has_no_order():
    positions = fcc_ball(6.0)
    mixed = body(positions, np.random.default_rng(1).random(len(positions)) < 0.3)
    assert order.Bonds.of(mixed).warren_cowley == pytest.approx(0, abs=0.05)
    assert order.warren_cowley(mixed) == pytest.approx(0, abs=0.05)
    assert order.Bonds.of(mixed).mixing == pytest.approx(1 - 4 * 0.3 * 0.7, abs=0.05)


def test_shares_of_atoms_and_of_bond_ends_differ_at_a_surface():
    """Icosahedron of 13: the core is 1 of 13 atoms and has 12 of 84 bond ends; 12 of the others' 72 are unlike."""
    core = body(icosahedron(), [False] + 12 * [True])
    assert order.warren_cowley(core) == pytest.approx(1 - (12 / 72) / (1 / 13))
    assert order.Bonds.of(core).warren_cowley == pytest.approx(1 - (12 / 72) / (1 / 7))


def test_one_cutoff_for_all_pairs():
    """3.1 Å lies beyond Co–Co's own reach of 3.02 Å, and within the one cutoff, (2.89 + √2 · 2.50) / 2 = 3.21 Å."""
    positions = np.array([(0, 0, 0), (3.1, 0, 0), (1.55, 2.7, 0)])
    mixed = Nanoparticle.of(Structure(("Co", "Co", "Ag"), positions), ("Ag", "Co"))
    assert len(mixed.pairs) == 2
    assert len(mixed.pairs_by_one_cutoff) == 3
    # the second species' share of Ag's neighbours is 1, of the atoms 2/3
    assert order.warren_cowley(mixed) == pytest.approx(1 - 1 / (2 / 3))


def test_cut_ball_has_half_spheres_centres():
    positions = fcc_ball(8.0)
    janus = body(positions, positions[:, 2] > 1e-9)
    # homogeneous sphere: R_g = √(3/5) R, centre of a half 3/8 R; so d_com / R_g → ¾ √(5/3) = 0.968
    assert order.centre_distance_A(janus) / janus.radius_of_gyration_A == pytest.approx(0.968, rel=0.03)
    assert order.eta(janus) < 0


def test_surface_of_an_fcc_ball_is_its_outer_skin():
    positions = fcc_ball(5.0)
    ball = body(positions, np.ones(len(positions)))
    radii = np.linalg.norm(positions, axis=1)
    assert ball.surface[radii > 4.5].all()
    assert not ball.surface[radii < 3.5].any()


def test_neighbours_by_species():
    """3.1 Å is within Ag–Ag's reach of 1.207 × 2.89 = 3.49 Å and beyond Co–Co's of 1.207 × 2.50 = 3.02 Å."""
    triangle = np.array([(0, 0, 0), (3.1, 0, 0), (1.55, 2.7, 0)])
    of = {
        species: len(Nanoparticle.of(Structure((species,) * 3, triangle), ("Ag", "Co")).pairs)
        for species in ("Ag", "Co")
    }
    assert of == {"Ag": 3, "Co": 0}


def test_descriptors_do_not_depend_on_pose():
    rng = np.random.default_rng(2)
    positions = fcc_ball(4.0)
    first = rng.random(len(positions)) < 0.5
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turned = body(positions @ turn + (10, -20, 30), first)
    for descriptor in (order.eta, order.coverage, order.radial_segregation_A, shape.largest_cluster_fraction):
        assert descriptor(turned) == pytest.approx(descriptor(body(positions, first)), abs=1e-9)


def test_one_species_has_no_order():
    pure = body(icosahedron(), 13 * [True])
    assert math.isnan(order.eta(pure))
    assert math.isnan(order.radial_segregation_A(pure))
    assert math.isnan(order.Bonds.of(pure).warren_cowley)
    assert math.isnan(shape.surface_fraction(pure, ~pure.first))
    assert math.isnan(order.warren_cowley(pure))
    nothing = np.array([math.nan])
    assert order.label_by_centres(nothing, 0.5).tolist() == order.label_by_eta(nothing).tolist() == [None]


def test_labels_of_the_single_criteria():
    protocols = ["gas_quench", "droplets", "droplets", "a protocol that aims at nothing"]
    assert order.label_by_protocol(protocols, AIMS).tolist() == ["core_shell", "janus", "janus", None]
    eta, d_com_over_Rg = np.array([-0.1, 0.1, np.nan, 0.2]), np.array([0.3, 0.5, np.nan, 0.0])
    assert order.label_by_eta(eta).tolist() == ["janus", "core_shell", None, "core_shell"]
    assert order.label_by_centres(d_com_over_Rg, 0.5).tolist() == ["core_shell", "janus", None, "core_shell"]


def test_foreign_element_is_refused():
    structure = Structure(("Ag", "Au"), np.array([[0.0, 0, 0], [0, 0, 3]]))
    with pytest.raises(ContractError, match="must hold Ag and Co only; got Au as well"):
        Nanoparticle.of(structure, ("Ag", "Co"))


@pytest.fixture(scope="module")
def relax(tmp_path_factory):
    """Positions and elements → the relaxed particle."""
    potential = tmp_path_factory.mktemp("potential") / "AgCo.eam.fs"
    potential.write_text(setfl(AGCO, PotentialSection()))
    lmp = load_lammps()

    def relaxed(positions, elements):
        types = np.array([("Ag", "Co").index(element) for element in elements])
        return Inherent.of(lmp, System(("Ag", "Co"), types, positions, potential), shell_cutoff_A((2.89, 2.50)))

    yield relaxed
    lmp.close()


def hcp_ball(radius, bond):
    """Atoms within so many bonds of one of them; every second layer lies over the gaps of the first."""
    i, j, k = np.indices((13, 13, 13)).reshape(3, -1) - 6
    points = np.stack([i + (j + k) % 2 / 2, math.sqrt(3) / 2 * (j + k % 2 / 3), math.sqrt(2 / 3) * k], axis=1)
    return bond * points[np.linalg.norm(points, axis=1) < radius]


def test_classes_of_known_particles(relax):
    # Mackay icosahedron: its centre; 12 + 12 on the five-fold axes; 30 on the twin planes between them; 92 outside
    icosahedron_147 = Icosahedron("Ag", 4).positions, ["Ag"] * 147
    # fcc octahedron of 7 layers without its corners: a layer further in lies that of 79 atoms
    octahedron_201 = Octahedron("Ag", 7, cutoff=2).positions, ["Ag"] * 201
    # 57 hcp atoms up to two bonds away: the first and its twelve neighbours have all of theirs
    hcp_57 = hcp_ball(2.1, 2.50), ["Co"] * 57
    found = [
        {name: int((relax(*particle).classes == name).sum()) for name in CLASSES}
        for particle in (icosahedron_147, octahedron_201, hcp_57)
    ]
    none = dict.fromkeys(CLASSES, 0)
    assert found == [
        none | {"icosahedral": 1, "hcp": 30, "other": 24, "surface": 92},
        none | {"fcc": 79, "surface": 122},
        none | {"hcp": 13, "surface": 44},
    ]


def test_one_cutoff_for_both_species(relax):
    found = relax(Icosahedron("Ag", 3).positions, ["Co"] + 54 * ["Ag"])
    # by hand: the centre; twelve atoms on the five-fold axes; 42 outside
    assert found.fractions == pytest.approx(
        {"icosahedral": 1 / 55, "other": 12 / 55, "surface": 42 / 55, "fcc": 0, "hcp": 0}
    )
    assert sum(found.fractions.values()) == pytest.approx(1)


def test_classes_follow_the_order_of_the_atoms(relax):
    shuffled = np.random.default_rng(4).permutation(147)
    found = relax(Icosahedron("Ag", 4).positions[shuffled], ["Ag"] * 147)
    assert np.flatnonzero(found.classes == "icosahedral").tolist() == np.flatnonzero(shuffled == 0).tolist()


def test_dimer_relaxes_to_its_minimum(relax):
    """E(x) = 2 (A e^{−p x} − ξ e^{−q x}), x = r / r0 − 1, is least at x* = ln(A p / ξ q) / (p − q)."""
    pair = AGCO.pair("Ag", "Ag")
    x = math.log(pair.A_eV * pair.p / (pair.xi_eV * pair.q)) / (pair.p - pair.q)
    expected = 2 * (pair.A_eV * math.exp(-pair.p * x) - pair.xi_eV * math.exp(-pair.q * x))
    found = relax(np.array([[0.0, 0.0, 0.0], [0.0, 0.3, 2.6]]), ["Ag", "Ag"])
    assert found.energy_eV == pytest.approx(expected, abs=1e-4)
    assert found.relaxed
    assert found.coordination.tolist() == [1, 1]


def test_thermal_displacements_change_neither_energy_nor_classes(relax):
    positions = Octahedron("Ag", 5, cutoff=1).positions
    cold = relax(positions, ["Ag"] * 79)
    warm = relax(positions + np.random.default_rng(6).normal(0, 0.1, positions.shape), ["Ag"] * 79)
    assert warm.energy_eV == pytest.approx(cold.energy_eV, abs=1e-6)
    assert (warm.classes == cold.classes).all()


def test_what_lammps_refuses_is_an_error_of_ours(relax):
    with pytest.raises(SimulationError, match="ERROR"):
        relax(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, np.nan]]), ["Ag", "Ag"])


def test_cutoff_lies_between_the_shells():
    # first neighbours at 2.89 and 2.50 Å, second at √2 times that
    assert shell_cutoff_A((2.89, 2.50)) == pytest.approx((2.89 + 3.5355) / 2, abs=1e-4)
    with pytest.raises(ConfigError, match=r"r0 of 4, 2\.5 Å .* longest must be below √2 times the shortest, 3\.536 Å"):
        shell_cutoff_A((4.0, 2.5))


def table():
    return pd.DataFrame(
        {
            "protocol": ["gas_quench", "gas_quench", "droplets", "droplets", "droplets"],
            "valid": [True, True, True, True, False],
            "reason": pd.array([None, None, None, None, "2 clusters"], dtype="string"),
            "order_protocol": ["core_shell", "core_shell", "janus", "janus", None],
            "order_eta": ["core_shell", "core_shell", "core_shell", "janus", None],
            "R_g_A": [1.0, 3.0, 4.0, 6.0, np.nan],
        }
    )


def test_agreement_counts_valid_particles():
    share = statistics.agreement(table(), "order_eta")
    assert (share.hits, share.total) == (3, 4)
    per_protocol = statistics.core_shell_share(table(), "order_eta")
    assert per_protocol == {"droplets": statistics.Share(1, 2), "gas_quench": statistics.Share(2, 2)}


def test_wilson_interval():
    # z² / (n + z²) is the upper bound at no hits: 3.8415 / 13.8415
    low, high = statistics.Share(0, 10).interval
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0.27753, abs=1e-5)
    assert math.isnan(statistics.Share(0, 0).value)


def test_wilson_interval_holds_its_share():
    """Also at 0 of 7 and 10 of 10, where rounding would put it outside; a figure then has no error bars to draw."""
    for total in range(1, 100):
        for hits in (0, 1, total - 1, total):
            low, high = statistics.Share(hits, total).interval
            assert 0 <= low <= hits / total <= high <= 1


def test_statistics_by_protocol():
    found = statistics.by_protocol(table(), ["R_g_A"]).set_index("protocol")
    assert found.loc["gas_quench", "mean"] == 2.0
    assert found.loc["droplets", "std"] == pytest.approx(math.sqrt(2))
    assert statistics.failures(table()) == {"2 clusters": 1}
