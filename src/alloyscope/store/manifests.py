"""Manifests: the one declared output of a chunk job, written last, the arbiter of what is done."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from alloyscope.config import Config, parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.ids import chunk_name
from alloyscope.store.atomic import checksum, digest, read_json, write_json, write_text

T = TypeVar("T")


@dataclass(frozen=True)
class Slot:
    """What became of one particle of a chunk."""

    particle: int
    valid: bool
    reason: str | None = None  # why it failed
    attempts: int = 1
    seconds: float = 0.0  # core time, all attempts


@dataclass(frozen=True)
class Manifest:
    """Account of a chunk.

    Attributes:
        stage: "md", "files", "describe" or "hrtem".
        chunk: Chunk number.
        digest: Digest of everything the data depend on.
        slots: One per particle of the chunk, in order.
        files: Name relative to the manifest's folder → SHA-256.
        counts: What was made, e.g. {"images": 1000}.
        provenance: Versions, hardware, wall time, peak memory.
    """

    stage: str
    chunk: int
    digest: str
    slots: tuple[Slot, ...]
    files: dict[str, str]
    counts: dict[str, int]
    provenance: dict[str, Any]
    settings: str = ""  # digest of the settings alone: equal in all chunks of a stage that belong together

    @property
    def valid_particles(self) -> tuple[int, ...]:
        return tuple(slot.particle for slot in self.slots if slot.valid)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            StoreError: missing, truncated, or a field is missing or unknown.
        """
        content = read_json(path)
        try:
            slots = tuple(Slot(**slot) for slot in content.pop("slots"))
            return cls(slots=slots, **content)
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path}: not a manifest ({error}); delete it and run snakemake again") from None

    def verify(self, folder: Path) -> None:
        """Compare every file with its checksum.

        Raises:
            StoreError: a file is missing or differs; names it.
        """
        for name, expected in self.files.items():
            if checksum(folder / name) != expected:
                raise StoreError(
                    f"{folder / name}: damaged, its SHA-256 differs from manifest {chunk_name(self.chunk)}; "
                    f"delete {folder / manifest_name(self.chunk)} and run snakemake again"
                )


def from_record(make: Callable[[dict[str, Any]], T], record: Any, path: Path) -> T:
    """What `make` reads from the record that a step left of itself in a file.

    Raises:
        StoreError: the record lacks something that `make` needs.
    """
    try:
        return make(record)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: holds no provenance, or not all of it ({error}); delete it and run snakemake again"
        ) from None


def write_campaign(path: Path, config: Config, provenance: dict[str, Any] | None = None) -> None:
    """Write the resolved config; without the plan's provenance only where another one stands, or none.

    Raises:
        StoreError: the folder cannot be written.
    """
    content: dict[str, Any] = {"config": config.model_dump(mode="json"), "digest": digest(config.as_json())}
    with suppress(StoreError):
        before = read_json(path)
        if before.get("digest") == content["digest"]:  # they can differ in their section `execution` alone
            if provenance is None:
                provenance = before.get("provenance")
                if before.get("config") == content["config"]:
                    return
            else:  # the plan is not told of it
                content["config"]["execution"] = before["config"].get("execution", content["config"]["execution"])
    write_json(path, content if provenance is None else content | {"provenance": provenance})


def read_campaign(folder: Path) -> Config:
    """The resolved config of the campaign in a results folder, as its last start left it.

    Raises:
        StoreError: the folder holds no campaign, or its account is damaged.
    """
    path = folder / "plan" / "campaign.json"
    if not path.exists():
        raise StoreError(f"{folder}: no campaign here, {path} is missing; start one with snakemake, or name its folder")
    try:
        return parse(read_json(path)["config"])
    except (KeyError, ConfigError) as error:
        raise StoreError(f"{path}: holds no valid config ({error}); delete it and run snakemake again") from None


def write_settings(folder: Path, config: Config) -> Path:
    """Write the resolved config beside the plan, for commands to name with `--configfile`.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = folder / "plan" / "config.yaml"
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    return path


def manifest_name(chunk: int) -> str:
    return f"chunk-{chunk_name(chunk)}.json"


def present(folder: Path, n_chunks: int) -> list[int]:
    """Chunks of `range(n_chunks)` whose manifest exists."""
    return [chunk for chunk in range(n_chunks) if (folder / manifest_name(chunk)).exists()]


def read_all(folder: Path, chunks: Iterable[int]) -> list[Manifest]:
    return [Manifest.read(folder / manifest_name(chunk)) for chunk in chunks]


def require_one_setting(manifests: Sequence[Manifest], folder: Path) -> None:
    """Chunks that are released together were made with the same settings.

    Raises:
        StoreError: they were not; names the odd ones.
    """
    counts = Counter(manifest.settings for manifest in manifests)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = [manifest_name(manifest.chunk) for manifest in manifests if manifest.settings != usual]
        raise StoreError(
            f"{folder}: {len(odd)} of {len(manifests)} chunks were made with other settings than the rest: "
            f"{', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}; delete them and run snakemake again"
        )


def require_particles(slots: Sequence[Slot], chunk: int, capacity: int, folder: Path) -> None:
    """The slots of md chunks are the particles of this imaging chunk, in order, none left out.

    Raises:
        StoreError: they are not.
    """
    got = [slot.particle for slot in slots]
    first = chunk * capacity
    if not 0 < len(got) <= capacity or got != list(range(first, first + len(got))):
        raise StoreError(
            f"{folder}: imaging chunk {chunk_name(chunk)} needs the particles from {first} on, {capacity} at most, "
            f"in order; its md manifests hold {len(got)}: {got[:3]} … {got[-1:]}"
        )


def finished(folder: Path, n_chunks: int) -> list[int]:
    """The chunks that a fan-in step works on: the first `n_chunks`, all of which must be finished.

    Raises:
        StoreError: manifests are missing; names the first of them.
    """
    found = present(folder, n_chunks)
    if len(found) < n_chunks:
        missing = [chunk_name(chunk) for chunk in range(n_chunks) if chunk not in set(found)]
        raise StoreError(
            f"{folder}: {len(found)} of {n_chunks} chunks are finished, all are needed; "
            f"missing manifests: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
        )
    return found
