"""Structures of the user's own in place of md."""

import bz2
import gzip
import lzma
import math
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.cluster import Icosahedron

from alloyscope.config.model import MdSection, ParticlesSection
from alloyscope.errors import ConfigError, SimulationError, StoreError
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.stages import describe
from alloyscope.stages import files as step
from alloyscope.store import frames
from alloyscope.store.manifests import Manifest
from alloyscope.store.structures import by_particle, read_structures
from alloyscope.store.tables import read_table


def icosahedron(n_co: int = 13) -> Atoms:
    """Co in the middle of 55 atoms, as another program would write it: anywhere in space."""
    atoms = Icosahedron("Ag", 3, latticeconstant=4.0)
    inside = np.argsort(np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1))
    atoms.symbols[inside[:n_co]] = "Co"
    atoms.positions += [100.0, -50.0, 20.0]
    return Atoms(atoms.get_chemical_symbols(), atoms.positions)


def take(folder: Path, files: list[Path | str], count: int, first: int = 0) -> Manifest:
    manifest = folder / "chunk-000000.json"
    step.run(
        chunk=0,
        first=first,
        count=count,
        particles=ParticlesSection(source="files", files=tuple(map(str, files))),
        min_cluster_fraction=0.95,
        manifest=manifest,
    )
    return Manifest.read(manifest)


def numbers_of_co(path: Path, folder: Path, first: int = 0) -> list[tuple[str, int]]:
    found = frames.frames([frames.FramesFile.of(path, folder)], first)
    return [(origin, atoms.get_chemical_symbols().count("Co")) for origin, atoms in found]


@pytest.mark.parametrize("packing", [None, gzip, bz2, lzma])
def test_a_file_is_gone_through_once_whatever_frames_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: ModuleType | None
):
    """ASE goes back in the file for each frame, and a compressed file starts anew each time."""
    path = tmp_path / f"all.extxyz{ {gzip: '.gz', bz2: '.bz2', lzma: '.xz', None: ''}[packing] }"
    with packing.open(path, "wt") if packing else path.open("w") as handle:
        ase.io.write(handle, [icosahedron(n) for n in (5, 6, 7)], format="extxyz")
    unpacked, searched = Mock(side_effect=frames.open_with_compression), Mock(side_effect=frames.frame_starts)
    monkeypatch.setattr(frames, "open_with_compression", unpacked)
    monkeypatch.setattr(frames, "frame_starts", searched)
    for kind in (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile):
        monkeypatch.setattr(kind, "seek", Mock(side_effect=AssertionError("goes back in a compressed file")))
    for first in (0, 2, 3):
        expected = [(f"{path.name}#{number}", 5 + number) for number in range(first, 3)]
        assert numbers_of_co(path, tmp_path / "known", first) == expected
    assert (unpacked.call_count, searched.call_count) == (int(packing is not None), 1)


def test_a_changed_file_is_gone_through_again(tmp_path: Path):
    path = tmp_path / "own.extxyz"
    ase.io.write(path, [icosahedron(5)])
    assert numbers_of_co(path, tmp_path / "known") == [("own.extxyz#0", 5)]
    ase.io.write(path, [icosahedron(6), icosahedron(7)])
    assert numbers_of_co(path, tmp_path / "known", 1) == [("own.extxyz#1", 7)]


def test_frames_before_the_chunk_are_not_parsed(tmp_path: Path):
    """So the cost of a chunk does not grow with its number."""
    path = tmp_path / "own.extxyz"
    ase.io.write(path, [icosahedron(5), icosahedron(6)])
    path.write_text(path.read_text().replace("Ag", "not an atom", 1))
    assert numbers_of_co(path, tmp_path / "known", 1) == [("own.extxyz#1", 6)]
    with pytest.raises(ConfigError, match=r"own\.extxyz cannot be read"):
        numbers_of_co(path, tmp_path / "known")


def test_a_compressed_file_whose_format_only_its_name_tells_is_read(tmp_path: Path):
    boxed = icosahedron(5)
    boxed.center(vacuum=5.0)
    ase.io.write(tmp_path / "POSCAR", boxed, format="vasp")
    (tmp_path / "POSCAR.gz").write_bytes(gzip.compress((tmp_path / "POSCAR").read_bytes()))
    assert numbers_of_co(tmp_path / "POSCAR.gz", tmp_path / "known") == [("POSCAR.gz#0", 5)]


