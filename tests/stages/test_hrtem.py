"""The hrtem step on small particles: slots, determinism, damage, gates."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alloyscope.cli import main
from alloyscope.contracts import Film
from alloyscope.errors import ConfigError, ContractError, GateError, StoreError
from alloyscope.imaging.factors import projected_factor_VA2
from alloyscope.imaging.hrtem import imager_for
from alloyscope.microscope.optics import Lens
from alloyscope.microscope.settings import FilmSection, OpticsSection
from alloyscope.microscope.waves import WaveBand
from alloyscope.store.atomic import checksum, write_text
from alloyscope.store.images import COUNTS, ShardShape, read_images, shard_name, views_of, write_metadata
from alloyscope.store.manifests import Manifest
from alloyscope.store.structures import film_text, read_structures, to_text
from alloyscope.store.tables import read_table
from tests.stages.synthetic_md import DETECTOR, FAILED, IMAGING, OPTICS, SEED, make_chunk, rotating, write_md_chunk

SHARD = ShardShape(capacity=2, views=2, pixels=32)


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    for chunk in range(2):
        write_md_chunk(tmp_path / "structures", chunk)
    return tmp_path


def shards(campaign: Path, chunk: int) -> list[bytes]:
    return [(campaign / "hrtem" / shard_name(name, chunk)).read_bytes() for name in ("clean", "counts")]


def images(campaign: Path, chunk: int, name: str, shard: ShardShape = SHARD) -> np.ndarray:
    write_metadata(campaign / "hrtem", chunk + 1, shard, {})
    return read_images(campaign / "hrtem", name, chunk * shard.images, (chunk + 1) * shard.images)


def test_chunk_accounts_for_every_particle(campaign: Path) -> None:
    make_chunk(campaign, 0)
    manifest = Manifest.read(campaign / "hrtem" / "chunk-000000.json")
    assert [(slot.particle, slot.valid, slot.reason) for slot in manifest.slots] == [
        (0, True, None),
        (1, False, "two clusters"),
    ]
    assert manifest.counts == {"images": 2, "saturated_pixels": 0, "outside_field": 0, "checked_waves": 0}
    manifest.verify(campaign / "hrtem")
    table = read_table(campaign / "hrtem" / "chunk-000000.parquet")
    assert table["image_id"].tolist() == ["p0000000-v00", "p0000000-v01", "p0000001-v00", "p0000001-v01"]
    assert table["valid"].tolist() == [True, True, False, False]
    assert table["reason"].tolist()[2:] == ["two clusters"] * 2
    assert table["engine"].unique().tolist() == ["batched"]


def test_images_hold_the_particle_at_the_stated_dose(campaign: Path) -> None:
    make_chunk(campaign, 0)
    clean, counts = (images(campaign, 0, name) for name in ("clean", "counts"))
    assert np.isnan(clean[2 * FAILED :]).all()
    assert (counts[2 * FAILED :] == 0).all()
    views = views_of(read_table(campaign / "hrtem" / "chunk-000000.parquet"))
    for view, image, count in zip(views[:2], clean, counts):
        assert 0.97 < image.astype(float).mean() < 1.0  # electrons leave through the aperture only
        assert image.astype(float).std() > 0.01
        electrons = view.dose_e_per_A2 * IMAGING.pixel_size_A**2
        chi2 = np.mean((count - electrons * image.astype(float)) ** 2) / electrons
        assert chi2 == pytest.approx(1.0, abs=6 * np.sqrt(2 / count.size))


def test_drift_and_gains_reach_the_images_and_their_rows(campaign: Path) -> None:
    make_chunk(campaign, 0)
    before, noisy = (images(campaign, 0, name)[:2].astype(float) for name in ("clean", "counts"))
    make_chunk(
        campaign,
        0,
        optics=OPTICS.model_copy(update={"drift_A": (2.0, 3.0)}),
        detector=DETECTOR.model_copy(update={"gain_map_rms": 0.5}),
    )
    clean, counts = (images(campaign, 0, name)[:2].astype(float) for name in ("clean", "counts"))
    assert (clean.std((1, 2)) < 0.95 * before.std((1, 2))).all()
    table = read_table(campaign / "hrtem" / "chunk-000000.parquet")
    assert table["drift_A"].between(2, 3).all()
    assert table["drift_angle_rad"].nunique() == len(table)
    assert table["gain_map_rms"].eq(0.5).all()
    for view, image, count in zip(views_of(table), clean, counts):
        mean = view.dose_e_per_A2 * IMAGING.pixel_size_A**2 * image
        chi2 = np.mean((count - mean) ** 2 / (1.25 * mean + 0.25 * mean**2))
        assert chi2 == pytest.approx(1.0, abs=0.35)
    assert (counts != noisy).any()


def test_the_same_bytes_after_a_crash(campaign: Path) -> None:
    make_chunk(campaign, 0)
    first = shards(campaign, 0)
    table = (campaign / "hrtem" / "chunk-000000.parquet").read_bytes()
    # killed before the manifest: one shard whole, the other not yet moved
    (campaign / "hrtem" / "chunk-000000.json").unlink()
    (campaign / "hrtem" / shard_name(COUNTS, 0)).unlink()
    make_chunk(campaign, 0)
    assert shards(campaign, 0) == first
    assert (campaign / "hrtem" / "chunk-000000.parquet").read_bytes() == table


def test_images_do_not_depend_on_the_chunk_size(campaign: Path) -> None:
    for chunk in range(2):
        make_chunk(campaign, chunk)
    small = np.concatenate([images(campaign, chunk, COUNTS) for chunk in range(2)])
    shutil.rmtree(campaign / "hrtem")
    make_chunk(campaign, 0, md_chunks=(0, 1), capacity=4)
    np.testing.assert_array_equal(images(campaign, 0, COUNTS, ShardShape(4, 2, 32)), small)


def test_digest_follows_the_sections(campaign: Path) -> None:
    digests = []
    for optics in (OPTICS, OpticsSection(defocus_A=10.0), OPTICS):
        make_chunk(campaign, 0, optics=optics)
        digests.append(Manifest.read(campaign / "hrtem" / "chunk-000000.json").digest)
    assert digests[0] == digests[2] != digests[1]


def test_how_a_job_works_is_not_what_its_images_are_made_from(
    campaign: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--device` and `--checked-waves` come from the section `execution`: they change neither digest nor images."""
    found = []
    for options in ({}, {"device": "cpu", "checked_waves": 2}):
        make_chunk(campaign, 0, **options)
        found.append((Manifest.read(campaign / "hrtem" / "chunk-000000.json").digest, shards(campaign, 0)))
    assert found[0] == found[1]
    assert capfd.readouterr().err.count("of the contrast (rms) from abTEM") == 2


