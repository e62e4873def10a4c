"""The table of stages: outputs, params and order. Rules, `status`, `verify` and the pages derive from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from alloyscope.config.model import Config

STUDIED = 500  # particles from which on a campaign's report tells what its networks can tell
# Finished campaigns have recorded these recipes as numbers.
BARE_RECIPES = {"potential": 2, "md": 1, "film": 1, "evaluate": 1, "report": 1}
Per = Literal["campaign", "md chunk", "imaging chunk", "run", "test"]  # one job per …; a test is a run on an image set
Value = str | int | float  # Snakemake records repr() of a param: 1, 1.0 and "1" differ
Params = dict[str, Callable[["Config"], Value]]


def _always(config: "Config") -> bool:
    return True


@dataclass(frozen=True)
class Stage:
    """A rule of the workflow, and the command of the same name.

    Attributes:
        name: Name of the rule, of the command, of its folders under logs/ and benchmarks/, and of `Manifest.stage`.
        per: The unit of which there is one job each.
        proof: The output that proves a job done, below the results folder, with {chunk}, {task} and {run} in braces; a
            test stands in the place of the run.
        recipe: Number that is raised by hand when the results change, so that this stage and those after it run again.
        made_from: Params of the rule, which are flags of the command; the stage runs again when their values change.
        after: Stages whose outputs this stage reads.
        beside: Further declared outputs; {set} is the name of the potential's parameter set.
        account: The file with the provenance, if it is not the proof; empty when a page shows the provenance.
        needed: Whether a campaign has this stage.
    """

    name: str
    per: Per
    proof: str
    recipe: int | None
    made_from: Params
    after: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    account: str = ""
    needed: Callable[["Config"], bool] = _always

    @property
    def recipe_param(self) -> int | str | None:
        """The recipe as a param, with the stage's name once it has been raised.

        Snakemake compares the sets of a job's old and new values, and a bare number may be in both.
        """
        bare = self.recipe is None or self.recipe == BARE_RECIPES.get(self.name)
        return self.recipe if bare else f"{self.name} {self.recipe}"

    @property
    def folder(self) -> str:
        """Folder of the stage, below the results folder."""
        return self.proof.partition("/")[0] if self.chunked else self.proof.rpartition("/")[0]

    @property
    def chunked(self) -> bool:
        """Whether its jobs make chunks, each with a manifest."""
        return self.per in ("md chunk", "imaging chunk")

    @property
    def trains(self) -> bool:
        """Whether its jobs are those of the runs of a task."""
        return self.per in ("run", "test")

    @property
    def log(self) -> str:
        """Path of a job's log, below the results folder."""
        job = "chunk-{chunk}" if self.chunked else "{task}-{run}" if self.trains else self.name
        return f"logs/{self.name}/{job}.log"

    @property
    def provenance(self) -> str | None:
        """The file that holds the provenance of a job."""
        return self.account or (self.proof if self.proof.endswith(".json") else None)


def _section(name: str) -> Params:
    return {name: lambda config: getattr(config, name).as_json()}


def _sections(*names: str) -> Params:
    return {key: value for name in names for key, value in _section(name).items()}


def _parameters(config: "Config") -> str:
    """The parameters themselves, because the user's own set may change under the same name."""
    from alloyscope.potential.sets import parameter_set

    return parameter_set(config.potential.set).model_copy(update={"references": ()}).as_json()


def _film(config: "Config") -> str:
    """The film's settings without the share of images that show it, which does not change the film."""
    return config.imaging.film.model_copy(update={"share": 0.0}).as_json()


SEED: Params = {"seed": lambda config: config.campaign.seed}
WHOLE: Params = {"config": lambda config: config.as_json()}
IMAGES: Params = {"config": lambda config: config.image_settings()}
POTENTIAL_SET: Params = {"potential_set": lambda config: config.potential.set}


def _from(source: str) -> Callable[["Config"], bool]:
    return lambda config: config.particles.source == source


