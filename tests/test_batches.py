"""Batch effects: mixing, shares, and two ways to take out a shift."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import genot_helpers as gh
from genot_helpers import SliceError, preprocess
from genot_helpers.preprocessing import anchor_slices, centre_slices, slice_mixing, slice_share


@pytest.fixture
def shifted(make_slice):
    """Two sections of one tissue; the second one shifted by a known vector."""
    slices = {"a": make_slice(seed=0), "b": make_slice(seed=1)}
    preprocess(slices, n_components=8)
    shift = np.array([0.0, 0.0, 0.0, 0.0, 1.5, -1.5, 1.5, -1.5])  # across the differences of bands
    slices["b"].obsm["X_pca"] = (slices["b"].obsm["X_pca"] + shift).astype(np.float32)
    return slices, shift


def test_mixing_tells_a_shift_from_none(shifted):
    slices, shift = shifted
    apart = slice_mixing(slices)
    assert list(apart.index) == list(apart.columns) == ["a", "b"]
    np.testing.assert_allclose(apart.sum(axis=1), 1)
    assert apart.loc["a", "b"] < 0.1
    slices["b"].obsm["X_pca"] -= shift.astype(np.float32)
    assert 0.35 < slice_mixing(slices).loc["a", "b"] < 0.65


def test_mixing_is_what_a_textbook_says(make_slice):
    one, two = make_slice(seed=0)[:40].copy(), make_slice(seed=1)[:30].copy()
    rng = np.random.default_rng(0)
    for adata in (one, two):
        adata.obsm["X_pca"] = rng.normal(size=(adata.n_obs, 3))
    points = np.concatenate([one.obsm["X_pca"], two.obsm["X_pca"]])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :7]
    expected = (nearest[:40] >= 40).mean()
    found = slice_mixing([one, two], n_neighbors=7)
    assert found.iloc[0, 1] == pytest.approx(expected)


def test_mixing_thins_large_slices(shifted):
    slices, _ = shifted
    whole, thinned = slice_mixing(slices), slice_mixing(slices, max_spots=100, n_neighbors=10)
    np.testing.assert_allclose(whole, thinned, atol=0.15)


def test_share_of_the_slices():
    rng = np.random.default_rng(0)
    away = np.array([0.0, 0.0, 9.0])
    values = rng.normal(size=(60, 3)), rng.normal(size=(40, 3)) + away
    slices = [_with_embedding(part) for part in values]
    share = slice_share(slices)
    assert share.shape == (3,)
    assert share[:2].max() < 0.1
    assert share[2] > 0.9
    third = np.concatenate(values)[:, 2]
    means = np.repeat([third[:60].mean(), third[60:].mean()], [60, 40])
    assert share[2] == pytest.approx(means.var() / third.var())


def test_centring_gives_all_slices_one_mean_and_changes_nothing_else(shifted):
    slices, _ = shifted
    before = {name: adata.obsm["X_pca"].copy() for name, adata in slices.items()}
    lengths = centre_slices(slices)
    means = [adata.obsm["X_centred"].mean(axis=0) for adata in slices.values()]
    np.testing.assert_allclose(means[0], means[1], atol=1e-4)
    assert (lengths > 1).all()
    for name, adata in slices.items():
        np.testing.assert_array_equal(adata.obsm["X_pca"], before[name])
        moved = adata.obsm["X_centred"] - before[name]
        np.testing.assert_allclose(moved - moved[0], 0, atol=1e-4)


def test_anchors_find_the_shift_between_sections(shifted):
    slices, shift = shifted
    table = anchor_slices(slices)
    assert list(table.columns) == ["shift", "anchors", "scatter"]
    assert table.loc["a", "shift"] == 0
    moved = slices["b"].obsm["X_anchored"] - slices["b"].obsm["X_pca"]
    np.testing.assert_allclose(moved - moved[0], 0, atol=1e-4)
    assert np.linalg.norm(moved[0] + shift) < 0.2 * np.linalg.norm(shift)
    assert slice_mixing(slices, use_rep="X_anchored").loc["a", "b"] > 0.3


def test_anchors_leave_unlike_tissue_apart_where_centring_does_not(make_slice):
    """Half of each slice is shared; there is no batch effect at all."""
    one, two = make_slice(seed=0), make_slice(seed=1)
    one = one[one.obs["domain_truth"] != "band 4"].copy()
    two = two[two.obs["domain_truth"] != "band 1"].copy()
    preprocess([one, two], n_components=8)
    anchor_slices([one, two])
    centre_slices([one, two])

    def jump(key):  # between the parts of a band that both have
        means = [
            adata.obsm[key][(adata.obs["domain_truth"] == "band 2").to_numpy()].mean(axis=0)
            for adata in (one, two)
        ]
        return np.linalg.norm(means[0] - means[1])

    assert jump("X_anchored") < 0.5 * jump("X_centred")


def test_same_input_same_bits(shifted):
    slices, _ = shifted
    anchor_slices(slices)
    first = slices["b"].obsm["X_anchored"].copy()
    anchor_slices(slices)
    np.testing.assert_array_equal(first, slices["b"].obsm["X_anchored"])


def test_what_is_missing_is_named(shifted):
    slices, _ = shifted
    with pytest.raises(SliceError, match=r"no slice has obsm\['X_none'\].*X_pca"):
        slice_mixing(slices, use_rep="X_none")
    del slices["b"].obsp["spatial_connectivities"]
    with pytest.raises(SliceError, match="slice 'b': obsp"):
        anchor_slices(slices)
    slices["a"].obsm["X_pca"][3, 1] = np.nan
    with pytest.raises(SliceError, match=r"a: .*not finite"):
        centre_slices(slices)
    slices["a"].obsm["X_pca"] = np.zeros((slices["a"].n_obs, 3))
    with pytest.raises(SliceError, match=r"differ in the number of components.*'a': 3, 'b': 8"):
        slice_share(slices)


def _with_embedding(values: np.ndarray) -> ad.AnnData:
    return ad.AnnData(sparse.csr_matrix((len(values), 1)), obsm={"X_pca": values})


def _bins(side: int, smooth: bool, sd: float, seed: int = 0):
    """Bins of Poisson counts with known stripes; also the true factors, geometric mean 1."""
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(side**2), side)
    factors = np.exp(sd * rng.normal(size=(2, side)))
    mean = 20 * (1 + 0.5 * np.sin(row / side * 3) * np.cos(column / side * 2) * smooth)
    truth = factors[0, row] * factors[1, column]
    counts = rng.poisson((mean * truth)[:, None] * np.array([0.2, 0.5, 0.3]))
    bins = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    bins.obs["array_row"], bins.obs["array_col"] = row + 3, column
    bins.obsm["spatial"] = np.column_stack([column, row]).astype(float)
    return bins, truth / np.exp(np.log(truth).mean())


@pytest.mark.parametrize("smooth", [False, True])
def test_stripes_are_found_as_they_were_made_and_divided_out(smooth: bool) -> None:
    bins, truth = _bins(60, smooth, 0.25)
    stripes = gh.preprocessing.correct_stripes(bins)
    found = np.log(bins.obs["destriped_factor"])
    assert np.corrcoef(found, np.log(truth))[0, 1] > 0.9
    assert stripes.after < 0.25 * stripes.before
    assert list(stripes.rows.index[:2]) == [3, 4]
    expected = bins.X.toarray() / bins.obs["destriped_factor"].to_numpy()[:, None]
    np.testing.assert_allclose(bins.layers["destriped"].toarray(), expected, rtol=1e-5)
    assert (bins.X.data % 1 == 0).all()  # X stays


def test_without_stripes_hardly_anything_is_changed() -> None:
    bins, _ = _bins(60, True, 0.0)
    assert gh.preprocessing.correct_stripes(bins).before < 0.05
    assert bins.obs["destriped_factor"].between(0.8, 1.25).all()


def test_stripes_do_not_depend_on_the_order_of_bins_and_need_not_see_all_of_them() -> None:
    bins, truth = _bins(50, True, 0.25)
    rng = np.random.default_rng(1)
    kept = rng.permutation(bins.n_obs)[:2000]
    part = bins[kept].copy()
    gh.preprocessing.correct_stripes(part)
    assert np.corrcoef(np.log(part.obs["destriped_factor"]), np.log(truth[kept]))[0, 1] > 0.9
    again = part[::-1].copy()
    gh.preprocessing.correct_stripes(again)
    factors = part.obs["destriped_factor"], again.obs["destriped_factor"]
    np.testing.assert_allclose(factors[0], factors[1][part.obs_names], rtol=1e-9)


def test_what_is_no_grid_of_bins_is_refused() -> None:
    bins, _ = _bins(20, False, 0.1)
    with pytest.raises(ValueError, match="width"):
        gh.preprocessing.correct_stripes(bins, width=0)
    with pytest.raises(SliceError, match=r"obs\['nowhere'\] is missing"):
        gh.preprocessing.correct_stripes(bins, row_key="nowhere")
    bins.obs["array_row"] = bins.obs["array_row"] * 1000
    with pytest.raises(SliceError, match="no grid of bins"):
        gh.preprocessing.correct_stripes(bins)
    bins.obs["array_row"] = 0
    with pytest.raises(SliceError, match="Two bins share a place"):
        gh.preprocessing.correct_stripes(bins)
    bins.obs["array_row"] = bins.obsm["spatial"][:, 1] + 0.5
    with pytest.raises(SliceError, match="whole numbers"):
        gh.preprocessing.correct_stripes(bins)
