"""Images, networks, tasks and scores of the learning part, against closed forms and hand arithmetic."""

import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from alloyscope.errors import ContractError
from alloyscope.learn.data import Images, Released, in_units_of_background, normalise
from alloyscope.learn.model import Card, make_trainer, new_learner, quiet_lightning, trained_learner
from alloyscope.learn.networks import (
    MAP_ATOMS,
    PIXEL_MULTIPLE,
    DenoisingNetwork,
    NumbersNetwork,
    ReadingNetwork,
    Taught,
    contrasts,
)
from alloyscope.learn.preparation import prepared, turned
from alloyscope.learn.tasks import TASKS
from alloyscope.learn.visits import Schedule, StoredVisits, TrainingVisits, stored
from alloyscope.microscope.settings import DetectorSection
from alloyscope.sections import LogUniform

PIXEL_A = 0.5
DETECTOR = DetectorSection(dose_e_per_A2=LogUniform(log_uniform=(100.0, 10_000.0)), gain=2.0, offset=10)


class Both(TASKS["reading"]):
    """Reading that is given the truth as well."""

    reads = ("clean",)


BOTH = Both(gain_error=1.0, offset_error=0.0)  # in units of the image's own background
BY_DOSE = Both(normalised_by="dose", gain_error=1.0, offset_error=0.0)


@pytest.fixture
def released() -> Released:
    """Four training images of 16² pixels: a ramp at row 0, vacuum otherwise; stored counts of exactly the mean."""
    clean = np.ones((4, 16, 16), np.float16)
    clean[0] = np.linspace(0.5, 1.5, 256).reshape(16, 16)
    dose = 400.0  # 100 electrons a pixel
    counts = np.rint(10 + 2 * 100 * clean.astype(float)).astype(np.uint16)
    table = pd.DataFrame(
        {
            "image": range(4),
            "particle": [0, 0, 1, 1],
            "dose_e_per_A2": dose,
            "mtf_c1": 0.0,
            "mtf_c2": 0.35,
            "mtf_c3": 2.5,
            "split": "train",
            "ordering": ["janus", "janus", "core_shell", "core_shell"],
            "n_atoms": [100, 100, 200, 200],
            "fraction_first": [0.25, 0.25, 0.75, 0.75],
        }
    )
    return Released(table, clean, counts, PIXEL_A, "digest")


def card(task="reading", **changes) -> Card:
    fields = {
        "task": task,
        "seed": 0,
        "settings": TASKS[task](width=4).model_dump(mode="json"),
        "detector": DETECTOR.model_dump(mode="json"),
        "centre": (5.0, 0.5),
        "spread": (0.5, 0.2),
        "seen": [0, 1],
        "digest": "0",
    }
    return Card(**{**fields, **changes})


def test_vacuum_is_one_at_every_dose():
    for dose in (50.0, 5000.0):
        counts = np.full((3, 3), 10 + 2 * dose * 0.25, np.float64)
        np.testing.assert_allclose(normalise(counts, dose, PIXEL_A, DETECTOR), 1, rtol=1e-6)
    zero = normalise(np.full((1, 1), 10, np.uint16), 50.0, PIXEL_A, DETECTOR)
    assert zero.item() == 0


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


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "ordering",
            "onion",
            r"one of core_shell, janus, other, or missing; got \['onion'\]; run the stage `structures`",
        ),
        ("n_atoms", None, "n_atoms and fraction_first must be finite"),
    ],
)
def test_unusable_labels_are_refused(released, column, value, message):
    with pytest.raises(ContractError, match=message):
        BOTH.labels(released.table.assign(**{column: value}))


