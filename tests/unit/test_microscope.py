"""The task `microscope`: its labels turn with the image, and its loss and scores are those of hand arithmetic."""

import numpy as np
import pandas as pd
import pytest
import torch

from alloyscope.learn.preparation import turned
from alloyscope.learn.task import Scale
from alloyscope.learn.tasks.microscope import READ, Microscope, shown_truths

TABLE = pd.DataFrame(
    {"defocus_A": [100.0, -50.0], "C12_A": [30.0, 20.0], "phi12_rad": [0.4, 2.0], "dose_e_per_A2": [100.0, 1000.0]}
)


def astigmatic(C12_A: float, phi12_rad: float) -> np.ndarray:
    """The part C12 cos 2(φ − φ12) of the aberration function, on a grid whose rows are y."""
    y, x = np.indices((33, 33)) - 16.0
    return C12_A * (x**2 + y**2) * np.cos(2 * (np.arctan2(y, x) - phi12_rad))


@pytest.mark.parametrize("symmetry", range(8))
def test_astigmatism_turns_with_the_image(symmetry: int) -> None:
    labels = {name: torch.from_numpy(values) for name, values in Microscope().labels(TABLE).items()}
    batch = labels | {"symmetry": torch.tensor([symmetry] * 2), "dose_e_per_A2": torch.tensor([500.0, 800.0])}
    defocus, cosine, sine, ln_dose = shown_truths(batch).T.double().numpy()
    for place, row in TABLE.iterrows():
        expected = turned(torch.from_numpy(astigmatic(row["C12_A"], row["phi12_rad"])), symmetry).numpy()
        found = astigmatic(
            float(np.hypot(cosine[place], sine[place])), float(np.arctan2(sine[place], cosine[place]) / 2)
        )
        np.testing.assert_allclose(found, expected, atol=1e-2)
    assert defocus.tolist() == [100, -50]
    assert ln_dose.tolist() == pytest.approx(np.log([500, 800]).tolist())  # of the visit, not of the stored image


def test_the_loss_is_that_of_laplace_densities() -> None:
    task, scale = Microscope(), Scale((0.0,) * 4, (1.0,) * 4)
    zero = torch.zeros(1)
    batch = dict.fromkeys(READ, zero) | {"symmetry": zero.long(), "dose_e_per_A2": torch.ones(1)}
    output = torch.tensor([[2.0, 0, 0, 0, np.log(4.0), 0, 0, 0]])
    # −ln of e^(−2/4)/8, and three times −ln ½
    assert float(task.loss(output, batch, scale)) == pytest.approx(0.5 + np.log(8) + 3 * np.log(2))
    assert float(task.metrics(output + 3, batch, scale)["C12_A_mae"]) == pytest.approx(np.sqrt(18))


def test_scores_stand_beside_the_constant_guess() -> None:
    task = Microscope()
    truth = {name: np.array(values) for name, values in zip(READ, ([0.0, 100], [3.0, 0], [4.0, 0], [5.0, 6]))}
    predicted = {f"{name}_predicted": values + (10 if name == "defocus_A" else 0) for name, values in truth.items()}
    scales = {f"{name}_scale": np.array([5.0, 1.0]) for name in READ}
    found = task.score(pd.DataFrame({"particle": [0, 1], **truth, **predicted, **scales}), TABLE)
    assert found["defocus_A_mae"] == 10
    assert found["defocus_A_mae_baseline"] == pytest.approx((25 + 75) / 2)
    assert found["C12_A_mae"] == 0
    assert found["C12_A_mae_baseline"] == pytest.approx((5 + 0) / 2)
    assert found["within_90"]["defocus_A"] == 0.5  # ln 10 · 5 > 10 > ln 10 · 1