def _shows_film(config: "Config") -> bool:
    return config.imaging.film.share > 0


def shows_networks(config: "Config") -> bool:
    """Whether the report has the page "What the networks can tell": with named runs of a reader, or many particles."""
    return "reading" in config.training.tasks and (bool(config.training.runs) or config.campaign.n_particles >= STUDIED)


CHUNK = "chunk-{chunk}.json"
STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            *("potential", "campaign", "potential/validation.json", 2),
            made_from=_section("potential") | {"parameters": _parameters},
            beside=("potential/{set}.eam.fs",),
        ),
        Stage(
            *("plan", "campaign", "plan/particles.parquet", None),
            made_from=WHOLE,
            beside=("plan/campaign.json",),
            account="plan/campaign.json",
        ),
        Stage(
            *("md", "md chunk", f"structures/{CHUNK}", 1),
            made_from=SEED | _sections("particles", "md") | POTENTIAL_SET,
            after=("potential",),
            needed=_from("md"),
        ),
        Stage(
            *("files", "md chunk", f"structures/{CHUNK}", 2),
            made_from=_section("particles") | {"min_cluster_fraction": lambda config: config.md.min_cluster_fraction},
            needed=_from("files"),
        ),
        Stage(
            *("describe", "imaging chunk", f"descriptors/{CHUNK}", 2),
            made_from=SEED | _sections("particles", "md") | POTENTIAL_SET,
            after=("potential", "md", "files"),
        ),
        Stage(
            *("structures", "campaign", "structures/structures.parquet", 3),
            made_from=SEED | _sections("particles", "splits", "labels"),
            after=("describe",),
            account="structures/structures.json",
        ),
        Stage(
            *("statistics", "campaign", "report/statistics.html", 2),
            made_from=_section("labels"),
            after=("structures",),
        ),
        Stage(
            *("film", "campaign", "film/carbon.extxyz", 1),
            made_from=SEED | {"film": _film},
            account="film/carbon.json",
            needed=_shows_film,
        ),
        Stage(
            *("hrtem", "imaging chunk", f"hrtem/{CHUNK}", 5),
            made_from=SEED | _sections("imaging", "optics", "detector"),
            after=("md", "files", "film"),
        ),
        Stage(
            *("gates", "campaign", "hrtem/gates.json", 2),
            made_from=SEED | _sections("imaging", "detector") | {"sample": lambda config: config.dataset.gated_images},
            after=("hrtem", "structures", "film"),
        ),
        Stage(
            *("dataset", "campaign", "hrtem/dataset.json", 3),
            made_from=_sections("imaging", "detector") | IMAGES,
            after=("hrtem", "structures", "gates"),
            beside=("hrtem/images.parquet",),
        ),
        Stage(
            *("train", "run", "training/{task}/{run}/run.json", 3),
            made_from=_section("detector"),  # the rule adds the section of the task
            after=("dataset",),
        ),
        Stage(
            *("evaluate", "test", "evaluation/{task}/{run}/metrics.json", 2),
            made_from={},
            after=("train", "dataset"),
            beside=("evaluation/{task}/{run}/predictions.parquet",),
        ),
        Stage(
            *("report", "campaign", "report/index.html", 1),
            made_from=WHOLE,
            after=("potential", "structures", "statistics", "dataset", "evaluate"),
            beside=("report/run.html", "report/summary.txt"),
        ),
    )
}
RECIPES = {name: stage.recipe for name, stage in STAGES.items()}


def stages_of(config: "Config") -> list[Stage]:
    """The stages that a campaign has, in the order of the workflow."""
    return [stage for stage in STAGES.values() if stage.needed(config)]


def what_follows(name: str) -> list[str]:
    """Every stage that depends on the outputs of a stage, directly or not, in the order of the workflow."""
    found = {name}
    for stage in STAGES.values():
        if found & set(stage.after):
            found.add(stage.name)
    return [stage for stage in STAGES if stage in found - {name}]
