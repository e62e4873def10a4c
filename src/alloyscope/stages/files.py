"""Take the particles of one chunk from the user's own structure files, in place of md.

Reads extended XYZ or any other format that ASE reads; the frames of all files, in order, are the particles. Writes the
same files as `md`: chunk-N.extxyz and then the manifest. A frame that is not one whole particle of the two species
keeps its slot, with the reason.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from glob import glob
from itertools import islice
from pathlib import Path

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import RECIPES
from alloyscope.config.model import ParticlesSection
from alloyscope.errors import ConfigError, SimulationError
from alloyscope.ids import chunk_name, particle_id
from alloyscope.md.checks import foreign_fault
from alloyscope.md.foreign import opened, structure_of
from alloyscope.progress import log, progress
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import checksum, digest, write_text
from alloyscope.store.frames import frames
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import to_text


def paths_of(patterns: Sequence[str]) -> list[Path]:
    """Expand the patterns; the matches of each pattern are in alphabetical order.

    Raises:
        ConfigError: a name or pattern matches no file.
    """
    found: list[Path] = []
    for pattern in patterns:
        matches = sorted(glob(pattern, recursive=True))
        if not matches:
            raise ConfigError(f"particles.files: no file fits {pattern!r} (from {Path.cwd()}); give paths or patterns")
        found += [Path(match) for match in matches]
    return found


def run(
    *, chunk: int, first: int, count: int, particles: ParticlesSection, min_cluster_fraction: float, manifest: Path
) -> None:
    """Write one chunk.

    Raises:
        ConfigError: the files hold fewer frames than the campaign has particles, or cannot be read.
        StoreError: an output cannot be written.
    """
    watch = Stopwatch("files")
    if manifest.name != manifest_name(chunk):
        raise SimulationError(f"--manifest must end in {manifest_name(chunk)} for chunk {chunk}; got {manifest.name}")
    files = [opened(path, manifest.parent / ".frames") for path in paths_of(particles.files)]
    wanted = progress(islice(frames(files, first), count), count, f"files {chunk_name(chunk)}, frames")
    slots, structures = [], []
    for number, (origin, atoms) in enumerate(wanted, start=first):
        fault = foreign_fault(atoms.get_chemical_symbols(), atoms.positions, particles.species, min_cluster_fraction)
        slots.append(Slot(number, fault is None, fault, attempts=1, seconds=0.0))
        if fault is None:
            structures.append(structure_of(number, origin, atoms))
        else:
            log(f"{particle_id(number)} ({origin}): {fault}")
    if len(slots) < count:
        raise ConfigError(
            f"particles.files: {len(files)} files hold {sum(file.count() for file in files)} frames; "
            f"campaign.n_particles must be at most that"
        )
    made_from = digest(
        "files", str(RECIPES["files"]), particles.as_json(), str(min_cluster_fraction), *(f.sha256 for f in files)
    )
    target = manifest.with_suffix(".extxyz")
    write_text(target, to_text(structures))
    failures = Counter(slot.reason for slot in slots if not slot.valid)
    Manifest(
        stage="files",
        chunk=chunk,
        digest=made_from,
        settings=made_from,
        slots=tuple(slots),
        files={target.name: checksum(target)},
        counts={"particles": count, "valid": len(structures), "failed": failures.total()},
        provenance=watch.record() | {"sections": {"particles": particles.model_dump(mode="json")}},
    ).write(manifest)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunk", type=int, required=True, metavar="N", help="chunk number")
    parser.add_argument("--first", type=int, required=True, metavar="N", help="number of its first particle")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="particles in the chunk")
    add_section(parser, "particles", ParticlesSection)
    parser.add_argument(
        "--min-cluster-fraction",
        type=float,
        required=True,
        metavar="X",
        help="least fraction of the atoms that must be in one cluster",
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="manifest to write, last")
