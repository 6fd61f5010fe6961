"""AnnData of any packing, SpatialData, objects in memory; counts and kinds of values found."""

import bz2
import gzip
import lzma
import shutil
import zipfile

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import genot_helpers as gh
from genot_helpers.slices.values import find_counts, value_kind


def good(n: int = 60, m: int = 12, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(sparse.csr_matrix((rng.poisson(3, (n, m)) + 1).astype("float32")))
    adata.obs_names = [f"s{i}" for i in range(n)]
    adata.var_names = [f"G{i}" for i in range(m)]
    side = int(np.ceil(np.sqrt(n)))
    adata.obsm["spatial"] = np.column_stack(np.divmod(np.arange(n), side)) * 10.0
    return adata


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("end", PACKERS)
@pytest.mark.parametrize("honest", [True, False])
def test_packed_h5ad(tmp_path, end, honest):
    good().write_h5ad(tmp_path / "y.h5ad")
    body = (tmp_path / "y.h5ad").read_bytes()
    (tmp_path / "y.h5ad").unlink()
    path = tmp_path / (f"y.h5ad{end}" if honest else "y.H5AD")  # told by its first bytes
    path.write_bytes(PACKERS[end](body))
    assert gh.load_slice(path).shape == (60, 12)
    assert gh.own_slices(tmp_path) == ["y"]
    assert gh.load_slice("y", data_source=tmp_path).shape == (60, 12)


def test_a_packed_file_that_is_cut_off_is_named(tmp_path):
    good().write_h5ad(tmp_path / "y.h5ad")
    packed = gzip.compress((tmp_path / "y.h5ad").read_bytes())
    (tmp_path / "y.h5ad.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"y\.h5ad\.gz cannot be unpacked"):
        gh.load_slice(tmp_path / "y.h5ad.gz")


def test_zipped_h5ad_and_zarr(tmp_path):
    good().write_h5ad(tmp_path / "y.h5ad")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.write(tmp_path / "y.h5ad", "folder/y.h5ad")
    good().write_zarr(tmp_path / "z.zarr")
    shutil.make_archive(str(tmp_path / "z.zarr"), "zip", tmp_path / "z.zarr")
    for name in ("y.zip", "z.zarr", "z.zarr.zip"):
        assert gh.load_slice(tmp_path / name).shape == (60, 12)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.csv", "is a table"),
        ("a.tsv.gz", "is a table"),
        ("a.rds", "zellkonverter"),
        ("a.loom", "read_loom"),
        ("a.tar.gz", "archive"),
        ("a.h5ad", "cut off"),
    ],
)
def test_other_files_come_with_the_way_to_an_h5ad(tmp_path, name, word):
    (tmp_path / name).write_bytes(b"something else\n1,2\n")
    with pytest.raises(ValueError, match=word):
        gh.load_slice(tmp_path / name)


@pytest.mark.parametrize("slot", ["X/indices", "X/indptr", "layers/l/indices"])
def test_damaged_sparse_structure_names_the_file(tmp_path, slot):
    adata = good()
    adata.layers["l"] = adata.X.copy()
    adata.write_h5ad(tmp_path / "broken.h5ad")
    with h5py.File(tmp_path / "broken.h5ad", "a") as file:
        file[slot][5] = 1_000_000
    with pytest.raises(ValueError, match=r"broken\.h5ad.*damaged"):
        gh.load_slice(tmp_path / "broken.h5ad")


def test_check_slice_refuses_damaged_structure():
    adata = good()
    adata.X.indices[3] = 99
    with pytest.raises(gh.SliceError, match="damaged: an index of 99 in 12 columns"):
        gh.check_slice(adata)


# --- objects in memory ----------------------------------------------------------------------------


def lazy(adata, tmp_path):
    adata.write_zarr(tmp_path / "lazy.zarr")
    return ad.experimental.read_lazy(tmp_path / "lazy.zarr")


def backed(adata, tmp_path):
    adata.write_h5ad(tmp_path / "backed.h5ad")
    return ad.read_h5ad(tmp_path / "backed.h5ad", backed="r")


def with_dask(adata, tmp_path):
    da = pytest.importorskip("dask.array")
    adata.X = da.from_array(adata.X.toarray(), chunks=(20, 12))
    return adata


