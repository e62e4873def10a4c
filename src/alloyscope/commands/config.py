"""Check config files and print the resolved config.

Values of later files replace those of earlier ones, as in Snakemake. Prints a summary of the campaign and every value,
including the defaults, as YAML; lists all faults at once. With --schema, prints the JSON schema instead.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from alloyscope.campaign.chunks import imaging_capacity, n_chunks
from alloyscope.config.model import Config
from alloyscope.config.read import json_schema, load


def run(*, files: Sequence[Path]) -> str:
    """The resolved config as YAML."""
    config = load(*files)
    return summary(config) + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def summary(config: Config) -> str:
    """Summary of the campaign as YAML comments: numbers of particles, images and chunks, and the results folder."""
    n_particles = config.campaign.n_particles
    md_chunks = n_chunks(n_particles, config.md.particles_per_chunk)
    imaging_chunks = n_chunks(n_particles, imaging_capacity(config))
    return (
        f"# {n_particles} particles in {md_chunks} md chunks\n"
        f"# {n_particles * config.imaging.views} images in {imaging_chunks} imaging chunks, "
        f"band limit {config.imaging.band_limit_per_A:.3f} 1/Å\n"
        f"# results in {config.folder}\n"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="config files; a later one has priority (default: config.yaml)",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of a config file")


def main(arguments: argparse.Namespace) -> None:
    text = json_schema() if arguments.schema else run(files=arguments.files or [Path("config.yaml")])
    print(text, end="")
