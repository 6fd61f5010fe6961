"""Xenium, MERSCOPE, CosMx, Stereo-seq and Slide-seq, in the layouts of their vendors."""

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from test_readers_visium import write_h5, write_mtx

import genot_helpers as gh
from genot_helpers.slices.sections import control_names

GENES = [f"Gene{i}" for i in range(10)]


def counts(n: int, m: int) -> np.ndarray:
    return np.random.default_rng(n).poisson(3, (n, m)) + 1


# --- Xenium ---------------------------------------------------------------------------------------


def xenium(folder: Path, *, table: str = "parquet", ids=None) -> np.ndarray:
    names = ids or [f"aaaa{i:04d}-1" for i in range(40)]
    features = [*GENES, "NegControlProbe_1", "NegControlCodeword_2", "UnassignedCodeword_3"]
    types = ["Gene Expression"] * 10
    types += ["Negative Control Probe", "Negative Control Codeword", "Unassigned Codeword"]
    write_h5(folder / "cell_feature_matrix.h5", counts(40, 13), names, features, types)
    places = np.random.default_rng(1).random((40, 2)) * 300
    cells = pd.DataFrame({"cell_id": names, "x_centroid": places[:, 0], "y_centroid": places[:, 1]})
    cells = cells.iloc[::-1]  # another order than the matrix
    if table == "parquet":
        cells.to_parquet(folder / "cells.parquet")
    else:
        cells.to_csv(folder / f"cells.{table}", index=False)
    (folder / "experiment.xenium").write_text("{ not JSON")  # optional, and broken
    return places


@pytest.mark.parametrize("table", ["parquet", "csv", "csv.gz"])
def test_xenium_in_micrometres_without_controls(tmp_path, table):
    places = xenium(tmp_path / "outs", table=table)
    for place in (tmp_path / "outs", tmp_path):
        adata = gh.load_slice(place)
        np.testing.assert_allclose(adata.obsm["spatial"], places)
        assert list(adata.var_names) == GENES
        assert "NegControlProbe_1" in adata.uns["genot"]["dropped"]
        assert "UnassignedCodeword_3" in adata.uns["genot"]["dropped"]
        assert gh.micrometres_per_unit(adata) == 1.0
        assert gh.slices.holds_counts(adata)


@pytest.mark.parametrize("prefix", ["GSM1_R1_", "R1-"])
def test_a_prefix_on_the_files_of_a_xenium(tmp_path, prefix):
    places = xenium(tmp_path, table="csv.gz")
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / f"{prefix}{path.name}")
    np.testing.assert_allclose(gh.load_slice(tmp_path).obsm["spatial"], places)
    (tmp_path / "B_cell_feature_matrix.h5").write_bytes(b"")
    with pytest.raises(gh.SliceError, match="tables of 2 sections"):
        gh.load_slice(tmp_path)


