"""Write the eam/fs table of a parameter set and validate it with LAMMPS.

Writes DIR/<set>.eam.fs, DIR/validation.json and DIR/validation.svg. The latter two show every check with its value,
reference, tolerance and reason. When the table deviates from the formula, or from a reference that was computed with
the same parameters, nothing is written. A deviation from an experiment is a limit of the model and is only reported.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.errors import SimulationError
from alloyscope.figures.potential import validation
from alloyscope.lammps.start import load_lammps
from alloyscope.potential.evaluate import FromFormula, ThroughLammps
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.potential.validate import (
    Check,
    Curve,
    cluster_checks,
    curve_checks,
    dimer_curves,
    packaged_clusters,
    property_checks,
    read_clusters,
    reference_checks,
)
from alloyscope.progress import log
from alloyscope.stages.arguments import add_section
from alloyscope.store.atomic import write_json, write_text, writing


def validate(text: str, settings: PotentialSection, references: Sequence[Path] = ()) -> tuple[list[Check], list[Curve]]:
    """Check a table with LAMMPS.

    Returns:
        Every check, and the error of the table for two atoms as a function of their distance.
    """
    parameters = parameter_set(settings.set)
    clusters = [found] if (found := packaged_clusters(parameters)) else []
    clusters += [read_clusters(path, parameters) for path in references]
    lmp = load_lammps()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.eam.fs"
        path.write_text(text)
        table, formula = ThroughLammps(lmp, parameters, path), FromFormula(parameters)
        curves = dimer_curves(parameters, table, formula)
        checks = [
            *curve_checks(parameters, settings, curves),
            *cluster_checks(parameters, settings, table, formula),
            *property_checks(parameters, table, formula),
            *(check for reference in clusters for check in reference_checks(parameters, reference, table)),
        ]
    lmp.close()
    return checks, curves


def run(*, potential: PotentialSection, out: Path, references: Sequence[Path] = ()) -> None:
    """Write the table, validation.json and validation.svg.

    Raises:
        SimulationError: the table deviates from the formula or from a computed reference; nothing is written.
    """
    watch = Stopwatch("potential")
    parameters = parameter_set(potential.set)
    text = setfl(parameters, potential)
    checks, curves = validate(text, potential, references)
    for check in checks:
        bounds = f"{check.reference:.6g} ± {check.tolerance:.2g} ({check.kind})"
        log(f"{check.name}: {check.value:.6g} {check.unit}, {'within' if check.passed else 'NOT within'} {bounds}")
    if failed := [check.name for check in checks if not check.passed and check.kind != "experiment"]:
        raise SimulationError(
            f"potential set {parameters.name}: the table fails {', '.join(failed)}; "
            f"raise potential.n_r or n_rho, or correct the set's parameters or references"
        )
    write_text(out / f"{parameters.name}.eam.fs", text)
    rows = [asdict(check) | {"passed": check.passed} for check in checks]
    figure = validation(pd.DataFrame(rows), [asdict(curve) for curve in curves], parameters.name)
    with writing(out / "validation.svg") as aside:
        figure.savefig(aside, format="svg")
    write_json(
        out / "validation.json",
        {
            "set": parameters.model_dump(mode="json"),
            "settings": potential.model_dump(mode="json"),
            "checks": rows,
            "curves": [asdict(curve) for curve in curves],
            "provenance": watch.record(),
        },
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_section(parser, "potential", PotentialSection, required=False)
    parser.add_argument(
        "--set", metavar="SET", help="parameter set, or the path of a YAML file (default: that of --potential)"
    )
    parser.add_argument(
        "--references", type=Path, nargs="+", default=(), metavar="FILE", help="more reference clusters (JSON)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the table and its checks")


def main(arguments: argparse.Namespace) -> None:
    potential = arguments.potential
    if arguments.set is not None:
        potential = potential.model_copy(update={"set": arguments.set})
    run(potential=potential, out=arguments.out, references=arguments.references)
