"""Scores of spatial domains: against formulas written out by hand, and what must not matter."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings, strategies as st

from genot_helpers import SliceError, recall_per_domain, score_coherence, score_domains
from genot_helpers.evaluation import majority_domains, match_domains, reliability


def make_slice(truth, found, coords=None):
    n = len(found)
    if coords is None:
        coords = np.column_stack([np.arange(n) % 7, np.arange(n) // 7])
    obs = pd.DataFrame(
        {"domain_truth": pd.Categorical(truth), "genot_domain": pd.Categorical(found)},
        index=[f"spot{i}" for i in range(n)],
    )
    return AnnData(np.ones((n, 1)), obs=obs, obsm={"spatial": np.asarray(coords, dtype=float)})


def grid(n_side):
    return np.array([(x, y) for x in range(n_side) for y in range(n_side)], dtype=float)


@st.composite
def labelled_spots(draw):
    n = draw(st.integers(12, 40))
    labels = st.lists(st.integers(0, 4), min_size=n, max_size=n)
    return np.array(draw(labels)), np.array(draw(labels))


def pair_counting_ari(truth, found):
    """Hubert and Arabie's definition, counting every pair of spots."""
    first, second = np.triu_indices(len(truth), k=1)
    same_truth, same_found = truth[first] == truth[second], found[first] == found[second]
    both, expected = (same_truth & same_found).sum(), same_truth.sum() * same_found.mean()
    largest = (same_truth.sum() + same_found.sum()) / 2
    return 1.0 if largest == expected else (both - expected) / (largest - expected)


def entropy(*labels):
    counts = np.unique(np.column_stack(labels), axis=0, return_counts=True)[1]
    return -(counts / counts.sum() * np.log(counts / counts.sum())).sum()


