"""Every gate lets sound artefacts through and stops a planted fault."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ase.cluster import Icosahedron
from scipy.spatial.transform import Rotation

from alloyscope.contracts import Structure
from alloyscope.errors import GateError
from alloyscope.imaging import gates
from alloyscope.imaging.box import Slab
from alloyscope.imaging.examination import flight_between_A, fringe_kept
from alloyscope.imaging.hrtem import imager_for
from alloyscope.microscope.settings import ImagingSection
from alloyscope.microscope.views import rotation
from alloyscope.structure.fingerprint import fingerprint
from alloyscope.units import electron_wavelength_A

N = 5000


def silver(scale: float = 1.0) -> Structure:
    atoms = Icosahedron("Ag", 3)
    return Structure(("Ag",) * len(atoms), scale * atoms.positions, {})


@pytest.mark.parametrize(("voltage_kV", "wavelength_A"), [(80.0, 0.041757), (200.0, 0.025079), (300.0, 0.019687)])
def test_wavelength(voltage_kV: float, wavelength_A: float) -> None:
    """As in the tables of textbooks, e.g. Kirkland, Advanced Computing in Electron Microscopy, table 2.2."""
    assert electron_wavelength_A(voltage_kV) == pytest.approx(wavelength_A, rel=3e-5)
    gates.wavelength_is_relativistic(wavelength_A, voltage_kV, tolerance=3e-5)


def test_wavelength_without_relativity_is_stopped() -> None:
    classical_A = 12.2643 / np.sqrt(200e3)  # 9 % too long
    with pytest.raises(GateError, match=r"wavelength at 200 kV must be 0\.025079 Å; got 0\.0274"):
        gates.wavelength_is_relativistic(classical_A, 200.0)


def test_lattice_fringes_pass_the_default_grid_and_camera() -> None:
    imaging = ImagingSection()
    gates.lattice_inside_band_limit(silver(), imaging.band_limit_per_A, imaging.pixel_size_A)


@pytest.mark.parametrize(("band_limit_per_A", "pixel_size_A"), [(0.41, 0.4), (2.0, 1.25)])
def test_cut_fringes_are_stopped(band_limit_per_A: float, pixel_size_A: float) -> None:
    with pytest.raises(GateError, match=r"Ag\{111\} at 0\.4\d\d 1/Å must lie below the limit"):
        gates.lattice_inside_band_limit(silver(), band_limit_per_A, pixel_size_A)


def test_lattice_gate_measures_the_structure_itself() -> None:
    with pytest.raises(GateError, match=re.escape("Ag{111} at 2.1")):
        gates.lattice_inside_band_limit(silver(0.2), 2.0, 0.2)


@pytest.mark.parametrize("place", [(-0.1, 5, 5), (5, 10.0, 5), (5, 5, 8.01)])
def test_atom_outside_the_box_is_stopped(place: tuple[float, float, float]) -> None:
    positions = np.array([[0.0, 9.99, 7.99], [5.0, 5.0, 5.0]])
    gates.atoms_inside_box(positions, 10.0, 8.0, particle=42)
    positions[1] = place
    with pytest.raises(GateError, match=r"particle 42: 1 of 2 atoms lie outside the box of 10\.00 × 10\.00 × 8\.00"):
        gates.atoms_inside_box(positions, 10.0, 8.0, particle=42)


@pytest.mark.parametrize("norm", [0.98, 1.01, float("nan")])
def test_wave_that_lost_or_gained_electrons_is_stopped(norm: float) -> None:
    gates.exit_wave_keeps_norm(0.997, 3, 1)
    with pytest.raises(GateError, match="particle 3, view 1: exit wave must keep a norm of"):
        gates.exit_wave_keeps_norm(norm, 3, 1)


def stripes(contrast: float) -> np.ndarray:
    return 1 + contrast * np.resize([1.0, -1.0], (8, 8))


def test_species_without_effect_are_stopped() -> None:
    assert gates.species_matter(stripes(0.02), stripes(0.01)).value == pytest.approx(0.5)
    with pytest.raises(
        GateError, match=r"swapping species must change the image by 10% of its contrast or more; got 5"
    ):
        gates.species_matter(stripes(0.02), stripes(0.019))
    with pytest.raises(GateError, match="got nan"):
        gates.species_matter(stripes(0.0), stripes(0.1))


def test_coarse_slices_and_grids_are_stopped() -> None:
    gates.slices_converged(stripes(0.1), stripes(0.098))
    with pytest.raises(
        GateError, match=r"by 3% of its contrast at most; got 5\.0%; lower imaging\.slice_A or raise imaging\.n_slices"
    ):
        gates.slices_converged(stripes(0.1), stripes(0.095))
    gates.agrees_with_reference(stripes(0.1), stripes(0.095), 3, 1)
    message = r"particle 3, view 1: .* by 10% of its contrast at most; got 20\.0%, which is 2\.00% of the beam; refine"
    with pytest.raises(GateError, match=message):
        gates.agrees_with_reference(stripes(0.1), stripes(0.08), 3, 1)
    with pytest.raises(GateError, match=r"got 20\.0%, which is 0\.40% of the beam"):  # it binds for few atoms, too
        gates.agrees_with_reference(stripes(0.02), stripes(0.016), 3, 1)


def test_image_of_something_else_is_stopped() -> None:
    gates.image_is_remade(stripes(0.1).astype(np.float16), stripes(0.1))
    with pytest.raises(GateError, match=r"stored image must be what its structure and parameters give.*got 1\.00%"):
        gates.image_is_remade(stripes(0.1), stripes(0.11))


def test_atoms_that_scatter_at_another_depth_are_stopped() -> None:
    assert gates.atoms_scatter_at_their_depth(18.5, 20.0, 2.0).value == pytest.approx(0.5)  # half an Å is noise
    assert gates.atoms_scatter_at_their_depth(17.6, 20.0, 2.0).value == pytest.approx(0.95)
    with pytest.raises(GateError, match=r"atoms 20\.0 Å apart along the beam .* within a slice of 2\.00 Å; got 0\.0"):
        gates.atoms_scatter_at_their_depth(0.0, 20.0, 2.0)


def test_depth_and_fringe_are_those_of_the_engine() -> None:
    """Both engines: two atoms 30 Å apart scatter 30 Å apart; a fringe beyond the grid's limit is cut."""
    imaging = ImagingSection(pixels=64, grid=128, pixel_size_A=0.3, n_slices=15, device="cpu")
    for engine in ("batched", "abtem"):
        imager = imager_for(imaging.model_copy(update={"engine": engine}))
        box = Slab(0, ("Ag", "Co"), np.array([[9.6, 9.6, 2.0], [9.6, 9.6, 32.0]]), imaging.field_A, 34.0, 17)
        assert flight_between_A(imager, box) == pytest.approx(30.0, abs=34.0 / 15)
        assert fringe_kept(imager, 0.49) > 0.999
        gates.fringe_passes_engine(fringe_kept(imager, 0.49), 0.49)
        with pytest.raises(GateError, match=r"must carry the fringe of 2\.500 1/Å; it keeps 0\.0%"):
            gates.fringe_passes_engine(fringe_kept(imager, 2.5), 2.5)


