"""The snapshots of particles as images show them."""

from pathlib import Path

from alloyscope.contracts import Structure
from alloyscope.store.chunks import snapshots_in
from alloyscope.store.manifests import Manifest
from alloyscope.structure.alignment import aligned


def imaged_snapshots(manifest: Manifest, folder: Path) -> dict[int, list[Structure]]:
    """Read the snapshots of each valid particle of an md chunk, in order, each aligned onto the particle's first one.

    The stored snapshots hold the particle's rotation and drift during molecular dynamics. An exposure averages over its
    thermal motion alone.

    Raises:
        StoreError: the file differs from its manifest, or holds other particles.
    """
    return {number: aligned(snapshots) for number, snapshots in snapshots_in(manifest, folder).items()}
