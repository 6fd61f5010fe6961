"""Two halves of one tissue: the strip along the cut, agreement, jump, and the joined figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from genot_helpers import SliceError, check_slice, colour_domains
from genot_helpers.evaluation import cut_agreement, cut_offset, cut_strip
from genot_helpers.plotting import join_halves, plot_cut


@pytest.fixture
def halves(make_slice):
    """One tissue with four horizontal bands, cut in two at its middle; each half on a slide."""
    whole = make_slice(n_rows=24, n_columns=20)
    band = (whole.obs["array_row"] * 4 // 24).to_numpy()
    whole.obs["genot_domain"] = pd.Categorical([str(number + 1) for number in band])
    whole.obsm["X_pca"] = np.column_stack([band, np.zeros(whole.n_obs)]).astype(float)
    front = (whole.obs["array_col"] < 20).to_numpy()
    left, right = whole[front].copy(), whole[~front].copy()
    right.obsm["spatial"] = right.obsm["spatial"] - [800.0, 250.0]
    return left, right


def test_the_strip_lies_along_the_cut_and_height_is_relative(halves):
    left, right = halves
    for half, side, pick in ((left, "right", max), (right, "left", min)):
        height = cut_strip(half, side)
        assert (height.min(), height.max()) == (0, 1)
        x = half[height.index].obsm["spatial"][:, 0]
        edge = pick(half.obsm["spatial"][:, 0])
        assert np.abs(x - edge).max() < 350
        assert 2 * 24 <= len(height) <= 4 * 24
        y = half[height.index].obsm["spatial"][:, 1]
        np.testing.assert_allclose(height, (y - y.min()) / np.ptp(y))


def test_a_tilted_cut_is_followed_and_a_receding_outline_left_out(halves):
    left, _ = halves
    xy = left.obsm["spatial"]
    limit = xy[:, 0].max() - 0.1 * (xy[:, 1] - xy[:, 1].min())  # the cut leans by six degrees
    lower = xy[:, 1] > np.quantile(xy[:, 1], 0.8)
    tilted = left[(xy[:, 0] <= limit) & ~(lower & (xy[:, 0] > 350))].copy()
    strip = cut_strip(tilted, "right")
    inside = tilted[strip.index].obsm["spatial"]
    assert inside[:, 1].max() <= np.quantile(xy[:, 1], 0.8)
    to_cut = xy[:, 0].max() - 0.1 * (inside[:, 1] - xy[:, 1].min()) - inside[:, 0]
    assert to_cut.max() < 450


def test_agreement_of_halves_that_continue(halves):
    found = cut_agreement(*halves)
    assert found.agreement > 0.9
    assert 0.1 < found.shuffled < 0.4
    assert found.upside_down < 0.1
    assert cut_agreement(*halves) == found  # the same bits


def test_agreement_of_halves_with_other_names(halves):
    left, right = halves
    other = {"1": "2", "2": "3", "3": "4", "4": "1"}
    right.obs["genot_domain"] = right.obs["genot_domain"].cat.rename_categories(other)
    assert cut_agreement(left, right).agreement < 0.1
    assert cut_agreement(left, left, sides=("right", "right")).agreement == pytest.approx(1)


def test_jump_at_the_cut_is_in_units_of_the_tissue(halves):
    left, right = halves
    assert cut_offset(left, right) < 0.1
    spread = np.sqrt(1.25)  # of the numbers 0 to 3, equally often
    right.obsm["X_pca"] = right.obsm["X_pca"] + [0.0, 2 * spread]
    assert cut_offset(left, right) == pytest.approx(2, rel=0.1)


def test_joined_halves_lie_side_by_side_and_sections_below_each_other(halves):
    left, right = halves
    joined = join_halves({"l1": left, "l2": left}, {"r1": right, "r2": right})
    check_slice(joined)
    assert joined.n_obs == 2 * (left.n_obs + right.n_obs)
    assert list(joined.obs["slice"].cat.categories) == ["l1", "r1", "l2", "r2"]
    assert joined.uns["genot"]["micrometres_per_unit"] == 1.0
    assert joined.uns["genot"]["simulated"] is False
    part = {
        name: joined[joined.obs["slice"] == name].obsm["spatial"] for name in ("l1", "r1", "l2")
    }
    assert part["r1"][:, 0].min() == pytest.approx(part["l1"][:, 0].max() + 300)
    assert part["l2"][:, 1].min() > part["l1"][:, 1].max()
    # Shifted, never turned: distances within a slice stay.
    np.testing.assert_allclose(np.diff(part["r1"], axis=0), np.diff(right.obsm["spatial"], axis=0))
    # The cuts lie at the same height, so rows go on from one half to the other.
    assert abs(part["l1"][:, 1].min() - part["r1"][:, 1].min()) < 1


def test_joined_halves_of_unequal_number(halves):
    left, right = halves
    joined = join_halves({"l1": left, "l2": left}, {"r1": right})
    assert joined.n_obs == 2 * left.n_obs + right.n_obs


@pytest.mark.filterwarnings("error")
def test_figure_of_the_cut(halves):
    left, right = halves
    joined = join_halves({"l": left}, {"r": right})
    figure = plot_cut(left, right, colour_domains(joined), titles=("front", "back"))
    assert [ax.get_title() for ax in figure.axes] == ["front", "back"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "2", "3", "4"]
    plt.close(figure)


def test_bad_input_gives_one_clear_error(halves):
    left, right = halves
    with pytest.raises(ValueError, match="side is 'top'"):
        cut_strip(left, "top")
    with pytest.raises(SliceError, match=r"key is 'nothing', but no slice has obs\['nothing'\]"):
        cut_agreement(left, right, key="nothing")
    left.obs["here"] = "1"
    with pytest.raises(SliceError, match=r"obs\['here'\] is missing"):  # in the other slice
        cut_agreement(left, right, key="here")
    del left.obs["here"]
    left.obs["genot_domain"] = pd.Categorical([None] * left.n_obs, categories=["1"])
    with pytest.raises(SliceError, match="No height along the cut"):
        cut_agreement(left, right)
