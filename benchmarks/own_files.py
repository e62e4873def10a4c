"""Time of a chunk of own structures against the size of the set: `python benchmarks/own_files.py`, five minutes.

The set is one compressed extended XYZ file that holds the particles of data/agco-reference over and over. The first
chunk unpacks the file and finds its frames; the last one shows what every other chunk costs. Wall seconds, one process.
"""

import gzip
import itertools
import tempfile
import time
from pathlib import Path

import harness
from harness import Figure
from imaging_cases import PARTICLES

from alloyscope.config.model import ParticlesSection
from alloyscope.stages import files
from alloyscope.store.frames import frame_starts
from alloyscope.store.manifests import manifest_name

CHUNK = 50


def reference_frames() -> list[bytes]:
    """Each frame of one part of the reference set, as text."""
    text = gzip.decompress((PARTICLES / "part-001.extxyz.gz").read_bytes())
    with tempfile.NamedTemporaryFile(suffix=".extxyz") as plain:
        plain.write(text)
        plain.flush()
        starts = frame_starts(Path(plain.name))
    return [text[start:end] for start, end in itertools.pairwise(starts)]


def chunk_s(folder: Path, path: Path, chunk: int) -> float:
    """Seconds that the stage takes for one chunk."""
    section = ParticlesSection(source="files", files=(str(path),))
    start = time.perf_counter()
    files.run(
        chunk=chunk,
        first=chunk * CHUNK,
        count=CHUNK,
        particles=section,
        min_cluster_fraction=0.95,
        manifest=folder / manifest_name(chunk),
    )
    return time.perf_counter() - start


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="N")
    arguments = parser.parse_args()
    kept, figures = reference_frames(), {}
    for count in arguments.frames:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "own.extxyz.gz")
            with gzip.open(path, "wb", compresslevel=1) as handle:
                handle.writelines(itertools.islice(itertools.cycle(kept), count))
            against = f"{CHUNK} particles of {count} frames, {path.stat().st_size / 1e6:.0f} MB compressed"
            chunks = (0, *range(count // CHUNK - 5, count // CHUNK))
            first_s, *others_s = (chunk_s(Path(name), path, chunk) for chunk in chunks)
            print(f"{count} frames: first chunk {first_s:.1f} s, last ones {others_s}", flush=True)
            figures[f"own_files_first_chunk_s_{count}"] = Figure(first_s, "s", against)
            figures[f"own_files_chunk_s_{count}"] = Figure.median(others_s, "s", against)
    harness.publish("own_files", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
