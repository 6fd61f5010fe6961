"""The closed-form encoder: against dense linear algebra, and what must not matter."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.linalg import eigh

from genot_helpers import SliceError, spatial_graph, spectral_embedding
from genot_helpers.preprocessing import nearest_neighbour_graph


def random_slice(n_spots=60, n_features=5, *, seed=0, n_neighbors=6):
    """Spots at random places, features of which the first varies smoothly in space."""
    rng = np.random.default_rng(seed)
    coordinates = rng.random((n_spots, 2))
    features = rng.normal(size=(n_spots, n_features))
    features[:, 0] += 5.0 * np.sin(3.0 * coordinates[:, 0])
    adata = ad.AnnData(obsm={"spatial": coordinates, "X_pca": features.astype(np.float32)})
    nearest_neighbour_graph(adata, n_neighbors=n_neighbors)
    return adata


def textbook(slices, n_hops):
    """Write P, C and C₊ out in full and solve the generalised eigenproblem of the module."""
    features = np.concatenate([adata.obsm["X_pca"] for adata in slices]).astype(float)
    features -= features.mean(axis=0)
    sizes = [adata.n_obs for adata in slices]
    walk, begin = np.zeros((sum(sizes), sum(sizes))), 0
    for adata in slices:
        part = slice(begin, begin + adata.n_obs)
        walk[part, part] = adata.obsp["spatial_connectivities"].toarray() + np.eye(adata.n_obs)
        begin += adata.n_obs
    walk /= walk.sum(axis=1, keepdims=True)
    aggregated = np.linalg.matrix_power(walk, n_hops) @ features
    n = len(features)
    eigenvalues, vectors = eigh(aggregated.T @ aggregated / n, features.T @ features / n)
    embedding = aggregated @ vectors[:, ::-1]
    return eigenvalues[::-1], embedding / embedding.std(axis=0) * eigenvalues[::-1]


def up_to_sign(found, wanted):
    return wanted * np.sign((found * wanted).sum(axis=0))


@pytest.mark.parametrize("n_hops", [0, 1, 4])
def test_follows_the_textbook_on_two_slices(n_hops):
    slices = [random_slice(50, seed=1), random_slice(70, seed=2)]
    found = spectral_embedding(slices, n_hops=n_hops)
    eigenvalues, embedding = textbook(slices, n_hops)
    np.testing.assert_allclose(found, eigenvalues, atol=1e-5)
    if n_hops:  # without a hop all eigenvalues are one, and directions are arbitrary
        stacked = np.concatenate([adata.obsm["X_genot"] for adata in slices])
        np.testing.assert_allclose(stacked, up_to_sign(stacked, embedding), atol=1e-4)
        np.testing.assert_allclose(stacked.std(axis=0), found, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_eigenvalues_fall_from_one_to_nothing_on_a_grid(seed, n_hops):
    rng = np.random.default_rng(seed)
    row, column = (grid.ravel() for grid in np.mgrid[:7, :8])
    array_col = 2 * column + row % 2
    adata = ad.AnnData(obsm={"spatial": np.column_stack([array_col * 50.0, row * 86.6])})
    adata.obs["array_row"], adata.obs["array_col"] = row, array_col
    adata.obsm["X_pca"] = rng.normal(size=(adata.n_obs, 4)) * rng.uniform(0.1, 10.0, 4)
    spatial_graph(adata)
    eigenvalues = spectral_embedding(adata, n_hops=n_hops)
    assert (np.diff(eigenvalues) <= 1e-9).all()
    assert eigenvalues.min() >= 0.0
    assert eigenvalues.max() <= 1.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_spots_does_not_matter(seed):
    adata = random_slice(40, seed=seed % 50)
    shuffled = adata[np.random.default_rng(seed).permutation(40)].copy()
    nearest_neighbour_graph(shuffled, n_neighbors=6)
    first, second = spectral_embedding(adata), spectral_embedding(shuffled)
    np.testing.assert_allclose(first, second, atol=1e-4)
    found = shuffled[adata.obs_names].obsm["X_genot"]
    np.testing.assert_allclose(
        found[:, 0], up_to_sign(found, adata.obsm["X_genot"])[:, 0], atol=1e-3
    )


def test_turning_and_moving_the_slide_changes_nothing():
    adata = random_slice(80)
    moved = adata.copy()
    turn = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    moved.obsm["spatial"] = adata.obsm["spatial"] @ turn.T + [50.0, -20.0]
    nearest_neighbour_graph(moved, n_neighbors=6)
    np.testing.assert_allclose(spectral_embedding(adata), spectral_embedding(moved), atol=1e-6)
    np.testing.assert_allclose(adata.obsm["X_genot"], moved.obsm["X_genot"], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_an_invertible_map_of_the_features_does_not_matter(seed):
    """The encoder is free to undo any linear map, so its optimum is the same."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    adata = random_slice(60)
    mapped = adata.copy()
    mapped.obsm["X_pca"] = adata.obsm["X_pca"] @ (rotation * rng.uniform(0.3, 3.0, 5)) + 7.0
    first, second = spectral_embedding(adata), spectral_embedding(mapped)
    np.testing.assert_allclose(first, second, atol=1e-4)
    embedding = mapped.obsm["X_genot"]
    np.testing.assert_allclose(embedding, up_to_sign(embedding, adata.obsm["X_genot"]), atol=1e-2)


