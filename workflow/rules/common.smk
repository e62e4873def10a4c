# What every rules file uses. Combinatorics live in alloyscope.plan, defaults in alloyscope.config.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from alloyscope import config as settings
from alloyscope import plan
from alloyscope.errors import ConfigError
from alloyscope.ids import chunk_name
from alloyscope.parameters import parameter_set

# jobs find the python that runs snakemake, whatever the shell's PATH
os.environ.update(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

try:
    CAMPAIGN = settings.parse(settings.frozen(config, workflow.is_main_process))
except ConfigError as error:
    raise WorkflowError(f"the config is faulty:\n{error}") from None

RESULTS = CAMPAIGN.folder.as_posix()
PARAMETERS = parameter_set(CAMPAIGN.potential.set)
TABLE = f"{PARAMETERS.name}.eam.fs"
SEED = CAMPAIGN.campaign.seed
ENVIRONMENT = "../../envs/alloyscope.yaml"  # names the environment; --sdm conda cannot build it, see there
JSON = {name: getattr(CAMPAIGN, name).as_json() for name in settings.Config.model_fields}


def section(name):
    """A param with a section as JSON; a function, because Snakemake would take the braces of a string for wildcards."""
    return lambda wildcards: JSON[name]


def growing(first):
    return lambda wildcards, attempt: attempt * first  # memory, minutes: as much again with each retry


def manifests(stage, chunks):
    return [f"{RESULTS}/{stage}/chunk-{chunk_name(chunk)}.json" for chunk in chunks]
