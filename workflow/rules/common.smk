# Definitions for all rules files. alloyscope.campaign has the table of stages, the chunks and the costs.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from alloyscope.campaign import chunks, costs
from alloyscope.campaign.stages import STAGES, shows_networks
from alloyscope.config import read
from alloyscope.errors import ConfigError
from alloyscope.ids import chunk_name
from alloyscope.potential.sets import parameter_set

# Jobs find the Python that runs Snakemake, independent of the shell's PATH.
os.environ.update(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

try:
    CAMPAIGN = read.started(config, workflow.is_main_process)
except ConfigError as error:
    raise WorkflowError(f"the config is faulty:\n{error}") from None

RESULTS = CAMPAIGN.folder.as_posix()
TABLE = f"{parameter_set(CAMPAIGN.potential.set).name}.eam.fs"
ENVIRONMENT = "../../envs/alloyscope.yaml"  # records the environment; --sdm conda cannot build it, see there


def param(value):
    """A param that does not depend on wildcards; a function, because Snakemake would take braces for wildcards."""
    return lambda wildcards: value


def made_from(stage):
    """The params whose change runs a stage again, including its recipe."""
    found = {name: param(value(CAMPAIGN)) for name, value in STAGES[stage].made_from.items()}
    recipe = STAGES[stage].recipe_param
    return found if recipe is None else found | {"recipe": param(recipe)}


def growing(first):
    return lambda wildcards, attempt: attempt * first  # memory or minutes: each retry asks for as much again


def manifests(stage, numbers):
    """Paths of the manifests of a stage's chunks."""
    return [f"{RESULTS}/{STAGES[stage].proof.format(chunk=chunk_name(number))}" for number in numbers]


SOURCE = CAMPAIGN.particles.source  # the stage that makes structures: md or files
