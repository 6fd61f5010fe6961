"""Where spots lie: how far apart, on which grid, in which unit, and in how many sections.

:func:`spot_spacing` is a length to compare displacements with, :func:`spot_side` one that squares
to an area; on a grid both are the pitch, for cells that lie irregularly the second is larger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..arguments import checked


def positions_of(adata: AnnData, key: str = "spatial") -> NDArray[np.float64]:
    """Return the coordinates of a slice as numbers, (n, 2)."""
    return np.asarray(adata.obsm[key], dtype=np.float64)[:, :2]


@checked
def spot_spacing(points: np.ndarray) -> float:
    """Typical distance of neighbouring spots: the mean over the nearest four, median over spots.

    On a square or hexagonal grid this is the pitch; for cells, which lie irregularly, it is
    steadier than the distance to the very nearest.
    """
    points = _in_a_plane(points)
    distances = cKDTree(points).query(points, k=min(5, len(points)))[0][:, 1:]
    return float(np.median(distances.mean(axis=1)))


@checked
def spot_side(points: NDArray) -> float:
    """Side of the square that a spot has to itself, in the unit of the coordinates.

    From the median distance r to the 10th neighbour, whose circle holds 10 spots: √(π r² / 10).
    Holes and ragged edges do not matter, as they would for area divided by number.

    Parameters
    ----------
    points
        (n, 2), two points at least.
    """
    points = _in_a_plane(points)
    k = min(10, len(points) - 1)
    reach = np.median(cKDTree(points).query(points, k=k + 1)[0][:, k])
    return float(reach * np.sqrt(np.pi / k))


def _in_a_plane(points: NDArray) -> NDArray:
    """Return positions as an array (n, 2 or 3) of two spots or more, else raise ValueError."""
    points = np.asarray(points)
    if points.ndim != 2 or len(points) < 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"points have shape {points.shape}: give (n, 2), two spots at least.")
    return points


def nearest_distance(points: NDArray) -> float:
    """Median distance from a spot to its nearest other spot: what crowding shows in first."""
    return float(np.median(cKDTree(points).query(points, 2)[0][:, 1]))


# -------------------------------------------------------------------------------------------------
# How long one unit of the coordinates is, and whether spots lie on a grid, if a slice tells.

_VISIUM_PITCH = 100.0  # µm, centre to centre
_TOLERANCE = 0.15  # of the pitch: more, and the six neighbours do not lie on a hexagon
_HEXAGON = ((0, 2), (1, 1), (1, -1))  # steps in row and column to three of the six neighbours


def on_visium_grid(adata: AnnData, spatial_key: str = "spatial") -> bool:
    """Say whether spots lie on a hexagonal Visium grid, by their numbers and their positions."""
    return _visium_pitch(adata, spatial_key) is not None


def _visium_pitch(adata: AnnData, spatial_key: str = "spatial") -> float | None:
    """Return the distance of touching spots, None for other slices."""
    if not {"array_row", "array_col"} <= set(adata.obs.columns) or spatial_key not in adata.obsm:
        return None
    index = adata.obs[["array_row", "array_col"]].apply(pd.to_numeric, errors="coerce").to_numpy()
    return grid_pitch(*index.T, np.asarray(adata.obsm[spatial_key], dtype=float))


def stated_micrometres_per_unit(adata: AnnData) -> float | None:
    """Return µm per unit of ``obsm["spatial"]`` that ``uns["genot"]`` states, None without it."""
    facts = adata.uns.get("genot", {})
    if "micrometres_per_unit" in facts:
        return float(facts["micrometres_per_unit"])
    return 1.0 if facts.get("spatial_unit") == "µm" else None


@checked
def micrometres_per_unit(adata: AnnData) -> float | None:
    """Return µm per unit of ``obsm["spatial"]``, None where nothing tells.

    Stated in ``uns["genot"]``; or from the pitch of a Visium grid; or stated by the scale factors
    of Visium HD, if the bins lie as far apart as these say.
    """
    stated = stated_micrometres_per_unit(adata)
    if stated is not None or "spatial" not in adata.obsm:
        return stated
    pitch = _visium_pitch(adata)
    if pitch is not None:
        nearest = nearest_distance(np.asarray(adata.obsm["spatial"], dtype=float))
        return _VISIUM_PITCH / (nearest if abs(nearest / pitch - 1) < _TOLERANCE else pitch)
    return _scale_of_pictures(adata)


def grid_pitch(rows: NDArray, columns: NDArray, points: NDArray) -> float | None:
    """Return the distance of touching spots on a Visium grid, None where there is no such grid."""
    # Neighbouring rows are shifted by half a spot, so Visium numbers every second column only.
    # Numbers alone are not believed: those of square bins may fill the same columns. So touching
    # spots have to be equally far apart in all three directions, as on a turned or warped grid.
    index = np.column_stack([rows, columns]).astype(float)
    if not np.isfinite(index).all() or (index % 1).any() or (index.sum(axis=1) % 2).any():
        return None
    place = pd.MultiIndex.from_arrays(index.astype(np.int64).T)
    if not place.is_unique:
        return None
    lengths = []
    for step in _HEXAGON:
        other = place.get_indexer(pd.MultiIndex.from_arrays((index + step).astype(np.int64).T))
        here = other >= 0
        lengths.append(np.hypot(*(points[other[here]] - points[here]).T))
    counts = [len(found) for found in lengths]
    if min(counts) == 0 or sum(counts) < max(3, len(points) // 4):
        return None
    middle = [float(np.median(found)) for found in lengths]
    pitch = float(np.median(np.concatenate(lengths)))
    spread = [np.median(np.abs(found - m)) for found, m in zip(lengths, middle, strict=True)]
    alike = max(abs(m - pitch) for m in middle) <= _TOLERANCE * pitch
    return pitch if pitch > 0 and alike and max(spread) <= _TOLERANCE * pitch else None


def columns_exchanged(rows: NDArray, columns: NDArray, points: NDArray) -> bool:
    """Say whether x and y of a grid of spots are exchanged."""
    # Rows of the array run down the image and columns to the right, or the whole is turned by half.
    # Where x follows the row *and* the frame is mirrored, which no turned image is, they are.
    index = np.column_stack([columns, rows, np.ones(len(rows))]).astype(float)
    if len(rows) < 3 or np.linalg.matrix_rank(index) < 3:
        return False
    steps = np.linalg.lstsq(index, np.asarray(points, dtype=float), rcond=None)[0][:2]
    length = np.linalg.norm(steps, axis=1)
    if (length == 0).any():
        return False
    turned = steps / length[:, None]  # rows: where a column leads to, where a row leads to
    crossed = min(abs(turned[0, 1]), abs(turned[1, 0])) > 0.9
    return bool(crossed and np.linalg.det(steps) < 0)


def pictures(adata: AnnData) -> dict[str, Mapping[str, Any]]:
    """Return the libraries in ``uns["spatial"]`` that hold images or scale factors."""
    stored = adata.uns.get("spatial")
    if not isinstance(stored, Mapping):
        return {}
    return {
        str(name): entry
        for name, entry in stored.items()
        if isinstance(entry, Mapping) and {"images", "scalefactors"} & set(entry)
        if all(isinstance(entry.get(key, {}), Mapping) for key in ("images", "scalefactors"))
    }


def own_pictures(adata: AnnData, name: str | None = None) -> dict[str, Mapping[str, Any]]:
    """Return the library of images that belongs to a slice; none where it is not clear."""
    libraries = pictures(adata)
    if len(libraries) < 2:
        return libraries
    names = [str(name or adata.uns.get("genot", {}).get("name", ""))]
    for column in ("library_id", "library", "sample", "section"):
        if column in adata.obs and adata.obs[column].nunique() == 1:
            names.append(str(adata.obs[column].iloc[0]))
    own = next((one for one in names if one in libraries), None)
    return {} if own is None else {own: libraries[own]}


def _scale_of_pictures(adata: AnnData) -> float | None:
    """Return µm per unit from the scale factors of Visium HD, if the positions bear it out."""
    if adata.n_obs < 2:
        return None
    found = set()
    for entry in pictures(adata).values():
        factors = entry.get("scalefactors", {})
        if not isinstance(factors, Mapping) or "microns_per_pixel" not in factors:
            continue
        try:
            scale, bin_size = float(factors["microns_per_pixel"]), factors.get("bin_size_um")
            nearest = nearest_distance(np.asarray(adata.obsm["spatial"], dtype=float))
            bins = None if bin_size is None else nearest / float(bin_size)
        except (TypeError, ValueError, ZeroDivisionError):
            continue
        if bins is None or abs(bins * scale - 1) < _TOLERANCE:
            found.add(scale)
        elif abs(bins - 1) < _TOLERANCE:  # positions are in µm already
            found.add(1.0)
    return found.pop() if len(found) == 1 else None


def squares(points: NDArray, side: float) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Sort points into squares of a grid: places (m, 2) of those in use, and the one of each."""
    if not 0 < side < np.inf:
        raise ValueError(f"side is {side!r}: give a positive length, in the unit of the positions.")
    place = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    places, member = np.unique(place, axis=0, return_inverse=True)
    return places, member.ravel()