def test_chunk_without_a_valid_particle(tmp_path: Path) -> None:
    write_md_chunk(tmp_path / "structures", 0, failed=(0, 1))
    make_chunk(tmp_path, 0, imaging=IMAGING.model_copy(update={"checked_waves": 1}))
    assert np.isnan(images(tmp_path, 0, "clean")).all()
    assert Manifest.read(tmp_path / "hrtem" / "chunk-000000.json").counts["images"] == 0


def test_abtem_as_engine_gives_nearly_the_same_images(campaign: Path) -> None:
    make_chunk(campaign, 0)
    ours = images(campaign, 0, "clean").astype(float)[:2]
    make_chunk(campaign, 0, imaging=IMAGING.model_copy(update={"engine": "abtem"}))
    theirs = images(campaign, 0, "clean").astype(float)[:2]
    assert read_table(campaign / "hrtem" / "chunk-000000.parquet")["engine"].unique().tolist() == ["abtem"]
    assert 0 < np.sqrt(np.mean((ours - theirs) ** 2)) < 0.01


def test_wrong_engine_writes_no_manifest(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "alloyscope.imaging.multislice.projected_factor_VA2", lambda _, k2: projected_factor_VA2("Au", k2)
    )
    with pytest.raises(GateError, match="abTEM on a twice finer grid must change"):
        make_chunk(campaign, 0, imaging=IMAGING.model_copy(update={"checked_waves": 1}))
    assert not (campaign / "hrtem").exists()


