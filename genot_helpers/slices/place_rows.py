"""Lines of the checklist about places: positions, spots that share one, stray ones, the unit.

See :mod:`genot_helpers.slices.inspection`; the slots are those of AnnData (Virshup et al. 2024,
https://doi.org/10.21105/joss.04371).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from .matrices import is_numeric
from .slices import Problem, check_positions
from .spacing import nearest_distance
from .units import micrometres_per_unit

__all__ = ["LOOK", "MEND", "OK", "Row", "counted", "mended_by", "place_rows"]

OK, LOOK, MEND = "ok", "look", "mend"

_MOST_STRAY = 5.0  # spacings to the nearest other spot
_FEWEST_GENES = 20  # shallower spots are alike by chance
_XY = (
    *(("x", "y"), ("x_centroid", "y_centroid"), ("center_x", "center_y"), ("xcoord", "ycoord")),
    *(("x_coord", "y_coord"), ("coord_x", "coord_y"), ("pxl_col_in_fullres", "pxl_row_in_fullres")),
    *(("centroid_x", "centroid_y"), ("x_location", "y_location"), ("imagecol", "imagerow")),
)


class Row(NamedTuple):
    """One line of the checklist."""

    check: str
    status: str
    found: str
    fix: str = ""


def counted(which: np.ndarray) -> str:
    """Say how many spots are meant."""
    n = int(which.sum())
    return f"{n:,} spot" + ("" if n == 1 else "s")


def mended_by(check: str, problems: Iterable[Problem]) -> list[Row]:
    """Turn what check_slice found into lines."""
    return [Row(check, MEND, f"{p.slot}: {p.found}", p.fix) for p in problems]


def place_rows(adata: AnnData, key: str) -> list[Row]:
    """Look at ``obsm[key]``; what depends on positions is left out where they are of no use."""
    problems = list(check_positions(adata, key))
    doubled = [p for p in problems if "share their position" in p.found]
    rows = mended_by("positions", [p for p in problems if p not in doubled])
    if rows:
        if "no coordinates" in rows[0].found:
            rows[0] = rows[0]._replace(fix=_positions_elsewhere(adata) or rows[0].fix)
        return rows
    points = np.asarray(adata.obsm[key], dtype=float)
    width, height = np.ptp(points, axis=0) if len(points) else (0.0, 0.0)
    rows = [Row("positions", OK, f"x and y for every spot; {width:,.4g} × {height:,.4g} units.")]
    if width == 0 or height == 0:
        fix = "a slice is flat, not a line: are these really x and y?"
        found = f"all spots on one line ({width:g} × {height:g} units)."
        rows = [Row("positions", LOOK, found, fix)]
    rows += mended_by("duplicates", doubled) or [_same_profiles(adata)]
    if adata.n_obs > 2 and not doubled:
        rows += [_stray(points), _unit(adata, points)]
    return rows


def _positions_elsewhere(adata: AnnData) -> str:
    """Name the slots or columns that look like positions."""
    flat = [k for k, v in adata.obsm.items() if np.ndim(v) == 2 and np.shape(v)[1] >= 2]
    flat = [k for k in flat if any(word in k.lower() for word in ("spatial", "coord", "position"))]
    if flat:
        return f"positions look to be in obsm[{flat[0]!r}]: `gh.set_positions(adata, {flat[0]!r})`."
    lower = {str(column).lower(): column for column in adata.obs}
    for x, y in _XY:
        if x in lower and y in lower:
            pair = lower[x], lower[y]
            return f"positions look to be in obs: `gh.set_positions(adata, {pair!r})`."
    return ""


def _same_profiles(adata: AnnData) -> Row:
    """Look for spots with exactly the same expression: a slice that was joined to itself."""
    good = "no two spots share a place or all of their expression."
    if adata.X is None or 0 in adata.shape or not is_numeric(adata.X):
        return Row("duplicates", OK, "no two spots share a place.")
    filled = np.asarray((adata.X != 0).sum(axis=1)).ravel() >= _FEWEST_GENES
    rng = np.random.default_rng(0)
    marks = np.asarray(adata.X @ rng.random((adata.n_vars, 2)))
    twice = pd.DataFrame(marks).duplicated(keep=False).to_numpy() & filled
    if not twice.any():
        return Row("duplicates", OK, good)
    found = f"{counted(twice)} with exactly the expression of another one."
    fix = "were two objects joined that hold the same spots? Keep one of each."
    return Row("duplicates", LOOK, found, fix)


def _stray(points: np.ndarray) -> Row:
    """Look for spots far from all others."""
    typical = nearest_distance(points)
    alone = cKDTree(points).query(points, 2)[0][:, 1] > _MOST_STRAY * typical
    if not alone.any():
        return Row("stray spots", OK, "none: every spot has a neighbour.")
    found = f"{counted(alone)} more than {_MOST_STRAY:g} spacings from any other."
    fix = "debris or a second piece of tissue? They have no true neighbours: look, or remove them."
    return Row("stray spots", LOOK, found, fix)


def _unit(adata: AnnData, points: np.ndarray) -> Row:
    spacing, scale = nearest_distance(points), micrometres_per_unit(adata)
    if scale is not None:
        found = f"one unit is {scale:.4g} µm; neighbours are {spacing * scale:,.4g} µm apart."
        return Row("unit of length", OK, found)
    found = f"not known; neighbours are {spacing:,.4g} units apart."
    fix = (
        "no scale bar, and lengths cannot be compared. If you know it: "
        "`adata.uns.setdefault('genot', {})['micrometres_per_unit'] = ...` "
        f"(if neighbours are 100 µm apart, it is {100 / spacing:.4g})."
    )
    return Row("unit of length", LOOK, found, fix)
