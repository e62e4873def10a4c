"""Nothing in a config, a structure file or a checkpoint is executed; pages show what files hold, and no more.

Names that reach a shell are tested in tests/workflow, repairs in test_verify.
"""

import io
import json
import os
import pickle
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import torch
from ase.cluster import Icosahedron
from markupsafe import Markup

import alloyscope
from alloyscope.config.model import ParticlesSection
from alloyscope.config.read import load, parse
from alloyscope.errors import ConfigError, StoreError
from alloyscope.figures import rendering
from alloyscope.lammps.commands import System
from alloyscope.pages import report, run, structures, structures_pictures
from alloyscope.potential.sets import parameter_set
from alloyscope.stages import files as own_structures
from alloyscope.stages import report as report_stage
from alloyscope.stages import statistics
from alloyscope.store import images
from alloyscope.store.checkpoints import load_checkpoint
from alloyscope.structure.settings import LabelsSection
from tests.stages.campaign_folder import FAILED, build
from tests.stages.page_parser import Page
from tests.stages.test_statistics import write as write_structures

SCRIPT = "<script>alert(document.title)</script>"
PICTURE = '"><img src=x onerror=alert(1)>'
PACKAGED = Path(alloyscope.__file__).parent / "data" / "potentials" / "AgCo.yaml"


class Bomb:
    """Unpickled, it leaves a file named `owned` in the working folder."""

    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.fixture(autouse=True)
def _nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("owned*"))


def test_bomb_goes_off(tmp_path):
    """So that a test which finds no file has tested something."""
    pickle.loads(pickle.dumps(Bomb()))
    (tmp_path / "owned").unlink()


def as_torch_saves() -> bytes:
    buffer = io.BytesIO()
    torch.save({"hyper_parameters": {"card": Bomb()}, "state_dict": {}}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [as_torch_saves(), pickle.dumps(Bomb(), protocol=2)], ids=["torch", "pickle"])
def test_checkpoint_that_runs_code_is_refused(tmp_path, content):
    (tmp_path / "best.ckpt").write_bytes(content)
    with pytest.raises(StoreError, match=r"best.ckpt: damaged or not a checkpoint .*; delete it and train again"):
        load_checkpoint(tmp_path / "best.ckpt")


YAML_BOMB = "!!python/object/apply:os.system ['touch owned']"


def test_config_that_runs_code_is_refused(tmp_path):
    (tmp_path / "campaign.yaml").write_text(f"campaign:\n  name: {YAML_BOMB}\n")
    with pytest.raises(ConfigError, match="not YAML: could not determine a constructor"):
        load(tmp_path / "campaign.yaml")


def test_parameter_set_that_runs_code_is_refused(tmp_path):
    (tmp_path / "own.yaml").write_text(f"name: {YAML_BOMB}\n")
    with pytest.raises(ConfigError, match=r"own.yaml: not YAML: could not determine a constructor"):
        parameter_set("own.yaml")


@pytest.mark.parametrize("name", ["../../owned", "$(touch owned)", "a b", "a\n", "-a", "", 'a"', ".a"])
def test_names_of_files_are_plain(tmp_path, name):
    """The name of a campaign is that of its folder, the name of a parameter set that of its table."""
    with pytest.raises(ConfigError, match=r"campaign\.name: String should match"):
        parse({"campaign": {"name": name}})
    text = PACKAGED.read_text().replace("name: AgCo\n", f"name: {json.dumps(name)}\n")
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"own.yaml.name: String should match"):
        parameter_set("own.yaml")


@pytest.mark.parametrize("path", ["a\nshell touch owned", 'a" x', "{chunk}", "-a", "", "a\tb"])
@pytest.mark.parametrize("key", ["campaign.results", "potential.set", "particles.files"])
def test_paths_that_mean_more_than_a_path_are_refused(key, path):
    section, name = key.split(".")
    value = [path] if name == "files" else path
    with pytest.raises(ConfigError, match=rf"{key}.*: must be a path without braces, double quotes"):
        parse({section: {name: value}})


def test_path_cannot_end_a_lammps_command():
    where = np.zeros((1, 3))
    with pytest.raises(ConfigError, match="must hold no double quotes or line breaks"):
        System(("Ag",), np.zeros(1, dtype=np.int64), where, Path('a"\nshell touch owned'))


