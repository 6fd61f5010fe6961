"""Folders of Visium and Visium HD, in the layouts of Space Ranger 1 to 4 and of public sets."""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import io, sparse

import genot_helpers as gh
from genot_helpers.slices.geometry import micrometres_per_unit, nearest_distance

N = 8
HEADER = ["barcode", "in_tissue", "array_row", "array_col"]
HEADER += ["pxl_row_in_fullres", "pxl_col_in_fullres"]


def barcode(i: int) -> str:
    letters = np.random.default_rng(i).choice(list("ACGT"), 16)
    return "".join(letters) + "-1"


def hexagonal(seed: int = 0):
    """Return counts, barcodes, genes and positions on a Visium grid."""
    row, column = np.meshgrid(range(N), range(N), indexing="ij")
    column = 2 * column + row % 2
    names = [barcode(i) for i in range(N * N)]
    table = pd.DataFrame(
        {
            "barcode": names,
            "in_tissue": 1,
            "array_row": row.ravel(),
            "array_col": column.ravel(),
            "pxl_row_in_fullres": row.ravel() * 86.6 + 500,
            "pxl_col_in_fullres": column.ravel() * 50 + 900,
        }
    )
    counts = np.random.default_rng(seed).poisson(3, (N * N, 12)) + 1
    return counts, names, [f"G{i}" for i in range(12)], table


def write_h5(path: Path, counts, names, genes, types=None) -> None:
    matrix = sparse.csc_matrix(counts.T)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(names, "S")
        group["data"], group["indices"] = matrix.data.astype("i4"), matrix.indices.astype("i8")
        group["indptr"], group["shape"] = matrix.indptr.astype("i8"), np.array(matrix.shape, "i4")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(len(genes))], "S")
        features["name"] = np.array(genes, "S")
        features["feature_type"] = np.array(types or ["Gene Expression"] * len(genes), "S")
        features["genome"] = np.array(["x"] * len(genes), "S")


