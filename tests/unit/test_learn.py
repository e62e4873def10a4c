"""Images, networks, tasks and scores of the learning part, against closed forms and hand arithmetic."""

import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from alloyscope.errors import ContractError
from alloyscope.learn.data import Images, Released, Visits, in_units_of_background, normalise, turned
from alloyscope.learn.model import Card, make_trainer, new_learner, quiet_lightning, trained_learner
from alloyscope.learn.networks import PIXEL_MULTIPLE, DenoisingNetwork, ReadingNetwork, contrasts
from alloyscope.learn.tasks import TASKS
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


def test_stored_images_come_back_as_they_are(released):
    images = Images(released, "train", BY_DOSE, DETECTOR)
    item = images[0]
    assert item["image"].shape == item["clean"].shape == (1, 16, 16)
    np.testing.assert_allclose(item["image"], item["clean"], atol=0.5 / 200)  # rounding to whole counts
    assert item["electrons"] == 100
    labels = [item[name].item() for name in ("janus", "ln_n_atoms", "fraction_first")]
    assert labels == pytest.approx([1, math.log(100), 0.25])
    assert item["row"] == 0


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
    output = torch.tensor([[2.0, 0.1, 0.2], [5.0, 0.3, 0.4], [3.0, 0.5, 0.6], [-7.0, 0.7, 0.8]], requires_grad=True)
    batch = {name: torch.from_numpy(values) for name, values in labels.items()}
    loss = learner.task.loss(output, batch, learner.scale)
    # ln(1 + e^−2) for the Janus particle read as one, ln(1 + e³) for the core-shell particle read as Janus
    ordering = (math.log1p(math.exp(-2)) + math.log1p(math.exp(3))) / 2
    blind = batch | {"janus": torch.full((4,), math.nan)}
    assert (loss - learner.task.loss(output, blind, learner.scale)).item() == pytest.approx(ordering, rel=1e-5)
    loss.backward()
    assert (output.grad[:, 0] != 0).tolist() == [True, False, True, False]
    assert (output.grad[:, 1:] != 0).all()
    right = learner.task.metrics(output, batch, learner.scale)["accuracy"]
    np.testing.assert_array_equal(right, [1, np.nan, 0, np.nan])


def test_the_accuracy_of_an_epoch_counts_every_image_with_an_order_once():
    class AlwaysJanus(torch.nn.Module):
        def forward(self, image, electrons):
            return torch.tensor([[1.0, 0.0, 0.0]]).repeat(len(image), 1)

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
        }
        for janus in ([0.0, math.nan, math.nan, math.nan], [1.0, 1.0, 1.0, 1.0], [math.nan] * 4)
    ]
    with quiet_lightning():
        trainer = make_trainer("cpu", enable_checkpointing=False)
        (scores,) = trainer.validate(learner, DataLoader(batches, batch_size=None), verbose=False)
    assert scores["validation_accuracy"] == pytest.approx(4 / 5)


def test_the_eight_symmetries_differ_and_keep_every_pixel():
    image = np.arange(9).reshape(3, 3)
    versions = [turned(image, symmetry) for symmetry in range(8)]
    assert len({version.tobytes() for version in versions}) == 8
    assert all(sorted(version.ravel()) == list(range(9)) for version in versions)
    np.testing.assert_array_equal(turned(image, 1), [[2, 5, 8], [1, 4, 7], [0, 3, 6]])
    np.testing.assert_array_equal(turned(image, 4), [[2, 1, 0], [5, 4, 3], [8, 7, 6]])


def test_a_visit_depends_on_seed_epoch_and_image_alone(released):
    def make(**options):
        return Images(released, "train", BOTH, DETECTOR, **{"seed": 1, "redraw_noise": True, **options})

    forwards, backwards = make(), make()
    addresses = list(range(8))  # two epochs of four images
    one = {address: forwards[address] for address in addresses}
    other = {address: backwards[address] for address in reversed(addresses)}
    for address in addresses:
        assert one[address].keys() == other[address].keys()
        assert all(torch.equal(value, other[address][name]) for name, value in one[address].items())
    assert one[0]["row"] == one[4]["row"] == 0
    assert one[0]["electrons"] != one[4]["electrons"]  # another epoch, another dose
    assert make(seed=2)[0]["electrons"] != one[0]["electrons"]


def test_fresh_noise_is_poisson_noise_at_a_dose_of_the_section(released):
    images = Images(released, "train", BY_DOSE, DETECTOR, seed=1, redraw_noise=True)
    vacuum = [images[4 * epoch + 1] for epoch in range(60)]  # image 1 is vacuum
    electrons = np.array([float(item["electrons"]) for item in vacuum])
    assert 25 <= electrons.min() < 60  # 100 e/Å² · 0.25 Å²
    assert 1000 < electrons.max() <= 2500
    noise = np.array([float(item["image"].var()) for item in vacuum])
    # counts of gain 2 are whole electrons here, so the variance of n/n0 is 1/n0; 60 × 256 pixels: ±1.1 % (1 σ)
    assert np.mean(noise * electrons) == pytest.approx(1, abs=0.05)


