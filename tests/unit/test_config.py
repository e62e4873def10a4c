"""The configuration: each fault has its message, all are listed at once, files and schema agree with the models."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from alloyscope.config.model import Config
from alloyscope.config.read import FROZEN, json_schema, load, parse, started
from alloyscope.errors import ConfigError
from alloyscope.sections import LogUniform, bounds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"particles": {"n_atom": 3}}, r"particles\.n_atom: unknown key"),
        ({"optic": {}}, r"optic: unknown section; known are campaign, potential"),
        ({"particles": {"n_atoms": [500, 100]}}, r"particles\.n_atoms: must be \[low, high\] with low ≤ high; got"),
        ({"particles": {"n_atoms": [5, 100]}}, r"13 ≤ low ≤ high ≤ 1000; got \[5, 100\]"),
        ({"particles": {"n_atoms": [20, 1001]}}, r"13 ≤ low ≤ high ≤ 1000; got \[20, 1001\]"),
        ({"particles": {"fraction_first": [0.2, 1.5]}}, r"fraction_first must lie inside"),
        ({"particles": {"species": ["Ag", "Ag"]}}, r"species must differ; got \['Ag', 'Ag'\]"),
        ({"particles": {"protocols": {"droplets": 0}}}, r"protocols needs one weight above 0"),
        (
            {"particles": {"species": ["Ag", "Pt"]}},
            r"particles\.species: Pt has no parameters in set AgCo-orleans; it has Ag, Co",
        ),
        (
            {"potential": {"set": "AgPt"}},
            r"potential\.set: must be one of AgCo, AgCo-alt, AgCo-orleans, AuCu, AuCu-long or the path",
        ),
        ({"potential": {"n_rho": 100}}, r"potential\.n_rho: .*greater than or equal to 50000; got 100"),
        ({"splits": {"train": 0.9}}, r"splits: must sum to 1; got 1\.2"),
        (
            {"md": {"timesteps_fs": [[0, 1], [100, 2]]}},
            r"timesteps_fs must fall to temperature 0; got \[0\.0, 100\.0\]",
        ),
        ({"md": {"gas_quench": {"cool_ps": [9, 3]}}}, r"md\.gas_quench\.cool_ps: must be \[low, high\]"),
        ({"optics": {"n_foci": 5}}, r"optics: n_foci: images average over all foci now, .*; remove this key"),
        ({"imaging": {"pixel_size_A": 1.3}}, r"imaging\.pixel_size_A: 1\.3 cuts Ag\{111\} .*must be below 1\.1"),
        (
            {"imaging": {"grid": 128, "pixel_size_A": 0.8}},
            r"imaging\.grid: 128 over 102\.4 Å .* cuts Ag\{111\}.*above 130",
        ),
        ({"imaging": {"engine": "magic"}}, r"imaging\.engine: .*'batched' or 'abtem'; got 'magic'"),
        ({"optics": {"defocus_A": [200, -200]}}, r"optics\.defocus_A: must be \[low, high\] with low ≤ high"),
        ({"detector": {"dose_e_per_A2": {"log_uniform": [0, 10]}}}, r"dose_e_per_A2: must start above 0; got \[0"),
        ({"splits": {"train": 0.68, "validation": 0.12}}, r"splits: must be multiples of 0\.05; got 0\.68, 0\.12"),
        ({"detector": {"dose_e_per_A2": 0}}, r"dose_e_per_A2: must be above 0; got 0"),
        ({"detector": {"readout_e": [-3, 1]}}, r"readout_e: must be at least 0; got -3"),
        ({"optics": {"defocus_A": float("nan")}}, r"optics\.defocus_A: .*finite number"),
        ({"optics": {"aperture_mrad": 200}}, r"aperture_mrad: must stay below the 57\.7 mrad .*; got 200"),
        (
            {"imaging": {"store_waves": True, "grid": 512}, "optics": {"aperture_mrad": 70}},
            r"aperture_mrad: must stay below the 61\.7 mrad that waves stored in steps of 0\.2 Å carry with .*; got 70",
        ),
        ({"imaging": {"store_waves": True}, "md": {"snapshots": 3}}, r"md\.snapshots must be 1; got 3"),
        ({"md": {"droplets": {"cool_ps": [-5, 1]}}}, r"md\.droplets\.cool_ps.*greater than 0"),
        ({"imaging": {"pixels": 100, "grid": 300}}, r"pixels must be a multiple of 16"),
        ({"particles": []}, r"particles: .*; got \[\]"),
        ({"campaign": {"n_particles": 3_000_000}, "md": {"particles_per_chunk": 1}}, r"must be at least 3"),
        (
            {"imaging": {"snapshots_per_image": 3}},
            r"snapshots_per_image: must be at most the 1 .*md\.snapshots\); got 3",
        ),
        (
            {"imaging": {"snapshots_per_image": 2}, "particles": {"source": "files", "files": ["a.xyz"]}},
            r"at most the 1 that a particle has \(one frame each\); got 2",
        ),
        ({"imaging": {"film": {"thickness_A": 0}}}, r"film\.thickness_A: must be above 0; got 0"),
        ({"imaging": {"film": {"share": 1.5}}}, r"film\.share: .*less than or equal to 1; got 1\.5"),
        ([], r"config: must hold sections; got \[\]"),
        ({"campaign": {"name": "a b"}}, r"campaign\.name: .*pattern.*got 'a b'"),
        ({"campaign": {"n_particles": 0}}, r"campaign\.n_particles: .*; got 0"),
    ],
)
def test_refuses(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(content)


def test_jobs_read_the_config_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing is in tests/workflow/test_slurm.py."""
    monkeypatch.delenv(FROZEN, raising=False)
    edited = {"campaign": {"n_particles": 9}}
    assert started(edited, main=False) == parse(edited)  # a cluster that hands no environment on
    begun = {"campaign": {"n_particles": 8}}
    assert started(begun, main=True) == parse(begun)
    assert started(edited, main=False) == parse(begun)
    assert started(edited, main=True) == parse(edited)  # the next start