def test_a_xenium_without_tables_is_named(tmp_path):
    for name in ("cells.zarr.zip", "cell_feature_matrix.zarr.zip"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(
        FileNotFoundError, match=r"cells\.parquet.*There: cell_feature_matrix\.zarr"
    ):
        gh.load_slice(tmp_path)


def test_cells_that_do_not_fit_are_named(tmp_path):
    xenium(tmp_path)
    table = pd.read_parquet(tmp_path / "cells.parquet")
    table["cell_id"] = "other" + table["cell_id"]
    table.to_parquet(tmp_path / "cells.parquet")
    with pytest.raises(gh.SliceError, match=r"cells\.parquet: none of its 40 cells"):
        gh.load_slice(tmp_path)


# --- MERSCOPE -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "number"), [("", ""), ("Liver1_", ""), ("L-1-", ""), ("L1_", "_S1R1")]
)
@pytest.mark.parametrize("key", ["EntityID", ""])
def test_merscope_keeps_all_fields_of_view(tmp_path, prefix, number, key):
    names = [str(112824700230101249 + i) for i in range(40)]
    values = counts(40, 12)
    features = [*GENES, "Blank-1", "blank_22"]
    table = pd.DataFrame(values, index=pd.Index(names, name="cell"), columns=features)
    table.to_csv(tmp_path / f"{prefix}cell_by_gene{number}.csv")
    places = np.random.default_rng(2).random((40, 2)) * 300
    places[:, 0] += 300 * (np.arange(40) // 10)
    about = pd.DataFrame(
        {"fov": np.arange(40) // 10, "center_x": places[:, 0], "center_y": places[:, 1]},
        index=pd.Index(names, name=key),
    )
    about.iloc[::-1].to_csv(tmp_path / f"{prefix}cell_metadata{number}.csv")
    adata = gh.load_slice(tmp_path)
    assert adata.n_obs == 40
    assert adata.obs["fov"].nunique() == 4
    np.testing.assert_allclose(adata.obsm["spatial"], places)
    assert list(adata.obs_names) == names  # 18 digits are more than a float holds
    assert "Blank-1, blank_22" in adata.uns["genot"]["dropped"]
    assert gh.inspect_slice(adata).loc["several sections", "status"] == "ok"


# --- CosMx ----------------------------------------------------------------------------------------


def cosmx(folder: Path, *, global_positions=True, area=False, packed=False) -> np.ndarray:
    fov, cell = np.repeat([1, 2], 20), np.tile(np.arange(1, 21), 2)
    local = np.random.default_rng(3).random((40, 2)) * 4000
    corner = np.where(fov[:, None] == 1, [100_000.0, 5_000.0], [104_256.0, 5_000.0])
    wide = pd.DataFrame(counts(40, 12), columns=[*GENES, "NegPrb3", "SystemControl1"])
    wide.insert(0, "cell_ID", cell)
    wide.insert(0, "fov", fov)
    outside = pd.DataFrame([[1, 0] + [999] * 12, [2, 0] + [999] * 12], columns=wide.columns)
    about = pd.DataFrame({"fov": fov, "cell_ID": cell, "Area": 100.0})
    about["CenterX_local_px"], about["CenterY_local_px"] = local.T
    if global_positions:
        about["CenterX_global_px"], about["CenterY_global_px"] = (corner + local).T
    if area:
        about["Area.um2"] = 100.0 * 0.18**2
    end = ".csv.gz" if packed else ".csv"
    pd.concat([outside, wide]).to_csv(folder / f"Run_exprMat_file{end}", index=False)
    about.iloc[::-1].to_csv(folder / f"Run_metadata_file{end}", index=False)
    fields = pd.DataFrame({"FOV": [1, 2], "x_global_px": [100_000.0, 104_256.0]})
    fields["y_global_px"] = 5_000.0
    fields.to_csv(folder / f"Run_fov_positions_file{end}", index=False)
    return corner + local


@pytest.mark.parametrize("options", [{}, {"global_positions": False}, {"packed": True}])
def test_cosmx_lies_in_the_frame_of_the_slide(tmp_path, options):
    pixels = cosmx(tmp_path, **options)
    adata = gh.load_slice(tmp_path)
    np.testing.assert_allclose(adata.obsm["spatial"], pixels * 0.120280945)
    assert list(adata.var_names) == GENES
    said = adata.uns["genot"]
    assert "cell 0" in said["read_as"]
    assert "0.12028 µm per pixel, assumed" in said["read_as"]
    assert "NegPrb3, SystemControl1" in said["dropped"]
    assert adata.X.max() < 999


def test_cosmx_takes_the_pixel_from_the_areas(tmp_path):
    pixels = cosmx(tmp_path, area=True)
    np.testing.assert_allclose(gh.load_slice(tmp_path).obsm["spatial"], pixels * 0.18)


def test_cosmx_without_positions_on_the_slide_is_refused(tmp_path):
    cosmx(tmp_path, global_positions=False)
    (tmp_path / "Run_fov_positions_file.csv").unlink()
    with pytest.raises(gh.SliceError, match="no positions on the slide"):
        gh.load_slice(tmp_path)


# --- controls -------------------------------------------------------------------------------------

CONTROLS = (
    *("NegControlProbe_00042", "NegControlCodeword_0500", "BLANK_0006", "Blank-1", "Blank"),
    *("UnassignedCodeword_0001", "UNASSIGNEDCODEWORD_0044", "DeprecatedCodeword_0002", "blank12"),
    *("antisense_PROKKA", "Negative12", "Negative", "NegPrb3", "NegPrb", "NegProbe-WTX"),
    *("SystemControl1", "FalseCode7", "falsecode_12", "negcontrolprobe_1", "GenomicControl_12"),
    *("Intergenic_Region_1", "ERCC-00002", "DEPRECATED_ENSG00000000001", "Negative_Control_3"),
    *("BlankCodeword_0003", "NegativeControl1"),
)
REAL_GENES = (
    *("NEGR1", "blanks", "ERCC1", "ERCC6", "NELFA", "Nefl", "SYS1", "FALZ", "CTRL", "CTRB1"),
    *("SNAP25", "AFAP1-AS1", "TP53", "Antxr1", "DEPP1", "UNC5C", "HLA-DRB1", "Aph1b/c", "Control"),
)


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_of_all_vendors_are_known(name):
    assert control_names([name])[0]


@pytest.mark.parametrize("name", REAL_GENES)
def test_genes_are_no_controls(name):
    assert not control_names([name])[0]


# --- Stereo-seq -----------------------------------------------------------------------------------


def molecules(n: int = 4000) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "geneID": rng.choice(GENES, n),
            "x": rng.integers(10_000, 10_400, n),
            "y": rng.integers(20_000, 20_300, n),
            "MIDCount": rng.integers(1, 4, n),
            "CellID": rng.integers(0, 60, n),
        }
    ).drop_duplicates(["geneID", "x", "y"])


