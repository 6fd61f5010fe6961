"""Figures of a transfer: what they show is what the tables hold."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from genot_helpers import plot_side_by_side
from genot_helpers.evaluation import (
    carried_maps,
    judge_genes,
    nearest_expression,
    score_carried,
    score_transfer,
)
from genot_helpers.plotting import plot_by_depth, plot_gene_maps, plot_survival


@pytest.fixture
def table(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    return score_transfer({"nearest": nearest_expression(source, target)}, target)


def test_every_gene_is_a_dot_and_verdicts_are_counted(table):
    judged = judge_genes(table, "nearest")
    figure = plot_survival(judged, named=[judged.index[0], "unknown"])
    ax = figure.axes[0]
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == len(judged)
    text = [entry.get_text() for entry in ax.get_legend().get_texts()]
    for verdict, count in judged["verdict"].value_counts().items():
        assert f"{verdict} ({count})" in text
    assert [note.get_text() for note in ax.texts] == [judged.index[0]]
    plt.close(figure)


def test_one_line_a_row_and_one_panel_a_side(table):
    figure = plot_by_depth(table)
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "mean per measured spot (target)",
        "mean per carried spot (source)",
    ]
    for ax in figure.axes:
        assert [line.get_label() for line in ax.lines] == ["nearest", "other half", "shuffled"]
        assert len(ax.collections[0].get_offsets()) == len(table)
        assert ax.get_xscale() == "log"
    plt.close(figure)
    figure = plot_by_depth(table, score="ssim", against={"measured_share": "share of spots"})
    assert [ax.get_xlabel() for ax in figure.axes] == ["share of spots"]
    assert figure.axes[0].get_ylabel() == "ssim"
    plt.close(figure)


def test_the_maps_are_those_that_are_scored(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    scores = score_carried(source, target)
    maps = carried_maps(source, target, ["gene7", "gene0"])
    np.testing.assert_allclose(maps.correlation, scores.loc[["gene7", "gene0"], "map"])
    seen = np.isfinite(maps.measured[..., 0])
    again = np.corrcoef(maps.measured[seen][:, 0], maps.carried[seen][:, 0])[0, 1]
    assert again == pytest.approx(scores.loc["gene7", "map"])
    figure = plot_gene_maps({"carried": source}, target, ["gene7", "gene0"])
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles[0] == "gene7: measured"
    assert titles[3] == f"gene0: carried, r = {scores.loc['gene0', 'map']:.2f}"
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # as in images
    plt.close(figure)
    with pytest.raises(KeyError, match="nothing"):
        carried_maps(source, target, ["nothing"])


def test_a_domain_has_one_colour_in_all_panels(make_slice):
    one, other = make_slice(seed=1), make_slice(seed=2)
    for adata, names in ((one, "1234"), (other, "1232")):
        bands = adata.obs["domain_truth"].cat.categories
        adata.obs["found"] = adata.obs["domain_truth"].map(dict(zip(bands, names, strict=True)))
    before = one.obs.copy()
    figure = plot_side_by_side({"a": one, "b": other}, ["domain_truth", "found"])
    assert one.obs.equals(before)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["domain_truth\na", "found\na", "domain_truth\nb", "found\nb"]
    colours = [ax.collections[0].get_facecolors() for ax in figure.axes]
    np.testing.assert_allclose(colours[0], colours[1])
    np.testing.assert_allclose(colours[0], colours[2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"band {n}" for n in (1, 2, 3, 4)
    ]
    plt.close(figure)
    figure = plot_side_by_side({"a": one, "b": other}, ["found"], truth=None)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list("1234")
    plt.close(figure)
    with pytest.raises(KeyError, match="missing"):
        plot_side_by_side({"a": one}, ["missing"])