@pytest.mark.parametrize("missing", [None, pd.NA, "other"])
def test_images_without_an_order_teach_size_and_composition_only(released, missing):
    table = released.table.assign(ordering=pd.array(["janus", missing, "core_shell", missing], dtype="string"))
    labels = BOTH.labels(table)
    np.testing.assert_array_equal(labels["janus"], [1, np.nan, 0, np.nan])
    assert BOTH.remark(table) == (
        "2 of 4 images are of particles that are neither core-shell nor Janus, or that have no label; they count for "
        "size and composition only"
    )
    assert BOTH.remark(released.table) == ""
    learner = new_learner(card())
    numbers = torch.tensor(
        [[2.0, 0.1, 0.2, 0, 0], [5.0, 0.3, 0.4, 0, 0], [3.0, 0.5, 0.6, 0, 0], [-7.0, 0.7, 0.8, 0, 0]]
    )
    output = Taught(numbers.requires_grad_(), torch.zeros(4, 2, 2, 2))
    batch = {name: torch.from_numpy(values) for name, values in labels.items()} | {"maps": output.maps}
    loss = learner.task.loss(output, batch, learner.scale)
    # ln(1 + e^−2) for the Janus particle read as one, ln(1 + e³) for the core-shell particle read as Janus
    ordering = (math.log1p(math.exp(-2)) + math.log1p(math.exp(3))) / 2
    blind = batch | {"janus": torch.full((4,), math.nan)}
    assert (loss - learner.task.loss(output, blind, learner.scale)).item() == pytest.approx(ordering, rel=1e-5)
    loss.backward()
    assert (numbers.grad[:, 0] != 0).tolist() == [True, False, True, False]
    assert (numbers.grad[:, 1:] != 0).all()
    right = learner.task.metrics(output, batch, learner.scale)["accuracy"]
    np.testing.assert_array_equal(right, [1, np.nan, 0, np.nan])


def test_the_accuracy_of_an_epoch_counts_every_image_with_an_order_once():
    class AlwaysJanus(torch.nn.Module):
        def with_maps(self, image, electrons):
            return Taught(torch.tensor([[1.0, 0, 0, 0, 0]]).repeat(len(image), 1), torch.zeros(len(image), 2, 2, 2))

    learner = new_learner(card())
    learner.network = AlwaysJanus()
    batches = [
        {
            "image": torch.ones(4, 1, 16, 16),
            "electrons": torch.ones(4),
            "row": torch.arange(4),
            "janus": torch.tensor(janus),
            "ln_n_atoms": torch.ones(4),
            "fraction_first": torch.ones(4),
            "maps": torch.zeros(4, 2, 2, 2),
        }
        for janus in ([0.0, math.nan, math.nan, math.nan], [1.0, 1.0, 1.0, 1.0], [math.nan] * 4)
    ]
    with quiet_lightning():
        trainer = make_trainer("cpu", enable_checkpointing=False)
        (scores,) = trainer.validate(learner, DataLoader(batches, batch_size=None), verbose=False)
    assert scores["validation_accuracy"] == pytest.approx(4 / 5)


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


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("gain", [1.005, 1.05, 1.5])
def test_predictions_do_not_depend_on_the_gain(task, gain):
    learner = new_learner(card(task)).eval()
    rng = np.random.default_rng(2)
    counts = rng.poisson(50 * (1 - 0.1 * (np.hypot(*(np.indices((64, 64)) - 32)) < 12)))

    def predicted(counts):
        image, electrons = in_units_of_background(counts)
        with torch.inference_mode():
            return learner(torch.from_numpy(image)[None, None], torch.tensor([electrons], dtype=torch.float32))

    torch.testing.assert_close(predicted(gain * counts), predicted(counts), rtol=1e-4, atol=1e-5)


def test_old_network_is_shown_images_as_it_learnt_them():
    """A checkpoint without the key was trained on images in units of the dose."""
    settings = TASKS["reading"](width=4).model_dump(mode="json")
    new = card(settings=settings)
    later = {"normalised_by", "gain_error", "offset_error"}
    old = card(settings={name: value for name, value in settings.items() if name not in later})
    assert new.record.normalised_by == "background"
    assert old.record.normalised_by == "dose"


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


def schedule(images=10, seed=0, **settings) -> Schedule:
    return Schedule.of(TASKS["reading"](**settings), images, seed)


def test_every_pass_visits_each_image_once_in_another_order():
    shown = [schedule(batch_size=4).visit(step) for step in range(5)]  # two passes over ten images
    assert all(len(visit.places) == 4 for visit in shown)
    places, passes = (np.concatenate([getattr(visit, name) for visit in shown]) for name in ("places", "passes"))
    np.testing.assert_array_equal(passes, np.repeat([0, 1], 10))
    first, second = places[:10].tolist(), places[10:].tolist()
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert schedule(batch_size=4, seed=1).visit(0).places.tolist() != first[:4]


