"""Imports go down the floors listed here, and heavy or foreign packages stay where they belong."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "alloyscope"

# From the ground up. A module imports from lower floors and from its own package; on the floors in ALONE, from lower
# floors only.
HOUSE = (
    ("__init__", "errors", "units", "intervals", "wording", "progress"),
    ("sections",),
    ("ids", "contracts", "records"),
    ("store", "lammps"),  # files; LAMMPS
    ("microscope", "figures"),  # from here on: arrays in, arrays out
    ("potential", "structure"),
    ("imaging", "md"),
    ("learn",),
    ("config",),  # puts the sections together that stand beside the code they set
    ("campaign",),  # stages, chunks, particles, costs, provenance
    ("pages.page",),
    ("pages.structures_pictures",),
    ("pages",),
    ("stages.arguments",),
    ("stages", "commands"),
    ("cli",),
    ("__main__",),
)
FLOORS = {name: floor for floor, names in enumerate(HOUSE) for name in names}
ALONE = ("pages", "stages", "commands")
ONLY_IN = {"lammps": {"lammps"}, "abtem": {"imaging"}, "snakemake": set()}
HEAVY = {"torch", "abtem", "lammps", "pytorch_lightning", "matplotlib", "zarr", "pandas"}
RECORDS = ("alloyscope.md.protocols", "alloyscope.learn.tasks")


def part(name: str) -> str:
    """What of the house a dotted name belongs to: "alloyscope.store.atomic" → "store"."""
    words = name.split(".")[1:3]
    return next(
        (found for found in (".".join(words), *words[:1]) if found in FLOORS), words[0] if words else "__init__"
    )


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(("alloyscope", *path.relative_to(PACKAGE).with_suffix("").parts)), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Every imported name; `from alloyscope import ids` gives "alloyscope.ids"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(target: str) -> str:
    """The module that an imported name stands in or is."""
    return (
        target if (PACKAGE.parent / Path(*target.split("."))).with_suffix(".py").exists() else target.rpartition(".")[0]
    )


def faults(name: str, tree: ast.Module) -> list[str]:
    """Imports of a module that go up or sideways, or reach for a package that is not its own."""
    own = part(name)
    found = []
    for target in imported(tree):
        top = target.split(".")[0]
        if top in ONLY_IN and own not in ONLY_IN[top]:
            found.append(f"{name} imports {top}")
        if top != "alloyscope":
            continue
        other = part(target)
        if other not in FLOORS:  # a name of alloyscope/__init__.py
            continue
        same = FLOORS[other] == FLOORS[own]
        sideways = same and (other != own or (own in ALONE and module_of(target) != name))
        if FLOORS[other] > FLOORS[own] or sideways:
            found.append(f"{name} (floor {FLOORS[own]}) imports {target} (floor {FLOORS[other]})")
    return found


def test_every_module_has_a_floor() -> None:
    assert {part(name) for name, _ in modules()} <= FLOORS.keys()


def test_imports_go_down() -> None:
    found = [fault for name, tree in modules() for fault in faults(name, tree)]
    assert found == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("alloyscope.config.read", "from alloyscope.campaign.particles import planned_particle"),
        ("alloyscope.config.read", "from alloyscope import campaign"),
        ("alloyscope.md.build", "from alloyscope.imaging.gates import rotations_uniform"),
        ("alloyscope.store.images", "import alloyscope.stages.md"),
        ("alloyscope.stages.structures", "from alloyscope.stages import describe"),
        ("alloyscope.stages.structures", "from alloyscope.stages.describe import run"),
        ("alloyscope.commands.verify", "from alloyscope.stages.dataset import run"),
        ("alloyscope.pages.report", "from alloyscope.pages import run"),
        ("alloyscope.md.build", "import lammps"),
        ("alloyscope.stages.hrtem", "from abtem import Potential"),
        ("alloyscope.commands.status", "from snakemake.api import SnakemakeApi"),
        ("alloyscope.imaging.hrtem", "from alloyscope.config.model import Config"),
    ],
)
def test_the_walk_sees_wrong_imports(name: str, line: str) -> None:
    assert len(faults(name, ast.parse(f"def f():\n    {line}"))) == 1


def loaded(*names: str) -> set[str]:
    """The heavy packages that a fresh Python has loaded after an import of modules."""
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return HEAVY & set(answer.stdout.split())


def test_what_every_job_reads_loads_nothing_heavy() -> None:
    """Each job of a cluster reads the config and with it every record; `alloyscope --help` must answer at once."""
    names = [name for name, _ in modules() if name.startswith(RECORDS) and not name.endswith("__init__")]
    assert len(names) >= 4
    assert loaded(*names, "alloyscope.config.read", "alloyscope.campaign.stages", "alloyscope.cli") == set()
    assert loaded("alloyscope.learn.model") >= {"torch"}  # the walk sees what is loaded


def lines_of_code(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    assert function.end_lineno is not None
    return function.end_lineno - first.lineno + 1


def test_modules_and_functions_stay_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: n for path, n in lengths.items() if n > 400} == {}
    functions = [
        (name, node) for name, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    assert [f"{name}.{node.name}" for name, node in functions if lines_of_code(node) > 60] == []
