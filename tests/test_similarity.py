"""Similarity gene by gene: equal slices, dense oracles, what each measure must not see."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import plant_slice
from hypothesis import given, settings, strategies as st
from scipy import sparse
from scipy.spatial.distance import cosine, jensenshannon

import genot_helpers as gh
from genot_helpers import SliceError
from genot_helpers.comparable import sparse_log_profiles
from genot_helpers.evaluation.gene_maps import MapPair, compare_maps

MEASURES = ["pearson", "cosine", "rmse", "jensen_shannon", "ssim", "mean"]


def test_a_slice_is_like_itself(planted):
    table = gh.evaluation.gene_similarity(planted, planted)
    assert list(table.columns) == MEASURES
    assert set(table.index) == set(planted.var_names)
    np.testing.assert_allclose(table[["pearson", "cosine", "ssim"]], 1.0, atol=1e-9)
    np.testing.assert_allclose(table[["rmse", "jensen_shannon"]], 0.0, atol=1e-9)


def test_measures_are_those_of_scipy_and_of_the_whole_slice():
    real, ours = plant_slice(seed=0), plant_slice(seed=1)
    table = gh.evaluation.gene_similarity(ours, real)
    genes, x, y = sparse_log_profiles(ours, real).most_variable()
    points = real.obsm["spatial"], ours.obsm["spatial"]
    pair = MapPair(*points)
    ((_, a, b),), both = pair.blocks(x, y), pair.both
    for number, gene in list(enumerate(genes))[::13]:
        one, other, row = a[..., number][both], b[..., number][both], table.loc[gene]
        assert row["pearson"] == pytest.approx(np.corrcoef(one, other)[0, 1])
        assert row["cosine"] == pytest.approx(1 - cosine(one, other))
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean((one - other) ** 2)))
        assert row["jensen_shannon"] == pytest.approx(jensenshannon(one, other, base=2) ** 2)
        assert row["mean"] == pytest.approx(one.mean())
    whole = compare_maps(*points, x.toarray(), y.toarray())
    assert table["pearson"].mean() == pytest.approx(whole["map"])
    assert table["ssim"].mean() == pytest.approx(whole["ssim"])


def test_the_gene_that_fails_is_found():
    real, ours = plant_slice(seed=0), plant_slice(seed=1)
    values = ours.X.toarray()
    rng = np.random.default_rng(0)
    values[:, 7] = rng.permutation(values[:, 7])  # right level, no pattern
    values[:, 8] = 0
    ours.X = sparse.csr_matrix(values)
    table = gh.evaluation.gene_similarity(ours, real)
    patterned = [f"gene{i}" for i in range(60) if i % 5 < 4 and i not in (7, 8)]
    assert table.loc["gene7", "pearson"] < 0.4 < table.loc[patterned, "pearson"].min()
    assert table.loc["gene7", "cosine"] > 0.6  # which is why cosine alone says little
    assert np.isnan(table.loc["gene8", ["pearson", "cosine", "jensen_shannon"]]).all()
    assert np.isfinite(table.loc["gene8", "rmse"])
    assert table["pearson"].dropna().is_monotonic_decreasing


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(300)), shift=st.floats(-1e4, 1e4), factor=st.floats(0.1, 10))
def test_order_of_spots_and_unit_of_length_do_not_matter(order, shift, factor):
    real, ours = plant_slice(seed=0), plant_slice(seed=1)
    expected = gh.evaluation.gene_similarity(ours, real)
    moved = ours[list(order)].copy()
    for adata in (real, moved):
        adata.obsm["spatial"] = factor * adata.obsm["spatial"] + shift
    found = gh.evaluation.gene_similarity(moved, real).loc[expected.index]
    close = np.isclose(found["pearson"], expected["pearson"], atol=0.05)
    assert close.mean() > 0.9  # a spot on the border of a bin may change sides by rounding


def test_by_domain_needs_no_frame_and_no_order():
    one, other = plant_slice(seed=0), plant_slice(seed=1)
    other.obsm["spatial"] = other.obsm["spatial"][::-1] + 1e6
    table = gh.evaluation.gene_similarity_by_domain(one, other, key="domain_truth")
    assert list(table.columns) == [name for name in MEASURES if name != "ssim"]
    planted = [f"gene{i}" for i in range(60) if i % 5 < 4]
    assert table.loc[planted, "pearson"].min() > 0.9
    again = gh.evaluation.gene_similarity_by_domain(one, one, key="domain_truth")
    np.testing.assert_allclose(again["pearson"], 1.0)


def test_a_layer_is_scored_in_place_of_the_counts():
    real, ours = plant_slice(seed=0), plant_slice(seed=1)
    ours.layers["mean"] = np.tile(ours.X.toarray().mean(axis=0), (ours.n_obs, 1))
    flat = gh.evaluation.gene_similarity(ours, real, layer="mean")
    assert flat["pearson"].isna().all()
    assert gh.evaluation.gene_similarity(ours, real, max_genes=9).shape == (9, 6)


def test_bad_input_says_what_to_do(planted):
    far = planted.copy()
    far.obsm["spatial"] = far.obsm["spatial"] + 1e6
    with pytest.raises(SliceError, match="do not overlap"):
        gh.evaluation.gene_similarity(far, planted)
    with pytest.raises(SliceError, match="too few"):
        gh.evaluation.gene_similarity(planted[:10].copy(), planted)
    with pytest.raises(SliceError, match="Find domains first"):
        gh.evaluation.gene_similarity_by_domain(planted, planted)
    renamed = planted.copy()
    renamed.obs["domain_truth"] = renamed.obs["domain_truth"].astype(str) + "x"
    with pytest.raises(SliceError, match="Match them first"):
        gh.evaluation.gene_similarity_by_domain(planted, renamed, key="domain_truth")
    logs = planted.copy()
    logs.X = logs.X.log1p()
    with pytest.raises(SliceError, match="same form"):
        gh.evaluation.gene_similarity(logs, planted)
