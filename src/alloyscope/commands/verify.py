"""Check that a campaign's files are complete and undamaged: manifests, checksums, shards, tables, the released set.

Reads everything under structures/, descriptors/ and hrtem/ of a results folder; lists every fault and exits with 2 when
there is one. With --repair, removes the manifests of the faulty chunks and the outputs that depend on them, and prints
the Snakemake command that makes them again; images and structures are reproduced to the bit. Run it in the folder in
which Snakemake runs. Trainings are kept; the next full run of Snakemake repeats them if their inputs changed.
"""

import argparse
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from alloyscope.campaign.benchmarks import profile_of
from alloyscope.campaign.chunks import imaging_capacity, imaging_chunks, md_chunks
from alloyscope.campaign.folder import read_campaign, write_settings
from alloyscope.campaign.stages import STAGES, Stage, stages_of, what_follows
from alloyscope.campaign.tables import described_rows, imaged_rows
from alloyscope.config.model import Config
from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name
from alloyscope.microscope.waves import wave_grid
from alloyscope.progress import progress
from alloyscope.store import images as store
from alloyscope.store.atomic import checksum, read_json
from alloyscope.store.chunks import HASHING_THREADS, present, require_structures
from alloyscope.store.manifests import Manifest, manifest_name
from alloyscope.store.tables import read_table
from alloyscope.store.workplace import Workplace

READ_TOGETHER = 64  # images


@dataclass(frozen=True)
class Fault:
    """A file that differs from its manifest or account.

    Attributes:
        path: The file, relative to the results folder.
        text: What is wrong with it.
        stage: The stage that has to run again.
        chunk: Number of the stage's chunk; 0 for stages without chunks.
    """

    path: str
    text: str
    stage: str
    chunk: int = 0

    def line(self, folder: Path) -> str:
        path = str(folder / self.path)
        return self.text if self.text.startswith(path) else f"{path}: {self.text}"


@dataclass
class Checked:
    """Numbers of the things that were checked."""

    manifests: int = 0
    files: int = 0
    images: int = 0
    earlier: set[str] = field(default_factory=set)  # stages with chunks of an earlier recipe

    def __str__(self) -> str:
        numbers = f"{self.manifests} manifests, {self.files} files, {self.images} images"
        if not self.earlier:
            return numbers
        return f"{numbers}; {', '.join(sorted(self.earlier))}: of an earlier version, snakemake will make them again"


@dataclass(frozen=True)
class CampaignFolder:
    """A results folder and its config."""

    folder: Path
    config: Config

    @property
    def shard(self) -> store.ShardShape:
        imaging = self.config.imaging
        return store.ShardShape(imaging_capacity(self.config), imaging.views, imaging.pixels, wave_grid(imaging))

    def file_fault(self, place: Path, name: str, expected: str, account: str, stage: str, chunk: int) -> Fault | None:
        path = f"{place}/{name}"
        if not (self.folder / path).resolve().is_relative_to(self.folder.resolve()):
            return Fault(account, f"names a file outside the results folder, {name}", stage, chunk)
        if not (self.folder / path).exists():
            return Fault(path, f"missing, {account} lists it", stage, chunk)
        if checksum(self.folder / path) != expected:
            return Fault(path, f"damaged, its SHA-256 differs from {account}", stage, chunk)
        return None


def chunk_faults(campaign: CampaignFolder, stage: Stage, checked: Checked) -> Iterator[Fault]:
    """Faults of a stage's manifests and of the files they list."""
    planned = md_chunks(campaign.config) if stage.per == "md chunk" else imaging_chunks(campaign.config)
    chunks = present(campaign.folder / stage.folder, len(planned))
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        answers = pool.map(lambda chunk: one_chunk(campaign, stage, chunk), chunks)
        for files, found, current in progress(answers, len(chunks), f"{stage.folder}, chunks"):
            checked.manifests += 1
            checked.files += files
            checked.earlier |= set() if current else {stage.name}
            yield from found


