"""A survey of a reader's own slices: roles, placements, domains in words; and carried labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import plant_slice

import genot_helpers as gh


def test_roles_of_one_slice_of_three_and_of_the_demo(tmp_path) -> None:
    demo = gh.survey.slice_roles("demo")
    assert demo.section == demo.named["left"] == demo.names[0]
    assert len(demo.names) == 3
    assert gh.survey.slice_roles("demo", section="151674").named == {}
    for name in ("b", "a", "c"):
        gh.write_slice(plant_slice(), tmp_path / f"{name}.h5ad")
    alone = gh.survey.slice_roles(str(tmp_path))
    assert (alone.section, alone.named, alone.there) == ("a", {}, ["a", "b", "c"])
    three = gh.survey.slice_roles(str(tmp_path), left="b", right="c", held_out="a", section="c")
    assert three.names == ["c", "b", "a"]
    assert gh.survey.slice_roles("one.h5ad", there=["x", "y"]).section == "x"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"left": "a"}, "give both left and right"),
        ({"left": "a", "right": "a"}, "different slices"),
        ({"left": "a", "right": "b", "held_out": "b"}, "different slices"),
    ],
)
def test_roles_that_cannot_be_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gh.survey.slice_roles("local", **given)


def test_a_slice_is_placed_and_noise_is_not_called_good() -> None:
    left, right = (plant_slice(seed=seed, n_rows=24, n_columns=30) for seed in (1, 2))
    noise = right.copy()
    noise.X = noise.X[np.random.default_rng(0).permutation(noise.n_obs)]
    right.obsm["spatial"] = right.obsm["spatial"] + 400.0
    placed = gh.survey.place_slices(left, {"right": right}, max_spots=1000)
    assert placed.good
    shift = placed.moved["right"].obsm["spatial"] - left.obsm["spatial"]
    assert np.abs(np.median(shift, axis=0)).max() < 100  # a spot
    assert "spatial_aligned" in right.obsm
    both = gh.survey.place_slices(left, {"right": right, "noise": noise}, max_spots=1000)
    assert not both.good
    assert list(both.verdicts["good"]) == [True, False]
    assert both.verdicts["says"].str.len().min() > 20


def test_domains_in_words() -> None:
    adata = plant_slice(seed=1)
    gh.normalise(adata)
    adata.obs["genot_domain"] = adata.obs["domain_truth"].cat.rename_categories(list("1234"))
    adata.obs["genot_confidence"] = np.where(adata.obs["genot_domain"] == "1", 0.5, 1.0)
    table = gh.survey.describe_domains(adata, gh.evaluation.domain_markers(adata, n_genes=2))
    assert list(table.index) == list("1234")
    assert table["spots"].sum() == adata.n_obs
    assert list(table["confidence"]) == [0.5, 1.0, 1.0, 1.0]
    assert list(table["most like"]) == list(adata.obs["domain_truth"].cat.categories)
    for number in range(4):  # gene k marks domain k modulo 5
        genes = table["markers"].iloc[number].split(", ")
        assert {int(gene.removeprefix("gene")) % 5 for gene in genes} == {number}


def test_carried_by_label_is_the_mean_of_the_label() -> None:
    source, target = plant_slice(seed=1), plant_slice(seed=2)
    source.obs["genot_domain"] = source.obs["domain_truth"]
    labels = target.obs["domain_truth"].astype(object)
    labels[:3], labels[3:5] = "nowhere", np.nan
    target.obs["genot_domain"] = labels
    carried = gh.interpolation.carry_by_label(source, target)
    own = target.obs["domain_truth"].to_numpy()
    for name in set(own):
        mean = source.X.toarray()[source.obs["domain_truth"] == name].mean(axis=0)
        rows = np.flatnonzero((own == name) & (np.arange(target.n_obs) > 4))
        np.testing.assert_allclose(carried.X.toarray()[rows], mean[None].repeat(len(rows), 0), 1e-5)
    assert not carried.obs["genot_covered"].iloc[:5].any()
    assert carried.obs["genot_covered"].iloc[5:].all()
    with pytest.raises(gh.SliceError, match="no_such"):
        gh.interpolation.carry_by_label(source, target, label_key="no_such")


def test_expression_around_leaves_the_own_square_out() -> None:
    adata = plant_slice(seed=1)
    around = gh.evaluation.expression_around(adata, 250.0, n_neighbors=12)
    points, values = adata.obsm["spatial"], adata.X.toarray()
    square = np.floor((points - points.min(axis=0)) / 250.0)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    for spot in (0, 57, 211):
        kth = np.sort(distance[spot])[[11, 12]]
        if np.isclose(*kth):  # which of two as near is taken is open
            continue
        near = distance[spot] < kth.mean()
        others = near & (square != square[spot]).any(axis=1)
        np.testing.assert_allclose(around.X[[spot]].toarray()[0], values[others].sum(axis=0))
    assert not gh.evaluation.expression_around(adata, 1e6).obs["genot_covered"].any()


def test_carried_labels_are_scored_by_words_and_by_information() -> None:
    measured = plant_slice(seed=1)
    right, other_words = measured.copy(), measured.copy()
    truth = measured.obs["domain_truth"].astype(str).to_numpy()
    wrong = np.arange(len(truth)) < 60
    right.obs["genot_domain"] = pd.Categorical(np.where(wrong, "band 1", truth))
    right.obs["genot_confidence"] = np.where(right.obs["genot_domain"] == truth, 0.9, 0.2)
    other_words.obs["genot_domain"] = [f"organ {name[-1]}" for name in truth]
    other_words.obs["genot_confidence"] = 1.0
    rows = {"carried": right, "words": other_words, "none": measured}
    table = gh.evaluation.score_carried_labels(rows, measured)
    assert list(table.index) == ["carried", "words"]
    share = (right.obs["genot_domain"].astype(str).to_numpy() == truth).mean()
    assert table.loc["carried", "right"] == pytest.approx(share)
    assert table.loc["words", "nmi"] == pytest.approx(1.0)
    assert np.isnan(table.loc["words", "right"])


def test_levels_of_genes_and_flat_scores() -> None:
    source, target = plant_slice(seed=1), plant_slice(seed=2)
    figure = gh.plotting.plot_gene_levels(source, target, ["gene1", "gene2"], names=("bin", "cell"))
    ax = figure.axes[0]
    assert len(ax.collections[0].get_offsets()) == 2
    assert "simulated" not in ax.get_title()
    scores = gh.evaluation.score_transfer({"near": gh.nearest_expression(source, target)}, target)
    levels = pd.DataFrame({"within": {"near": 0.5}})
    levels["spots"], levels["between"] = 0.1, 0.2
    flat = gh.evaluation.flat_transfer(scores, levels, {"a": "near", "b": "not there"})
    assert flat["a.within"] == 0.5
    assert flat["a.map"] == pytest.approx(scores["near"]["map"].mean())
    assert not [key for key in flat if key.startswith("b.")]
