"""The config, composed of its sections. Large sections are defined beside the code that uses them, small ones here.

Units are part of the key names. Defaults are defined in the sections and nowhere else.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, create_model, model_validator

from alloyscope.config.runs import Run, RunName, RunSection, TaskName
from alloyscope.learn.task import Task
from alloyscope.learn.tasks import TASKS
from alloyscope.md.protocol import Dynamics, Protocol
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.microscope.settings import DetectorSection, Device, ImagingSection, OpticsSection
from alloyscope.potential.sets import PotentialSection
from alloyscope.sections import LATER, Fraction, IntRange, PathText, Positive, Range, Section, compact
from alloyscope.structure.settings import LabelsSection


def _one_of(records: Mapping[str, Any]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in records:
            raise ValueError(f"must be one of {', '.join(records)}; got {name!r}")
        return name

    return check


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"must differ; got {', '.join(names)}")
    return names


ProtocolName = Annotated[str, AfterValidator(_one_of(PROTOCOLS)), WithJsonSchema({"enum": list(PROTOCOLS)})]


def _fields(records: Mapping[str, type[Protocol] | type[Task]], base: type[Section]) -> dict[str, Any]:
    """One field per record; the field of a record without `spelled` is None in campaigns that do not use it."""
    if taken := records.keys() & base.model_fields.keys():
        raise TypeError(f"{', '.join(taken)}: a record must not bear the name of a key of {base.__name__}")
    return {
        name: (record, record()) if record.spelled else (Annotated[record | None, LATER], None)
        for name, record in records.items()
    }


class CampaignSection(Section):
    name: str = Field("agco", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    results: PathText = "results"
    n_particles: int = Field(200_000, ge=1)
    seed: int = Field(2026, ge=0)


class ParticlesSection(Section):
    source: Literal["md", "files"] = "md"
    files: tuple[PathText, ...] = ()  # with source `files`: paths or patterns; the frames, in order, are the particles
    species: tuple[str, str] = ("Ag", "Co")
    n_atoms: IntRange = (60, 1000)
    fraction_first: Range = (0.1, 0.9)
    protocols: dict[ProtocolName, Annotated[float, Field(ge=0)]] = Field({"gas_quench": 0.5, "droplets": 0.5})

    @model_validator(mode="after")
    def _possible(self) -> Self:
        faults = []
        low, high = self.n_atoms
        if not 13 <= low <= high <= 1000:
            faults.append(f"n_atoms must be [low, high] with 13 ≤ low ≤ high ≤ 1000; got [{low}, {high}]")
        if not 0 < self.fraction_first[0] <= self.fraction_first[1] < 1:
            faults.append(f"fraction_first must lie inside (0, 1); got {list(self.fraction_first)}")
        if self.species[0] == self.species[1]:
            faults.append(f"species must differ; got {list(self.species)}")
        if not sum(self.protocols.values()) > 0:
            faults.append(f"protocols needs one weight above 0; got {self.protocols}")
        if (self.source == "files") != bool(self.files):
            faults.append(f"files must name structure files with source `files`, and only then; got {list(self.files)}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def used(self) -> list[str]:
        """Protocols that the campaign uses: those with a weight above 0."""
        return [name for name in PROTOCOLS if self.source == "md" and self.protocols.get(name, 0) > 0]


SPLIT_BLOCK = 20  # every block of this many consecutive particles is divided exactly by the split fractions


class SplitsSection(Section):
    train: Fraction = 0.7
    validation: Fraction = 0.1
    calibration: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.calibration + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"must sum to 1; got {total:g}")
        shares = (self.train, self.validation, self.calibration, self.test)
        if any(abs(share * SPLIT_BLOCK - round(share * SPLIT_BLOCK)) > 1e-6 for share in shares):
            raise ValueError(f"must be multiples of {1 / SPLIT_BLOCK:g}; got {', '.join(map(str, shares))}")
        return self


class DatasetSection(Section):
    min_chunks: int | None = Field(None, ge=1)  # imaging chunks to release, from the first on; None: all
    gated_images: int = Field(4, ge=1)  # images that the gates simulate again and examine


class Training(Section):
    """Tasks to train and their seeds; one further field per task holds its settings."""

    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    tasks: Annotated[tuple[TaskName, ...], AfterValidator(_different), LATER] = ("reading", "denoising")
    loader_workers: int = Field(0, ge=0)
    runs: Annotated[dict[RunName, RunSection], LATER] = Field({})  # beside the runs `seed-0`, … of every task

    def task(self, name: str) -> Task:
        """The settings of a task; its defaults when the campaign does not use it."""
        found: Task | None = getattr(self, name)
        return found or TASKS[name]()

    def runs_of(self, task: str) -> dict[str, Run]:
        """The runs of a task by name: one for each seed, then the named ones.

        Raises:
            ConfigError: a named run has a key that is no setting of the task, or a value that is not allowed.
        """
        seeds = {f"seed-{seed}": Run(seed, self.task(task)) for seed in self.seeds}
        named = {
            name: Run(run.seed, run.settings(self.task(task), f"training.runs.{name}"), run.tested_on)
            for name, run in self.runs.items()
            if run.task == task
        }
        return seeds | named

    def tests_of(self, task: str) -> dict[str, str | None]:
        """The evaluations of a task by name, and the results folder of the tested campaign; None for its own."""
        return {test: on for name, run in self.runs_of(task).items() for test, on in run.tests(name).items()}


if TYPE_CHECKING:

    class MdSection(Dynamics): ...

    class TrainingSection(Training): ...

else:
    MdSection = create_model("MdSection", __base__=Dynamics, **_fields(PROTOCOLS, Dynamics))
    TrainingSection = create_model("TrainingSection", __base__=Training, **_fields(TASKS, Training))


class ExecutionSection(Section):
    """How jobs run on a machine; no key here changes a result, and a change runs no stage again.

    A key that is left out (null) takes the value of the older key of the same name: `md.wall_limit_s`, `imaging.device`
    or `imaging.checked_waves`. The stages `md` and `hrtem` are made from these, so a change there runs them again.
    `imaging.device` is for images alone; networks then take `auto`. With `auto`, a job takes a GPU if it finds one, and
    fails if it was given one that it cannot use.
    """

    wall_limit_s: Positive | None = None  # limit for one particle's molecular dynamics, to detect hangs
    device: Device | None = None
    checked_waves: int | None = Field(None, ge=0)  # number per imaging chunk, compared with abTEM on a twice finer grid


class Config(Section):
    """The config of a whole campaign."""

    campaign: CampaignSection = CampaignSection()
    potential: PotentialSection = PotentialSection()
    particles: ParticlesSection = ParticlesSection()
    md: MdSection = MdSection()
    splits: SplitsSection = SplitsSection()
    labels: LabelsSection = LabelsSection()
    imaging: ImagingSection = ImagingSection()
    optics: OpticsSection = OpticsSection()
    detector: DetectorSection = DetectorSection()
    dataset: DatasetSection = DatasetSection()
    training: TrainingSection = TrainingSection()
    execution: ExecutionSection = ExecutionSection()

    def as_json(self) -> str:
        """Compact JSON of all settings from which stages are made, that is, without `execution`."""
        return compact(self.made_from(exclude={"execution"}))

    def image_settings(self) -> str:
        """JSON of the settings that determine the images, without their number and the training."""
        others = {"dataset", "training", "execution"}
        return compact(self.made_from(exclude={"campaign": {"results", "n_particles"}} | dict.fromkeys(others, True)))

    def completed(self) -> Self:
        """Copy of the config with the settings of every used protocol and task.

        The settings of unused ones are None, unless they are `spelled`.
        """
        weights = {
            name: weight for name, weight in self.particles.protocols.items() if weight > 0 or PROTOCOLS[name].spelled
        }
        particles = self.particles.model_copy(update={"protocols": weights})
        md = _used(self.md, PROTOCOLS, particles.used)
        training = _used(self.training, TASKS, self.training.tasks)
        return self.model_copy(update={"particles": particles, "md": md, "training": training})

    @property
    def wall_limit_s(self) -> float:
        """Time after which a particle's molecular dynamics counts as hung [s]."""
        return self.execution.wall_limit_s or self.md.wall_limit_s

    @property
    def device(self) -> Device:
        """Device that computes the images."""
        return self.execution.device or self.imaging.device

    @property
    def learning_device(self) -> Device:
        """Device that trains and runs the networks."""
        return self.execution.device or "auto"

    @property
    def checked_waves(self) -> int:
        """Number of waves of each imaging chunk that are compared with abTEM's."""
        return self.imaging.checked_waves if self.execution.checked_waves is None else self.execution.checked_waves

    @property
    def folder(self) -> Path:
        """Results folder of the campaign."""
        return Path(self.campaign.results) / self.campaign.name


def _used(section: Section, records: Mapping[str, type[Protocol] | type[Task]], used: Any) -> Section:
    younger = {name: record for name, record in records.items() if not record.spelled}
    filled = {name: (getattr(section, name) or record()) if name in used else None for name, record in younger.items()}
    return section.model_copy(update=filled)
