"""Presets of the microscope: data under the keys of a config, which override them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from alloyscope.config.model import Config
from alloyscope.config.read import parse
from alloyscope.contracts import View
from alloyscope.errors import ConfigError
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
    limits = {"defocus_A": (-20, -10), "C30_A": (-1.5e5, 0), "C32_A": (0, 28e3), "dose_e_per_A2": (3e3, 15e3)}
    for name, (low, high) in limits.items():
        values = np.array([getattr(view, name) for view in drawn])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high


@pytest.mark.parametrize(
    ("optics", "message"),
    [
        (
            {"preset": "titan"},
            r"optics: preset must be one of corrected, orleans-2026, uncorrected or the path of a \.yaml file; got "
            "'titan'",
        ),
        ({"defocus_from_scherzer": True, "C30_A": 0}, r"defocus_from_scherzer needs a C30_A other than 0"),
        ({"vibration_ratio": [0.5, 1.5]}, r"optics\.vibration_ratio: must be at most 1; got 1\.5"),
        ({"preset": "uncorrected", "C31_A": 1}, r"optics\.C31_A: unknown key"),
    ],
)
def test_refuses(optics: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({"optics": optics})


@pytest.mark.parametrize("name", sorted(OpticsSection.model_fields.keys() | DetectorSection.model_fields.keys()))
def test_every_drawn_parameter_takes_fixed_uniform_and_log_uniform_values(name: str) -> None:
    if name in ("preset", "camera", "defocus_from_scherzer", "gain", "offset"):
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
