"""Which genes survive a transfer: scores per gene, floor, ceiling, verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import plant_slice
from hypothesis import given, settings, strategies as st
from scipy import sparse

import genot_helpers as gh
from genot_helpers import SliceError, carry_expression, score_generated
from genot_helpers.evaluation import judge_genes, nearest_expression, score_carried, score_transfer
from genot_helpers.evaluation.carried_scores import VERDICTS

SCORES = ["map", "ssim", "rmse", "js"]


def scaled(adata, factors):
    """Multiply the counts of some genes."""
    out = adata.copy()
    each = [factors.get(gene, 1.0) for gene in out.var_names]
    out.X = sparse.csr_matrix(out.X @ sparse.diags(each), dtype=np.float32)
    out.X.eliminate_zeros()
    return out


@pytest.fixture
def pair(make_slice):
    """Two sections of one tissue: 20 x 30 spots, four bands; every fifth gene marks no band."""
    return make_slice(seed=1, n_rows=20, n_columns=30), make_slice(seed=2, n_rows=20, n_columns=30)


def scrambled(adata, genes, seed=0):
    """Shuffle the spots of some genes: their level stays, their pattern goes."""
    out, order = adata.copy(), np.random.default_rng(seed).permutation(adata.n_obs)
    values, columns = out.X.toarray(), out.var_names.get_indexer(genes)
    values[:, columns] = values[order][:, columns]
    out.X = sparse.csr_matrix(values)
    return out


def test_a_slice_against_itself_is_perfect(planted):
    scores = score_carried(planted, planted)
    assert list(scores.index) == list(planted.var_names)
    np.testing.assert_allclose(scores["map"], 1.0, atol=1e-9)
    np.testing.assert_allclose(scores["ssim"], 1.0, atol=1e-9)
    for name in ("rmse", "js", "level"):
        np.testing.assert_allclose(scores[name], 0.0, atol=1e-6)
    np.testing.assert_allclose(scores["measured_mean"], planted.to_df().mean(), rtol=1e-5)
    np.testing.assert_allclose(scores["carried_share"], (planted.to_df() > 0).mean())
    np.testing.assert_allclose(scores["identity"], 1.0)


def test_the_mean_over_genes_is_the_score_of_a_generated_slice(pair):
    source, target = pair
    scores = score_carried(source, target)
    whole = score_generated(source, target)
    assert scores["map"].mean() == pytest.approx(whole["map"], abs=1e-9)
    assert scores["ssim"].mean() == pytest.approx(whole["ssim"], abs=1e-9)


def test_genes_with_a_pattern_survive_and_a_scrambled_one_does_not(pair):
    source, target = pair
    bad = ["gene0", "gene1"]
    scores = score_carried(carry_expression(scrambled(source, bad), target), target)
    markers = [f"gene{k}" for k in range(2, 60) if k % 5 < 4]
    assert scores.loc[markers, "map"].mean() > 0.6
    assert (scores.loc[bad, "map"] < 0.3).all()
    good, lost = scores.loc[markers], scores.loc[bad]
    assert good["ssim"].mean() > lost["ssim"].mean() + 0.1
    assert good["rmse"].mean() < lost["rmse"].mean()
    assert good["js"].mean() < lost["js"].mean()
    assert good["identity"].mean() > lost["identity"].mean() + 0.2


def test_a_gene_under_the_name_of_another_is_not_recognised(pair):
    source, target = pair
    renamed = source.copy()
    names = np.array(source.var_names)
    names[[0, 1]] = names[[1, 0]]  # they mark two different bands
    renamed.var_names = names
    right, wrong = (score_carried(one, target).loc["gene0"] for one in (source, renamed))
    assert right["map"] > right["other_gene"] - 0.2
    assert wrong["map"] < 0 < right["map"]
    assert wrong["identity"] < 0.5 < right["identity"]


@settings(max_examples=15, deadline=None)
@given(factor=st.sampled_from([0.25, 0.5, 3.0, 40.0]), seed=st.integers(0, 1000))
def test_depth_and_order_of_spots_change_no_score(factor, seed):
    source, target = plant_slice(seed=3, n_genes=12), plant_slice(seed=4, n_genes=12)
    expected = score_carried(source, target)
    other = source[np.random.default_rng(seed).permutation(source.n_obs)].copy()
    other.X = other.X * factor
    found = score_carried(other, target)
    np.testing.assert_allclose(found[SCORES], expected[SCORES], atol=1e-6)
    np.testing.assert_allclose(found["level"], expected["level"], atol=1e-6)
    np.testing.assert_allclose(found["carried_mean"], factor * expected["carried_mean"], rtol=1e-5)
    assert found["map"].between(-1, 1).all()
    assert found["js"].between(0, 1).all()
    assert (found["rmse"] >= 0).all()


def test_a_level_that_differs_is_told_apart_from_a_pattern_that_differs(pair):
    source, target = pair
    louder = scaled(source, {"gene0": 4.0, "gene4": 4.0})  # gene4 marks nothing
    before, after = score_carried(source, target), score_carried(louder, target)
    assert after.loc["gene0", "level"] == pytest.approx(before.loc["gene0", "level"] + 2, abs=0.4)
    assert after.loc["gene0", "map"] > 0.8 * before.loc["gene0", "map"]
    assert after.loc["gene0", "rmse"] > 1.5 * before.loc["gene0", "rmse"]


def test_a_constant_gene_scores_zero_and_one_not_measured_has_no_score(pair):
    source, target = scaled(pair[0], {"gene0": 0.0}), scaled(pair[1], {"gene1": 0.0})
    scores = score_carried(source, target)
    assert scores.loc["gene0", "map"] == 0
    assert scores.loc["gene0", "js"] == 1
    assert scores.loc["gene1", SCORES].isna().all()
    assert scores.loc["gene2", SCORES].notna().all()


def test_uncovered_spots_do_not_count(pair):
    source, target = pair
    carried = carry_expression(source, target)
    expected = score_carried(carried[carried.obs["domain_truth"] != "band 4"], target)
    carried.obs["genot_covered"] = (carried.obs["domain_truth"] != "band 4").to_numpy()
    pd.testing.assert_frame_equal(score_carried(carried, target), expected)


def test_logarithms_are_compared_as_they_are(pair):
    logged = [adata.copy() for adata in pair]
    for adata in logged:
        adata.X = sparse.csr_matrix(np.log1p(1.5 * adata.X.toarray()))
    scores = score_carried(carry_expression(*logged), logged[1])
    markers = [f"gene{k}" for k in range(60) if k % 5 < 4]
    assert scores.loc[markers, "map"].mean() > 0.6


# --- beside baselines, floor and ceiling --------------------------------------------------------


def test_the_nearest_spot_is_copied_and_several_are_averaged(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    one = nearest_expression(source, target)
    np.testing.assert_array_equal(one.X.toarray(), source.X.toarray())  # the same places
    assert list(one.obs_names) == list(target.obs_names)
    assert one.obs["genot_covered"].all()
    every = nearest_expression(source, target, n_neighbors=source.n_obs)
    np.testing.assert_allclose(every.X.toarray()[7], source.X.toarray().mean(axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="n_neighbors"):
        nearest_expression(source, target, n_neighbors=0)


def test_a_transfer_stands_between_floor_and_ceiling(pair):
    source, target = pair
    rows = {"transport": carry_expression(source, target), "nearest": nearest_expression(*pair)}
    table = score_transfer(rows, target, n_repeats=2)
    assert list(table.columns.get_level_values("row").unique()) == [
        *rows,
        "other half",
        "shuffled",
    ]
    means = table.xs("map", axis=1, level="score").mean()
    assert abs(means["shuffled"]) < 0.1
    assert means["transport"] > means["shuffled"] + 0.3
    assert means["other half"] > means["shuffled"] + 0.3
    again = score_transfer(rows, target, n_repeats=2)
    assert table.equals(again)


def test_verdicts_tell_lost_genes_from_genes_nobody_could_judge(pair):
    source, target = pair
    bad = ["gene0", "gene1"]
    carried = carry_expression(scrambled(source, bad), target)
    table = score_transfer({"transport": carried}, target, n_repeats=3)
    judged = judge_genes(table, "transport")
    assert list(judged["verdict"].cat.categories) == list(VERDICTS)
    assert judged["verdict"].is_monotonic_increasing
    assert set(judged.loc[bad, "verdict"]) == {"lost"}
    markers = [f"gene{k}" for k in range(2, 60) if k % 5 < 4]
    assert judged.loc[markers, "verdict"].isin(VERDICTS[:2]).mean() > 0.9
    unmarked = [f"gene{k}" for k in range(4, 60, 5)]
    assert (judged.loc[unmarked, "verdict"] == "cannot tell").mean() > 0.6
    assert (judged["bound"] >= judged["ceiling"] - 1e-9).all()


def test_bad_input_is_refused(pair, make_slice):
    source, target = pair
    far = source.copy()
    far.obsm["spatial"] = far.obsm["spatial"] + 1e6
    for one in (score_carried, lambda a, b: nearest_expression(a, b)):
        with pytest.raises(SliceError, match="overlap"):
            one(far, target)
    other = source.copy()
    other.var_names = [f"other{k}" for k in range(other.n_vars)]
    with pytest.raises(SliceError, match="no gene in common"):
        score_carried(other, target)
    few = source.copy()
    few.obs["genot_covered"] = np.arange(few.n_obs) < 5
    with pytest.raises(SliceError, match="at least 20"):
        score_carried(few, target)
    table = score_transfer({"a": source}, target)
    with pytest.raises(KeyError, match="no row 'b'"):
        judge_genes(table, "b")
    with pytest.raises(ValueError, match="names of other rows"):
        score_transfer({"shuffled": source}, target)
    with pytest.raises(ValueError, match="n_repeats is 0; give a number from 1 to"):
        score_transfer({"a": source}, target, n_repeats=0)


def test_zeros_that_counting_explains_are_those_of_drawn_molecules():
    rng = np.random.default_rng(0)
    totals = rng.lognormal(sigma=0.5, size=4000)
    means = np.array([0.05, 0.5, 2.0])
    drawn = rng.poisson(np.outer(totals / totals.mean(), means))
    expected = gh.evaluation.zeros_by_counting(means, totals)
    np.testing.assert_allclose(expected, (drawn == 0).mean(axis=0), atol=0.02)
    for bad in (([-1.0], [1.0]), ([1.0], [0.0, 0.0])):
        with pytest.raises(ValueError, match="0 or more"):
            gh.evaluation.zeros_by_counting(*bad)