def by_hand(table: pd.DataFrame, side: int) -> pd.DataFrame:
    table = table.assign(a=table.x // side, b=table.y // side)
    return table.pivot_table("MIDCount", ["b", "a"], "geneID", "sum", fill_value=0)


HEADERS = {
    "plain": "",
    "comments": "#FileFormat=GEMv0.1\n#BinSize=1\n#Stereo-seqChip=SS1\n",
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("side", [None, 20])
def test_gem_bins_are_sums(tmp_path, header, order, side):
    table = molecules()
    text = HEADERS[header] + table[table.columns[::order]].to_csv(sep="\t", index=False)
    (tmp_path / "a.gem.gz").write_bytes(gzip.compress(text.encode()))
    adata = gh.load_slice(tmp_path / "a.gem.gz", bin_size=side)
    wanted = by_hand(table, side or 50)
    np.testing.assert_array_equal(adata.X.toarray(), wanted[adata.var_names])
    corners = np.array([(a, b) for b, a in wanted.index])
    np.testing.assert_allclose(adata.obsm["spatial"], (corners + 0.5) * (side or 50) * 0.5)
    assert f"bins of {side or 50} nanoballs" in adata.uns["genot"]["read_as"]
    assert gh.micrometres_per_unit(adata) == 1.0


@pytest.mark.parametrize("text_of_pandas_3", [False, True])
@pytest.mark.parametrize("missing", [0, None])
def test_gem_cells(tmp_path, missing, text_of_pandas_3):
    table = molecules()
    written = table.assign(CellID=table.CellID.astype(object).where(table.CellID > 0, missing))
    written.to_csv(tmp_path / "a.gem", sep="\t", index=False)
    with pd.option_context("future.infer_string", text_of_pandas_3):
        adata = gh.load_slice(tmp_path / "a.gem", bin_size="cells")
    wanted = table[table.CellID > 0].pivot_table(
        "MIDCount", "CellID", "geneID", "sum", fill_value=0
    )
    found = adata.to_df().set_index(adata.obs_names.astype(int)).sort_index()
    np.testing.assert_array_equal(found, wanted[found.columns])


def gef(path: Path, table: pd.DataFrame, sides=(1,)) -> None:
    with h5py.File(path, "w") as file:
        for side in sides:
            binned = table.assign(x=table.x // side * side, y=table.y // side * side)
            binned = binned.groupby(["geneID", "x", "y"], as_index=False)["MIDCount"].sum()
            numbers = binned.geneID.value_counts(sort=False).sort_index()
            genes = np.zeros(len(numbers), [("gene", "S64"), ("offset", "u4"), ("count", "u4")])
            genes["gene"], genes["count"] = numbers.index.to_numpy("S"), numbers
            genes["offset"] = np.concatenate([[0], np.cumsum(numbers)[:-1]])
            spots = np.zeros(len(binned), [("x", "u4"), ("y", "u4"), ("count", "u2")])
            spots["x"], spots["y"], spots["count"] = binned.x, binned.y, binned.MIDCount
            group = file.create_group(f"geneExp/bin{side}")
            group["gene"], group["expression"] = genes, spots
            group["expression"].attrs["resolution"] = np.array([500], "u4")


@pytest.mark.parametrize("sides", [(1,), (1, 10)])
@pytest.mark.parametrize("side", [None, 20])
def test_gef_bins_are_summed_from_finer_ones(tmp_path, sides, side):
    table = molecules()
    gef(tmp_path / "a.gef", table, sides)
    adata = gh.load_slice(tmp_path / "a.gef", bin_size=side)
    wanted = by_hand(table, side or 50)
    np.testing.assert_array_equal(adata.X.toarray(), wanted[adata.var_names])
    assert gh.own_slices(tmp_path) == ["a"]


def test_bins_are_taken_as_written_where_the_usual_ones_cannot_be_made(tmp_path):
    table = molecules()
    gef(tmp_path / "a.gef", table, (100,))
    adata = gh.load_slice(tmp_path / "a.gef")
    np.testing.assert_array_equal(adata.X.toarray(), by_hand(table, 100)[adata.var_names])


@pytest.mark.parametrize("end", ["tsv", "txt", "csv"])
def test_a_table_of_molecules_is_a_gem(tmp_path, end):
    molecules().to_csv(tmp_path / f"a.{end}", sep="," if end == "csv" else "\t", index=False)
    adata = gh.load_slice(tmp_path / f"a.{end}")
    wanted = by_hand(molecules(), 50)
    np.testing.assert_array_equal(adata.X.toarray(), wanted[adata.var_names])
    (tmp_path / f"b.{end}").write_text("gene,a\nG1,3\n")
    with pytest.raises(ValueError, match="is a table; a slice needs"):
        gh.load_slice(tmp_path / f"b.{end}")


def test_gef_bins_that_cannot_be_made_are_refused(tmp_path):
    gef(tmp_path / "a.gef", molecules(), (50,))
    with pytest.raises(gh.SliceError, match=r"bins of \[50\] nanoballs: none gives bin_size=20"):
        gh.load_slice(tmp_path / "a.gef", bin_size=20)


def test_cell_bins_of_a_gef(tmp_path):
    values = counts(30, 5)
    values[values < 3] = 0
    rows, columns = np.nonzero(values)
    cells = np.zeros(30, [("id", "u4"), ("x", "i4"), ("y", "i4"), ("geneCount", "u2")])
    cells["id"], cells["x"], cells["y"] = np.arange(30), np.arange(30) * 20, np.arange(30) % 7 * 30
    cells["geneCount"] = np.bincount(rows, minlength=30)
    entries = np.zeros(len(rows), [("geneID", "u4"), ("count", "u2")])
    entries["geneID"], entries["count"] = columns, values[rows, columns]
    genes = np.zeros(5, [("geneName", "S32")])
    genes["geneName"] = [g.encode() for g in GENES[:5]]
    with h5py.File(tmp_path / "a.cellbin.gef", "w") as file:
        group = file.create_group("cellBin")
        group["cell"], group["cellExp"], group["gene"] = cells, entries, genes
    adata = gh.load_slice(tmp_path / "a.cellbin.gef")
    np.testing.assert_array_equal(adata.X.toarray(), values)
    np.testing.assert_allclose(adata.obsm["spatial"][:, 0], np.arange(30) * 10.0)


# --- Slide-seq ------------------------------------------------------------------------------------

LOCATIONS = {
    "BeadLocationsForR.csv": ("barcodes,xcoord,ycoord", "MappedDGEForR.csv", ","),
    "Puck_1_bead_locations.csv": (
        "barcode,xcoord,ycoord",
        "Puck_1.digital_expression.txt.gz",
        "\t",
    ),
    "Puck_2_bead_locations.csv": (None, "Puck_2.digital_expression.txt", "\t"),
}


@pytest.mark.parametrize("name", LOCATIONS)
def test_slideseq_folders(tmp_path, name):
    header, expression, separator = LOCATIONS[name]
    beads = [f"ACGT{i:04d}" for i in range(40)]
    values, places = counts(40, 10), np.random.default_rng(5).random((40, 2)) * 300
    lines = [f"{b},{x},{y}" for b, (x, y) in zip(beads, places, strict=True)][::-1]
    (tmp_path / name).write_text("\n".join([header, *lines] if header else lines))
    wide = pd.DataFrame(values.T, index=pd.Index(GENES, name="GENE"), columns=beads)
    wide.to_csv(tmp_path / expression, sep=separator)
    adata = gh.load_slice(tmp_path)
    np.testing.assert_array_equal(adata.X.toarray(), values)
    np.testing.assert_allclose(adata.obsm["spatial"], places)


@pytest.mark.parametrize("kit", ["pipeline", "Curio"])
def test_beads_in_several_files(tmp_path, kit):
    beads = [f"ACGT{i:04d}" for i in range(40)]
    values, places = counts(40, 10), np.random.default_rng(5).random((40, 2)) * 300
    if kit == "Curio":
        write_mtx(tmp_path, values, beads, GENES, prefix="M_", packed=False, features="genes")
        (tmp_path / "M_matrix.mtx").rename(tmp_path / "M_MoleculesPerMatchedBead.mtx")
        table = pd.DataFrame(places, index=beads, columns=["SB_X", "SB_Y"])
        table.to_csv(tmp_path / "M_MatchedBeadLocation.csv")
    else:
        wide = pd.DataFrame(values.T, index=pd.Index(GENES, name="GENE"), columns=beads)
        wide.to_csv(tmp_path / "P.digital_expression.txt", sep="\t")
        (tmp_path / "P_matched_bead_barcodes.txt").write_text("\n".join(beads))
        text = "\n".join(f"{x}\t{y}" for x, y in places)
        (tmp_path / "P_matched_bead_locations.txt").write_text(text)
    adata = gh.load_slice(tmp_path)
    np.testing.assert_array_equal(adata.to_df()[GENES], values)
    np.testing.assert_allclose(adata.obsm["spatial"], places)


# --- real ones ------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("xenium", (526, 27)),
        ("vizgen", (96, None)),
        ("vizgen_cellbound", (1058, 49)),
        ("cosmx", (27, None)),
        ("stereoseq_gem/zebrafish_slice_88.gem", (1997, 155)),
        ("stereoseq_gem/SS200000135TL_D1_bin1_small.gem.gz", (36, None)),
        ("stereoseq_gem/example_bfm_5658/slice_56", (None, None)),
    ],
)
def test_real_subsets(real_data_dir, name, shape):
    adata = gh.load_slice(real_data_dir / "readers" / name, check=False)
    for found, wanted in zip(adata.shape, shape, strict=True):
        assert wanted is None or found == wanted
    assert gh.slices.holds_counts(adata)
    assert np.isfinite(adata.obsm["spatial"]).all()
    assert not control_names(adata.var_names).any()
