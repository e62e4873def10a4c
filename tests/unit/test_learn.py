"""Networks, tasks and their losses, against closed forms and hand arithmetic."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from alloyscope.errors import ContractError
from alloyscope.learn.data import Released, in_units_of_background
from alloyscope.learn.model import make_trainer, new_learner, quiet_lightning, trained_learner
from alloyscope.learn.networks import (
    MAP_ATOMS,
    PIXEL_MULTIPLE,
    DenoisingNetwork,
    NumbersNetwork,
    ReadingNetwork,
    Taught,
    contrasts,
)
from alloyscope.learn.tasks import TASKS
from tests.unit.learning import BOTH, card, released_set


@pytest.fixture
def released() -> Released:
    return released_set()


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


def test_the_network_of_the_earlier_code_learns_without_maps():
    task = TASKS["reading"](architecture="talk")
    learner = new_learner(card(settings=task.model_dump(mode="json")))
    batch = {"image": torch.rand(2, 1, 128, 128), "electrons": torch.ones(2), "janus": torch.tensor([0.0, 1.0])}
    batch |= {"ln_n_atoms": torch.ones(2), "fraction_first": torch.ones(2), "maps": torch.ones(2, 2, 16, 16)}
    output = learner.task.taught(learner.network, batch)
    loss = learner.task.loss(output, batch, learner.scale)
    assert torch.equal(loss, learner.task.loss(output, batch | {"maps": torch.zeros(2, 2, 16, 16)}, learner.scale))
    loss.backward()
    assert all(weight.grad is not None for weight in learner.network.parameters())
