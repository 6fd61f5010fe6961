"""Slices by name: simulated, from folders, from the reader's own files; labels from tables."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import anndata as ad
import h5py
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import squidpy as sq
from PIL import Image
from scipy import io, sparse

from genot_helpers import (
    SliceError,
    check_slice,
    list_slices,
    load_slice,
    load_slices,
    simulate_cortex,
    write_slice,
)
from genot_helpers.datasets.visium import read_space_ranger
from genot_helpers.slices.slices import add_labels, as_labels

mpl.use("Agg")

GENES = ("SNAP25", "MBP", "TBCE", "TBCE", "EMPTY")
FACTORS = {
    "spot_diameter_fullres": 40.0,
    "tissue_hires_scalef": 0.2,
    "tissue_lowres_scalef": 0.05,
    "fiducial_diameter_fullres": 60.0,
}


def barcodes(n: int) -> list[str]:
    letters = np.array(list("ACGT"))
    return ["".join(letters[[(i >> k) & 3 for k in range(0, 16, 2)]]) * 2 + "-1" for i in range(n)]


def write_10x(path: Path, counts: np.ndarray, names: list[str], genes=GENES) -> None:
    """Write counts (spots, genes) as Space Ranger does: CSC of genes by spots, HDF5."""
    stored = sparse.csc_matrix(counts.T.astype("int32"))
    with h5py.File(path, "w") as file:
        file.attrs["library_ids"] = np.array([b"lib"])
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(stored, key)
        group["shape"] = np.array(stored.shape, dtype="int32")
        group["barcodes"] = np.array(names, dtype="S")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i}" for i in range(len(genes))], dtype="S")
        features["name"] = np.array(genes, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * len(genes), dtype="S")
        features["genome"] = np.array(["GRCh38"] * len(genes), dtype="S")


def space_ranger(folder: Path, *, version: int = 1, matrix: str = "", images=("lowres",)) -> Path:
    """Make a section of 24 spots, 20 in tissue, the matrix holding 21 of them."""
    rng = np.random.default_rng(2)
    spatial = folder / "spatial"
    spatial.mkdir(parents=True)
    names = barcodes(24)
    counts = rng.poisson(3.0, (21, len(GENES))) + 1
    counts[:, -1] = 0
    row, column = np.divmod(np.arange(24), 6)
    table = pd.DataFrame(
        {
            "barcode": names,
            "in_tissue": (np.arange(24) < 20).astype(int),
            "array_row": row,
            "array_col": 2 * column + row % 2,
            "pxl_row_in_fullres": 100 + 90 * row,
            "pxl_col_in_fullres": 200 + 50 * (2 * column + row % 2),
        }
    ).sample(frac=1, random_state=0)  # the order differs from that of the matrix
    name = "tissue_positions.csv" if version == 2 else "tissue_positions_list.csv"
    table.to_csv(spatial / name, index=False, header=version == 2)
    (spatial / "scalefactors_json.json").write_text(json.dumps(FACTORS))
    for size in images:
        pixels = rng.integers(0, 255, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(spatial / f"tissue_{size}_image.png")
    if matrix == "mtx":
        target = folder / "filtered_feature_bc_matrix"
        target.mkdir()
        io.mmwrite(folder / "m.mtx", sparse.csc_matrix(counts.T))
        with gzip.open(target / "matrix.mtx.gz", "wb") as file:
            file.write((folder / "m.mtx").read_bytes())
        (folder / "m.mtx").unlink()
        with gzip.open(target / "features.tsv.gz", "wt") as file:
            file.writelines(f"ENSG{i}\t{g}\tGene Expression\n" for i, g in enumerate(GENES))
        with gzip.open(target / "barcodes.tsv.gz", "wt") as file:
            file.writelines(f"{name}\n" for name in names[:21])
    else:
        write_10x(folder / f"{matrix}filtered_feature_bc_matrix.h5", counts, names[:21])
    return folder


def stored_slice(path: Path, n: int = 30, **obs) -> Path:
    rng = np.random.default_rng(3)
    adata = ad.AnnData(rng.poisson(1.0, (n, 4)).astype("float32") + 1)
    adata.obsm["spatial"] = rng.integers(0, 1000, (n, 2)) + np.arange(n)[:, None] * 1000
    for key, value in obs.items():
        adata.obs[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(path)
    return path


def is_finished(adata: ad.AnnData) -> None:
    check_slice(adata)
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert adata.obsm["spatial"].dtype == np.float64
    assert {"source", "name", "dataset", "data_source", "simulated"} <= set(adata.uns["genot"])


# --- Space Ranger ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "matrix"), [(1, ""), (2, ""), (1, "V1_Human_"), (2, "mtx"), (1, "mtx")]
)
def test_space_ranger_versions_and_file_names(tmp_path, version, matrix):
    adata = read_space_ranger(space_ranger(tmp_path / "s1", version=version, matrix=matrix))
    assert adata.shape == (20, 5)  # one spot of the matrix is not in tissue
    assert list(adata.obs_names) == barcodes(20)
    assert list(adata.var_names) == ["SNAP25", "MBP", "TBCE", "TBCE-1", "EMPTY"]
    assert list(adata.var["gene_ids"]) == [f"ENSG{i}" for i in range(5)]
    assert (adata.obs["in_tissue"] == 1).all()
    np.testing.assert_array_equal(adata.obsm["spatial"][:, 0], 200 + 50 * adata.obs["array_col"])
    np.testing.assert_array_equal(adata.obsm["spatial"][:, 1], 100 + 90 * adata.obs["array_row"])
    assert adata.X.data.min() >= 1
    assert list(adata.uns["spatial"]) == ["s1"]
    assert list(adata.uns["spatial"]["s1"]["images"]) == ["lowres"]


def test_images_that_are_there_are_read(tmp_path):
    both = read_space_ranger(space_ranger(tmp_path / "both", images=("hires", "lowres")))
    assert list(both.uns["spatial"]["both"]["images"]) == ["hires", "lowres"]
    none = read_space_ranger(space_ranger(tmp_path / "none", images=()), name="named")
    assert none.uns["spatial"]["named"]["images"] == {}
    (tmp_path / "none" / "spatial" / "scalefactors_json.json").unlink()
    assert "spatial" not in read_space_ranger(tmp_path / "none").uns


def test_squidpy_draws_on_the_small_image_alone(tmp_path):
    adata = read_space_ranger(space_ranger(tmp_path / "s1"))
    sq.pl.spatial_scatter(adata, color="SNAP25", img=True, img_res_key="lowres")
    figure = plt.gcf()
    assert figure.axes[0].get_images()
    plt.close(figure)


def test_the_folder_may_be_called_outs(tmp_path):
    space_ranger(tmp_path / "patient7" / "outs")
    assert list(read_space_ranger(tmp_path / "patient7" / "outs").uns["spatial"]) == ["patient7"]
    is_finished(load_slice("x", data_source=tmp_path / "patient7"))


def test_positions_beside_the_matrix(tmp_path):
    folder = space_ranger(tmp_path / "s1")
    (folder / "spatial" / "tissue_positions_list.csv").rename(folder / "tissue_positions_list.txt")
    assert read_space_ranger(folder).n_obs == 20


def test_what_is_missing_is_named(tmp_path):
    folder = space_ranger(tmp_path / "s1")
    positions = folder / "spatial" / "tissue_positions_list.csv"
    text = positions.read_text()
    positions.unlink()
    with pytest.raises(FileNotFoundError, match=r"tissue_positions\.csv, tissue_positions_list"):
        read_space_ranger(folder)
    positions.write_text(text.replace(",", "|"))
    with pytest.raises(SliceError, match="has 1 columns; needed are 6"):
        read_space_ranger(folder)
    positions.write_text(text.replace("-1,", "-2,"))
    with pytest.raises(SliceError, match=r"21 of 21 barcodes .* have no position"):
        read_space_ranger(folder)
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    with pytest.raises(FileNotFoundError, match="no Space Ranger count matrix"):
        read_space_ranger(folder)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", "barcode\tlayer\n"])
@pytest.mark.parametrize("separator", ["\t", ","])
def test_labels_from_a_table(tmp_path, header, separator):
    adata = read_space_ranger(space_ranger(tmp_path / "s1"))
    rows = [f"{name}\t{'WM' if i % 2 else 'L1'}\n" for i, name in enumerate(barcodes(12))]
    table = tmp_path / "labels.tsv"
    table.write_text((header + "".join(reversed(rows))).replace("\t", separator))
    add_labels(adata, table)
    labels = adata.obs["domain_truth"]
    assert list(labels.cat.categories) == ["L1", "WM"]
    assert labels.isna().sum() == 8
    assert labels[barcodes(2)[1]] == "WM"


def test_labels_column_and_section(tmp_path):
    adata = read_space_ranger(space_ranger(tmp_path / "s1"))
    table = tmp_path / "labels.csv"
    lines = [f"{name},{s},{s}{i % 3},x" for s in "ab" for i, name in enumerate(barcodes(20))]
    table.write_text("barcode,section,region,other\n" + "\n".join(lines))
    add_labels(adata, table, section="b", column="region", key_added="mine")
    assert list(adata.obs["mine"].cat.categories) == ["b0", "b1", "b2"]
    with pytest.raises(SliceError, match=r"no rows for section 'c'. Sections: a, b"):
        add_labels(adata, table, section="c")
    with pytest.raises(SliceError, match="no column 'layer'"):
        add_labels(adata, table, section="a", column="layer")
    with pytest.raises(SliceError, match=r"more than one label \(a0, b0\)"):
        add_labels(adata, table, column="region")


def test_labels_whose_barcodes_do_not_match(tmp_path):
    adata = read_space_ranger(space_ranger(tmp_path / "s1"))
    table = tmp_path / "labels.tsv"
    table.write_text("".join(f"{name[:-2]}\tL1\n" for name in barcodes(20)))
    with pytest.raises(SliceError, match="only 0 of its 20 barcodes are among the 20 spots") as e:
        add_labels(adata, table)
    assert "'AAAAAAAAAAAAAAAA'" in str(e.value)
    assert "'AAAAAAAAAAAAAAAA-1'" in str(e.value)
    assert "domain_truth" not in adata.obs
    with pytest.raises(FileNotFoundError, match="no label file"):
        add_labels(adata, tmp_path / "nothing.tsv")
    table.write_text("a\nb\n")
    with pytest.raises(SliceError, match="one column"):
        add_labels(adata, table)


def test_labels_are_sorted_and_blanks_are_unannotated():
    labels = as_labels(pd.Series(["10", "2", None, "NA", "", np.nan, "2"]))
    assert list(labels.cat.categories) == ["2", "10"]
    assert labels.isna().sum() == 4
    assert list(as_labels(pd.Series([3, 1, 2])).cat.categories) == ["1", "2", "3"]


# --- demo -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["151673", "151507", "merfish_9", "E10.5", "slideseqv2", "stereoseq_mob"]
)
def test_demo_slices_have_the_slots_and_say_that_they_are_simulated(name):
    adata = load_slice(name)
    is_finished(adata)
    facts = adata.uns["genot"]
    assert facts["simulated"] is True
    assert "imulated" in facts["source"]
    assert facts["name"] == name
    assert adata.obs["domain_truth"].cat.categories.size >= 5
    assert set(adata.X.data % 1) == {0.0}


def test_demo_sections_come_from_the_block_of_their_donor():
    sections = load_slices(["151673", "151674", "151507"])
    block = simulate_cortex(3)
    for name, made in zip(["151673", "151674"], block.values(), strict=False):
        assert (sections[name].X != made.X).nnz == 0
        np.testing.assert_array_equal(sections[name].obsm["spatial"], made.obsm["spatial"])
    assert sections["151507"].shape != sections["151673"].shape  # another donor


def test_demo_slices_depend_on_the_seed_alone():
    first = load_slice("E9.5", seed=1)
    expected = first.X.copy()
    first.X *= 0  # nobody else sees what a reader does to a slice
    again, other = load_slice("E9.5", seed=1), load_slice("E9.5", seed=2)
    assert (expected != again.X).nnz == 0
    assert other.shape != again.shape or (expected != other.X).nnz


def test_a_number_as_a_name_is_understood():
    assert load_slice(151673).uns["genot"]["name"] == "151673"


# --- names and sources ----------------------------------------------------------------------------


def test_unknown_names_come_with_the_near_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'15167'.*Did you mean 15167\d"):
        load_slice("15167")
    with pytest.raises(ValueError, match=r"data set is called 'dlpf'.*Did you mean dlpfc"):
        load_slice("151673", dataset="dlpf")
    with pytest.raises(ValueError, match=r"'E10'.*Did you mean E10\.5"):
        load_slice("E10", data_source="download")
    with pytest.raises(FileNotFoundError, match=r"'lcal' is no known source.*'local'"):
        load_slice("151673", data_source="lcal")
    stored_slice(tmp_path / "tumour_1.h5ad")
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'tumour_1\.h5ad'"):
        load_slice("x", data_source=str(tmp_path / "tumor_1.h5ad"))
    with pytest.raises(ValueError, match=r"called 'dlfc' .*Did you mean dlpfc"):
        list_slices("dlfc")


def test_local_needs_a_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("GENOT_DATA_DIR", raising=False)
    with pytest.raises(ValueError, match="GENOT_DATA_DIR"):
        load_slice("151673", data_source="local")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_slice("151673", data_source="local", data_dir=tmp_path / "none")
    with pytest.raises(ValueError, match="holds no slice"):
        load_slice("151673", data_source="local", data_dir=tmp_path)
    stored_slice(tmp_path / "mine" / "one.h5ad")
    monkeypatch.setenv("GENOT_DATA_DIR", str(tmp_path))
    assert load_slice("one", data_source="local").uns["genot"]["dataset"] == "mine"


def test_a_section_put_beside_the_others_is_found(tmp_path):
    folder = space_ranger(tmp_path / "dlpfc" / "151999")
    space_ranger(tmp_path / "dlpfc" / "151998", version=2)
    rows = [f"{name}\t151999\tL{1 + i % 3}\n" for i, name in enumerate(barcodes(19))]
    (tmp_path / "dlpfc" / "barcode_level_layer_map.tsv").write_text("".join(rows))
    adata = load_slice("151999", data_source="local", data_dir=tmp_path)
    is_finished(adata)
    assert adata.uns["genot"]["dropped"] == "1 genes without counts"
    assert list(adata.obs["domain_truth"].cat.categories) == ["L1", "L2", "L3"]
    assert adata.obs["domain_truth"].isna().sum() == 1
    assert list(adata.uns["spatial"]) == ["151999"]
    other = load_slice("151998", data_source="local", data_dir=tmp_path)
    assert "domain_truth" not in other.obs  # the map does not know it
    (folder / "labels.tsv").write_text("".join(f"{name}\tmine\n" for name in barcodes(20)))
    adata = load_slice("151999", data_source="local", data_dir=tmp_path)
    assert list(adata.obs["domain_truth"].cat.categories) == ["mine"]
    table = list_slices("dlpfc", data_dir=tmp_path).set_index("name")
    assert table.loc["151999", ["demo", "local", "download"]].tolist() == [False, True, False]
    assert table.loc["151673", ["demo", "local", "download"]].tolist() == [True, False, True]


def test_a_map_of_other_barcodes_is_an_error(tmp_path):
    space_ranger(tmp_path / "dlpfc" / "151999")
    rows = [f"{name[::-1]}\t151999\tL1\n" for name in barcodes(19)]
    (tmp_path / "dlpfc" / "barcode_level_layer_map.tsv").write_text("".join(rows))
    with pytest.raises(SliceError, match="only 0 of its 19 barcodes"):
        load_slice("151999", data_source="local", data_dir=tmp_path)


def test_names_used_by_two_data_sets(tmp_path):
    for dataset in ("mine", "yours"):
        stored_slice(tmp_path / dataset / "a.h5ad")
    with pytest.raises(ValueError, match="in mine and in yours: say which"):
        load_slice("a", data_source="local", data_dir=tmp_path)
    adata = load_slice("a", data_source="local", data_dir=tmp_path, dataset="yours")
    assert adata.uns["genot"]["dataset"] == "yours"
    stored_slice(tmp_path / "dlpfc" / "a.h5ad")  # a published set goes first
    adata = load_slice("a", data_source="local", data_dir=tmp_path)
    assert adata.uns["genot"]["dataset"] == "dlpfc"


def test_merfish_files_and_control_probes(tmp_path):
    path = tmp_path / "merfish_hypothalamus" / "merfish_19_paste.h5ad"
    stored_slice(path, domain=pd.Categorical(["MPA", "BST", "fx"] * 10))
    adata = ad.read_h5ad(path)
    adata.var_names = ["Gad1", "Blank_1", "BLANK-2", "Blankart"]
    adata.write_h5ad(path)
    adata = load_slice("merfish_19", data_source="local", data_dir=tmp_path)
    assert list(adata.var_names) == ["Gad1", "Blankart"]
    facts = adata.uns["genot"]
    assert facts["dropped"] == "control probes Blank_1, BLANK-2"
    assert facts["label_key"] == "domain"
    assert facts["position_um"] == 190.0
    assert list(adata.obs["domain_truth"].cat.categories) == ["BST", "MPA", "fx"]


def test_one_section_of_the_merfish_stack(tmp_path):
    """The stack as squidpy distributes it: bregma in hundredths of a millimetre."""
    path = tmp_path / "merfish_hypothalamus" / "merfish.h5ad"
    stored_slice(path, n=60, Bregma=[-9, -4, 1, 6] * 15, Cell_class=["a", "b", "b"] * 20)
    stack = ad.read_h5ad(path)
    stack.X[:, 2] = np.nan  # a gene that was not measured
    stack.write_h5ad(path)
    adata = load_slice("merfish_9", data_source="local", data_dir=tmp_path)
    is_finished(adata)
    assert adata.n_obs == 15
    assert "genes not measured: 2" in adata.uns["genot"]["dropped"]
    assert "domain_truth" not in adata.obs  # cell classes are no domains
    with pytest.raises(SliceError, match="no cell of merfish_14"):
        load_slice("merfish_14", data_source="local", data_dir=tmp_path)
    adata = load_slice("merfish_1", data_source="local", data_dir=tmp_path, label_key="Cell_class")
    assert adata.uns["genot"]["position_um"] == -10.0
    assert list(adata.obs["domain_truth"].cat.categories) == ["a", "b"]


# --- the reader's own -----------------------------------------------------------------------------


def test_own_h5ad_with_counts_in_a_layer_and_things_to_tidy(tmp_path):
    path = stored_slice(tmp_path / "own.h5ad", cluster=[1, 2, 10] * 10)
    adata = ad.read_h5ad(path)
    counts = adata.X.copy()
    counts[3] = 0
    adata.layers["counts"] = counts
    adata.X = np.log1p(counts)
    adata.var_names = ["a", "a", "b", "c"]
    adata.write_h5ad(path)
    adata = load_slice("mine", data_source=path)
    is_finished(adata)
    assert adata.n_obs == 29
    np.testing.assert_array_equal(adata.X.toarray(), np.delete(counts, 3, axis=0))
    facts = adata.uns["genot"]
    assert facts["dropped"] == "1 genes renamed (their name was taken); 1 spots without counts"
    assert facts["counts_from"] == "layers['counts']"
    assert list(adata.obs["domain_truth"].cat.categories) == ["1", "2", "10"]
    assert facts["simulated"] is False


def test_a_path_to_one_slice_gives_no_two(tmp_path):
    path = stored_slice(tmp_path / "own.h5ad")
    assert list(load_slices(["mine"], data_source=path)) == ["mine"]
    with pytest.raises(ValueError, match=r"own.h5ad holds 1 slice .*mine, yours"):
        load_slices(["mine", "yours"], data_source=path)


def test_own_normalised_values_stay(tmp_path):
    path = stored_slice(tmp_path / "own.h5ad")
    adata = ad.read_h5ad(path)
    adata.X = sparse.csc_matrix(np.log1p(adata.X))
    adata.write_h5ad(path)
    loaded = load_slice("mine", data_source=path)
    is_finished(loaded)
    np.testing.assert_array_equal(loaded.X.toarray(), adata.X.toarray())


def test_own_file_with_problems_gets_the_list(tmp_path):
    path = stored_slice(tmp_path / "own.h5ad")
    adata = ad.read_h5ad(path)
    adata.X[2, 1] = -1
    adata.obsm["spatial"] = np.zeros((30, 2))
    adata.write_h5ad(path)
    with pytest.raises(SliceError, match=r"slice 'mine' .* 2 problems"):
        load_slice("mine", data_source=path)
    with pytest.raises(SliceError, match=r"obs\['layer'\] is missing"):
        load_slice("mine", data_source=path, label_key="layer")


def test_own_files_that_are_no_slices(tmp_path):
    (tmp_path / "a.h5ad").write_text("no")
    with pytest.raises(ValueError, match=r"is no \.h5ad file"):
        load_slice("x", data_source=tmp_path / "a.h5ad")
    folder = space_ranger(tmp_path / "s1")
    with pytest.raises(ValueError, match="give the Space Ranger folder"):
        load_slice("x", data_source=folder / "filtered_feature_bc_matrix.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="neither a Space Ranger folder"):
        load_slice("x", data_source=tmp_path / "empty")


def test_own_folder_of_several_slices(tmp_path):
    stored_slice(tmp_path / "left.h5ad")
    space_ranger(tmp_path / "right")
    found = load_slices(["left", "right"], data_source=tmp_path)
    assert [adata.n_obs for adata in found.values()] == [30, 20]
    with pytest.raises(ValueError, match="Did you mean left"):
        load_slice("lef", data_source=tmp_path)


def test_a_simulated_slice_from_a_file_still_says_so(tmp_path):
    path = write_slice(load_slice("E9.5"), tmp_path / "a.h5ad")
    facts = load_slice("mine", data_source=path).uns["genot"]
    assert facts["simulated"] is True
    assert "imulated" in facts["source"]


# --- measured sections ----------------------------------------------------------------------------

DATA = os.environ.get("GENOT_DATA_DIR", "")
real = pytest.mark.skipif(not DATA, reason="GENOT_DATA_DIR (folder of measured slices) is not set")


@pytest.mark.real_data
@real
@pytest.mark.parametrize(
    ("name", "n_spots", "n_unannotated"),
    [("151673", 3639, 28), ("151674", 3673, 38), ("151675", 3592, 26)],
)
def test_measured_cortex(name, n_spots, n_unannotated, tmp_path):
    adata = load_slice(name, data_source="local")
    is_finished(adata)
    assert adata.n_obs == n_spots
    labels = adata.obs["domain_truth"]
    assert list(labels.cat.categories) == ["L1", "L2", "L3", "L4", "L5", "L6", "WM"]
    assert labels.isna().sum() == n_unannotated
    assert set(adata.X.data[:1000] % 1) == {0.0}
    sq.pl.spatial_scatter(adata, color="domain_truth", img=True, img_res_key="lowres")
    plt.close("all")
    assert ad.read_h5ad(write_slice(adata, tmp_path / "a.h5ad")).shape == adata.shape


@pytest.mark.real_data
@real
@pytest.mark.parametrize(
    ("name", "n_spots"), [("merfish_4", 5488), ("merfish_9", 5557), ("merfish_14", 5926)]
)
def test_measured_hypothalamus(name, n_spots):
    adata = load_slice(name, data_source="local")
    is_finished(adata)
    assert adata.shape == (n_spots, 155)
    assert len(adata.obs["domain_truth"].cat.categories) == 8
    assert adata.uns["genot"]["label_key"] == "domain"


@pytest.mark.real_data
@real
def test_a_measured_section_under_another_name(tmp_path):
    shutil.copytree(Path(DATA) / "dlpfc" / "151673", tmp_path / "dlpfc" / "151676")
    adata = load_slice("151676", data_source="local", data_dir=tmp_path)
    is_finished(adata)
    assert "domain_truth" not in adata.obs
