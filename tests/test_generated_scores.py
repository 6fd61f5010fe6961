"""Scores of generated slices: ideal values, what must lower each, dense oracles, bad input."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse

from genot_helpers import (
    SliceError,
    flat_scores,
    gap_closed,
    load_slice,
    score_generated,
    score_table,
    with_spread,
)
from genot_helpers.evaluation import baseline_slices
from genot_helpers.evaluation.gene_maps import column_correlation, make_grid
from genot_helpers.evaluation.measures import (
    classifier_auc,
    compare_labels,
    compare_nearest,
    compare_niches,
    morans_i,
)
from genot_helpers.slices import spot_side

N_GENES = 30


def make_section(seed, n=700, shift=0.0):
    """Make a section of one tissue: spots anywhere in a square, genes with patterns, bands."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 1000, (n, 2))
    place = xy[:, 0] + shift + 60 * np.sin(xy[:, 1] / 150)
    phase = np.linspace(0, 3 * np.pi, N_GENES)
    along, across = place[:, None] / 200, xy[:, 1, None] / 300
    rate = np.exp(1 + np.sin(along + phase) + 0.5 * np.cos(across - 2 * phase))
    # Kinds of spots that do not depend on the place: they give the profiles a covariance.
    kind = rng.integers(0, 3, n)
    rate *= np.where(np.arange(N_GENES) % 3 == kind[:, None], 3.0, 0.6)
    band = np.clip(place // 250, 0, 3).astype(int)
    obs = {
        "domain_truth": pd.Categorical([f"band {b}" for b in band]),
        "kind": pd.Categorical([f"kind {k}" for k in kind]),
    }
    names = [f"spot{i}" for i in range(n)]
    return ad.AnnData(
        sparse.csr_matrix(rng.poisson(rate).astype(np.float32)),
        obs=pd.DataFrame(obs, index=names),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]),
        obsm={"spatial": xy},
    )


def as_generated(adata):
    adata = adata.copy()
    adata.obs["genot_domain"] = adata.obs["domain_truth"]
    return adata


@pytest.fixture(scope="module")
def left():
    return make_section(1, shift=-100)


@pytest.fixture(scope="module")
def right():
    return make_section(2, n=650, shift=100)


@pytest.fixture(scope="module")
def held_out():
    return make_section(3, n=900)


@pytest.fixture(scope="module")
def table(left, right, held_out):
    generated = as_generated(make_section(4))
    return score_table(generated, left, right, held_out, niche_key="kind", n_repeats=2)


# --- ideal values, and what must not matter ------------------------------------------------------


def test_a_slice_against_itself_has_the_ideal_scores(held_out):
    scores = score_generated(as_generated(held_out), held_out)
    one = ("map", "ssim", "density", "nearest", "spacing", "variance", "moran", "moran_correlation")
    assert {key: scores[key] for key in one} == pytest.approx(dict.fromkeys(one, 1.0))
    for key in ("niche", "gene_gene", "sliced_wasserstein"):
        assert scores[key] == pytest.approx(0.0, abs=1e-9), key
    assert scores["c2st"] == pytest.approx(0.5)
    assert scores["n_spots"] == 900
    assert scores["n_genes"] == N_GENES
    assert scores["ari"] > 0.8  # a vote of five neighbours, not the spot itself
    assert 0 < scores["knn"] < 1


def test_order_of_genes_and_spots_does_not_matter(left, held_out):
    ours, real = as_generated(left), held_out[:700].copy()
    before = score_generated(ours, real)
    rng = np.random.default_rng(0)
    after = score_generated(ours[rng.permutation(700), rng.permutation(N_GENES)], real)
    # The folds of the classifier depend on the order, so its score moves within its error.
    assert after.pop("c2st") == pytest.approx(before.pop("c2st"), abs=0.03)
    assert after == pytest.approx(before, rel=1e-5)


def test_a_motion_and_scaling_of_both_slices_does_not_matter(left, held_out):
    ours, real = as_generated(left), held_out.copy()
    before = score_generated(ours, real, n_spots=500)
    for adata in (ours, real):
        adata.obsm["spatial"] = 7.0 + 0.01 * adata.obsm["spatial"]
    after = score_generated(ours, real, n_spots=500)
    assert after == pytest.approx(before, rel=1e-6)


