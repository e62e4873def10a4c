"""Check that a campaign's stores are whole: manifests, checksums, shards, tables, the released set.

Reads everything under structures/, descriptors/ and hrtem/ of a results folder; names every fault and exits with 2 when
there is one. With --repair removes the manifests of the faulty chunks and what follows from them, and prints the
Snakemake command that makes them again; images and structures come out the same to the bit. Run it where Snakemake
runs. Trainings stay; the next full run decides about them.
"""

import argparse
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

import numpy as np

from alloyscope.config import Config
from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name
from alloyscope.microscope.waves import wave_grid
from alloyscope.plan import imaging_capacity, n_chunks
from alloyscope.progress import progress
from alloyscope.steps import dataset, structures
from alloyscope.steps.account import profile_of
from alloyscope.steps.status_engine import Workplace
from alloyscope.store import images as store
from alloyscope.store.atomic import checksum, read_json
from alloyscope.store.manifests import Manifest, manifest_name, present, read_campaign, write_settings
from alloyscope.store.tables import read_table

Stage = Literal["structures", "descriptors", "hrtem", "labels", "release"]
RELEASE = ("hrtem/dataset.json", "hrtem/images.parquet")
LABELS = "structures/structures.parquet"
READ_TOGETHER = 64  # images


@dataclass(frozen=True)
class Fault:
    """Something that is not as its account says.

    Attributes:
        path: The file, relative to the results folder.
        text: What is wrong with it.
        stage: What has to be made again.
        chunk: Which part of the stage; 0 for stages without chunks.
    """

    path: str
    text: str
    stage: Stage
    chunk: int = 0

    def line(self, folder: Path) -> str:
        path = str(folder / self.path)
        return self.text if self.text.startswith(path) else f"{path}: {self.text}"


@dataclass
class Checked:
    """What was looked at."""

    manifests: int = 0
    files: int = 0
    images: int = 0

    def __str__(self) -> str:
        return f"{self.manifests} manifests, {self.files} files, {self.images} images"


@dataclass(frozen=True)
class Campaign:
    """A results folder and its config."""

    folder: Path
    config: Config

    def capacity(self, stage: Stage) -> int:
        return self.config.md.particles_per_chunk if stage == "structures" else imaging_capacity(self.config)

    @property
    def shard(self) -> store.ShardShape:
        imaging = self.config.imaging
        return store.ShardShape(imaging_capacity(self.config), imaging.views, imaging.pixels, wave_grid(imaging))

    def file_fault(self, place: Path, name: str, expected: str, account: str, stage: Stage, chunk: int) -> Fault | None:
        path = f"{place}/{name}"
        if not (self.folder / path).resolve().is_relative_to(self.folder.resolve()):
            return Fault(account, f"names a file outside the results folder, {name}", stage, chunk)
        if not (self.folder / path).exists():
            return Fault(path, f"missing, {account} lists it", stage, chunk)
        if checksum(self.folder / path) != expected:
            return Fault(path, f"damaged, its SHA-256 differs from {account}", stage, chunk)
        return None


def chunk_faults(campaign: Campaign, stage: Stage, checked: Checked) -> Iterator[Fault]:
    """Faults of a stage's manifests and of the files they list."""
    folder = campaign.folder / stage
    chunks = present(folder, n_chunks(campaign.config.campaign.n_particles, campaign.capacity(stage)))
    with ThreadPoolExecutor(dataset.HASHING_THREADS) as pool:
        answers = pool.map(lambda chunk: one_chunk(campaign, stage, chunk), chunks)
        for files, found in progress(answers, len(chunks), f"{stage}, chunks"):
            checked.manifests += 1
            checked.files += files
            yield from found


def one_chunk(campaign: Campaign, stage: Stage, chunk: int) -> tuple[int, list[Fault]]:
    """Number of files checked, and the faults of one chunk."""
    name = f"{stage}/{manifest_name(chunk)}"
    try:
        manifest = Manifest.read(campaign.folder / name)
    except StoreError as error:
        return 0, [Fault(name, str(error), stage, chunk)]
    if manifest.chunk != chunk:
        return 0, [Fault(name, f"is the manifest of chunk {chunk_name(manifest.chunk)}", stage, chunk)]
    checks = [
        campaign.file_fault(Path(stage), file, known, name, stage, chunk) for file, known in manifest.files.items()
    ]
    faults = [fault for fault in checks if fault]
    if not faults:
        try:
            check_rows(campaign, stage, manifest)
        except StoreError as error:
            faults = [Fault(name, str(error), stage, chunk)]
    return len(manifest.files), faults


