"""The structures step on described chunks written by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alloyscope import cli
from alloyscope.campaign.particles import planned_particle, split_of, splits_of
from alloyscope.campaign.tables import ORDER_LABELS, described_columns, structure_columns
from alloyscope.config.model import ParticlesSection, SplitsSection
from alloyscope.errors import StoreError
from alloyscope.ids import particle_id
from alloyscope.stages import describe, structures
from alloyscope.store.atomic import checksum
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.tables import read_table, write_table
from alloyscope.structure.descriptors import DESCRIPTORS
from alloyscope.structure.fingerprint import FINGERPRINT
from alloyscope.structure.settings import LabelsSection

PARTICLES = ParticlesSection(n_atoms=(30, 60))
COLUMNS = described_columns(PARTICLES)
SEED = 7
CAPACITY = 3
PROVENANCE = {"seed": SEED, "sections": {"particles": PARTICLES.model_dump(mode="json")}}


def described(number, failed):
    """A gas quench about which the criteria disagree, or a pair of droplets in which no descriptor exists."""
    planned = planned_particle(number, PARTICLES, SEED)
    row = describe.planned_row(planned) | {
        "particle": number,
        "chunk": number,  # md chunks of one particle
        "valid": not failed,
        "reason": "2 clusters" if failed else None,
        "attempts": 3 if failed else 1,
        "seconds": 2.5,
    }
    if failed:
        return row
    belt = {"seen_first": 0.6, "sidedness": 0.1, "warren_cowley_bond_ends": 0.5}
    found = {"eta": 0.7, "d_com_over_Rg": 0.6, **belt} if planned.protocol == "gas_quench" else {}
    return row | dict.fromkeys(DESCRIPTORS, np.nan) | found | {"temperature_K": 300.0}


def write_chunk(folder, chunk, count=CAPACITY, failed=(), first=None):
    first = chunk * CAPACITY if first is None else first
    numbers = range(first, first + count)
    path = folder / manifest_name(chunk)
    table = pd.DataFrame([described(n, n in failed) for n in numbers]).reindex(columns=list(COLUMNS))
    write_table(path.with_suffix(".parquet"), table, COLUMNS)
    slots = tuple(Slot(n, n not in failed, "2 clusters" if n in failed else None) for n in numbers)
    files = {path.with_suffix(".parquet").name: checksum(path.with_suffix(".parquet"))}
    Manifest("describe", chunk, "d" * 16, slots, files, {}, PROVENANCE).write(path)


def change(folder, chunk, **changed):
    path = folder / manifest_name(chunk)
    replace(Manifest.read(path), **changed).write(path)


@pytest.fixture
def folder(tmp_path):
    write_chunk(tmp_path, 0, failed=[1])
    write_chunk(tmp_path, 1)
    return tmp_path


def run(folder, **changed):
    inputs = {
        "descriptors": folder,
        "n_chunks": 2,
        "capacity": CAPACITY,
        "seed": SEED,
        "particles": PARTICLES,
        "splits": SplitsSection(),
        "labels": LabelsSection(),
        "out": folder / "structures.parquet",
    }
    structures.run(**{**inputs, **changed})
    return read_table(folder / "structures.parquet")


def test_one_row_per_planned_particle(folder):
    table = run(folder)
    assert list(table.columns) == list(structure_columns(PARTICLES))
    assert table["particle"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table["particle_id"].tolist() == [particle_id(n) for n in range(6)]
    assert table["split"].tolist() == [split_of(n, SplitsSection(), SEED) for n in range(6)]
    chunks = [read_table(folder / f"chunk-00000{n}.parquet") for n in range(2)]
    pd.testing.assert_frame_equal(table[list(COLUMNS)], pd.concat(chunks, ignore_index=True))


def test_splits_of_many_are_the_splits_of_each():
    numbers = np.random.default_rng(1).permutation(100)
    splits = SplitsSection(train=0.5, validation=0.2, calibration=0.0, test=0.3)
    assert splits_of(numbers, splits, SEED) == [split_of(n, splits, SEED) for n in numbers.tolist()]


def test_particles_of_molecular_dynamics_are_groups_of_their_own(folder):
    """Even if they were alike; the gate says so."""
    assert run(folder)["group"].tolist() == list(range(6))


OWN = ParticlesSection(source="files", files=("own.extxyz",))
KINDS = [0, 1, 1, 0, 2, 0, 1, 3, 0, 1, 2, 3]  # the structure that each frame copies


def write_own(folder, names=(), failed=(), kinds=KINDS):
    """Frames of a user's file: copies of a few structures, some with the name of a group."""
    fingerprints = np.random.default_rng(0).normal(size=(10, len(FINGERPRINT)))
    columns = described_columns(OWN)
    for chunk in range(len(kinds) // CAPACITY):
        rows = []
        for number in range(chunk * CAPACITY, (chunk + 1) * CAPACITY):
            row = {"particle": number, "chunk": chunk, "valid": number not in failed, "attempts": 1}
            row |= describe.unmade_row(number, OWN.species)
            if number not in failed:
                row |= {"n_first": 30, "n_second": 25, "group_in_file": dict(names).get(number)}
                row |= dict(zip(FINGERPRINT, fingerprints[kinds[number]], strict=True))
            rows.append(row)
        path = folder / manifest_name(chunk)
        write_table(path.with_suffix(".parquet"), pd.DataFrame(rows).reindex(columns=list(columns)), columns)
        files = {path.with_suffix(".parquet").name: checksum(path.with_suffix(".parquet"))}
        slots = tuple(Slot(row["particle"], row["valid"]) for row in rows)
        provenance = {"seed": SEED, "sections": {"particles": OWN.model_dump(mode="json")}}
        Manifest("describe", chunk, "d" * 16, slots, files, {}, provenance).write(path)


def test_copies_share_the_split_of_the_first(tmp_path):
    write_own(tmp_path)
    table = run(tmp_path, n_chunks=4, particles=OWN)
    assert table["group"].tolist() == [0, 1, 1, 0, 4, 0, 1, 7, 0, 1, 4, 7]
    assert table["split"].tolist() == [split_of(n, SplitsSection(), SEED) for n in table["group"]]
    assert table.groupby("group")["split"].nunique().eq(1).all()


def test_a_larger_campaign_changes_no_earlier_split(tmp_path):
    write_own(tmp_path)
    whole = run(tmp_path, n_chunks=4, particles=OWN)
    for chunks in (1, 2, 3):
        part = run(tmp_path, n_chunks=chunks, particles=OWN)
        pd.testing.assert_frame_equal(part[["group", "split"]], whole[["group", "split"]][: len(part)])


def test_names_in_the_file_make_groups(tmp_path):
    write_own(tmp_path, names={0: "a", 4: "b", 7: "b", 5: "c"}, failed=[1])
    groups = run(tmp_path, n_chunks=4, particles=OWN)["group"].tolist()
    # 7 is named like 4, and 11 is a copy of it; 1 has failed, so 2 is the first of its kind
    assert groups == [0, 1, 2, 0, 4, 0, 2, 4, 0, 2, 4, 4]


def test_a_campaign_of_copies_says_which_splits_are_empty(tmp_path, capsys):
    write_own(tmp_path, kinds=[5] * 12)
    table = run(tmp_path, n_chunks=4, particles=OWN)
    (only,) = set(table["split"])
    empty = [name for name in ("train", "validation", "calibration", "test") if name != only]
    message = f"no particle is in the splits {', '.join(empty)}: the 12 valid particles form 1 groups of related"
    assert message in capsys.readouterr().err
    account = json.loads((tmp_path / "structures.json").read_text())
    assert account["splits"][only] == {"particles": 12, "groups": 1}
    assert account["splits"][empty[0]] == {"particles": 0, "groups": 0}


@pytest.mark.parametrize(
    ("ordering", "label"),
    [("d_com", "janus"), ("eta", "core_shell"), ("protocol", "core_shell"), ("enclosure", "other")],
)
def test_labels_of_a_gas_quench(folder, ordering, label):
    table = run(folder, labels=LabelsSection(ordering=ordering))
    quenched = table[table["valid"] & (table["protocol"] == "gas_quench")]
    assert len(quenched) > 0
    assert set(quenched["order_protocol"]) == {"core_shell"}
    assert set(quenched["order_eta"]) == {"core_shell"}
    assert set(quenched["order_d_com"]) == {"janus"}
    assert set(quenched["order_enclosure"]) == {"other"}
    assert set(quenched["ordering"]) == {label}


def test_limit_of_the_label(folder):
    labels = LabelsSection(ordering="d_com", d_com_over_Rg_limit=0.61)
    quenched = run(folder, labels=labels).query("valid and protocol == 'gas_quench'")
    assert set(quenched["order_d_com"]) == set(quenched["ordering"]) == {"core_shell"}


def test_a_particle_without_descriptors_has_only_the_protocols_label(folder):
    pairs = run(folder).query("valid and protocol == 'droplets'")
    assert set(pairs["order_protocol"]) == {"janus"}
    assert pairs[["order_eta", "order_d_com", "order_enclosure", "ordering"]].isna().all(axis=None)


def test_failed_particle_keeps_row_plan_and_reason(folder):
    row = run(folder, labels=LabelsSection(ordering="protocol")).loc[1]
    assert not row["valid"]
    assert (row["reason"], row["attempts"]) == ("2 clusters", 3)
    assert row["n_atoms"] == planned_particle(1, PARTICLES, SEED).n_atoms
    assert row["split"] == split_of(1, SplitsSection(), SEED)
    assert row[[*ORDER_LABELS, *DESCRIPTORS, "temperature_K"]].isna().all()


def test_account_beside_the_table(folder):
    run(folder)
    account = json.loads((folder / "structures.json").read_text())
    assert (account["chunks"], account["particles"], account["valid"]) == (2, 6, 5)
    assert account["failures"] == {"2 clusters": 1}
    assert account["provenance"]["stage"] == "structures"


def test_every_chunk_asked_for_must_be_finished(folder):
    write_chunk(folder, 3)
    with pytest.raises(StoreError, match="3 of 5 chunks are finished, all are needed; missing manifests: 000002, 00"):
        run(folder, n_chunks=5)


def test_last_chunk_may_be_partly_filled(folder):
    write_chunk(folder, 2, count=1)
    assert run(folder, n_chunks=3)["particle"].tolist() == list(range(7))


def test_a_hole_is_refused(folder):
    write_chunk(folder, 0, count=2)
    with pytest.raises(
        StoreError, match=r"no row for particle 2, but rows for later .*; delete .*chunk-000000\.json and run"
    ):
        run(folder)


def test_a_chunk_in_which_all_failed(tmp_path):
    write_chunk(tmp_path, 0, failed=[0, 1, 2])
    assert not run(tmp_path, n_chunks=1)["valid"].any()


def test_flipped_byte_is_refused_by_name(folder):
    path = folder / "chunk-000001.parquet"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"chunk-000001.parquet: damaged"):
        run(folder)
    assert not (folder / "structures.parquet").exists()


