"""Figures show the numbers they were given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from alloyscope.errors import ContractError
from alloyscope.figures.images import image_row
from alloyscope.figures.learning import confusion_matrix, learning_curves, predicted_against_true, quality_against_dose
from alloyscope.figures.run import run_times

LABELS = {"psnr_dB": "PSNR (dB)", "ssim": "SSIM"}


@pytest.fixture
def reading():
    return pd.DataFrame(
        {
            "ordering": ["core_shell"] * 4 + ["janus"] * 2,
            "ordering_predicted": ["core_shell"] * 3 + ["janus"] * 3,
            "n_atoms": [100, 120, 140, 160, 180, 200],
            "n_atoms_predicted": [90.0, 130, 140, 150, 260, 200],
            "fraction_first": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            "fraction_first_predicted": [0.2, 0.2, 0.3, 0.4, 0.5, 0.6],
        }
    )


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_confusion_matrix_counts_and_shares(reading):
    (axes,) = confusion_matrix(reading).axes
    assert texts(axes) == ["3\n75 %", "1\n25 %", "0\n0 %", "2\n100 %"]


def test_scatter_has_equal_axes_over_all_values(reading):
    figure = predicted_against_true(reading, "Ag")
    for axes, low, high in zip(figure.axes, (90, 0.1), (260, 0.6)):
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_xlim()[0] < low < high < axes.get_xlim()[1]
    assert figure.axes[0].get_xlabel() == "Atoms, true"


def test_images_without_an_order_are_shown_and_not_confused(reading):
    reading = reading.assign(ordering=pd.array(["core_shell"] * 3 + ["other", "janus", None], dtype="string"))
    (axes,) = confusion_matrix(reading).axes
    assert texts(axes) == ["3\n100 %", "0\n0 %", "0\n0 %", "1\n100 %"]
    scatter = predicted_against_true(reading, "Ag").axes[0]
    clouds = {each.get_label(): each.get_offsets().tolist() for each in scatter.collections}
    assert clouds["neither"] == [[160, 150]]
    assert clouds["no label"] == [[200, 200]]
    assert sum(map(len, clouds.values())) == 6


def test_image_row_shares_grey_where_asked():
    low, high = np.zeros((8, 8)), np.ones((8, 8))
    noisy, truth, denoised = 10 * high, np.tile([0.0, 1.0], (8, 4)), low - 5
    figure = image_row((noisy, truth, denoised), ("a", "b", "c"), "title", 0.4348, shared_grey=(1, 2))
    limits = [axes.images[0].get_clim() for axes in figure.axes]
    assert limits[1] == limits[2] == (0.0, 1.0)
    assert limits[0] == (10.0, 10.0)


def test_scale_bar_has_its_stated_length():
    figure = image_row((np.zeros((128, 128)),) * 2, ("a", "b"), "title", 0.4348)
    axes = figure.axes[0]
    # the field is 5.57 nm; the longest round length within 40 % of it is 2 nm, 46.0 pixels
    assert texts(axes) == ["2 nm"]
    widths = [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert any(width == pytest.approx(20 / 0.4348) for width in widths)
    assert not figure.axes[1].patches


def test_learning_curves_have_one_panel_per_metric():
    metrics = pd.DataFrame({"epoch": [0, 1], "train_loss": [2.0, 1.0], "validation_loss": [2.5, 1.5]})
    assert len(learning_curves(metrics, LABELS).axes) == 1
    metrics["validation_psnr_dB"], metrics["validation_ssim"] = [10.0, 20.0], [0.1, 0.5]
    figure = learning_curves(metrics, LABELS)
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "PSNR (dB)", "SSIM"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[1, 10.0], [2, 20.0]]


def test_quality_against_dose_is_logarithmic():
    table = pd.DataFrame(
        {
            "dose_e_per_A2": [100.0, 1000.0],
            "psnr_noisy_dB": [5.0, 15.0],
            "psnr_dB": [20.0, 25.0],
            "ssim_noisy": [0.1, 0.2],
            "ssim": [0.8, 0.9],
        }
    )
    left, right = quality_against_dose(table).axes
    assert left.get_xscale() == right.get_xscale() == "log"
    assert left.collections[1].get_offsets().tolist() == [[100.0, 20.0], [1000.0, 25.0]]


@pytest.mark.parametrize(("longest", "unit", "width"), [(90.0, "s", 90.0), (600.0, "min", 10.0), (36_000.0, "h", 10.0)])
def test_run_times_choose_their_unit(longest, unit, width):
    (axes,) = run_times({"md": longest, "hrtem": 60.0}).axes
    assert axes.get_xlabel() == f"Time in jobs ({unit})"
    assert axes.patches[0].get_width() == width
    assert axes.texts[1].get_text() == "60 s"  # not 0.0 h


def test_no_global_state_is_left(reading):
    before = dict(matplotlib.rcParams)
    confusion_matrix(reading)
    assert dict(matplotlib.rcParams) == before


def test_missing_column_is_named(reading):
    with pytest.raises(ContractError, match=r"needs the columns .*; the table lacks ordering"):
        confusion_matrix(reading.drop(columns="ordering"))


def test_empty_table_is_refused(reading):
    with pytest.raises(ContractError, match="at least one row; the table is empty"):
        confusion_matrix(reading[:0])


def test_image_stack_is_refused():
    with pytest.raises(ContractError, match=r"image must be \(y, x\); got \(2, 4, 4\)"):
        image_row((np.zeros((2, 4, 4)),), ("a",), "title", 0.4)


def test_run_times_need_a_rule():
    with pytest.raises(ContractError, match="at least one rule; got none"):
        run_times({})
