"""Instruments other than Visium: Xenium, MERSCOPE, CosMx; Stereo-seq (GEF, GEM) and Slide-seq.

The layouts are those of https://www.10xgenomics.com/support/software/xenium-onboard-analysis,
https://vizgen.github.io/vizgen-postprocessing, https://github.com/STOmics/SAW and
https://nanostring-biostats.github.io/CosMx-Analysis-Scratch-Space. ``spatialdata-io`` (0.7.1) stops
where images, outlines or transcripts are missing, as in many public sets; here tables are enough.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..slices.slices import SliceError, record, remark
from .tables import (
    files_in,
    open_unpacked,
    read_10x_h5,
    read_10x_mtx,
    read_table,
    read_wide_counts,
    unpacked_file,
)

_COSMX_PIXEL_UM = 0.120280945  # of the instrument as sold; the prototype had 0.18
_COSMX_PROTOTYPE_UM = 0.18
_COSMX_FIELD_PIXELS = 4256  # side of a field of view; that of the prototype was 5472 × 3648


def _is_xenium(folder: Path) -> bool:
    """Say whether a folder holds the output of a Xenium Analyzer."""
    return _xenium_matrix(folder) is not None and _find(folder, "cells") is not None


def _is_merscope(folder: Path) -> bool:
    """Say whether a folder holds the output of a MERSCOPE, or of the Vizgen post-processing."""
    return bool(_find(folder, "cell_by_gene")) and bool(_find(folder, "cell_metadata"))


def _is_cosmx(folder: Path) -> bool:
    """Say whether a folder holds the flat files of a CosMx."""
    return bool(_find(folder, "exprMat_file")) and bool(_find(folder, "metadata_file"))


def _find(folder: Path, stem: str) -> Path | None:
    """Find the table with a name, whatever its prefix, format and packing; the plain name first."""
    files = [path for path in files_in(folder) if path.is_file()]
    found = [(path, match) for path in files if (match := _named(stem).fullmatch(path.name))]
    found.sort(key=lambda one: (one[1]["kind"].lower() == "csv", _section(one[1]), one[0]))
    return found[0][0] if found else None


def _only_one(folder: Path, pattern: re.Pattern[str]) -> None:
    """Refuse a folder with the tables of several sections."""
    found = [pattern.fullmatch(path.name) for path in files_in(folder)]
    prefixes = sorted({_section(match) for match in found if match})
    if len(prefixes) > 1:
        raise SliceError(
            f"{folder} holds tables of {len(prefixes)} sections ({', '.join(prefixes)}): put each "
            "into a folder of its own."
        )


def _named(stem: str, kinds: str = r"\.(?P<kind>csv|parquet)") -> re.Pattern[str]:
    """Match the name of a table, with what tells the section before it or, numbered, behind it."""
    return re.compile(
        rf"((?P<prefix>.*)[-_. ])?{stem}(?P<number>[-_]\w*\d\w*)?{kinds}(\.(gz|bz2|xz|zst))?",
        re.IGNORECASE,
    )


def _section(match: re.Match[str]) -> str:
    """Return what tells the section in the name of a file."""
    found = match.groupdict()
    return (found.get("prefix") or "") + (found.get("number") or "")


def _xenium_matrix(folder: Path) -> Path | None:
    pattern = _named("cell_feature_matrix", r"(\.h5)?")
    found = [path for path in files_in(folder) if pattern.fullmatch(path.name)]
    return max(found, key=lambda path: path.is_file(), default=None)


def _joined(
    adata: AnnData, cells: pd.DataFrame, place: tuple[str, str], path: Path, what: str = "cells"
) -> AnnData:
    """Give cells their row of a table and their position; leave out those without one."""
    cells = cells[~cells.index.duplicated()]
    known = adata.obs_names.isin(cells.index)
    if not known.any():
        raise SliceError(
            f"{path}: none of its {len(cells):,} {what} is among the {adata.n_obs:,} with counts "
            f"(there {adata.obs_names[0]!r}, here {str(cells.index[0])!r})."
        )
    missing = set(place) - set(cells.columns)
    if missing:
        listed = ", ".join(map(str, cells.columns))
        raise SliceError(f"{path} has no column {sorted(missing)}. Columns: {listed}.")
    rows = cells.reindex(adata.obs_names)
    points = rows[list(place)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    known &= np.isfinite(points).all(axis=1)
    if not known.all():
        remark(adata, f"{(~known).sum():,} {what} without a position left out")
    adata = adata[known].copy()
    adata.obsm["spatial"] = points[known]
    for column in rows.columns:
        if column not in place:
            adata.obs[column] = _as_numbers(rows.loc[known, column])
    return adata


def _as_numbers(values: pd.Series) -> pd.Series:
    """Turn a column of text into numbers where all of it is numbers."""
    if values.dtype != object:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    if (numbers.notna() | values.isna()).all() and numbers.notna().any():
        return numbers
    return values.astype(str).where(values.notna(), np.nan)


def _as_text(values: Iterable) -> pd.Index:
    """Return identifiers as text: Parquet may hold bytes, tables whole numbers, with a point."""
    return pd.Index(_text(values), dtype=object).str.strip().str.replace(r"\.0$", "", regex=True)


def _say(adata: AnnData, text: str) -> None:
    """Say what was read, with positions in µm."""
    remark(adata, text)
    record(adata, micrometres_per_unit=1.0, spatial_unit="µm")


def _column(table: pd.DataFrame, *names: str) -> str | None:
    """Find a column by one of its names, in upper or lower case."""
    lower = {str(column).strip().lower(): column for column in table.columns}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _numbers(table: pd.DataFrame, *names: str) -> np.ndarray | None:
    column = _column(table, *names)
    return None if column is None else pd.to_numeric(table[column], errors="coerce").to_numpy(float)


def _read_xenium(folder: Path) -> AnnData:
    """Read the cells of a Xenium output folder."""
    _only_one(folder, _named("cell_feature_matrix", r"(\.h5)?"))
    matrix, table = _xenium_matrix(folder), _find(folder, "cells")
    adata = read_10x_mtx(matrix) if matrix.is_dir() else read_10x_h5(matrix)
    adata.var_names_make_unique()
    cells = read_table(table, header="yes")
    key = "cell_id" if "cell_id" in cells else cells.columns[0]
    cells = cells.set_index(_as_text(cells.pop(key)))
    adata = _joined(adata, cells, ("x_centroid", "y_centroid"), table)
    _say(adata, "Xenium, cells, positions in µm")
    try:
        with open_unpacked(folder / "experiment.xenium") as file:
            about = json.load(file)
        keys = [key for key in ("region_name", "run_name", "panel_name") if key in about]
        record(adata, experiment={key: str(about[key]) for key in keys})
    except (OSError, ValueError, TypeError):  # a description of the run, not needed
        pass
    return adata


def _read_merscope(folder: Path) -> AnnData:
    """Read the cells of a MERSCOPE output folder, of all fields of view."""
    _only_one(folder, _named("cell_by_gene"))
    counts, table = _find(folder, "cell_by_gene"), _find(folder, "cell_metadata")
    if ".parquet" in counts.suffixes:
        wide = read_table(counts)
        wide = wide.set_index(_as_text(wide.pop(_cell_column(wide))))
        adata = AnnData(wide.astype(np.float32))
    else:
        adata = read_wide_counts(counts)
    adata.obs_names = _as_text(adata.obs_names)
    cells = read_table(table, header="yes")
    cells = cells.set_index(_as_text(cells.pop(_cell_column(cells))))
    if "fov" in cells:
        cells["fov"] = cells["fov"].astype(str).where(cells["fov"].notna(), np.nan)
    adata = _joined(adata, cells, ("center_x", "center_y"), table)
    _say(adata, "MERSCOPE, cells of all fields of view, positions in µm")
    return adata


def _cell_column(table: pd.DataFrame) -> str:
    """Return the column that names the cells: EntityID, cell, or the first, which has no name."""
    return next((c for c in ("EntityID", "cell", "cell_id") if c in table), table.columns[0])


def _read_cosmx(folder: Path) -> AnnData:
    """Read the cells of a CosMx from its flat files, in the frame of the whole slide."""
    _only_one(folder, _named("exprMat_file"))
    counts, table = _find(folder, "exprMat_file"), _find(folder, "metadata_file")
    adata = read_wide_counts(counts)
    cells = read_table(table, header="yes")
    inside, adata.obs_names = _cosmx_names(adata, counts)
    adata.X = adata.X.tocsr()
    if not inside.all():
        remark(adata, f"counts outside cells ({(~inside).sum():,} rows, cell 0) left out")
        adata = adata[inside].copy()
    key = _column(cells, "fov"), _column(cells, "cell_ID", "cellID", "CellId")
    if None in key:
        raise SliceError(f"{table} has no columns fov and cell_ID: {', '.join(cells.columns)}.")
    cells = cells.set_index(_cosmx_index(cells[key[0]], cells[key[1]]))
    place, scale, how = _cosmx_place(cells, _cosmx_fields(folder), table)
    cells["_x"], cells["_y"] = place[:, 0] * scale, place[:, 1] * scale
    adata = _joined(adata, cells, ("_x", "_y"), table)
    _say(adata, f"CosMx, cells, positions on the slide in µm ({scale:.5g} µm per pixel, {how})")
    return adata


def _cosmx_index(fov: pd.Series, cell: pd.Series) -> pd.Index:
    """Name a cell by its field of view and number; newer exports give ``c_1_2_3``: the last two."""
    return _as_text(fov) + "_" + _as_text(cell).str.rsplit("_", n=1).str[-1]


def _cosmx_names(adata: AnnData, path: Path) -> tuple[np.ndarray, pd.Index]:
    """Take field and cell out of the table of counts; say which rows are cells."""
    names = {str(gene).lower(): gene for gene in adata.var_names}
    fov = pd.Series(adata.obs_names)
    if "cell_id" in names:
        cell = pd.Series(np.asarray(adata[:, names["cell_id"]].X.todense()).ravel().astype(int))
        adata._inplace_subset_var(~adata.var_names.isin([names["cell_id"]]))
    elif (text := _column(adata.obs, "cell_ID", "cell")) is not None:
        cell = adata.obs.pop(text).reset_index(drop=True)
    else:
        raise SliceError(f"{path} has no column cell_ID.")
    if "fov" in names:
        fov = pd.Series(np.asarray(adata[:, names["fov"]].X.todense()).ravel().astype(int))
    adata._inplace_subset_var(~adata.var_names.str.lower().isin(["fov", "cell", "slide"]))
    index = _cosmx_index(fov, cell)
    return ~index.str.endswith("_0"), index


def _cosmx_fields(folder: Path) -> pd.DataFrame | None:
    """Read where the fields of view lie; numbers, named by field."""
    path = _find(folder, "fov_positions_file")
    if path is None:
        return None
    table = read_table(path, header="yes")
    key = _column(table, "fov")
    if key is None:
        return None
    table = table.set_index(_as_text(table.pop(key)))
    return table.apply(pd.to_numeric, errors="coerce").groupby(level=0).first()


def _cosmx_place(
    cells: pd.DataFrame, fields: pd.DataFrame | None, path: Path
) -> tuple[np.ndarray, float, str]:
    """Return positions on the slide in pixels, µm per pixel, and where that is known from."""
    scale, how = _cosmx_scale(cells, fields)
    x, y = _numbers(cells, "CenterX_global_px"), _numbers(cells, "CenterY_global_px")
    if x is not None and y is not None:
        return np.column_stack([x, y]), scale, how
    x, y = (_numbers(cells, f"{axis}_slide_mm", f"Center{axis.upper()}_global_mm") for axis in "xy")
    if x is not None and y is not None:
        return np.column_stack([x, y]), 1000.0, "stated in mm"
    local = [_numbers(cells, f"Center{axis}_local_px") for axis in "XY"]
    if fields is None or local[0] is None or local[1] is None:
        raise SliceError(
            f"{path} has no positions on the slide (CenterX_global_px, CenterY_global_px), and "
            "there is no *_fov_positions_file.csv to compute them from. Positions within a field "
            "of view would lay all fields over each other."
        )
    fov = cells.index.str.rsplit("_", n=1).str[0]
    for unit, factor in (("px", 1.0), ("mm", 1000.0 / scale)):
        x, y = (_numbers(fields, f"{axis}_global_{unit}", f"{axis}_{unit}") for axis in "xy")
        if x is not None and y is not None:
            corners = pd.DataFrame({"x": x * factor, "y": y * factor}, index=fields.index)
            return corners.reindex(fov).to_numpy() + np.column_stack(local), scale, how
    raise SliceError(f"the *_fov_positions_file.csv beside {path.name} has no global positions.")


def _cosmx_scale(cells: pd.DataFrame, fields: pd.DataFrame | None) -> tuple[float, str]:
    """Find out how long a pixel is: from areas in both units, or from fields of view in mm."""
    area, area_um = _numbers(cells, "Area"), _numbers(cells, "Area.um2", "Area_um2")
    if area is not None and area_um is not None and (area > 0).any():
        ratio = np.sqrt(np.nanmedian(area_um[area > 0] / area[area > 0]))
        if 0.05 < ratio < 0.5:
            return float(ratio), "from areas"
    if fields is not None:
        x, far = _numbers(fields, "x_global_px"), _numbers(fields, "x_global_mm", "x_mm")
        if x is not None and far is not None and np.ptp(x) > 0 and np.ptp(far) > 0:
            return float(1000 * np.ptp(far) / np.ptp(x)), "from the fields of view"
    local = _numbers(cells, "CenterX_local_px")
    if local is not None and np.nanmax(local, initial=0) > 1.02 * _COSMX_FIELD_PIXELS:
        return _COSMX_PROTOTYPE_UM, "assumed: fields as large as those of the prototype"
    return _COSMX_PIXEL_UM, "assumed: the files do not say"


# -------------------------------------------------------------------------------------------------
# Capture arrays. A GEF file is HDF5: for every gene a run of (x, y, count) at the finest level, DNA
# nanoballs 0.5 µm apart; a GEM file is the same as text. Bins are sums of n × n nanoballs, made
# here as a sparse sum. In a cell-bin file counts are those of cells. A Slide-seq folder holds a
# table of bead locations and one of counts, genes × beads.

_NANOBALL_UM = 0.5  # centre to centre; GEF files state it in nm
_USUAL_BIN = 50  # nanoballs: 25 µm
_GEM_NAMES = (".gem", ".gem.gz", ".gem.bz2", ".gem.xz", ".gem.zst", ".bgem", ".cgem")
_GENE = ("genename", "gene_name", "geneid", "gene", "gene_id", "genes")
_COUNT = ("midcount", "midcounts", "umicount", "umicounts", "umi", "count", "counts", "values")
_CELL = ("cellid", "cell_id", "cell", "label", "cellbin")
_LOCATIONS = re.compile(
    r"(?P<prefix>.*?)_?(bead_?locations?(forr)?|matched_?bead_?locations?|bead_?coords?|locations?)"
    r"\.(csv|tsv|txt)(\.(gz|bz2|xz|zst))?",
    re.IGNORECASE,
)
_MARKET = re.compile(r"(matrix|MoleculesPerMatchedBead)\.mtx(\.\w+)?$")
_BARCODES = re.compile(r".*bead_?barcodes?\.(csv|tsv|txt)(\.(gz|bz2|xz|zst))?", re.IGNORECASE)
_EXPRESSION = re.compile(
    r"(?P<prefix>.*?)[_.]?(mappeddgeforr|digital_?expression|dge|expression|counts?)"
    r"\.(csv|tsv|txt)(\.(gz|bz2|xz|zst))?",
    re.IGNORECASE,
)


def _is_gef(path: Path) -> bool:
    """Say whether a file is a GEF: HDF5 with the groups of Stereo-seq."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return path.is_file() and path.name.lower().endswith((".gef", ".gef.gz"))
    with h5py.File(path, "r") as file:
        return "geneExp" in file or "cellBin" in file