@pytest.mark.parametrize("damaged", ["own.extxyz", "frames.npz"])
@pytest.mark.parametrize("kept", [0, 10, 200])
def test_what_is_known_of_a_file_is_made_anew_if_it_is_damaged(tmp_path: Path, damaged: str, kept: int):
    with gzip.open(tmp_path / "own.extxyz.gz", "wt") as handle:
        ase.io.write(handle, [icosahedron(n) for n in (5, 6)], format="extxyz")
    expected = numbers_of_co(tmp_path / "own.extxyz.gz", tmp_path / "known")
    (found,) = (tmp_path / "known").glob(f"*/{damaged}")
    found.write_bytes(found.read_bytes()[:kept])
    assert numbers_of_co(tmp_path / "own.extxyz.gz", tmp_path / "known") == expected
    assert [len(list((tmp_path / "known").glob(pattern))) for pattern in ("*", "*/*")] == [1, 2]


def test_a_file_cut_after_its_frames_were_found_is_refused(tmp_path: Path):
    path = tmp_path / "own.extxyz"
    ase.io.write(path, [icosahedron(5), icosahedron(6)])
    file = frames.FramesFile.of(path, tmp_path / "known")
    path.write_text("")
    with pytest.raises(ConfigError, match=r"own\.extxyz cannot be read"):
        list(frames.frames([file], 0))


def test_other_formats_are_read_from_their_beginning(tmp_path: Path):
    ase.io.write(tmp_path / "own.traj", [icosahedron(n) for n in (5, 6, 7)])
    ase.io.write(tmp_path / "then.extxyz", [icosahedron(n) for n in (8, 9)])
    files = [frames.FramesFile.of(tmp_path / name, tmp_path / "known") for name in ("own.traj", "then.extxyz")]
    for first in range(6):
        found = [(origin, atoms.get_chemical_symbols().count("Co")) for origin, atoms in frames.frames(files, first)]
        every = [("own.traj#0", 5), ("own.traj#1", 6), ("own.traj#2", 7), ("then.extxyz#0", 8), ("then.extxyz#1", 9)]
        assert found == every[first:]


