"""Add the finished particles of a campaign as the next part: `python data/agco-reference/add_part.py FOLDER`.

Takes the valid particles of the finished md chunks, the last snapshot of each, that no part of the same seed holds yet.
A part that stands is never changed. Writes part-NNN.extxyz.gz and its entry in parts.json.
"""

import argparse
import gzip
import json
from pathlib import Path

from ase import Atoms
from ase.io import read

from alloyscope.campaign.folder import read_campaign
from alloyscope.store.atomic import checksum, write_json
from alloyscope.store.manifests import Manifest

HERE = Path(__file__).resolve().parent
INFO = ("particle", "protocol", "potential_energy_eV", "temperature_K")


def finished(results: Path, known: set[int]) -> tuple[list[Atoms], Manifest]:
    """Frames of the valid particles that are not known yet, positions about their mean; a manifest of them."""
    frames = []
    manifests = [Manifest.read(path) for path in sorted((results / "structures").glob("chunk-*.json"))]
    for manifest in manifests:
        manifest.verify(results / "structures")
        wanted = set(manifest.valid_particles) - known
        for name in manifest.files:
            last = {frame.info["particle"]: frame for frame in read(results / "structures" / name, index=":")}
            for particle in sorted(wanted & last.keys()):
                made = last[particle]
                info = {key: made.info[key] for key in INFO}
                frames.append(Atoms(made.symbols, made.positions - made.positions.mean(axis=0), info=info))
    return frames, manifests[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the campaign")
    arguments = parser.parse_args()
    account = HERE / "parts.json"
    parts = json.loads(account.read_text())
    config = read_campaign(arguments.results)
    seed = config.campaign.seed
    mine = [part for part in parts if part["seed"] == seed]
    known = {number for part in mine for low, high in part["numbers"] for number in range(low, high + 1)}
    frames, manifest = finished(arguments.results, known)
    if not frames:
        parser.exit(2, f"{arguments.results}: no finished particle of seed {seed} is missing in the parts\n")
    path = HERE / f"part-{len(parts) + 1:03d}.extxyz.gz"
    with gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as packed:
        for frame in frames:
            packed.write(text_of(frame).encode())
    parts.append(
        {
            "file": path.name,
            "sha256": checksum(path),
            "particles": len(frames),
            "seed": seed,
            "numbers": runs(sorted(int(frame.info["particle"]) for frame in frames)),
            "potential_set": Path(config.potential.set).stem,
            "recipe": manifest.provenance["recipe"],
            "commit": manifest.provenance["commit"],
            "versions": manifest.provenance["versions"],
            "config": {name: config.model_dump(mode="json")[name] for name in ("particles", "md")},
        }
    )
    write_json(account, parts)
    print(f"{path}: {len(frames)} particles, {path.stat().st_size / 1e6:.2f} MB")


def runs(numbers: list[int]) -> list[list[int]]:
    """First and last of each run of consecutive numbers."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def text_of(frame: Atoms) -> str:
    """Extended XYZ of a free cluster, positions to 1 mÅ."""
    info = frame.info
    comment = (
        f"Properties=species:S:1:pos:R:3 particle={info['particle']} protocol={info['protocol']} "
        f"potential_energy_eV={info['potential_energy_eV']:.6f} temperature_K={info['temperature_K']:.3f} "
        f'pbc="F F F"'
    )
    rows = [
        f"{symbol} {x:.3f} {y:.3f} {z:.3f}" for symbol, (x, y, z) in zip(frame.symbols, frame.positions, strict=True)
    ]
    return "\n".join([str(len(frame)), comment, *rows, ""])


if __name__ == "__main__":
    main()