@pytest.mark.parametrize(
    ("images", "settings", "epochs", "epoch_steps"),
    [
        (10, {"epochs": 3, "batch_size": 4}, 3, 3),
        (10, {"epochs": 3, "batch_size": 64}, 3, 1),  # a batch holds no image twice in a pass
        (10, {"visits": 400, "batch_size": 4}, 1, 100),
        (10_000, {"visits": 400, "batch_size": 4}, 1, 100),  # whatever the size of the set
        (900, {"visits": 64_000, "batch_size": 64}, 5, 200),
        (900, {"visits": 64_001, "batch_size": 64}, 5, 201),
        (900, {"visits": 6_400_000, "batch_size": 64}, 100, 1000),
    ],
)
def test_length_of_a_training(images, settings, epochs, epoch_steps):
    found = schedule(images, **settings)
    assert (found.epochs, found.epoch_steps, found.steps) == (epochs, epoch_steps, epochs * epoch_steps)


def test_the_last_part_of_a_training_shows_whole_images():
    found = schedule(100, visits=1000, batch_size=10, crop_pixels=64, full_share=0.3)
    assert [found.visit(step).cropped for step in range(100)] == [True] * 70 + [False] * 30
    assert not schedule(100, visits=1000, batch_size=10).visit(0).cropped


def test_a_resumed_training_goes_on_in_the_middle_of_an_epoch():
    plan = schedule(epochs=3, batch_size=4)  # 3 steps an epoch
    visits = TrainingVisits(plan, first_step=4)
    assert len(visits) == 3
    steps = [visit.step for visit in visits]
    visits.set_epoch(2)
    assert steps + [visit.step for visit in visits] == [4, 5, 6, 7, 8]


