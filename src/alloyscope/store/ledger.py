"""The ledger of an md chunk: one JSON line per finished particle, from which a killed chunk resumes."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from alloyscope.errors import StoreError
from alloyscope.store.atomic import refused, write_text
from alloyscope.store.manifests import Slot


@dataclass(frozen=True)
class Entry:
    """A finished particle: its slot and, when it succeeded, its snapshots as extended XYZ."""

    slot: Slot
    xyz: str = ""

    def line(self, digest: str) -> str:
        content = json.dumps({"digest": digest, "slot": asdict(self.slot), "xyz": self.xyz}, sort_keys=True)
        return f"{hashlib.sha256(content.encode()).hexdigest()[:16]} {content}\n"


@dataclass(frozen=True)
class Ledger:
    """Append-only file of entries that were made with one digest; opening it drops other entries."""

    path: Path
    digest: str

    def open(self) -> dict[int, Entry]:
        """Read the finished particles; incomplete lines and entries with another digest are dropped."""
        entries = {}
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        for line in lines:
            if entry := self._parse(line):
                entries[entry.slot.particle] = entry
        if len(entries) < len(lines):
            write_text(self.path, "".join(entry.line(self.digest) for entry in entries.values()))
        return entries

    def append(self, entry: Entry) -> None:
        """Add one entry and wait until it is on disk.

        Raises:
            StoreError: the file cannot be written; earlier entries are kept.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as handle:
                handle.write(entry.line(self.digest))
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise StoreError(refused(self.path, error, kept="finished particles are kept")) from error

    def _parse(self, line: str) -> Entry | None:
        check, _, content = line.partition(" ")
        if hashlib.sha256(content.encode()).hexdigest()[:16] != check:
            return None
        fields = json.loads(content)
        return Entry(Slot(**fields["slot"]), fields["xyz"]) if fields["digest"] == self.digest else None
