"""Runs: the trainings of a task, one for each seed and one for each row of the table `training.runs`."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from alloyscope.learn.task import Task
from alloyscope.learn.tasks import TASKS
from alloyscope.sections import LATER, PathText, Section, parse_section

ON = "@"  # in the name of an evaluation, between the run and the other campaign on whose images it is tested


def task_name(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"must be one of {', '.join(TASKS)}; got {name!r}")
    return name


def _several(paths: Any) -> Any:
    return (paths,) if isinstance(paths, str) else paths


def _campaigns(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Folders of campaigns by whose names evaluations can be told apart."""
    names = [PurePath(folder).name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"must be campaigns of different names; got {', '.join(folders)}")
    if strange := [name for name in names if not name or not name.replace("_", "-").replace("-", "").isalnum()]:
        raise ValueError(f"must be folders of campaigns, e.g. results/demo; got {', '.join(strange) or folders}")
    return folders


TaskName = Annotated[str, AfterValidator(task_name), WithJsonSchema({"enum": list(TASKS)})]
# A hyphen and a number end the names of the runs that `training.seeds` makes.
RunName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class RunSection(Section):
    """A named run of a task. Further keys are settings of the task, in place of those of `training.<task>`."""

    model_config = ConfigDict(extra="allow")

    task: TaskName
    seed: int = Field(0, ge=0)
    # results folders of other campaigns on whose test images the network is scored, too; one or a list
    tested_on: Annotated[tuple[PathText, ...], BeforeValidator(_several), AfterValidator(_campaigns), LATER] = ()

    def settings(self, base: Task, path: str) -> Task:
        """The settings of this run.

        Args:
            base: Settings of the task in the campaign.
            path: Path of this section in the config, for errors.

        Raises:
            ConfigError: a key is no setting of the task, or its value is not allowed.
        """
        return parse_section(TASKS[self.task], base.model_dump(mode="json") | (self.model_extra or {}), path)


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        seed: Seed of weights, order of the images and fresh noise.
        settings: The task with its settings.
        tested_on: Results folders of further campaigns on whose test images the network is scored.
    """

    seed: int
    settings: Task
    tested_on: tuple[str, ...] = ()

    def tests(self, name: str) -> dict[str, str | None]:
        """Evaluations of this run: their names, and the results folder of the tested campaign; None for its own."""
        return {name: None} | {f"{name}{ON}{PurePath(folder).name}": folder for folder in self.tested_on}
