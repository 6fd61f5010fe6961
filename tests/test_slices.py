"""check_slice says everything that is wrong with a slice, and what to do about it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse

from genot_helpers import SliceError, check_slice
from genot_helpers.slices import find_labels, holds_counts
from genot_helpers.slices.geometry import squares
from genot_helpers.slices.sections import joint_embeddings, named_slices, rows_of_each
from genot_helpers.slices.values import scan

LAYOUTS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr array": sparse.csr_array,
    "dense": np.asarray,
}


def good_slice(n: int = 40, layout: str = "csr") -> ad.AnnData:
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.5, (n, 6)).astype("float32")
    counts[:, 0] += 1
    counts[0] += 1
    adata = ad.AnnData(LAYOUTS[layout](counts))
    adata.obs_names = [f"spot{i}" for i in range(n)]
    adata.var_names = [f"gene{j}" for j in range(6)]
    adata.obsm["spatial"] = rng.random((n, 2)) * 100
    return adata


def problems(adata: ad.AnnData, **options) -> dict[str, str]:
    with pytest.raises(SliceError) as caught:
        check_slice(adata, **options)
    assert all(problem.fix for problem in caught.value.problems)
    for problem in caught.value.problems:
        assert problem.found in str(caught.value)
        assert problem.fix in str(caught.value)
    return {problem.slot: problem.found for problem in caught.value.problems}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_good_slice_passes_unchanged(layout):
    adata = good_slice(layout=layout)
    before = adata.copy()
    check_slice(adata, require_counts=True)
    check_slice(adata[5:30])  # a view
    np.testing.assert_array_equal(
        np.asarray(sparse.csr_matrix(adata.X).toarray()), sparse.csr_matrix(before.X).toarray()
    )
    assert list(adata.obsm) == ["spatial"]


def test_not_an_anndata():
    with pytest.raises(TypeError, match="load_slice"):
        check_slice(pd.DataFrame(np.eye(3)))


def test_no_coordinates():
    adata = good_slice()
    adata.obsm["X_umap"] = adata.obsm.pop("spatial")
    assert "X_umap" in problems(adata)['obsm["spatial"]']
    check_slice(adata, spatial_key="X_umap")


@pytest.mark.parametrize("bad", [np.zeros((40, 3)), np.array([["a", "b"]] * 40)])
def test_coordinates_of_the_wrong_shape_or_kind(bad):
    adata = good_slice()
    adata.obsm["spatial"] = bad
    assert "needed: (n, 2)" in problems(adata)['obsm["spatial"]']


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinite_coordinates(value):
    adata = good_slice()
    adata.obsm["spatial"][[3, 7], 1] = value
    found = problems(adata)['obsm["spatial"]']
    assert "2 of 40 spots" in found
    assert "'spot3'" in found


def test_duplicate_coordinates():
    adata = good_slice()
    adata.obsm["spatial"][5] = adata.obsm["spatial"][2]
    check_slice(adata)  # a cell may lie above another one: the checklist says so, nothing fails
    adata.obsm["spatial"][:30] = adata.obsm["spatial"][2]
    found = problems(adata)['obsm["spatial"]']
    assert "30 of 40 spots share" in found
    assert "'spot0'" in found


def test_coordinates_in_a_table_come_with_the_way_to_an_array():
    adata = good_slice()
    xy = adata.obsm["spatial"]
    adata.obsm["spatial"] = pd.DataFrame(xy, index=adata.obs_names, columns=["x", "y"])
    assert "a table with the columns ['x', 'y']" in problems(adata)['obsm["spatial"]']


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("value", "word"),
    [(-2.0, "negative"), (np.nan, "NaN or infinite"), (np.inf, "NaN or infinite")],
)
def test_bad_values_are_counted_and_located(layout, value, word):
    adata = good_slice(layout="dense")
    adata.X[4, 3] = value
    adata.X[9, 2] = value
    adata.X = LAYOUTS[layout](adata.X)
    found = problems(adata)["X"]
    assert f"2 values are {word}" in found
    first = ("'spot9', gene 'gene2'") if layout == "csc" else ("'spot4', gene 'gene3'")
    assert first in found
    assert not holds_counts(adata)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_spots_and_genes(layout):
    adata = good_slice(layout="dense")
    adata.X[[6, 8]] = 0
    adata.X[:, 5] = 0
    adata.X = LAYOUTS[layout](adata.X)
    with pytest.raises(SliceError) as caught:
        check_slice(adata)
    text = str(caught.value)
    assert "2 of 40 spots are empty" in text
    assert "'spot6'" in text
    assert "1 of 6 genes are empty" in text
    assert "filter_cells" in text
    assert "filter_genes" in text


def test_stored_zeros_do_not_fill_a_spot():
    adata = good_slice()
    adata.X.data[adata.X.indptr[3] : adata.X.indptr[4]] = 0
    assert "spots are empty" in problems(adata)["X"]


def test_names_used_twice():
    adata = good_slice()
    adata.obs_names = ["same", "same", *adata.obs_names[2:]]
    adata.var_names = [*adata.var_names[:-1], "gene0"]
    found = problems(adata)
    assert "2 of 40 spots" in found["obs_names"]
    assert "'same'" in found["obs_names"]
    assert "'gene0'" in found["var_names"]


def test_rows_dropped_in_place_leave_obs_misaligned():
    adata = good_slice()
    adata.obs.drop(index=["spot3", "spot4"], inplace=True)
    found = problems(adata)
    assert "misaligned" in found["X"]
    assert "no longer match the 38 rows of obs" in found['obsm["spatial"]']
    adata = good_slice()
    adata.var.drop(index=["gene3"], inplace=True)
    assert "var has 5" in problems(adata)["X"]


def test_too_few_spots_and_no_genes():
    assert "5 spots" in problems(good_slice()[:5].copy())["obs"]
    check_slice(good_slice()[:5].copy(), min_spots=5)
    assert "no genes" in problems(good_slice()[:, :0].copy())["var"]
    assert "0 spots" in problems(good_slice()[:0].copy())["obs"]


def test_no_matrix_and_no_numbers():
    adata = good_slice()
    adata.X = None
    assert "no matrix" in problems(adata)["X"]
    adata = good_slice()
    adata.X = np.full(adata.shape, "a", dtype=object)
    assert "dtype object" in problems(adata)["X"]
    assert not holds_counts(adata)


def test_counts_can_be_asked_for():
    adata = good_slice()
    adata.X = adata.X * 0.5
    check_slice(adata)
    assert "fractions" in problems(adata, require_counts=True)["X"]
    assert not holds_counts(adata)
    assert holds_counts(good_slice())


def test_everything_at_once_is_one_error():
    adata = good_slice(layout="dense")
    adata.X[1, 1] = -1
    adata.X[2] = 0
    adata.X[3, 3] = np.nan
    adata.obsm["spatial"][0] = np.nan
    adata.obsm["spatial"][2:32] = adata.obsm["spatial"][1]
    adata.var_names = ["g"] * 6
    with pytest.raises(SliceError, match=r"mine cannot be used: 6 problems") as caught:
        check_slice(adata, name="mine")
    assert len(caught.value.problems) == 6
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_backed_slices(tmp_path, layout):
    adata = good_slice(layout="dense")
    adata.X[7] = 0
    adata.X = LAYOUTS[layout](adata.X)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert "1 of 40 spots are empty" in problems(backed)["X"]
    assert holds_counts(backed)
    backed.file.close()


@given(
    data=st.data(),
    n=st.integers(1, 12),
    m=st.integers(1, 9),
    layout=st.sampled_from([np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix]),
)
@settings(max_examples=60, deadline=None)
def test_scan_agrees_with_the_plain_way(data, n, m, layout):
    values = st.sampled_from([0.0, 0.0, 1.0, 3.0, -1.0, 0.5, float("nan"), float("inf")])
    X = np.array(data.draw(st.lists(values, min_size=n * m, max_size=n * m))).reshape(n, m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genot_helpers.slices.values._BLOCK_VALUES", 5)  # many blocks
        bad, rows, columns = scan(layout(X))
    np.testing.assert_array_equal(rows, (X != 0).any(axis=1))
    np.testing.assert_array_equal(columns, (X != 0).any(axis=0))
    finite = np.isfinite(X)
    plain = {
        "NaN or infinite": ~finite,
        "negative": X < 0,
        "fractions": finite & (np.where(finite, X, 0) % 1 != 0),
    }
    for kind, mask in plain.items():
        assert (bad[kind][0] if bad[kind] else 0) == mask.sum()
        if bad[kind]:
            _, i, j, value = bad[kind]
            assert mask[i, j]
            np.testing.assert_equal(value, X[i, j])


def test_find_labels():
    adata = good_slice()
    assert find_labels(adata) is None
    adata.obs["cluster"] = pd.Categorical(["a", "b"] * 20)
    adata.obs["region"] = [None] * 40
    assert find_labels(adata) == "cluster"
    adata.obs["domain"] = np.linspace(0, 1, 40)  # a measurement, not an annotation
    assert find_labels(adata) == "cluster"
    adata.obs["domain_truth"] = pd.Categorical(["x", None] * 20)
    assert find_labels(adata) == "domain_truth"
    assert find_labels(adata, "cluster") == "cluster"
    assert find_labels(adata, None) is None
    with pytest.raises(SliceError, match="Near: cluster"):
        find_labels(adata, "clusters")


def test_several_slices_get_names_whatever_they_come_in():
    one, other = good_slice(), good_slice(30)
    assert named_slices(one) == {"slice": one}
    assert named_slices(iter([one, other])) == {"slice 1": one, "slice 2": other}
    assert list(named_slices({"b": one, "a": other})) == ["b", "a"]
    for nothing in ([], {}, [one, None]):
        with pytest.raises(SliceError, match="give one AnnData, or a list or dictionary"):
            named_slices(nothing)


def test_rows_go_back_to_their_slices():
    slices = [good_slice(), good_slice(30)]
    found = [rows for _, rows in rows_of_each(slices, np.arange(70))]
    np.testing.assert_array_equal(found[0], np.arange(40))
    np.testing.assert_array_equal(found[1], np.arange(40, 70))


def test_joint_embeddings_are_copies_and_flat_ones_are_refused():
    slices = {"a": good_slice(), "b": good_slice(30)}
    for adata in slices.values():
        adata.obsm["X"] = np.ones((adata.n_obs, 3))
    first, second = joint_embeddings(slices, "X", dtype=np.float32)
    first += 1
    assert (slices["a"].obsm["X"] == 1).all()
    assert second.shape == (30, 3)
    assert second.dtype == np.float32
    slices["b"].obsm["X"] = np.ones((30, 3, 2))
    with pytest.raises(SliceError, match=r"b: obsm\['X'\] has shape \(30, 3, 2\)"):
        joint_embeddings(slices, "X")


@given(
    points=st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=40),
    side=st.floats(0.5, 20),
)
def test_every_point_lies_in_its_square(points, side):
    points = np.array(points)
    places, member = squares(points, side)
    corner = points.min(axis=0) + places[member] * side
    assert (points >= corner - 1e-9).all()
    assert (points <= corner + side + 1e-9).all()
    assert sorted(set(member)) == list(range(len(places)))
    assert len(np.unique(places, axis=0)) == len(places)


@pytest.mark.parametrize("side", [0, -1.0, np.inf, np.nan])
def test_squares_need_a_length(side):
    with pytest.raises(ValueError, match="give a positive length"):
        squares(np.zeros((2, 2)), side)