def test_depth_of_the_generated_slice_does_not_matter(left, held_out):
    before = score_generated(left, held_out)
    deeper = left.copy()
    deeper.X = deeper.X * 3
    assert score_generated(deeper, held_out) == pytest.approx(before, nan_ok=True, rel=1e-4)


def test_dense_equals_sparse_and_nothing_is_written(left, held_out):
    ours, real = left.copy(), held_out.copy()
    expected = score_generated(ours, real)
    assert list(ours.obs) == list(left.obs)
    assert not ours.layers and not real.layers and not real.uns
    ours.X, real.X = ours.X.toarray(), real.X.toarray()
    assert score_generated(ours, real) == pytest.approx(expected, nan_ok=True)


def test_same_seed_same_scores(left, held_out):
    first, again, other = (
        score_generated(as_generated(left), held_out, n_spots=300, seed=s) for s in (5, 5, 6)
    )
    assert first == again
    assert first != other
    assert first["n_spots"] == 300


def test_control_probes_do_not_count(left, held_out):
    noisy = []
    for number, adata in enumerate((left, held_out)):
        blank = np.random.default_rng(number).poisson(50, (adata.n_obs, 2)).astype(np.float32)
        probes = ad.AnnData(blank, obs=adata.obs, var=pd.DataFrame(index=["Blank_1", "blank2"]))
        both = ad.concat([adata, probes], axis=1, merge="same")
        both.obsm["spatial"] = adata.obsm["spatial"]
        noisy.append(both)
    expected = score_generated(left, held_out)
    assert score_generated(*noisy) == pytest.approx(expected, nan_ok=True)


def test_logarithms_are_not_taken_twice(left, held_out):
    logs = []
    for adata in (left, held_out):
        logged = adata.copy()
        totals = np.asarray(held_out.X.sum(axis=1)).ravel()
        depth = np.median(totals) / np.asarray(adata.X.sum(axis=1))
        logged.X = np.log1p(adata.X.toarray() * depth)
        logs.append(logged)
    expected = score_generated(left, held_out, n_spots=None)
    found = score_generated(*logs)
    # The depth of the thinned held-out slice differs a little from that of the whole.
    assert found["map"] == pytest.approx(expected["map"], abs=0.005)
    assert found["variance"] == pytest.approx(expected["variance"], abs=0.05)


def test_most_variable_genes_are_used(left, held_out):
    assert score_generated(left, held_out, max_genes=7)["n_genes"] == 7


# --- each score sees what it is meant to see -----------------------------------------------------


def test_a_mirrored_slice_is_in_the_wrong_place(left, held_out):
    mirrored = as_generated(left)
    mirrored.obsm["spatial"] = [1000, 0] + [-1, 1] * mirrored.obsm["spatial"]
    good, bad = (score_generated(s, held_out) for s in (as_generated(left), mirrored))
    for key in ("map", "ssim", "knn", "nearest", "accuracy"):  # mirrored bands have a good ARI
        assert bad[key] < good[key] - 0.1, key
    assert bad["niche"] > good["niche"] + 0.1
    assert bad["knn_rmse"] > good["knn_rmse"]
    for key in ("variance", "gene_gene", "moran", "spacing"):  # blind to the place
        assert bad[key] == pytest.approx(good[key]), key


def test_shuffled_expression_has_no_autocorrelation(held_out):
    shuffled = held_out.copy()
    shuffled.X = held_out.X[np.random.default_rng(0).permutation(held_out.n_obs)]
    scores = score_generated(shuffled, held_out)
    assert abs(scores["moran"]) < 0.1
    assert abs(scores["map"]) < 0.1
    assert scores["variance"] == pytest.approx(1.0)
    assert scores["c2st"] == pytest.approx(0.5)  # the very same profiles


def test_no_ratio_of_autocorrelation_to_that_of_noise(held_out):
    shuffled = held_out.copy()
    shuffled.X = held_out.X[np.random.default_rng(0).permutation(held_out.n_obs)]
    assert np.isnan(score_generated(held_out, shuffled)["moran"])


