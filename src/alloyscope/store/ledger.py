"""The ledger of an md chunk: one JSON line per finished particle, appended and synced, read back after any kill."""

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
    """Append-only file of entries made under one digest; others are dropped on opening."""

    path: Path
    digest: str

    def open(self) -> dict[int, Entry]:
        """Finished particles. What was being written when the process was killed, or has another digest, is dropped."""
        entries = {}
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        for line in lines:
            if entry := self._parse(line):
                entries[entry.slot.particle] = entry
        if len(entries) < len(lines):
            write_text(self.path, "".join(entry.line(self.digest) for entry in entries.values()))
        return entries

    def append(self, entry: Entry) -> None:
        """Add one entry; it is on disk when this returns.

        Raises:
            StoreError: the file cannot be written; earlier entries stay.
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
