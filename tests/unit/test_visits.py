"""Which images a training shows when, against counting by hand."""

import numpy as np
import pytest

from alloyscope.learn.tasks import TASKS
from alloyscope.learn.visits import Schedule, StoredVisits, TrainingVisits


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
