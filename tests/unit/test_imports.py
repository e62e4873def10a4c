"""Imports go down the floors listed here, and heavy or foreign packages stay where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "alloyscope"

FLOORS = {
    "__init__": 0,
    "errors": 0,
    "units": 0,
    "intervals": 0,
    "wording": 0,
    "sections": 1,
    "parameters": 1,
    "presets": 1,
    "instrument": 1,
    "config": 1,
    "ids": 1,
    "contracts": 1,
    "plan": 2,
    "provenance": 2,
    "progress": 2,
    "store": 3,
    "lammps": 3,
    "microscope": 3,
    "potential": 4,
    "md": 4,
    "structure": 4,
    "imaging": 4,
    "learn": 4,
    "counting": 4,
    "figures": 4,
    "rendering": 4,
    "steps": 5,
    "cli": 6,
    "__main__": 7,
}
ONLY_IN = {"lammps": {"lammps"}, "abtem": {"imaging"}, "snakemake": set()}


def part(name: str) -> str:
    """The module or sub-package of alloyscope a dotted name belongs to: "alloyscope.store.atomic" → "store".

    Modules called figures_… are one part with `figures`, whose style they share.
    """
    words = name.split(".")
    if len(words) == 1:
        return "__init__"
    return "figures" if words[1].startswith("figures_") else words[1]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(("alloyscope", *path.relative_to(PACKAGE).with_suffix("").parts)), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Every imported name; `from alloyscope import plan` gives "alloyscope.plan"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
        sideways = FLOORS[other] == FLOORS[own] == 4 and other != own
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
        ("alloyscope.config", "from alloyscope.plan import particle"),
        ("alloyscope.config", "from alloyscope import plan"),
        ("alloyscope.md.build", "from alloyscope.structure.order import eta"),
        ("alloyscope.store.images", "import alloyscope.steps.md"),
        ("alloyscope.md.build", "import lammps"),
        ("alloyscope.steps.hrtem", "from abtem import Potential"),
        ("alloyscope.steps.status", "from snakemake.api import SnakemakeApi"),
    ],
)
def test_the_walk_sees_wrong_imports(name: str, line: str) -> None:
    assert len(faults(name, ast.parse(f"def f():\n    {line}"))) == 1


def test_heavy_packages_are_not_imported_by_light_modules() -> None:
    """`alloyscope config` must answer at once: floors 0–2 and the command line load neither torch nor abTEM."""
    for name, tree in modules():
        if FLOORS[part(name)] <= 2 or part(name) == "cli":
            tops = {target.split(".")[0] for target in imported(tree)}
            assert not tops & {"torch", "abtem", "lammps", "pytorch_lightning", "matplotlib", "zarr"}, name


def lines_of_code(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    assert function.end_lineno is not None
    return function.end_lineno - first.lineno + 1


def test_modules_and_functions_stay_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py") if path.name != "config.py"}
    assert {path.name: n for path, n in lengths.items() if n > 400} == {}
    functions = [
        (name, node) for name, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    assert [f"{name}.{node.name}" for name, node in functions if lines_of_code(node) > 60] == []
