"""Domains: planted ones are found, slots are written, bad input is named."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from genot_helpers import (
    SliceError,
    choose_n_domains,
    cluster_mixture,
    preprocess,
    refine_domains,
    smooth_components,
)

FEW = {"n_starts": 8, "n_kept": 2, "dimensions": (4, 8)}


def prepared(slices):
    preprocess(slices, n_components=10)
    smooth_components(slices, n_steps=2, key_added="X_genot")
    return slices


def embedded(embedding, **obs):
    """Make a slice that holds nothing but an embedding, and spots without neighbours."""
    embedding = np.asarray(embedding, dtype=float)
    obs = pd.DataFrame(obs, index=[f"spot{number}" for number in range(len(embedding))])
    nobody = sparse.csr_matrix((len(obs), len(obs)))
    return ad.AnnData(obs=obs, obsm={"X_genot": embedding}, obsp={"spatial_connectivities": nobody})


def blobs(n_domains=4, n_per_domain=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_domains), n_per_domain)
    means = 8.0 * np.eye(n_domains, 6)
    return means[labels] + rng.normal(size=(len(labels), 6)), labels


# --- cluster_mixture ---------------------------------------------------------------------------


def test_planted_domains_have_the_same_name_in_every_slice(make_slice):
    slices = prepared([make_slice(seed=1), make_slice(seed=2)])
    result = cluster_mixture(slices, 4, **FEW)
    for adata in slices:
        score = adjusted_rand_score(adata.obs["domain_truth"], adata.obs["genot_domain"])
        assert score > 0.9
    both = pd.concat([adata.obs for adata in slices])
    assert adjusted_rand_score(both["domain_truth"], both["genot_domain"]) > 0.9
    assert len(result.labels) == sum(adata.n_obs for adata in slices)
    assert (
        slices[0]
        .obs["genot_domain"]
        .cat.categories.equals(slices[1].obs["genot_domain"].cat.categories)
    )


def test_a_dictionary_of_slices_works_as_a_list_does(make_slice):
    slices = prepared([make_slice(seed=1, n_rows=8), make_slice(seed=2, n_rows=8)])
    cluster_mixture({"left": slices[0], "right": slices[1]}, 4, **FEW, key_added="named")
    cluster_mixture(slices, 4, **FEW, key_added="listed")
    for adata in slices:
        assert adata.obs["named"].equals(adata.obs["listed"].rename("named"))


def test_slots_survive_the_file_format(planted, tmp_path):
    prepared(planted)
    before = set(planted.obs)
    result = cluster_mixture(planted, 4, **FEW, seed=3)
    assert set(planted.obs) == before | {"genot_domain", "genot_confidence"}
    assert planted.obs["genot_confidence"].dtype == np.float32
    assert planted.obs["genot_confidence"].between(0, 1).all()
    planted.write_h5ad(tmp_path / "slice.h5ad")
    read = ad.read_h5ad(tmp_path / "slice.h5ad")
    pd.testing.assert_frame_equal(read.obs, planted.obs, check_categorical=False)
    record = read.uns["genot"]["genot_domain"]
    assert record["n_domains"] == 4
    assert record["seed"] == 3
    assert record["n_starts"] == FEW["n_starts"]
    assert record["agreement"] == pytest.approx(result.agreement)
    assert list(record["use_rep"]) == ["X_genot"]
    assert "X_pca" in read.uns["genot"]  # what was noted before is still there


def test_domains_are_numbered_by_size():
    sizes = [20, 80, 50]
    points = np.concatenate([8.0 * np.eye(3)[k] + np.zeros((n, 3)) for k, n in enumerate(sizes)])
    adata = embedded(points + np.random.default_rng(0).normal(scale=0.5, size=points.shape))
    cluster_mixture(adata, 3, n_starts=5)
    assert list(adata.obs["genot_domain"].cat.categories) == ["1", "2", "3"]
    assert adata.obs["genot_domain"].value_counts().loc[["1", "2", "3"]].tolist() == [80, 50, 20]


def test_another_key_has_its_own_confidence():
    adata = embedded(blobs()[0])
    cluster_mixture(adata, 4, n_starts=4, key_added="baseline_domain")
    assert {"baseline_domain", "baseline_confidence"} == set(adata.obs)
    cluster_mixture(adata, 4, n_starts=4, key_added="tried")
    assert "tried_confidence" in adata.obs


def test_several_embeddings_vote_together():
    points, labels = blobs()
    adata = embedded(points)
    adata.obsm["second"] = points[:, ::-1] * 3.0
    alone = cluster_mixture(adata, 4, n_starts=4, n_kept=2, dimensions=(4, 6))
    both = cluster_mixture(
        adata, 4, use_rep=["X_genot", "second"], n_starts=4, n_kept=2, dimensions=(4, 6)
    )
    assert both.n_partitions > alone.n_partitions
    assert adjusted_rand_score(both.labels, labels) == 1.0
    assert list(adata.uns["genot"]["genot_domain"]["use_rep"]) == ["X_genot", "second"]


def test_neighbours_have_a_say_and_none_without_weight():
    """Two halves of a row of spots; what spots look like says little, where they are a lot."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    adata = embedded(0.7 * labels[:, None] + rng.normal(scale=0.5, size=(200, 2)))
    lonely = cluster_mixture(adata, 2, n_starts=8, n_deviations=None)
    ignored = cluster_mixture(adata, 2, neighbour_weight=0, n_starts=8, n_deviations=None)
    np.testing.assert_array_equal(lonely.labels, ignored.labels)
    steps = np.abs(np.subtract.outer(np.arange(200), np.arange(200)))
    adata.obsp["spatial_connectivities"] = sparse.csr_matrix((steps > 0) & (steps < 4)) * 1.0
    heard = cluster_mixture(adata, 2, neighbour_weight=4, n_starts=8, n_deviations=None)
    assert adjusted_rand_score(labels, heard.labels) > 0.9
    assert adjusted_rand_score(labels, ignored.labels) < 0.8
    assert adata.uns["genot"]["genot_domain"]["neighbour_weight"] == 4


