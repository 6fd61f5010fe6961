"""Gene selection: a dense textbook Gaussian process, planted genes, and what must not matter."""

from __future__ import annotations

import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import squidpy as sq
from scipy import optimize, sparse, stats
from scipy.spatial.distance import cdist

from genot_helpers import (
    SliceError,
    select_by_gaussian_process,
    select_by_moran,
    select_highly_variable,
)

SELECTIONS = [select_highly_variable, select_by_moran, select_by_gaussian_process]


@pytest.fixture(scope="module")
def planted():
    """Count 900 spots: genes 0-9 follow a stripe, gene 10 is constant, the others are noise."""
    rng = np.random.default_rng(0)
    coords = np.array([(x, y) for x in range(30) for y in range(30)], dtype=float)
    rate = np.tile(rng.uniform(1.0, 4.0, 300), (900, 1))
    rate[:, :10] *= 1 + 3 * np.exp(-((coords[:, :1] - 12) ** 2) / 30)
    depth = rng.lognormal(0, 0.3, (900, 1))
    counts = rng.poisson(rate * depth).astype(np.float32)
    counts[:, 10] = 0
    adata = anndata.AnnData(sparse.csr_matrix(counts), obsm={"spatial": coords})
    adata.var_names = [f"planted{i}" if i < 10 else f"noise{i}" for i in range(300)]
    sq.gr.spatial_neighbors_knn(adata, n_neighs=6)
    return adata


def dense_log_likelihood_ratio(y, coords, n_length_scales=10):
    """Textbook: multivariate normal densities of one gene, every parameter by direct search."""
    n, one = len(y), np.ones(len(y))
    distance = cdist(coords, coords)

    def log_density(covariance):
        inverse = np.linalg.inv(covariance)
        mean = (one @ inverse @ y) / (one @ inverse @ one)
        scale = (y - mean) @ inverse @ (y - mean) / n
        return stats.multivariate_normal(mean * one, scale * covariance).logpdf(y)

    shortest, longest = distance[distance > 0].min(), distance.max()
    best = log_density(np.eye(n))
    noise = best
    for length_scale in np.geomspace(shortest / 2, longest * 2, n_length_scales):
        kernel = np.exp(-(distance**2) / (2 * length_scale**2))
        grid = np.linspace(-10, 10, 41)
        values = [log_density(kernel + np.exp(x) * np.eye(n)) for x in grid]
        around = np.clip(np.argmax(values) + np.array([-1, 1]), 0, 40)
        peak = optimize.minimize_scalar(
            lambda x, kernel=kernel: -log_density(kernel + np.exp(x) * np.eye(n)),
            bounds=grid[around],
            method="bounded",
        )
        best = max(best, -peak.fun, *values)
    return best - noise


def test_gaussian_process_agrees_with_dense_densities():
    rng = np.random.default_rng(1)
    coords = rng.random((50, 2)) * 10
    smooth = np.linalg.cholesky(np.exp(-(cdist(coords, coords) ** 2) / 8) + 1e-8 * np.eye(50))
    strength = np.linspace(0, 2, 6)
    values = (smooth @ rng.standard_normal((50, 6))) * strength + rng.standard_normal((50, 6))
    values -= values.min() - 0.1
    adata = anndata.AnnData(values, obsm={"spatial": coords}, uns={"log1p": {}})
    ratio = select_by_gaussian_process(adata, spots_per_node=1).loc[adata.var_names]
    expected = [dense_log_likelihood_ratio(gene, coords) for gene in values.T]
    assert max(expected) > 5
    np.testing.assert_allclose(ratio["genot_gp_log_ratio"], expected, atol=1e-3)
    assert ratio["genot_gp_pvalue"].iloc[-1] == pytest.approx(
        stats.chi2.sf(2 * expected[-1], df=1), rel=0.01
    )