def test_redrawn_noise_has_the_gains_of_the_section(released):
    uneven = DETECTOR.model_copy(update={"gain_map_rms": (0.2, 0.4)})
    known_dose = BOTH.model_copy(update={"normalised_by": "dose"})
    images = Images(released, "train", known_dose, uneven, seed=1, redraw_noise=True)
    vacuum = [images[4 * epoch + 1] for epoch in range(60)]
    # variance of g n / n0 with Poisson n: (1 + r²) / n0 + r², r uniform in 0.2 … 0.4: r² is 0.28 / 3 in the mean
    squares = np.array([float(item["image"].var() - (1 / item["electrons"])) for item in vacuum])
    assert squares.mean() == pytest.approx(0.28 / 3, abs=0.02)
    assert (
        np.corrcoef(vacuum[0]["image"].ravel(), vacuum[1]["image"].ravel())[0, 1] < 0.3
    )  # a map of its own each visit


def test_network_sees_the_background_and_not_the_dose(released):
    """Stored doses that are wrong by any factor change nothing; the noise tells the electrons."""
    rng = np.random.default_rng(1)
    counts = 10 + 2 * rng.poisson(100 * np.ones((4, 64, 64)))  # gain 2, offset 10
    clean = np.full(counts.shape, 0.9, np.float16)  # a film that fills the image

    def show(dose_e_per_A2):
        table = released.table.assign(dose_e_per_A2=dose_e_per_A2)
        return Images(replace(released, table=table, counts=counts, clean=clean), "train", BOTH, DETECTOR)[1]

    shown, same = show(400.0), show(4.0)
    assert all(torch.equal(value, same[name]) for name, value in shown.items())
    assert shown["image"].mean() == pytest.approx(1, abs=0.005)
    assert shown["electrons"] == pytest.approx(100, rel=0.15)  # 64² pixels: 3 % (1 σ) for white noise
    np.testing.assert_allclose(shown["clean"], 1, atol=1e-6)  # the truth is in units of its own background


def test_image_without_a_background_is_named(released):
    dark = replace(released, counts=np.zeros((4, 16, 16), np.uint16))  # an offset of 10 was promised
    with pytest.raises(ContractError, match=r"image 2: the background of an image must be above the camera's offset"):
        Images(dark, "train", BOTH, DETECTOR)[2]


def test_gain_of_the_camera_cancels_and_its_offset_does_not(released):
    vacuum = replace(released, clean=np.ones((4, 64, 64), np.float16))

    def visit(**errors):
        task = BOTH.model_copy(update=errors)
        return Images(vacuum, "train", task, DETECTOR, seed=1, redraw_noise=True)[1]

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
    images = Images(released, "train", task, DETECTOR, seed=1, redraw_noise=True)
    means = np.array([float(images[4 * epoch + 1]["image"].mean()) for epoch in range(40)])
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


def test_noisy_image_and_truth_are_turned_together(released):
    images = Images(released, "train", BY_DOSE, DETECTOR, seed=1)
    for epoch in range(6):
        item = images[4 * epoch]
        np.testing.assert_allclose(item["image"], item["clean"], atol=0.5 / 200)
    corners = {float(images[4 * epoch]["clean"][0, 0, 0]) for epoch in range(30)}
    assert len(corners) == 4


def test_every_epoch_visits_each_image_once_in_another_order():
    visits = Visits(10, seed=0)
    orders = []
    for epoch in (0, 1):
        visits.set_epoch(epoch)
        addresses = list(visits)
        assert sorted(addresses) == list(range(10 * epoch, 10 * epoch + 10))
        orders.append([address % 10 for address in addresses])
    assert orders[0] != orders[1]


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
    reading = ReadingNetwork(4)
    assert reading(image, few).shape == (2, 3)
    assert not torch.allclose(reading(image, few), reading(image, many))
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
    read = learner.task.read(torch.tensor([[0.0, 1.0, -1.0], [100.0, 0.0, 10.0]]), {}, learner.scale)
    assert [value[0].item() for value in read.values()] == pytest.approx([0.5, math.exp(5.5), 0.3])
    assert [value[1].item() for value in read.values()] == pytest.approx(
        [1.0, math.exp(5.0), 1.0]
    )  # a fraction ends at 1


def test_perfect_readings_cost_nothing():
    learner = new_learner(card())
    batch = {"janus": torch.ones(1), "ln_n_atoms": torch.tensor([5.5]), "fraction_first": torch.tensor([0.3])}
    assert learner.task.loss(torch.tensor([[50.0, 1.0, -1.0]]), batch, learner.scale) == pytest.approx(0, abs=1e-6)
    # smooth L1 of an error of 2 is 1.5; the logarithm of 2 is the cost of not knowing
    unsure = learner.task.loss(torch.tensor([[0.0, 3.0, -1.0]]), batch, learner.scale)
    assert unsure == pytest.approx(math.log(2) + 1.5, abs=1e-5)


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