def check_rows(campaign: Campaign, stage: Stage, manifest: Manifest) -> None:
    """The chunk's table holds the particles of its manifest.

    Raises:
        StoreError: it does not.
    """
    folder, config = campaign.folder / stage, campaign.config
    match stage:
        case "descriptors":
            structures.chunk_rows(manifest, folder, campaign.capacity(stage), config.campaign.seed, config.particles)
        case "hrtem":
            dataset.chunk_rows(manifest, folder, campaign.shard)
        case "structures" | "labels" | "release":
            pass
        case _:
            assert_never(stage)


def label_faults(campaign: Campaign, checked: Checked) -> Iterator[Fault]:
    """Faults of structures.parquet against the account beside it."""
    path = campaign.folder / LABELS
    if not path.exists():
        return
    try:
        account = read_json(path.with_suffix(".json"))
        rows = len(read_table(path))
    except StoreError as error:
        yield Fault(LABELS, str(error), "labels")
        return
    checked.files += 1
    for name, known in account.get("files", {}).items():
        if fault := campaign.file_fault(Path("structures"), name, known, "structures/structures.json", "labels", 0):
            yield fault
    if rows != account.get("particles"):
        yield Fault(LABELS, f"has {rows} rows, structures.json says {account.get('particles')}", "labels")


def release_faults(campaign: Campaign, checked: Checked) -> Iterator[Fault]:
    """Faults of dataset.json and of what it lists; of shards that do not decode."""
    folder, account_name = campaign.folder / "hrtem", RELEASE[0]
    if not (campaign.folder / account_name).exists():
        return
    try:
        account = read_json(campaign.folder / account_name)
        for name, known in account.get("files", {}).items():
            checked.files += 1
            if fault := campaign.file_fault(Path("hrtem"), name, known, account_name, "release", 0):
                yield fault
        table = read_table(campaign.folder / RELEASE[1])
    except StoreError as error:
        yield Fault(account_name, str(error), "release")
        return
    if len(table) != account.get("n_images"):
        yield Fault(RELEASE[1], f"has {len(table)} rows, dataset.json says {account.get('n_images')}", "release")
    chunks = sorted(table["chunk"].unique().tolist())
    for chunk in chunks:
        if not (folder / manifest_name(chunk)).exists():
            yield Fault(f"hrtem/{manifest_name(chunk)}", "missing, dataset.json counts its images", "hrtem", chunk)
    for name in campaign.shard.arrays:
        try:
            yield from array_faults(campaign, name, account.get("shape", []), chunks, checked)
        except StoreError as error:
            yield Fault(f"hrtem/{store.metadata_name(name)}", str(error), "release")


def array_faults(
    campaign: Campaign, name: str, shape: list[int], chunks: list[int], checked: Checked
) -> Iterator[Fault]:
    """Faults of one array: its metadata, then the index and every payload of its shards."""
    stack = store.Stack.open(campaign.folder / "hrtem", name)
    whole = campaign.shard.arrays[name]
    expected = ((shape[0], *whole[1:]), store.DTYPES[name], whole)
    if (found := (stack.shape, str(stack.array.dtype), tuple(stack.array.shards))) != expected:
        text = f"must be {expected[0]} {expected[1]} in shards of {expected[2]}; is {found[0]} {found[1]} in {found[2]}"
        yield Fault(f"hrtem/{store.metadata_name(name)}", text, "release")
        return
    for chunk in progress(chunks, len(chunks), f"{name}, shards"):
        rows = chunk * whole[0] + np.arange(whole[0])
        try:
            for start in range(0, len(rows), READ_TOGETHER):
                stack.read(rows[start : start + READ_TOGETHER])
            checked.images += len(rows)
        except StoreError as error:
            yield Fault(f"hrtem/{store.shard_name(name, chunk)}", str(error), "hrtem", chunk)