def test_a_blurred_slice_is_caught(table):
    blurred, real = table.loc["neighbour_mean"], table.loc["ceiling"]
    assert blurred["variance"] < 0.5
    assert blurred["c2st"] > 0.95
    assert blurred["moran"] > 2
    assert blurred["gene_gene"] > 3 * real["gene_gene"]


def test_a_squeezed_slice_has_wrong_coordinates(left, held_out):
    squeezed = left.copy()
    squeezed.obsm["spatial"] = squeezed.obsm["spatial"] * [0.5, 1.0]
    good, bad = score_generated(left, held_out), score_generated(squeezed, held_out)
    assert bad["spacing"] < 0.8
    assert bad["sliced_wasserstein"] > 2 * good["sliced_wasserstein"]
    assert bad["density"] < good["density"]


def test_a_slice_without_a_gene_loses_by_it(left, held_out):
    without = left.copy()
    without.X = without.X.multiply(np.arange(N_GENES) >= 10).tocsr()
    good, bad = score_generated(left, held_out), score_generated(without, held_out)
    assert bad["n_genes"] == good["n_genes"]
    assert bad["map"] < good["map"] - 0.1
    assert bad["moran"] < good["moran"]
    of_labels = {"ari", "accuracy", "niche", "soft_accuracy", "grid_l1", "grid_kl"}
    of_labels |= {"type_abundance", "ghosts"}
    assert np.isfinite([v for key, v in bad.items() if key not in of_labels]).all()


# --- the table -----------------------------------------------------------------------------------


def test_table_puts_every_row_between_what_it_should_be(table):
    names = ["copy_left", "copy_right", "union", "neighbour_mean", "ceiling"]
    assert list(table.index) == ["genot", *names]
    assert (table["n_spots"] == 450).all()  # half of the held-out slice
    assert table["n_genes"].nunique() == 1
    assert np.isfinite(table.to_numpy()).all()
    copies = table.loc[["copy_left", "copy_right"]]
    for key in ("map", "ari"):
        # The row under test is a fresh sample of the held-out tissue, so as good as the ceiling.
        assert table.loc["ceiling", key] > copies[key].max() + 0.03, key
        assert table.loc["genot", key] > copies[key].max() + 0.03, key
    assert table.loc["ceiling", "c2st"] < 0.55
    for key in ("variance", "moran", "spacing"):
        assert table.loc["ceiling", key] == pytest.approx(1.0, abs=0.15), key
    assert 0.5 < gap_closed(table) < 1.5


def test_rows_of_the_table_use_few_enough_spots_for_all(left, right, held_out):
    small = as_generated(make_section(4, n=200))
    small.layers["mean"] = small.X.toarray() + 0.5
    small.obs["genot_source"] = "left"
    small.obs["genot_source_spot"] = left.obs_names[:200]
    scores = score_table(small, left, right, held_out, niche_key="kind")
    assert list(scores.index[:2]) == ["genot", "genot_mean"]
    assert (scores["n_spots"] == 200).all()
    assert np.isfinite(scores["niche"]).all() is np.True_  # "kind" was looked up in left
    again = score_table(small, left, right, held_out, niche_key="kind")
    pd.testing.assert_frame_equal(scores, again)
    # A union three quarters of which come from the right: 650 / 0.75 would allow more.
    assert (score_table(small, left, right, held_out, t=0.75, n_spots=100)["n_spots"] == 100).all()


def test_spread_is_that_of_the_repetitions(table, left, right, held_out):
    """The table of two repetitions, against two tables of one each."""
    generated = as_generated(make_section(4))
    each = [
        score_table(generated, left, right, held_out, niche_key="kind", seed=seed)
        for seed in (0, 1)
    ]
    pd.testing.assert_frame_equal(table, (each[0] + each[1]) / 2, check_like=True)
    spread = pd.DataFrame(table.attrs["spread"])
    expected = (each[0] - each[1]).abs() / np.sqrt(2)
    np.testing.assert_allclose(spread.loc[expected.index, expected.columns], expected, atol=1e-12)
    assert spread.loc["genot", "map"] > 0
    assert np.isnan(pd.DataFrame(each[0].attrs["spread"]).loc["genot", "map"])
    pd.concat([table, each[0]])  # attrs that differ do not stand in the way