def test_chunk_of_other_particles_is_refused(folder):
    write_chunk(folder, 1, first=4)
    with pytest.raises(StoreError, match=r"must hold the 3 particles of its manifest in order, 3 at most, from 3 on"):
        run(folder)


@pytest.mark.parametrize(
    "slots",
    [
        (Slot(3, True), Slot(4, True)),
        (Slot(3, True), Slot(4, True), Slot(5, False)),
        (Slot(3, True), Slot(5, True), Slot(4, True)),
        (Slot(3, True), Slot(4, True), Slot(5, True), Slot(6, True)),
        (),
    ],
)
def test_slots_that_the_table_does_not_hold_are_refused(folder, slots):
    change(folder, 1, slots=slots)
    with pytest.raises(
        StoreError, match=rf"must hold the {len(slots)} particles of its manifest .* holds 3 rows; delete"
    ):
        run(folder)


def test_table_that_the_manifest_does_not_list_is_refused(folder):
    change(folder, 1, files={})
    with pytest.raises(StoreError, match=r"chunk-000001.json: must list"):
        run(folder)


def test_table_of_other_columns_is_refused(folder):
    path = folder / "chunk-000001.parquet"
    read_table(path).drop(columns="cna_fcc").to_parquet(path)
    change(folder, 1, files={path.name: checksum(path)})
    with pytest.raises(
        StoreError,
        match=r"must have the columns of its stage; cna_fcc differ; delete .*chunk-000001.json",
    ):
        run(folder)


