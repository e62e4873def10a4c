"""Simulate the HRTEM images of one imaging chunk: a whole shard of clean and noisy images.

Reads the manifests and structures of the md chunks that the imaging chunk covers. Writes one shard of `clean`, one of
`counts` and, with imaging.store_waves, one of `wave` into images.zarr beside the manifest; then a table with every
drawn parameter of every image; and last the manifest. Particles that failed in `md`, or that extend beyond the field of
view, keep their places: the arrays hold NaN or 0 there, and the table holds valid False and the reason.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.snapshots import imaged_snapshots
from alloyscope.campaign.stages import RECIPES
from alloyscope.contracts import Structure, View
from alloyscope.errors import ConfigError, StoreError, at_particle
from alloyscope.ids import image_id, particle_id, rng_for
from alloyscope.imaging import gates
from alloyscope.imaging.exposure import exposed, outside_field
from alloyscope.imaging.hrtem import Imager, Job, check_against_reference, imager_for
from alloyscope.microscope.settings import DetectorSection, Device, ImagingSection, OpticsSection, aperture_faults
from alloyscope.microscope.views import drawn_snapshots, drawn_view
from alloyscope.microscope.waves import WaveBand
from alloyscope.progress import log, progress
from alloyscope.stages.arguments import add_section
from alloyscope.store import images as store
from alloyscope.store.atomic import checksum, digest
from alloyscope.store.chunks import read_all, require_particles, table_name
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import read_film
from alloyscope.store.tables import write_table


def run(
    *,
    chunk: int,
    md_chunks: Sequence[int],
    structures: Path,
    capacity: int,
    seed: int,
    imaging: ImagingSection,
    optics: OpticsSection,
    detector: DetectorSection,
    manifest: Path,
    film: Path | None = None,
    device: Device | None = None,
    checked_waves: int | None = None,
) -> None:
    """Make one imaging chunk.

    Args:
        chunk: Number of the imaging chunk.
        md_chunks: The md chunks that it covers, in order.
        structures: Folder of their manifests and structures.
        capacity: Number of particles in a full imaging chunk.
        seed: Seed of the campaign.
        imaging: Engine, grid, camera.
        optics: Distributions of the lens parameters.
        detector: Distributions of dose and camera parameters.
        manifest: Manifest to write, after all other files; the data lie beside it.
        film: Block of carbon, for the images that show a film.
        device: Device that computes the images (default: `imaging.device`).
        checked_waves: Number of waves that are compared with abTEM's (default: `imaging.checked_waves`).

    Raises:
        ConfigError: the aperture is wider than the grid's band limit, waves of several snapshots are asked
            for, or images show a film and no film is given.
        StoreError: an input is missing or damaged, or an output cannot be written.
        GateError: an image would be wrong.
    """
    watch = Stopwatch("hrtem")
    if faults := aperture_faults(imaging, optics):
        raise ConfigError("\n".join(faults))
    if imaging.film.share > 0 and film is None:
        raise ConfigError(f"imaging.film.share is {imaging.film.share:g}, but no film is given; add --film")
    sources = read_all(structures, md_chunks)
    slots = [slot for source in sources for slot in source.slots]
    require_particles(slots, chunk, capacity, structures)
    snapshots = {number: each for source in sources for number, each in imaged_snapshots(source, structures).items()}
    views = planned_views(slots, snapshots, imaging, optics, detector, seed)
    outside = outside_field(views, snapshots, imaging)
    snapshots = {particle: frames for particle, frames in snapshots.items() if particle not in outside}
    slots = [replace(s, valid=False, reason=outside[s.particle]) if s.particle in outside else s for s in slots]
    band = WaveBand.of(imaging, optics)
    if band and any(len(frames) > 1 for frames in snapshots.values()):
        raise ConfigError("imaging.store_waves: must be false for particles with several snapshots: a wave holds one")
    used = imaging.model_copy(update={"device": device or imaging.device})  # the images are made from `imaging`
    imager = imager_for(used, band, read_film(film) if film else None)
    shard = store.ShardShape(capacity, imaging.views, imaging.pixels, band.size if band else 0)
    # One thread is used: the matrix products are small, and the last bits must not depend on the number of cores.
    with threadpool_limits(1):
        arrays, seconds = make_images(imager, views, snapshots, shard, detector, seed)
        jobs = [(snapshots[view.particle], view) for view in views if view.particle in snapshots]
        most = imaging.checked_waves if checked_waves is None else checked_waves
        checked = check_sample(imager, jobs, most, chunk, seed)

    folder = manifest.parent
    files = store.write_shard(folder, chunk, shard, arrays)
    table = folder / table_name(chunk)
    write_table(table, chunk_table(views, slots, chunk, capacity, imaging.views), store.CHUNK_COLUMNS)
    inputs = [checksum(structures / manifest_name(source.chunk)) for source in sources]
    inputs += [checksum(film)] if film else []
    sections = (imaging.as_json(), optics.as_json(), detector.as_json())
    settings = digest("hrtem", str(RECIPES["hrtem"]), str(seed), str(capacity), *sections)
    Manifest(
        stage="hrtem",
        chunk=chunk,
        digest=digest(settings, *inputs),
        settings=settings,
        slots=tuple(
            Slot(slot.particle, slot.valid, slot.reason, seconds=seconds.get(slot.particle, 0.0)) for slot in slots
        ),
        files={name: checksum(folder / name) for name in (*files, table.name)},
        counts={
            "images": len(snapshots) * imaging.views,
            "saturated_pixels": int((arrays["counts"] == 65_535).sum()),
            "outside_field": len(outside),
            "checked_waves": checked,
        },
        provenance=watch.record(),
    ).write(manifest)


def planned_views(
    slots: Sequence[Slot],
    snapshots: Mapping[int, Sequence[Structure]],
    imaging: ImagingSection,
    optics: OpticsSection,
    detector: DetectorSection,
    seed: int,
) -> list[View]:
    """Draw every view of every slot, with the snapshots over which it averages.

    Raises:
        StoreError: a particle has fewer snapshots than the config asks for.
    """
    views = []
    for slot in slots:
        kept, wanted = len(snapshots.get(slot.particle, ())), imaging.snapshots_per_image
        if 0 < kept < (wanted or 0):
            raise StoreError(
                f"{particle_id(slot.particle)}: has {kept} snapshots, imaging.snapshots_per_image asks for {wanted}; "
                f"lower it, or raise md.snapshots"
            )
        for number in range(imaging.views):
            drawn = drawn_view(slot.particle, number, imaging, optics, detector, seed)
            views.append(replace(drawn, snapshots=drawn_snapshots(slot.particle, number, kept, wanted, seed)))
    return views


def make_images(
    imager: Imager,
    views: Sequence[View],
    snapshots: dict[int, list[Structure]],
    shard: store.ShardShape,
    detector: DetectorSection,
    seed: int,
) -> tuple[dict[str, NDArray[Any]], dict[int, float]]:
    """Simulate the images of the valid particles.

    Returns:
        Arrays of the shard, with every view of a valid particle in its place, and the seconds spent per particle.
    """
    imaging = imager.imaging
    for particle, structures in snapshots.items():
        with at_particle(particle):
            gates.lattice_inside_band_limit(structures[0], imaging.band_limit_per_A, imaging.pixel_size_A)
    arrays = shard.empty()
    places = [place for place, view in enumerate(views) if view.particle in snapshots]
    jobs: list[Job] = [(snapshots[views[place].particle], views[place]) for place in places]
    seconds: dict[int, float] = {}
    last = time.perf_counter()
    # `progress` comes first in the zip, so that it is exhausted and reports its end.
    for (image, wave), place in zip(progress(imager.images_and_waves(jobs), len(jobs), "images"), places):
        view = views[place]
        arrays[store.CLEAN][place] = image
        if store.WAVE in arrays:
            arrays[store.WAVE][place] = wave
        arrays[store.COUNTS][place] = exposed(image, view, imaging, detector, seed)
        now = time.perf_counter()
        seconds[view.particle] = round(seconds.get(view.particle, 0.0) + now - last, 4)
        last = now
    return arrays, seconds


def check_sample(imager: Imager, jobs: Sequence[Job], most: int, chunk: int, seed: int) -> int:
    """Compare some of the chunk's waves with abTEM's; waves that abTEM made need no such check.

    Returns:
        The number of waves that were compared, which the manifest stores for the stage `gates`.
    """
    if imager.imaging.engine != "batched" or not jobs:
        return 0
    wanted = min(most, len(jobs))
    chosen = rng_for("checked-waves", seed, chunk).choice(len(jobs), wanted, replace=False)
    for job in (jobs[index] for index in sorted(chosen.tolist())):
        of_beam, share = check_against_reference(imager, job)
        log(
            f"particle {job[1].particle}, view {job[1].view}: {of_beam:.3%} of the beam, {share:.1%} of the contrast "
            f"(rms) from abTEM"
        )
    return wanted


def chunk_table(views: Sequence[View], slots: Sequence[Slot], chunk: int, capacity: int, n_views: int) -> pd.DataFrame:
    """One row per image of the chunk's particles, including the failed ones."""
    table = store.views_table(views)
    slot_of = {slot.particle: slot for slot in slots}
    first = chunk * capacity * n_views
    table["image"] = np.arange(first, first + len(views))
    table["image_id"] = [image_id(view.particle, view.view) for view in views]
    table["chunk"] = chunk
    table["valid"] = [slot_of[view.particle].valid for view in views]
    table["reason"] = [slot_of[view.particle].reason for view in views]
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunk", type=int, required=True, help="number of the imaging chunk")
    parser.add_argument("--md-chunks", type=int, nargs="+", required=True, help="md chunks that it covers, in order")
    parser.add_argument("--structures", type=Path, required=True, help="folder of md manifests and structures")
    parser.add_argument("--capacity", type=int, required=True, help="particles of a full imaging chunk")
    parser.add_argument("--seed", type=int, required=True, help="seed of the campaign")
    add_section(parser, "imaging", ImagingSection)
    add_section(parser, "optics", OpticsSection)
    add_section(parser, "detector", DetectorSection)
    parser.add_argument("--film", type=Path, nargs="?", help="block of carbon, for images that show a film")
    parser.add_argument("--device", choices=get_args(Device), help="device that computes (default: imaging.device)")
    parser.add_argument(
        "--checked-waves",
        type=int,
        metavar="N",
        help="waves to compare with abTEM's (default: imaging.checked_waves)",
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest to write")
