"""Write the eam/fs table of a parameter set and validate it through LAMMPS.

Writes DIR/<set>.eam.fs and DIR/validation.json. A table that fails a check is not left behind.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from alloyscope import lammps_engine
from alloyscope.config import PotentialSection
from alloyscope.errors import SimulationError
from alloyscope.parameters import parameter_set
from alloyscope.potential.table import setfl
from alloyscope.potential.validate import Check, reference_checks, table_checks
from alloyscope.progress import log
from alloyscope.provenance import Stopwatch
from alloyscope.steps.arguments import add_section
from alloyscope.store.atomic import write_json, write_text


def validate(text: str, settings: PotentialSection) -> list[Check]:
    """Every check of a table, through LAMMPS."""
    parameters = parameter_set(settings.set)
    lmp = lammps_engine.load_lammps()
    with TemporaryDirectory() as folder:
        table = Path(folder) / "table.eam.fs"
        table.write_text(text)

        def evaluate(
            elements: tuple[str, ...], positions_A: NDArray[np.float64], relax: bool
        ) -> tuple[float, NDArray[np.float64]]:
            types = np.array([parameters.elements.index(element) for element in elements])
            system = lammps_engine.System(parameters.elements, types, positions_A, table)
            return lammps_engine.energy_and_forces(lmp, system, relax)

        checks = [*table_checks(parameters, settings, evaluate), *reference_checks(parameters, evaluate)]
    lmp.close()
    return checks


def run(*, potential: PotentialSection, out: Path) -> None:
    watch = Stopwatch("potential")
    parameters = parameter_set(potential.set)
    text = setfl(parameters, potential)
    checks = validate(text, potential)
    for check in checks:
        bounds = f"{check.reference:.6g} ± {check.tolerance:.2g}"
        log(f"{check.name}: {check.value:.6g} {check.unit}, {'within' if check.passed else 'NOT within'} {bounds}")
    if failed := [check.name for check in checks if not check.passed]:
        raise SimulationError(
            f"potential set {parameters.name}: the table fails {', '.join(failed)}; "
            f"raise potential.n_r or n_rho, or mend the set's parameters"
        )
    write_text(out / f"{parameters.name}.eam.fs", text)
    write_json(
        out / "validation.json",
        {
            "set": parameters.model_dump(mode="json"),
            "settings": potential.model_dump(mode="json"),
            "checks": [{**asdict(check), "passed": check.passed} for check in checks],
            "provenance": watch.record(),
        },
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_section(parser, "potential", PotentialSection)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the table and its checks")


def main(arguments: argparse.Namespace) -> None:
    run(potential=arguments.potential, out=arguments.out)