def one_chunk(campaign: CampaignFolder, stage: Stage, chunk: int) -> tuple[int, list[Fault], bool]:
    """Number of files checked in one chunk, its faults, and whether it is of the stage's present recipe.

    The tables of an earlier recipe may have other columns, so only their checksums are compared.
    """
    name = stage.proof.format(chunk=chunk_name(chunk))
    try:
        manifest = Manifest.read(campaign.folder / name)
    except StoreError as error:
        return 0, [Fault(name, str(error), stage.name, chunk)], True
    if manifest.chunk != chunk:
        return 0, [Fault(name, f"is the manifest of chunk {chunk_name(manifest.chunk)}", stage.name, chunk)], True
    current = manifest.provenance.get("recipe", stage.recipe) == stage.recipe
    checks = [
        campaign.file_fault(Path(stage.folder), file, known, name, stage.name, chunk)
        for file, known in manifest.files.items()
    ]
    faults = [fault for fault in checks if fault]
    if not faults and current:
        try:
            check_rows(campaign, stage, manifest)
        except StoreError as error:
            faults = [Fault(name, str(error), stage.name, chunk)]
    return len(manifest.files), faults, current


def check_rows(campaign: CampaignFolder, stage: Stage, manifest: Manifest) -> None:
    """Check that the chunk's table, if it has one, holds the particles of its manifest.

    Raises:
        StoreError: the table holds other particles.
    """
    folder, config = campaign.folder / stage.folder, campaign.config
    if stage.name == "describe":
        described_rows(manifest, folder, imaging_capacity(config), config.campaign.seed, config.particles)
    elif stage.name == "hrtem":
        imaged_rows(manifest, folder, campaign.shard)
    else:
        require_structures(manifest, folder)


def label_faults(campaign: CampaignFolder, checked: Checked) -> Iterator[Fault]:
    """Differences between structures.parquet and the account beside it."""
    labels = STAGES["structures"].proof
    path = campaign.folder / labels
    if not path.exists():
        return
    try:
        account = read_json(path.with_suffix(".json"))
        rows = len(read_table(path))
    except StoreError as error:
        yield Fault(labels, str(error), "structures")
        return
    checked.files += 1
    for name, known in account.get("files", {}).items():
        if fault := campaign.file_fault(Path("structures"), name, known, "structures/structures.json", "structures", 0):
            yield fault
    if rows != account.get("particles"):
        yield Fault(labels, f"has {rows} rows, structures.json says {account.get('particles')}", "structures")


def release_faults(campaign: CampaignFolder, checked: Checked) -> Iterator[Fault]:
    """Faults of dataset.json, of the files that it lists, and of shards that cannot be decoded."""
    folder = campaign.folder / "hrtem"
    account_name, (index,) = STAGES["dataset"].proof, STAGES["dataset"].beside
    if not (campaign.folder / account_name).exists():
        return
    try:
        account = read_json(campaign.folder / account_name)
        for name, known in account.get("files", {}).items():
            checked.files += 1
            if fault := campaign.file_fault(Path("hrtem"), name, known, account_name, "dataset", 0):
                yield fault
        table = read_table(campaign.folder / index)
    except StoreError as error:
        yield Fault(account_name, str(error), "dataset")
        return
    if len(table) != account.get("n_images"):
        yield Fault(index, f"has {len(table)} rows, dataset.json says {account.get('n_images')}", "dataset")
    chunks = sorted(table["chunk"].unique().tolist())
    for chunk in chunks:
        if not (folder / manifest_name(chunk)).exists():
            yield Fault(f"hrtem/{manifest_name(chunk)}", "missing, dataset.json counts its images", "hrtem", chunk)
    for name in campaign.shard.arrays:
        try:
            yield from array_faults(campaign, name, account.get("shape", []), chunks, checked)
        except StoreError as error:
            yield Fault(f"hrtem/{store.metadata_name(name)}", str(error), "dataset")


def array_faults(
    campaign: CampaignFolder, name: str, shape: list[int], chunks: list[int], checked: Checked
) -> Iterator[Fault]:
    """Faults of one array: of its metadata, and of the index and every payload of its shards."""
    stack = store.Stack.open(campaign.folder / "hrtem", name)
    whole = campaign.shard.arrays[name]
    expected = ((shape[0], *whole[1:]), store.DTYPES[name], whole)
    if (found := (stack.shape, str(stack.array.dtype), tuple(stack.array.shards))) != expected:
        text = f"must be {expected[0]} {expected[1]} in shards of {expected[2]}; is {found[0]} {found[1]} in {found[2]}"
        yield Fault(f"hrtem/{store.metadata_name(name)}", text, "dataset")
        return
    for chunk in progress(chunks, len(chunks), f"{name}, shards"):
        rows = chunk * whole[0] + np.arange(whole[0])
        try:
            for start in range(0, len(rows), READ_TOGETHER):
                stack.read(rows[start : start + READ_TOGETHER])
            checked.images += len(rows)
        except StoreError as error:
            yield Fault(f"hrtem/{store.shard_name(name, chunk)}", str(error), "hrtem", chunk)