def test_means_with_their_spread(table):
    text = with_spread(table.loc[["genot", "ceiling"], ["n_spots", "map"]], digits=2)
    assert list(text.index) == ["genot", "ceiling"]
    mean, deviation = table.loc["genot", "map"], table.attrs["spread"]["map"]["genot"]
    assert text.loc["genot", "map"] == f"{mean:.2f} ± {deviation:.2f}"
    assert text.loc["genot", "n_spots"] == f"{table.loc['genot', 'n_spots']:,.0f}"
    assert with_spread(table.T.T).loc["genot", "map"].startswith(f"{mean:.3f} ± ")
    bare = pd.DataFrame(table.to_numpy(), table.index, table.columns)
    assert with_spread(bare).loc["genot", "map"] == f"{mean:.3f}"


def test_flat_scores_and_gap(table):
    flat = flat_scores(table)
    assert flat["genot.map"] == table.loc["genot", "map"]
    assert flat["ceiling.c2st"] == table.loc["ceiling", "c2st"]
    assert flat["gap_closed.map"] == gap_closed(table)
    assert len(flat) == table.size + 1
    assert all(isinstance(value, float) for value in flat.values())
    rows = {"genot": 0.5, "copy_left": 0.3, "copy_right": 0.4, "ceiling": 0.6}
    assert gap_closed(pd.DataFrame({"map": rows})) == pytest.approx(0.5)
    rows["ceiling"] = 0.405
    assert np.isnan(gap_closed(pd.DataFrame({"map": rows})))


def test_baselines(left, right, held_out):
    slices = baseline_slices(left, right, held_out, t=0.25, seed=1)
    assert all("genot_domain" in adata.obs for adata in slices.values())
    assert slices["copy_left"].n_obs == left.n_obs
    union, mean = slices["union"], slices["neighbour_mean"]
    assert union.n_obs == round(0.75 * 700 + 0.25 * 650)
    assert (union.obs["genot_source"] == "right").mean() == pytest.approx(0.25, abs=0.002)
    assert union.obs_names.is_unique
    np.testing.assert_array_equal(mean.obsm["spatial"], union.obsm["spatial"])
    assert slices["ceiling"].n_obs == 450
    assert "genot_domain" not in left.obs
    spot = 17
    expected = 0
    for adata, share in ((left, 0.75), (right, 0.25)):
        distance = np.linalg.norm(adata.obsm["spatial"] - union.obsm["spatial"][spot], axis=1)
        expected = expected + share * adata.X[np.argsort(distance)[:5]].toarray().mean(axis=0)
    np.testing.assert_allclose(mean.X[spot].toarray().ravel(), expected, rtol=1e-5)
    ends = [baseline_slices(left, right, held_out, t=t)["union"] for t in (0, 1)]
    np.testing.assert_array_equal(ends[0].obsm["spatial"], left.obsm["spatial"])
    np.testing.assert_array_equal(ends[1].X.toarray(), right.X.toarray())


# --- labels --------------------------------------------------------------------------------------


def test_spots_without_a_label_are_left_out(left, held_out):
    ours, real = as_generated(left), held_out.copy()
    full = score_generated(ours, real, n_spots=500)
    real.obs.loc[real.obs_names[::7], "domain_truth"] = np.nan
    ours.obs.loc[ours.obs_names[::5], "genot_domain"] = np.nan
    some = score_generated(ours, real, n_spots=500)
    for key in ("ari", "accuracy", "niche"):
        assert some[key] == pytest.approx(full[key], abs=0.08)
    none = score_generated(left, held_out, n_spots=500)
    assert np.isnan([none[key] for key in ("ari", "accuracy", "niche")]).all()
    assert none["map"] == full["map"] == some["map"]
    by_kind = score_generated(ours, held_out, niche_key="kind")
    assert np.isfinite(by_kind["niche"])


