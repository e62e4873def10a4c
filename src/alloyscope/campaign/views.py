"""Images of single structures, outside of a campaign, as its stages would make them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from alloyscope.contracts import Film, Structure
from alloyscope.errors import ConfigError, at_particle
from alloyscope.ids import particle_id
from alloyscope.imaging import gates
from alloyscope.imaging.exposure import exposed, outside_field
from alloyscope.imaging.hrtem import imager_for
from alloyscope.md.checks import foreign_fault
from alloyscope.md.foreign import opened, structure_of
from alloyscope.md.protocol import Dynamics
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.progress import log
from alloyscope.store.frames import frames
from alloyscope.store.images import views_table
from alloyscope.structure.descriptors import descriptors
from alloyscope.structure.labels import orders
from alloyscope.structure.settings import LabelsSection

PARTICLES = 32  # that are imaged together
AIMS = {name: protocol.aims_at for name, protocol in PROTOCOLS.items()}


@dataclass(frozen=True)
class Microscope:
    """What makes the images; `imaging.views` of each particle."""

    imaging: ImagingSection
    optics: OpticsSection
    detector: DetectorSection
    film: Film | None = None


@dataclass(frozen=True)
class Own:
    """A whole particle of the user's own, and its labels: `ordering`, `n_atoms`, `fraction_first`."""

    number: int
    structure: Structure
    labels: dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """Images and what is known of them.

    Attributes:
        table: One row per image: `particle`, `view`, `dose_e_per_A2`, labels and others.
        counts: Stored counts, (n, y, x).
        detector: Gain and offset of the camera.
    """

    table: pd.DataFrame
    counts: NDArray[np.uint16]
    detector: DetectorSection


def wholes(
    files: Sequence[Path], species: tuple[str, str], labels: LabelsSection, left_out: list[dict[str, Any]]
) -> Iterator[Own]:
    """Yield the frames of all files that are one whole particle of the species, with their numbers and labels.

    Args:
        files: Structure files; the frames, in order, are the particles.
        species: The two species; the first is that of `fraction_first`.
        labels: Criterion of the order.
        left_out: Gets a record (particle, origin, reason) of each other frame.

    Raises:
        ConfigError: a file is missing or damaged, or of a format that ASE does not read.
    """
    if missing := [str(path) for path in files if not path.is_file()]:
        raise ConfigError(f"--structures: no file {', '.join(missing)}; give files that ASE reads")
    least = Dynamics().min_cluster_fraction
    with TemporaryDirectory() as folder:
        opened_files = [opened(path, Path(folder)) for path in files]
        for number, (origin, atoms) in enumerate(frames(opened_files, 0)):
            fault = foreign_fault(atoms.get_chemical_symbols(), atoms.positions, species, least)
            if fault is None:
                structure = structure_of(number, origin, atoms)
                yield Own(number, structure, labels_of(structure, species, labels))
            else:
                left_out.append({"particle": number, "origin": origin, "reason": fault})
                log(f"{particle_id(number)} ({origin}): left out, {fault}")


def labels_of(structure: Structure, species: tuple[str, str], labels: LabelsSection) -> dict[str, Any]:
    """The labels of a particle, as the stage `structures` gives them."""
    fraction = structure.elements.count(species[0]) / len(structure.elements)
    table = pd.DataFrame([descriptors(structure, species) | {"fraction_first": fraction}])
    found = orders(table, [structure.info["protocol"]], labels, AIMS)
    return {
        "ordering": found[f"order_{labels.ordering}"][0],
        "n_atoms": len(structure.elements),
        "fraction_first": fraction,
    }


def imaged(
    particles: Sequence[Own], microscope: Microscope, seed: int, jobs: int, left_out: list[dict[str, Any]]
) -> Iterator[Seen]:
    """Yield the images of the particles in blocks, which do not depend on the number of processes.

    Args:
        particles: The particles.
        microscope: What makes the images.
        seed: Seed of orientations, optics and noise.
        jobs: Number of processes.
        left_out: Gets a record of each particle that does not fit into the field of view.
    """
    blocks = [particles[start : start + PARTICLES] for start in range(0, len(particles), PARTICLES)]
    one = partial(block_of, microscope=microscope, seed=seed)
    if min(jobs, len(blocks)) < 2:
        found = map(one, blocks)
        yield from _kept(found, left_out)
        return
    # The threads of torch do not survive a fork.
    with ProcessPoolExecutor(min(jobs, len(blocks)), mp_context=get_context("spawn")) as pool:
        yield from _kept(pool.map(one, blocks), left_out)


def _kept(found: Iterator[tuple[Seen, list[dict[str, Any]]]], left_out: list[dict[str, Any]]) -> Iterator[Seen]:
    for seen, outside in found:
        left_out += outside
        if len(seen.table):
            yield seen


def block_of(particles: Sequence[Own], microscope: Microscope, seed: int) -> tuple[Seen, list[dict[str, Any]]]:
    """Images of some particles, and records of those that reach out of the field of view."""
    imaging, optics, detector = microscope.imaging, microscope.optics, microscope.detector
    snapshots = {own.number: [own.structure] for own in particles}
    views = [
        drawn_view(own.number, view, imaging, optics, detector, seed)
        for own in particles
        for view in range(imaging.views)
    ]
    outside = outside_field(views, snapshots, imaging)
    views = [view for view in views if view.particle not in outside]
    for number, (structure,) in snapshots.items():
        with at_particle(number):
            gates.lattice_inside_band_limit(structure, imaging.band_limit_per_A, imaging.pixel_size_A)
    imager = imager_for(imaging, film=microscope.film)
    counts = np.empty((len(views), imaging.pixels, imaging.pixels), np.uint16)
    with threadpool_limits(1):
        jobs = [(snapshots[view.particle], view) for view in views]
        for place, image in enumerate(imager.images(jobs)):
            counts[place] = exposed(image, views[place], imaging, detector, seed)
    labels = {own.number: own.labels for own in particles}
    known = pd.DataFrame([labels[view.particle] for view in views], columns=["ordering", "n_atoms", "fraction_first"])
    table = views_table(views).reset_index(drop=True).join(known)
    records = [
        {"particle": own.number, "origin": own.structure.info["origin"], "reason": outside[own.number]}
        for own in particles
        if own.number in outside
    ]
    return Seen(table, counts, detector), records