def test_planned_rotations_are_uniform() -> None:
    gates.rotations_uniform(np.array([rotation(number, 0, seed=1) for number in range(1000)]))


def uniform_angles(rng: np.random.Generator) -> np.ndarray:
    """Euler angles drawn uniformly crowd at the poles."""
    return Rotation.from_euler("zxz", rng.uniform(0, [2 * np.pi, np.pi, 2 * np.pi], (N, 3))).as_quat()


def normalised_cube(rng: np.random.Generator) -> np.ndarray:
    quaternions = rng.uniform(-1, 1, (N, 4))
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def about_the_beam_alone(rng: np.random.Generator) -> np.ndarray:
    return Rotation.from_rotvec(rng.uniform(0, 2 * np.pi, (N, 1)) * [0, 0, 1]).as_quat()


def positive_octant(rng: np.random.Generator) -> np.ndarray:
    quaternions = np.abs(rng.normal(size=(N, 4)))
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


@pytest.mark.parametrize("fault", [uniform_angles, normalised_cube, about_the_beam_alone, positive_octant])
def test_rotations_of_another_distribution_are_stopped(fault: Callable[[np.random.Generator], np.ndarray]) -> None:
    with pytest.raises(GateError, match="5000 rotations must be uniform on SO"):
        gates.rotations_uniform(fault(np.random.default_rng(0)))


def described(*structures: Structure) -> pd.DataFrame:
    """Rows of particles that are groups of their own, the last one in the test split."""
    rows = [
        {
            "particle": number,
            "group": number,
            "group_in_file": None,
            "split": "train",
            "n_first": structure.elements.count("Ag"),
            "n_second": structure.elements.count("Co"),
            **fingerprint(structure, ("Ag", "Co")),
        }
        for number, structure in enumerate(structures)
    ]
    rows[-1]["split"] = "test"
    return pd.DataFrame(rows)


def disordered(seed: int) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(tuple(rng.permutation(["Ag"] * 30 + ["Co"] * 25).tolist()), rng.normal(0, 4, (55, 3)), {})


def rotated(structure: Structure) -> Structure:
    return replace(structure, positions_A=Rotation.random(rng=2).apply(structure.positions_A) + 5)


def in_other_order(structure: Structure) -> Structure:
    order = np.random.default_rng(3).permutation(len(structure.elements))
    elements = tuple(np.array(structure.elements)[order].tolist())
    return Structure(elements, np.round(rotated(structure).positions_A[order], 3), {})


def shaken(structure: Structure) -> Structure:
    thermal = np.random.default_rng(4).normal(0, 0.1, structure.positions_A.shape)
    return replace(rotated(structure), positions_A=rotated(structure).positions_A + thermal)


@pytest.mark.parametrize("copied", [rotated, in_other_order, shaken])
def test_a_structure_in_two_splits_is_stopped(copied: Callable[[Structure], Structure]) -> None:
    """The same structure under two numbers, as a user's files can hold it."""
    table = described(disordered(0), disordered(1), copied(disordered(0)))
    with pytest.raises(GateError, match="2 particles are related to one of another split, the first are 0, 2; give"):
        gates.no_relatives_across_splits(table)
    assert gates.no_relatives_across_splits(table.assign(split="train")).value == 0
    assert gates.no_relatives_across_splits(described(disordered(0), disordered(1), disordered(2))).value == 0
    # other atoms at the same places are another structure
    assert gates.no_relatives_across_splits(table.assign(n_first=[30, 30, 31], n_second=[25, 25, 24])).value == 0


@pytest.mark.parametrize("column", ["group", "group_in_file"])
def test_a_group_in_two_splits_is_stopped(column: str) -> None:
    table = described(disordered(0), disordered(1), disordered(2))
    assert gates.no_relatives_across_splits(table.assign(**{column: [0, 1, 2]})).value == 0
    with pytest.raises(GateError, match="2 particles are related to one of another split, the first are 1, 2"):
        gates.no_relatives_across_splits(table.assign(**{column: [0, 1, 1]}))