def write_mtx(
    folder: Path, counts, names, genes, prefix="", packed=True, features="features"
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    io.mmwrite(folder / "t.mtx", sparse.coo_matrix(counts.T))
    bodies = {
        "matrix.mtx": (folder / "t.mtx").read_text(),
        "barcodes.tsv": "\n".join(names) + "\n",
        f"{features}.tsv": "".join(f"E{i}\t{g}\tGene Expression\n" for i, g in enumerate(genes)),
    }
    (folder / "t.mtx").unlink()
    for name, body in bodies.items():
        if packed:
            with gzip.open(folder / f"{prefix}{name}.gz", "wt") as file:
                file.write(body)
        else:
            (folder / f"{prefix}{name}").write_text(body)


def visium(folder: Path, *, matrix=True, prefix="", body: bytes | None = None, seed=0) -> Path:
    counts, names, genes, table = hexagonal(seed)
    (folder / "spatial").mkdir(parents=True, exist_ok=True)
    if matrix:
        write_h5(folder / f"{prefix}filtered_feature_bc_matrix.h5", counts, names, genes)
    body = table.to_csv(index=False).encode() if body is None else body
    (folder / "spatial" / f"{prefix}tissue_positions.csv").write_bytes(body)
    factors = {"spot_diameter_fullres": 55.0, "tissue_hires_scalef": 0.2}
    (folder / "spatial" / f"{prefix}scalefactors_json.json").write_text(json.dumps(factors))
    return folder


def read(path, **options):
    return gh.load_slice("x", data_source=path, **options)


def test_a_path_alone_is_enough(tmp_path):
    adata = gh.load_slice(visium(tmp_path / "mine"))
    assert adata.shape == (N * N, 12)
    assert adata.uns["genot"]["name"] == "mine"
    assert micrometres_per_unit(adata) == pytest.approx(1.0, rel=0.01)


def positions(change) -> bytes:
    return change(hexagonal()[3])


TEXTS = {
    "byte order mark": lambda t: b"\xef\xbb\xbf" + t.to_csv(index=False).encode(),
    "no header": lambda t: t.to_csv(index=False, header=False).encode(),
    "no header, byte order mark": lambda t: (
        b"\xef\xbb\xbf" + t.to_csv(index=False, header=False).encode()
    ),
    "quotes": lambda t: t.to_csv(index=False, quoting=1).encode(),
    "other order": lambda t: t[HEADER[::-1]].to_csv(index=False).encode(),
    "Windows line ends": lambda t: t.to_csv(index=False, lineterminator="\r\n").encode(),
    "semicolons": lambda t: t.to_csv(index=False, sep=";").encode(),
    "tabs": lambda t: t.to_csv(index=False, sep="\t").encode(),
    "UTF-16": lambda t: t.to_csv(index=False).encode("utf-16"),
    "upper case": lambda t: t.rename(columns=str.upper).to_csv(index=False).encode(),
    "row names of R": lambda t: t.set_index("barcode").rename_axis(None).to_csv().encode(),
    "names of Seurat": lambda t: (
        t.set_axis(["barcode", "tissue", "row", "col", "imagerow", "imagecol"], axis=1)
        .to_csv(index=False)
        .encode()
    ),
    "words for yes": lambda t: t.assign(in_tissue=True).to_csv(index=False).encode(),
    "packed": lambda t: gzip.compress(t.to_csv(index=False).encode()),
    "line ends of an old Mac": lambda t: t.to_csv(index=False, lineterminator="\r").encode(),
    "numbers of rows, no header": lambda t: t.to_csv(header=False).encode(),
    "spaces": lambda t: t.to_csv(index=False, header=False, sep=" ").encode(),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_positions_as_people_have_them(tmp_path, kind):
    plain = read(visium(tmp_path / "plain"))
    other = read(visium(tmp_path / "other", body=positions(TEXTS[kind])))
    np.testing.assert_allclose(other.obsm["spatial"], plain.obsm["spatial"])
    assert (other.obs["array_row"] == plain.obs["array_row"]).all()


def test_columns_without_names_are_told_by_their_values(tmp_path):
    table = hexagonal()[3].round().astype({name: int for name in HEADER[4:]})
    order = [*HEADER[1:2], *HEADER[4:], *HEADER[2:4], "barcode"]
    body = table[order].to_csv(index=False, header=False).encode()
    other = read(visium(tmp_path, body=body))
    np.testing.assert_array_equal(other.obsm["spatial"], table[HEADER[:3:-1]])
    np.testing.assert_array_equal(other.obs["array_col"], table["array_col"])


def test_a_barcode_in_two_places_is_refused(tmp_path):
    table = hexagonal()[3]
    again = table.iloc[:2]
    body = pd.concat([table, again]).to_csv(index=False).encode()
    assert read(visium(tmp_path / "twice", body=body)).n_obs == N * N
    body = pd.concat([table, again.assign(pxl_row_in_fullres=7)]).to_csv(index=False).encode()
    with pytest.raises(gh.SliceError, match=r"tissue_positions\.csv gives barcode .* two places"):
        read(visium(tmp_path / "two", body=body))


def test_exchanged_columns_are_found_by_the_grid(tmp_path):
    names = {"pxl_row_in_fullres": "pxl_col_in_fullres"}
    names |= {b: a for a, b in names.items()}
    swapped = positions(lambda t: t.rename(columns=names).to_csv(index=False).encode())
    plain, other = read(visium(tmp_path / "a")), read(visium(tmp_path / "b", body=swapped))
    np.testing.assert_allclose(other.obsm["spatial"], plain.obsm["spatial"])
    assert "exchanged" in other.uns["genot"]["read_as"]
    assert "read_as" not in plain.uns["genot"]


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_turned_image_is_not_taken_for_exchanged_columns(tmp_path, quarter_turns):
    table = hexagonal()[3]
    xy = table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    turn = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarter_turns)
    turned = (xy - xy.mean(0)) @ turn.T + 2000
    table[["pxl_col_in_fullres", "pxl_row_in_fullres"]] = turned
    adata = read(visium(tmp_path, body=table.to_csv(index=False).encode()))
    np.testing.assert_allclose(adata.obsm["spatial"], turned)


def test_spots_beside_the_tissue_are_left_out_and_parquet_is_read(tmp_path):
    folder = visium(tmp_path)
    table = hexagonal()[3].assign(in_tissue=[0] * 10 + [1] * (N * N - 10))
    (folder / "spatial" / "tissue_positions.csv").unlink()
    table.to_parquet(folder / "spatial" / "tissue_positions.parquet")
    adata = read(folder)
    assert adata.n_obs == N * N - 10
    assert "10 spots beside the tissue" in adata.uns["genot"]["read_as"]


@pytest.mark.parametrize("prefix", ["GSM123_S1_", "V1_Heart."])
def test_prefix_on_every_file_and_packing(tmp_path, prefix):
    folder = visium(tmp_path / "a", prefix=prefix)
    for path in list(folder.rglob("*.*")):
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    adata = read(folder)
    assert adata.n_obs == N * N
    assert "tissue_hires_scalef" in adata.uns["spatial"]["x"]["scalefactors"]


def test_what_macos_hides_and_probes_are_no_matrices(tmp_path):
    folder = visium(tmp_path)
    for name in ("._filtered_feature_bc_matrix.h5", "spatial/._tissue_positions.csv"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    counts, names, genes, _ = hexagonal(3)
    write_h5(folder / "raw_probe_bc_matrix.h5", counts, names, genes)
    np.testing.assert_array_equal(read(folder).X.toarray(), hexagonal()[0])
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"There: .*raw_probe_bc_matrix"):
        read(folder)


def test_tables_with_commas_and_genes_called_na(tmp_path):
    folder = visium(tmp_path, matrix=False)
    counts, names, genes, _ = hexagonal()
    genes[3:5] = "NA", "nan"
    write_mtx(folder / "filtered_feature_bc_matrix", counts, names, genes, packed=False)
    inside = folder / "filtered_feature_bc_matrix"
    for name in ("barcodes", "features"):
        text = (inside / f"{name}.tsv").read_text().replace("\t", ",")
        (inside / f"{name}.csv").write_text(text)
        (inside / f"{name}.tsv").unlink()
    adata = read(folder)
    assert list(adata.var_names) == genes
    np.testing.assert_array_equal(adata.X.toarray(), counts)


@pytest.mark.parametrize("prefixes", [("A_", "B_"), ("", "B_")])
def test_several_sections_in_one_folder_are_all_read(tmp_path, prefixes):
    folder = tmp_path / "both"
    for seed, prefix in enumerate(prefixes):
        visium(folder, prefix=prefix, seed=seed)
    if prefixes[0]:  # each with a folder of its own
        for prefix in prefixes:
            for path in list((folder / "spatial").glob(f"{prefix}*")):
                place = folder / f"{prefix}spatial" / path.name.removeprefix(prefix)
                place.parent.mkdir(exist_ok=True)
                path.rename(place)
    found = gh.load_slices(folder)
    assert list(found) == [prefix.strip("_") or "both" for prefix in prefixes]
    for seed, adata in enumerate(found.values()):
        np.testing.assert_array_equal(adata.X.toarray(), hexagonal(seed)[0])


@pytest.mark.parametrize("name", ["A/x.h5ad", "one/A/outs/x.h5ad", "A/deep/x.h5ad"])
def test_slices_in_folders_of_folders(tmp_path, name):
    adata = read(visium(tmp_path / "v"))
    for place in (name, name.replace("A", "B")):
        (tmp_path / "all" / place).parent.mkdir(parents=True)
        adata.write_h5ad(tmp_path / "all" / place)
    found = gh.load_slices(tmp_path / "all")
    assert len(found) == 2
    assert all(one.shape == adata.shape for one in found.values())


@pytest.mark.parametrize("layout", ["folder", "prefix", "beside", "raw", "plain", "genes", "v1"])
def test_market_matrices(tmp_path, layout):
    folder = visium(tmp_path / "s", matrix=False)
    counts, names, genes, _ = hexagonal()
    places = {"beside": ".", "raw": "raw_feature_bc_matrix", "v1": "filtered_gene_bc_matrices/mm10"}
    write_mtx(
        folder / places.get(layout, "filtered_feature_bc_matrix"), counts, names, genes,
        prefix="GSM1_" if layout == "prefix" else "",
        packed=layout not in ("plain", "v1"),
        features="genes" if layout in ("genes", "v1") else "features",
    )  # fmt: skip
    adata = read(folder)
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    assert list(adata.var_names) == genes


def test_two_sections_in_one_folder_are_told_apart_or_refused(tmp_path):
    for seed, prefix in enumerate(("GSM1_151673_", "GSM2_151674_")):
        visium(tmp_path, prefix=prefix, seed=seed)
    assert gh.own_slices(tmp_path) == ["GSM1_151673", "GSM2_151674"]
    first, second = (gh.load_slice(name, data_source=tmp_path) for name in ("151673", "151674"))
    np.testing.assert_array_equal(first.X.toarray(), hexagonal(0)[0])
    np.testing.assert_array_equal(second.X.toarray(), hexagonal(1)[0])
    with pytest.raises(gh.SliceError, match=r"2 sections, with the prefixes .*GSM1_151673"):
        read(tmp_path)


def test_the_image_of_another_section_is_not_taken(tmp_path):
    for prefix in ("A_", "B_"):
        visium(tmp_path, prefix=prefix)
    Image.new("RGB", (30, 20)).save(tmp_path / "spatial" / "A_tissue_hires_image.png")
    with_image = gh.load_slice("A", data_source=tmp_path).uns["spatial"]["A"]["images"]
    assert with_image["hires"].shape == (20, 30, 3)
    assert not gh.load_slice("B", data_source=tmp_path).uns["spatial"]["B"]["images"]
    alone = visium(tmp_path / "alone", prefix="GSM1_A_")
    Image.new("RGB", (30, 20)).save(alone / "spatial" / "GSM1_B_tissue_hires_image.png")
    assert not read(alone).uns["spatial"]["x"]["images"]
    (alone / "spatial" / "GSM1_B_tissue_hires_image.png").rename(alone / "A_tissue_hires_image.png")
    assert read(alone).uns["spatial"]["x"]["images"]


@pytest.mark.parametrize("name", ["tissue_hires_image.png", "scalefactors_json.json"])
def test_broken_extras_do_not_stop_reading(tmp_path, name):
    folder = visium(tmp_path)
    (folder / "spatial" / name).write_bytes(b"\x89PNG broken {")
    adata = read(folder)
    assert adata.n_obs == N * N
    assert f"{name} cannot be read" in adata.uns["genot"]["read_as"]


def test_other_kinds_of_features_are_left_out_and_reported(tmp_path):
    folder = visium(tmp_path, matrix=False)
    counts, names, genes, _ = hexagonal()
    types = ["Gene Expression"] * 11 + ["Antibody Capture"]
    write_h5(folder / "filtered_feature_bc_matrix.h5", counts, names, genes, types)
    adata = read(folder)
    assert "G11" not in adata.var_names
    assert "G11" in adata.uns["genot"]["dropped"]


def test_a_damaged_matrix_is_named(tmp_path):
    folder = visium(tmp_path)
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "a") as file:
        file["matrix/indices"][3] = 40_000
    with pytest.raises(
        ValueError, match=r"filtered_feature_bc_matrix\.h5.*(damaged|cannot be read)"
    ):
        read(folder)


