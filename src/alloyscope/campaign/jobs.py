"""The jobs of a campaign, with their outputs and logs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alloyscope.campaign.chunks import imaging_chunks, md_chunks
from alloyscope.campaign.stages import Stage, stages_of
from alloyscope.config.model import Config
from alloyscope.ids import chunk_name


@dataclass(frozen=True)
class Job:
    """A job of the campaign.

    Attributes:
        output: The output that proves the job done.
        log: Log file.
        account: File with the job's provenance; None when there is none.
    """

    output: Path
    log: Path
    account: Path | None


def names_of(stage: Stage, config: Config) -> Iterator[dict[str, str]]:
    """Values for the braces in a stage's paths, for each of its jobs."""
    match stage.per:
        case "campaign":
            yield {}
        case "md chunk":
            yield from ({"chunk": chunk_name(chunk)} for chunk in md_chunks(config))
        case "imaging chunk":
            yield from ({"chunk": chunk_name(chunk)} for chunk in imaging_chunks(config))
        case "run":
            for task in config.training.tasks:
                yield from ({"task": task, "run": run} for run in config.training.runs_of(task))
        case "test":
            for task in config.training.tasks:
                yield from ({"task": task, "run": test} for test in config.training.tests_of(task))


def jobs(config: Config, folder: Path) -> dict[str, list[Job]]:
    """Every job of the campaign, by stage, in the order of the workflow."""

    def job(stage: Stage, names: dict[str, str]) -> Job:
        output, log = (folder / path.format(**names) for path in (stage.proof, stage.log))
        account = None if stage.provenance is None else folder / stage.provenance.format(**names)
        return Job(output, log, account)

    return {stage.name: [job(stage, names) for names in names_of(stage, config)] for stage in stages_of(config)}
