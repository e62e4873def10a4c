"""Images as a network sees them: exposed, divided by their background, cropped and turned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alloyscope.errors import ContractError
from alloyscope.learn.data import Images, Released
from alloyscope.learn.preparation import prepared, turned
from alloyscope.learn.tasks import TASKS
from alloyscope.learn.visits import stored
from alloyscope.sections import LogUniform
from tests.unit.learning import BOTH, BY_DOSE, DETECTOR, PIXEL_A, released_set


@pytest.fixture
def released() -> Released:
    return released_set()


def visited(images: Images, step: int, places=range(4)) -> dict[str, torch.Tensor]:
    """The batch of a training step that shows these places."""
    visit = stored(np.array(places))._replace(step=step)
    return prepared(images[visit], images.task, images.detector)


def vacua(images: Images, visits: int) -> dict[str, torch.Tensor]:
    """So many visits of image 1, which is vacuum."""
    return visited(images, 0, [1] * visits)


def test_stored_images_come_back_as_they_are(released):
    batch = Images(released, "train", BY_DOSE, DETECTOR).shown([0, 2])
    assert batch["image"].shape == batch["clean"].shape == (2, 1, 16, 16)
    np.testing.assert_allclose(batch["image"], batch["clean"], atol=0.5 / 200)  # rounding to whole counts
    assert batch["electrons"].tolist() == [100, 100]
    labels = [batch[name].tolist() for name in ("janus", "ln_n_atoms", "fraction_first")]
    np.testing.assert_allclose(labels, [[1, 0], np.log([100, 200]), [0.25, 0.75]], rtol=1e-6)
    assert batch["row"].tolist() == [0, 2]
    assert (batch["dose_e_per_A2"].tolist(), batch["symmetry"].tolist()) == ([400, 400], [0, 0])
    shown = {"image", "clean", "electrons", "row", "dose_e_per_A2", "symmetry"}
    assert batch.keys() == shown | {"janus", "ln_n_atoms", "fraction_first"}


def test_a_split_without_images_is_refused(released):
    with pytest.raises(ContractError, match=r"split test must hold at least one valid image; the set has {'train': 4}"):
        Images(released, "test", BOTH, DETECTOR)


def test_the_eight_symmetries_differ_and_keep_every_pixel():
    image = torch.arange(9).reshape(3, 3)
    versions = [turned(image, symmetry) for symmetry in range(8)]
    assert len({tuple(version.flatten().tolist()) for version in versions}) == 8
    assert all(sorted(version.flatten().tolist()) == list(range(9)) for version in versions)
    np.testing.assert_array_equal(turned(image, 1), [[2, 5, 8], [1, 4, 7], [0, 3, 6]])
    np.testing.assert_array_equal(turned(image, 4), [[2, 1, 0], [5, 4, 3], [8, 7, 6]])


def test_a_step_depends_on_seed_and_number_alone(released):
    def make(**options):
        return Images(released, "train", BOTH, DETECTOR, **{"seed": 1, **options})

    forwards, backwards = make(), make()
    one = {step: visited(forwards, step) for step in range(8)}
    other = {step: visited(backwards, step) for step in reversed(range(8))}
    for step in range(8):
        assert one[step].keys() == other[step].keys()
        assert all(torch.equal(value, other[step][name]) for name, value in one[step].items())
    assert not torch.equal(one[0]["electrons"], one[4]["electrons"])
    assert not torch.equal(visited(make(seed=2), 0)["electrons"], one[0]["electrons"])


def test_two_processes_share_what_one_would_show(released):
    """Doses and turns of the whole batch are drawn once; of the noise each process draws its own."""
    images = Images(released, "train", BY_DOSE.model_copy(update={"images": "redrawn"}), DETECTOR, seed=3)
    visit = stored(np.array([1, 3, 2, 0, 1, 2]))._replace(step=5)
    whole = prepared(images[visit], images.task, DETECTOR)
    parts = [prepared(images[visit._replace(share=(rank, 2))], images.task, DETECTOR) for rank in range(2)]
    for rank, part in enumerate(parts):
        for name in ("electrons", "row", "clean", "janus"):
            assert torch.equal(part[name], whole[name][rank::2]), name
    assert not torch.equal(parts[0]["image"], parts[1]["image"])


def test_fresh_noise_is_poisson_noise_at_a_dose_of_the_section(released):
    vacuum = vacua(Images(released, "train", BY_DOSE, DETECTOR, seed=1), 100)
    electrons = vacuum["electrons"]
    assert 25 <= electrons.min() < 60  # 100 e/Å² · 0.25 Å²
    assert 1000 < electrons.max() <= 2500
    # counts of gain 2 are whole electrons here, so the variance of n/n0 is 1/n0; 100 × 256 pixels: ±0.9 % (1 σ)
    assert (vacuum["image"].var(dim=(1, 2, 3)) * electrons).mean() == pytest.approx(1, abs=0.04)


def test_redrawn_noise_has_the_gains_of_the_section(released):
    uneven = DETECTOR.model_copy(update={"gain_map_rms": (0.2, 0.4)})
    vacuum = vacua(Images(released, "train", BY_DOSE, uneven, seed=1), 60)
    # variance of g n / n0 with Poisson n: (1 + r²) / n0 + r², r uniform in 0.2 … 0.4: r² is 0.28 / 3 in the mean
    squares = vacuum["image"].var(dim=(1, 2, 3)) - 1 / vacuum["electrons"]
    assert squares.mean() == pytest.approx(0.28 / 3, abs=0.02)
    first, second = vacuum["image"][:2].numpy()
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.3  # a map of its own each visit


def test_network_sees_the_background_and_not_the_dose(released):
    """Stored doses that are wrong by any factor change nothing; the noise tells the electrons."""
    rng = np.random.default_rng(1)
    counts = 10 + 2 * rng.poisson(100 * np.ones((4, 64, 64)))  # gain 2, offset 10
    clean = np.full(counts.shape, 0.9, np.float16)  # a film that fills the image

    def show(dose_e_per_A2):
        table = released.table.assign(dose_e_per_A2=dose_e_per_A2)
        return Images(replace(released, table=table, counts=counts, clean=clean), "train", BOTH, DETECTOR).shown([1])

    shown, same = show(400.0), show(4.0)
    assert all(torch.equal(value, same[name]) for name, value in shown.items() if name != "dose_e_per_A2")
    assert shown["image"].mean() == pytest.approx(1, abs=0.005)
    assert shown["electrons"] == pytest.approx(100, rel=0.15)  # 64² pixels: 3 % (1 σ) for white noise
    np.testing.assert_allclose(shown["clean"], 1, atol=1e-6)  # the truth is in units of its own background


def test_image_without_a_background_is_named(released):
    dark = replace(released, counts=np.zeros((4, 16, 16), np.uint16))  # an offset of 10 was promised
    with pytest.raises(ContractError, match=r"image 2: the background of an image must be above the camera's offset"):
        Images(dark, "train", BOTH, DETECTOR).shown([2, 3])


def test_gain_of_the_camera_cancels_and_its_offset_does_not(released):
    vacuum = replace(released, clean=np.ones((4, 64, 64), np.float16))

    def visit(**errors):
        task = BOTH.model_copy(update=errors)
        return vacua(Images(vacuum, "train", task, DETECTOR, seed=1), 1)

    plain, gained, lifted = visit(), visit(gain_error=8.0), visit(offset_error=0.25)
    dose_e = float(plain["electrons"])
    np.testing.assert_allclose(
        gained["image"], plain["image"], atol=0.6 / (2 * 20)
    )  # rounding of at least 20 electrons
    assert gained["electrons"] == pytest.approx(dose_e, rel=0.01)
    assert float(lifted["image"].std() / plain["image"].std()) == pytest.approx(1 / 1.25, rel=0.02)
    assert lifted["electrons"] == pytest.approx(1.25**2 * dose_e, rel=0.05)


def test_errors_of_the_camera_are_drawn_at_each_visit(released):
    """Read by dose, where a wrong gain shows: vacuum of 1 lies anywhere from 0.8 to 1.25 of it."""
    task = BY_DOSE.model_copy(update={"gain_error": LogUniform(log_uniform=(0.8, 1.25))})
    means = vacua(Images(released, "train", task, DETECTOR, seed=1), 40)["image"].mean(dim=(1, 2, 3))
    assert 0.78 < means.min() < 0.87
    assert 1.15 < means.max() < 1.27


def test_noisy_image_truth_and_map_are_turned_together(released):
    task = BY_DOSE.model_copy(update={"images": "stored"})
    ramp = released.clean[:1, None].repeat(4, axis=0)  # a map with a cell per pixel: the image itself
    images = Images(released, "train", task, DETECTOR, seed=1, maps=ramp)
    batch = visited(images, 0, [0] * 40)
    np.testing.assert_allclose(batch["image"], batch["clean"], atol=0.5 / 200)
    assert torch.equal(batch["maps"], batch["clean"])
    versions = {tuple(image.flatten().tolist()) for image in batch["clean"]}
    assert versions == {tuple(turned(torch.from_numpy(ramp[0, 0]), k).flatten().tolist()) for k in range(8)}


def test_crops_hold_the_particle_and_maps_are_cropped_alike(released):
    """A bright pixel marks the particle in images of 64² pixels, in its cell of 8² pixels of the map."""
    shift_A = np.array([[-10.0, 4.0], [12.0, 12.0], [0.0, 0.0], [15.5, -15.5]])
    marks = np.floor(32 + shift_A / PIXEL_A).astype(int)
    counts, maps = np.full((4, 64, 64), 210), np.zeros((4, 1, 8, 8), np.float16)
    for place, (row, column) in enumerate(marks):
        counts[place, row, column] = 310
        maps[place, 0, row // 8, column // 8] = 1
    table = released.table.assign(shift_y_A=shift_A[:, 0], shift_x_A=shift_A[:, 1])
    task = TASKS["reading"](images="stored", crop_pixels=32, normalised_by="dose")
    marked = replace(released, table=table, counts=counts, clean=counts)
    images = Images(marked, "train", task, DETECTOR, seed=0, maps=maps)
    visit = stored(np.repeat(np.arange(4), 10))._replace(step=3, cropped=True)
    batch = prepared(images[visit], task, DETECTOR)
    assert batch["image"].shape == (40, 1, 32, 32)
    assert batch["maps"].shape == (40, 1, 4, 4)
    found = (batch["image"] > 1.2).nonzero()
    assert found[:, 0].tolist() == list(range(40))  # one mark in each crop
    assert torch.equal((batch["maps"] > 0).nonzero()[:, 2:], found[:, 2:] // 8)
    # at most a cell and its rounding from the middle, for particles away from the borders
    central = found[(batch["row"] == 2)][:, 2:]
    assert ((central >= 16 - 12) & (central <= 16 + 12)).all()
    assert len({tuple(place) for place in central.tolist()}) > 3
    whole = prepared(images[visit._replace(cropped=False)], task, DETECTOR)
    assert whole["image"].shape == (40, 1, 64, 64)