# --- Visium HD ------------------------------------------------------------------------------------


def square_bins(folder: Path, size: int, n: int = 12, pixel: float = 0.2738) -> Path:
    row, column = np.meshgrid(range(n), range(n), indexing="ij")
    names = [
        f"s_{size:03d}um_{i:05d}_{j:05d}-1"
        for i, j in zip(row.ravel(), column.ravel(), strict=True)
    ]
    counts = np.random.default_rng(size).poisson(3, (n * n, 12)) + 1
    write_h5(folder / "filtered_feature_bc_matrix.h5", counts, names, [f"G{i}" for i in range(12)])
    (folder / "spatial").mkdir()
    pd.DataFrame(
        {
            "barcode": names,
            "in_tissue": 1,
            "array_row": row.ravel(),
            "array_col": column.ravel(),
            "pxl_row_in_fullres": row.ravel() * size / pixel,
            "pxl_col_in_fullres": column.ravel() * size / pixel,
        }
    ).to_parquet(folder / "spatial" / "tissue_positions.parquet")
    factors = {"microns_per_pixel": pixel, "bin_size_um": float(size), "tissue_hires_scalef": 0.1}
    factors["spot_diameter_fullres"] = size / pixel
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    return folder


@pytest.fixture
def hd_sample(tmp_path):
    for size in (2, 8, 16):
        square_bins(tmp_path / "sample/outs/binned_outputs" / f"square_{size:03d}um", size)
    return tmp_path / "sample"