@pytest.mark.parametrize("kept", [2, 10, -20])
def test_a_damaged_compressed_file_is_refused(tmp_path: Path, kept: int):
    (tmp_path / "own.extxyz.gz").write_bytes(gzip.compress(b"55\n" + bytes(9999))[:kept])
    with pytest.raises(ConfigError, match=r"own\.extxyz\.gz cannot be read"):
        take(tmp_path / "out", [tmp_path / "own.extxyz.gz"], 1)
    assert not list((tmp_path / "out").glob("chunk*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    ase.io.write(tmp_path / "own.extxyz", icosahedron())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".frames").write_text("in the way")
    with pytest.raises(StoreError, match=r"\.frames.*: cannot be written"):
        take(tmp_path / "out", [tmp_path / "own.extxyz"], 1)


def test_frames_of_all_files_in_order_are_the_particles(tmp_path: Path):
    named = icosahedron()
    named.info = {"protocol": "droplets", "potential_energy_eV": -161.4, "temperature_K": 310.0}
    odd = icosahedron(1)
    odd.info = {"protocol": "$(touch owned)", "energy": -150.5, "temperature_K": "room"}
    ase.io.write(tmp_path / "a.extxyz", [odd, named])
    with gzip.open(tmp_path / "b.extxyz.gz", "wt") as handle:
        ase.io.write(handle, icosahedron(20), format="extxyz")
    ase.io.write(tmp_path / "c.pdb", icosahedron(7))
    manifest = take(tmp_path / "out", [tmp_path / "a.extxyz", tmp_path / "[bc].*"], 4)
    assert manifest.valid_particles == (0, 1, 2, 3)
    found = by_particle(read_structures(tmp_path / "out" / "chunk-000000.extxyz"))
    assert [found[n][0].elements.count("Co") for n in range(4)] == [1, 13, 20, 7]
    assert [found[n][0].info["protocol"] for n in range(4)] == ["file", "droplets", "file", "file"]
    assert [found[n][0].info["origin"] for n in range(4)] == ["a.extxyz#0", "a.extxyz#1", "b.extxyz.gz#0", "c.pdb#0"]
    assert found[1][0].info["potential_energy_eV"] == -161.4
    assert found[0][0].info["potential_energy_eV"] == -150.5
    assert math.isnan(found[0][0].info["temperature_K"])
    for snapshots in found.values():
        assert np.allclose(snapshots[0].positions_A.mean(axis=0), 0, atol=1e-6)
    # a later chunk takes its own range
    later = take(tmp_path / "later", [tmp_path / "a.extxyz", tmp_path / "[bc].*"], 2, first=2)
    assert [slot.particle for slot in later.slots] == [2, 3]


@pytest.mark.parametrize(("written", "kept"), [("run a", "run a"), (7, "7"), (" ", None), (None, None)])
def test_the_group_of_a_frame_is_kept(tmp_path: Path, written: str | int | None, kept: str | None):
    frame = icosahedron()
    frame.info = {} if written is None else {"group": written}
    ase.io.write(tmp_path / "own.extxyz", frame)
    take(tmp_path / "out", [tmp_path / "own.extxyz"], 1)
    (structure,) = read_structures(tmp_path / "out" / "chunk-000000.extxyz")
    assert describe.snapshot_row(structure, ("Ag", "Co")).get("group_in_file") == kept


def test_a_frame_that_is_not_one_particle_keeps_its_slot_with_the_reason(tmp_path: Path):
    apart, foreign, overlapping, broken, loose = (icosahedron() for _ in range(5))
    apart.positions[:20] += 30.0
    foreign.symbols[0] = "Au"
    overlapping.positions[5] = overlapping.positions[6] + 0.3
    broken.positions[3, 1] = np.nan
    loose.positions[0] -= 40.0  # one atom has evaporated: left out
    small = icosahedron()[:12]
    ase.io.write(tmp_path / "all.extxyz", [apart, foreign, overlapping, broken, small, loose])
    manifest = take(tmp_path / "out", [tmp_path / "all.extxyz"], 6)
    reasons = [slot.reason for slot in manifest.slots]
    assert reasons == [
        "largest cluster holds 64% of the atoms, below 95%",
        "holds Au; particles.species are Ag, Co",
        "two atoms are 0.52 Å apart, closer than 1.5 Å; positions must be in Å",
        "positions are not finite",
        "has 12 atoms, fewer than 13",
        None,
    ]
    (structure,) = read_structures(tmp_path / "out" / "chunk-000000.extxyz")
    assert len(structure.elements) == 54
    assert manifest.counts == {"particles": 6, "valid": 1, "failed": 5}


def test_what_the_files_do_not_say_is_missing_in_the_table(tmp_path: Path):
    table = tmp_path / "AgCo.eam.fs"
    table.write_text(setfl(parameter_set("AgCo"), PotentialSection()))
    far = icosahedron()
    far.positions[:20] += 30.0
    ase.io.write(tmp_path / "own.extxyz", [icosahedron(), far])
    take(tmp_path / "structures", [tmp_path / "own.extxyz"], 2)
    describe.run(
        chunk=0,
        md_chunks=[0],
        structures=tmp_path / "structures",
        capacity=200,
        seed=1,
        particles=ParticlesSection(source="files", files=(str(tmp_path / "own.extxyz"),)),
        md=MdSection(),
        potential_set="AgCo",
        potential=table,
        manifest=tmp_path / "descriptors" / "chunk-000000.json",
    )
    rows = read_table(tmp_path / "descriptors" / "chunk-000000.parquet")
    assert rows["protocol"].tolist() == ["file", "file"]
    assert rows["n_atoms"].tolist() == [55, 0]
    assert rows[["potential_energy_eV", "temperature_K", "cool_ps"]].isna().all(axis=None)
    # relaxed with the campaign's potential: the reference energy of Co13@Ag42
    assert rows.loc[0, "inherent_energy_eV"] == pytest.approx(-161.4398, abs=1e-3)
    assert rows.loc[0, "d_com_over_Rg"] == pytest.approx(0, abs=1e-6)


def test_more_particles_than_frames_are_refused(tmp_path: Path):
    ase.io.write(tmp_path / "one.extxyz", icosahedron())
    with pytest.raises(ConfigError, match=r"1 files hold 1 frames; campaign\.n_particles must be at most that"):
        take(tmp_path / "out", [tmp_path / "one.extxyz"], 2)
    with pytest.raises(ConfigError, match="1 files hold 1 frames"):
        take(tmp_path / "out", [tmp_path / "one.extxyz"], 2, first=150)
    assert not list((tmp_path / "out").glob("chunk*"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.extxyz", None, r"no file fits '.*absent\.extxyz'"),
        ("cut.extxyz", "55\nProperties=species:S:1:pos:R:3\nAg 0 0 0\n", r"cut\.extxyz cannot be read"),
        ("many.extxyz", "9" * 26 + "\n\n", r"many\.extxyz cannot be read .*frame 0 claims 9+ atoms"),
        ("notes.txt", "not a structure\n", r"notes\.txt cannot be read .*must be extended XYZ or another format"),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str, content: str | None, message: str):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        take(tmp_path / "out", [tmp_path / name], 1)
    assert not list((tmp_path / "out").glob("chunk*"))


def test_source_and_files_belong_together():
    with pytest.raises(ValueError, match="files must name structure files with source `files`, and only then"):
        ParticlesSection(source="files")
    with pytest.raises(ValueError, match="files must name structure files with source `files`, and only then"):
        ParticlesSection(files=("x.extxyz",))


def test_manifest_of_another_chunk_is_refused(tmp_path: Path):
    with pytest.raises(SimulationError, match=r"must end in chunk-000002\.json for chunk 2"):
        step.run(
            chunk=2,
            first=0,
            count=1,
            particles=ParticlesSection(source="files", files=("x",)),
            min_cluster_fraction=0.95,
            manifest=tmp_path / "chunk-000000.json",
        )
