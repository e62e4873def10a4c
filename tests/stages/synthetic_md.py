"""md chunks made by hand: small icosahedra, one of them failed, with true manifests."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from ase.cluster import Icosahedron
from scipy.spatial.transform import Rotation

from alloyscope.campaign.particles import split_of
from alloyscope.config.model import Config, SplitsSection
from alloyscope.config.read import parse
from alloyscope.contracts import Structure
from alloyscope.ids import rng_for
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.stages import dataset, hrtem
from alloyscope.store.atomic import checksum, digest, write_json, write_text
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import to_text
from alloyscope.structure.fingerprint import FINGERPRINT

SEED = 7
PER_CHUNK = 2
FAILED = 1
# 32 camera pixels are 13.9 Å: room for 13 atoms; the fine grid has the spacing of 384² over 128 pixels
IMAGING = ImagingSection(pixels=32, grid=96, n_slices=6, views=2, max_shift_A=1.0, checked_waves=0)
OPTICS = OpticsSection()
DETECTOR = DetectorSection()


def icosahedron(particle: int, snapshots: int = 1) -> list[Structure]:
    """Co core, Ag shell, with thermal displacements of its own."""
    atoms = Icosahedron("Ag", 2)
    elements = ("Co", *["Ag"] * 12)
    rng = rng_for("test-structure", particle)
    return [
        Structure(
            elements,
            atoms.positions + rng.normal(0, 0.08, (13, 3)),
            {"particle": particle, "protocol": "gas_quench", "snapshot": snapshot, "n_atoms": 13},
        )
        for snapshot in range(snapshots)
    ]


def rotating(snapshots: list[Structure]) -> list[Structure]:
    """Each snapshot rotated by 10° and shifted by 0.3 Å against the one before."""
    return [
        replace(each, positions_A=Rotation.from_rotvec([0.0, 0.1745 * k, 0.0]).apply(each.positions_A) + 0.3 * k)
        for k, each in enumerate(snapshots)
    ]


def write_md_chunk(
    folder: Path,
    chunk: int,
    failed: tuple[int, ...] = (FAILED,),
    snapshots: int = 1,
    moved: Callable[[list[Structure]], list[Structure]] = list,
) -> None:
    """Write the particles of a chunk; `moved` changes the snapshots of each."""
    numbers = range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK)
    name = manifest_name(chunk).replace(".json", ".extxyz")
    frames = [frame for number in numbers if number not in failed for frame in moved(icosahedron(number, snapshots))]
    write_text(folder / name, to_text(frames) if frames else "")
    slots = tuple(Slot(n, n not in failed, "two clusters" if n in failed else None) for n in numbers)
    Manifest("md", chunk, "0" * 16, slots, {name: checksum(folder / name)}, {}, {}).write(folder / manifest_name(chunk))


def make_chunk(root: Path, chunk: int, md_chunks: tuple[int, ...] | None = None, **changed: object) -> None:
    """Run the hrtem step on the md chunk of the same number."""
    inputs = {
        "chunk": chunk,
        "md_chunks": md_chunks or (chunk,),
        "structures": root / "structures",
        "capacity": PER_CHUNK,
        "seed": SEED,
        "imaging": IMAGING,
        "optics": OPTICS,
        "detector": DETECTOR,
        "manifest": root / "hrtem" / manifest_name(chunk),
    }
    hrtem.run(**{**inputs, **changed})


def configuration(particles: int, imaging: ImagingSection = IMAGING, results: str = "results") -> Config:
    """The config whose campaign the chunks are."""
    return parse(
        {
            "campaign": {"name": "small", "results": results, "n_particles": particles, "seed": SEED},
            "md": {"particles_per_chunk": PER_CHUNK},
            "imaging": imaging.model_dump() | {"md_chunks_per_chunk": 1},
        }
    )


def write_campaign(folder: Path, particles: int, imaging: ImagingSection = IMAGING) -> None:
    """plan/campaign.json, as the plan step leaves it."""
    config = configuration(particles, imaging)
    content = {"config": config.model_dump(mode="json"), "digest": digest(config.as_json())}
    write_json(folder / "plan" / "campaign.json", content)


def labels_table(particles: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "particle": np.arange(particles),
            "valid": [number != FAILED for number in range(particles)],
            "split": [split_of(number, SplitsSection(), SEED) for number in range(particles)],
            "protocol": "gas_quench",
            "ordering": [None if number == FAILED else "core_shell" for number in range(particles)],
            "n_atoms": 13,
            "n_first": 12,
            "n_second": 1,
            "fraction_first": 12 / 13,
            "group": np.arange(particles),
            "group_in_file": None,
            **dict(zip(FINGERPRINT, np.random.default_rng(1).normal(size=(len(FINGERPRINT), particles)), strict=True)),
        }
    )


def write_released(folder: Path, chunks: int, imaging: ImagingSection = IMAGING) -> None:
    """A results folder with images, released: structures, labels, config and all."""
    particles = chunks * PER_CHUNK
    for chunk in range(chunks):
        write_md_chunk(folder / "structures", chunk)
        make_chunk(folder, chunk, imaging=imaging)
    table = folder / "structures" / "structures.parquet"
    labels_table(particles).to_parquet(table)
    account = {"particles": particles, "files": {table.name: checksum(table)}}
    write_json(table.with_suffix(".json"), account)
    write_campaign(folder, particles, imaging)
    release(folder, chunks, imaging)


def release(folder: Path, chunks: int, imaging: ImagingSection = IMAGING) -> None:
    """Run the dataset step."""
    dataset.run(
        images=folder / "hrtem",
        chunks=chunks,
        capacity=PER_CHUNK,
        structures=folder / "structures" / "structures.parquet",
        imaging=imaging,
        detector=DETECTOR,
        config=configuration(chunks * PER_CHUNK, imaging),
        out=folder / "hrtem" / "dataset.json",
    )