def test_a_missing_graph_and_an_impossible_weight_are_named():
    adata = embedded(blobs()[0])
    with pytest.raises(ValueError, match="neighbour_weight is -1"):
        cluster_mixture(adata, 4, neighbour_weight=-1)
    del adata.obsp["spatial_connectivities"]
    with pytest.raises(SliceError, match=r"spatial_connectivities.*neighbour_weight=0"):
        cluster_mixture(adata, 4)
    assert not set(adata.obs)


def test_same_seed_is_bit_identical():
    points = np.random.default_rng(0).normal(size=(120, 6))
    first, again = embedded(points), embedded(points)
    for adata in (first, again):
        cluster_mixture(adata, 5, **FEW, seed=11)
    pd.testing.assert_frame_equal(first.obs, again.obs)


def test_a_rotated_and_shifted_embedding_gives_the_same_domains():
    points, _ = blobs()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    plain, moved = embedded(points), embedded(points @ rotation + 5.0)
    for adata in (plain, moved):
        cluster_mixture(adata, 4, n_starts=6)
    assert plain.obs["genot_domain"].equals(moved.obs["genot_domain"])


def test_one_domain_is_everybody():
    adata = embedded(blobs()[0])
    cluster_mixture(adata, 1, n_starts=2)
    assert (adata.obs["genot_domain"] == "1").all()
    assert (adata.obs["genot_confidence"] == 1.0).all()


@pytest.mark.parametrize(
    ("n_domains", "message"),
    [
        (0, "n_domains is 0; give a number from 1 to"),
        (161, "n_domains is 161, but there are 160 spots"),
        (-1, "n_domains is -1; give a number from 1 to"),
    ],
)
def test_a_number_of_domains_that_does_not_fit_is_refused(n_domains, message):
    adata = embedded(blobs()[0])
    with pytest.raises(ValueError, match=message):
        cluster_mixture(adata, n_domains)
    assert not set(adata.obs)


def test_a_missing_embedding_is_named_with_what_there_is():
    adata = embedded(blobs()[0])
    with pytest.raises(SliceError, match=r"no slice has obsm\['X_other'\].*X_genot"):
        cluster_mixture(adata, 4, use_rep="X_other")


def test_nan_in_the_embedding_is_refused():
    points, _ = blobs()
    points[3, 2] = np.nan
    with pytest.raises(SliceError, match=r"slice 2: obsm\['X_genot'\].*not finite"):
        cluster_mixture([embedded(blobs()[0]), embedded(points)], 4)


def test_embeddings_of_different_width_are_refused():
    points, _ = blobs()
    with pytest.raises(SliceError, match=r"number of components.*'slice 1': 6, 'slice 2': 5"):
        cluster_mixture([embedded(points), embedded(points[:, :5])], 4)


# --- choose_n_domains --------------------------------------------------------------------------


@pytest.mark.parametrize("n_domains", [3, 5])
def test_the_planted_number_is_chosen(n_domains):
    adata = embedded(blobs(n_domains, 60)[0])
    table = choose_n_domains(adata, range(2, 8), n_starts=10)
    assert list(table.index) == list(range(2, 8))
    assert table.index[table["chosen"]].tolist() == [n_domains]
    assert table["bic"].idxmin() == n_domains
    assert not set(adata.obs)  # nothing is written


def test_neighbours_that_are_alike_count_less():
    points = blobs(4, 60)[0]
    adata, copied = embedded(points), embedded(np.repeat(points, 10, axis=0))
    noise = np.random.default_rng(0).normal(0, 1e-3, copied.obsm["X_genot"].shape)
    copied.obsm["X_genot"] = copied.obsm["X_genot"] + noise
    alone = choose_n_domains(adata, range(2, 8), n_starts=10)
    np.testing.assert_allclose(alone["bic"], alone["bic_independent"])
    once = choose_n_domains(copied, range(2, 8), n_starts=10, spots_per_independent=10)
    np.testing.assert_allclose(once["bic"], alone["bic"], rtol=0.05)
    assert once.index[once["chosen"]].tolist() == [4]
    assert once["bic_independent"].idxmin() >= 4
    with pytest.raises(ValueError, match="spots_per_independent is 0"):
        choose_n_domains(adata, [2, 3], spots_per_independent=0)