# -------------------------------------------------------------------------------------------------
# Sections that were joined in one object: noticed, before their spots become neighbours.
#
# ``anndata.concat`` lays several sections into one frame, and a graph then joins spots of different
# sections, without an error. Three things tell: a column of sections, barcodes that occur once in
# each section, and places: sections that overlap lie closer to each other than their own spots do.
# Cell types are mixed in space as well, so a column alone is not enough.

_SECTION_NAME = re.compile(
    r"(.*[^a-z])?(sample|section|slice|slide|library|batch|donor|patient|subject|core|puck|chip|"
    r"array|capture|specimen|replicate|rep|orig|bregma|roi|animal|mouse|embryo|individual|dataset|"
    r"experiment|run|timepoint|block|stack|plane|depth|z|file|study|gsm|biopsy|image|scan|"
    r"cassette|lib|slides|tma)s?"
    r"([^a-z](id|ids|name|key|no|nr|number|num|label|index|code|area|ident|um))*[^a-z]*\d*"
)
_MOST_GROUPS = 200
# Columns of kinds of spots: rows sorted by them say nothing about sections.
_KINDS = ("type", "class", "cluster", "domain", "region", "label", "layer", "leiden", "louvain")
_KINDS += ("annotation", "truth", "niche", "lineage", "group_name")
# Nor do places: arrays are read row by row.
_PLACES = ("row", "col", "x", "y", "array_row", "array_col", "pxl_row", "pxl_col", "bin_row")
_PLACES += ("bin_col", "imagerow", "imagecol", "x_centroid", "y_centroid", "center_x", "center_y")
_FEWEST = 20  # spots that say something
_FEWEST_LENGTHS = 200  # spots that say how close is close
_SAMPLE = 3000
_NEIGHBOURS = 24
_NEARER = 0.8  # of the distance to the own section: more is chance
_CROSSED = 0.15  # share of spots that lie nearer to another section than to their own
_HARD_CORE = 0.5  # of the least distance within a section
_MOST_BLOCKS = 6  # of rows: spots at random need many more
_FEWEST_IN_BLOCK = 50
_SEPARATORS = "-_#:.|"