def test_chunks_of_different_settings_are_not_mixed(folder):
    change(folder, 1, settings="another")
    with pytest.raises(StoreError, match=r"1 of 2 chunks were made with other settings than the rest: chunk-00000\d"):
        run(folder)


@pytest.mark.parametrize(
    ("changed", "which"),
    [
        ({"seed": SEED + 1}, "seed"),
        ({"particles": ParticlesSection()}, "section particles"),
        ({"seed": SEED + 1, "particles": ParticlesSection()}, "seed and section particles"),
    ],
)
def test_chunk_of_another_plan_is_refused(folder, changed, which):
    with pytest.raises(
        StoreError, match=rf"chunk-000000.parquet: belongs to another plan, made for another {which}; delete .* again"
    ):
        run(folder, **changed)


def test_command_line(folder):
    words = f"structures --descriptors {folder} --chunks 2 --capacity {CAPACITY} --seed {SEED}".split()
    words += ["--particles", PARTICLES.as_json(), "--splits", "{}", "--labels", '{"ordering":"protocol"}']
    assert cli.main([*words, "--out", str(folder / "structures.parquet")]) == 0
    table = read_table(folder / "structures.parquet")
    assert (table["ordering"] == table["order_protocol"])[table["valid"]].all()


def test_command_line_says_what_is_missing(tmp_path, capsys):
    words = f"structures --descriptors {tmp_path} --chunks 2 --capacity 3 --seed 1 --out {tmp_path / 'x.parquet'}"
    sections = ["--particles", "{}", "--splits", "{}", "--labels", "{}"]
    assert cli.main([*words.split(), *sections]) == 2
    assert "0 of 2 chunks are finished, all are needed" in capsys.readouterr().err
