"""Release the images: check every shard, join the labels, write the store's metadata.

Reads the manifests, tables and shards of `hrtem` and structures.parquet. Writes images.parquet (one row per image), the
metadata of images.zarr, ro-crate-metadata.json and, last, dataset.json, which describes the released set and stores the
checksums of these files.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from alloyscope.campaign.crate import NAME as CRATE
from alloyscope.campaign.crate import crate
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.stages import RECIPES
from alloyscope.campaign.tables import LABEL_COLUMNS, imaged_rows
from alloyscope.config.model import Config
from alloyscope.contracts import Split
from alloyscope.errors import StoreError
from alloyscope.microscope.settings import DetectorSection, ImagingSection
from alloyscope.microscope.waves import WaveBand
from alloyscope.potential.sets import parameter_set
from alloyscope.stages.arguments import add_section, whole_config
from alloyscope.store import images as store
from alloyscope.store.atomic import checksum, digest, write_json
from alloyscope.store.chunks import finished, read_all, require_one_setting, verify_all
from alloyscope.store.tables import read_table, write_table


def run(
    *,
    images: Path,
    chunks: int,
    capacity: int,
    structures: Path,
    imaging: ImagingSection,
    detector: DetectorSection,
    config: Config,
    out: Path,
) -> None:
    """Release the finished chunks.

    Args:
        images: Folder of the hrtem manifests and shards.
        chunks: Number of imaging chunks to release, from the first on.
        capacity: Number of particles in a full imaging chunk.
        structures: Table of labels, structures.parquet.
        imaging: Number of views, size and number of pixels.
        detector: The camera, for the description of the set.
        config: The config that the images were made from, for their description.
        out: dataset.json, in the folder of the manifests; the other files are written beside it.

    Raises:
        StoreError: a chunk is missing, damaged, or does not account for every image; the message names it.
    """
    watch = Stopwatch("dataset")
    labels = read_labels(structures)
    manifests = read_all(images, finished(images, chunks))
    require_one_setting(manifests, images)
    verify_all(manifests, images)
    band = WaveBand.of(imaging, config.optics)
    shard = store.ShardShape(capacity, imaging.views, imaging.pixels, band.size if band else 0)
    table = pd.concat([imaged_rows(manifest, images, shard) for manifest in manifests], ignore_index=True)
    table = join_labels(table, labels, structures)

    n_chunks = manifests[-1].chunk + 1
    camera = camera_account(imaging, detector, config.optics.preset)
    store.write_metadata(images, n_chunks, shard, attributes(imaging, camera, band))
    write_table(out.parent / "images.parquet", table, {**store.CHUNK_COLUMNS, **LABEL_COLUMNS})
    valid = table[table["valid"]]
    account = {
        "n_images": len(table),
        "n_valid_images": len(valid),
        "n_particles": int(table["particle"].nunique()),
        "chunks": len(manifests),
        "chunks_planned": chunks,
        "shape": [n_chunks * shard.images, imaging.pixels, imaging.pixels],
        "wave_grid": shard.wave_grid,
        "views": imaging.views,
        "capacity": capacity,
        "pixel_size_A": imaging.pixel_size_A,
        "gain": detector.gain,
        "offset": detector.offset,
        "camera": camera,
        "splits": split_account(valid),
        "digest": digest(
            "dataset",
            str(RECIPES["dataset"]),
            checksum(structures),
            imaging.as_json(),
            detector.as_json(),
            *(f"{manifest.digest} {sorted(manifest.files.items())}" for manifest in manifests),
        ),
        "provenance": watch.record(),
    }
    released = ["images.parquet", *(store.metadata_name(name) for name in ("", *shard.arrays))]
    files = {name: checksum(images / name) for name in released}
    chunk_files = {name: known for manifest in manifests for name, known in manifest.files.items()}
    parameters = parameter_set(config.potential.set)
    write_json(images / CRATE, crate(config, digest(config.image_settings()), parameters, account, files | chunk_files))
    write_json(out, account | {"files": files | {CRATE: checksum(images / CRATE)}})


def read_labels(path: Path) -> pd.DataFrame:
    """Read the labels of each particle.

    Raises:
        StoreError: the table is missing or damaged, or a particle has several rows.
    """
    labels = read_table(path)
    if missing := {"particle", "valid", *LABEL_COLUMNS} - set(labels.columns):
        raise StoreError(f"{path}: has no column {', '.join(sorted(missing))}; run the stage `structures` again")
    if labels["particle"].duplicated().any():
        twice = int(labels.loc[labels["particle"].duplicated(), "particle"].iloc[0])
        raise StoreError(f"{path}: particle {twice} has several rows; run the stage `structures` again")
    return labels[["particle", "valid", *LABEL_COLUMNS]]


def join_labels(table: pd.DataFrame, labels: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add to each image row the labels of its particle.

    Raises:
        StoreError: an imaged particle has no labels.
    """
    wanted = labels.rename(columns={"valid": "labelled"})
    joined = table.merge(wanted, on="particle", how="left", sort=False)
    unlabelled = joined["split"].isna() | (joined["valid"] & ~joined["labelled"].fillna(False).astype(bool))
    if unlabelled.any():
        raise StoreError(
            f"{path}: {joined.loc[unlabelled, 'particle'].nunique()} imaged particles have no labels, the first is "
            f"{int(joined.loc[unlabelled, 'particle'].iloc[0])}; run the stage `structures` again"
        )
    return joined.drop(columns="labelled")


