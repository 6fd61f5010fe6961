"""From counts to joint components: against dense arithmetic, and what must not change."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse

from genot_helpers import (
    SliceError,
    joint_components,
    normalise,
    preprocess,
    smooth_components,
    spatial_graph,
)


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def small(counts, genes=None):
    counts = np.asarray(counts, dtype=np.float32)
    genes = genes or [f"gene{number}" for number in range(counts.shape[1])]
    return ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=genes))


# --- normalise ---------------------------------------------------------------------------------


def test_every_spot_gets_the_depth_of_the_median_spot_of_all_slices(make_slice):
    slices = [make_slice(seed=1), make_slice(seed=2)]
    slices[1].X = slices[1].X * 3.0  # sequenced three times as deep
    normalise(slices)
    totals = np.concatenate([dense(adata.X).sum(axis=1) for adata in slices])
    for adata in slices:
        depth = np.expm1(dense(adata.layers["log1p"])).sum(axis=1)
        np.testing.assert_allclose(depth, np.median(totals), rtol=1e-4)


def test_layer_is_log1p_of_scaled_counts(planted):
    normalise(planted)
    counts = dense(planted.X)
    totals = counts.sum(axis=1, keepdims=True)
    wanted = np.log1p(counts / totals * np.median(totals))
    np.testing.assert_allclose(dense(planted.layers["log1p"]), wanted, rtol=1e-5)
    assert planted.layers["log1p"].dtype == np.float32


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_x_stays_as_it_is_and_the_layer_is_as_sparse(planted, kind):
    planted.X = kind(dense(planted.X))
    before = dense(planted.X).copy()
    normalise(planted)
    np.testing.assert_array_equal(dense(planted.X), before)
    assert sparse.issparse(planted.layers["log1p"]) == sparse.issparse(planted.X)
    if sparse.issparse(planted.X):
        assert planted.layers["log1p"].nnz == planted.X.nnz
    assert "log1p" not in planted.uns  # no mark that X itself is logged


def test_integer_counts_are_not_truncated(planted):
    plain = planted.copy()
    planted.X = planted.X.astype(np.int64)
    normalise([planted])
    normalise([plain])
    np.testing.assert_array_equal(dense(planted.layers["log1p"]), dense(plain.layers["log1p"]))


def test_scaling_gives_genes_unit_spread_without_centring(planted):
    normalise(planted, scale=True, key_added="scaled")
    scaled = dense(planted.layers["scaled"])
    assert scaled.min() == 0.0
    assert scaled.max() <= 10.0
    np.testing.assert_allclose(scaled.std(axis=0, ddof=1)[scaled.max(axis=0) < 10], 1.0, rtol=1e-3)
    assert sparse.issparse(planted.layers["scaled"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (-1.0, "slice 2: X holds negative or missing"),
        (np.nan, r"slices\[1\], X: 1 values are NaN .*spot 'spot0', gene 'gene5'.*Fix"),
    ],
)
def test_negative_or_missing_values_are_refused_before_anything_is_written(
    make_slice, bad, message
):
    slices = [make_slice(seed=1), make_slice(seed=2)]
    slices[1].X.data[5] = bad
    with pytest.raises(ValueError, match=message):
        normalise(slices)
    assert not any(adata.layers for adata in slices)


# --- joint_components --------------------------------------------------------------------------


def test_components_are_the_singular_vectors_of_the_stacked_centred_matrix(make_slice):
    slices = [make_slice(seed=1), make_slice(seed=2, n_rows=9)]
    normalise(slices)
    ratio = joint_components(slices, n_components=6, genes=None)
    stacked = np.concatenate([dense(adata.layers["log1p"]) for adata in slices]).astype(float)
    left, size, _ = np.linalg.svd(stacked - stacked.mean(axis=0), full_matrices=False)
    wanted = (left * size)[:, :6]
    found = np.concatenate([adata.obsm["X_pca"] for adata in slices])
    signs = np.sign((found * wanted).sum(axis=0))
    np.testing.assert_allclose(found, wanted * signs, atol=1e-3)
    np.testing.assert_allclose(ratio, (size**2 / (size**2).sum())[:6], rtol=1e-4)
    assert found.dtype == np.float32
    record = slices[1].uns["genot"]["X_pca"]
    assert (record["n_components"], record["n_genes"], record["n_slices"]) == (6, 60, 2)
    np.testing.assert_allclose(record["variance_ratio"], ratio)


def test_only_genes_that_all_slices_share_are_used(make_slice):
    whole, part = make_slice(seed=1), make_slice(seed=2)
    part = part[:, 10:].copy()
    part = part[:, np.random.default_rng(0).permutation(part.n_vars)].copy()  # another order
    normalise([whole, part])
    joint_components([whole, part], n_components=5, genes=None)
    assert whole.uns["genot"]["X_pca"]["n_genes"] == 50
    again = [whole[:, 10:].copy(), part[:, whole.var_names[10:]].copy()]
    joint_components(again, n_components=5, genes=None, key_added="ordered")
    for adata, ordered in zip([whole, part], again, strict=True):
        np.testing.assert_allclose(
            np.abs(adata.obsm["X_pca"]), np.abs(ordered.obsm["ordered"]), atol=1e-4
        )


def test_genes_selected_in_any_slice_are_used(make_slice):
    slices = [make_slice(seed=1), make_slice(seed=2)]
    normalise(slices)
    for number, adata in enumerate(slices):
        adata.var["genot_selected"] = np.arange(60) // 15 == number
    joint_components(slices, n_components=5)
    assert slices[0].uns["genot"]["X_pca"]["n_genes"] == 30


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_spots_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    adata = small(rng.poisson(rng.gamma(1.0, 3.0, (40, 1)) * rng.gamma(1.0, 1.0, 12)))
    adata = adata[dense(adata.X).sum(axis=1) > 0].copy()
    order = rng.permutation(adata.n_obs)
    shuffled = adata[order].copy()
    for one in (adata, shuffled):
        normalise(one)
        joint_components(one, n_components=3, genes=None)
    gram = adata.obsm["X_pca"] @ adata.obsm["X_pca"].T  # does not depend on signs
    again = shuffled.obsm["X_pca"] @ shuffled.obsm["X_pca"].T
    np.testing.assert_allclose(again, gram[np.ix_(order, order)], atol=1e-3)


def test_what_is_missing_is_named(make_slice):
    slices = [make_slice(seed=1), make_slice(seed=2)]
    normalise(slices[0])
    with pytest.raises(KeyError, match=r"slice 2 has no layers\['log1p'\]. Run normalise"):
        joint_components(slices)
    normalise(slices)
    with pytest.raises(KeyError, match=r"slice 1 has no var\['genot_selected'\]"):
        joint_components(slices)
    assert "X_pca" not in slices[0].obsm


def test_slices_without_a_common_gene_are_refused():
    slices = [small(np.ones((5, 2)), ["MBP", "PCP4"]), small(np.ones((5, 2)), ["Mbp", "Pcp4"])]
    normalise(slices)
    with pytest.raises(ValueError, match=r"no gene in common.*MBP, PCP4; Mbp, Pcp4"):
        joint_components(slices, n_components=1, genes=None)


@pytest.mark.parametrize(
    ("n_components", "message"),
    [
        (0, "n_components is 0; give a number from 1 to"),
        (61, "is 61, but there are 60 genes and 300"),
    ],
)
def test_more_components_than_genes_are_refused(planted, n_components, message):
    normalise(planted)
    with pytest.raises(ValueError, match=message):
        joint_components(planted, n_components=n_components, genes=None)


# --- smooth_components and preprocess ----------------------------------------------------------


@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_smoothing_is_a_power_of_the_mean_over_the_neighbourhood(planted, n_steps):
    planted.obsm["X_pca"] = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    spatial_graph(planted)
    smooth_components(planted, n_steps=n_steps)
    distance = np.linalg.norm(
        planted.obsm["spatial"][:, None] - planted.obsm["spatial"][None], axis=2
    )
    near = (distance < 101.0).astype(float)  # the spot itself and the six that touch it
    mean = near / near.sum(axis=1, keepdims=True)
    wanted = np.linalg.matrix_power(mean, n_steps) @ planted.obsm["X_pca"]
    np.testing.assert_allclose(planted.obsm["X_smooth"], wanted, atol=1e-5)


def test_smoothing_says_what_is_missing(planted):
    with pytest.raises(SliceError, match=r"slice: obsm\['X_pca'\] is missing"):
        smooth_components(planted)
    planted.obsm["X_pca"] = np.zeros((300, 2))
    with pytest.raises(SliceError, match="spatial_connectivities"):
        smooth_components(planted)


def test_preprocess_writes_what_it_names_and_nothing_else(make_slice, tmp_path):
    slices = {"left": make_slice(seed=1), "right": make_slice(seed=2)}
    before = slices["left"].copy()
    preprocess(slices, n_genes=40, n_components=8)
    for adata in slices.values():
        assert adata.obsm["X_pca"].shape == (300, 8)
        assert adata.var["genot_selected"].sum() == 40
        assert set(adata.layers) - {None} == {"log1p"}  # anndata 0.13: None is X
        assert set(adata.obsp) == {"spatial_connectivities", "spatial_distances"}
        assert set(adata.obs) == set(before.obs)
        adata.write_h5ad(tmp_path / "slice.h5ad")
    np.testing.assert_array_equal(dense(slices["left"].X), dense(before.X))
    np.testing.assert_array_equal(slices["left"].obsm["spatial"], before.obsm["spatial"])


def test_the_first_components_follow_the_planted_domains(planted):
    preprocess(planted, n_components=3)
    components = pd.DataFrame(planted.obsm["X_pca"]).groupby(
        planted.obs["domain_truth"].to_numpy(), observed=True
    )
    within, total = components.var().mean(), planted.obsm["X_pca"].var(axis=0)
    assert (within / total < 0.3).all()


def test_a_slice_unfit_for_use_stops_everything_before_it_starts(make_slice):
    good, bad = make_slice(seed=1), make_slice(seed=2)
    bad.obsm["spatial"][4] = np.nan
    with pytest.raises(SliceError, match="right cannot be used"):
        preprocess({"left": good, "right": bad})
    for adata in (good, bad):
        assert not adata.layers
        assert not adata.uns
        assert not adata.obsp
        assert set(adata.obsm) == {"spatial"}
        assert not set(adata.var)
