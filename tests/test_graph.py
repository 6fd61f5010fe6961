"""Spatial graphs and neighbourhood features: what a reader relies on, and the textbook formulas."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings, strategies as st
from scipy import sparse

from genot_helpers import SliceError, row_normalised, smooth, spatial_graph
from genot_helpers.preprocessing import (
    grid_graph,
    nearest_neighbour_graph,
    neighbourhood_enrichment,
    spots_averaged,
)
from genot_helpers.preprocessing.graph import graph_operator, symmetric_normalised


def hexagonal_slice(n_rows=8, n_columns=9, pitch=100.0):
    row, half = (index.ravel() for index in np.mgrid[:n_rows, :n_columns])
    column = 2 * half + row % 2
    adata = AnnData(shape=(row.size, 0))
    adata.obs["array_row"], adata.obs["array_col"] = row, column
    adata.obsm["spatial"] = np.column_stack([column * pitch / 2, row * pitch * np.sqrt(3) / 2])
    return adata


def scattered_slice(n_spots=60, seed=0):
    coordinates = np.random.default_rng(seed).uniform(0, 1000, (n_spots, 2))
    return AnnData(shape=(n_spots, 0), obsm={"spatial": coordinates})


def neighbours(adata):
    return np.asarray((adata.obsp["spatial_connectivities"] > 0).sum(axis=1)).ravel()


def dense_symmetric(adjacency, self_loops):
    """Follow the formula literally."""
    a = np.maximum(adjacency, adjacency.T)
    loops = np.where(np.diag(a) == 0, self_loops, 0.0)
    loops[a.sum(axis=1) == 0] = self_loops or 1.0
    a = a + np.diag(loops)
    scale = np.diag(a.sum(axis=1) ** -0.5)
    return scale @ a @ scale


@st.composite
def graphs(draw):
    """Draw a random directed graph with some spots that have no neighbours."""
    n_spots = draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.random((n_spots, n_spots)) * (rng.random((n_spots, n_spots)) < 0.3)
    np.fill_diagonal(weights, 0)
    return weights, rng


def test_visium_spots_get_the_spots_that_touch_them():
    adata = hexagonal_slice()
    spatial_graph(adata)
    graph = adata.obsp["spatial_connectivities"]
    inside = adata.obs["array_row"].between(1, 6) & adata.obs["array_col"].between(2, 14)
    assert set(neighbours(adata)[inside]) == {6}
    assert neighbours(adata).min() >= 2
    assert abs(graph - graph.T).nnz == 0
    rows, columns = graph.nonzero()
    steps = np.linalg.norm(adata.obsm["spatial"][rows] - adata.obsm["spatial"][columns], axis=1)
    assert np.allclose(steps, 100)


def test_other_spots_get_their_nearest():
    adata = scattered_slice()
    spatial_graph(adata, n_neighbors=4)
    assert set(neighbours(adata)) == {4}
    distances = np.linalg.norm(
        adata.obsm["spatial"][:, None] - adata.obsm["spatial"][None], axis=-1
    )
    np.fill_diagonal(distances, np.inf)
    for spot in range(adata.n_obs):
        found = set(adata.obsp["spatial_connectivities"][spot].indices)
        assert found == set(np.argsort(distances[spot])[:4])


def test_square_grid_is_not_taken_for_a_hexagonal_one():
    row, column = (index.ravel() for index in np.mgrid[:6, :6])
    adata = AnnData(shape=(36, 0), obsm={"spatial": np.column_stack([column, row]).astype(float)})
    adata.obs["array_row"], adata.obs["array_col"] = row, column
    spatial_graph(adata, n_neighbors=8)
    assert set(neighbours(adata)) == {8}


def test_slots_are_sparse_and_survive_h5ad(tmp_path):
    for make, adata in ((grid_graph, hexagonal_slice()), (spatial_graph, scattered_slice())):
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            warnings.simplefilter("error", DeprecationWarning)
            make(adata)
        adata.write_h5ad(tmp_path / "slice.h5ad")
        read = anndata.read_h5ad(tmp_path / "slice.h5ad")
        for slot in ("spatial_connectivities", "spatial_distances"):
            assert sparse.isspmatrix_csr(adata.obsp[slot])
            assert adata.obsp[slot].nnz <= 6 * adata.n_obs
            assert abs(read.obsp[slot] - adata.obsp[slot]).nnz == 0


def test_key_added_names_the_slots():
    adata = scattered_slice()
    nearest_neighbour_graph(adata, n_neighbors=3, key_added="near")
    assert set(adata.obsp) == {"near_connectivities", "near_distances"}


def test_spot_without_neighbours_keeps_its_features():
    adjacency = sparse.csr_matrix(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]]))
    features = np.array([[1.0], [2.0], [5.0]])
    for operator in (
        symmetric_normalised(adjacency),
        symmetric_normalised(adjacency, self_loops=0),
        row_normalised(adjacency),
        row_normalised(adjacency, self_loops=0),
    ):
        assert smooth(features, operator, 3)[2] == 5


def test_lone_spot_of_a_grid_has_no_neighbours():
    adata = hexagonal_slice()
    adata.obsm["spatial"][0] = [-5000.0, -5000.0]
    grid_graph(adata)
    assert neighbours(adata)[0] == 0


@given(graphs(), st.sampled_from([0.0, 0.5, 1.0]))
@settings(deadline=None)
def test_symmetric_normalisation_is_the_formula(graph, self_loops):
    adjacency, _ = graph
    operator = symmetric_normalised(sparse.csr_matrix(adjacency), self_loops=self_loops).toarray()
    assert np.allclose(operator, dense_symmetric(adjacency, self_loops), atol=1e-12)
    assert np.array_equal(operator, operator.T)
    assert np.abs(np.linalg.eigvalsh(operator)).max() <= 1 + 1e-9


@given(graphs(), st.sampled_from([0.0, 1.0]))
@settings(deadline=None)
def test_row_normalisation_is_a_mean(graph, self_loops):
    adjacency, rng = graph
    operator = row_normalised(sparse.csr_matrix(adjacency), self_loops=self_loops)
    assert np.allclose(operator.sum(axis=1), 1)
    features = rng.random((len(adjacency), 2))
    averaged = smooth(features, operator, 5)
    assert (averaged >= features.min(axis=0) - 1e-5).all()
    assert (averaged <= features.max(axis=0) + 1e-5).all()


@given(graphs())
@settings(deadline=None)
def test_operators_by_name(graph):
    adjacency = graph[0]
    once, looped = dense_symmetric(adjacency, 0.0), np.eye(len(adjacency))
    isolated = adjacency.sum(axis=0) + adjacency.sum(axis=1) == 0
    looped[isolated] = 0  # they have their self loop already
    expected = {
        "mean": row_normalised(adjacency).toarray(),
        "symmetric": dense_symmetric(adjacency, 1.0),
        "symmetric_twice": dense_symmetric(once + looped, 1.0),
    }
    for name, dense in expected.items():
        assert np.allclose(graph_operator(sparse.csr_matrix(adjacency), name).toarray(), dense)
    with pytest.raises(ValueError, match="choose mean, symmetric"):
        graph_operator(sparse.csr_matrix(adjacency), "none")


def test_symmetric_normalisation_is_that_of_torch_geometric():
    torch = pytest.importorskip("torch")
    gcn_norm = pytest.importorskip("torch_geometric.nn.conv.gcn_conv").gcn_norm
    adata = scattered_slice()
    nearest_neighbour_graph(adata, n_neighbors=3)
    adjacency = adata.obsp["spatial_connectivities"]
    undirected = adjacency.maximum(adjacency.T).tocoo()
    edges = torch.from_numpy(np.vstack([undirected.row, undirected.col]).astype(np.int64))
    (rows, columns), weights = gcn_norm(edges, num_nodes=adata.n_obs)
    expected = sparse.coo_matrix((weights, (rows, columns)), shape=adjacency.shape)
    assert np.allclose(symmetric_normalised(adjacency).toarray(), expected.toarray(), atol=1e-6)


@given(graphs(), st.integers(0, 4))
@settings(deadline=None)
def test_smoothing_is_a_matrix_power(graph, n_steps):
    adjacency, rng = graph
    features = rng.normal(size=(len(adjacency), 3))
    operator = symmetric_normalised(sparse.csr_matrix(adjacency))
    smoothed = smooth(features, operator, n_steps)
    assert smoothed.dtype == np.float32
    expected = np.linalg.matrix_power(operator.toarray(), n_steps) @ features
    assert np.allclose(smoothed, expected, atol=1e-5)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10)
def test_order_of_spots_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    adata = scattered_slice(40, seed)
    features, order = rng.normal(size=(40, 3)), rng.permutation(40)
    shuffled = AnnData(shape=(40, 0), obsm={"spatial": adata.obsm["spatial"][order]})
    smoothed = []
    for item, values in ((adata, features), (shuffled, features[order])):
        spatial_graph(item)
        operator = row_normalised(item.obsp["spatial_connectivities"])
        smoothed.append(smooth(values, operator, 3))
    assert np.allclose(smoothed[0][order], smoothed[1], atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda adata: adata.obsm.pop("spatial"), "no coordinates"),
        (lambda adata: adata.obsm["spatial"].__setitem__((0, 0), np.nan), "NaN or infinite"),
    ],
)
def test_bad_coordinates_are_named(spoil, message):
    adata = scattered_slice()
    spoil(adata)
    with pytest.raises(SliceError, match=message):
        spatial_graph(adata)
    assert not adata.obsp


def test_graph_needs_enough_spots():
    with pytest.raises(SliceError, match="5 spots and the graph needs more than 6"):
        spatial_graph(scattered_slice(5))
    with pytest.raises(SliceError, match="n_neighbors is 0"):
        spatial_graph(scattered_slice(), n_neighbors=0)


def test_features_must_fit_the_graph():
    operator = sparse.identity(4, format="csr")
    with pytest.raises(ValueError, match="same n spots"):
        smooth(np.ones((3, 2)), operator, 1)
    with pytest.raises(ValueError, match="n_steps is -1; give a number from 0"):
        smooth(np.ones((4, 2)), operator, -1)
    with pytest.raises(ValueError, match="negative"):
        row_normalised(-operator)


def test_spots_averaged_is_that_of_the_weights(planted):
    spatial_graph(planted)
    operator = row_normalised(planted.obsp["spatial_connectivities"]).toarray()
    for n_steps in (1, 4):
        weights = np.linalg.matrix_power(operator, n_steps)
        expected = 1 / (weights**2).sum(axis=1).mean()
        assert spots_averaged(planted, n_steps) == pytest.approx(expected, rel=0.15)
    assert spots_averaged(planted, 0) == pytest.approx(1, rel=0.1)
    del planted.obsp["spatial_connectivities"]
    with pytest.raises(SliceError, match="run spatial_graph first"):
        spots_averaged(planted)


def test_kinds_that_lie_together_are_enriched_and_mixed_ones_are_not():
    adata = hexagonal_slice()
    spatial_graph(adata)
    left = adata.obsm["spatial"][:, 0] < np.median(adata.obsm["spatial"][:, 0])
    adata.obs["kind"] = np.where(left, "left", "right")
    adata.obs["kind"] = adata.obs["kind"].astype("category")
    z = neighbourhood_enrichment(adata, "kind", n_permutations=50)
    assert list(z.columns) == list(z.index) == ["left", "right"]
    assert z.loc["left", "left"] > 3 > -3 > z.loc["left", "right"]
    with pytest.raises(SliceError, match=r"no slice has obs\['type'\].*kind"):
        neighbourhood_enrichment(adata, "type")