def faults_of(campaign: CampaignFolder, checked: Checked) -> list[Fault]:
    """Every faulty file, with the first fault that was found in it."""
    chunked = [stage for stage in stages_of(campaign.config) if stage.chunked]
    checks: list[Callable[[], Iterator[Fault]]] = [
        *(partial(chunk_faults, campaign, stage, checked) for stage in chunked),
        partial(label_faults, campaign, checked),
        partial(release_faults, campaign, checked),
    ]
    found: dict[str, Fault] = {}
    for check in checks:
        for fault in check():
            found.setdefault(fault.path, fault)
    return list(found.values())


def to_remove(faults: list[Fault], config: Config) -> list[str]:
    """Outputs that have to be made again, upstream first: those of faulty stages, and of the stages that follow.

    Only outputs that are checked here are removed, because Snakemake itself finds that the others are out of date. The
    released set is always removed.
    """
    names: dict[str, None] = {}
    for fault in faults:
        for name in (fault.stage, *what_follows(fault.stage)):
            stage = STAGES[name]
            if stage.chunked and stage.needed(config):
                coarser = STAGES[fault.stage].per == "md chunk" and stage.per == "imaging chunk"
                chunk = fault.chunk // (config.imaging.md_chunks_per_chunk if coarser else 1)
                names[stage.proof.format(chunk=chunk_name(chunk))] = None
            elif name == "structures":
                names[stage.proof] = None
    return [*names, *release()]


def release() -> tuple[str, ...]:
    """Outputs that the stage `dataset` declares."""
    return STAGES["dataset"].proof, *STAGES["dataset"].beside


def require_rest(folder: Path) -> None:
    """Refuse to repair the files of a running campaign.

    Raises:
        StoreError: Snakemake runs here, maybe from another machine, or was killed and left its lock.
    """
    if Workplace.of(folder).locked:
        raise StoreError(
            f"{folder}: snakemake runs here, or was killed here; wait until it ends, or stop it; if none is running, "
            f"run `snakemake --unlock` first"
        )


def repair(campaign: CampaignFolder, faults: list[Fault], profile: str) -> tuple[list[str], str]:
    """Remove the outputs that have to be made again.

    Returns:
        The removed outputs, and the command that makes them again.

    Raises:
        StoreError: this is not Snakemake's folder, or an output lies outside the results folder.
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
    targets = [name for name in names if name == STAGES["dataset"].proof] or names
    words = ["snakemake", "--profile", profile, "--configfile", str(settings)]
    return names, shlex.join([*words, "--", *((config.folder / name).as_posix() for name in targets)])


def run(*, folder: Path, mend: bool = False, profile: str | None = None) -> str:
    """Check a results folder.

    Args:
        folder: Results folder of a campaign, finished or not.
        mend: Remove the outputs that have to be made again.
        profile: Snakemake profile for the printed command (default: the profile of the campaign's jobs).

    Returns:
        A line with the numbers of the things checked, when no fault was found.

    Raises:
        StoreError: there are faults; the message lists them and, with `mend`, what was removed. With `mend`, the
            command that makes it again is printed first.
    """
    campaign, checked = CampaignFolder(folder, read_campaign(folder)), Checked()
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
    raise StoreError("\n".join([*lines, *(f"removed {folder / name}" for name in removed), "run the printed command"]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="results folder of a campaign, e.g. results/demo")
    parser.add_argument(
        "--repair", dest="mend", action="store_true", help="remove faulty outputs, print the command to redo them"
    )
    parser.add_argument(
        "--profile", metavar="PROFILE", help="profile for that command (default: that of the campaign's jobs)"
    )


def main(arguments: argparse.Namespace) -> None:
    print(run(**vars(arguments)))