def cluster():
    atoms = Icosahedron("Ag", 2, latticeconstant=4.0)
    atoms.symbols[:4] = "Co"
    return atoms


def take(names, count=1):
    section = ParticlesSection(source="files", files=tuple(names))
    out = Path("out") / "chunk-000000.json"
    own_structures.run(chunk=0, first=0, count=count, particles=section, min_cluster_fraction=0.9, manifest=out)
    return json.loads(out.read_text())["slots"]


@pytest.mark.parametrize("suffix", ["traj", "trj", "pckl", "json", "db", "py", "xyz", "npy", "bundle", "gpw"])
@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Bomb()), b"import os\nos.system('touch owned')\n", b'{"__ase_objtype__": "os.system"}'],
    ids=["pickle", "python", "json"],
)
def test_structure_file_that_runs_code_is_refused(tmp_path, suffix, content):
    (tmp_path / f"own.{suffix}").write_bytes(content)
    with pytest.raises(ConfigError, match="must be extended XYZ or another format"):
        take([f"own.{suffix}"])


@pytest.mark.parametrize(
    "name",
    ["postgresql:x.extxyz", "mysql.extxyz", "a@0.extxyz", "$(touch owned).extxyz", "a;touch owned1.extxyz", "'.extxyz"],
)
def test_name_of_a_structure_file_is_a_name(tmp_path, name):
    with (tmp_path / name).open("w") as handle:
        ase.io.write(handle, [cluster(), cluster()], format="extxyz")
    assert [slot["valid"] for slot in take([name], 2)] == [True, True]


def test_cleaning_up_ends_at_links(tmp_path):
    """What a killed run left is removed; what a link in its place points to is not."""
    precious = tmp_path / "elsewhere" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine")
    (tmp_path / "hrtem").mkdir()
    (tmp_path / "hrtem" / ".metadata.aside").symlink_to(precious.parent)
    with pytest.raises(StoreError, match="cannot be written"):
        images.write_metadata(tmp_path / "hrtem", 1, images.ShardShape(1, 1, 32), {})
    assert precious.read_text() == "mine"


@pytest.fixture(scope="module")
def hostile_pages(tmp_path_factory):
    """The three pages of a campaign whose files and folders hold tags wherever they hold text."""
    folder = tmp_path_factory.mktemp("results") / "<img src=x onerror=alert(1)>"
    config = build(folder)
    changed = config.campaign.model_copy(update={"name": SCRIPT, "results": f"results {SCRIPT}"})
    config = config.model_copy(update={"campaign": changed})
    path = folder / "structures" / "structures.parquet"
    table = pd.read_parquet(path)
    table.loc[table["particle"] == FAILED, "reason"] = SCRIPT + PICTURE
    write_structures(path.parent, table)
    for name in ("potential/validation.json", "hrtem/dataset.json", "structures/chunk-000000.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(hostile(content)))
    (folder / "hrtem" / "gates.json").write_text(
        json.dumps({"gates": [{"of": "all", "gate": SCRIPT, "value": 1, "low": 1, "high": None}]})
    )
    out = folder / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "render", lambda *arguments: None)
        for module in (report, run, structures, structures_pictures):
            name = "embed_pixels" if module is structures_pictures else "embed"
            patch.setattr(module, name, lambda figure, alt, kind="": Markup('<img alt="{}" src="data:,">').format(alt))
        report_stage.run(folder=folder, config=config, out=out / "index.html")
        statistics.run(structures=path, labels=LabelsSection(), out=out / "statistics.html")
    return {name: (out / f"{name}.html").read_text() for name in ("index", "statistics", "run")}


def hostile(content):
    """Tags before every text of an account, except where the text says what to do with it."""
    fixed = ("kind", "stage", "pair", "finished", "particle", "unit", "property")
    match content:
        case dict():
            return {key: value if key in fixed else hostile(value) for key, value in content.items()}
        case list():
            return [hostile(value) for value in content]
        case str():
            return SCRIPT + PICTURE + content
        case _:
            return content


@pytest.mark.parametrize("name", ["index", "statistics", "run"])
def test_tags_in_files_and_names_stay_text(hostile_pages, name):
    page = hostile_pages[name]
    assert "&lt;script&gt;alert(document.title)" in page
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert not {"x", "javascript:"} & set(parsed.references)
    assert len(parsed.images) == page.count("data:,")