def split_account(valid: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Number of valid particles and images of each split."""
    return {
        split: {
            "particles": int(valid.loc[valid["split"] == split, "particle"].nunique()),
            "images": int((valid["split"] == split).sum()),
        }
        for split in get_args(Split)
    }


def camera_account(imaging: ImagingSection, detector: DetectorSection, lens_preset: str) -> dict[str, Any]:
    """The camera that made the images; a quantity that is drawn for each image has its range, as in the config.

    The drawn values are in the index. `mtf_*`, `readout_e` and `dose_e_per_A2` have the same names there.
    """
    chosen = detector.model_dump(mode="json", exclude={"preset"})
    return {
        "kind": chosen.pop("camera"),
        "pixels": imaging.pixels,
        "pixel_size_A": imaging.pixel_size_A,
        "voltage_kV": imaging.voltage_kV,
        **chosen,
        "presets": {"imaging": imaging.preset, "optics": lens_preset, "detector": detector.preset},
    }


def attributes(imaging: ImagingSection, camera: Mapping[str, Any], band: WaveBand | None) -> dict[str, dict[str, Any]]:
    """Attributes of the group and of its arrays, for readers without this package.

    The group's `ome` is OME-NGFF 0.5 (https://ngff.openmicroscopy.org/0.5): one image per array, without a pyramid.
    """
    scale = {"pixel_size_A": imaging.pixel_size_A}
    axes = [{"name": "image"}, *({"name": name, "type": "space", "unit": "angstrom"} for name in ("y", "x"))]
    step = {"type": "scale", "scale": [1.0, imaging.pixel_size_A, imaging.pixel_size_A]}
    pictures = [
        {"name": name, "axes": axes, "datasets": [{"path": name, "coordinateTransformations": [step]}]}
        for name in (store.CLEAN, store.COUNTS)
    ]
    found: dict[str, dict[str, Any]] = {
        "": {
            **scale,
            "views": imaging.views,
            "voltage_kV": imaging.voltage_kV,
            "camera": dict(camera),
            "ome": {"version": "0.5", "multiscales": pictures},
        },
        store.CLEAN: {**scale, "units": "intensity of the incident beam"},
        store.COUNTS: {
            **scale,
            "units": "counts",
            "gain": camera["gain"],
            "offset": camera["offset"],
            "camera": camera["kind"],
        },
    }
    if band:
        found[store.WAVE] = {
            "pixel_size_A": imaging.field_A / band.size,
            "units": "amplitude of the incident beam",
            "aperture_mrad": band.aperture_mrad,
            "angular_spread_mrad": band.angular_spread_mrad,
            "multislice_grid": imaging.grid,
            "voltage_kV": imaging.voltage_kV,
        }
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder of hrtem manifests and shards")
    parser.add_argument("--chunks", type=int, required=True, help="imaging chunks to release, from the first on")
    parser.add_argument("--capacity", type=int, required=True, help="particles of a full imaging chunk")
    parser.add_argument("--structures", type=Path, required=True, help="structures.parquet")
    add_section(parser, "imaging", ImagingSection)
    add_section(parser, "detector", DetectorSection)
    parser.add_argument("--config", type=whole_config, required=True, metavar="JSON", help="what made the images")
    parser.add_argument("--out", type=Path, required=True, help="dataset.json to write")
