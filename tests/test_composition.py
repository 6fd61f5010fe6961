"""Domains as compositions of cell types: against the textbook, and what must not matter."""

from __future__ import annotations

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import genot_helpers as gh
from genot_helpers.domains.composition_field import (
    bound,
    climb_field,
    field_of,
    type_names,
    views_of_cells,
)

SHARES = np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.2, 0.6]])
QUICK = {"n_starts": 12, "n_kept": 4, "n_codebooks": 3, "n_types": 4, "progress": False}


def nucleus(n_cells=600, *, seed=0, genes=12):
    """Cells on a square, three bands; each band mixes the same four types in other shares."""
    rng = np.random.default_rng(seed)
    xy = rng.random((n_cells, 2)) * 100
    band = np.minimum((xy[:, 0] // 33.4).astype(int), 2)
    types = np.array([rng.choice(4, p=SHARES[one]) for one in band])
    mean = np.full((4, genes), 0.5)
    for one in range(4):
        mean[one, 3 * one : 3 * one + 3] = 8.0
    slice_ = ad.AnnData(sparse.csr_matrix(rng.poisson(mean[types]).astype("float32")))
    slice_.var_names = [f"gene{number}" for number in range(genes)]
    slice_.obs_names = [f"cell{number}" for number in range(n_cells)]
    slice_.obsm["spatial"] = xy
    slice_.obs["band"] = band.astype(str)
    slice_.obs["cell_type"] = pd.Categorical.from_codes(types, ["A", "B", "C", "D"])
    # Types are well apart in these "components": the tests need no preprocessing.
    slice_.obsm["X_pca"] = (np.eye(4)[types] * 6 + rng.normal(size=(n_cells, 4))).astype("float32")
    return slice_


def textbook_step(codebooks, A, q, beta, a):
    """One undamped step and F, written with loops as in the equations."""
    n_books, n = codebooks.shape
    n_domains, n_types = q.shape[1], codebooks.max() + 1
    emission, prior = np.zeros((n, n_domains)), 0.0
    for types in codebooks:
        w = np.array([(types == c).sum() for c in range(n_types)]) / (types >= 0).sum()
        w = np.maximum(w, 1e-9)
        for k in range(n_domains):
            pi = np.array([q[types == c, k].sum() + a * w[c] for c in range(n_types)])
            pi = pi / pi.sum()
            prior += a * (w * np.log(pi / w)).sum() / n_books
            for i in range(n):
                if types[i] >= 0:
                    emission[i, k] += np.log(pi[types[i]] / w[types[i]]) / n_books
    pairs = sum(A[i, j] * q[i] @ q[j] for i in range(n) for j in range(i))
    entropy = -(q * np.log(np.maximum(q, 1e-9))).sum()
    height = (q * emission).sum() + entropy + beta * pairs + prior
    logits = emission + beta * A @ q
    new = np.exp(logits - logits.max(axis=1, keepdims=True))
    return height, new / new.sum(axis=1, keepdims=True)


def ring(n):
    """Cells on a ring, each joined to two, divided by the mean degree."""
    edges = sparse.csr_matrix((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), (n, n))
    return ((edges + edges.T) / 2).tocsr().astype("float32")


@st.composite
def small_problems(draw):
    n, n_types = draw(st.integers(4, 9)), draw(st.integers(2, 4))
    n_books, n_domains = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codebooks = rng.integers(0, n_types, (n_books, n))
    codebooks[:, 0] = n_types - 1
    if draw(st.booleans()):
        codebooks[:, 1] = -1
    q = rng.dirichlet(np.ones(n_domains), n).astype("float32")
    return codebooks, q, draw(st.floats(0.5, 4.0)), draw(st.floats(0.5, 10.0))


@settings(max_examples=40, deadline=None)
@given(small_problems())
def test_a_step_and_the_bound_are_those_of_the_textbook(problem):
    codebooks, q, beta, a = problem
    A = ring(codebooks.shape[1])
    field = field_of(codebooks, A, beta, a)
    height, new = textbook_step(codebooks, A.toarray(), q.astype(float), beta, a)
    assert bound(field, q) == pytest.approx(height, rel=1e-3, abs=1e-3)
    _, moved = climb_field(field, q, 1)
    np.testing.assert_allclose(moved, 0.3 * q + 0.7 * new, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(small_problems())
def test_the_bound_lies_below_what_it_bounds(problem):
    """With compositions held, F is at most the log of the sum over all labellings."""
    codebooks, q, beta, a = problem
    A = ring(codebooks.shape[1]).toarray()
    n, n_domains = q.shape
    height, _ = textbook_step(codebooks, A, q.astype(float), beta, a)
    # The same emission for every labelling: recover it from one step without neighbours.
    prior_and_emission = []
    for labels in itertools.product(range(n_domains), repeat=n):
        member = np.eye(n_domains)[list(labels)]
        pairs = beta * 0.5 * (member * (A @ member)).sum()
        prior_and_emission.append(pairs + (member * _emission(codebooks, q, a)).sum())
    exact = np.logaddexp.reduce(prior_and_emission) + _log_prior(codebooks, q, a)
    assert height <= exact + 1e-6


def _ratios(codebooks, q, a):
    for types in codebooks:
        n_types = codebooks.max() + 1
        known = types >= 0
        member = np.eye(n_types)[types] * known[:, None]
        w = np.maximum(member.sum(axis=0) / known.sum(), 1e-9)
        pi = q.T.astype(float) @ member + a * w
        yield member, w, np.log(pi / pi.sum(axis=1, keepdims=True) / w)


def _emission(codebooks, q, a):
    return sum(member @ ratio.T for member, _, ratio in _ratios(codebooks, q, a)) / len(codebooks)


def _log_prior(codebooks, q, a):
    return sum(a * (w * ratio).sum() for _, w, ratio in _ratios(codebooks, q, a)) / len(codebooks)


def test_climbing_raises_the_bound():
    adata = nucleus(300)
    codebooks = adata.obs["cell_type"].cat.codes.to_numpy()[None]
    field = field_of(codebooks.astype(int), ring(300), 2.0, 5.0)
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(3), 300).astype("float32")
    heights = [bound(field, q)]
    for _ in range(15):
        height, q = climb_field(field, q, 1)
        heights.append(height)
    assert np.all(np.diff(heights) > -1e-2)
    assert heights[-1] > heights[0] + 1


def looped_views(values, slices):
    """Surroundings side by side with a cell, and shared directions, written with loops."""
    own = values - values.mean(axis=0)
    mean, gradient, wide, begin = *np.zeros((3, *own.shape)), 0
    for xy in slices:
        here = own[begin : begin + len(xy)]
        for i, place in enumerate(xy):
            near = [j for j in np.argsort(np.hypot(*(xy - place).T)) if j != i]
            angle = np.array([np.arctan2(*(xy[j] - place)[::-1]) for j in near[:15]])
            mean[begin + i] = here[near[:15]].mean(axis=0)
            turned = here[near[:15]] * np.exp(1j * angle)[:, None]
            gradient[begin + i] = np.abs(turned.mean(axis=0))
            wide[begin + i] = here[near[:30]].mean(axis=0)
        begin += len(xy)
    parts = [one - one.mean(axis=0) for one in (own, mean, gradient)]
    parts = [one / np.sqrt(np.square(one).sum(axis=1).mean()) for one in parts]
    sides = [np.sqrt(w) * one for w, one in zip((0.8, 0.15, 0.05), parts, strict=True)]
    return np.hstack(sides), own, wide


def test_cells_are_seen_alone_with_surroundings_and_along_shared_directions():
    rng = np.random.default_rng(0)
    slices, values = [rng.random((40, 2)), rng.random((50, 2)) + 0.5], rng.normal(size=(90, 3))
    alone, together, shared = views_of_cells(values, slices)
    np.testing.assert_array_equal(alone, values)
    sides, own, wide = looped_views(values, slices)
    left, sizes, _ = np.linalg.svd(sides - sides.mean(axis=0), full_matrices=False)
    expected = (left * sizes)[:, :3]  # up to the sign of each component
    np.testing.assert_allclose(np.abs(together), np.abs(expected), atol=1e-9)
    gram, agreed = own.T @ own, wide.T @ wide
    found = np.linalg.lstsq(own, shared, rcond=None)[0]
    ratio = np.einsum("ik,ij,jk->k", found, agreed, found) / np.einsum(
        "ik,ij,jk->k", found, gram, found
    )
    exact = np.sort(np.linalg.eigvals(np.linalg.solve(gram, agreed)).real)[::-1]
    np.testing.assert_allclose(ratio, exact, rtol=1e-6)


@pytest.mark.parametrize("n_cells", [2, 5])
def test_views_of_few_cells_and_of_cells_at_one_place(n_cells):
    values = np.random.default_rng(0).normal(size=(n_cells, 2))
    for places in (np.zeros((n_cells, 2)), np.arange(2 * n_cells).reshape(-1, 2) * 1.0):
        assert all(np.isfinite(view).all() for view in views_of_cells(values, [places]))


# --- what it finds, what it writes ---------------------------------------------------------------


def test_bands_that_share_all_types_are_found_and_written():
    adata = nucleus()
    found = gh.cluster_composition(adata, 3, **QUICK)
    assert adjusted_rand_score(adata.obs["band"], found.labels) > 0.8
    written = adata.obs["genot_domain"].astype(int).to_numpy()
    np.testing.assert_array_equal(written, found.labels + 1)
    assert list(adata.obs["genot_domain"].value_counts().index[:1]) == ["1"]
    assert found.confidence.min() >= 0
    assert found.confidence.max() <= 1
    np.testing.assert_allclose(adata.obs["genot_confidence"], found.confidence, rtol=1e-6)
    np.testing.assert_allclose(found.compositions.sum(), 1.0)
    assert found.compositions.shape == (4, 3)
    # No type is a domain: that is what a mixture of Gaussians on cells would find.
    assert adjusted_rand_score(adata.obs["cell_type"], found.labels) < 0.5


def test_given_types_give_their_compositions():
    adata = nucleus()
    found = gh.cluster_composition(adata, 3, type_key="cell_type", **QUICK)
    assert adjusted_rand_score(adata.obs["band"], found.labels) > 0.8
    assert list(found.compositions.index) == ["A", "B", "C", "D"]
    assert "genot_type" not in adata.obs
    columns = [
        pd.crosstab(found.labels, adata.obs["band"]).loc[number].argmax() for number in range(3)
    ]
    np.testing.assert_allclose(found.compositions.to_numpy().T, SHARES[columns], atol=0.1)


def test_cells_of_unknown_type_follow_their_neighbours():
    adata = nucleus()
    adata.obs.loc[adata.obs_names[::5], "cell_type"] = np.nan
    found = gh.cluster_composition(adata, 3, type_key="cell_type", **QUICK)
    unknown = adata.obs["cell_type"].isna().to_numpy()
    assert adjusted_rand_score(adata.obs["band"][unknown], found.labels[unknown]) > 0.7


def test_slices_together_share_domains_and_keep_their_graphs():
    slices = {"one": nucleus(seed=1), "other": nucleus(500, seed=2)}
    found = gh.cluster_composition(slices, 3, **QUICK)
    bands = np.concatenate([one.obs["band"] for one in slices.values()])
    assert adjusted_rand_score(bands, found.labels) > 0.8
    np.testing.assert_array_equal(
        slices["other"].obs["genot_domain"].astype(int), found.labels[600:] + 1
    )
    # Where a slice lies says nothing: graphs are apart.
    moved = {"one": nucleus(seed=1), "other": nucleus(500, seed=2)}
    moved["other"].obsm["spatial"] = moved["other"].obsm["spatial"] + 1000.0
    again = gh.cluster_composition(moved, 3, **QUICK)
    np.testing.assert_array_equal(again.labels, found.labels)


def test_order_of_cells_and_names_of_slices_change_nothing():
    adata = nucleus()
    found = gh.cluster_composition(adata, 3, **QUICK)
    order = np.random.default_rng(1).permutation(adata.n_obs)
    shuffled = nucleus()[order].copy()
    again = gh.cluster_composition(shuffled, 3, **QUICK)
    np.testing.assert_array_equal(again.labels, found.labels[order])
    np.testing.assert_array_equal(again.confidence, found.confidence[order])
    pd.testing.assert_frame_equal(again.compositions, found.compositions)
    assert again.bound == found.bound


def test_same_seed_same_bits_and_another_seed_the_same_domains():
    one, same, other = (
        gh.cluster_composition(nucleus(), 3, seed=seed, **QUICK) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.labels, same.labels)
    np.testing.assert_array_equal(one.confidence, same.confidence)
    assert adjusted_rand_score(one.labels, other.labels) > 0.9


def test_a_second_partition_is_shown_where_there_is_one():
    """Two stripes one way and two the other: both halvings are as good as each other."""
    rng = np.random.default_rng(0)
    adata = nucleus(800)
    xy = adata.obsm["spatial"]
    quarter = 2 * (xy[:, 0] > 50) + (xy[:, 1] > 50)
    types = np.where(rng.random(800) < 0.85, quarter, rng.integers(0, 4, 800))
    adata.obs["cell_type"] = pd.Categorical.from_codes(types, ["A", "B", "C", "D"])
    # Which of the two is a little better is chance; count them as alike.
    equal = {"same_within": 1000.0, **QUICK}
    found = gh.cluster_composition(adata, 2, type_key="cell_type", **equal)
    assert not found.settled
    assert found.second is not None
    assert adjusted_rand_score(found.labels, found.second) < 0.9
    assert 0 < found.second_weight <= 1
    np.testing.assert_array_equal(adata.obs["genot_second"].astype(int), found.second + 1)
    # What a run no longer finds does not stay behind.
    clear = gh.cluster_composition(adata, 4, type_key="cell_type", **QUICK)
    assert clear.second is None
    assert "genot_second" not in adata.obs


def test_everything_survives_a_file(tmp_path):
    adata = nucleus()
    found = gh.cluster_composition(adata, 3, **QUICK)
    adata.write_h5ad(tmp_path / "slice.h5ad")
    back = ad.read_h5ad(tmp_path / "slice.h5ad")
    facts = back.uns["genot"]["genot_domain"]
    assert facts["n_domains"] == 3
    assert facts["agreement"] == found.agreement
    np.testing.assert_array_equal(facts["compositions"].to_numpy(), found.compositions.to_numpy())
    assert list(facts["compositions"].index) == list(found.compositions.index)
    pd.testing.assert_series_equal(back.obs["genot_domain"], adata.obs["genot_domain"])


def test_types_are_named_by_the_genes_that_mark_them():
    adata = nucleus()
    types = adata.obs["cell_type"].cat.codes.to_numpy().astype(int)
    names = type_names({"slice": adata}, types, "log1p")
    assert names == ["type 1", "type 2", "type 3", "type 4"]
    gh.normalise(adata)
    names = type_names({"slice": adata}, types, "log1p")
    for number, name in enumerate(names):
        assert name in [f"gene{3 * number + more}" for more in range(3)]


def test_confidence_is_the_share_of_the_nearest_in_the_same_domain():
    slices = {"one": nucleus(seed=1), "other": nucleus(40, seed=2)}
    found = gh.cluster_composition(slices, 3, **QUICK)
    begin = 0
    for adata in slices.values():
        xy = adata.obsm["spatial"]
        here = found.labels[begin : begin + len(xy)]
        distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
        nearest = np.argsort(distance, axis=1)[:, :61]
        expected = (here[nearest] == here[:, None]).mean(axis=1)
        np.testing.assert_allclose(found.confidence[begin : begin + len(xy)], expected)
        begin += len(xy)
    assert found.votes.max() <= 1


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"n_domains": 0}, "n_domains"),
        ({"n_domains": 10**6}, "n_domains"),
        ({"n_domains": 2.5}, "n_domains"),
        ({"n_starts": 0}, "n_starts"),
        ({"n_types": None}, "n_types"),
        ({"neighbour_weight": np.nan}, "neighbour_weight"),
        ({"prior_cells": 0}, "prior_cells"),
        ({"same_within": -1.0}, "same_within"),
        ({"type_key": "no such column"}, "no such column"),
        ({"use_rep": "X_none"}, "X_none"),
        ({"spatial_key": "places"}, "places"),
    ],
)
def test_bad_arguments_are_named_before_any_work(changed, match):
    adata = nucleus(60)
    arguments = {"n_domains": 2, **QUICK, **changed}
    with pytest.raises((TypeError, ValueError), match=match):
        gh.cluster_composition(adata, **arguments)
    assert "genot_domain" not in adata.obs


