"""Figures of a transfer: what they show is what the tables hold."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from genot_helpers import (
    judge_genes,
    nearest_expression,
    plot_by_depth,
    plot_survival,
    score_transfer,
)


@pytest.fixture
def table(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    return score_transfer({"nearest": nearest_expression(source, target)}, target)


def test_every_gene_is_a_dot_and_verdicts_are_counted(table):
    judged = judge_genes(table, "nearest")
    figure = plot_survival(judged, n_named=2)
    ax = figure.axes[0]
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == len(judged)
    text = [entry.get_text() for entry in ax.get_legend().get_texts()]
    for verdict, count in judged["verdict"].value_counts().items():
        assert f"{verdict} ({count})" in text
    assert judged.index[0] in [note.get_text() for note in ax.texts]
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
