"""What a stage is made from: later keys count only when they change something."""

from typing import Annotated

import pytest

from alloyscope.config.model import Config
from alloyscope.config.read import parse
from alloyscope.sections import LATER, Section


class Inner(Section):
    depth: int = 3
    tilt: Annotated[float, LATER] = 0.0


class Finished(Section):
    width: int = 2
    inner: Inner = Inner()


class Grown(Finished):
    """The same section, two versions later."""

    height: Annotated[int, LATER] = 1
    spare: Annotated[Inner | None, LATER] = None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, '{"inner":{"depth":3},"width":2}'),
        ({"height": 1, "spare": None}, '{"inner":{"depth":3},"width":2}'),
        ({"height": 5}, '{"height":5,"inner":{"depth":3},"width":2}'),
        ({"inner": {"tilt": 0.5}}, '{"inner":{"depth":3,"tilt":0.5},"width":2}'),
        ({"spare": {}}, '{"inner":{"depth":3},"spare":{"depth":3},"width":2}'),
    ],
)
def test_later_keys_are_told_only_where_they_change_something(given: dict[str, object], expected: str) -> None:
    section = Grown.model_validate(given)
    assert section.as_json() == expected
    assert Grown.model_validate_json(expected) == section


def test_a_user_is_shown_every_key() -> None:
    assert Grown().model_dump() == {
        "width": 2,
        "inner": {"depth": 3, "tilt": 0.0},
        "height": 1,
        "spare": None,
    }


def test_nothing_is_made_from_execution() -> None:
    fast = parse({"execution": {"wall_limit_s": 10, "device": "cpu", "checked_waves": 0}})
    assert fast.as_json() == Config().as_json()
    assert fast.image_settings() == Config().image_settings()
    assert (fast.wall_limit_s, fast.device, fast.checked_waves) == (10, "cpu", 0)


def test_old_names_are_obeyed_where_execution_says_nothing() -> None:
    old = parse({"md": {"wall_limit_s": 20}, "imaging": {"device": "cpu", "checked_waves": 3}})
    assert (old.wall_limit_s, old.device, old.checked_waves) == (20, "cpu", 3)
    assert old.learning_device == "auto"  # imaging.device is for images alone
    assert parse({"imaging": {"device": "gpu"}, "execution": {"device": "cpu"}}).learning_device == "cpu"