class Joined(NamedTuple):
    """What tells that a slice holds several sections."""

    sure: bool  # it does; False where it looks like it
    found: str  # in words
    key: str  # column of obs that tells the sections apart; empty where none does
    groups: NDArray[np.intp]  # (n,), number of the section of each spot


class _Nearest(NamedTuple):
    """The nearest spots of some spots all over the slice."""

    chosen: NDArray[np.intp]
    distances: NDArray[np.float64]
    neighbours: NDArray[np.intp]


def looks_like_sections(column: str) -> bool:
    """Say whether the name of a column is one that sections are told apart by."""
    plain = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", str(column)).lower().strip("_. ")
    return bool(_SECTION_NAME.fullmatch(plain))


def find_joined(adata: AnnData, points: NDArray) -> Joined | None:
    """Return the surest sign that several sections overlap in one frame; None where there is none.

    Nothing is looked for where ``uns["genot"]["one_section"]`` is True.
    """
    if len(points) < _FEWEST or adata.uns.get("genot", {}).get("one_section", False):
        return None
    nearest = _nearest(points)
    found = [
        *_by_columns(adata, nearest),
        *_by_barcodes(adata.obs_names, nearest),
        *_by_grid(adata, nearest),
    ]
    if found:
        first = next((one for one in found if one.sure), found[0])
        return first if first.key else first._replace(key=_column_like(adata, first.groups))
    return _by_rows(nearest, len(points))