def test_damaged_structures_are_named(campaign: Path) -> None:
    path = campaign / "structures" / "chunk-000000.extxyz"
    path.write_text(path.read_text().replace("Ag", "Co", 1))
    with pytest.raises(StoreError, match=r"chunk-000000.extxyz: damaged, its SHA-256 differs"):
        make_chunk(campaign, 0)


def test_missing_md_manifest_is_named(campaign: Path) -> None:
    with pytest.raises(StoreError, match=r"chunk-000002.json: cannot be read"):
        make_chunk(campaign, 2)


def test_md_chunks_of_other_particles_are_refused(campaign: Path) -> None:
    with pytest.raises(StoreError, match=r"imaging chunk 000001 needs the particles from 2 on, 2 at most"):
        make_chunk(campaign, 1, md_chunks=(0,))


def test_valid_particle_without_structure_is_named(campaign: Path) -> None:
    manifest = campaign / "structures" / "chunk-000000.json"
    manifest.write_text(manifest.read_text().replace('"valid": false', '"valid": true'))
    with pytest.raises(
        StoreError, match=r"000000\.extxyz: must hold the 2 valid particles of its manifest .*; holds 1;"
    ):
        make_chunk(campaign, 0)


def test_manifest_that_lists_no_structures_is_refused(campaign: Path) -> None:
    """Without a checksum nothing would tell whether the structures are those that were made."""
    path = campaign / "structures" / "chunk-000000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {}}))
    with pytest.raises(StoreError, match=r"chunk-000000\.json: must list chunk-000000\.extxyz; lists \[\]; delete"):
        make_chunk(campaign, 0)


def test_aperture_beyond_the_grid_is_refused(campaign: Path) -> None:
    with pytest.raises(ConfigError, match=r"must stay below the 57\.7 mrad that imaging.grid 96 carries .*; got 70"):
        make_chunk(campaign, 0, optics=OpticsSection(aperture_mrad=(30.0, 70.0)))


def test_particle_outside_the_field_becomes_a_failed_slot(campaign: Path) -> None:
    write_md_chunk(campaign / "structures", 0, failed=())
    make_chunk(campaign, 0)
    undisturbed = images(campaign, 0, "counts")
    path = campaign / "structures" / "chunk-000000.extxyz"
    structures = read_structures(path)
    structures[0].positions_A[0] += 30.0
    write_text(path, to_text(structures))
    manifest = Manifest.read(campaign / "structures" / "chunk-000000.json")
    replace(manifest, files={path.name: checksum(path)}).write(campaign / "structures" / "chunk-000000.json")
    make_chunk(campaign, 0)
    account = Manifest.read(campaign / "hrtem" / "chunk-000000.json")
    assert [slot.valid for slot in account.slots] == [False, True]
    assert account.slots[0].reason is not None
    assert re.match(r"view 0: \d+ of 13 atoms lie outside the box of 13\.91", account.slots[0].reason)
    assert account.counts["outside_field"] == 1
    table = read_table(campaign / "hrtem" / "chunk-000000.parquet")
    assert table["valid"].tolist() == [False, False, True, True]
    assert table["reason"].tolist()[:2] == [account.slots[0].reason] * 2
    counts = images(campaign, 0, "counts")
    assert (counts[:2] == 0).all()
    np.testing.assert_array_equal(counts[2:], undisturbed[2:])


def test_every_view_averages_its_own_snapshots(tmp_path: Path) -> None:
    write_md_chunk(tmp_path / "structures", 0, snapshots=4)
    make_chunk(tmp_path, 0, imaging=IMAGING.model_copy(update={"snapshots_per_image": 2, "views": 6}))
    shown = read_table(tmp_path / "hrtem" / "chunk-000000.parquet")["snapshots"][:6].tolist()
    assert all(len(set(text.split())) == 2 and set(text.split()) <= set("0123") for text in shown)
    assert len(set(shown)) > 1
    with pytest.raises(StoreError, match=r"p0000000: has 4 snapshots, imaging\.snapshots_per_image asks for 5"):
        make_chunk(tmp_path, 0, imaging=IMAGING.model_copy(update={"snapshots_per_image": 5}))