def test_nodes_and_stabilisation_follow_their_definition():
    """Pairs of spots far from other pairs are the nodes: everything can be written out."""
    rng = np.random.default_rng(2)
    centres = rng.random((30, 2)) * 1000
    coords = np.repeat(centres, 2, axis=0) + np.tile([[0, 0], [0.1, 0]], (30, 1))
    counts = rng.negative_binomial(2, 0.2, (60, 8)).astype(float) + 1
    counts[:, 0] += np.repeat(centres[:, 0] // 100, 2)
    adata = anndata.AnnData(counts, obsm={"spatial": coords})
    found = select_by_gaussian_process(adata, spots_per_node=2).loc[adata.var_names]
    pairs = counts.reshape(30, 2, 8)
    node = (pairs.max(axis=1) + pairs.mean(axis=1)) / 2
    mean, variance = node.mean(axis=0), node.var(axis=0)
    phi = optimize.curve_fit(lambda m, phi: m + phi * m**2, mean, variance)[0][0]
    y = np.log(node + 1 / (2 * phi))
    design = np.column_stack([np.ones(30), np.log(node.sum(axis=1))])
    y -= np.outer(design[:, 1], np.linalg.lstsq(design, y, rcond=None)[0][1])
    middle = coords.reshape(30, 2, 2).mean(axis=1)
    expected = [dense_log_likelihood_ratio(gene, middle) for gene in y.T]
    np.testing.assert_allclose(found["genot_gp_log_ratio"], expected, atol=1e-3)


@pytest.mark.parametrize("select", [select_by_moran, select_by_gaussian_process])
def test_planted_genes_are_found_and_shuffled_ones_are_not(planted, select):
    assert set(select(planted.copy(), n_genes=10).index[:10]) == set(planted.var_names[:10])
    shuffled = planted.copy()
    order = np.random.default_rng(0).permutation(planted.n_obs)
    shuffled.obsm["spatial"] = planted.obsm["spatial"][order]
    shuffled.obsp["spatial_connectivities"] = planted.obsp["spatial_connectivities"][order][
        :, order
    ]
    ranked = select(shuffled, n_genes=10)
    assert ranked.iloc[:, 1].max() < 0.2 * select(planted.copy()).iloc[:, 1].max()


def test_qvalues_tell_planted_genes_from_noise(planted):
    table = select_by_gaussian_process(planted.copy())
    significant = table["genot_gp_qvalue"] < 0.01
    assert significant[planted.var_names[:10]].all()
    assert significant.drop(planted.var_names[:10]).sum() <= 1
    varying = table["genot_gp_pvalue"].dropna()
    np.testing.assert_allclose(
        table["genot_gp_qvalue"].dropna(), stats.false_discovery_control(varying)
    )


@pytest.mark.parametrize("select", SELECTIONS)
def test_the_order_of_spots_plays_no_role(planted, select):
    order = np.random.default_rng(3).permutation(planted.n_obs)
    first = select(planted.copy()).iloc[:, 1]
    second = select(planted[order].copy()).iloc[:, 1]
    np.testing.assert_allclose(first, second[first.index], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("select", SELECTIONS)
def test_same_input_same_result_dense_or_sparse(planted, select):
    dense = planted.copy()
    dense.X = dense.X.toarray()
    first = select(planted.copy())
    pd.testing.assert_frame_equal(first, select(planted.copy()))
    np.testing.assert_allclose(first.iloc[:, 1], select(dense).loc[first.index].iloc[:, 1])


@pytest.mark.parametrize("select", SELECTIONS)
def test_what_is_written_and_nothing_else(planted, select, tmp_path):
    adata = planted.copy()
    table = select(adata, n_genes=7, key_added="chosen")
    assert adata.var["chosen"].dtype == bool and adata.var["chosen"].sum() == 7
    assert table["chosen"].iloc[:7].all() and table.index.size == adata.n_vars
    assert set(adata.var) == set(table)
    assert np.isnan(adata.var[table.columns[1]]["noise10"])
    made_by = adata.uns["genot"]["gene_selection"]
    assert made_by["n_genes_wanted"] == made_by["n_genes_kept"] == 7
    assert (adata.X != planted.X).nnz == 0
    adata.write_h5ad(tmp_path / "slice.h5ad")
    back = anndata.read_h5ad(tmp_path / "slice.h5ad")
    assert back.uns["genot"]["gene_selection"]["method"] == made_by["method"]


@pytest.mark.parametrize("select", SELECTIONS)
def test_labels_are_never_looked_at(planted, select):
    labelled = planted.copy()
    labelled.obs["domain_truth"] = pd.Categorical(np.arange(planted.n_obs) % 3)
    pd.testing.assert_frame_equal(select(planted.copy()), select(labelled))


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("kind", ["volume-normalised", "logged"])
def test_values_that_are_no_counts_and_few_genes(planted, select, kind):
    adata = planted.copy()
    if kind == "logged":
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    else:
        adata.X = adata.X.multiply(0.37).tocsr()
    table = select(adata, n_genes=3000)
    assert adata.var["genot_selected"].all()
    assert adata.uns["genot"]["gene_selection"]["n_genes_kept"] == 300
    if select is not select_highly_variable:
        assert set(table.index[:10]) == set(planted.var_names[:10])


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: -x, "negative"),
        (lambda x: x * np.nan, "NaN"),
        (lambda x: x * (np.arange(len(x)) > 1)[:, None], "2 spots without any expression"),
        (np.ones_like, "no gene that varies"),
    ],
)
def test_unusable_expression_is_named(planted, select, change, message):
    adata = planted.copy()
    adata.X = change(adata.X.toarray())
    with pytest.raises(SliceError, match=message):
        select(adata)


def test_missing_slots_and_impossible_numbers_are_named(planted):
    bare = anndata.AnnData(planted.X.copy())
    with pytest.raises(SliceError, match=r"spatial_connectivities.*missing"):
        select_by_moran(bare)
    with pytest.raises(SliceError, match=r'adata, obsm\["spatial"\]: there are no'):
        select_by_gaussian_process(bare)
    with pytest.raises(SliceError, match="make 4 nodes"):
        select_by_gaussian_process(planted.copy(), spots_per_node=200)
    for select in SELECTIONS:
        with pytest.raises(SliceError, match="n_genes must be a whole number"):
            select(planted.copy(), n_genes=0)


@pytest.mark.real_data
def test_known_cortex_genes_lead_on_a_real_section():
    if "GENOT_DATA_DIR" not in os.environ:
        pytest.skip("set GENOT_DATA_DIR to the folder with the real slices (dlpfc/151673/...)")
    folder = Path(os.environ["GENOT_DATA_DIR"]) / "dlpfc" / "151673"
    adata = sc.read_10x_h5(folder / "filtered_feature_bc_matrix.h5")
    places = pd.read_csv(folder / "spatial" / "tissue_positions_list.csv", header=None, index_col=0)
    adata.obsm["spatial"] = places.loc[adata.obs_names, [5, 4]].to_numpy(dtype=float)
    ranked = select_by_gaussian_process(adata, n_genes=1000).index
    assert {"MBP", "PLP1", "GFAP", "SNAP25"} <= set(ranked[:40])
    assert {"PCP4", "NEFL", "ENC1", "HPCAL1"} <= set(ranked[:400])
