"""Manifests: a chunk's job declares only its manifest as output and writes it last, so it proves the chunk finished."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name
from alloyscope.store.atomic import checksum, read_json, write_json

T = TypeVar("T")


def manifest_name(chunk: int) -> str:
    return f"chunk-{chunk_name(chunk)}.json"


def to_mend(folder: Path, chunk: int) -> str:
    """Instruction to the user for a faulty chunk."""
    return f"delete {folder / manifest_name(chunk)} and run snakemake again"


@dataclass(frozen=True)
class Slot:
    """Result of one particle of a chunk."""

    particle: int
    valid: bool
    reason: str | None = None  # why it failed
    attempts: int = 1
    seconds: float = 0.0  # core time of all attempts


@dataclass(frozen=True)
class Manifest:
    """Account of a chunk.

    Attributes:
        stage: "md", "files", "describe" or "hrtem".
        chunk: Chunk number.
        digest: Digest of all inputs of the data.
        slots: One slot per particle of the chunk, in order.
        files: Name relative to the manifest's folder → SHA-256.
        counts: Numbers of things made, e.g. {"images": 1000}.
        provenance: Versions, hardware, wall time, peak memory.
    """

    stage: str
    chunk: int
    digest: str
    slots: tuple[Slot, ...]
    files: dict[str, str]
    counts: dict[str, int]
    provenance: dict[str, Any]
    settings: str = ""  # digest of the settings only, equal in all chunks of a stage that belong together

    @property
    def valid_particles(self) -> tuple[int, ...]:
        return tuple(slot.particle for slot in self.slots if slot.valid)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            StoreError: the file is missing or truncated, or a field is missing or unknown.
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
            StoreError: a file is missing or differs; the message names it.
        """
        for name, expected in self.files.items():
            if checksum(folder / name) != expected:
                raise StoreError(
                    f"{folder / name}: damaged, its SHA-256 differs from manifest {chunk_name(self.chunk)}; "
                    f"{to_mend(folder, self.chunk)}"
                )


def from_record(make: Callable[[dict[str, Any]], T], record: Any, path: Path) -> T:
    """Apply `make` to the provenance that a stage stored in a file.

    Raises:
        StoreError: the provenance lacks an entry that `make` needs.
    """
    try:
        return make(record)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: holds no provenance, or not all of it ({error}); delete it and run snakemake again"
        ) from None
