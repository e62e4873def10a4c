"""The describe step on md chunks written by hand, relaxed by LAMMPS."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alloyscope import cli
from alloyscope.campaign.particles import planned_particle
from alloyscope.campaign.tables import described_columns
from alloyscope.config.model import MdSection, ParticlesSection
from alloyscope.contracts import Structure
from alloyscope.errors import ConfigError, SimulationError, StoreError
from alloyscope.ids import chunk_name
from alloyscope.md.simulation import simulation
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.stages import describe
from alloyscope.store.atomic import checksum, write_text
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.structures import read_structures, to_text
from alloyscope.store.tables import read_table
from alloyscope.structure import neighbours
from alloyscope.structure.descriptors import DESCRIPTORS, RELAXED
from alloyscope.structure.fingerprint import FINGERPRINT, fingerprint

PARTICLES = ParticlesSection(n_atoms=(30, 60))
MD = MdSection()
SEED = 7
CAPACITY = 6


def snapshot(planned, number):
    """The planned atoms on a cubic lattice, the first species below the second."""
    cells = np.indices((4, 4, 4)).reshape(3, -1).T[: planned.n_atoms] * 2.6
    info = {
        "particle": planned.number,
        "protocol": planned.protocol,
        "snapshot": number,
        "n_atoms": planned.n_atoms,
        "potential_energy_eV": -2.0 * planned.n_atoms - number,
        "temperature_K": 300.0,
    }
    return Structure(planned.elements, cells + 0.05 * number, info)


def write_md_chunk(folder, chunk, numbers, failed=()):
    valid = [number for number in numbers if number not in failed]
    frames = [snapshot(planned_particle(n, PARTICLES, SEED), number) for n in valid for number in (0, 1)]
    path = folder / f"chunk-{chunk_name(chunk)}.extxyz"
    write_text(path, to_text(frames) if frames else "")
    slots = tuple(
        Slot(n, n not in failed, "2 clusters" if n in failed else None, 3 if n in failed else 1, 2.5) for n in numbers
    )
    manifest = Manifest("md", chunk, "d" * 16, slots, {path.name: checksum(path)}, {"particles": len(valid)}, {})
    manifest.write(folder / manifest_name(chunk))


@pytest.fixture(scope="session")
def potential(tmp_path_factory):
    path = tmp_path_factory.mktemp("potential") / "AgCo.eam.fs"
    path.write_text(setfl(parameter_set("AgCo"), PotentialSection()))
    return path


@pytest.fixture
def folder(tmp_path):
    write_md_chunk(tmp_path / "structures", 0, [0, 1, 2], failed=[1])
    write_md_chunk(tmp_path / "structures", 1, [3, 4, 5])
    return tmp_path


def run(folder, potential, **changed):
    inputs = {
        "chunk": 0,
        "md_chunks": (0, 1),
        "structures": folder / "structures",
        "capacity": CAPACITY,
        "seed": SEED,
        "particles": PARTICLES,
        "md": MD,
        "potential_set": "AgCo",
        "potential": potential,
        "manifest": folder / "descriptors" / "chunk-000000.json",
    }
    describe.run(**{**inputs, **changed})
    return read_table((inputs | changed)["manifest"].with_suffix(".parquet"))


def test_one_row_per_planned_particle(folder, potential):
    table = run(folder, potential)
    assert list(table.columns) == list(described_columns(PARTICLES))
    assert table["particle"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table["chunk"].tolist() == [0, 0, 0, 1, 1, 1]  # of md
    assert table["particle_id"][3] == "p0000003"
    planned = planned_particle(4, PARTICLES, SEED)
    assert tuple(table.loc[4, ["n_first", "n_second"]]) == planned.counts
    assert table["fraction_first"][4] == planned.counts[0] / planned.n_atoms


def test_failed_particle_keeps_row_plan_and_reason(folder, potential):
    row = run(folder, potential).loc[1]
    assert not row["valid"]
    assert row["reason"] == "2 clusters"
    assert row["attempts"] == 3
    assert row["n_atoms"] == planned_particle(1, PARTICLES, SEED).n_atoms
    assert row["cool_ps"] > 0
    assert row[[*DESCRIPTORS, *RELAXED, *FINGERPRINT, "potential_energy_eV", "temperature_K"]].isna().all()


def test_manifest_accounts_for_every_particle(folder, potential):
    run(folder, potential)
    manifest = Manifest.read(folder / "descriptors" / "chunk-000000.json")
    assert [(slot.particle, slot.valid, slot.reason) for slot in manifest.slots] == [
        (n, n != 1, "2 clusters" if n == 1 else None) for n in range(6)
    ]
    assert manifest.counts == {"particles": 6, "valid": 5}
    assert list(manifest.files) == ["chunk-000000.parquet"]
    manifest.verify(folder / "descriptors")


def test_descriptors_come_from_the_last_snapshot(folder, potential):
    table = run(folder, potential)
    assert table["potential_energy_eV"][0] == -2.0 * table["n_atoms"][0] - 1
    assert (table["d_com_over_Rg"].drop(1) > 0.5).all()  # one species below the other


def test_fingerprint_is_that_of_the_last_snapshot(folder, potential):
    table = run(folder, potential)
    for number in (0, 4):
        expected = fingerprint(snapshot(planned_particle(number, PARTICLES, SEED), 1), PARTICLES.species)
        assert table.loc[number, list(FINGERPRINT)].tolist() == pytest.approx(list(expected.values()), abs=1e-5)
    assert table["group_in_file"].isna().all()


def test_times_are_those_that_md_runs(folder, potential):
    """Durations of the segments that LAMMPS is given: before, at and after the one that waits for a single cluster."""
    table = run(folder, potential)
    assert set(table["protocol"]) == {"gas_quench", "droplets"}
    for row in table.to_dict("records"):
        planned = planned_particle(row["particle"], PARTICLES, SEED)
        segments = simulation(planned, MD, parameter_set("AgCo"), potential, SEED, 0).segments
        waits = next(place for place, segment in enumerate(segments) if segment.max_repeats)
        condensing, cooling = (
            sum(segment.duration_ps for segment in part if segment.start_K > segment.stop_K)
            for part in (segments[:waits], segments[waits + 1 :])
        )
        quenched = row["protocol"] == "gas_quench"
        expected = [condensing if quenched else np.nan, np.nan if quenched else segments[waits].duration_ps, cooling]
        assert [row[name] for name in ("condense_ps", "contact_ps", "cool_ps")] == pytest.approx(expected, nan_ok=True)


def test_every_atom_has_a_class(folder, potential):
    """A slab of at most four by four by four atoms: most lie at its surface, and it is no minimum."""
    table = run(folder, potential).drop(1)
    shares = table[[f"cna_{name}" for name in neighbours.CLASSES]]
    assert shares.sum(axis=1).tolist() == pytest.approx([1.0] * 5)
    assert (shares["cna_surface"] > 0.5).all()
    assert (table["inherent_energy_eV"] < table["potential_energy_eV"]).all()


def test_rows_depend_neither_on_the_chunk_nor_on_earlier_particles(folder, potential):
    together = run(folder, potential)
    (folder / "descriptors" / "chunk-000000.json").unlink()
    alone = run(folder, potential, md_chunks=(1,), chunk=1, capacity=3)
    pd.testing.assert_frame_equal(alone, together[3:].reset_index(drop=True))


def test_the_same_bytes_again(folder, potential):
    path = folder / "descriptors" / "chunk-000000.parquet"
    run(folder, potential)
    before = path.read_bytes()
    run(folder, potential)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "equal"),
    [({}, True), ({"md": MdSection(thermalise_ps=3)}, False), ({"capacity": 8}, False)],
)
def test_settings_tell_chunks_apart(folder, potential, changed, equal):
    found = []
    for settings in ({}, changed):
        run(folder, potential, **settings)
        found.append(Manifest.read(folder / "descriptors" / "chunk-000000.json"))
    assert (found[0].settings == found[1].settings) == equal
    assert (found[0].digest == found[1].digest) == equal


def test_a_chunk_in_which_all_failed(tmp_path, potential):
    write_md_chunk(tmp_path / "structures", 0, [0, 1], failed=[0, 1])
    assert not run(tmp_path, potential, md_chunks=(0,))["valid"].any()


def test_flipped_byte_is_refused_by_name(folder, potential):
    path = folder / "structures" / "chunk-000001.extxyz"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"chunk-000001.extxyz: damaged"):
        run(folder, potential)
    assert not (folder / "descriptors").exists()


def test_missing_md_chunk_is_named(folder, potential):
    (folder / "structures" / manifest_name(1)).unlink()
    with pytest.raises(StoreError, match=r"chunk-000001.json: cannot be read"):
        run(folder, potential)


def test_missing_particle_is_refused(folder, potential):
    path = folder / "structures" / manifest_name(1)
    manifest = Manifest.read(path)
    replace(manifest, slots=(*manifest.slots, Slot(6, True))).write(path)
    with pytest.raises(StoreError, match="must hold the 4 valid particles of its manifest in order; holds 3"):
        run(folder, potential, capacity=7)


@pytest.mark.parametrize(
    ("changed", "first"),
    [({"chunk": 1}, 6), ({"md_chunks": (1,)}, 0), ({"md_chunks": (1, 0)}, 0), ({"capacity": 5}, 0)],
)
def test_other_particles_are_refused(folder, potential, changed, first):
    with pytest.raises(
        StoreError, match=rf"imaging chunk \d+ needs the particles from {first} on, \d at most, in order"
    ):
        run(folder, potential, **changed)


def test_md_chunks_of_different_settings_are_not_mixed(folder, potential):
    path = folder / "structures" / manifest_name(1)
    replace(Manifest.read(path), settings="another").write(path)
    with pytest.raises(StoreError, match=r"1 of 2 chunks were made with other settings than the rest: chunk-00000\d"):
        run(folder, potential)


def test_structure_of_another_plan_is_refused(folder, potential):
    with pytest.raises(StoreError, match=r"particle 0 must be .* as planned, or fewer atoms; got .* another plan"):
        run(folder, potential, seed=SEED + 1)


def test_evaporated_atoms_change_the_counts_not_the_plan(folder, potential):
    path = folder / "structures" / "chunk-000000.extxyz"
    frames = read_structures(path)
    last = frames[1]  # the second snapshot of particle 0
    gone = replace(last, elements=last.elements[1:], positions_A=last.positions_A[1:])
    path.write_text(to_text([frames[0], gone, *frames[2:]]))
    manifest = folder / "structures" / manifest_name(0)
    replace(Manifest.read(manifest), files={path.name: checksum(path)}).write(manifest)
    row = run(folder, potential).iloc[0]
    kept = [gone.elements.count(symbol) for symbol in (row["species_first"], row["species_second"])]
    assert [row["n_first"], row["n_second"]] == kept
    assert row["n_atoms"] == len(last.elements) - 1
    assert row["fraction_first"] == kept[0] / sum(kept)


def test_lammps_error_names_the_particle(folder, potential, tmp_path):
    cut = tmp_path / "AgCo.eam.fs"
    cut.write_bytes(potential.read_bytes()[:100_000])
    with pytest.raises(
        SimulationError, match=r"p0000000 cannot be relaxed with .*AgCo\.eam\.fs \(.*ERROR.*\); check LAMMPS"
    ):
        run(folder, cut)
    assert not (folder / "descriptors").exists()


def test_particle_that_does_not_relax_has_no_classes(folder, potential, monkeypatch, capsys):
    monkeypatch.setattr(neighbours, "RESIDUAL_eV_per_A", 0.0)
    table = run(folder, potential)
    assert table["valid"].sum() == 5
    assert table[list(RELAXED)].isna().all(axis=None)
    assert "p0000000: not relaxed, " in capsys.readouterr().err


def test_species_without_parameters_are_refused(folder, potential):
    with pytest.raises(ConfigError, match="Au, Cu not in --potential-set AgCo; it has Ag, Co"):
        run(folder, potential, particles=ParticlesSection(species=("Au", "Cu")))


def test_command_line(folder, potential):
    table = run(folder, potential)
    words = f"describe --chunk 0 --md-chunks 0 1 --structures {folder / 'structures'} --capacity {CAPACITY}".split()
    words += ["--seed", str(SEED), "--particles", PARTICLES.as_json(), "--md", "{}"]
    words += ["--potential-set", "AgCo", "--potential", str(potential)]
    assert cli.main([*words, "--manifest", str(folder / "again" / "chunk-000000.json")]) == 0
    pd.testing.assert_frame_equal(read_table(folder / "again" / "chunk-000000.parquet"), table)
