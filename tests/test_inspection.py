"""The checklist lists every fault and doubt, and its fixes mend what they say."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import plant_slice
from scipy import sparse

import genot_helpers as gh
from genot_helpers import SliceError, check_slice


def status_of(adata: ad.AnnData, check: str, **options) -> tuple[str, str, str]:
    table = gh.inspect_slice(adata, **options)
    assert list(table.columns) == ["status", "found", "fix"]
    assert set(table["status"]) <= {"ok", "look", "mend"}
    assert (table.loc[table["status"] != "ok", "fix"] != "").all()
    row = table.loc[[check]].iloc[0]
    return row["status"], row["found"], row["fix"]


def test_a_good_slice_has_nothing_to_mend_and_is_not_changed(planted):
    before = planted.copy()
    table = gh.inspect_slice(planted)
    assert (table.drop(["image"])["status"] == "ok").all(), table
    assert table.index.is_unique
    assert "4 labels" in table.loc["labels", "found"]
    np.testing.assert_array_equal(planted.X.toarray(), before.X.toarray())
    pd.testing.assert_frame_equal(planted.obs, before.obs)
    assert planted.uns == before.uns


def set_row(adata, spot, total):
    """Leave a spot ``total`` of its first gene and nothing else."""
    values = adata.X.toarray()
    values[spot] = 0
    values[spot, 0] = total
    adata.X = sparse.csr_matrix(values)


def drop_positions(adata):
    del adata.obsm["spatial"]


def flat_positions(adata):
    adata.obsm["spatial"] = np.zeros((adata.n_obs, 3))


def nan_positions(adata):
    adata.obsm["spatial"][3] = np.nan


def shared_position(adata):
    adata.obsm["spatial"][: 2 * adata.n_obs // 3] = adata.obsm["spatial"][0]


def negative_values(adata):
    adata.X = adata.X.copy()
    adata.X.data[5] = -1


def nan_values(adata):
    adata.X.data[0] = np.nan


def no_values(adata):
    adata.X = None


def twice_the_gene(adata):
    adata.var_names = ["gene1", *adata.var_names[1:]]


def twice_the_spot(adata):
    adata.obs_names = ["spot1", *adata.obs_names[1:]]


def empty_spot(adata):
    set_row(adata, 2, 0)


MENDS = {
    drop_positions: "positions",
    flat_positions: "positions",
    nan_positions: "positions",
    shared_position: "duplicates",
    negative_values: "values",
    nan_values: "values",
    twice_the_gene: "names of genes",
    twice_the_spot: "names of spots",
    empty_spot: "values",
}


@pytest.mark.parametrize("spoil", MENDS, ids=lambda spoil: spoil.__name__)
def test_what_check_slice_refuses_is_to_mend_with_the_same_words(planted, spoil):
    spoil(planted)
    with pytest.raises(SliceError) as caught:
        check_slice(planted)
    table = gh.inspect_slice(planted)
    mend = table[table["status"] == "mend"]
    assert list(mend.index) == [MENDS[spoil]] * len(mend)
    for problem, found in zip(caught.value.problems, mend["found"], strict=True):
        assert found == f"{problem.slot}: {problem.found}"


def test_a_slice_without_values_or_cut_in_place_is_listed_too(planted):
    no_values(planted)
    assert status_of(planted, "values")[0] == "mend"
    few = plant_slice()[:4].copy()
    assert status_of(few, "size")[0] == "mend"
    cut = plant_slice()
    cut._obs = cut.obs.iloc[:100]  # what dropping rows of obs in place leaves behind
    assert "mend" in set(gh.inspect_slice(cut)["status"])


def test_not_an_anndata():
    with pytest.raises(TypeError, match="AnnData"):
        gh.inspect_slice(pd.DataFrame())


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("obsm", "X_spatial"),
        ("obs", ("x_centroid", "y_centroid")),
        ("obs", ("X", "Y")),
    ],
)
def test_positions_kept_elsewhere_are_pointed_out_and_can_be_taken(planted, where, source):
    points = planted.obsm.pop("spatial")
    if where == "obsm":
        planted.obsm[source] = points
    else:
        planted.obs[list(source)] = points
    status, _, fix = status_of(planted, "positions")
    assert status == "mend"
    assert f"gh.slices.set_positions(adata, {source!r})" in fix
    gh.slices.set_positions(planted, source)
    np.testing.assert_array_equal(planted.obsm["spatial"], points)
    assert status_of(planted, "positions")[0] == "ok"


def test_set_positions_refuses_what_is_not_there(planted):
    with pytest.raises(SliceError, match="Near: spatial"):
        gh.slices.set_positions(planted, "spatal")
    with pytest.raises(SliceError, match=r"obs\['x'\] is missing"):
        gh.slices.set_positions(planted, ["x", "y"])
    with pytest.raises(SliceError, match="two columns"):
        gh.slices.set_positions(planted, ["array_row"])
    planted.obs["x"], planted.obs["y"] = "a", "b"
    with pytest.raises(SliceError, match="no numbers"):
        gh.slices.set_positions(planted, ["x", "y"])
    planted.obsm["line"] = np.zeros((planted.n_obs, 1))
    with pytest.raises(SliceError, match="two columns of numbers"):
        gh.slices.set_positions(planted, "line")


def test_unknown_unit_of_length(planted):
    del planted.obs["array_row"]
    status, found, fix = status_of(planted, "unit of length")
    assert status == "look"
    assert "100 units apart" in found
    assert "if neighbours are 100 µm apart, it is 1)" in fix
    planted.uns["genot"] = {"micrometres_per_unit": 0.5}
    status, found, _ = status_of(planted, "unit of length")
    assert status == "ok"
    assert "50 µm apart" in found


def test_logarithms_are_seen_and_can_be_undone(planted):
    values = planted.X.copy()
    planted.X = planted.X.log1p()
    status, found, fix = status_of(planted, "values")
    assert status == "look"
    assert "logarithms" in found
    assert "undo_logarithm" in fix
    gh.slices.undo_logarithm(planted)
    np.testing.assert_allclose(planted.X.toarray(), values.toarray(), rtol=1e-5)
    with pytest.raises(ValueError, match="no logarithms"):
        gh.slices.undo_logarithm(planted)


def test_the_base_of_a_logarithm_is_read_from_where_scanpy_leaves_it(planted):
    values = planted.X.toarray()
    planted.X = sparse.csr_matrix(np.log2(1 + values))
    planted.uns["log1p"] = {"base": 2}
    gh.slices.undo_logarithm(planted)
    np.testing.assert_allclose(planted.X.toarray(), values, rtol=1e-5)
    assert "log1p" not in planted.uns


def test_normalised_values_are_worth_a_look(planted):
    planted.X = planted.X * np.float32(7.3)
    assert status_of(planted, "values")[0] == "look"


def test_identifiers_for_names(planted):
    planted.var["symbol"] = planted.var_names
    planted.var_names = [f"ENSMUSG{number:011d}" for number in range(planted.n_vars)]
    status, found, fix = status_of(planted, "names of genes")
    assert (status, "identifiers" in found) == ("look", True)
    assert "adata.var['symbol']" in fix


def test_several_sections_stray_spots_and_shallow_ones(planted):
    planted.obs["sample"] = ["a"] * 100 + ["b"] * 200
    status, found, fix = status_of(planted, "several sections")
    assert (status, "2 values" in found) == ("look", True)
    assert "adata.obs['sample'] == 'a'" in fix
    planted.obsm["spatial"][7] += 5000
    assert status_of(planted, "stray spots")[1].startswith("1 spot more than")
    set_row(planted, 9, 1)
    assert "1 spot with less than 5%" in status_of(planted, "depth")[1]


def test_spots_with_the_expression_of_others(make_slice):
    one = make_slice(n_genes=120)
    twice = ad.concat([one, one[:40]], index_unique="-", keys=["a", "b"])
    twice.obsm["spatial"][one.n_obs :] += [0, 10_000]
    status, found, _ = status_of(twice, "duplicates")
    assert status == "look"
    assert found.startswith("80 spots with exactly")


def test_labels(planted):
    del planted.obs["domain_truth"]
    status, found, fix = status_of(planted, "labels")
    assert (status, "no annotation" in found) == ("look", True)
    assert "optional" in fix
    planted.obs["annotation"] = planted.obs_names
    assert "are these domains?" in status_of(planted, "labels")[2]
    status, found, _ = status_of(planted, "labels", label_key="anotation")
    assert (status, "Near: annotation" in found) == ("mend", True)


def test_small_slices_and_what_was_left_out(make_slice, tmp_path):
    small = make_slice(n_rows=8, n_columns=12)
    assert status_of(small, "size")[0] == "look"
    small.X = sparse.csr_matrix(small.X.toarray() * (np.arange(small.n_vars) > 0))
    path = gh.write_slice(small, tmp_path / "small.h5ad")
    read = gh.load_slice("small", data_source=path)
    assert "1 genes without counts" in status_of(read, "left out when read")[1]


def test_a_slice_with_faults_can_be_loaded_to_be_looked_at(planted, tmp_path):
    drop_positions(planted)
    path = gh.write_slice(planted, tmp_path / "own.h5ad")
    with pytest.raises(SliceError, match="no coordinates"):
        gh.load_slice("own", data_source=path)
    read = gh.load_slice("own", data_source=path, check=False)
    assert status_of(read, "positions")[0] == "mend"


def test_own_slices_are_listed_without_reading(planted, tmp_path):
    for name in ("b", "a"):
        gh.write_slice(planted, tmp_path / f"{name}.h5ad")
    assert gh.own_slices(tmp_path) == ["a", "b"]
    assert gh.own_slices(tmp_path / "a.h5ad") == ["a"]
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'b\.h5ad', 'a\.h5ad'"):
        gh.own_slices(tmp_path / "c.h5ad")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="neither a Space Ranger folder"):
        gh.own_slices(tmp_path / "empty")


def test_one_file_is_not_read_under_two_names(planted, tmp_path):
    path = gh.write_slice(planted, tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match="holds 1 slice"):
        gh.load_slices(["left", "right"], data_source=path)
    assert list(gh.load_slices(["any"], data_source=path)) == ["any"]


@pytest.mark.real_data
def test_real_space_ranger_folder(real_data_dir):
    folder = real_data_dir / "dlpfc" / "151673"
    assert gh.own_slices(folder) == ["151673"]
    table = gh.inspect_slice(gh.load_slice("mine", data_source=folder))
    assert not (table["status"] == "mend").any()
    assert "600 × 600" in table.loc["image", "found"]
    assert "100 µm apart" in table.loc["unit of length", "found"]