@pytest.mark.parametrize("kind", [lazy, backed, with_dask])
def test_lazy_and_backed_objects_are_opened_or_refused_in_a_sentence(tmp_path, kind):
    wanted = good().X.toarray()
    thing = kind(good(), tmp_path)
    adata = gh.load_slice(thing)
    np.testing.assert_array_equal(adata.X.toarray(), wanted)
    gh.preprocess(adata, n_components=5)
    with pytest.raises(gh.SliceError, match="needed: a matrix in memory"):
        gh.preprocess(thing, n_components=5)


@pytest.mark.parametrize("dtype", ["float16", "bool", "uint8", "int64", "float64"])
@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_every_kind_of_matrix_gives_the_same_components(dtype, layout):
    if dtype == "float16" and layout is not np.asarray:
        pytest.skip("SciPy has no sparse float16")
    reference, other = good(), good()
    values = reference.X.toarray()
    if dtype == "bool":
        values = values > 3
        values[:, 0], values[0] = True, True
    reference.X = sparse.csr_matrix(values.astype("float32"))
    other.X = layout(values.astype(dtype))
    for adata in (reference, other):
        gh.preprocess(adata, n_components=5)
    np.testing.assert_allclose(other.obsm["X_pca"], reference.obsm["X_pca"], atol=1e-4)


def test_float16_layers_and_tables_of_positions(tmp_path):
    adata = good()
    counts = adata.X.toarray()
    adata.layers["counts"] = counts.astype("float16")
    adata.X = np.log1p(counts)
    xy = pd.DataFrame(adata.obsm["spatial"][:, ::-1], index=adata.obs_names, columns=["y", "x"])
    adata.obsm["spatial"] = xy
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = gh.load_slice(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read.X.toarray(), counts)
    np.testing.assert_array_equal(read.obsm["spatial"], xy[["x", "y"]])


KINDS_OF_ARRAY = {
    "objects": lambda values: values.astype(object),
    "foreign byte order": lambda values: values.astype(">f4"),
    "masked, nothing missing": lambda values: np.ma.masked_array(values, mask=False),
}


@pytest.mark.parametrize("kind", KINDS_OF_ARRAY)
def test_odd_arrays_are_read_and_the_gate_sends_there(kind):
    adata = good()
    values = adata.X.toarray()
    adata._X = KINDS_OF_ARRAY[kind](values)
    with pytest.raises(gh.SliceError, match="X: "):
        gh.check_slice(adata)
    assert "mend" in list(gh.inspect_slice(adata)["status"])
    np.testing.assert_array_equal(gh.load_slice(adata).X.toarray(), values)


def test_a_value_below_a_mask_is_missing():
    adata = good()
    adata._X = np.ma.masked_equal(adata.X.toarray(), adata.X.max())
    with pytest.raises(gh.SliceError, match="NaN or infinite"):
        gh.load_slice(adata)


def test_the_checklist_reads_nothing_from_disk(tmp_path):
    adata = backed(good(), tmp_path)
    assert gh.inspect_slice(adata).loc["values", "status"] == "mend"


# --- positions where people keep them -------------------------------------------------------------

SLOTS = ("X_spatial", "Spatial", "coordinates", "spatial_coords", "cell_centroids", "xy_loc")
COLUMNS = (("X", "Y"), ("x_centroid", "y_centroid"), ("CenterX_global_px", "CenterY_global_px"))
COLUMNS += (("imagecol", "imagerow"), ("pxl_col_in_fullres", "pxl_row_in_fullres"))


@pytest.mark.parametrize("place", [*SLOTS, *COLUMNS])
def test_positions_are_found_where_they_are_and_it_is_said(place):
    adata = good()
    places = adata.obsm.pop("spatial")
    if isinstance(place, str):
        adata.obsm[place] = places
    else:
        adata.obs[list(place)] = places
    adata.obs["CenterX_local_px"] = adata.obs["CenterY_local_px"] = 1.0
    fix = gh.inspect_slice(adata).loc["positions", "fix"]
    assert f"gh.slices.set_positions(adata, {place!r})" in fix
    read = gh.load_slice(adata)
    np.testing.assert_allclose(read.obsm["spatial"], places)
    assert "positions taken from" in read.uns["genot"]["read_as"]


def test_other_embeddings_are_no_positions():
    adata = good()
    adata.obsm["X_umap"] = adata.obsm.pop("spatial")
    adata.obsm["spatial_pca"] = adata.obsm["X_umap"]
    with pytest.raises(gh.SliceError, match="there are no coordinates"):
        gh.load_slice(adata)