def _column_like(adata: AnnData, groups: NDArray) -> str:
    """Return the column that makes the same groups; empty where none does."""
    for column, codes in _candidates(adata):
        if (
            len(np.unique(np.column_stack([codes, groups]), axis=0))
            == groups.max() + 1
            == (codes.max() + 1)
        ):
            return column
    return ""


def _nearest(points: NDArray) -> _Nearest:
    """Find the nearest spots of at most 3,000, the same ones whatever the order of the rows."""
    order = np.lexsort(points.T)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, _SAMPLE).astype(int))]
    k = min(_NEIGHBOURS + 1, len(points))
    distances, neighbours = cKDTree(points).query(points[chosen], k=k)
    own = neighbours == chosen[:, None]
    own[~own.any(axis=1), 0] = True  # a twin at the same place came first
    shape = (len(chosen), k - 1)
    return _Nearest(chosen, distances[~own].reshape(shape), neighbours[~own].reshape(shape))


def _overlap(nearest: _Nearest, groups: NDArray) -> tuple[bool, bool]:
    """Say whether groups lie over each other, and whether nearer than spots of one section can."""
    alike = groups[nearest.neighbours] == groups[nearest.chosen][:, None]
    far = 2 * nearest.distances[:, -1:]
    same = np.where(alike, nearest.distances, far).min(axis=1)
    other = np.where(~alike, nearest.distances, far).min(axis=1)
    crossed = float(np.mean(other < _NEARER * same)) >= _CROSSED
    close = np.quantile(other, 0.05) < _HARD_CORE * np.quantile(same, 0.02)
    return crossed, bool(crossed and close and len(same) >= _FEWEST_LENGTHS)


