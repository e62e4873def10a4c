"""Runs of a task: the table in the config, and which images each run is trained and tested on."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from alloyscope.campaign.jobs import jobs
from alloyscope.config.read import parse
from alloyscope.errors import ConfigError, ContractError
from alloyscope.learn.subset import TRAINED, VALIDATED, chosen, unseen
from alloyscope.learn.tasks import TASKS

VIEWS = 4


def table() -> pd.DataFrame:
    """Particles 0–9, of which 0–5 are trained on; particle p has 20 + p atoms of the first species."""
    splits = ["train"] * 6 + ["validation", "calibration", "test", "test"]
    return pd.DataFrame(
        [
            {"image": VIEWS * number + view, "particle": number, "view": view, "split": split}
            | {"n_first": 20 + number, "n_second": 40}
            for number, split in enumerate(splits)
            for view in range(VIEWS)
        ]
    )


def reading(**settings: Any) -> Any:
    return TASKS["reading"].model_validate(settings)


def particles(rows: pd.DataFrame, split: str) -> list[int]:
    return sorted(set(rows.loc[rows["split"] == split, "particle"]))


def test_a_named_run_changes_settings_of_its_task_and_no_others() -> None:
    runs = {"few": {"task": "reading", "seed": 3, "particles": 10, "epochs": 7}}
    training = parse({"training": {"reading": {"width": 8}, "seeds": [0, 1], "runs": runs}}).training
    found = training.runs_of("reading")
    assert list(found) == ["seed-0", "seed-1", "few"]
    assert [run.seed for run in found.values()] == [0, 1, 3]
    assert found["few"].settings == reading(width=8, particles=10, epochs=7)
    assert found["seed-1"].settings == reading(width=8)
    assert list(training.runs_of("denoising")) == ["seed-0", "seed-1"]


def test_a_campaign_without_runs_is_made_from_what_it_was() -> None:
    made = parse({}).training.as_json()
    assert not [key for key in ("runs", "particles", "views", "split") if f'"{key}"' in made]
    assert (
        '"runs":{"few":{"seed":0,"task":"reading","views":2}}'
        in parse({"training": {"runs": {"few": {"task": "reading", "views": 2}}}}).training.as_json()
    )


def test_a_run_on_another_campaign_is_one_more_evaluation_and_no_training() -> None:
    runs = {"all": {"task": "reading", "tested_on": "results/alt"}}
    config = parse({"training": {"tasks": ["reading"], "seeds": [], "runs": runs}})
    assert config.training.tests_of("reading") == {"all": None, "all@alt": "results/alt"}
    found = jobs(config, Path("r"))
    assert [job.output for job in found["train"]] == [Path("r/training/reading/all/run.json")]
    assert [job.output.parent.name for job in found["evaluate"]] == ["all", "all@alt"]
    assert found["evaluate"][1].log == Path("r/logs/evaluate/reading-all@alt.log")
    assert parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"seed-1": {"task": "reading"}}, r"runs\.seed-1: names like seed-0 belong to .* choose another name"),
        ({"a b": {"task": "reading"}}, r"training\.runs\.a b.*should match pattern"),
        ({"a": {"task": "reding"}}, r"training\.runs\.a\.task: must be one of denoising, .*reading.*; got 'reding'"),
        ({"a": {"task": "reading", "particle": 3}}, r"training\.runs\.a\.particle: unknown key"),
        ({"a": {"task": "reading", "epochs": 0}}, r"training\.runs\.a\.epochs: .*greater than or equal to 1; got 0"),
        ({"a": {"task": "reading", "split": "imgae"}}, r"training\.runs\.a\.split: .*'image'; got 'imgae'"),
        ({"a": {"task": "reading", "views": 6}}, r"runs\.a\.views: must be at most 5 \(imaging\.views\); got 6"),
        ({"a": {"task": "reading", "particles": 99}}, r"particles: must be at most 50 \(campaign\.n_particles\)"),
        ({"a": {"task": "reading", "tested_on": ["x/a", "y/a"]}}, r"campaigns of different names; got x/a, y/a"),
        ({"a": {"task": "reading", "tested_on": ".."}}, r"must be folders of campaigns, e\.g\. results/demo"),
    ],
)
def test_faulty_runs_are_refused(runs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({"campaign": {"n_particles": 50}, "training": {"runs": runs}})


def test_a_run_needs_a_task_of_the_campaign() -> None:
    with pytest.raises(ConfigError, match=r"runs\.a\.task: must be one of training\.tasks, denoising; got reading"):
        parse({"training": {"tasks": ["denoising"], "runs": {"a": {"task": "reading"}}}})


def test_a_run_may_see_fewer_particles_and_views_and_is_tested_on_all() -> None:
    whole = table()
    pd.testing.assert_frame_equal(chosen(whole, reading()), whole)
    found = chosen(whole, reading(particles=2, views=3))
    assert particles(found, "train") == [0, 1]
    assert len(found[found["split"] == "train"]) == 2 * 3
    of_others = [rows[rows["split"] != "train"].reset_index(drop=True) for rows in (found, whole)]
    pd.testing.assert_frame_equal(*of_others)


def test_more_particles_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"particles: must be at most 6, the particles .* split train; got 7"):
        chosen(table(), reading(particles=7))


def test_a_split_by_image_tests_the_particles_that_it_trains_on() -> None:
    many = pd.concat([table().assign(image=lambda rows, turn=turn: rows["image"] + 40 * turn) for turn in range(100)])
    found = chosen(many, reading(particles=3, split="image"))
    assert all(particles(found, split) == [0, 1, 2] for split in ("train", "validation", "test"))
    assert particles(found, "calibration") == [7]
    shown = found[found["split"] != "calibration"]
    assert shown["image"].is_unique
    assert sorted(shown["image"]) == sorted(many.loc[many["particle"] < 3, "image"])
    shares = shown["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(TRAINED, abs=0.04)  # three standard deviations of 1200 images
    assert shares["validation"] == pytest.approx(VALIDATED, abs=0.03)


def test_particles_that_a_network_may_have_seen_are_known_by_their_atoms() -> None:
    trained, other = table(), table()
    other["particle"] += 100
    other["n_first"] -= 3  # 108 has as many atoms as 5, which was trained on; 109 as 6, for validation
    left = unseen(other, trained, {0, 1, 2, 3, 4, 5})
    assert particles(left, "test") == [109]
    assert particles(left, "train") == particles(other, "train")
    with pytest.raises(ContractError, match="test on other particles"):
        unseen(other, trained, {0, 1, 2, 3, 4, 5, 6})