def test_stored_images_come_once_in_the_order_of_the_table():
    assert [visit.places.tolist() for visit in StoredVisits(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    shares = [[visit.places.tolist() for visit in StoredVisits(7, 3, (rank, 2))] for rank in range(2)]
    assert shares == [[[0, 1, 2], [6]], [[3, 4, 5]]]


def test_settings_of_earlier_versions_are_read():
    assert TASKS["reading"](redraw_noise=True).images == "redrawn"
    assert TASKS["reading"](redraw_noise=False).images == "stored"
    with pytest.raises(ValueError, match=r"redraw_noise is the earlier name of `images`.*got 3"):
        TASKS["reading"](redraw_noise=3)
    with pytest.raises(ValueError, match="beside `images`; remove it"):
        TASKS["reading"](redraw_noise=True, images="stored")


def test_contrast_in_units_of_the_noise():
    image = torch.full((2, 1, 4, 4), 1.1)
    channels = contrasts(image, torch.tensor([100.0, 400.0]))
    np.testing.assert_allclose(channels[:, 0], 1.0, rtol=1e-5)  # 0.1 · CONTRAST_SCALE
    np.testing.assert_allclose(channels[0, 1], 1.0, rtol=1e-5)  # 0.1 / (1/√100)
    np.testing.assert_allclose(channels[1, 1], 2.0, rtol=1e-5)


@pytest.mark.parametrize("edge", [PIXEL_MULTIPLE, 3 * PIXEL_MULTIPLE])
def test_networks_take_any_multiple_of_the_fold_and_see_the_dose(edge):
    image = torch.rand(2, 1, edge, edge)
    few, many = torch.tensor([10.0, 10.0]), torch.tensor([1000.0, 1000.0])
    reading = ReadingNetwork(4, (1, 2, 1))
    numbers, maps = reading.with_maps(image, few)
    assert (numbers.shape, maps.shape) == ((2, 5), (2, 2, edge // 8, edge // 8))
    assert torch.equal(numbers, reading(image, few))
    assert (maps > 0).all()
    assert reading.features(image, few).shape == (2, 16)
    for network in (reading, NumbersNetwork(4, outputs=8)):
        assert not torch.allclose(network(image, few), network(image, many))
    assert NumbersNetwork(4, outputs=8)(image, few).shape == (2, 8)
    assert DenoisingNetwork(4)(image, few).shape == image.shape


def test_denoiser_starts_from_vacuum():
    output = DenoisingNetwork(4)(torch.rand(1, 1, 16, 16), torch.tensor([50.0]))
    assert (output - 1).abs().max() < 0.05  # the bias of its last layer alone


def test_scale_is_that_of_the_training_images():
    labels = {"ln_n_atoms": np.array([4.0, 6.0], np.float32), "fraction_first": np.array([0.2, 0.2], np.float32)}
    centre, spread = TASKS["reading"]().scale(labels)
    assert centre == pytest.approx((5.0, 0.2))
    assert spread == pytest.approx((1.0, 1.0))  # one composition only: left unscaled


def test_readings_undo_the_scaling():
    learner = new_learner(card())
    output = torch.tensor([[0.0, 1.0, -1.0, 0.0, math.log(0.5)], [100.0, 0.0, 10.0, -99.0, 0.0]])
    read = learner.task.read(output, {}, learner.scale)
    wanted = [0.5, math.exp(5.5), 0.3, 0.5, 0.1]
    assert [value[0].item() for value in read.values()] == pytest.approx(wanted)
    wanted = [1.0, math.exp(5.0), 1.0, 0.5 * math.exp(-5), 0.2]  # a fraction ends at 1, a scale above 0
    assert [value[1].item() for value in read.values()] == pytest.approx(wanted)


def reading_loss(numbers, maps=0.0) -> float:
    """Loss of an image of a Janus particle of e^5.5 atoms, 30 % of the first species; the maps hold no atom."""
    learner = new_learner(card())
    batch = {"janus": torch.ones(1), "ln_n_atoms": torch.tensor([5.5]), "fraction_first": torch.tensor([0.3])}
    output = Taught(torch.tensor([numbers]), torch.full((1, 2, 3, 3), maps))
    return float(learner.task.loss(output, batch | {"maps": torch.zeros(1, 2, 3, 3)}, learner.scale))


def test_perfect_readings_cost_nothing_but_for_their_scales():
    assert reading_loss([50.0, 1.0, -1.0, 0.0, 0.0]) == pytest.approx(0, abs=1e-6)
    # Huber's cost of an error of 2, quadratic below 0.3, and a tenth of |error|/s + ln s; ln 2 is that of not knowing
    unsure = math.log(2) + (2 - 0.15) + 0.1 * 2
    assert reading_loss([0.0, 3.0, -1.0, 0.0, 0.0]) == pytest.approx(unsure, abs=1e-5)


def test_the_best_scale_is_the_error():
    costs = {scale: reading_loss([50.0, 3.0, -1.0, math.log(scale), 0.0]) for scale in (1.0, 1.5, 2.0, 2.5, 4.0)}
    assert min(costs, key=costs.get) == 2.0


def test_atoms_in_the_maps_cost_the_square_of_their_root():
    atoms = 25.0  # in each of 18 cells
    cost = 0.1 * 18 * (math.sqrt(atoms / MAP_ATOMS + 0.01) - 0.1) ** 2
    assert reading_loss([50.0, 1.0, -1.0, 0.0, 0.0], atoms / MAP_ATOMS) == pytest.approx(cost, rel=1e-5)


def test_reading_network_sums_over_the_particle_and_not_over_the_field():
    """In a wider field, with the same particle and vacuum around it, the maps hold as many atoms."""
    network = ReadingNetwork(4, (1, 1, 1))
    with torch.no_grad():
        particle = 1 + 0.05 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        images = [torch.nn.functional.pad(particle, 4 * [margin], value=1.0) for margin in (64, 96)]
        electrons = torch.tensor([100.0])
        empty = [network.with_maps(torch.ones_like(image), electrons).maps.sum() for image in images]
        sums = [network.with_maps(image, electrons).maps.sum() for image in images]
    found = [each - vacuum for each, vacuum in zip(sums, empty)]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=0.01)


def test_denoising_loss_is_psnr_but_for_sign_and_unit():
    learner = new_learner(card("denoising"))
    truth = torch.ones(2, 1, 16, 16)
    output = truth + torch.tensor([0.1, 0.01])[:, None, None, None]
    batch = {"image": truth, "clean": truth}
    psnr_dB = learner.task.metrics(output, batch, learner.scale)["psnr_dB"]
    assert psnr_dB.tolist() == pytest.approx([20, 40], abs=1e-3)
    assert learner.task.loss(output, batch, learner.scale) == pytest.approx(-30 * math.log(10) / 10, abs=1e-3)


@pytest.mark.parametrize("task", list(TASKS))
def test_a_checkpoint_brings_its_task_and_weights_back(task):
    module = new_learner(card(task, seed=3))
    again = trained_learner({"hyper_parameters": {"card": asdict(module.card)}, "state_dict": module.state_dict()})
    assert type(again.task) is TASKS[task]
    assert again.card == module.card
    other = new_learner(card(task, seed=4)).state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in again.state_dict().items())


def test_new_weights_leave_torchs_global_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    new_learner(card())
    assert torch.equal(torch.rand(3), expected)