def test_numbers_that_cannot_be_tried_are_refused():
    adata = embedded(blobs()[0])
    with pytest.raises(ValueError, match="n_domains is 200"):
        choose_n_domains(adata, [2, 200])
    for candidates in ([], [0, 2]):
        with pytest.raises(ValueError, match="candidates"):
            choose_n_domains(adata, candidates)


# --- refine_domains ----------------------------------------------------------------------------


def majority(coordinates, codes, n_neighbors):
    """Count the votes of the nearest spots by sorting all distances; the first domain wins ties."""
    winner = []
    for spot in range(len(codes)):
        distance = np.linalg.norm(coordinates - coordinates[spot], axis=1)
        distance[spot] = np.inf
        nearest = np.argsort(distance)[:n_neighbors]
        winner.append(np.bincount(codes[nearest], minlength=codes.max() + 1).argmax())
    return np.array(winner)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(10, 40), st.integers(1, 9))
def test_refinement_is_the_majority_of_the_nearest(seed, n_spots, n_neighbors):
    rng = np.random.default_rng(seed)
    coordinates, codes = rng.random((n_spots, 2)), rng.integers(0, 4, n_spots)
    names = pd.Categorical([f"{code + 1}" for code in codes], categories=["1", "2", "3", "4"])
    adata = embedded(np.zeros((n_spots, 1)), genot_domain=names)
    adata.obsm["spatial"] = coordinates
    n_changed = refine_domains(adata, n_neighbors=n_neighbors)
    wanted = majority(coordinates, codes, n_neighbors)
    np.testing.assert_array_equal(adata.obs["genot_domain"].cat.codes, wanted)
    assert n_changed == (wanted != codes).sum()
    assert list(adata.obs["genot_domain"].cat.categories) == ["1", "2", "3", "4"]


def test_lone_spots_join_their_surroundings(planted):
    clean = planted.obs["domain_truth"].astype(str).to_numpy()
    noisy = clean.copy()
    lone = np.flatnonzero((planted.obs["array_row"] == 7) & (planted.obs["array_col"] % 10 == 5))
    noisy[lone] = "band 9"
    planted.obs["genot_domain"] = pd.Categorical(noisy)
    refine_domains(planted, n_neighbors=6, key_added="refined")
    assert (planted.obs["refined"].astype(str).to_numpy()[lone] == clean[lone]).all()
    assert (planted.obs["genot_domain"].astype(str) == noisy).all()  # the source stays


def test_a_tie_goes_to_the_smaller_number():
    line = np.column_stack([np.arange(3.0), np.zeros(3)])
    domains = pd.Categorical(["2", "3", "1"], categories=["1", "2", "3"])
    adata = embedded(np.zeros((3, 1)), genot_domain=domains)
    adata.obsm["spatial"] = line
    refine_domains(adata, n_neighbors=2)
    assert adata.obs["genot_domain"].tolist() == ["1", "1", "2"]


def test_refinement_needs_no_matrix_of_all_spots():
    n_spots = 100_000  # all pairs would be 80 GB
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, n_spots)
    adata = embedded(np.zeros((n_spots, 1)), genot_domain=pd.Categorical(codes.astype(str)))
    adata.obsm["spatial"] = rng.random((n_spots, 2))
    assert 0 < refine_domains(adata, n_neighbors=6) < n_spots


@pytest.mark.parametrize("n_neighbors", [0, 3, 50])
def test_more_neighbours_than_spots_are_refused(n_neighbors):
    adata = embedded(np.zeros((3, 1)), genot_domain=pd.Categorical(["1", "1", "2"]))
    adata.obsm["spatial"] = np.eye(3)[:, :2]
    with pytest.raises(ValueError, match=f"n_neighbors is {n_neighbors}, but the slice has 3"):
        refine_domains(adata, n_neighbors=n_neighbors)


def test_refinement_says_what_is_missing():
    adata = embedded(np.zeros((3, 1)))
    with pytest.raises(KeyError, match=r'^refine_domains: adata, obsm."spatial".: there are no'):
        refine_domains(adata, n_neighbors=2)
    adata.obsm["spatial"] = np.eye(3)[:, :2]
    with pytest.raises(KeyError, match="genot_domain"):
        refine_domains(adata, n_neighbors=2)
    adata.obs["genot_domain"] = pd.Categorical(["1", None, "2"])
    with pytest.raises(ValueError, match="no domain for 1 spots"):
        refine_domains(adata, n_neighbors=2)