def test_a_rotating_particle_is_imaged_as_one_that_stands_still(tmp_path: Path) -> None:
    """The files keep what was simulated; its rotation and drift do not reach the image."""
    clean = []
    for motion in (list, rotating):
        write_md_chunk(tmp_path / "structures", 0, snapshots=3, moved=lambda each, motion=motion: motion([each[0]] * 3))
        make_chunk(tmp_path, 0)
        clean.append(images(tmp_path, 0, "clean").astype(float)[:2])
    stored = read_structures(tmp_path / "structures" / "chunk-000000.extxyz")
    assert np.abs(stored[2].positions_A - stored[0].positions_A).max() > 1
    assert np.abs(clean[1] - clean[0]).max() <= 2**-10  # one step of float16 above intensity 1


def write_film(path: Path) -> Path:
    write_text(path, film_text(Film(np.random.default_rng(0).uniform(0, 20, (800, 3)), (20.0, 20.0, 20.0))))
    return path


def test_film_shows_below_its_share_of_the_images_and_leaves_the_others_alone(tmp_path: Path) -> None:
    write_md_chunk(tmp_path / "structures", 0, failed=())
    make_chunk(tmp_path, 0)
    bare = images(tmp_path, 0, "clean").astype(float)
    some = IMAGING.model_copy(update={"film": FilmSection(share=0.5, thickness_A=(10, 20))})
    make_chunk(tmp_path, 0, imaging=some, film=write_film(tmp_path / "carbon.extxyz"))
    shown = images(tmp_path, 0, "clean").astype(float)
    thickness = read_table(tmp_path / "hrtem" / "chunk-000000.parquet")["film_thickness_A"].to_numpy()
    assert 0 < (thickness == 0).sum() < len(thickness)
    np.testing.assert_array_equal(shown[thickness == 0], bare[thickness == 0])
    covered = thickness > 0
    assert ((thickness[covered] >= 10) & (thickness[covered] <= 20)).all()
    assert (np.sqrt(np.mean((shown - bare) ** 2, axis=(1, 2)))[covered] > 0.01).all()
    with pytest.raises(ConfigError, match=r"imaging\.film\.share is 0\.5, but no film is given; add --film"):
        make_chunk(tmp_path, 0, imaging=some)


def test_every_snapshot_reaches_the_image(tmp_path: Path) -> None:
    write_md_chunk(tmp_path / "structures", 0)
    make_chunk(tmp_path, 0)
    one = images(tmp_path, 0, "clean").astype(float)[:2]
    write_md_chunk(tmp_path / "structures", 0, snapshots=3)
    make_chunk(tmp_path, 0)
    three = images(tmp_path, 0, "clean").astype(float)[:2]
    assert np.sqrt(np.mean((three - one) ** 2)) > 1e-3
    assert np.corrcoef(three.ravel(), one.ravel())[0, 1] > 0.8


WAVES = IMAGING.model_copy(update={"store_waves": True})
WAVE_SHARD = ShardShape(capacity=2, views=2, pixels=32, wave_grid=70)  # 13.913 Å in steps of 0.2 Å: 70 points
LENS = Lens(IMAGING.grid, IMAGING.field_A, IMAGING.voltage_kV)


def test_stored_waves_give_the_images_again(campaign: Path) -> None:
    make_chunk(campaign, 0, imaging=WAVES)
    wave, clean = (images(campaign, 0, name, WAVE_SHARD) for name in ("wave", "clean"))
    assert np.isnan(wave[2 * FAILED :]).all()
    views = views_of(read_table(campaign / "hrtem" / "chunk-000000.parquet"))
    again = WaveBand(70, 30.0, 0.3).images(wave[:2], views[:2], LENS, IMAGING.pixels)
    # clean is rounded to float16: half a step of 2^-10 at intensities of 1 to 2
    assert np.abs(again - clean[:2].astype(np.float32)).max() < 2**-11 + 1e-6


