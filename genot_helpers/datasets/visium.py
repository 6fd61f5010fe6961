"""Visium and Visium HD: what Space Ranger 1 to 4 writes, and what public sets keep of it.

See https://www.10xgenomics.com/support/software/space-ranger. Public sets lack the large image, put
a prefix before every name, pack files, or keep all in one folder, where ``squidpy.read.visium``
(1.8.2) stops. Positions of HD are turned into µm; those of Visium stay in pixels.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image

from ..slices.geometry import columns_exchanged
from ..slices.slices import SliceError, record, remark
from .tables import (
    PACKED,
    files_in,
    is_10x_h5,
    open_unpacked,
    read_10x_h5,
    read_10x_mtx,
    read_table,
)

_MATRIX = re.compile(
    r"(?P<prefix>.*?)(?P<kind>filtered|raw)_(feature|gene)_(bc|cell)_(matrix|matrices)(_h5)?"
    r"(?P<end>\.h5(\.(gz|bz2|xz|zst))?)?",
    re.IGNORECASE,
)
_LOOSE_MTX = re.compile(r"(?P<prefix>.*?)matrix\.mtx(\.(gz|bz2|xz|zst))?", re.IGNORECASE)
_POSITIONS = (
    *("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv"),
    *("tissue_positions_list.txt", "tissue_positions.txt", "tissue_positions.tsv"),
    *("tissue_positions_list.tsv", "tissue_positions_list.parquet"),
)
_COLUMNS = {  # what positions are called, lower case with underscores
    "barcode": ("barcode", "barcodes", "spot", "spot_id", "cell", "cell_id", "index", "id", ""),
    "in_tissue": ("in_tissue", "tissue", "intissue", "under_tissue"),
    "array_row": ("array_row", "row", "arrayrow", "array_y"),
    "array_col": ("array_col", "col", "arraycol", "array_column", "column", "array_x"),
    "pxl_row": ("pxl_row_in_fullres", "pxl_row", "imagerow", "image_row", "pixel_y", "y"),
    "pxl_col": ("pxl_col_in_fullres", "pxl_col", "imagecol", "image_col", "pixel_x", "x"),
}
_IN_ORDER = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row", "pxl_col")
_KNOWN = tuple(name for names in _COLUMNS.values() for name in names if len(name) > 1)
_BIN_FOLDER = re.compile(r"square_(\d+)um")
_CELLS = "segmented_outputs"
_NO_SPOTS = ("cell_feature_matrix.h5", "probe_bc_matrix.h5")  # Xenium; probes, not genes
_USUAL_BIN = 8  # µm, what 10x Genomics recommends to start from


class Matrix(NamedTuple):
    """A count matrix in a folder."""

    path: Path  # HDF5 file, or folder with Matrix Market files
    prefix: str  # what the names of a section begin with, or of the three Matrix Market files
    loose: bool  # the Matrix Market files lie in the folder itself, beside spatial/
    rank: int  # the lowest is taken: filtered before raw, HDF5 before Matrix Market


def is_space_ranger(folder: Path) -> bool:
    """Say whether a folder holds a count matrix as Space Ranger writes it, and is no Xenium one."""
    return any(True for _ in _matrices(folder))


def space_ranger_folder(path: Path, bin_size: int | str | None = None) -> Path | None:
    """Find the folder with the matrix: a sample, ``outs``, or one of the bins of Visium HD."""
    choices = hd_choices(path)
    if choices:
        return _choose_bin(path, choices, bin_size)
    return next((place for place in (path, path / "outs") if is_space_ranger(place)), None)


def hd_choices(path: Path) -> dict[str, Path]:
    """Return what a Visium HD sample offers: name of the folder → folder, smallest bins first."""
    found: dict[str, Path] = {}
    for place in (path, path / "outs", path / "binned_outputs", path / "outs" / "binned_outputs"):
        if place.is_dir():
            for folder in sorted(place.iterdir()):
                usable = _BIN_FOLDER.fullmatch(folder.name) or folder.name == _CELLS
                if usable and folder.is_dir() and is_space_ranger(folder):
                    found.setdefault(folder.name, folder)
    return found


def _choose_bin(path: Path, choices: dict[str, Path], wanted: int | str | None) -> Path:
    """Return the folder of the bins that are wanted, or of the usual ones."""
    sizes = {int(found[1]): found[0] for name in choices if (found := _BIN_FOLDER.fullmatch(name))}
    if wanted is None:
        if not sizes:
            return choices[_CELLS]
        return choices[sizes[min(sizes, key=lambda size: (abs(size - _USUAL_BIN), size))]]
    asked = str(wanted).lower().removesuffix("um").removeprefix("square_").removeprefix("bin")
    if asked in ("cell", "cells", _CELLS) and _CELLS in choices:
        return choices[_CELLS]
    if asked.isdecimal() and int(asked) in sizes:
        return choices[sizes[int(asked)]]
    offered = [f"{size}" for size in sorted(sizes)] + ["'cells'"] * (_CELLS in choices)
    raise SliceError(f"{path} has no bins {wanted!r}; there: bin_size={', '.join(offered)}.")


def sections_beside(folder: Path) -> list[str]:
    """List the prefixes of the matrices in a folder, where there is more than one section."""
    found = [one for one in _matrices(folder) if one.rank < 2 or one.loose]
    prefixes = sorted({one.prefix for one in found})
    return [_bare(prefix, folder) for prefix in prefixes] if len(prefixes) > 1 else []


def _bare(prefix: str, folder: Path) -> str:
    """Return the name of the section with a prefix; of the one without, that of the folder."""
    return prefix.rstrip("_-. ") or _sample_name(folder)


def _matrices(folder: Path) -> Iterator[Matrix]:
    """Yield the count matrices in a folder."""
    for path in files_in(folder):
        found = _MATRIX.fullmatch(path.name)
        loose = _LOOSE_MTX.fullmatch(path.name)
        raw = found is not None and found["kind"].lower() == "raw"
        if found and path.is_file() and found["end"]:
            yield Matrix(path, found["prefix"], False, 2 * raw)
        elif found and path.is_dir():
            inside = _mtx_inside(path)
            if inside is not None:
                yield Matrix(inside[0], found["prefix"], False, 2 * raw + 1)
        elif loose and path.is_file() and _position_file(folder, loose["prefix"]):
            yield Matrix(folder, loose["prefix"], True, 4)
        elif not path.name.lower().endswith(".h5") or path.name.endswith(_NO_SPOTS):
            continue
        elif _position_file(folder, "") is not None and is_10x_h5(path):
            yield Matrix(path, "", False, 5)  # called otherwise


def _mtx_inside(folder: Path) -> tuple[Path, str] | None:
    """Return folder and prefix of Matrix Market files in a folder or, version 1, one below it."""
    for place in (folder, *(sub for sub in files_in(folder) if sub.is_dir())):
        for path in files_in(place):
            found = _LOOSE_MTX.fullmatch(path.name)
            if found and path.is_file():
                return place, found["prefix"]
    return None


def read_space_ranger(folder: str | Path, *, name: str | None = None) -> AnnData:
    """Read the output folder of Space Ranger, versions 1 to 4, of Visium or Visium HD."""
    folder = Path(folder).expanduser()
    found = _matrix_of(folder, name)
    name = name or _sample_name(folder)
    if found.path.is_dir():
        prefix = found.prefix if found.loose else _mtx_inside(found.path)[1]
        adata = read_10x_mtx(found.path, prefix)
    else:
        adata = read_10x_h5(found.path)
    adata.var_names_make_unique()
    names = ("cell_segmentations.geojson", "graphclust_annotated_cell_segmentations.geojson")
    segments = _in_spatial(folder, found.prefix, *names)
    if "_cell_" in found.path.name.lower() or (segments and _CELLS in folder.parts):
        adata = _place_cells(adata, segments, folder)
    else:
        adata = _place_spots(adata, found, folder)
    _add_pictures(adata, folder, found.prefix, name)
    _say_bins(adata, folder)
    return adata


def _sample_name(folder: Path) -> str:
    place = folder.resolve()
    while place.name in ("outs", "binned_outputs", _CELLS) or _BIN_FOLDER.fullmatch(place.name):
        place = place.parent
    return place.name


def _matrix_of(folder: Path, name: str | None) -> Matrix:
    """Return the matrix to read: that of the section called so, filtered before raw."""
    found = sorted(_matrices(folder), key=lambda one: (one.rank, one.prefix))
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no Space Ranger count matrix. Looked for: "
            "filtered_feature_bc_matrix.h5, filtered_feature_bc_matrix/, matrix.mtx, "
            "raw_feature_bc_matrix.h5 (any prefix, packed or not). Give the folder called 'outs'."
        )
    prefixes = sorted({one.prefix for one in found if one.rank == found[0].rank})
    if len(prefixes) == 1:
        return found[0]
    bare = [_bare(prefix, folder) for prefix in prefixes]
    wanted = [p for p, b in zip(prefixes, bare, strict=True) if name and _same_section(name, b)]
    wanted = [p for p, b in zip(prefixes, bare, strict=True) if name == b] or wanted
    if len(wanted) != 1:
        raise SliceError(
            f"{folder} holds the matrices of {len(prefixes)} sections, with the prefixes "
            f"{', '.join(map(repr, bare))}. Say which: load_slice({bare[-1]!r}, data_source=...)."
        )
    return next(one for one in found if one.prefix == wanted[0])


def _same_section(name: str, bare: str) -> bool:
    """Say whether a prefix is, or contains between separators, the name of a section."""
    return bool(re.search(rf"(^|[_\-. ]){re.escape(name)}($|[_\-. ])", bare))


def _in_spatial(folder: Path, prefix: str, *names: str) -> Path | None:
    """Find a file of a section in ``spatial/`` or beside the matrix, with or without its prefix."""
    places = dict.fromkeys((folder / f"{prefix}spatial", folder / "spatial", folder))
    places = [place for place in places if place.is_dir()]
    ends = tuple(f"{name}{end}" for name in names for end in PACKED)
    for start in dict.fromkeys((prefix, "")):
        paths = (place / f"{start}{end}" for place in places for end in ends)
        if found := next(filter(Path.is_file, paths), None):
            return found
    matrices = filter(None, (_MATRIX.fullmatch(path.name) for path in files_in(folder)))
    theirs = tuple({match["prefix"] for match in matrices} - {prefix, ""})
    ending = re.compile(f"({'|'.join(map(re.escape, ends))})$")
    for place in places:  # a file with another section's prefix is not taken
        strange = [path for path in files_in(place) if path.name.endswith(ends)]
        strange = [path for path in strange if not path.name.startswith(theirs)]
        strange = [path for path in strange if _fits(prefix, ending.sub("", path.name))]
        if len(strange) == 1 or (strange and prefix and strange[0].name.startswith(prefix)):
            return strange[0]
    return None


def _fits(prefix: str, other: str) -> bool:
    """Say whether the words of one prefix are among those of the other: of one section, maybe."""
    one, two = (set(re.split(r"[_\-. ]+", text)) - {""} for text in (prefix, other))
    return one <= two or two <= one


def _position_file(folder: Path, prefix: str) -> Path | None:
    return _in_spatial(folder, prefix, *_POSITIONS)


def _place_spots(adata: AnnData, found: Matrix, folder: Path) -> AnnData:
    """Give spots or bins their positions; leave out those beside the tissue."""
    path = _position_file(folder, found.prefix)
    if path is None:
        there = sorted({path.name for path in (*folder.glob("spatial/*"), *folder.iterdir())})
        raise FileNotFoundError(
            f"{folder} holds no positions of the spots. Looked for {', '.join(_POSITIONS)} (with "
            f"the prefix {found.prefix!r} or none, packed or not) in {folder / 'spatial'} and "
            f"beside the matrix. There: {', '.join(there[:12]) or 'nothing'}."
        )
    positions = _read_positions(path)
    names = adata.obs_names.astype(str)
    known = names.isin(positions.index)
    if not known.any():  # one of the two may lack the "-1" of the well
        short, bare = (
            one.str.replace(r"-\d+$", "", regex=True) for one in (positions.index, names)
        )
        one_lacks_it = short.equals(positions.index) or bare.equals(names)
        if one_lacks_it and short.is_unique and bare.isin(short).all():
            positions.index, names = short, bare
            known = names.isin(positions.index)
    if not known.all():
        raise SliceError(
            f"{(~known).sum():,} of {adata.n_obs:,} barcodes of {found.path.name} have no position "
            f"(first: {adata.obs_names[known.argmin()]!r}; the positions in {path.name} start with "
            f"{positions.index[0]!r}). Are both from the same run of Space Ranger?"
        )
    positions = positions.loc[names]
    grid = [column for column in ("array_row", "array_col") if column in positions]
    in_tissue = positions["in_tissue"].to_numpy() == 1
    if in_tissue.any() and not in_tissue.all():
        remark(adata, f"{(~in_tissue).sum():,} spots beside the tissue left out")
        adata, positions = adata[in_tissue].copy(), positions[in_tissue]
    for column in ("in_tissue", *grid):
        adata.obs[column] = positions[column].to_numpy().astype(int)
    points = positions[["pxl_col", "pxl_row"]].to_numpy(dtype=float)
    if np.ptp(points, axis=0).max(initial=0) == 0 and len(grid) == 2:
        # Other instruments' pipelines imitate the layout, and put their positions there.
        points = positions[grid[::-1]].to_numpy(dtype=float)
        adata.obs, positions = adata.obs.drop(columns=grid), positions.drop(columns=grid)
        remark(adata, f"positions of {path.name} taken from array_row and array_col")
    if _exchanged(positions, points, folder, found.prefix):
        points = points[:, ::-1].copy()
        remark(adata, f"x and y of {path.name} were exchanged, as the grid shows: put right")
    adata.obsm["spatial"] = points
    return adata


def _exchanged(positions: pd.DataFrame, points: np.ndarray, folder: Path, prefix: str) -> bool:
    """Say whether x and y are exchanged: the grid says so, and no image speaks against it."""
    if not {"array_row", "array_col"} <= set(positions):
        return False
    if not columns_exchanged(positions["array_row"], positions["array_col"], points):
        return False
    factors, images, _ = _pictures(folder, prefix)
    for size, image in images.items():
        scale = factors.get(f"tissue_{size}_scalef")
        if isinstance(scale, int | float):
            edge = np.array(image.shape[1::-1]) / scale
            fits, turned = (bool((points[:, order] <= edge).all()) for order in ([0, 1], [1, 0]))
            if fits != turned:
                return turned
    return True


def _read_positions(path: Path) -> pd.DataFrame:
    """Return barcode → in_tissue, array_row, array_col, pxl_row, pxl_col, whatever the order."""
    table = read_table(path, known=_KNOWN)
    bare = all(isinstance(column, int) for column in table.columns)
    table = _numbered(table, path) if bare else _named(table, path)
    table = table.dropna(subset=["barcode"])
    table = table.set_index(table.pop("barcode").astype(str).str.strip())
    inside = table.get("in_tissue", pd.Series("1", index=table.index))
    inside = inside.astype(str).str.strip().str.lower().isin(("1", "1.0", "true"))
    table["in_tissue"] = inside.astype(int)
    numbers = table.apply(pd.to_numeric, errors="coerce")
    if numbers[["pxl_row", "pxl_col"]].isna().all().any():
        raise SliceError(f"{path}: the columns of pixel positions hold no numbers.")
    numbers = numbers.dropna(subset=["pxl_row", "pxl_col"])
    numbers = numbers[~numbers.reset_index().duplicated().to_numpy()]
    if not numbers.index.is_unique:
        twice = numbers.index[numbers.index.duplicated()][0]
        raise SliceError(f"{path} gives barcode {twice!r} two places: of two sections? Keep one.")
    return numbers


def _numbered(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Name the columns of a table without a header; the barcode is the one that is no number."""
    if table.shape[1] < len(_IN_ORDER):
        raise SliceError(
            f"{path} has {table.shape[1]} columns; needed are 6, separated by commas: "
            f"{', '.join(_IN_ORDER)}."
        )
    words = [c for c in table if pd.to_numeric(table[c], errors="coerce").isna().mean() > 0.5]
    row = pd.to_numeric(table.iloc[:, 0], errors="coerce").to_numpy()
    if table.shape[1] > len(_IN_ORDER) and words[:1] == [1] and (np.diff(row) == 1).all():
        table = table.iloc[:, 1:]  # numbers of rows, as pandas writes them
    table = table.iloc[:, : len(_IN_ORDER)]  # some pipelines add columns of their own
    order = [*words[:1], *(column for column in table if column not in words[:1])]
    table = table[order].set_axis(list(_IN_ORDER), axis=1)
    numbers = table[list(_IN_ORDER[2:])].apply(pd.to_numeric, errors="coerce")
    array, pixels = numbers.iloc[:, :2], numbers.iloc[:, 2:]
    wide = np.ptp(array.to_numpy(), axis=0).min() > np.ptp(pixels.to_numpy(), axis=0).max() > 0
    if wide and (pixels % 1 == 0).all(axis=None):  # pixels came before the numbers of the array
        table = table.set_axis([*_IN_ORDER[:2], *_IN_ORDER[4:], *_IN_ORDER[2:4]], axis=1)
    return table


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Find the columns of a table with a header by their usual names."""
    plain: dict[str, str] = {}
    for column in table.columns:
        name = re.sub(r"[^a-z0-9]+", "_", str(column).strip().lower()).strip("_")
        plain.setdefault("" if name.startswith("unnamed") else name, column)
    found: dict[str, str] = {}
    for wanted, usual in _COLUMNS.items():
        hits = [plain[name] for name in usual if plain.get(name) not in (None, *found)]
        found |= dict.fromkeys(hits[:1], wanted)
    missing = {"barcode", "pxl_row", "pxl_col"} - set(found.values())
    if missing:
        raise SliceError(
            f"{path} has no column for {', '.join(sorted(missing))}. Columns: "
            f"{', '.join(map(str, table.columns))}; needed: {', '.join(_IN_ORDER)}."
        )
    return table[list(found)].rename(columns=found)


def _place_cells(adata: AnnData, path: Path | None, folder: Path) -> AnnData:
    """Give segmented cells the centroids of their outlines."""
    if path is None:
        raise FileNotFoundError(
            f"{folder} holds counts of segmented cells but not cell_segmentations.geojson, which "
            "says where they are."
        )
    try:
        with open_unpacked(path) as file:
            features = json.load(file)["features"]
        geometry = {int(one["properties"]["cell_id"]): one["geometry"] for one in features}
        centres = {number: _centroid(shape) for number, shape in geometry.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise SliceError(f"{path} cannot be read as outlines of cells ({error}).") from error
    numbers = adata.obs_names.str.extract(r"(\d+)(?:-\d+)?$", expand=False)
    points = np.array([centres.get(int(n), (np.nan, np.nan)) for n in numbers.fillna("-1")])
    known = np.isfinite(points).all(axis=1)
    if not known.any():
        raise SliceError(f"{path}: none of its cells is called like {adata.obs_names[0]!r}.")
    if not known.all():
        remark(adata, f"{(~known).sum():,} cells without an outline left out")
        adata = adata[known].copy()
    adata.obsm["spatial"] = points[known]
    return adata


def _centroid(geometry: Mapping[str, Any]) -> tuple[float, float]:
    """Return the centre of mass of a polygon, or of the largest of several, by the shoelace sum."""
    rings = geometry["coordinates"]
    rings = [part[0] for part in rings] if geometry["type"] == "MultiPolygon" else [rings[0]]
    best, centre = -1.0, (np.nan, np.nan)
    for ring in rings:
        points = np.asarray(ring, dtype=float)[:, :2]
        middle = points.mean(axis=0)
        x, y = (points - middle).T
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        area = cross.sum() / 2
        if area:
            middle += [((v + np.roll(v, -1)) * cross).sum() / (6 * area) for v in (x, y)]
        if abs(area) > best:
            best, centre = abs(area), (float(middle[0]), float(middle[1]))
    return centre


def _pictures(folder: Path, prefix: str) -> tuple[dict[str, Any], dict[str, np.ndarray], list[str]]:
    """Read scale factors and images of the tissue, if any; also name what cannot be read."""
    factors, images, broken = {}, {}, []
    path = _in_spatial(folder, prefix, "scalefactors_json.json", "scalefactors.json")
    if path is not None:
        with contextlib.suppress(OSError, EOFError, ValueError), open_unpacked(path) as file:
            stored = json.loads(file.read().decode("utf-8-sig"))
            factors = stored if isinstance(stored, dict) else {}
        broken += [] if factors else [path.name]
    for size in ("hires", "lowres"):
        names = [f"tissue_{size}_image.{end}" for end in ("png", "jpg", "jpeg", "tif", "tiff")]
        path = _in_spatial(folder, prefix, *names)
        if path is None:
            continue
        try:
            with open_unpacked(path) as file:
                images[size] = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
        except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError):
            broken.append(path.name)
    return factors, images, broken


def _add_pictures(adata: AnnData, folder: Path, prefix: str, name: str) -> None:
    """Write images and scale factors to ``uns["spatial"]``, and positions in µm where possible."""
    factors, images, broken = _pictures(folder, prefix)
    if broken:
        remark(adata, f"{', '.join(broken)} cannot be read: left out")
    if not factors:
        return
    scale = factors.get("microns_per_pixel")
    if isinstance(scale, int | float) and 0 < scale < np.inf:
        factors = _in_micrometres(factors, float(scale))
        adata.obsm["spatial"] = adata.obsm["spatial"] * float(scale)
        record(adata, micrometres_per_unit=1.0, spatial_unit="µm")
        remark(adata, f"positions in µm ({scale:.4g} µm per pixel)")
    adata.uns["spatial"] = {name: {"images": images, "scalefactors": factors, "metadata": {}}}


def _in_micrometres(factors: dict[str, Any], scale: float) -> dict[str, Any]:
    """Return scale factors that fit positions in µm: pixels of an image per µm."""
    turned = dict(factors)
    for key, value in factors.items():
        if isinstance(value, int | float) and key.endswith("_scalef"):
            turned[key] = value / scale
        elif isinstance(value, int | float) and key.endswith("_diameter_fullres"):
            turned[key] = value * scale
    return turned | {"microns_per_pixel": 1.0, "microns_per_fullres_pixel": scale}


def _say_bins(adata: AnnData, folder: Path) -> None:
    """Say which bins of Visium HD were read and which others there are."""
    inside = folder.resolve()
    size = _BIN_FOLDER.fullmatch(inside.name)
    if size is None and inside.name != _CELLS:
        return
    above = inside.parent.parent if size else inside.parent
    others = [name for name in hd_choices(above) if name != inside.name]
    what = f"bins of {int(size[1])} µm" if size else "segmented cells"
    also = f"; also there: {', '.join(others)} (bin_size=...)" if others else ""
    remark(adata, f"Visium HD, {what}{also}")
