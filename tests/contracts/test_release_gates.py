"""The rule `gates` on images really made: it lets a sound campaign through and stops one with a planted fault."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from alloyscope import units
from alloyscope.cli import main
from alloyscope.errors import GateError, StoreError
from alloyscope.imaging.box import Slab
from alloyscope.imaging.factors import correction_A2, projected_factor_VA2
from alloyscope.microscope import detector, optics, views
from alloyscope.microscope.settings import DetectorSection, OpticsSection
from alloyscope.stages import gates
from alloyscope.store.atomic import checksum
from alloyscope.structure.fingerprint import FINGERPRINT
from tests.stages.synthetic_md import (
    DETECTOR,
    IMAGING,
    PER_CHUNK,
    SEED,
    labels_table,
    make_chunk,
    rotating,
    write_md_chunk,
)

CHUNKS = 2
COHERENT = OpticsSection(focal_spread_A=0.0, angular_spread_mrad=0.0)
Plant = Callable[[Path, pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def imaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imaged")
    make_campaign(folder)
    return folder


@pytest.fixture
def campaign(imaged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(imaged, tmp_path / "campaign"))


def make_campaign(folder: Path, **changed: Any) -> None:
    for chunk in range(CHUNKS):
        write_md_chunk(folder / "structures", chunk)
        make_chunk(folder, chunk, **{"optics": COHERENT, **changed})
    labels_table(CHUNKS * PER_CHUNK).to_parquet(folder / "structures" / "structures.parquet")


def examine(campaign: Path, **changed: Any) -> dict[str, Any]:
    inputs = {
        "images": campaign / "hrtem",
        "structures": campaign / "structures",
        "labels": campaign / "structures" / "structures.parquet",
        "chunks": CHUNKS,
        "capacity": PER_CHUNK,
        "md_capacity": PER_CHUNK,
        "sample": 2,
        "seed": SEED,
        "imaging": IMAGING,
        "detector": DETECTOR,
        "out": campaign / "hrtem" / "gates.json",
    }
    gates.run(**{**inputs, **changed})
    found: dict[str, Any] = json.loads((campaign / "hrtem" / "gates.json").read_text())
    return found


def test_sound_campaign_passes_every_gate(campaign: Path) -> None:
    found = examine(campaign)
    per_image = {
        "stored image against remade one",
        "slices halved",
        "abTEM on a finer grid",
        "whole image, of the beam",
        "whole image, of the contrast",
        "noise, least p",
        "species swapped",
        "depth of scattering, slices off",
    }
    names = [row["gate"] for row in found["gates"]]
    assert {name: names.count(name) for name in per_image} == dict.fromkeys(per_image, 2)
    once = {"wavelength", "lens and camera, of the contrast", "rotations uniform, least p"}
    assert set(names) - per_image == {*once, "related particles in two splits"}
    assert len(found["images"]) == 2
    values = {row["gate"]: row["value"] for row in found["gates"]}
    assert 0.3 < values["species swapped"] < 0.8
    assert values["slices halved"] < 0.03


def test_campaign_of_rotating_particles_passes(tmp_path: Path) -> None:
    """The gates read the snapshots as `hrtem` did."""
    for chunk in range(CHUNKS):
        write_md_chunk(tmp_path / "structures", chunk, snapshots=3, moved=rotating)
        make_chunk(tmp_path, chunk)
    labels_table(CHUNKS * PER_CHUNK).to_parquet(tmp_path / "structures" / "structures.parquet")
    values = {row["gate"]: row["value"] for row in examine(tmp_path)["gates"]}
    assert values["stored image against remade one"] < 1e-3


def test_what_was_not_checked_is_said(campaign: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fringe = [f"{name}: the finest fringe, because no species has 13 atoms" for name in examine(campaign)["images"]]
    none = "the engine in 2 of 2 chunks, the first is 000000: none of their waves was compared with abTEM's"
    assert examine(campaign)["unchecked"] == [f"{none} (execution.checked_waves), but those of the sample are", *fringe]
    assert f"not checked: {none}" in capfd.readouterr().err
    make_chunk(campaign, 0, optics=COHERENT, checked_waves=1)
    assert "the engine in 1 of 2 chunks, the first is 000001" in examine(campaign)["unchecked"][0]
    make_chunk(campaign, 1, optics=COHERENT, checked_waves=1)
    assert examine(campaign)["unchecked"] == fringe


def test_abtems_own_images_are_not_compared_with_another_engine(tmp_path: Path) -> None:
    imaging = IMAGING.model_copy(update={"engine": "abtem"})
    make_campaign(tmp_path, imaging=imaging)
    unchecked = examine(tmp_path, imaging=imaging)["unchecked"]
    assert unchecked[0].startswith("the engine, because abTEM made the images itself")


def change_structures(campaign: Path, old: str, new: str) -> None:
    """Rewrite the md files, their manifests told so: what a mix-up between stages would leave."""
    for manifest in (campaign / "structures").glob("*.json"):
        path = manifest.with_suffix(".extxyz")
        path.write_text(path.read_text().replace(old, "**").replace(new, old).replace("**", new))
        content = json.loads(manifest.read_text())
        content["files"][path.name] = checksum(path)
        manifest.write_text(json.dumps(content))


def species_exchanged_before_imaging(campaign: Path, _: pytest.MonkeyPatch) -> None:
    change_structures(campaign, "\nAg ", "\nCo ")


def last_species_for_every_atom(campaign: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("alloyscope.imaging.multislice.projected_factor_VA2", lambda _, k2: projected_factor_VA2("Co", k2))
    patch.setattr("alloyscope.imaging.multislice.correction_A2", lambda _, *grid: correction_A2("Co", *grid))
    make_campaign(campaign)


def every_atom_in_one_slice(campaign: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slab, "slices", lambda slab: np.zeros(len(slab.elements), np.intp))
    make_campaign(campaign)


def too_long_a_wave(campaign: Path, patch: pytest.MonkeyPatch) -> None:
    for module in ("imaging.multislice", "microscope.optics"):
        patch.setattr(
            f"alloyscope.{module}.electron_wavelength_A", lambda voltage: 1.09 * units.electron_wavelength_A(voltage)
        )
    make_campaign(campaign)


def rotations_about_the_beam_alone(campaign: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(views, "rotation", lambda *_: (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)))
    make_campaign(campaign)


def structure_in_two_splits(campaign: Path, _: pytest.MonkeyPatch) -> None:
    path = campaign / "structures" / "structures.parquet"
    labels = pd.read_parquet(path)
    labels.loc[3, list(FINGERPRINT)] = labels.loc[2, list(FINGERPRINT)]
    labels.loc[3, "split"] = "other"
    labels.to_parquet(path)


def atom_outside_the_box(campaign: Path, _: pytest.MonkeyPatch) -> None:
    for path in (campaign / "hrtem").glob("chunk-*.parquet"):
        pd.read_parquet(path).assign(shift_x_A=9.0).to_parquet(path)


def images_of_another_view(campaign: Path, _: pytest.MonkeyPatch) -> None:
    for path in (campaign / "hrtem").glob("chunk-*.parquet"):
        table = pd.read_parquet(path)
        table.assign(defocus_A=table["defocus_A"] + 40.0).to_parquet(path)


def lens_of_the_other_sign(campaign: Path, patch: pytest.MonkeyPatch) -> None:
    """Also when the gates make the image again: only the reference knows better."""
    right = optics.coefficient
    patch.setattr(optics, "coefficient", lambda view, n, m: right(view, n, m) * (-1 if (n, m) == (1, 0) else 1))
    make_campaign(campaign)


def sign_of_an_aberration_that_is_not_drawn(campaign: Path, patch: pytest.MonkeyPatch) -> None:
    right = optics.coefficient
    patch.setattr(optics, "coefficient", lambda view, n, m: right(view, n, m) * (-1 if (n, m) == (5, 4) else 1))


def camera_without_mtf(campaign: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(detector, "_mtf_of", lambda fallen, c1: 0 * fallen + 1)
    make_campaign(campaign)


def counts_of_another_gain(campaign: Path, _: pytest.MonkeyPatch) -> None:
    make_campaign(campaign, detector=DetectorSection(gain=1.5))


FAULTS: list[tuple[Plant, str]] = [
    (species_exchanged_before_imaging, "stored image must be what its structure and parameters give"),
    (last_species_for_every_atom, r"swapping species must change the image by 10% .*got 0\.0%"),
    (last_species_for_every_atom, "abTEM on a twice finer grid must change"),
    (every_atom_in_one_slice, r"must scatter this far apart, within a slice of .*; got -?0\.0"),
    (too_long_a_wave, r"engine: wavelength at 200 kV must be 0\.025079 Å; got 0\.0273"),
    (too_long_a_wave, r"lens: wavelength at 200 kV must be 0\.025079 Å; got 0\.0273"),
    (rotations_about_the_beam_alone, "8 rotations must be uniform"),
    (structure_in_two_splits, "2 particles are related to one of another split, the first are 2, 3"),
    (atom_outside_the_box, r"atoms lie outside the box of 13\.91"),
    (lens_of_the_other_sign, r"p\d+-v\d+: the whole image must agree with the reference's"),
    (sign_of_an_aberration_that_is_not_drawn, "lens: lens and camera must make the reference's image"),
    (camera_without_mtf, r"p\d+-v\d+: the whole image must agree with the reference's"),
    (counts_of_another_gain, r"the counts must have the noise .* they differ in mean"),
    (images_of_another_view, "stored image must be what its structure and parameters give"),
]


@pytest.mark.parametrize(("plant", "message"), FAULTS)
def test_planted_fault_is_stopped(campaign: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, message: str) -> None:
    plant(campaign, monkeypatch)
    with pytest.raises(GateError, match=message):
        examine(campaign)
    assert not (campaign / "hrtem" / "gates.json").exists()


def test_coarse_grid_is_stopped(tmp_path: Path) -> None:
    coarse = IMAGING.model_copy(update={"pixel_size_A": 0.9, "grid": 64})
    make_campaign(tmp_path, imaging=coarse, optics=OpticsSection(aperture_mrad=15.0))
    with pytest.raises(GateError, match=r"abTEM on a twice finer grid .*refine imaging\.grid"):
        examine(tmp_path, imaging=coarse)


def test_every_fault_is_told_at_once(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    structure_in_two_splits(campaign, monkeypatch)
    images_of_another_view(campaign, monkeypatch)
    with pytest.raises(GateError) as caught:
        examine(campaign)
    lines = str(caught.value).splitlines()
    faults = ("are related to one of another split", "stored image must be what", "the whole image must agree")
    assert [sum(fault in line for line in lines) for fault in faults] == [1, 2, 2]


def test_images_of_no_structure_are_named(campaign: Path) -> None:
    change_structures(campaign, "particle=0", "particle=77")
    with pytest.raises(StoreError, match=r"must hold the \d valid particles of its manifest in order"):
        examine(campaign, sample=6)


def test_sample_follows_its_address(campaign: Path) -> None:
    table = pd.DataFrame({"image": np.arange(500)})
    drawn: list[NDArray[np.int64]] = [gates.sampled(table, 5, seed)["image"].to_numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_command_line(campaign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["gates", "--images", str(campaign / "hrtem"), "--structures", str(campaign / "structures")]
    words += ["--labels", str(campaign / "structures" / "structures.parquet"), "--chunks", str(CHUNKS)]
    words += ["--capacity", str(PER_CHUNK), "--md-capacity", str(PER_CHUNK), "--sample", "1", "--seed", str(SEED)]
    words += [
        "--imaging",
        IMAGING.as_json(),
        "--detector",
        DETECTOR.as_json(),
        "--film",
        "--out",
        str(campaign / "hrtem" / "gates.json"),
    ]
    assert main(words) == 0
    assert "species swapped" in capsys.readouterr().err