def test_structure_comes_first_and_noise_last():
    rng = np.random.default_rng(0)
    coordinates = rng.random((2000, 2))
    features = rng.normal(size=(2000, 6)) * [1, 10, 1, 1, 1, 1]  # the widest is noise
    signal = np.sin(4.0 * coordinates[:, 1])
    features[:, 4] = signal + 0.05 * rng.normal(size=2000)
    adata = ad.AnnData(obsm={"spatial": coordinates, "X_pca": features})
    nearest_neighbour_graph(adata, n_neighbors=6)
    eigenvalues = spectral_embedding(adata, n_hops=4)
    assert eigenvalues[0] > 0.9
    assert (eigenvalues[1:] < 0.1).all()
    correlation = np.corrcoef(adata.obsm["X_genot"][:, 0], signal)[0, 1]
    assert abs(correlation) > 0.98


def test_slices_share_the_weights():
    """With shared weights, equal features at equal places are embedded alike in both slices."""
    first, other = random_slice(60, seed=1), random_slice(90, seed=2)
    twin = first.copy()
    spectral_embedding([first, other, twin])
    np.testing.assert_array_equal(first.obsm["X_genot"], twin.obsm["X_genot"])
    assert first.obsm["X_genot"].shape == (60, 5)
    assert other.obsm["X_genot"].shape == (90, 5)
    alone = random_slice(60, seed=1)
    spectral_embedding(alone)
    assert not np.allclose(np.abs(alone.obsm["X_genot"]), np.abs(first.obsm["X_genot"]), atol=1e-3)


def test_the_same_slice_twice_says_nothing_new():
    once, twice = random_slice(60), [random_slice(60), random_slice(60)]
    np.testing.assert_allclose(spectral_embedding(once), spectral_embedding(twice), atol=1e-6)
    for adata in twice:
        np.testing.assert_allclose(adata.obsm["X_genot"], once.obsm["X_genot"], atol=1e-5)


def test_repeats_bit_for_bit_and_notes_how(tmp_path):
    first, again = random_slice(60), random_slice(60)
    first.uns["genot"] = {"simulated": True}
    eigenvalues = spectral_embedding(first, n_features=3, key_added="X_spectral")
    spectral_embedding(again, n_features=3, key_added="X_spectral")
    np.testing.assert_array_equal(first.obsm["X_spectral"], again.obsm["X_spectral"])
    assert first.obsm["X_spectral"].shape == (60, 3)
    assert first.obsm["X_spectral"].dtype == np.float32
    first.write_h5ad(tmp_path / "slice.h5ad")
    record = ad.read_h5ad(tmp_path / "slice.h5ad").uns["genot"]
    assert record["simulated"]
    assert record["encoder"]["configuration"] == "spectral"
    assert record["encoder"]["key"] == "X_spectral"
    np.testing.assert_allclose(record["encoder"]["eigenvalues"], eigenvalues)


def test_a_feature_without_variance_does_no_harm():
    adata = random_slice(60)
    adata.obsm["X_pca"][:, 3] = 2.0
    eigenvalues = spectral_embedding(adata)
    assert np.isfinite(eigenvalues).all()
    assert np.isfinite(adata.obsm["X_genot"]).all()


def test_bad_input_is_named():
    plain = ad.AnnData(obsm={"X_pca": np.zeros((9, 2))})
    with pytest.raises(SliceError, match=r"slice: obsp\['spatial_connectivities'\] is missing"):
        spectral_embedding(plain)
    with pytest.raises(SliceError, match=r"slice 2: obsm\['X_pca'\] is missing"):
        spectral_embedding([random_slice(), ad.AnnData(shape=(9, 0))])
    with pytest.raises(SliceError, match=r"number of components.*'slice 1': 5, 'slice 2': 4"):
        spectral_embedding([random_slice(), random_slice(n_features=4)])
    with pytest.raises(ValueError, match="20 spots for 20 features"):
        spectral_embedding(random_slice(20, 20))
    with pytest.raises(ValueError, match="n_features is 0"):
        spectral_embedding(random_slice(), n_features=0)
    with pytest.raises(ValueError, match="n_hops is -1"):
        spectral_embedding(random_slice(), n_hops=-1)
    broken = random_slice()
    broken.obsm["X_pca"][1, 1] = np.inf
    with pytest.raises(SliceError, match=r"obsm\['X_pca'\] holds values that are not finite"):
        spectral_embedding(broken)
