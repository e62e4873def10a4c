"""What a set's references of kind `computed` are worth: lattice sums written apart from the package give them, too.

Only the parameters are read from the package. Energies are sums over lattice points, with the cutoff polynomial of
docs/physics.md §1 between the two ends of each window.
"""

from collections.abc import Iterator
from importlib.resources import files
from itertools import product

import numpy as np
import pytest
import yaml
from scipy.optimize import minimize, minimize_scalar

from alloyscope.potential.sets import packaged_sets

FIVE_SHELLS = ((12, 1), (6, 2), (24, 3), (12, 4), (24, 5))  # fcc: atoms, and the square of distance over the nearest
Pair = dict[str, float]


def content(name: str) -> dict:
    return yaml.safe_load((files("alloyscope") / "data" / "potentials" / f"{name}.yaml").read_text())


def computed(name: str) -> Iterator[tuple[str, float, float, str]]:
    """Property, value, tolerance and source of each reference that is said to be computed."""
    for reference in content(name)["references"]:
        if reference["kind"] == "computed":
            yield reference["property"], reference["value"], float(reference["tolerance"]), reference["source"]


def faded(r: np.ndarray, pair: Pair, amplitude: float, decay: float) -> np.ndarray:
    """Amplitude exp(−decay (r/r0 − 1)); inside the window c3 d³ + c4 d⁴ + c5 d⁵ with d = r − Rc, beyond it 0."""
    start, end, r0 = pair["cut_start_A"], pair["cut_end_A"], pair["r0_A"]
    at_start = amplitude * np.exp(-decay * (start / r0 - 1))
    wanted = at_start * np.array([1, -decay / r0, (decay / r0) ** 2])
    d = start - end
    powers = np.array([[d**3, d**4, d**5], [3 * d**2, 4 * d**3, 5 * d**4], [6 * d, 12 * d**2, 20 * d**3]])
    c3, c4, c5 = np.linalg.solve(powers, wanted)
    d = np.minimum(r - end, 0)
    return np.where(r < start, amplitude * np.exp(-decay * (r / r0 - 1)), c3 * d**3 + c4 * d**4 + c5 * d**5)


def fcc_energy(nearest: float, pair: Pair) -> float:
    """Energy of an atom whose neighbours stand in five full shells."""
    counts, r = np.array(FIVE_SHELLS).T * np.array([[1.0], [1.0]])
    strain = np.sqrt(r) * nearest / pair["r0_A"] - 1
    repulsion = pair["A_eV"] * counts @ np.exp(-pair["p"] * strain)
    return float(repulsion - np.sqrt(pair["xi_eV"] ** 2 * counts @ np.exp(-2 * pair["q"] * strain)))


def layered_energy(a: float, c: float, pairs: dict[str, Pair], first: str, second: str) -> float:
    """Energy of an atom of L1₀: on the sites of fcc, layers of the first and of the second element along z."""
    cells = np.array(list(product(range(-4, 5), repeat=3)))
    sites = {0.0: ((0, 0), (0.5, 0.5)), 0.5: ((0, 0.5), (0.5, 0))}
    total = 0.0
    for own, other in ((first, second), (second, first)):
        repulsion = density = 0.0
        for height, element in ((0.0, own), (0.5, other)):
            pair = pairs.get(f"{own}-{element}") or pairs[f"{element}-{own}"]
            points = np.concatenate([cells + np.array([x, y, height]) for x, y in sites[height]]) * [a, a, c]
            r = np.linalg.norm(points, axis=1)
            r = r[r > 0]
            repulsion += faded(r, pair, pair["A_eV"], pair["p"]).sum()
            density += (faded(r, pair, pair["xi_eV"], pair["q"]) ** 2).sum()
        total += 0.5 * (repulsion - np.sqrt(density))
    return total


def test_five_shells_give_the_cohesion_that_is_said_to_be_computed() -> None:
    """The window of AuCu-long ends at the sixth neighbours: five shells are the whole sum."""
    said = {name: (value, tolerance) for name, value, tolerance, _ in computed("AuCu-long")}
    for element in ("Au", "Cu"):
        pair = content("AuCu-long")["pairs"][f"{element}-{element}"]
        found = minimize_scalar(lambda r, of=pair: fcc_energy(r, of), bounds=(2.3, 3.1), options={"xatol": 1e-9})
        assert np.sqrt(6) * found.x == pytest.approx(pair["cut_end_A"], abs=2e-4)
        for quantity, value in (("lattice constant", np.sqrt(2) * found.x), ("cohesive energy", found.fun)):
            reference, tolerance = said[f"{element} fcc {quantity}"]
            assert value == pytest.approx(reference, abs=tolerance), quantity


def test_lattice_sum_gives_the_tetragonality_that_is_said_to_be_computed() -> None:
    ((value, tolerance),) = [(v, t) for name, v, t, _ in computed("AuCu-long") if name == "AuCu L1_0 c/a"]
    pairs = content("AuCu-long")["pairs"]
    found = minimize(lambda edges: layered_energy(*edges, pairs, "Au", "Cu"), (3.95, 3.7), method="Nelder-Mead")
    assert found.x[1] / found.x[0] == pytest.approx(value, abs=tolerance)


@pytest.mark.parametrize("name", packaged_sets())
def test_no_value_from_memory_is_called_computed(name: str) -> None:
    assert [quantity for quantity, _, _, source in computed(name) if "[memory]" in source] == []
