"""Imaging instruments: Xenium, MERSCOPE, CosMx; counts of cells and where the cells lie.

Only the table of cells is read: counts, centroids and what the instrument says about a cell, by
pandas and h5py. ``spatialdata-io`` (0.7.1) reads the same folders with images, outlines and
transcripts; it stops where one of these is missing, as in many public sets. What it makes can be
given as a SpatialData object (:mod:`genot_helpers.datasets.containers`).

The layouts are those of https://www.10xgenomics.com/support/software/xenium-onboard-analysis,
https://vizgen.github.io/vizgen-postprocessing and
https://nanostring-biostats.github.io/CosMx-Analysis-Scratch-Space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from ..slices.slices import SliceError, record, remark
from .tables import open_unpacked, read_10x_h5, read_10x_mtx, read_table, read_wide_counts

__all__ = ["is_cosmx", "is_merscope", "is_xenium", "read_cosmx", "read_merscope", "read_xenium"]

_PACKED = ("", ".gz", ".bz2", ".xz", ".zst")
_COSMX_PIXEL_UM = 0.120280945  # of the instrument as sold; the prototype had 0.18
_COSMX_PROTOTYPE_UM = 0.18
_COSMX_FIELD_PIXELS = 4256  # side of a field of view; that of the prototype was 5472 × 3648


def is_xenium(folder: Path) -> bool:
    """Say whether a folder holds the output of a Xenium Analyzer."""
    return _xenium_matrix(folder) is not None and _find(folder, "cells") is not None


def is_merscope(folder: Path) -> bool:
    """Say whether a folder holds the output of a MERSCOPE, or of the Vizgen post-processing."""
    return bool(_find(folder, "cell_by_gene")) and bool(_find(folder, "cell_metadata"))


def is_cosmx(folder: Path) -> bool:
    """Say whether a folder holds the flat files of a CosMx."""
    return bool(_find(folder, "exprMat_file")) and bool(_find(folder, "metadata_file"))


def _find(folder: Path, stem: str) -> Path | None:
    """Find the table with a name, whatever its prefix, format and packing; the plain name first."""
    if not folder.is_dir():
        return None
    ends = [f".{kind}{end}" for kind in ("parquet", "csv") for end in _PACKED]
    found = [path for path in sorted(folder.iterdir()) if path.is_file()]
    for end in ends:
        plain = [path for path in found if path.name.lower() == f"{stem}{end}".lower()]
        more = [path for path in found if path.name.lower().endswith(f"_{stem}{end}".lower())]
        if plain or more:
            return (plain or more)[0]
    return None


def _only_one(folder: Path, stem: str) -> None:
    """Refuse a folder with the tables of several sections."""
    pattern = re.compile(rf"(.*?)_?{stem}\.(csv|parquet)(\.\w+)?", re.IGNORECASE)
    prefixes = {m[1] for path in folder.iterdir() if (m := pattern.fullmatch(path.name))}
    if len(prefixes) > 1:
        raise SliceError(
            f"{folder} holds tables of {len(prefixes)} sections ({', '.join(sorted(prefixes))}): "
            "put each into a folder of its own."
        )


def _xenium_matrix(folder: Path) -> Path | None:
    names = ("cell_feature_matrix.h5", "cell_feature_matrix.h5.gz", "cell_feature_matrix")
    return next((folder / name for name in names if (folder / name).exists()), None)


def _joined(adata: AnnData, cells: pd.DataFrame, place: tuple[str, str], path: Path) -> AnnData:
    """Give cells their row of a table and their position; leave out those without one."""
    cells = cells[~cells.index.duplicated()]
    known = adata.obs_names.isin(cells.index)
    if not known.any():
        raise SliceError(
            f"{path}: none of its {len(cells):,} cells is among the {adata.n_obs:,} with counts "
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
        remark(adata, f"{(~known).sum():,} cells without a position left out")
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
    """Return identifiers as text: Parquet may hold bytes, tables whole numbers."""
    return pd.Index([v.decode() if isinstance(v, bytes) else str(v).strip() for v in values])


def _in_micrometres(adata: AnnData) -> None:
    record(adata, micrometres_per_unit=1.0, spatial_unit="µm")


def read_xenium(folder: Path) -> AnnData:
    """Read the cells of a Xenium output folder."""
    matrix, table = _xenium_matrix(folder), _find(folder, "cells")
    adata = read_10x_mtx(matrix) if matrix.is_dir() else read_10x_h5(matrix)
    adata.var_names_make_unique()
    cells = read_table(table, header="yes")
    cells = cells.set_index(
        _as_text(cells.pop("cell_id" if "cell_id" in cells else cells.columns[0]))
    )
    adata = _joined(adata, cells, ("x_centroid", "y_centroid"), table)
    remark(adata, "Xenium, cells, positions in µm")
    _in_micrometres(adata)
    try:
        with open_unpacked(folder / "experiment.xenium") as file:
            about = json.load(file)
        kept = {
            key: about[key] for key in ("region_name", "run_name", "panel_name") if key in about
        }
        record(adata, experiment={key: str(value) for key, value in kept.items()})
    except (OSError, ValueError, TypeError):  # a description of the run, not needed
        pass
    return adata


def read_merscope(folder: Path) -> AnnData:
    """Read the cells of a MERSCOPE output folder, of all fields of view."""
    _only_one(folder, "cell_by_gene")
    counts, table = _find(folder, "cell_by_gene"), _find(folder, "cell_metadata")
    if ".parquet" in counts.suffixes:
        wide = read_table(counts)
        wide = wide.set_index(_as_text(wide.pop(_cell_column(wide))))
        adata = AnnData(wide.astype(np.float32))
    else:
        adata = read_wide_counts(counts)
    adata.obs_names = _as_text(adata.obs_names)
    adata.obs_names = adata.obs_names.str.replace(r"\.0$", "", regex=True)
    cells = read_table(table, header="yes")
    key = _cell_column(cells)
    cells = cells.set_index(_as_text(cells.pop(key)).str.replace(r"\.0$", "", regex=True))
    if "fov" in cells:
        cells["fov"] = cells["fov"].astype(str).where(cells["fov"].notna(), np.nan)
    adata = _joined(adata, cells, ("center_x", "center_y"), table)
    remark(adata, "MERSCOPE, cells of all fields of view, positions in µm")
    _in_micrometres(adata)
    return adata


def _cell_column(table: pd.DataFrame) -> str:
    """Return the column that names the cells: EntityID, cell, or the first, which has no name."""
    return next((c for c in ("EntityID", "cell", "cell_id") if c in table), table.columns[0])


def read_cosmx(folder: Path) -> AnnData:
    """Read the cells of a CosMx from its flat files, in the frame of the whole slide."""
    _only_one(folder, "exprMat_file")
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
    fields = _cosmx_fields(folder)
    place, scale, how = _cosmx_place(cells, fields, table)
    cells["_x"], cells["_y"] = place[:, 0] * scale, place[:, 1] * scale
    adata = _joined(adata, cells, ("_x", "_y"), table)
    remark(adata, f"CosMx, cells, positions on the slide in µm ({scale:.5g} µm per pixel, {how})")
    _in_micrometres(adata)
    return adata


def _column(table: pd.DataFrame, *names: str) -> str | None:
    """Find a column by one of its names, in upper or lower case."""
    lower = {str(column).lower(): column for column in table.columns}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _cosmx_index(fov: pd.Series, cell: pd.Series) -> pd.Index:
    """Name a cell by its field of view and number; newer exports give ``c_1_2_3``: the last two."""
    number = cell.astype(str).str.replace(r"\.0$", "", regex=True).str.rsplit("_", n=1).str[-1]
    field = fov.astype(str).str.replace(r"\.0$", "", regex=True)
    return pd.Index(field.to_numpy() + "_" + number.to_numpy())


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
    for extra in [
        gene for gene in adata.var_names if str(gene).lower() in ("fov", "cell", "slide")
    ]:
        if str(extra).lower() == "fov":
            fov = pd.Series(np.asarray(adata[:, extra].X.todense()).ravel().astype(int))
        adata._inplace_subset_var(adata.var_names != extra)
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
    table = table.set_index(table.pop(key).astype(str).str.replace(r"\.0$", "", regex=True))
    return table.apply(pd.to_numeric, errors="coerce").groupby(level=0).first()


def _numbers(table: pd.DataFrame, *names: str) -> np.ndarray | None:
    column = _column(table, *names)
    return None if column is None else pd.to_numeric(table[column], errors="coerce").to_numpy(float)


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
            where = pd.DataFrame({"x": x * factor, "y": y * factor}, index=fields.index).reindex(
                fov
            )
            return where.to_numpy() + np.column_stack(local), scale, how
    raise SliceError(f"the *_fov_positions_file.csv beside {path.name} has no global positions.")


def _cosmx_scale(cells: pd.DataFrame, fields: pd.DataFrame | None) -> tuple[float, str]:
    """Find out how long a pixel is."""
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