def test_stored_waves_hold_the_film_too(tmp_path: Path) -> None:
    write_md_chunk(tmp_path / "structures", 0, failed=())
    some = WAVES.model_copy(update={"film": FilmSection(share=1.0, thickness_A=(10, 20))})
    make_chunk(tmp_path, 0, imaging=some, film=write_film(tmp_path / "carbon.extxyz"))
    wave, clean = (images(tmp_path, 0, name, WAVE_SHARD) for name in ("wave", "clean"))
    views = views_of(read_table(tmp_path / "hrtem" / "chunk-000000.parquet"))
    again = WaveBand(70, 30.0, 0.3).images(wave, views, LENS, IMAGING.pixels)
    assert np.abs(again - clean.astype(np.float32)).max() < 2**-11 + 1e-6


@pytest.mark.parametrize(
    "change", [{"defocus_A": 180.0, "focal_spread_A": 60.0}, {"aperture_mrad": 12.0, "C30_A": 5e5}]
)
def test_stored_waves_give_images_under_other_optics(campaign: Path, change: dict[str, float]) -> None:
    """Against the image of the whole wave, which the multislice engine makes anew."""
    make_chunk(campaign, 0, imaging=WAVES)
    wave = images(campaign, 0, "wave", WAVE_SHARD)[:1]
    drawn = views_of(read_table(campaign / "hrtem" / "chunk-000000.parquet"))[0]
    other = replace(drawn, **change)
    snapshots = read_structures(campaign / "structures" / "chunk-000000.extxyz")[:1]
    imager = imager_for(IMAGING)
    original, whole = imager.images([(snapshots, drawn), (snapshots, other)])
    again = WaveBand(70, 30.0, 0.3).images(wave, [other], LENS, IMAGING.pixels)[0]
    assert np.abs(again - whole).max() < 1e-5
    assert np.abs(again - original).max() > 0.01


def test_optics_outside_the_stored_band_are_refused(campaign: Path) -> None:
    make_chunk(campaign, 0, imaging=WAVES)
    wave = images(campaign, 0, "wave", WAVE_SHARD)[:1]
    view = replace(views_of(read_table(campaign / "hrtem" / "chunk-000000.parquet"))[0], aperture_mrad=35.0)
    with pytest.raises(ContractError, match="carry aperture_mrad up to 30; got 35"):
        WaveBand(70, 30.0, 0.3).images(wave, [view], LENS, IMAGING.pixels)
    with pytest.raises(ContractError, match="must have 72 points an edge; got 70"):
        WaveBand(72, 30.0, 0.3).images(wave, [view], LENS, IMAGING.pixels)


def test_wave_of_several_snapshots_is_refused(tmp_path: Path) -> None:
    write_md_chunk(tmp_path / "structures", 0, snapshots=2)
    with pytest.raises(ConfigError, match=r"imaging.store_waves: must be false for particles with several snapshots"):
        make_chunk(tmp_path, 0, imaging=WAVES)


def test_waves_change_neither_images_nor_counts(campaign: Path) -> None:
    make_chunk(campaign, 0)
    before = shards(campaign, 0)
    make_chunk(campaign, 0, imaging=WAVES)
    assert shards(campaign, 0) == before
    make_chunk(campaign, 0)
    assert not (campaign / "hrtem" / shard_name("wave", 0)).exists()


def test_command_line(campaign: Path) -> None:
    words = [
        "hrtem",
        "--chunk",
        "0",
        "--md-chunks",
        "0",
        "--structures",
        str(campaign / "structures"),
        "--capacity",
        "2",
    ]
    words += ["--seed", str(SEED), "--imaging", IMAGING.as_json(), "--optics", OPTICS.as_json()]
    words += ["--detector", DETECTOR.as_json(), "--manifest", str(campaign / "hrtem" / "chunk-000000.json")]
    assert main(words) == 0
    by_command = shards(campaign, 0)
    make_chunk(campaign, 0)
    assert shards(campaign, 0) == by_command
