"""Presets of the microscope: data under the keys of a config, which override them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from alloyscope.config.model import Config
from alloyscope.config.read import parse
from alloyscope.contracts import View
from alloyscope.errors import ConfigError
from alloyscope.microscope.detector import mtf
from alloyscope.microscope.presets import IMAGING, packaged_presets
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from alloyscope.sections import bounds
from alloyscope.units import scherzer_defocus_A


def views(**sections: Any) -> list[View]:
    config = parse(sections)
    return [drawn_view(n, 0, config.imaging, config.optics, config.detector, seed=1) for n in range(200)]


def test_every_file_is_a_preset_and_sound(root: Path) -> None:
    folder = root / "src" / "alloyscope" / "data" / "presets"
    assert {path.stem for path in folder.iterdir()} == set(packaged_presets())
    for name in packaged_presets():
        config = parse({"optics": {"preset": name}, "detector": {"preset": name}})
        assert (config.optics.preset, config.detector.preset) == (name, name)


def test_corrected_is_the_default() -> None:
    assert parse({"optics": {"preset": "corrected"}, "detector": {"preset": "corrected"}}) == Config()


def test_a_key_given_beside_a_preset_overrides_it() -> None:
    optics = parse({"optics": {"preset": "uncorrected", "C30_A": 1e7, "C12_A": {"log_uniform": [1, 10]}}}).optics
    assert optics.C30_A == 1e7
    assert bounds(optics.C12_A) == (1, 10)
    assert bounds(optics.focal_spread_A) == (40, 100)


def test_resolved_sections_are_read_back_unchanged() -> None:
    config = parse({"optics": {"preset": "orleans-2026"}, "detector": {"preset": "orleans-2026"}})
    assert Config.model_validate_json(config.as_json()) == config


def test_uncorrected_draws_around_the_scherzer_focus_of_its_own_aberration() -> None:
    drawn = views(optics={"preset": "uncorrected"})
    spherical = np.array([view.C30_A for view in drawn])
    beside = [view.defocus_A - scherzer_defocus_A(view.C30_A, 200.0) for view in drawn]
    assert spherical.min() >= 5e6
    assert spherical.max() <= 1.2e7
    assert np.abs(beside).max() <= 200
    assert np.std(beside) == pytest.approx(400 / np.sqrt(12), rel=0.15)


def test_orleans_2026_draws_the_ranges_of_the_earlier_work() -> None:
    drawn = views(optics={"preset": "orleans-2026"}, detector={"preset": "orleans-2026"})
    limits = {
        "defocus_A": (-30, -16),
        "C12_A": (0, 60),
        "C21_A": (0, 500),
        "C23_A": (0, 500),
        "C30_A": (-1.5e5, 0),
        "C32_A": (0, 7e3),
        "C34_A": (0, 7e3),
        **{f"C4{m}_A": (0, 15e3) for m in (1, 3, 5)},
        "angular_spread_mrad": (0.05, 0.25),
        "aperture_mrad": (20, 30),
        "dose_e_per_A2": (3e3, 15e3),
        "readout_e": (0, 1),
    }
    for name, (low, high) in limits.items():
        values = np.array([getattr(view, name) for view in drawn])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    assert {view.focal_spread_A for view in drawn} == {7.0}
    assert all(mtf(k, view.mtf_c1, view.mtf_c2, view.mtf_c3) == 1 for view in drawn for k in (0.0, 0.5, 1.0))


def test_two_widths_of_vibration_are_independent() -> None:
    """Of two independent uniform draws the larger has the mean low + 2/3 width, the smaller low + 1/3 width."""
    drawn = views(optics={"preset": "orleans-2026"})
    wide = np.array([view.vibration_A for view in drawn])
    narrow = wide * [view.vibration_ratio for view in drawn]
    error = 0.35 / np.sqrt(18 * len(drawn))
    assert wide.mean() == pytest.approx(0.05 + 2 / 3 * 0.35, abs=4 * error)
    assert narrow.mean() == pytest.approx(0.05 + 1 / 3 * 0.35, abs=4 * error)
    assert (narrow <= wide).all()
    assert narrow.min() >= 0.05
    assert wide.max() <= 0.4


@pytest.mark.parametrize(
    ("along_A", "across_A", "ratio", "quarter"),
    [(0.4, 0.1, 0.25, 0), (0.1, 0.4, 0.25, 1), (0.2, 0.2, 1, 0), (0, 0, 1, 0)],
)
def test_the_wider_of_two_widths_gives_the_direction(
    along_A: float, across_A: float, ratio: float, quarter: int
) -> None:
    (round_one, *_) = views()
    (view, *_) = views(optics={"vibration_A": along_A, "vibration_across_A": across_A, "vibration_ratio": 0.5})
    assert view.vibration_A == max(along_A, across_A)
    assert view.vibration_ratio == ratio
    turn = (view.vibration_angle_rad - round_one.vibration_angle_rad) % np.pi
    assert turn == pytest.approx(quarter * np.pi / 2)


def test_without_a_second_width_the_ratio_holds_as_before() -> None:
    before = views(optics={"vibration_ratio": 0.5})
    assert {view.vibration_ratio for view in before} == {0.5}
    assert before == views(optics={"vibration_ratio": 0.5, "vibration_across_A": None})


def test_drift_and_gains_are_off_by_default_and_change_nothing_else() -> None:
    still = views()
    assert {(view.drift_A, view.drift_angle_rad, view.gain_map_rms) for view in still} == {(0.0, 0.0, 0.0)}
    drifting = views(optics={"drift_A": [0.5, 2]}, detector={"gain_map_rms": [0.01, 0.02]})
    neutral = {"drift_A": 0.0, "drift_angle_rad": 0.0, "gain_map_rms": 0.0}
    assert [replace(view, **neutral) for view in drifting] == still
    angles = np.array([view.drift_angle_rad for view in drifting])
    assert angles.min() < 0.1 < np.pi - 0.1 < angles.max() < np.pi
    assert min(view.drift_A for view in drifting) >= 0.5
    assert max(view.gain_map_rms for view in drifting) <= 0.02


def test_new_keys_at_their_neutral_values_are_left_out_of_what_stages_are_made_from() -> None:
    said = parse({"optics": {"drift_A": 0, "vibration_across_A": None}, "detector": {"gain_map_rms": 0}})
    assert said.as_json() == parse({}).as_json()
    assert not {"drift_A", "vibration_across_A", "gain_map_rms"} & set(said.as_json().replace('"', " ").split())
    own = parse({"optics": {"preset": "orleans-2026", "vibration_across_A": None}}).optics
    assert own.vibration_across_A is None
    assert OpticsSection.model_validate_json(own.as_json()) == own


@pytest.mark.parametrize(
    ("optics", "message"),
    [
        (
            {"preset": "titan"},
            r"optics: preset must be one of corrected, orleans-2026, uncorrected or the path of a \.yaml file; got "
            "'titan'",
        ),
        ({"defocus_from_scherzer": True, "C30_A": 0}, r"defocus_from_scherzer needs a C30_A other than 0"),
        ({"vibration_across_A": [-0.1, 0.2]}, r"optics\.vibration_across_A: must be at least 0; got -0\.1"),
        ({"drift_A": "far"}, r"optics\.drift_A: .*valid number.*got 'far'"),
        ({"vibration_ratio": [0.5, 1.5]}, r"optics\.vibration_ratio: must be at most 1; got 1\.5"),
        ({"preset": "uncorrected", "C31_A": 1}, r"optics\.C31_A: unknown key"),
    ],
)
def test_refuses(optics: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({"optics": optics})


@pytest.mark.parametrize("name", sorted(OpticsSection.model_fields.keys() | DetectorSection.model_fields.keys()))
def test_every_drawn_parameter_takes_fixed_uniform_and_log_uniform_values(name: str) -> None:
    if name in ("preset", "camera", "defocus_from_scherzer", "gain", "offset", "vibration_across_A"):
        return
    section = "optics" if name in OpticsSection.model_fields else "detector"
    for draw in (0.25, [0.2, 0.3], {"log_uniform": [0.2, 0.3]}):
        config = parse({section: {name: draw}})
        view = drawn_view(1, 1, ImagingSection(), config.optics, config.detector, seed=1)
        assert 0.2 <= getattr(view, name) <= 0.3


def test_config_yaml_leaves_to_presets_what_is_theirs(root: Path) -> None:
    """The workflow lays a user's file over config.yaml, whose keys would beat the preset that the user names."""
    content = yaml.safe_load((root / "config.yaml").read_text())
    assert not content["imaging"].keys() & set(IMAGING)
    assert content["optics"].keys() == content["detector"].keys() == {"preset"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imaging: {voltage_kV: [", "not YAML"),
        ("- imaging", "must hold the sections imaging, optics, detector, or some of them"),
        ("lens: {}", "lens: unknown section; known are imaging, optics, detector"),
        ("imaging: {views: 2}", r"imaging\.views: must be one of voltage_kV, pixels"),
        ("optics: {C12_A: 0}", "has no section imaging"),
    ],
)
def test_refuses_a_faulty_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"imaging: preset \S+mine\.yaml: {message}"):
        parse({"imaging": {"preset": str(tmp_path / "mine.yaml")}})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"optics: preset nowhere\.yaml: cannot be read"):
        parse({"optics": {"preset": "nowhere.yaml"}})


def test_keys_of_a_film_are_laid_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("imaging: {film: {share: 0.5, thickness_A: 20}}\noptics:\n")
    imaging = parse({"imaging": {"preset": str(tmp_path / "mine.yaml"), "film": {"thickness_A": 40}}}).imaging
    assert (imaging.film.share, imaging.film.thickness_A) == (0.5, 40)