@pytest.mark.parametrize("place", [".", "outs", "outs/binned_outputs"])
def test_visium_hd_reads_8_um_and_says_so(hd_sample, place):
    adata = gh.load_slice(hd_sample / place)
    assert nearest_distance(adata.obsm["spatial"]) == pytest.approx(8.0)
    assert micrometres_per_unit(adata) == 1.0
    said = adata.uns["genot"]["read_as"]
    assert "bins of 8 µm" in said
    assert "square_002um, square_016um" in said
    assert "8 µm apart" in gh.inspect_slice(adata).loc["unit of length", "found"]


@pytest.mark.parametrize("wanted", [16, "16", "square_016um", "016um"])
def test_visium_hd_bins_are_chosen(hd_sample, wanted):
    adata = read(hd_sample, bin_size=wanted)
    assert nearest_distance(adata.obsm["spatial"]) == pytest.approx(16.0)
    assert read(hd_sample / "outs/binned_outputs/square_002um").obs_names[0].startswith("s_002um")
    assert gh.load_slice("square_016um", data_source=hd_sample).obs_names[0].startswith("s_016um")


def test_bins_that_are_not_there_are_refused_with_the_choice(hd_sample):
    with pytest.raises(gh.SliceError, match=r"no bins 4; there: bin_size=2, 8, 16"):
        read(hd_sample, bin_size=4)


