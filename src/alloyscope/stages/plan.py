"""Write the table of planned particles.

Takes the whole config as JSON. Writes a Parquet table with one row per particle (id, chunk, protocol, counts, split,
seed) and, beside it, campaign.json with the resolved config, which `alloyscope status` reads. No stage computes from
these files: each stage derives its particles from the config.
"""

import argparse
from pathlib import Path

import pandas as pd

from alloyscope.campaign.folder import write_campaign
from alloyscope.campaign.particles import planned_particle, split_of
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.config.model import Config
from alloyscope.contracts import OWN
from alloyscope.ids import particle_id, seed_for
from alloyscope.progress import progress
from alloyscope.stages.arguments import whole_config
from alloyscope.store.tables import write_table

COLUMNS = {
    "particle": "int64",
    "particle_id": "string",
    "chunk": "int64",
    "protocol": "string",
    "species_first": "string",
    "species_second": "string",
    "n_atoms": "int64",
    "n_first": "int64",
    "n_second": "int64",
    "split": "string",
    "seed": "int64",  # of the velocities in the first attempt
}


def planned(config: Config) -> pd.DataFrame:
    """One row per planned particle, with the columns of `COLUMNS`."""
    seed, first, second = config.campaign.seed, *config.particles.species
    rows = []
    for number in progress(range(config.campaign.n_particles), config.campaign.n_particles, "particles"):
        protocol, counts = OWN, (0, 0)  # nothing is known about a user's structure before it is read, nor its relatives
        if config.particles.source == "md":
            particle = planned_particle(number, config.particles, seed)
            protocol, counts = particle.protocol, particle.counts
        rows.append(
            (
                number,
                particle_id(number),
                number // config.md.particles_per_chunk,
                protocol,
                first,
                second,
                sum(counts),
                *counts,
                split_of(number, config.splits, seed) if config.particles.source == "md" else None,
                seed_for("velocities", seed, number, 0),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run(*, config: Config, out: Path) -> None:
    watch = Stopwatch("plan")
    write_table(out, planned(config), COLUMNS)
    write_campaign(out.with_name("campaign.json"), config, watch.record())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=whole_config, required=True, metavar="JSON", help="the whole config as JSON")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the Parquet table")