def faults_of(campaign: Campaign, checked: Checked) -> list[Fault]:
    """Every fault, one per file: the first reason found."""
    checks: list[Callable[[], Iterator[Fault]]] = [
        lambda: chunk_faults(campaign, "structures", checked),
        lambda: chunk_faults(campaign, "descriptors", checked),
        lambda: chunk_faults(campaign, "hrtem", checked),
        lambda: label_faults(campaign, checked),
        lambda: release_faults(campaign, checked),
    ]
    found: dict[str, Fault] = {}
    for check in checks:
        for fault in check():
            found.setdefault(fault.path, fault)
    return list(found.values())


def to_remove(faults: list[Fault], config: Config) -> list[str]:
    """Outputs that have to be made again, upstream first: manifests of faulty chunks, and what follows from them."""
    names: dict[str, None] = {}
    for fault in faults:
        here, imaging = manifest_name(fault.chunk), manifest_name(fault.chunk // config.imaging.md_chunks_per_chunk)
        match fault.stage:
            case "structures":
                again = [f"structures/{here}", f"descriptors/{imaging}", f"hrtem/{imaging}", LABELS]
            case "descriptors":
                again = [f"descriptors/{here}", LABELS]
            case "hrtem":
                again = [f"hrtem/{here}"]
            case "labels":
                again = [LABELS]
            case "release":
                again = []
            case _:
                assert_never(fault.stage)
        names |= dict.fromkeys(again)
    return [*names, *RELEASE]


def require_rest(folder: Path) -> None:
    """Nothing is mended under a running campaign.

    Raises:
        StoreError: Snakemake works here, maybe from another machine.
    """
    if Workplace.of(folder).locked:
        raise StoreError(
            f"{folder}: snakemake works here, or was killed here; wait for it to end, or stop it; when none is left, "
            f"run `snakemake --unlock` first"
        )


def repair(campaign: Campaign, faults: list[Fault], profile: str) -> tuple[list[str], str]:
    """Remove what has to be made again.

    Returns:
        What was removed, and the command that makes it again.

    Raises:
        StoreError: this is not Snakemake's folder, or something lies outside the results folder.
    """
    folder, config = campaign.folder, campaign.config
    if config.folder.resolve() != folder.resolve():
        raise StoreError(
            f"{folder}: its config calls it {config.folder}; run `alloyscope verify --repair` from the folder in which "
            f"snakemake runs, on results that were not moved"
        )
    names = [name for name in to_remove(faults, config) if (folder / name).exists()]
    for name in names:
        if not (folder / name).parent.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{folder / name}: lies outside the results folder; nothing was removed")
    settings = config.folder / write_settings(folder, config).relative_to(folder)
    for name in names:
        (folder / name).unlink()
    targets = [name for name in names if name in RELEASE[:1]] or names
    words = ["snakemake", "--profile", profile, "--configfile", str(settings)]
    return names, shlex.join([*words, "--", *((config.folder / name).as_posix() for name in targets)])


def run(*, folder: Path, mend: bool = False, profile: str | None = None) -> str:
    """Check a results folder.

    Args:
        folder: Of a campaign, finished or not.
        mend: Remove what has to be made again.
        profile: Snakemake profile that the command names; without one, that of the campaign's jobs.

    Returns:
        The account of a whole store.

    Raises:
        StoreError: lists every fault; with `mend`, the last line tells what was removed. The command is printed.
    """
    campaign, checked = Campaign(folder, read_campaign(folder)), Checked()
    if mend:
        require_rest(folder)
    faults = faults_of(campaign, checked)
    if not faults:
        return f"{folder}: whole; {checked}"
    lines = [fault.line(folder) for fault in faults]
    if not mend:
        raise StoreError("\n".join([*lines, f"{len(faults)} faults; --repair removes what has to be made again"]))
    removed, command = repair(campaign, faults, profile or profile_of(folder))
    print(command)
    raise StoreError("\n".join([*lines, *(f"removed {folder / name}" for name in removed), "run the command printed"]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="results folder of a campaign, e.g. results/demo")
    parser.add_argument("--repair", action="store_true", help="remove what has to be made again, print the command")
    parser.add_argument(
        "--profile", metavar="PROFILE", help="of that command (default: the one the campaign's jobs ran with)"
    )


def main(arguments: argparse.Namespace) -> None:
    print(run(folder=arguments.folder, mend=arguments.repair, profile=arguments.profile))
