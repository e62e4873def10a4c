"""Images, networks, tasks and scores of the learning part, against closed forms and hand arithmetic."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

from alloyscope.errors import ContractError, GateError
from alloyscope.intervals import wilson_interval
from alloyscope.learn import metrics
from alloyscope.learn.data import Images, Released, Visits, normalise, turned
from alloyscope.learn.model import Card, new_learner, trained_learner
from alloyscope.learn.networks import PIXEL_MULTIPLE, DenoisingNetwork, ReadingNetwork, contrasts
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection
from alloyscope.sections import LogUniform

PIXEL_A = 0.5
DETECTOR = DetectorSection(dose_e_per_A2=LogUniform(log_uniform=(100.0, 10_000.0)), gain=2.0, offset=10)


class Both(TASKS["reading"]):
    """Reading that is given the truth as well."""

    reads = ("clean",)


BOTH = Both()


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
    images = Images(released, "train", BOTH, DETECTOR)
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
        ("ordering", "onion", r"ordering must be one of core_shell, janus; got \['onion'\]"),
        ("n_atoms", None, "n_atoms and fraction_first must be finite"),
    ],
)
def test_unusable_labels_are_refused(released, column, value, message):
    with pytest.raises(ContractError, match=message):
        BOTH.labels(released.table.assign(**{column: value}))


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
    images = Images(released, "train", BOTH, DETECTOR, seed=1, redraw_noise=True)
    vacuum = [images[4 * epoch + 1] for epoch in range(60)]  # image 1 is vacuum
    electrons = np.array([float(item["electrons"]) for item in vacuum])
    assert 25 <= electrons.min() < 60  # 100 e/Å² · 0.25 Å²
    assert 1000 < electrons.max() <= 2500
    noise = np.array([float(item["image"].var()) for item in vacuum])
    # counts of gain 2 are whole electrons here, so the variance of n/n0 is 1/n0; 60 × 256 pixels: ±1.1 % (1 σ)
    assert np.mean(noise * electrons) == pytest.approx(1, abs=0.05)


def test_noisy_image_and_truth_are_turned_together(released):
    images = Images(released, "train", BOTH, DETECTOR, seed=1)
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
    assert psnr_dB == pytest.approx(30, abs=1e-3)  # 20 and 40 dB
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


def test_psnr_and_ssim_of_known_images():
    truth = torch.rand(2, 1, 32, 32)
    psnr = metrics.psnr_dB(truth + torch.tensor([0.1, 0.001])[:, None, None, None], truth)
    assert psnr.tolist() == pytest.approx([20, 60], abs=1e-2)
    assert metrics.ssim(truth, truth).tolist() == pytest.approx([1, 1])
    # two constant images a, b: (2ab + C1)/(a² + b² + C1), C1 = (0.01 · range)²; their variances vanish
    flat = metrics.ssim(torch.full((1, 1, 32, 32), 0.5), torch.ones(1, 1, 32, 32))
    assert flat.item() == pytest.approx((1 + 1e-4) / (1.25 + 1e-4), abs=1e-3)


def test_wilson_interval():
    # 8 of 10, and the rule of its ends: 0 of n leaves z²/(n + z²)
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = wilson_interval(0, 10)
    assert (low, high) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    assert all(map(math.isnan, wilson_interval(0, 0)))


def test_more_views_of_the_same_particles_narrow_no_interval():
    few = metrics.proportion([True, False] * 5, range(10))
    many = metrics.proportion([True, False] * 50, [number % 10 for number in range(100)])
    assert few == many
    errors = np.arange(10.0)
    once = metrics.mean_score(errors, range(10))
    tenfold = metrics.mean_score(np.tile(errors, 10), np.tile(np.arange(10), 10))
    assert asdict(once) == pytest.approx(asdict(tenfold))


def test_mean_score():
    score = metrics.mean_score([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1])
    # draws of two particles: 1.5, 2.5 or 3.5, with chances ¼, ½, ¼
    assert score == metrics.Score(2.5, 1.5, 3.5)
    assert metrics.mean_score([1.0, 3.0], [7, 7]) == metrics.Score(2.0, None, None)
    constant = metrics.mean_score(np.full(30, 0.25), np.arange(30))
    assert constant == metrics.Score(0.25, 0.25, 0.25)


def test_confusion_and_balanced_accuracy():
    matrix = metrics.confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    assert matrix == [[2, 1], [0, 1]]
    assert metrics.balanced_accuracy(matrix) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.balanced_accuracy([[3, 1], [0, 0]]) == pytest.approx(0.75)


def test_reading_scores_of_a_table_done_by_hand():
    table = pd.DataFrame(
        {
            "particle": [0, 0, 1],
            "ordering": ["janus", "janus", "core_shell"],
            "ordering_predicted": ["janus", "core_shell", "core_shell"],
            "p_core_shell": [0.1, 0.6, 0.9],
            "n_atoms": [100, 100, 200],
            "n_atoms_predicted": [90.0, 130.0, 200.0],
            "fraction_first": [0.5, 0.5, 0.2],
            "fraction_first_predicted": [0.4, 0.6, 0.3],
        }
    )
    training = pd.DataFrame({"ordering": ["janus"], "n_atoms": [150], "fraction_first": [0.4]})
    scores = TASKS["reading"]().score(table, training)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["accuracy_baseline"] == pytest.approx(2 / 3)
    assert scores["confusion"]["true_by_predicted"] == [[1, 0], [1, 1]]
    assert scores["size_mae_atoms"] == pytest.approx(40 / 3)
    assert scores["size_mae_baseline_atoms"] == pytest.approx(50)
    assert scores["composition_mae"] == pytest.approx(0.1)
    assert scores["composition_mae_baseline"] == pytest.approx(0.4 / 3)
    # by particle: mean over the views first, so particle 0 is read as Janus, 110 atoms, 0.5
    assert scores["per_particle"]["accuracy"] == 1
    assert scores["per_particle"]["size_mae_atoms"] == pytest.approx(5)
    assert scores["per_particle"]["composition_mae"] == pytest.approx(0.05)


def test_a_test_particle_that_was_seen_stops_the_evaluation():
    metrics.check_separation([1, 2], [3])
    with pytest.raises(GateError, match=r"1 of 2 test particles, or relatives of theirs, were seen .*: 3;"):
        metrics.check_separation([1, 2, 3], [3, 4])