def test_vote_and_niche_by_hand():
    real = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    generated = np.array([[0.1, 0], [0.2, 0], [0.3, 0], [10.1, 0], [10.2, 0], [10.3, 0]])
    carried = np.array([0, 1, 1, 2, 0, -1])
    found = compare_labels(real, generated, np.array([1, 2, -1]), carried, k=3)
    # Around (0, 0) label 1 has two votes of three. Around (10, 0): 2 at .1, 0 at .2, 1 at 9.7;
    # one vote each, so that of the nearest spot.
    assert found["accuracy"] == 1.0
    divergence = compare_niches(real[:2], generated, np.array([1, 2]), carried, k=1)
    assert divergence == pytest.approx(0.5)  # (0 against 1: one bit; 2 against 2: none)


# --- oracles -------------------------------------------------------------------------------------

clouds = st.integers(12, 30).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(1, 4), st.integers(0, 10_000))
)


@settings(max_examples=20, deadline=None)
@given(clouds)
def test_morans_i_is_that_of_the_textbook(cloud):
    n, k, seed = cloud
    rng = np.random.default_rng(seed)
    points, values = rng.random((n, 2)), rng.random((n, 3))
    values[:, 2] = 1.0
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    weights = np.zeros((n, n))
    for i in range(n):
        weights[i, np.argsort(distance[i])[:k]] = 1 / k
    z = values - values.mean(axis=0)
    expected = [n / weights.sum() * (x @ weights @ x) / (x @ x) for x in z.T[:2]]
    np.testing.assert_allclose(morans_i(points, values, k=k), [*expected, 0.0], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(clouds)
def test_nearest_scores_are_those_of_a_loop(cloud):
    n, k, seed = cloud
    rng = np.random.default_rng(seed)
    p, q, x, y = rng.random((n, 2)), rng.random((20, 2)), rng.random((n, 6)), rng.random((20, 6))
    x[:, 5] = 0.0  # constant, so left out
    mean, std = x[:, :5].mean(axis=0), x[:, :5].std(axis=0)
    correlations, errors = {1: [], k: []}, []
    for place, profile in zip(p, x, strict=True):
        order = np.argsort(np.linalg.norm(q - place, axis=1))
        z = (profile[:5] - mean) / std
        for number in {1, k}:
            w = (y[order[:number], :5].mean(axis=0) - mean) / std
            correlations[number].append(np.corrcoef(z, w)[0, 1])
        errors.append((z - (y[order[:k], :5].mean(axis=0) - mean) / std) ** 2)
    found = compare_nearest(p, q, x, y, k=k)
    assert found["nearest"] == pytest.approx(np.mean(correlations[1]))
    assert found["knn"] == pytest.approx(np.mean(correlations[k]))
    assert found["knn_rmse"] == pytest.approx(np.sqrt(np.mean(errors)))


def test_column_correlation_and_grid():
    rng = np.random.default_rng(0)
    a, b = rng.random((50, 4)), rng.random((50, 4))
    b[:, 3] = 2.0
    expected = [np.corrcoef(a[:, j], b[:, j])[0, 1] for j in range(3)]
    np.testing.assert_allclose(column_correlation(a, b)[:3], expected)
    assert np.isnan(column_correlation(a, b)[3])
    square = np.stack(np.meshgrid(np.arange(60.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    assert spot_side(square) == pytest.approx(1.0, rel=0.2)
    grid = make_grid(square)
    counts = np.bincount(grid.bins(square))
    assert np.median(counts[counts > 0]) == pytest.approx(4, abs=2)
    assert grid.bins(np.array([[-1e6, -1e6], [1e6, 1e6]])).tolist() == [0, np.prod(grid.shape) - 1]


def test_classifier_is_not_fooled():
    rng = np.random.default_rng(0)
    real, fresh = rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    assert classifier_auc(real, fresh) < 0.56
    assert classifier_auc(real, fresh + 1.0) > 0.9
    assert classifier_auc(real, 0.3 * fresh) > 0.9  # the same mean
    repeated = fresh[rng.integers(0, 400, 400)]  # spots used several times: not learnt by heart
    assert classifier_auc(real, repeated) < 0.58
    assert classifier_auc(real, np.repeat(fresh[:2], 200, axis=0)) == 1.0


# --- bad input -----------------------------------------------------------------------------------


def test_different_kinds_of_values_are_refused(left, held_out):
    logged, other = left.copy(), left.copy()
    logged.X = np.log1p(left.X.toarray())
    other.X = left.X * 7.7
    with pytest.raises(SliceError, match=r"held-out slice holds counts.*slice logarithms"):
        score_generated(logged, held_out)
    with pytest.raises(SliceError, match=r"holds values.*generated slice logarithms"):
        score_generated(logged, other)
    logged.layers["mean"] = logged.X  # the layer is taken to be in the unit of the counts
    assert score_generated(logged, held_out, layer="mean")["map"] > 0.5
    logged.layers["mean"] = logged.X - 5
    with pytest.raises(SliceError, match=r"layers\['mean'\] of the generated slice.*negative"):
        score_generated(logged, held_out, layer="mean")
    with pytest.raises(SliceError, match="layer is 'smooth', but no slice has"):
        score_generated(logged, held_out, layer="smooth")


def test_unusable_slices_are_refused(left, right, held_out):
    def broken(change):
        adata = left.copy()
        change(adata)
        return adata

    def set_nan(adata):
        adata.obsm["spatial"][3, 0] = np.nan

    def move(adata):
        adata.obsm["spatial"] += 5000.0

    def rename(adata):
        adata.var_names = [f"other{i}" for i in range(N_GENES)]

    def infinite(adata):
        adata.X[0, 0] = np.inf

    def negative(adata):
        adata.X = adata.X.toarray() - 3

    for change, message in {
        set_nan: "NaN or infinite",
        move: "do not overlap.*one frame",
        rename: "no gene in common",
        infinite: "NaN or infinite",
        negative: "negative",
        lambda adata: adata.obsm.pop("spatial"): "no coordinates",
        lambda adata: adata.obsm.update(spatial=np.zeros((700, 3))): r"shape \(700, 3\)",
    }.items():
        with pytest.raises(SliceError, match=message):
            score_generated(broken(change), held_out)
    with pytest.raises(SliceError, match="too few"):
        score_generated(left, held_out, n_spots=5)
    with pytest.raises(SliceError, match="'cell'"):
        score_generated(left, held_out, niche_key="cell")
    with pytest.raises(SliceError, match="is 0 for all shared genes"):
        score_generated(left, broken(lambda adata: adata.X.data.fill(0)))
    with pytest.raises(ValueError, match=r"argument t is 1\.5; give a number from 0 to 1"):
        score_table(left, left, right, held_out, t=1.5)
    with pytest.raises(ValueError, match="n_repeats"):
        score_table(left, left, right, held_out, n_repeats=0)
    with pytest.raises(SliceError, match=r"Row copy_right cannot be scored.*negative"):
        score_table(left, left, broken(negative), held_out)


# --- real slices ---------------------------------------------------------------------------------


@pytest.mark.real_data
def test_hypothalamus_is_near_the_published_figures(real_data_dir):
    left, right, held_out = (
        load_slice(f"merfish_{number}", data_source="local", data_dir=real_data_dir)
        for number in (4, 14, 9)
    )
    stand_in = baseline_slices(left, right, held_out, seed=9)["union"]
    table = score_table(stand_in, left, right, held_out, niche_key="cell_class")
    for row, key, expected, tolerance in (
        ("copy_left", "map", 0.405, 0.03),
        ("union", "map", 0.433, 0.03),
        ("ceiling", "map", 0.557, 0.03),
        ("copy_left", "knn", 0.160, 0.02),
        ("ceiling", "knn", 0.228, 0.02),
        ("ceiling", "ari", 0.90, 0.04),
        ("ceiling", "niche", 0.117, 0.02),
        ("ceiling", "c2st", 0.50, 0.03),
        ("ceiling", "gene_gene", 0.026, 0.004),
        ("ceiling", "moran", 1.02, 0.1),
    ):
        assert table.loc[row, key] == pytest.approx(expected, abs=tolerance), (row, key)