def test_jobs_use_a_preset_as_it_was_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FROZEN, raising=False)
    own = tmp_path / "mine.yaml"
    own.write_text("imaging: {voltage_kV: 300}")
    content = {"imaging": {"preset": str(own)}}
    begun = started(content, main=True)
    own.unlink()
    assert started(content, main=False) == begun
    assert begun.imaging.voltage_kV == 300


def test_lists_every_fault_at_once() -> None:
    content = {
        "particles": {"n_atom": 3, "n_atoms": [500, 100]},
        "optics": {"focus": 1},
        "imaging": {"pixel_size_A": 1.3},
        "haadf": {},
    }
    with pytest.raises(ConfigError) as caught:
        parse(content)
    lines = str(caught.value).splitlines()
    for path in ("particles.n_atom:", "particles.n_atoms:", "optics.focus:", "imaging.pixel_size_A:", "haadf:"):
        assert sum(line.startswith(path) for line in lines) >= 1, (path, lines)


def test_limit_named_in_the_message_is_the_limit() -> None:
    """Ag{111} of AgCo: d = √(2/3) · 2.890 Å = 2.3597 Å, so the pixel must be below half of it, 1.1798 Å."""
    parse({"imaging": {"pixel_size_A": 1.0, "grid": 512}})
    with pytest.raises(ConfigError, match=r"Ag\{111\}"):
        parse({"imaging": {"pixel_size_A": 1.18, "grid": 1024}})


def test_campaign_files_are_sound(root: Path) -> None:
    overlays = sorted((root / "workflow" / "campaigns").glob("*.yaml"))
    assert len(overlays) >= 4
    for overlay in overlays:
        config = load(root / "config.yaml", overlay)
        assert config.campaign.name == overlay.stem


def test_full_campaign_says_nothing_but_defaults(root: Path) -> None:
    """Defaults have one home; what differs in config.yaml is the campaign's own."""
    config = load(root / "config.yaml")
    own = {"imaging": {"md_chunks_per_chunk"}}
    for name in Config.model_fields:
        found, default = getattr(config, name).model_dump(), getattr(Config(), name).model_dump()
        differing = {key for key in found if found[key] != default[key]}
        assert differing == own.get(name, set()), name
    assert config.campaign.n_particles == 200_000


def test_overlay_replaces_key_by_key(tmp_path: Path) -> None:
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text(yaml.safe_dump({"md": {"max_attempts": 5, "gas_quench": {"hold_ps": 3, "cool_ps": [1, 2]}}}))
    over.write_text(yaml.safe_dump({"md": {"gas_quench": {"hold_ps": 4}}}))
    config = load(base, over)
    assert config.md.max_attempts == 5
    assert config.md.gas_quench.hold_ps == 4
    assert config.md.gas_quench.cool_ps == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"), [("md: [", "not YAML"), ("- 1", "must hold sections; got list"), (None, "cannot be read")]
)
def test_refuses_unreadable_files(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_equal_content_is_equal_json() -> None:
    assert parse({"imaging": {"views": 5, "grid": 384}}).as_json() == parse({"imaging": {"grid": 384}}).as_json()
    assert parse({"imaging": {"views": 4}}).as_json() != parse({}).as_json()


def test_sections_survive_json() -> None:
    config = parse({"detector": {"dose_e_per_A2": {"log_uniform": [1, 10]}}, "optics": {"defocus_A": 7}})
    assert Config.model_validate_json(config.as_json()) == config


@pytest.mark.parametrize(
    ("draw", "expected"), [(3.0, (3, 3)), ((1.0, 2.0), (1, 2)), (LogUniform(log_uniform=(1, 10)), (1, 10))]
)
def test_bounds(draw: Any, expected: tuple[float, float]) -> None:
    assert bounds(draw) == expected


def test_schema_is_fresh(root: Path) -> None:
    path = root / "workflow" / "schema" / "config.schema.json"
    assert path.read_text() == json_schema(), (
        "stale schema; mend: python -m alloyscope config --schema > workflow/schema/config.schema.json"
    )
