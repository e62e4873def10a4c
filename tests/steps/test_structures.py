"""The structures step on chunks written by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alloyscope import cli, plan
from alloyscope.config import LabelsSection, ParticlesSection, SplitsSection
from alloyscope.contracts import Structure
from alloyscope.errors import StoreError
from alloyscope.ids import chunk_name
from alloyscope.steps import structures
from alloyscope.store.atomic import checksum, write_text
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import read_structures, to_text
from alloyscope.store.tables import read_table

PARTICLES = ParticlesSection(n_atoms=(30, 60))
SEED = 7


def snapshot(planned, number):
    """The planned atoms on a cubic lattice, the first species below the second."""
    cells = np.indices((4, 4, 4)).reshape(3, -1).T[: planned.n_atoms] * 2.6
    info = {
        "particle": planned.number,
        "protocol": planned.protocol,
        "snapshot": number,
        "n_atoms": planned.n_atoms,
        "potential_energy_eV": -3.0 * planned.n_atoms - number,
        "temperature_K": 300.0,
    }
    return Structure(planned.elements, cells + 0.05 * number, info)


def write_chunk(folder, chunk, numbers, failed=()):
    valid = [number for number in numbers if number not in failed]
    frames = [snapshot(plan.particle(n, PARTICLES, SEED), number) for n in valid for number in (0, 1)]
    path = folder / f"chunk-{chunk_name(chunk)}.extxyz"
    write_text(path, to_text(frames) if frames else "")
    slots = tuple(
        Slot(n, n not in failed, "2 clusters" if n in failed else None, 3 if n in failed else 1, 2.5) for n in numbers
    )
    manifest = Manifest("md", chunk, "d" * 16, slots, {path.name: checksum(path)}, {"particles": len(valid)}, {})
    manifest.write(folder / manifest_name(chunk))
    return manifest


@pytest.fixture
def folder(tmp_path):
    write_chunk(tmp_path, 0, [0, 1, 2], failed=[1])
    write_chunk(tmp_path, 1, [3, 4, 5])
    return tmp_path


def run(folder, n_chunks=2, min_chunks=None):
    structures.run(
        structures=folder,
        n_chunks=n_chunks,
        min_chunks=min_chunks,
        seed=SEED,
        particles=PARTICLES,
        splits=SplitsSection(),
        labels=LabelsSection(),
        out=folder / "structures.parquet",
    )
    return pd.read_parquet(folder / "structures.parquet")


def test_one_row_per_planned_particle(folder):
    table = run(folder)
    assert list(table.columns) == list(structures.COLUMNS)
    assert table["particle"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table["chunk"].tolist() == [0, 0, 0, 1, 1, 1]
    assert table["particle_id"][3] == "p0000003"
    planned = plan.particle(4, PARTICLES, SEED)
    assert tuple(table.loc[4, ["n_first", "n_second"]]) == planned.counts
    assert table["fraction_first"][4] == planned.counts[0] / planned.n_atoms
    assert table["split"][4] == plan.split_of(4, SplitsSection(), SEED)


def test_failed_particle_keeps_row_plan_and_reason(folder):
    row = run(folder).loc[1]
    assert not row["valid"]
    assert row["reason"] == "2 clusters"
    assert row["attempts"] == 3
    assert row["n_atoms"] == plan.particle(1, PARTICLES, SEED).n_atoms
    assert row[[*structures.DESCRIPTORS, "ordering", "order_eta", "temperature_K"]].isna().all()


def test_descriptors_come_from_the_last_snapshot(folder):
    table = run(folder)
    assert table["potential_energy_eV"][0] == -3.0 * table["n_atoms"][0] - 1
    assert table["ordering"][[0, 2, 3]].tolist() == ["janus"] * 3


def test_account_beside_the_table(folder):
    run(folder)
    account = json.loads((folder / "structures.json").read_text())
    assert (account["chunks"], account["particles"], account["valid"]) == (2, 6, 5)
    assert account["failures"] == {"2 clusters": 1}
    assert account["provenance"]["stage"] == "structures"


def test_min_chunks_takes_what_is_finished(folder):
    write_chunk(folder, 3, [9, 10, 11])
    with pytest.raises(StoreError, match="3 of 5 chunks are finished, 5 are needed; missing manifests: 000002, 000004"):
        run(folder, n_chunks=5)
    assert run(folder, n_chunks=5, min_chunks=2)["particle"].tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11]


def test_a_chunk_in_which_all_failed(tmp_path):
    write_chunk(tmp_path, 0, [0, 1], failed=[0, 1])
    assert not run(tmp_path, n_chunks=1)["valid"].any()


def test_flipped_byte_is_refused_by_name(folder):
    path = folder / "chunk-000001.extxyz"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"chunk-000001.extxyz: damaged"):
        run(folder)
    assert not (folder / "structures.parquet").exists()


def test_missing_particle_is_refused(folder):
    path = folder / manifest_name(1)
    manifest = Manifest.read(path)
    replace(manifest, slots=(*manifest.slots, Slot(6, True))).write(path)
    with pytest.raises(StoreError, match="must hold the 4 valid particles of its manifest in order; holds 3"):
        run(folder)


def test_evaporated_atoms_change_the_counts_not_the_plan(folder):
    path = folder / "chunk-000000.extxyz"
    frames = read_structures(path)
    last = frames[1]  # the second snapshot of particle 0
    gone = replace(last, elements=last.elements[1:], positions_A=last.positions_A[1:])
    path.write_text(to_text([frames[0], gone, *frames[2:]]))
    manifest = Manifest.read(folder / manifest_name(0))
    replace(manifest, files={path.name: checksum(path)}).write(folder / manifest_name(0))
    run(folder)
    row = read_table(folder / "structures.parquet").iloc[0]
    kept = [gone.elements.count(symbol) for symbol in (row["species_first"], row["species_second"])]
    assert [row["n_first"], row["n_second"]] == kept
    assert row["n_atoms"] == len(last.elements) - 1
    assert row["fraction_first"] == kept[0] / sum(kept)


def test_chunks_of_different_settings_are_not_mixed(folder):
    path = folder / manifest_name(1)
    replace(Manifest.read(path), settings="another").write(path)
    with pytest.raises(StoreError, match=r"1 of 2 chunks were made with other settings than the rest: chunk-00000\d"):
        run(folder)


def test_structure_of_another_plan_is_refused(folder):
    with pytest.raises(
        StoreError, match=r"particle 0 must be .* as planned, less what evaporated; holds .* another plan"
    ):
        structures.run(
            structures=folder,
            n_chunks=2,
            min_chunks=None,
            seed=SEED + 1,
            particles=PARTICLES,
            splits=SplitsSection(),
            labels=LabelsSection(),
            out=folder / "structures.parquet",
        )


def test_command_line(folder):
    words = f"structures --structures {folder} --chunks 2 --seed {SEED} --out {folder / 'structures.parquet'}".split()
    assert cli.main([*words, "--particles", PARTICLES.as_json(), "--labels", '{"ordering":"protocol"}']) == 0
    table = pd.read_parquet(folder / "structures.parquet")
    assert (table["ordering"] == table["order_protocol"])[table["valid"]].all()


def test_command_line_says_what_is_missing(tmp_path, capsys):
    words = f"structures --structures {tmp_path} --chunks 2 --seed 1 --out {tmp_path / 'structures.parquet'}".split()
    assert cli.main(words) == 2
    assert "0 of 2 chunks are finished, 2 are needed" in capsys.readouterr().err