def test_positions_in_millimetres_have_their_unit():
    adata = good()
    adata.obs[["x_slide_mm", "y_slide_mm"]] = adata.obsm.pop("spatial") / 1000
    assert gh.micrometres_per_unit(gh.load_slice(adata)) == 1000


FORMS = {
    "a third column": lambda p: np.column_stack([p, np.full(len(p), 7.0)]),
    "text": lambda p: p.astype(str),
    "objects": lambda p: p.astype(object),
}


@pytest.mark.parametrize("form", FORMS)
def test_positions_are_read_from_other_forms(form):
    adata = good()
    places = adata.obsm["spatial"].copy()
    adata.obsm["spatial"] = FORMS[form](places)
    np.testing.assert_allclose(gh.load_slice(adata).obsm["spatial"], places)
    adata.obsm["spatial"] = np.column_stack([places, np.arange(len(places))])
    with pytest.raises(gh.SliceError, match=r"shape \(\d+, 3\)"):
        gh.load_slice(adata)


def test_rows_and_columns_of_a_table_are_y_and_x():
    adata = good()
    places = adata.obsm["spatial"].copy()
    names = ["pxl_row_in_fullres", "pxl_col_in_fullres"]
    adata.obsm["spatial"] = pd.DataFrame(places[:, ::-1], index=adata.obs_names, columns=names)
    np.testing.assert_allclose(gh.load_slice(adata).obsm["spatial"], places)


def test_names_that_are_missing_are_made_unique():
    adata = good()
    adata.var.index = pd.Index([np.nan, np.nan, *adata.var_names[2:]], dtype=object)
    assert gh.load_slice(adata).var_names.is_unique


def test_columns_with_one_name_and_lists_in_cells():
    adata = good()
    adata.obs["sample"] = [[1, 2]] * adata.n_obs
    adata.obs["domain"] = adata.obs["sample"]
    adata.uns["log1p"] = None
    gh.inspect_slice(adata)
    assert gh.load_slice(adata).uns["genot"]["label_key"] == ""
    adata.obs["a"] = adata.obs["b"] = "x"
    adata.obs.columns = ["sample", "domain", "a", "a"]
    with pytest.raises(gh.SliceError, match="two columns are called 'a'"):
        gh.check_slice(adata)
    gh.inspect_slice(adata)
    read = gh.load_slice(adata)
    assert list(read.obs.columns) == ["sample", "domain", "a"]
    assert "with one name" in read.uns["genot"]["read_as"]


def test_objects_in_a_list_or_dictionary():
    assert list(gh.load_slices([good(), good()])) == ["slice 1", "slice 2"]
    found = gh.load_slices({"a": good(), "b": good()})
    assert [one.uns["genot"]["name"] for one in found.values()] == ["a", "b"]


# --- counts, and kinds of values ------------------------------------------------------------------


def normalised(adata, base=None, total=1e4):
    plain = adata.copy()
    sc.pp.normalize_total(plain, target_sum=total)
    if base != 0:
        sc.pp.log1p(plain, base=base)
    return plain.X


@pytest.mark.parametrize(
    "layer", ["counts", "Counts", "raw_counts", "count", "raw", "umi", "UMI_counts", "counts_raw"]
)
def test_counts_are_found_in_layers(layer):
    adata = good()
    counts = adata.X.copy()
    adata.layers[layer], adata.X = counts, normalised(adata)
    read = gh.load_slice(adata)
    np.testing.assert_array_equal(read.X.toarray(), counts.toarray())
    assert read.uns["genot"]["counts_from"] == f"layers[{layer!r}]"
    assert read.uns["genot"]["values"] == "counts"
    assert not gh.slices.holds_counts(adata)  # what was given stays


@pytest.mark.parametrize("selected", [slice(None), slice(2, 9)])
def test_counts_are_found_in_raw(tmp_path, selected):
    adata = good()
    adata.raw = adata.copy()
    adata.X = normalised(adata)
    adata.uns["log1p"] = {}
    adata = adata[:, selected].copy()
    counts = adata.raw[:, adata.var_names].X.toarray()
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = gh.load_slice(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read.X.toarray(), counts)
    assert "log1p" not in read.uns
    gh.preprocess(read, n_components=5)
    depth = np.median(counts.sum(1))
    once = np.log1p(counts / counts.sum(1, keepdims=True) * depth)
    np.testing.assert_allclose(read.layers["log1p"].toarray(), once, rtol=1e-5)


