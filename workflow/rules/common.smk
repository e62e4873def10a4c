# What every rules file uses. What a stage is made from stands in alloyscope.campaign.stages, chunks and costs beside it.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from alloyscope.campaign import chunks, costs
from alloyscope.campaign.stages import STAGES
from alloyscope.config import read
from alloyscope.errors import ConfigError
from alloyscope.ids import chunk_name
from alloyscope.potential.sets import parameter_set

# jobs find the python that runs snakemake, whatever the shell's PATH
os.environ.update(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

try:
    CAMPAIGN = read.parse(read.frozen(config, workflow.is_main_process))
except ConfigError as error:
    raise WorkflowError(f"the config is faulty:\n{error}") from None

RESULTS = CAMPAIGN.folder.as_posix()
TABLE = f"{parameter_set(CAMPAIGN.potential.set).name}.eam.fs"
ENVIRONMENT = "../../envs/alloyscope.yaml"  # names the environment; --sdm conda cannot build it, see there


def param(value):
    """A param that does not depend on wildcards; a function, because Snakemake would take braces for wildcards."""
    return lambda wildcards: value


def made_from(stage):
    """The params whose change runs a stage again, its recipe among them."""
    found = {name: param(value(CAMPAIGN)) for name, value in STAGES[stage].made_from.items()}
    recipe = STAGES[stage].recipe
    return found if recipe is None else found | {"recipe": param(recipe)}


def growing(first):
    return lambda wildcards, attempt: attempt * first  # memory, minutes: as much again with each retry


def manifests(stage, numbers):
    """Manifests of the chunks of a stage."""
    return [f"{RESULTS}/{STAGES[stage].proof.format(chunk=chunk_name(number))}" for number in numbers]


SOURCE = CAMPAIGN.particles.source  # the stage that makes structures: md or files
