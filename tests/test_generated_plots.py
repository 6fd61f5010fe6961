"""Figures of generated slices: the same axes, colours and orientation in every panel."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import OUR_WARNINGS_ARE_ERRORS
from matplotlib.colors import to_hex
from matplotlib_scalebar.scalebar import ScaleBar

from genot_helpers import (
    PALETTE,
    apply_alignment,
    plot_alignment,
    plot_coupling,
    plot_generated,
    plot_scores,
    plot_series,
    plot_sources,
    plot_trend,
    plot_warp,
    sparse_coupling,
)
from genot_helpers.alignment import SimilarityTransform
from genot_helpers.interpolation import fit_warp
from genot_helpers.plotting.generated_plots import expression_of
from genot_helpers.plotting.plotting import UNANNOTATED

pytestmark = OUR_WARNINGS_ARE_ERRORS  # figures must not warn in normal use


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def three(make_slice):
    """Left, generated and right slice; the generated one as interpolation leaves it."""
    left, right = make_slice(seed=1), make_slice(seed=2)
    right.obsm["spatial"] = right.obsm["spatial"] + [30.0, -20.0]
    left.obs["domain_truth"] = left.obs["domain_truth"].where(np.arange(left.n_obs) != 7)
    generated = left.copy()
    generated.obs["genot_domain"] = generated.obs.pop("domain_truth").cat.remove_categories(
        "band 4"
    )
    generated.obs["genot_domain"] = generated.obs["genot_domain"].fillna("band 1")
    source = np.where(np.arange(left.n_obs) % 4 == 0, "right", "left")
    generated.obs["genot_source"] = pd.Categorical(source, categories=["left", "right"])
    generated.obsm["spatial"] = generated.obsm["spatial"] + [15.0, -10.0]
    generated.layers["mean"] = np.full(generated.shape, 2.0, dtype=np.float32)
    generated.uns["genot"] = {"t": 0.25, "simulated": True}
    return left, generated, right


def panels(figure):
    """Axes with a slice in them, so no colour bars."""
    return [ax for ax in figure.axes if ax.get_title()]


def colours_of(ax):
    return [to_hex(colour).upper() for colour in ax.collections[0].get_facecolor()]


# --- slices side by side -------------------------------------------------------------------------


def test_a_label_has_one_colour_in_all_panels(three):
    left, generated, right = three
    figure = plot_generated(left, generated, right, right)
    titles = [ax.get_title() for ax in panels(figure)]
    assert titles == ["left", "generated, t = 0.25", "held out", "right"]
    keys = ["domain_truth", "genot_domain", "domain_truth", "domain_truth"]
    expected = dict(zip([f"band {n}" for n in (1, 2, 3, 4)], PALETTE, strict=False))
    slices = (left, generated, right, right)
    for ax, adata, key in zip(panels(figure), slices, keys, strict=True):
        labels = adata.obs[key].astype(object)
        wanted = [expected.get(label, UNANNOTATED).upper() for label in labels]
        drawn, where = colours_of(ax), ax.collections[0]
        np.testing.assert_array_equal(drawn, wanted)
        assert len(where.get_facecolor()) == adata.n_obs
    legend = panels(figure)[-1].get_legend()
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["band 1", "band 2", "band 3", "band 4", "unannotated"]


def test_panels_share_axes_and_orientation_and_say_what_is_simulated(three):
    left, generated, right = three
    down = panels(plot_generated(left, generated, right))
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in down}) == 1
    assert down[0].yaxis_inverted()
    everything = np.vstack([adata.obsm["spatial"] for adata in three])
    low, high = sorted(down[0].get_xlim())
    assert low < everything[:, 0].min() and everything[:, 0].max() < high
    assert all(any(isinstance(a, ScaleBar) for a in ax.get_children()) for ax in down)
    said = ["simulated tissue" in [text.get_text() for text in ax.texts] for ax in down]
    assert said == [False, True, False]
    left.uns["genot"] = {"y_axis": "up"}
    up = panels(plot_generated(left, generated, right))
    assert not any(ax.yaxis_inverted() for ax in up)


def test_scale_bar_of_a_thinned_slice_is_that_of_the_frame(three):
    left, generated, _ = three
    thin = generated[::3].copy()  # its spots are farther apart, its micrometres are not
    figure = plot_series({"left": left, "thin": thin}, "gene3")
    bars = [next(a for a in ax.get_children() if isinstance(a, ScaleBar)) for ax in panels(figure)]
    assert bars[0].dx == pytest.approx(1.0) == bars[1].dx


def test_genes_in_rows_with_one_scale_and_the_mean_beside(three):
    left, generated, right = three
    figure = plot_generated(left, generated, right, color=["gene3", "gene5"])
    shown = panels(figure)
    assert [ax.get_title() for ax in shown[:4]] == [
        *("gene3: left", "gene3: generated, t = 0.25"),
        *("gene3: generated, t = 0.25, mean", "gene3: right"),
    ]
    assert len(shown) == 8
    assert len({ax.collections[0].get_clim() for ax in shown[:4]}) == 1
    mean = shown[2].collections[0].get_array()
    depth = np.median(np.asarray(left.X.sum(axis=1)))
    np.testing.assert_allclose(mean, np.log1p(depth / left.n_vars))
    without = plot_generated(left, generated, right, color="gene3", mean=False)
    assert len(panels(without)) == 3


def test_more_than_four_slices_take_several_lines(three):
    left, generated, right = three
    shown = panels(plot_generated(left, generated, right, left, color=["gene3", "gene5"]))
    named = [ax.get_title().removeprefix("gene3: ") for ax in shown[:5]]
    assert named == [
        "left",
        "held out",
        "right",
        "generated, t = 0.25",
        "generated, t = 0.25, mean",
    ]
    places = [ax.get_subplotspec() for ax in shown]
    assert [one.rowspan.start for one in places] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert [one.colspan.start for one in places] == [0, 1, 2, 0, 1] * 2
    figure = plot_series({f"slice {n}": left for n in range(5)}, "domain_truth")
    assert len(panels(figure)) == 5
    (legend,) = [ax for ax in figure.axes if ax.get_legend()]  # where no slice is
    assert legend.get_subplotspec().colspan.start == 2
    assert not legend.axison


def test_one_scale_of_colours_beside_each_gene(three):
    figure = plot_series({"one": three[0], "other": three[2]}, ["gene3", "gene5"])
    scales = [ax for ax in figure.axes if not ax.get_title()]
    assert len(scales) == 2
    shown = panels(figure)
    widths = [ax.get_position().width for ax in shown]
    assert widths == pytest.approx([widths[0]] * 4)
    for scale, ax in zip(scales, shown[::2], strict=True):
        assert scale.get_ylim() == pytest.approx(ax.collections[0].get_clim())


def test_expression_of_counts_is_scaled_and_of_logarithms_is_not(three):
    left, _, _ = three
    counts = left.X.toarray()
    total = counts.sum(axis=1)
    wanted = np.log1p(counts[:, 3] / total * np.median(total))
    np.testing.assert_allclose(expression_of(left, "gene3"), wanted, rtol=1e-6)
    logs = ad.AnnData(np.log1p(counts) * 0.9, var=left.var)
    np.testing.assert_allclose(expression_of(logs, "gene3"), logs.X[:, 3])
    with pytest.raises(KeyError, match="has no 'nowhere'"):
        expression_of(left, "nowhere")


def test_slices_stay_as_they_are(three):
    before = [adata.copy() for adata in three]
    plot_generated(*three)
    plot_generated(*three, color="gene3")
    plot_sources(three[1])
    for one, other in zip(before, three, strict=True):
        assert set(one.uns) == set(other.uns)
        pd.testing.assert_frame_equal(one.obs, other.obs)


def test_a_slice_without_labels_is_grey(three):
    left, generated, right = three
    del right.obs["domain_truth"]
    shown = panels(plot_generated(left, generated, right))
    assert set(colours_of(shown[-1])) == {UNANNOTATED.upper()}


def test_a_series_of_generated_slices(three):
    _, generated, _ = three
    figure = plot_series({"t = 0": generated, "t = 1": generated}, "genot_domain")
    assert [ax.get_title() for ax in panels(figure)] == ["t = 0", "t = 1"]
    means = plot_series({"t = 0": generated, "t = 1": generated}, "gene3", layer="mean")
    assert len(panels(means)) == 2
    with pytest.raises(ValueError, match="figures of their own"):
        plot_series({"one": generated}, ["genot_domain", "gene3"])
    with pytest.raises(KeyError, match="nowhere"):
        plot_series({"one": generated}, "nowhere")


def test_sources_wear_the_colours_of_their_sides(three):
    _, generated, _ = three
    (ax,) = panels(plot_sources(generated))
    assert ax.get_title() == "75% from the left slice, 25% from the right"
    wanted = np.where(generated.obs["genot_source"] == "left", PALETTE[0], PALETTE[5])
    np.testing.assert_array_equal(colours_of(ax), wanted)
    with pytest.raises(KeyError, match="genot_source"):
        plot_sources(three[0])


# --- what happens between two slices -------------------------------------------------------------


def test_alignment_before_and_after(three):
    left, _, right = three
    with pytest.raises(KeyError, match="align it first"):
        plot_alignment(left, right)
    apply_alignment(right, SimilarityTransform(translation=[-30.0, 20.0]))
    figure = plot_alignment(left, right, gene="gene0")
    before, after = panels(figure)
    spots = [ax.collections[0].get_offsets() for ax in (before, after)]
    np.testing.assert_allclose(spots[0], left.obsm["spatial"])
    others = [
        [c for c in ax.collections if len(c.get_offsets()) == right.n_obs][1].get_offsets()
        for ax in (before, after)
    ]
    np.testing.assert_allclose(others[0], right.obsm["spatial"])
    np.testing.assert_allclose(others[1], left.obsm["spatial"], atol=1e-9)
    assert before.get_xlim() == after.get_xlim()


def test_coupling_marks_spots_without_partner(three):
    left, _, right = three
    right = right[right.obs["domain_truth"] != "band 4"].copy()
    points = left.obsm["spatial"], right.obsm["spatial"]
    ones = {"left_mass": np.ones(left.n_obs), "right_mass": np.ones(right.n_obs)}
    coupling = sparse_coupling(*points, unmatched_cost=4.0, **ones)
    whole, window = panels(plot_coupling(left, right, coupling, n_arrows=50))
    assert whole.get_title().startswith("50 of ")
    crosses = [len(c.get_offsets()) for c in whole.collections[-2:]]
    assert crosses == [(coupling.left_unmatched > 0.5).sum(), 0]
    assert crosses[0] >= 60
    width = np.abs(np.diff(window.get_xlim()))
    assert width == pytest.approx(12 * 100.0, rel=0.1)
    with pytest.raises(ValueError, match="belongs to others"):
        plot_coupling(right, left, coupling)


def test_warp_shows_how_far_in_spot_spacings(three):
    left, _, right = three
    x = left.obsm["spatial"][:, :1] / 1000
    features = np.hstack([np.sin(x), np.cos(2 * x)])
    points = left.obsm["spatial"], right.obsm["spatial"]
    warp = fit_warp(*points, features, features, stiffness=0.01)
    bent, length = panels(plot_warp(warp, left))
    way = np.linalg.norm(warp.move_left(points[0], 1.0) - points[0], axis=1) / 100.0
    np.testing.assert_allclose(length.collections[0].get_array(), way)
    assert len(bent.lines) > 20
    still = fit_warp(*points, features, features, stiffness=np.inf)
    assert panels(plot_warp(still, left))[1].collections[0].get_clim() == (0.0, 1.0)


# --- numbers -------------------------------------------------------------------------------------


def test_scores_in_panels_with_the_ceiling():
    rows = ["genot", "genot_mean", "copy_left", "ceiling"]
    table = pd.DataFrame(
        {
            "map": [0.6, 0.7, 0.5, 0.65],
            "variance": [1.0, 0.1, 1.1, 1.0],
            "ari": np.nan,
            "my_score": [1.0, 2.0, 3.0, np.nan],
        },
        index=rows,
    )
    figure = plot_scores(table, ("map", "variance", "ari", "my_score"))
    shown = panels(figure)
    assert [ax.get_title().split("\n")[0] for ax in shown] == [
        *("map correlation", "variance, over real", "my_score"),  # nobody has an ARI
    ]
    ceiling = [line for line in shown[0].lines if line.get_linestyle() == "--"]
    assert ceiling[0].get_xdata()[0] == 0.65
    assert [text.get_text() for text in shown[0].texts] == ["0.600", "0.700", "0.500", "0.650"]
    assert shown[1].get_xscale() == "log"
    assert np.ptp(shown[0].get_xlim()) > 0.2
    equal = plot_scores(pd.DataFrame({"map": [0.660, 0.661]}, index=rows[:2]), ("map",))
    assert np.ptp(equal.axes[0].get_xlim()) > 0.1  # a difference of nothing looks like nothing


def test_trend_along_t_with_measured_ends():
    table = pd.DataFrame({"L1": [10.0, 15.0, 20.0], "WM": [5.0, 5.0, 5.0]}, index=[0.0, 0.5, 1.0])
    (ax,) = plot_trend(table, table.iloc[[0, 2]], ylabel="share (%)").axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["L1", "WM", "measured"]
    assert ax.get_ylim()[0] == 0.0
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [0.0, 1.0])
    (ax,) = plot_trend(table, ylabel="share (%)", colours={"WM": PALETTE[6]}).axes
    assert [line.get_color() for line in ax.lines] == [PALETTE[0], PALETTE[6]]