def _is_gem(path: Path) -> bool:
    """Say whether a file is a GEM, packed or not: by its name, or a table with its columns."""
    if not path.is_file() or path.name.lower().endswith(_GEM_NAMES):
        return path.is_file()
    if not {".txt", ".tsv", ".csv"} & set(path.suffixes):
        return False
    with contextlib.suppress(SliceError):
        table = _gem_table(path, rows=1)[0]
        return None not in (_column(table, *names) for names in (_GENE, _COUNT, ("x",), ("y",)))
    return False


def _bin_counts(
    genes: np.ndarray, x: np.ndarray, y: np.ndarray, counts: np.ndarray, side: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Sum counts over square bins: (bins, genes), and x and y of each in steps of ``side``."""
    column, row = np.asarray(x, np.int64) // side, np.asarray(y, np.int64) // side
    low = (column.min(), row.min()) if len(column) else (0, 0)
    width = int(column.max(initial=0) - low[0]) + 1
    key = (row - low[1]) * width + (column - low[0])
    places, member = np.unique(key, return_inverse=True)
    n_genes = int(np.max(genes, initial=-1)) + 1
    values = sparse.coo_matrix(
        (np.asarray(counts, np.float32), (member.ravel(), genes)), shape=(len(places), n_genes)
    ).tocsr()
    corners = np.column_stack([places % width + low[0], places // width + low[1]])
    return values, corners


def _asked_bin(bin_size: int | str | None) -> int | str | None:
    """Read a size of bins: 50, "50", "bin50", or "cells"."""
    if bin_size is None:
        return None
    text = str(bin_size).lower().removeprefix("bin").removesuffix("s")
    if text in ("cell", "cellbin"):
        return "cells"
    if not text.isdecimal() or int(text) < 1:
        raise SliceError(f"bin_size is {bin_size!r}; give a whole number of nanoballs, or 'cells'.")
    return int(text)


def _read_gef(path: Path, bin_size: int | str | None = None) -> AnnData:
    """Read a GEF file of Stereo-seq, square bins or cells."""
    wanted = _asked_bin(bin_size)
    try:
        with unpacked_file(path) as plain, h5py.File(plain, "r") as file:
            if "cellBin" in file and wanted in (None, "cells"):
                return _gef_cells(file["cellBin"])
            if "geneExp" not in file:
                there = "cells only" if "cellBin" in file else ", ".join(file) or "nothing"
                raise SliceError(f"{path} holds no square bins ({there}); bin_size='cells'.")
            if wanted == "cells":
                raise SliceError(f"{path} holds square bins and no cells; give a number.")
            return _gef_bins(file["geneExp"], wanted, path)
    except (OSError, KeyError, IndexError) as error:
        raise SliceError(f"{path} cannot be read as GEF ({error}).") from error


def _gef_bins(group: h5py.Group, side: int | None, path: Path) -> AnnData:
    """Read the bins of a size, or the largest finer ones that they can be summed from."""
    sizes = sorted(int(name[3:]) for name in group if re.fullmatch(r"bin\d+", name))
    full = [size for size in sizes if {"expression", "gene"} <= set(group[f"bin{size}"])]
    if side is None:  # as usual, or as it was written
        side = next((s for s in (_USUAL_BIN, *full) if any(s % size == 0 for size in full)), 1)
    finer = [size for size in full if side % size == 0]
    if not finer:
        raise SliceError(f"{path} holds bins of {sizes} nanoballs: none gives bin_size={side}.")
    level = group[f"bin{finer[-1]}"]
    table, spots = level["gene"][:], level["expression"]
    numbers = np.repeat(np.arange(len(table)), table["count"].astype(np.int64))
    starts = table["offset"].astype(np.int64)
    if len(numbers) != len(spots) or (np.diff(starts) < 0).any():
        raise SliceError(
            f"{path} is damaged: its genes announce {len(numbers)} of {len(spots)} values."
        )
    x, y, counts = spots["x"], spots["y"], spots["count"]
    # Some writers give places in nanoballs at every level, others number the bins.
    pitch = finer[-1] if _step(x) % finer[-1] or _step(y) % finer[-1] else 1
    place = [np.asarray(axis, np.int64) * pitch for axis in (x, y)]
    name = _gene_field(table)
    also = f" (in the file: {', '.join(map(str, sizes))})"
    sums = _bin_counts(numbers, *place, counts, side)
    adata = _bins(*sums, _text(table[name]), side, _resolution(spots, level), also)
    if "geneID" in table.dtype.names and name != "geneID":
        adata.var["gene_ids"] = _text(table["geneID"])
    return adata


def _gene_field(table: np.ndarray) -> str:
    return "geneName" if "geneName" in table.dtype.names else table.dtype.names[0]


def _bins(
    values: sparse.csr_matrix,
    corners: np.ndarray,
    genes: list[str],
    side: int,
    scale: float,
    also: str,
) -> AnnData:
    """Make a slice of bins, at their centres in µm; ``scale`` is µm per nanoball."""
    adata = _as_slice(values, genes, (corners + 0.5) * side * scale)
    adata.obs_names = [f"{a * side}_{b * side}" for a, b in corners]
    bins = f"bins of {side} nanoballs ({side * scale:g} µm)"
    _say(adata, f"Stereo-seq, {bins}; bin_size=... for others{also}")
    return adata


def _step(x: np.ndarray) -> int:
    """Return the greatest number that all differences of places are multiples of."""
    there = np.unique(np.asarray(x, np.int64))
    return int(np.gcd.reduce(np.diff(there))) if len(there) > 1 else 0


def _resolution(*places: h5py.Dataset | h5py.Group) -> float:
    """Return µm per nanoball, which files state in nm."""
    stated = (float(np.ravel(place.attrs.get("resolution", 0))[0]) for place in places)
    return next((value / 1000.0 for value in stated if value > 0), _NANOBALL_UM)


def _text(values: np.ndarray) -> list[str]:
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _as_slice(values: sparse.csr_matrix, names: list[str], points: np.ndarray) -> AnnData:
    if values.shape[1] < len(names):  # the last genes have no count
        values.resize(values.shape[0], len(names))
    adata = AnnData(values, var=pd.DataFrame(index=names))
    adata.var_names_make_unique()
    adata.obsm["spatial"] = np.asarray(points, dtype=float)
    return adata


def _gef_cells(group: h5py.Group) -> AnnData:
    """Read the cells of a cell-bin file."""
    cells, counts, genes = group["cell"][:], group["cellExp"], group["gene"][:]
    numbers = np.asarray(counts["geneID"], np.int64)
    lengths = cells["geneCount"].astype(np.int64)
    if lengths.sum() != len(numbers) or numbers.max(initial=-1) >= len(genes):
        raise SliceError("the cell-bin GEF is damaged: cells and counts do not fit together.")
    pointer = np.concatenate([[0], np.cumsum(lengths)])
    values = sparse.csr_matrix(
        (counts["count"].astype(np.float32), numbers, pointer), shape=(len(cells), len(genes))
    )
    scale = _resolution(group, group["cell"])
    points = np.column_stack([cells["x"], cells["y"]]) * scale
    adata = _as_slice(values, _text(genes[_gene_field(genes)]), points)
    names = cells["id"] if "id" in cells.dtype.names else np.arange(len(cells))
    adata.obs_names = list(map(str, names))
    if "area" in cells.dtype.names:
        adata.obs["area"] = cells["area"]
    _say(adata, f"Stereo-seq, cells of a cell-bin file ({scale:g} µm per nanoball)")
    return adata


def _read_gem(path: Path, bin_size: int | str | None = None) -> AnnData:
    """Read a GEM file of Stereo-seq, text, packed or not."""
    wanted = _asked_bin(bin_size)
    table, header = _gem_table(path)
    gene, count, cell, x, y = (_column(table, *names) for names in (_GENE, _COUNT, _CELL, "x", "y"))
    if None in (gene, count, x, y):
        raise SliceError(
            f"{path} is no GEM: columns {list(table.columns)}; needed: geneID, x, y, MIDCount."
        )
    table = table.dropna(subset=[gene, x, y, count])
    codes, names = pd.factorize(table[gene].astype(str), sort=True)
    numbers = table[[x, y, count]].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any(axis=None):
        raise SliceError(f"{path}: columns {x}, {y}, {count} hold something that is no number.")
    place = [np.floor(numbers[axis].to_numpy()).astype(np.int64) for axis in (x, y)]
    molecules = numbers[count].to_numpy(np.float32)
    scale = float(header.get("resolution", 1000 * _NANOBALL_UM)) / 1000.0
    if wanted == "cells":
        if cell is None:
            raise SliceError(f"{path} has no column of cells: {list(table.columns)}.")
        return _gem_cells(codes, names, place, molecules, table[cell], scale)
    side = wanted or _USUAL_BIN
    step = int(np.gcd(_step(place[0]), _step(place[1]))) or 1
    if wanted is None and side % step:
        side = step  # binned when it was written
    also = "; bin_size='cells' for its cells" if cell is not None else ""
    sums = _bin_counts(codes, *place, molecules, side)
    return _bins(*sums, list(names), side, scale, also)


def _gem_table(path: Path, rows: int | None = None) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the table and the facts in the lines before it."""
    header: dict[str, str] = {}
    try:
        with open_unpacked(path) as file:
            lines = 0
            for raw in file:
                line = raw.decode("utf-8-sig", "replace").strip()
                if not line.startswith("#"):
                    break
                key, _, value = line.lstrip("# ").partition("=")
                header[key.strip().lower()] = value.strip()
                lines += 1
        separator = "\t" if "\t" in line else "," if "," in line else r"\s+"
        with open_unpacked(path) as file:
            table = pd.read_csv(
                file, sep=separator, skiprows=lines, encoding="utf-8-sig", nrows=rows
            )
    except (OSError, EOFError, ValueError) as error:
        raise SliceError(f"{path} cannot be read as GEM ({error}).") from error
    if not re.fullmatch(r"\d+(\.\d+)?", header.get("resolution", "")):
        header.pop("resolution", None)
    return table, header


def _gem_cells(codes, names, place, molecules, cells: pd.Series, scale: float) -> AnnData:
    """Sum the counts of each cell; it lies at the mean place of its molecules."""
    outside = cells.astype(str).str.fullmatch(r"0|0\.0|-1|nan|None|")
    inside = ~(cells.isna() | outside).to_numpy(dtype=bool)  # pandas 3 keeps what is missing
    member, ids = pd.factorize(cells[inside].astype(str).str.replace(r"\.0$", "", regex=True))
    weights = molecules[inside].astype(float)
    values = sparse.coo_matrix(
        (molecules[inside], (member, codes[inside])), shape=(len(ids), len(names))
    ).tocsr()
    total = np.bincount(member, weights)
    points = [np.bincount(member, weights * axis[inside]) / total for axis in place]
    adata = _as_slice(values, list(names), np.column_stack(points) * scale)
    adata.obs_names = list(map(str, ids))
    _say(adata, f"Stereo-seq, cells ({scale:g} µm per nanoball)")
    return adata


def _is_slideseq(folder: Path) -> bool:
    """Say whether a folder holds bead locations and a table, or a matrix, of counts."""
    return _slideseq_files(folder) is not None


def _slideseq_files(folder: Path) -> tuple[Path, Path] | None:
    """Return the locations and the counts of the first puck in a folder."""
    files = [path for path in files_in(folder) if path.is_file()]
    places = [path for path in files if _LOCATIONS.fullmatch(path.name)]
    counts = [path for path in files if _EXPRESSION.fullmatch(path.name)]
    counts += [path for path in files if _MARKET.search(path.name)]
    if not places or not counts:
        return None
    if len(places) > 1:
        named = [_LOCATIONS.fullmatch(path.name)["prefix"] for path in places]
        counts = [path for path in counts if path.name.startswith(named[0])] or counts
    return places[0], counts[0]


def _read_slideseq(folder: Path) -> AnnData:
    """Read a puck of Slide-seq from its folder."""
    _only_one(folder, _LOCATIONS)
    place, counts = _slideseq_files(folder)
    beads = _bead_table(place)
    if ".mtx" in counts.suffixes:
        adata = read_10x_mtx(folder, _MARKET.sub("", counts.name))
    else:
        adata = read_wide_counts(counts, by_gene=True)
        if not adata.obs_names.isin(beads.index).any() and adata.var_names.isin(beads.index).any():
            adata = adata.T.copy()  # beads × genes
            adata.X = sparse.csr_matrix(adata.X)
    adata.var_names_make_unique()
    adata = _joined(adata, beads, tuple(beads.columns), place, "beads")
    remark(adata, "Slide-seq, beads, positions in the unit of the table of locations")
    return adata


def _bead_table(path: Path) -> pd.DataFrame:
    """Return barcode → x, y."""
    known = ("barcode", "barcodes", "xcoord", "ycoord", "x", "y", "bead", "sb_x")
    table = read_table(path, known=known)
    beside = [one for one in files_in(path.parent) if _BARCODES.fullmatch(one.name)]
    if table.shape[1] == 2 and len(beside) == 1:  # the barcodes lie in a file of their own
        names = read_table(beside[0], known=known, gaps=False).iloc[:, 0]
        if len(names) == len(table):
            table.insert(0, "barcode", names.to_numpy())
    key = _column(table, "barcode", "barcodes", "bead", "cell_bc")
    x = _column(table, "xcoord", "x", "x_coord", "sb_x", "x_um")
    y = _column(table, "ycoord", "y", "y_coord", "sb_y", "y_um")
    if x is None or y is None:
        table = table.iloc[:, -3:]
        x, y = table.columns[-2:]
    words = [c for c in table if pd.to_numeric(table[c], errors="coerce").isna().mean() > 0.5]
    key = key or (words or list(table.columns))[0]
    table = table.set_index(table[key].astype(str).str.strip())[[x, y]]
    table = table.apply(pd.to_numeric, errors="coerce").dropna()
    return table[~table.index.duplicated()]


FOLDER_READERS = (
    (_is_xenium, _read_xenium),
    (_is_merscope, _read_merscope),
    (_is_cosmx, _read_cosmx),
    (_is_slideseq, _read_slideseq),
)
"""Whether a folder is known, and its reader."""
FILE_READERS = ((_is_gem, _read_gem), (_is_gef, _read_gef))
"""Whether a file is known, and its reader, which also takes the size of bins."""