def test_scale_factors_of_hd_fit_the_positions(hd_sample):
    factors = next(iter(read(hd_sample).uns["spatial"].values()))["scalefactors"]
    assert factors["tissue_hires_scalef"] == pytest.approx(0.1 / 0.2738)
    assert factors["spot_diameter_fullres"] == pytest.approx(8.0)


def test_segmented_cells_lie_at_the_centre_of_their_outline(tmp_path):
    folder = tmp_path / "outs" / "segmented_outputs"
    counts = np.random.default_rng(0).poisson(3, (30, 12)) + 1
    names = [f"cellid_{i:09d}-1" for i in range(1, 31)]
    write_h5(
        folder / "filtered_feature_cell_matrix.h5", counts, names, [f"G{i}" for i in range(12)]
    )
    (folder / "spatial").mkdir()
    factors = {"microns_per_pixel": 0.5, "tissue_hires_scalef": 0.1}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    centres = np.random.default_rng(1).random((30, 2)) * 1000
    shape = np.array([[0, 0], [4, 0], [4, 2], [0, 2], [0, 0]]) - [2, 1]
    cells = [
        {
            "type": "Feature",
            "properties": {"cell_id": i + 1},
            "geometry": {"type": "Polygon", "coordinates": [(centre + shape).tolist()]},
        }
        for i, centre in enumerate(centres)
    ]
    (folder / "cell_segmentations.geojson").write_text(json.dumps({"features": cells}))
    for place in (tmp_path, tmp_path / "outs", folder):
        adata = read(place)
        np.testing.assert_allclose(adata.obsm["spatial"], centres * 0.5)
        assert "segmented cells" in adata.uns["genot"]["read_as"]


@pytest.mark.real_data
def test_layout_of_a_real_hd_folder(real_data_dir):
    adata = gh.load_slice(real_data_dir / "readers/seurat_visium_hd/visium_hd", check=False)
    assert "bins of 8 µm" in adata.uns["genot"]["read_as"]
    assert micrometres_per_unit(adata) == 1.0
