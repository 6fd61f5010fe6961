"""Figures of a first look: what is in them, and what they leave alone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import plant_slice

import genot_helpers as gh


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def titles(figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_depth_with_and_without_image(planted):
    assert titles(gh.plotting.plot_depth(planted)) == ["Total of a spot", "Genes found in a spot"]
    picture = np.full((90, 110, 3), 200, dtype="uint8")
    factors = {"tissue_lowres_scalef": 0.05, "spot_diameter_fullres": 55.0}
    planted.uns["spatial"] = {"s": {"images": {"lowres": picture}, "scalefactors": factors}}
    assert titles(gh.plotting.plot_depth(planted))[0] == "Spots on the image"
    assert titles(gh.plotting.plot_depth(planted, image=False))[0] == "Total of a spot"


def test_criterion_marks_the_lowest_and_the_number_used():
    table = pd.DataFrame(
        {"bic": [5.0, 1, 3], "chosen": [False, True, False], "bic_independent": [9.0, 5, 1]},
        index=pd.Index([2, 3, 4], name="n_domains"),
    )
    (ax,) = gh.plot_n_domains(table, 3).axes
    circles = [line for line in ax.lines if line.get_markersize() == 11]
    assert [list(line.get_xdata()) for line in circles] == [[3], [4]]
    assert "used: 3" in [text.get_text() for text in ax.get_legend().get_texts()]
    table["bic_independent"] = table["bic"]
    (ax,) = gh.plot_n_domains(table, 3).axes
    assert len([line for line in ax.lines if line.get_markersize() == 11]) == 1


def test_markers_dot_for_each_domain_and_gene(planted):
    gh.normalise(planted)
    genes = ["gene0", "gene1", "missing", "gene0"]
    ax = gh.plotting.plot_markers(planted, genes, key="domain_truth").axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["gene0", "gene1"]
    colours = ax.collections[0].get_array().reshape(4, 2)
    assert colours.argmax(axis=0).tolist() == [0, 1]  # each marks its band
    with pytest.raises(ValueError, match="None of the genes"):
        gh.plotting.plot_markers(planted, ["missing"], key="domain_truth")


def test_similarity_one_panel_a_measure(planted):
    table = gh.evaluation.gene_similarity(plant_slice(seed=1), planted)
    figure = gh.plotting.plot_gene_similarity(table, ["gene3", "nothing"])
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == 5
    assert all([text.get_text() for text in ax.texts] == ["gene3"] for ax in shown)
    assert max(ax.get_subplotspec().colspan.start for ax in shown) == 2  # three side by side
    both = gh.plotting.plot_gene_similarity({"one": table, "two": table.assign(ssim=np.nan)})
    legend = both.axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]


def test_labels_keep_the_colours_that_they_had(planted):
    given = {"band 1": "#123456", "band 3": "#0072B2"}
    figure = gh.plot_series({"a": planted, "b": planted}, "domain_truth", colours=given)
    legend = figure.axes[1].get_legend()
    colours = {
        text.get_text(): handle.get_color()
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    assert colours["band 1"] == "#123456"
    assert colours["band 3"] == "#0072B2"
    assert len(set(colours.values())) == 4
