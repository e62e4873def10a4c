"""The structure-factor engine against abTEM, closed forms and symmetries."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from abtem.parametrizations import LobatoParametrization
from ase.cluster import Icosahedron

from alloyscope.contracts import Structure, View
from alloyscope.errors import GateError
from alloyscope.imaging import gates, hrtem
from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.imaging.box import MARGIN_A, Slab, slabs
from alloyscope.imaging.factors import projected_factor_VA2
from alloyscope.imaging.hrtem import Imager, check_against_reference, imager_for, plain_optics
from alloyscope.imaging.multislice import Multislice
from alloyscope.microscope.arrays import CPU, torch_backend
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.optics import Lens
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view, rotation
from alloyscope.units import electron_wavelength_A, interaction_constant_rad_per_VA

UPRIGHT = (0.0, 0.0, 0.0, 1.0)
ROUNDING = 2e-5  # of waves in single precision, whatever backend and batch


def imaging(grid: int = 144, **changed: object) -> ImagingSection:
    return ImagingSection(**{"pixels": 48, "grid": grid, "n_slices": 10, "max_shift_A": 0.0, **changed})


def view(**changed: object) -> View:
    drawn = drawn_view(4, 0, imaging(), OpticsSection(), DetectorSection(), seed=1)
    return replace(plain_optics(drawn), **changed)


def particle(species: tuple[str, str] = ("Ag", "Co")) -> Structure:
    """55 atoms: a Co core of 13 in an Ag shell, thermally displaced."""
    atoms = Icosahedron("Ag", 3)
    near = np.argsort(np.linalg.norm(atoms.positions, axis=1))
    elements = np.full(len(atoms), species[0], object)
    elements[near[:13]] = species[1]
    noise = np.random.default_rng(5).normal(0, 0.08, atoms.positions.shape)
    return Structure(tuple(elements), atoms.positions + noise, {})


def image(engine: Multislice | AbtemEngine, of: View, structure: Structure, section: ImagingSection) -> np.ndarray:
    return next(Imager(section, engine).images([([structure], of)]))


def test_scattering_factors_are_abtems() -> None:
    k2 = np.linspace(0, 9, 50)[None]
    for element in ("Co", "Cu", "Ag", "Au"):
        theirs = LobatoParametrization().projected_scattering_factor(element)(k2.astype(np.float32))
        np.testing.assert_allclose(projected_factor_VA2(element, k2), theirs, rtol=1e-5)


def test_one_atom_shifts_the_phase_by_its_projected_potential() -> None:
    # thin slab: the exit phase is σ V_z(r); V_z from abTEM's closed form in real space (Bessel functions)
    section = imaging(grid=288, n_slices=1)
    centre = section.field_A / 2
    slab = Slab(0, ("Co",), np.array([[centre, centre, 1e-4]]), section.field_A, 2e-4, 1)
    wave = Multislice(section, CPU)._on(section.grid).exit_waves([slab])[0]
    x = np.arange(section.grid) * section.field_A / section.grid - centre
    r = np.hypot(x[:, None], x[None])
    for inner, outer in ((0.5, 0.8), (0.8, 1.2), (1.2, 1.8), (1.8, 2.5)):
        ring = (r > inner) & (r < outer)  # the mean over a ring averages out the ripple of the band limit
        potential = LobatoParametrization().projected_potential("Co")(r[ring])
        expected = interaction_constant_rad_per_VA(200.0) * potential.mean()
        assert np.angle(wave[ring]).mean() == pytest.approx(expected, rel=0.03)


def test_waves_converge_to_abtems_as_the_grid_is_refined() -> None:
    structure = particle()
    differences = []
    for grid in (96, 192, 384):
        section = imaging(grid)
        ours, theirs = (
            image(engine, view(), structure, section)
            for engine in (Multislice(section, CPU), AbtemEngine(section, "cpu"))
        )
        differences.append(gates.rms_difference(ours, theirs))
    assert ours.std() > 0.02
    assert differences[2] < 0.5 * differences[1] < 0.5 * differences[0]
    assert differences[2] < 0.0015


def test_exit_waves_agree_in_amplitude_and_phase() -> None:
    section = imaging(288, n_slices=14)
    box = slabs([particle()], view(), section)
    ours, theirs = Multislice(section, CPU).exit_waves(box)[0], AbtemEngine(section, "cpu").exit_waves(box)[0]
    overlap = np.vdot(theirs, ours) / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert abs(overlap - 1) < 1e-4
    # below 1 /Å, where abTEM's own potential is good on this grid
    k = np.fft.fftfreq(section.grid, section.field_A / section.grid)
    low = np.hypot(k[:, None], k[None]) < 1
    difference, scattered = np.fft.fft2(ours - theirs)[low], np.fft.fft2(theirs - 1)[low]
    assert np.linalg.norm(difference) / np.linalg.norm(scattered) < 0.02


def test_norm_is_kept() -> None:
    section = imaging()
    wave = Multislice(section, CPU).exit_waves(slabs([particle(("Au", "Au"))], view(), section))
    assert 0.995 < np.mean(np.abs(wave) ** 2) < 1.0001


def test_vacuum_between_atoms_is_one_long_step() -> None:
    # two atoms 30 Å apart: 38 of 40 slices are empty; free flight must not depend on how it is divided
    positions = np.array([[10.0, 10.0, 2.0], [11.0, 9.0, 32.0]])
    section = imaging(144)
    coarse, fine = (Slab(0, ("Ag", "Ag"), positions, section.field_A, 34.0, n_slices) for n_slices in (34, 68))
    waves = [Multislice(section, CPU).exit_waves([slab])[0] for slab in (coarse, fine)]
    theirs = AbtemEngine(section, "cpu").exit_waves([coarse])[0]
    assert np.abs(waves[0] - waves[1]).max() < 0.02
    assert np.linalg.norm(waves[0] - theirs) / np.linalg.norm(theirs - 1) < 0.08


def different_boxes(section: ImagingSection, number: int) -> list[Slab]:
    """Turned particles of 20 to 55 atoms, of one or two species."""
    boxes = []
    for n in range(number):
        whole = particle(("Ag", "Co") if n % 3 else ("Au", "Au"))
        kept = 55 - 5 * n
        part = Structure(whole.elements[:kept], whole.positions_A[:kept], {})
        boxes += slabs([part], view(rotation=rotation(1, n, 1)), section)
    return boxes


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batch_and_torch_give_the_same_waves(batch: int) -> None:
    section = imaging(96)
    boxes = different_boxes(section, 8)
    engine = Multislice(section, CPU)
    alone = np.concatenate([engine.exit_waves([box]) for box in boxes])
    torch = torch_backend("cpu")
    batched = Multislice(section, torch)
    together = [torch.to_numpy(batched.exit_waves(boxes[start : start + batch])) for start in range(0, 8, batch)]
    np.testing.assert_allclose(np.concatenate(together), alone, atol=ROUNDING)


def test_order_and_batch_move_no_wave_on_one_backend() -> None:
    section = imaging(96)
    boxes = different_boxes(section, 4)
    engine = Multislice(section, CPU)
    waves = engine.exit_waves(boxes)
    np.testing.assert_allclose(engine.exit_waves(boxes[::-1])[::-1], waves, atol=ROUNDING)
    np.testing.assert_array_equal(Multislice(section, CPU).exit_waves(boxes), waves)


def test_incident_wave_goes_on_where_the_first_slab_ended() -> None:
    # a slab cut in two between its slices, the second half met by the first one's exit wave
    section = imaging(144)
    positions = np.array([[8.0, 10.0, 3.0], [9.0, 11.0, 12.0], [10.0, 9.0, 17.0]])
    whole = Slab(0, ("Ag", "Co", "Ag"), positions, section.field_A, 20.0, 10)
    upper = Slab(0, ("Ag",), positions[:1], section.field_A, 10.0, 5)
    lower = Slab(0, ("Co", "Ag"), positions[1:] - [0, 0, 10], section.field_A, 10.0, 5)
    engine = Multislice(section, CPU)._on(section.grid)
    expected = engine.exit_waves([whole])
    np.testing.assert_allclose(engine.exit_waves([lower], engine.exit_waves([upper])), expected, atol=1e-3)


def test_vacuum_is_free_flight() -> None:
    # a plane wave of frequency k comes out with the phase −π λ z k²
    section = imaging(96)
    index, height_A = 7, 30.0
    x = np.arange(section.grid) / section.grid
    incident = np.broadcast_to(np.exp(2j * np.pi * index * x), (1, section.grid, section.grid)).astype(np.complex64)
    vacuum = Slab(0, (), np.zeros((0, 3)), section.field_A, height_A, 10)
    leaving = Multislice(section, CPU).exit_waves([vacuum], incident)
    turn = np.exp(-1j * np.pi * electron_wavelength_A(200.0) * height_A * (index / section.field_A) ** 2)
    np.testing.assert_allclose(leaving, turn * incident, atol=1e-5)


def test_shift_moves_the_image_along_rows_and_columns() -> None:
    section = imaging()
    engine = Multislice(section, CPU)
    p = section.pixel_size_A
    still, moved = (image(engine, view(shift_A=shift), particle(), section) for shift in ((0, 0), (3 * p, -5 * p)))
    # the own square lies on the grid, which the pixels do not share, and cuts the wave off elsewhere
    np.testing.assert_allclose(moved, np.roll(still, (3, -5), (0, 1)), atol=2e-3)
    assert gates.rms_difference(moved, np.roll(still, (3, -5), (0, 1))) < 2e-4


def test_quarter_turn_about_the_beam_turns_the_image() -> None:
    section = imaging()
    engine = Multislice(section, CPU)
    s = np.sqrt(0.5)
    still, turned = (
        image(engine, view(rotation=rotation), particle(), section) for rotation in (UPRIGHT, (0.0, 0.0, s, s))
    )
    # x → y: what lay along +column lies along +row; the own square is not centred to less than a grid step
    np.testing.assert_allclose(turned, np.rot90(still, -1), atol=1e-3)
    assert gates.rms_difference(turned, np.rot90(still, -1)) < 1e-4


def test_beam_meets_low_z_first() -> None:
    # A Ag atom far above the exit face is blurred by free flight, one at the face is not
    positions = np.array([[8.0, 10.0, 1.0], [13.0, 10.0, 39.0]])
    section = imaging(144)
    wave = Multislice(section, CPU).exit_waves([Slab(0, ("Ag", "Ag"), positions, section.field_A, 40.0, 20)])[0]
    d = section.field_A / section.grid
    near, far = (
        np.abs(np.angle(wave))[round(10 / d) - 3 : round(10 / d) + 4, round(x / d) - 3 : round(x / d) + 4].max()
        for x in (13.0, 8.0)
    )
    assert near > 2 * far


def test_box_has_room_above_and_below_and_every_snapshot_shares_it() -> None:
    first = particle()
    second = Structure(first.elements, first.positions_A * 1.1, {})
    section = imaging(pixel_size_A=0.625)  # 30 Å
    boxes = slabs([first, second], view(rotation=UPRIGHT), section)
    extent = np.ptp(second.positions_A[:, 2])
    assert [box.height_A for box in boxes] == pytest.approx([extent + 2 * MARGIN_A] * 2)
    half = boxes[1].slice_A / 2  # all atoms lie half a slice lower, because slices scatter at their upper faces
    assert boxes[1].positions_A[:, 2].min() == pytest.approx(MARGIN_A + half)
    assert boxes[1].positions_A[:, 2].max() == pytest.approx(boxes[1].height_A - MARGIN_A + half)
    assert set(boxes[0].slices()) <= set(range(10))


def test_slices_have_one_thickness_and_the_lower_face_stays() -> None:
    section = imaging(n_slices=None, slice_A=1.5)
    box = slabs([particle()], view(rotation=UPRIGHT), section)[0]
    assert box.slice_A == pytest.approx(1.5)
    extent = np.ptp(box.positions_A[:, 2])
    assert extent + 2 * MARGIN_A <= box.height_A < extent + 2 * MARGIN_A + 1.5
    assert box.height_A - box.positions_A[:, 2].max() == pytest.approx(MARGIN_A - 0.75)


def test_atoms_scatter_at_their_depth_in_the_mean_over_a_slice() -> None:
    """Thick slices give the image of thin ones; without the half slice, as in abTEM, the error is twice as large.

    What is left comes from the atoms' places within their slices.
    """
    sections = [imaging(192, n_slices=None, slice_A=thickness) for thickness in (0.25, 2.0)]
    thin, thick = (image(Multislice(section, CPU), view(), particle(), section) for section in sections)
    section = sections[1]
    higher = [replace(box, positions_A=box.positions_A - [0, 0, 1.0]) for box in slabs([particle()], view(), section)]
    with patch.object(hrtem, "slabs", lambda *_: higher):
        raised = image(Multislice(section, CPU), view(), particle(), section)
    error, without = (gates.share_of_contrast(thin, of) for of in (thick, raised))
    assert error < 0.03
    assert error < 0.6 * without


@pytest.mark.parametrize("shift_A", [(0.0, 0.0), (4.0, -3.5)])
def test_the_own_square_gives_the_wave_of_the_whole_field(shift_A: tuple[float, float]) -> None:
    section = ImagingSection()
    box = slabs([particle()], view(shift_A=shift_A), section)[0]
    engine = Multislice(section, CPU)
    assert engine.square(box) <= 200 < section.grid
    wave, whole = engine.exit_waves([box])[0], engine._on(section.grid).exit_waves([box])[0]
    assert np.linalg.norm(wave - whole) < 0.02 * np.linalg.norm(whole - 1)
    lens = Lens(section.grid, section.field_A, section.voltage_kV)
    own, full = (image_intensity(of[None], [view()], lens, CPU) for of in (wave, whole))
    assert gates.rms_difference(own, full) < 5e-5


def test_a_wave_that_reaches_the_edge_of_its_square_gets_the_whole_field() -> None:
    section = ImagingSection()
    positions = np.array([[28.0, 28.0, 1.0]])  # free flight over 300 Å spreads its wave over the field
    box = Slab(0, ("Au",), positions, section.field_A, 302.0, 151)
    engine = Multislice(section, CPU)
    assert engine.square(box) < section.grid
    wave = engine.exit_waves([box])
    np.testing.assert_array_equal(wave, engine._on(section.grid).exit_waves([box]))


def test_particles_of_unlike_height_share_a_batch() -> None:
    section = imaging(96, n_slices=None)
    low, high = (replace(particle(), positions_A=particle().positions_A * scale) for scale in (0.9, 1.2))
    boxes = [slabs([structure], view(), section)[0] for structure in (low, high)]
    assert boxes[0].n_slices < boxes[1].n_slices
    engine = Multislice(section, CPU)
    alone = np.concatenate([engine.exit_waves([box]) for box in boxes])
    differences = np.abs(engine.exit_waves(boxes) - alone)  # the lower one in the other's larger square
    assert differences.max() < 0.02
    assert np.sqrt((differences**2).mean()) < 3e-3


def test_particle_too_large_for_the_field_is_named() -> None:
    with pytest.raises(GateError, match=r"particle 4: \d+ of 55 atoms lie outside the box of 8.00 × 8.00"):
        slabs([particle()], view(), imaging(pixel_size_A=1 / 6))


def test_image_is_the_mean_over_snapshots() -> None:
    section = imaging(96)
    first = particle()
    second = Structure(first.elements, first.positions_A[::-1].copy(), {})
    imager = imager_for(section.model_copy(update={"device": "cpu"}))
    mean, one, two = imager.images([([first, second], view()), ([first], view()), ([second], view())])
    np.testing.assert_allclose(mean, (one + two) / 2, atol=1e-5)


def test_swapping_species_and_halving_slices_pass_their_gates() -> None:
    section, halved = imaging(), imaging(n_slices=20)
    shown = image(Multislice(section, CPU), view(), particle(), section)
    swapped = image(Multislice(section, CPU), view(), particle(("Co", "Ag")), section)
    gates.species_matter(shown, swapped)
    gates.slices_converged(shown, image(Multislice(halved, CPU), view(), particle(), halved))
    with pytest.raises(GateError, match="swapping species"):
        gates.species_matter(shown, shown)


def test_wrong_scattering_factors_are_caught_against_abtem(monkeypatch: pytest.MonkeyPatch) -> None:
    imager = imager_for(imaging(device="cpu"))
    job = ([particle()], view())
    of_beam, of_contrast = check_against_reference(imager, job)
    assert of_beam < 0.003
    assert of_contrast < 0.05
    monkeypatch.setattr(
        "alloyscope.imaging.multislice.projected_factor_VA2", lambda _, k2: projected_factor_VA2("Co", k2)
    )
    with pytest.raises(GateError, match=r"must change the image by 10% of its contrast at most"):
        check_against_reference(imager_for(imaging(device="cpu")), job)