def test_logarithms_are_not_taken_twice_and_it_is_said():
    adata = good()
    adata.X = normalised(adata)
    with pytest.warns(UserWarning, match="taken as they are"):
        gh.normalise(adata)
    np.testing.assert_allclose(adata.layers["log1p"].toarray(), adata.X.toarray())
    read = gh.load_slice(adata)
    assert read.uns["genot"]["values"] == "logarithms"
    assert "no counts found: X holds logarithms" in read.uns["genot"]["read_as"]


@pytest.mark.parametrize("base", [None, 2, 10])
@pytest.mark.parametrize("total", [1e4, 100.0])
def test_kinds_of_values_are_told_by_the_values(base, total):
    adata = good(seed=3)
    assert value_kind(adata.X).kind == "counts"
    scaled = value_kind(normalised(adata, base=0, total=total))
    assert (scaled.kind, scaled.sure) == ("values", True)
    assert scaled.total == pytest.approx(total, rel=1e-3)
    logged = value_kind(normalised(adata, base=base, total=total))
    assert (logged.kind, logged.sure) == ("logarithms", True)
    assert logged.base == pytest.approx(base or np.e)
    assert logged.total == pytest.approx(total, rel=1e-3)


def test_fractions_below_20_are_no_logarithms_where_the_values_say_so():
    adata = good()
    volume = np.random.default_rng(1).uniform(2, 5, adata.n_obs)
    adata.X = sparse.csr_matrix(adata.X.multiply(1 / volume[:, None]))  # as MERFISH has them
    assert adata.X.max() < 20
    assert not gh.slices.holds_logarithms(adata)
    assert gh.load_slice(adata).uns["genot"]["values"] == "values"


def test_a_recorded_kind_decides_where_the_values_do_not():
    adata = good()
    adata.X = np.random.default_rng(2).gamma(2, 2, adata.shape)
    assert gh.slices.holds_logarithms(adata)  # a guess by the size
    adata.uns["genot"] = {"values": "values"}
    assert not gh.slices.holds_logarithms(adata)


def test_spliced_and_masks_are_no_first_choice():
    adata = good()
    counts = adata.X.copy()
    adata.layers["mask"] = (counts.toarray() > 2).astype("float32")
    adata.layers["rounded"] = counts
    adata.X = normalised(adata)
    assert find_counts(adata) == "layers['rounded']"


# --- pairs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["RNA", "unspliced"])
def test_the_only_counts_beside_scaled_values_are_taken(layer):
    adata = good()
    counts = adata.X.toarray()
    counts[::2, :6] = 0
    adata.layers[layer], adata.X = sparse.csr_matrix(counts), counts - counts.mean(0)
    if layer == "RNA":
        np.testing.assert_array_equal(gh.load_slice(adata).X.toarray(), counts)
    else:  # a part of the counts
        with pytest.raises(gh.SliceError, match="negative"):
            gh.load_slice(adata)


def test_counts_beside_scaled_values_are_refused():
    left, right = good(100), good(100, seed=1)
    right.X = normalised(right, base=0)
    gh.align(left, right, on_poor="return")  # each is normalised by itself: they can be compared
    with pytest.raises(gh.SliceError, match=r"left counts and right values scaled to 1e\+04"):
        gh.prepare_interpolation(left, right)  # but not put into one matrix
    left.X = normalised(left, base=0, total=1e6)
    with pytest.raises(gh.SliceError, match="different normalisation"):
        gh.prepare_interpolation(left, right)


@pytest.mark.parametrize("shared", [1, 2])
def test_few_shared_genes_are_refused(shared):
    left, right = good(100), good(100, seed=1)
    right.var_names = [f"G{i}" if i < shared else f"other{i}" for i in range(12)]
    with pytest.raises(gh.SliceError, match=rf"{shared} of 12 genes? in common.*at least 20%"):
        gh.align(left, right)


@pytest.mark.parametrize("column", ["gene_symbols", "feature_name", "Symbol", "whatever"])
@pytest.mark.parametrize("version", ["", ".12"])
def test_symbols_and_identifiers_are_matched(tmp_path, column, version):
    left, right = good(100), good(100, seed=1)
    right.var[column] = left.var_names
    right.var_names = [f"ENSG{i:011d}{version}" for i in range(12)]
    with pytest.raises(gh.SliceError, match=rf"match_genes.*var\['{column}'\]"):
        gh.align(left, right)
    left.write_h5ad(tmp_path / "left.h5ad")
    right.write_h5ad(tmp_path / "right.h5ad")
    said = gh.slices.match_genes([left, right])
    assert f"var['{column}']" in said
    assert list(right.var_names) == list(left.var_names)
    both = gh.load_slices(tmp_path)
    assert list(both["left"].var_names) == list(both["right"].var_names)


