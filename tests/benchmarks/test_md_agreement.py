"""Paired differences with known answers."""

import md_agreement
import numpy as np
import pytest
from md_agreement import UNITS, Difference


def test_difference_in_standard_errors_by_hand() -> None:
    # differences 1, 2, 3: mean 2, standard deviation 1, error 1/√3
    found = Difference(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert found.mean == 2.0
    assert found.standard_error == pytest.approx(3**-0.5)
    assert found.in_errors == pytest.approx(2 * 3**0.5)
    assert Difference(np.ones(3), np.ones(3)).in_errors == 0.0


def test_figures_of_pairs_by_hand() -> None:
    both = [(dict.fromkeys(UNITS, 0.0) | {"eta": ours}, dict.fromkeys(UNITS, 0.0)) for ours in (1.0, 2.0, 3.0)]
    found = md_agreement.figures({"droplets": both, "gas_quench": both[:1]})
    eta = found["md_eta_difference_droplets"]
    assert (eta.value, eta.runs) == (2.0, 3)
    assert (eta.min, eta.max) == pytest.approx((2 - 1.96 * 3**-0.5, 2 + 1.96 * 3**-0.5), abs=1e-4)
    assert eta.against == "ours 2.0000 ± 0.5774 and plain 0.0000 ± 0.0000: +3.5 standard errors"
    assert found["md_largest_difference"].value == pytest.approx(2 * 3**0.5)
    assert not any(name.endswith("gas_quench") for name in found)  # one pair has no error