def _candidates(adata: AnnData) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield the columns of ``obs`` that name a few groups."""
    most = min(_MOST_GROUPS, max(2, adata.n_obs // 10))
    for column, values in adata.obs.items():
        if str(column).lower() in _PLACES or pd.api.types.is_datetime64_any_dtype(values.dtype):
            continue
        if pd.api.types.is_float_dtype(values.dtype) and not looks_like_sections(str(column)):
            there = values.dropna()
            if not (there == there.round()).all():
                continue
        try:
            codes, names = pd.factorize(values.astype(object))
        except TypeError:  # values that cannot be compared
            continue
        if 2 <= len(names) <= most:
            yield str(column), codes


def _by_columns(adata: AnnData, nearest: _Nearest) -> Iterator[Joined]:
    """Look at every column: by its name, by the order of rows, or by places too near each other."""
    for column, groups in _candidates(adata):
        crossed, close = _overlap(nearest, groups)
        n = int(groups.max()) + 1
        in_blocks = int((np.diff(groups) != 0).sum()) == n - 1
        if crossed and (looks_like_sections(column) or close):
            found = f"obs[{column!r}] tells {n} sections apart that lie over each other"
            yield Joined(True, found, column, groups)
        elif crossed and in_blocks and not any(word in column.lower() for word in _KINDS):
            found = (
                f"the rows of each of the {n} values of obs[{column!r}] follow one another, as in "
                "sections that were joined, and lie over each other"
            )
            yield Joined(False, found, column, groups)


def _by_barcodes(names: pd.Index, nearest: _Nearest) -> Iterator[Joined]:
    """Look for barcodes that occur once in each section, with another beginning or ending."""
    text = names.astype(str)
    for where, pattern in (
        ("ending", rf"^(?P<stem>.+)[{_SEPARATORS}](?P<mark>[^{_SEPARATORS}]+)$"),
        ("beginning", rf"^(?P<mark>[^{_SEPARATORS}]+)[{_SEPARATORS}](?P<stem>.+)$"),
    ):
        parts = text.str.extract(pattern)
        marks, kinds = pd.factorize(parts["mark"])
        most = min(_MOST_GROUPS, len(names) // 10)
        if not 2 <= len(kinds) <= most or (marks < 0).any() or parts["stem"].nunique() < 5:
            continue
        repeated = parts["stem"].duplicated(keep=False).mean()
        if repeated > 0.05 and _overlap(nearest, marks)[0]:
            example = ", ".join(map(repr, map(str, kinds[:3])))
            found = f"the same barcodes occur with {len(kinds)} {where}s ({example})"
            yield Joined(True, found, "", marks)
    again = text.str.replace(r"[-_.]\d+$", "", regex=True)
    twice = (again != text) & again.isin(text)  # made unique after joining
    if twice.mean() > 0.05 and _overlap(nearest, twice.astype(int))[0]:
        found = f"{twice.sum():,} barcodes occur again with a number behind them"
        yield Joined(True, found, "", twice.astype(np.intp))


def _by_grid(adata: AnnData, nearest: _Nearest) -> Iterator[Joined]:
    """Look for places of the array that are taken twice."""
    if not {"array_row", "array_col"} <= set(adata.obs):
        return
    table = adata.obs[["array_row", "array_col"]]
    twice = table.duplicated(keep=False)
    if twice.mean() < 0.05 or len(table.drop_duplicates()) < _FEWEST:
        return
    groups = table.groupby(["array_row", "array_col"], observed=True).cumcount().to_numpy()
    if groups.max() < _MOST_GROUPS and _overlap(nearest, groups)[0]:
        found = f"{twice.sum():,} spots share their place on the array with another one"
        yield Joined(True, found, "", groups.astype(np.intp))


def _by_rows(nearest: _Nearest, n: int) -> Joined | None:
    """Look for blocks of rows that explain all spots that lie too close to each other."""
    pitch = np.median(nearest.distances[:, : min(4, nearest.distances.shape[1])].max(axis=1))
    close = nearest.distances < _HARD_CORE * pitch
    first = np.broadcast_to(nearest.chosen[:, None], close.shape)[close]
    second = nearest.neighbours[close]
    if len(np.unique(first)) < 0.1 * len(nearest.chosen):
        return None
    low, high = np.minimum(first, second), np.maximum(first, second)
    cuts, order = [-1], np.argsort(high, kind="stable")
    for i, j in zip(low[order], high[order], strict=True):
        if i >= cuts[-1]:
            cuts.append(int(j))
            if len(cuts) > _MOST_BLOCKS:
                return None
    groups = np.searchsorted(np.array(cuts[1:]), np.arange(n), side="right")
    if np.bincount(groups).min() < _FEWEST_IN_BLOCK or not _overlap(nearest, groups)[1]:
        return None
    found = f"the rows fall into {len(cuts)} blocks that lie over each other"
    return Joined(True, found, "", groups)
