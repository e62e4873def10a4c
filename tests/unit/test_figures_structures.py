"""Figures about structures show the numbers they were given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from alloyscope.errors import ContractError
from alloyscope.figures import structures as figures
from alloyscope.figures.style import BLUE, MANY_POINTS, VERMILION
from alloyscope.pages.page import protocol_looks

LOOKS = protocol_looks()


@pytest.fixture
def structures():
    return pd.DataFrame(
        {
            "valid": [True] * 6 + [False],
            "protocol": ["gas_quench"] * 4 + ["droplets"] * 3,
            "n_atoms": [60, 100, 100, 300, 80, 250, 999],
            "fraction_first": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
            "species_first": ["Ag"] * 7,
            "eta": [0.5, 0.6, 0.7, 0.8, -0.1, 0.1, np.nan],
            "d_com_over_Rg": [0.1, 0.1, 0.2, 0.6, 1.0, 1.2, np.nan],
        }
    )


def bin_row(up, across, group, low, high, value, half):
    return {
        "up": up,
        "across": across,
        "group": group,
        "low": low,
        "high": high,
        "middle": (low + high) / 2,
        "value": value,
        "value_low": value - half,
        "value_high": value + half,
    }


@pytest.fixture
def bins():
    return pd.DataFrame(
        [
            bin_row("share", "x", "gas_quench", 0, 2, 0.5, 0.25),
            bin_row("share", "x", "gas_quench", 2, 6, 0.75, 0.125),
            bin_row("share", "y", "droplets", 10, 20, 0.25, 0.125),
            bin_row("mean", "x", "droplets", 0, 6, 1.5, 0.5),
        ]
    )


def outlines(axes):
    """Colour of each step patch with its values, edges and baseline."""
    return [(to_hex(patch.get_facecolor()).upper(), patch.get_data()) for patch in axes.patches]


def test_histograms_hold_every_valid_particle(structures):
    figure = figures.distributions(structures, 0.5, LOOKS)
    for axes in figure.axes:
        drawn = [patch for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]
        assert sorted(patch.get_data().values.sum() for patch in drawn) == [2, 4]
        assert drawn[0].get_data().edges.tolist() == drawn[1].get_data().edges.tolist()
    assert figure.axes[1].get_xlabel() == "Fraction of Ag atoms"
    assert [[line.get_xdata()[0] for line in axes.lines] for axes in figure.axes] == [[], [], [0.5], [0]]


def test_order_plane_draws_valid_particles_and_both_limits(structures):
    (axes,) = figures.order_plane(structures, 0.5, LOOKS).axes
    (points,) = axes.collections
    assert len(points.get_offsets()) == 6
    assert [to_hex(colour).upper() for colour in points.get_facecolors()] == [BLUE] * 4 + [VERMILION] * 2
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines) == [(0, 0), (0.5, 0)]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["gas quench", "droplet pair"]


def test_structures_of_the_users_own_have_a_colour_and_a_name(structures):
    (axes,) = figures.order_plane(structures.assign(protocol="file"), 0.5, LOOKS).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["own structures"]


def test_many_points_become_pixels():
    n = MANY_POINTS + 1
    table = pd.DataFrame({"valid": True, "protocol": "droplets", "eta": np.zeros(n), "d_com_over_Rg": np.ones(n)})
    (axes,) = figures.order_plane(table, 0.5, LOOKS).axes
    assert axes.collections[0].get_rasterized()


def test_bands_span_their_bins_and_intervals(bins):
    figure = figures.bands(bins, {"x": "X", "y": "Y"}, {"share": "Share, %", "mean": "Mean"}, LOOKS, {"mean": 1.0})
    share_x, share_y, mean_x, mean_y = figure.axes
    ((_, data),) = outlines(share_x)
    assert data.edges.tolist() == [0, 2, 6]
    assert data.values.tolist() == [0.75, 0.875]
    assert data.baseline.tolist() == [0.25, 0.625]
    assert share_x.lines[0].get_xydata().tolist() == [[1, 0.5], [4, 0.75]]
    assert share_x.get_ylim() == share_y.get_ylim()
    assert [share_x.yaxis.get_major_formatter()(value, 0) for value in (0.25, 1)] == ["25", "100"]
    assert [len(axes.patches) for axes in figure.axes] == [1, 1, 1, 0]
    assert [line.get_ydata()[0] for line in (mean_x.lines[-1], mean_y.lines[-1])] == [1.0, 1.0]
    assert (mean_x.get_xlabel(), mean_x.get_ylabel(), share_y.get_xlabel()) == ("X", "Mean", "")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gas quench", "droplet pair"]


def test_a_lone_bin_without_width_is_seen_by_its_error_bar():
    row = bin_row("share", "x", "gas_quench", 5, 5, 0.5, 0.25)
    (axes,) = figures.bands(pd.DataFrame([row]), {"x": "X"}, {"share": "Share"}, LOOKS).axes
    (bar,) = axes.containers
    (segment,) = bar.lines[2][0].get_segments()
    assert segment.tolist() == [[5, 0.25], [5, 0.75]]


def test_pairs_of_labels_have_their_own_colours():
    rows = [bin_row("share", "x", pair, 0, 1, 0.5, 0.1) for pair in figures.PAIRS]
    figure = figures.bands(pd.DataFrame(rows), {"x": "X"}, {"share": "Share"}, figures.PAIRS)
    assert len({colour for colour, _ in outlines(figure.axes[0])}) == 5
    assert figure.legends[0].get_texts()[0].get_text() == "protocol and η"


def test_descriptors_are_compared_by_order_with_equal_areas(structures):
    table = structures.assign(ordering=["core_shell"] * 4 + ["janus"] * 2 + [None])
    figure = figures.descriptors_by_order(table, {"eta": "η", "n_atoms": "atoms"})
    for axes in figure.axes:
        drawn = [patch.get_data() for patch in axes.patches if not patch.get_fill()]
        assert [(data.values * np.diff(data.edges)).sum() for data in drawn] == pytest.approx([1, 1])


def test_particles_without_a_label_leave_the_panel_empty(structures):
    figure = figures.descriptors_by_order(structures.assign(ordering=None), {"eta": "η"})
    assert not figure.axes[0].patches


def test_classes_are_stacked_to_the_whole():
    shares = dict(zip(figures.CLASSES, (0.1, 0.1, 0.0, 0.3, 0.5)))
    rows = [{"ordering": order, "low": 60, "high": 100, **shares} for order in ("core_shell", "janus")]
    figure = figures.neighbour_classes(pd.DataFrame(rows))
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert max(bar.get_y() + bar.get_height() for bar in axes.patches) == pytest.approx(1)
        assert {(bar.get_x(), bar.get_width()) for bar in axes.patches} == {(60, 40)}


def test_missing_column_is_named(structures):
    with pytest.raises(ContractError, match=r"needs the columns .*; the table lacks eta"):
        figures.order_plane(structures.drop(columns="eta"), 0.5, LOOKS)


def test_empty_table_is_refused(structures):
    with pytest.raises(ContractError, match="at least one row; the table is empty"):
        figures.distributions(structures[~structures["valid"]], 0.5, LOOKS)