def test_versions_and_case_are_no_difference():
    left, right = good(), good()
    left.var_names = [f"ENSMUSG{i:011d}.{i}" for i in range(12)]
    right.var_names = [f"ENSMUSG{i:011d}" for i in range(12)]
    gh.slices.match_genes([left, right])
    assert list(left.var_names) == list(right.var_names)
    left, right = good(), good()
    right.var_names = [name.lower() for name in right.var_names]
    gh.slices.match_genes([left, right])
    assert left.var_names.isin(right.var_names).all()


# --- SpatialData ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdata_parts():
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Affine, Identity

    shift = Affine(
        np.array([[2.0, 0, 100], [0, 2.0, 50], [0, 0, 1]]),
        input_axes=("x", "y"), output_axes=("x", "y"),
    )  # fmt: skip
    shapes, tables = {}, []
    for number, name in enumerate(("spots_a", "spots_b")):
        table = good(seed=number)
        places = table.obsm.pop("spatial")
        index = np.arange(table.n_obs) + 1000
        shapes[name] = ShapesModel.parse(
            places, geometry=0, radius=3.0, index=index[::-1].copy(),
            transformations={"global": shift, "pixels_downscaled_hires": Identity()},
        )  # fmt: skip
        table.obs["region"], table.obs["instance"] = name, index[::-1]
        table.obs_names = [f"{name}_{i}" for i in range(table.n_obs)]
        tables.append(table)
    joined = ad.concat(tables)
    joined.obs["region"] = joined.obs["region"].astype("category")
    table = TableModel.parse(
        joined, region=["spots_a", "spots_b"], region_key="region", instance_key="instance"
    )
    return spatialdata.SpatialData(shapes=shapes, tables={"table": table}), good().obsm["spatial"]


@pytest.mark.parametrize("stored", [False, True])
def test_spatialdata_regions_are_slices_in_one_frame(sdata_parts, tmp_path, stored):
    sdata, places = sdata_parts
    notes = good()
    del notes.obsm["spatial"]
    sdata.tables["notes"] = notes  # without places: no slice
    source = sdata
    if stored:
        source = tmp_path / "s.zarr"
        sdata.write(source)
        assert gh.own_slices(source) == ["spots_a", "spots_b"]
    found = gh.load_slices(source)
    assert list(found) == ["spots_a", "spots_b"]
    for adata in found.values():
        np.testing.assert_allclose(adata.obsm["spatial"], places * 2 + [100, 50])
        assert "domain_truth" not in adata.obs  # the region is no annotation
    with pytest.raises(gh.SliceError, match="holds 2 slices: spots_a, spots_b"):
        gh.load_slice("other", data_source=source)


def test_results_go_back_to_the_spatialdata(sdata_parts, tmp_path):
    sdata, _ = sdata_parts
    found = gh.load_slices(sdata)
    for adata in found.values():
        adata.obs["genot_domain"] = pd.Categorical(["1", "2"] * 30)
    gh.datasets.add_table(sdata, found)
    table = sdata.tables["genot"]
    assert table.n_obs == 120
    assert set(table.obs["region"]) == {"spots_a", "spots_b"}
    assert list(sdata.tables["table"].obs["instance"]) == list(table.obs["instance"])
    sdata.write(tmp_path / "back.zarr")
    again = gh.load_slice("genot/spots_a", data_source=tmp_path / "back.zarr")
    assert set(again.obs["genot_domain"]) == {"1", "2"}


def test_squidpy_objects_and_results_survive_the_disk(tmp_path):
    adata = gh.load_slice(good())
    gh.preprocess(adata, n_components=5)
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = gh.load_slice(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.obsm["X_pca"], adata.obsm["X_pca"])
    assert again.uns["genot"]["values"] == "counts"


def test_stereopy_files_have_positions_in_obs(tmp_path):
    adata = good()
    adata.obs["x"], adata.obs["y"] = adata.obsm.pop("spatial").T
    adata.uns |= {"sn": "SS1", "bin_type": "bins", "bin_size": 50, "resolution": 500}
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = gh.load_slice(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read.obsm["spatial"], good().obsm["spatial"])
    assert gh.micrometres_per_unit(read) == 0.5