@settings(max_examples=40, deadline=None)
@given(labelled_spots())
def test_scores_follow_their_definitions(spots):
    truth, found = spots
    scores = score_domains(make_slice(truth, found))
    shared = entropy(truth) + entropy(found) - entropy(truth, found)
    mean_entropy = (entropy(truth) + entropy(found)) / 2
    assert scores["ari"] == pytest.approx(pair_counting_ari(truth, found), abs=1e-9)
    if entropy(truth) > 0 and entropy(found) > 0:
        assert scores["nmi"] == pytest.approx(shared / mean_entropy, abs=1e-9)
        assert scores["homogeneity"] == pytest.approx(shared / entropy(truth), abs=1e-9)
        assert scores["completeness"] == pytest.approx(shared / entropy(found), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(labelled_spots(), st.randoms(use_true_random=False))
def test_neither_row_order_nor_names_matter(spots, random):
    truth, found = spots
    adata = make_slice(truth, found)
    order = random.sample(range(len(truth)), len(truth))
    new_names = np.array(random.sample("qwert", 5))
    renamed = make_slice(truth, new_names[found])[order].copy()
    expected = score_domains(adata)
    assert score_domains(renamed) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(labelled_spots())
def test_the_matching_shares_as_many_spots_as_any_other(spots):
    truth, found = spots
    table = pd.crosstab(truth, found).to_numpy()
    table = table if table.shape[0] <= table.shape[1] else table.T
    rows = np.arange(table.shape[0])
    best = max(table[rows, list(p)].sum() for p in permutations(range(table.shape[1]), len(rows)))
    matched = match_domains(make_slice(truth, found))
    assert sum((truth[found == ours] == theirs).sum() for ours, theirs in matched.items()) == best


def test_identical_domains_score_one_under_any_name():
    truth = np.repeat(["L1", "L2", "WM"], [10, 20, 19])
    names = {"L1": 7, "L2": 3, "WM": 5}
    adata = make_slice(truth, [names[label] for label in truth])
    scores = score_domains(adata)
    for key in ("ari", "nmi", "homogeneity", "completeness", "macro_f1", "macro_recall"):
        assert scores[key] == pytest.approx(1.0)
    assert (scores["n_spots"], scores["n_scored"], scores["n_domains"]) == (49, 49, 3)
    assert match_domains(adata) == {7: "L1", 3: "L2", 5: "WM"}


def test_a_missing_layer_shows_although_the_rand_index_is_high():
    truth = np.repeat(["L3", "L4", "L5"], [48, 4, 48])
    found = np.repeat(["a", "b"], [50, 50])
    adata = make_slice(truth, found)
    table = recall_per_domain(adata)
    assert score_domains(adata)["ari"] > 0.85
    assert list(table.index) == ["L3", "L4", "L5"]
    assert table.loc["L4", ["recall", "precision", "f1"]].tolist() == [0, 0, 0]
    assert table.loc["L4", "matched_domain"] is None
    assert table.loc["L3", ["n_spots", "matched_domain"]].tolist() == [48, "a"]
    assert table.loc["L3", "recall"] == 1
    assert table.loc["L3", "precision"] == pytest.approx(48 / 50)
    assert score_domains(adata)["macro_f1"] == pytest.approx(table["f1"].mean())


def test_leftover_found_domains_have_no_partner():
    adata = make_slice(np.repeat(["x", "y"], [20, 10]), np.repeat([1, 2, 3], [12, 8, 10]))
    assert match_domains(adata) == {1: "x", 2: None, 3: "y"}


def test_spots_without_annotation_are_left_out_of_the_comparison_only():
    truth = np.repeat(["x", "y"], [20, 22]).astype(object)
    found = np.repeat([1, 2], [20, 22])
    truth[15:20], found[15:20] = np.nan, 3
    adata = make_slice(truth, found)
    scores = score_domains(adata)
    assert scores["ari"] == 1 and scores["n_scored"] == 37
    assert scores["n_spots"] == 42 and scores["n_domains"] == 3
    assert match_domains(adata) == {1: "x", 2: "y", 3: None}
    known = adata[adata.obs["domain_truth"].notna()].copy()
    assert scores["chaos"] != score_coherence(known)["chaos"]


def test_coherence_follows_its_definition():
    rng = np.random.default_rng(0)
    coords, found = rng.random((80, 2)) * [1, 5], rng.integers(0, 3, 80)
    scores = score_coherence(make_slice(found, found, coords))
    scaled = (coords - coords.mean(axis=0)) / coords.std(axis=0)
    distance = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    same = found[:, None] == found[None]
    assert scores["chaos"] == pytest.approx(np.where(same, distance, np.inf).min(axis=1).mean())
    raw = np.linalg.norm(coords[:, None] - coords[None], axis=2)
    np.fill_diagonal(raw, np.inf)
    ten = np.argsort(raw, axis=1)[:, :10]
    abnormal = [(found[ten[i]] != found[i]).sum() >= 6 for i in range(80)]
    assert scores["pas"] == pytest.approx(np.mean(abnormal))


def test_coherence_tells_smooth_domains_from_scattered_ones():
    coords = grid(20)
    halves = (coords[:, 0] >= 10).astype(int)
    scattered = np.random.default_rng(0).permutation(halves)
    smooth, rough = (score_coherence(make_slice(f, f, coords)) for f in (halves, scattered))
    assert smooth["pas"] == 0 and rough["pas"] > 0.3
    assert smooth["chaos"] < rough["chaos"]


def test_coherence_does_not_depend_on_row_order_on_a_grid_with_ties():
    coords = grid(12)
    found = np.random.default_rng(1).integers(0, 3, len(coords))
    order = np.random.default_rng(2).permutation(len(coords))
    shuffled = score_coherence(make_slice(found[order], found[order], coords[order]))
    assert shuffled == score_coherence(make_slice(found, found, coords))


def test_spots_alone_in_their_domain_are_left_out_of_chaos():
    one_alone = score_coherence(make_slice([0] * 11 + [1], [0] * 11 + [1]))
    assert np.isfinite(one_alone["chaos"])
    assert np.isnan(score_coherence(make_slice(range(12), range(12)))["chaos"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.obs.drop(columns="domain_truth", inplace=True), "domain_truth.*missing"),
        (lambda a: a.obs.drop(columns="genot_domain", inplace=True), "genot_domain.*missing"),
        (lambda a: a.obsm.pop("spatial"), 'adata, obsm."spatial".: there are no coordinates'),
        (lambda a: a.obsm["spatial"].__setitem__((3, 0), np.nan), "1 of 20 .*NaN or infinite"),
    ],
)
def test_what_is_missing_is_named(spoil, message):
    adata = make_slice([0, 1] * 10, [0, 1] * 10)
    spoil(adata)
    with pytest.raises(SliceError, match=message):
        score_domains(adata)


def test_slices_without_a_single_label_or_with_missing_domains_are_refused():
    adata = make_slice([np.nan] * 20, [0, 1] * 10)
    with pytest.raises(SliceError, match="no annotated spot"):
        score_domains(adata)
    assert score_coherence(adata)["pas"] >= 0
    with pytest.raises(SliceError, match="no domain for 2 of 20"):
        recall_per_domain(make_slice([0, 1] * 10, [0, 1] * 9 + [np.nan] * 2))


def test_reliability_counts_right_spots_by_confidence():
    adata = make_slice(["a"] * 6 + ["b"] * 4, ["1"] * 5 + ["2"] * 5)
    adata.obs["genot_confidence"] = [0.9] * 5 + [0.3] + [1.0] * 4
    table = reliability(adata, n_bins=2)
    assert table["n_spots"].tolist() == [1, 9]
    assert table["right"].tolist() == [0, 1]
    np.testing.assert_allclose(table["confidence"], [0.3, (0.9 * 5 + 4) / 9])
    with pytest.raises(ValueError, match="n_bins is 0"):
        reliability(adata, n_bins=0)
    with pytest.raises(SliceError, match="sure"):
        reliability(adata, confidence="sure")


def test_a_name_needs_a_majority():
    adata = make_slice(list("aaabbbcc"), list("11122222"))
    assert majority_domains(adata) == {"1": "a", "2": "b"}
    adata = make_slice(list("aaabbccc"), list("11122223"))
    assert majority_domains(adata) == {"1": "a", "2": "mixed", "3": "c"}
    assert match_domains(adata)["2"] in {"b", "c"}