def test_fewer_cells_than_starts_or_types_ask_for():
    adata = nucleus(12)
    found = gh.cluster_composition(adata, 2, n_starts=3, progress=False)
    assert len(found.labels) == 12
    assert set(found.labels) <= {0, 1}
    one = gh.cluster_composition(nucleus(40), 1, **QUICK)
    assert set(one.labels) == {0}


# --- the figure ----------------------------------------------------------------------------------


def test_the_figure_orders_types_by_their_home_and_prints_shares():
    table = pd.DataFrame(
        {"1": [0.7, 0.3, 0.0], "2": [0.1, 0.1, 0.8]}, index=["Gad1", "A$b$", "Mbp"]
    )
    figure = gh.plot_composition(table)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Gad1", r"A\$b\$", "Mbp"]
    assert sorted(text.get_text() for text in ax.texts) == ["10", "10", "30", "70", "80"]
    np.testing.assert_allclose(ax.images[0].get_array()[0], [1.0, 1 / 7])
    figure.canvas.draw()
    assert len(gh.plot_composition(table, n_types=1).axes[0].get_yticklabels()) == 1
    with pytest.raises((TypeError, ValueError), match="table"):
        gh.plot_composition(table - 1.0)
    with pytest.raises((TypeError, ValueError), match="n_types"):
        gh.plot_composition(table, n_types=0)
