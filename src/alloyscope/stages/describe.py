"""Describe the particles of one imaging chunk: one row per planned particle.

Reads the manifests and structures of the md chunks that the imaging chunk covers, and compares each file with its
checksum. Writes everything about a particle that depends neither on labels nor on splits: its plan and the times drawn
for it, its result in `md`, chemical order, shape and fingerprint of its last snapshot, and the common-neighbour classes
of its atoms after LAMMPS has relaxed that snapshot. Writes the manifest last. A failed particle keeps its row and its
reason.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alloyscope.campaign.particles import planned_particle
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import RECIPES
from alloyscope.campaign.tables import described_columns
from alloyscope.config.model import MdSection, ParticlesSection
from alloyscope.contracts import OWN, Particle, Structure
from alloyscope.errors import ConfigError, SimulationError, StoreError, at_particle
from alloyscope.ids import chunk_name, particle_id
from alloyscope.lammps import commands
from alloyscope.lammps.start import load_lammps
from alloyscope.potential.sets import parameter_set
from alloyscope.progress import log, progress
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import checksum, digest
from alloyscope.store.chunks import read_all, require_one_setting, require_particles, snapshots_in, structures_name
from alloyscope.store.manifests import Manifest, Slot, manifest_name, to_mend
from alloyscope.store.tables import write_table
from alloyscope.structure.descriptors import descriptors
from alloyscope.structure.fingerprint import fingerprint
from alloyscope.structure.neighbours import Inherent, shell_cutoff_A

Row = dict[str, Any]


def run(
    *,
    chunk: int,
    md_chunks: Sequence[int],
    structures: Path,
    capacity: int,
    seed: int,
    particles: ParticlesSection,
    md: MdSection,
    potential_set: str,
    potential: Path,
    manifest: Path,
) -> None:
    """Describe one imaging chunk.

    Args:
        chunk: Number of the imaging chunk.
        md_chunks: The md chunks that it covers, in order.
        structures: Folder of their manifests and structures.
        capacity: Number of particles in a full imaging chunk.
        seed: Seed of the campaign.
        particles: Section of the plan.
        md: Section that the times were drawn from.
        potential_set: Parameter set, for the distance of nearest neighbours.
        potential: eam/fs table for the relaxation.
        manifest: Manifest to write, after all other files; the table lies beside it.

    Raises:
        ConfigError: a species has no parameters.
        StoreError: an input is missing, damaged or of another plan, or an output cannot be written.
        SimulationError: LAMMPS cannot be loaded, or refuses a particle.
    """
    watch = Stopwatch("describe")
    relax = Relaxation.of(particles.species, potential_set, potential)
    sources = read_all(structures, md_chunks)
    require_one_setting(sources, structures)
    slots = [slot for source in sources for slot in source.slots]
    require_particles(slots, chunk, capacity, structures)
    last = {
        number: snapshots[-1] for source in sources for number, snapshots in snapshots_in(source, structures).items()
    }

    rows, seconds = [], {}
    work = [(source.chunk, slot) for source in sources for slot in source.slots]
    for md_chunk, slot in progress(work, len(work), f"describe {chunk_name(chunk)}, particles"):
        started = time.perf_counter()
        row = asdict(slot) | {"chunk": md_chunk}
        with at_particle(slot.particle):
            found = last.get(slot.particle)
            if particles.source == "md":
                planned = planned_particle(slot.particle, particles, seed)
                row |= planned_row(planned) | md.protocol(planned.protocol).drawn_ps(planned, seed)
                if found is not None:
                    require_planned(found, planned, structures, md_chunk)
            else:
                row |= unmade_row(slot.particle, particles.species)
            if found is not None:
                row |= snapshot_row(found, particles.species) | relax(found, slot.particle)
        rows.append(row)
        seconds[slot.particle] = round(time.perf_counter() - started, 4)

    table = manifest.with_suffix(".parquet")
    columns = described_columns(particles)
    write_table(table, pd.DataFrame(rows).reindex(columns=list(columns)), columns)
    sections = {"particles": particles.model_dump(mode="json"), "md": md.model_dump(mode="json")}
    made_from = (particles.as_json(), md.as_json(), str(relax.cutoff_A), checksum(potential), sources[0].settings)
    settings = digest("describe", str(RECIPES["describe"]), str(seed), str(capacity), *made_from)
    Manifest(
        stage="describe",
        chunk=chunk,
        digest=digest(settings, *(checksum(structures / manifest_name(source.chunk)) for source in sources)),
        settings=settings,
        slots=tuple(Slot(slot.particle, slot.valid, slot.reason, seconds=seconds[slot.particle]) for slot in slots),
        files={table.name: checksum(table)},
        counts={"particles": len(slots), "valid": sum(slot.valid for slot in slots)},
        provenance=watch.record() | {"seed": seed, "sections": sections},
    ).write(manifest)


def unmade_row(number: int, species: tuple[str, str]) -> Row:
    """Columns of a particle that was not planned and gave no structure."""
    return {
        "particle_id": particle_id(number),
        "protocol": OWN,
        "species_first": species[0],
        "species_second": species[1],
        **counts(0, 0),
    }


def planned_row(planned: Particle) -> Row:
    """Columns of a planned particle that gave no structure."""
    return unmade_row(planned.number, planned.species) | {"protocol": planned.protocol, **counts(*planned.counts)}


def counts(n_first: int, n_second: int) -> Row:
    n_atoms = n_first + n_second
    fraction = n_first / n_atoms if n_atoms else math.nan
    return {"n_atoms": n_atoms, "n_first": n_first, "n_second": n_second, "fraction_first": fraction}


def require_planned(structure: Structure, planned: Particle, folder: Path, md_chunk: int) -> None:
    """Check that a structure holds the planned atoms; some may be missing, because atoms evaporate.

    Raises:
        StoreError: the structure holds other atoms.
    """
    if not Counter(structure.elements) <= Counter(planned.elements):
        raise StoreError(
            f"{folder / structures_name(md_chunk)}: particle {planned.number} must be "
            f"{_formula(planned.elements)} as planned, or fewer atoms; got {_formula(structure.elements)}; "
            f"it belongs to another plan: {to_mend(folder, md_chunk)}"
        )


def _formula(elements: tuple[str, ...]) -> str:
    return " ".join(f"{elements.count(symbol)} {symbol}" for symbol in sorted(set(elements)))


def snapshot_row(structure: Structure, species: tuple[str, str]) -> Row:
    """Counts, descriptors, fingerprint, energy and temperature of a snapshot before it is relaxed."""
    n_first, n_second = (structure.elements.count(element) for element in species)
    info = {name: structure.info[name] for name in ("protocol", "potential_energy_eV", "temperature_K")}
    if "group" in structure.info:
        info["group_in_file"] = str(structure.info["group"])
    return counts(n_first, n_second) | descriptors(structure, species) | fingerprint(structure, species) | info


@dataclass(frozen=True)
class Relaxation:
    """Relaxes snapshots with LAMMPS in this process."""

    species: tuple[str, str]
    potential: Path
    cutoff_A: float
    lmp: Any = field(default_factory=load_lammps)

    @classmethod
    def of(cls, species: tuple[str, str], potential_set: str, potential: Path) -> "Relaxation":
        """Load LAMMPS and take the neighbour cutoff from a parameter set.

        Raises:
            ConfigError: a species has no parameters.
            SimulationError: LAMMPS cannot be loaded.
        """
        parameters = parameter_set(potential_set)
        if missing := set(species) - set(parameters.elements):
            raise ConfigError(
                f"particles.species: {', '.join(sorted(missing))} not in --potential-set {potential_set}; "
                f"it has {', '.join(parameters.elements)}"
            )
        return cls(species, potential, shell_cutoff_A([parameters.pair(one, one).r0_A for one in species]))

    def __call__(self, structure: Structure, number: int) -> dict[str, float]:
        """Energy and common-neighbour classes of the relaxed snapshot, by the names of `RELAXED`.

        The result is empty when the relaxation does not converge.

        Raises:
            SimulationError: LAMMPS refuses the particle.
        """
        types = np.array([self.species.index(element) for element in structure.elements])
        system = commands.System(self.species, types, structure.positions_A, self.potential)
        try:
            found = Inherent.of(self.lmp, system, self.cutoff_A)
        except SimulationError as error:
            raise SimulationError(
                f"{particle_id(number)} cannot be relaxed with {self.potential} ({error}); "
                f"check LAMMPS with alloyscope doctor; if the table is damaged, delete it and run snakemake again"
            ) from None
        if not found.relaxed:
            log(f"{particle_id(number)}: not relaxed, {found.residual_eV_per_A:.2g} eV/Å left; no classes, no energy")
            return {}
        return {f"cna_{name}": share for name, share in found.fractions.items()} | {
            "inherent_energy_eV": found.energy_eV
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunk", type=int, required=True, help="number of the imaging chunk")
    parser.add_argument("--md-chunks", type=int, nargs="+", required=True, help="md chunks that it covers, in order")
    parser.add_argument("--structures", type=Path, required=True, help="folder of md manifests and structures")
    parser.add_argument("--capacity", type=int, required=True, help="particles of a full imaging chunk")
    parser.add_argument("--seed", type=int, required=True, help="seed of the campaign")
    add_section(parser, "particles", ParticlesSection)
    add_section(parser, "md", MdSection)
    parser.add_argument("--potential-set", required=True, metavar="SET", help="parameter set, for neighbour distances")
    parser.add_argument("--potential", type=Path, required=True, metavar="FILE", help="eam/fs table for relaxation")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest to write")
