"""Sections that were joined in one object: noticed, before their spots become neighbours.

``anndata.concat`` lays several sections into one frame. A spatial graph then joins spots of
different sections, and everything after it is wrong without an error. Three things tell: a column
that says which section a spot belongs to, barcodes that occur once in each section and differ in
their beginning or ending, and places: sections that overlap lie closer to each other than their
own spots do. Cell types are mixed in space as well, so a column alone is not enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Joined", "find_joined", "looks_like_sections"]

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
    """What tells that a slice holds several sections.

    Attributes
    ----------
    sure
        It does; False where it looks like it.
    found
        In words.
    key
        Column of ``obs`` that tells the sections apart; empty where none does.
    groups
        (n,), number of the section of each spot.
    """

    sure: bool
    found: str
    key: str
    groups: NDArray[np.intp]


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
    """Look for several sections that overlap in one frame."""
    if len(points) < _FEWEST or adata.uns.get("genot", {}).get("one_section", False):
        return None
    nearest = _nearest(points)
    found = [
        *_by_columns(adata, nearest),
        *_by_barcodes(adata.obs_names, nearest),
        *_by_grid(adata, nearest),
    ]
    sure = [one for one in found if one.sure]
    if sure or found:
        return (sure or found)[0]
    return _by_rows(nearest, len(points))


def _nearest(points: NDArray) -> _Nearest:
    """Find the nearest spots of at most 3,000, the same ones whatever the order of the rows."""
    order = np.lexsort(points.T)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, _SAMPLE).astype(int))]
    k = min(_NEIGHBOURS + 1, len(points))
    distances, neighbours = cKDTree(points).query(points[chosen], k=k)
    own = neighbours == chosen[:, None]
    own[~own.any(axis=1), 0] = True  # a twin at the same place came first
    kept = ~own
    shape = (len(chosen), k - 1)
    return _Nearest(chosen, distances[kept].reshape(shape), neighbours[kept].reshape(shape))


def _distances(nearest: _Nearest, groups: NDArray) -> tuple[NDArray, NDArray]:
    """Return the distance to the nearest spot of the own group and of any other group."""
    alike = groups[nearest.neighbours] == groups[nearest.chosen][:, None]
    far = 2 * nearest.distances[:, -1:]
    same = np.where(alike, nearest.distances, far).min(axis=1)
    other = np.where(~alike, nearest.distances, far).min(axis=1)
    return same, other


def _overlap(nearest: _Nearest, groups: NDArray) -> tuple[bool, bool]:
    """Say whether groups lie over each other, and whether nearer than spots of one section can."""
    same, other = _distances(nearest, groups)
    crossed = float(np.mean(other < _NEARER * same)) >= _CROSSED
    close = np.quantile(other, 0.05) < _HARD_CORE * np.quantile(same, 0.02)
    return crossed, bool(crossed and close and len(same) >= _FEWEST_LENGTHS)


def _names_kinds(column: str) -> bool:
    """Whether a column names kinds of spots, by which a reader may have sorted the rows."""
    return any(word in column.lower() for word in _KINDS)


def _candidates(adata: AnnData) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield the columns of ``obs`` that name a few groups."""
    most = min(_MOST_GROUPS, max(2, adata.n_obs // 10))
    for column in adata.obs.columns:
        if str(column).lower() in _PLACES:
            continue
        values = adata.obs[column]
        if pd.api.types.is_float_dtype(values.dtype):
            there = values.dropna()
            named = looks_like_sections(str(column))
            if not named and not (there == there.round()).all():
                continue
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
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
        if not crossed:
            continue
        n = int(groups.max()) + 1
        in_blocks = int((np.diff(groups) != 0).sum()) == n - 1
        if looks_like_sections(column) or close:
            found = f"obs[{column!r}] tells {n} sections apart that lie over each other"
            yield Joined(True, found, column, groups)
        elif in_blocks and not _names_kinds(column):
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
