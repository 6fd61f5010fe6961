"""How far apart spots are: measures for different purposes.

:func:`spot_spacing` is the distance of neighbours, a length to compare displacements with.
:func:`spot_side` is the side of the square that a spot has to itself, a length that squares to an
area; on a grid both are the pitch, for cells that lie irregularly the second is larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..arguments import checked

__all__ = [
    "columns_exchanged",
    "grid_pitch",
    "micrometres_per_unit",
    "nearest_distance",
    "on_visium_grid",
    "own_pictures",
    "pictures",
    "spot_side",
    "spot_spacing",
    "squares",
    "stated_micrometres_per_unit",
]


@checked
def spot_spacing(points: np.ndarray) -> float:
    """Typical distance of neighbouring spots: the mean over the nearest four, median over spots.

    On a square or hexagonal grid this is the pitch; for cells, which lie irregularly, it is
    steadier than the distance to the very nearest.
    """
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
    k = min(10, len(points) - 1)
    reach = np.median(cKDTree(points).query(points, k=k + 1)[0][:, k])
    return float(reach * np.sqrt(np.pi / k))


def nearest_distance(points: NDArray) -> float:
    """Median distance from a spot to its nearest other spot: what crowding shows in first."""
    return float(np.median(cKDTree(points).query(points, 2)[0][:, 1]))


# -------------------------------------------------------------------------------------------------
# How long one unit of the coordinates is, and whether spots lie on a grid, if a slice tells.

_VISIUM_PITCH = 100.0  # µm, centre to centre
_TOLERANCE = 0.15  # of the pitch: more, and the six neighbours do not lie on a hexagon
_HEXAGON = ((0, 2), (1, 1), (1, -1))  # steps in row and column to three of the six neighbours


def on_visium_grid(adata: AnnData, spatial_key: str = "spatial") -> bool:
    """Say whether the spots lie on a hexagonal Visium grid, by their numbers and their positions."""
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
    index = np.column_stack([rows, columns]).astype(float)
    points = np.asarray(points, dtype=float)
    if not np.isfinite(index).all() or (index != np.rint(index)).any():
        return None
    if (index.sum(axis=1) % 2 != 0).any():
        return None
    place = pd.MultiIndex.from_arrays(index.astype(np.int64).T)
    if not place.is_unique:
        return None
    lengths = []
    for step in _HEXAGON:
        other = place.get_indexer(pd.MultiIndex.from_arrays((index + step).astype(np.int64).T))
        here = other >= 0
        if here.any():
            between = points[other[here]] - points[here]
            lengths.append(np.hypot(*between.T))
    if len(lengths) < len(_HEXAGON) or sum(map(len, lengths)) < max(3, len(points) // 4):
        return None
    middle = [float(np.median(found)) for found in lengths]
    pitch = float(np.median(np.concatenate(lengths)))
    spread = [np.median(np.abs(found - m)) for found, m in zip(lengths, middle, strict=True)]
    alike = max(abs(m - pitch) for m in middle) <= _TOLERANCE * pitch
    return pitch if pitch > 0 and alike and max(spread) <= _TOLERANCE * pitch else None


def columns_exchanged(rows: NDArray, columns: NDArray, points: NDArray) -> bool:
    """Say whether x and y of a grid of spots are exchanged."""
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
    }


def own_pictures(adata: AnnData, name: str | None = None) -> dict[str, Mapping[str, Any]]:
    """Return the library in ``uns["spatial"]`` that belongs to a slice; none where it is not clear."""
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
    entries = pictures(adata).values()
    if not entries or adata.n_obs < 2:
        return None
    found, nearest = set(), nearest_distance(np.asarray(adata.obsm["spatial"], dtype=float))
    for entry in entries:
        factors = entry.get("scalefactors", {})
        if not isinstance(factors, Mapping) or "microns_per_pixel" not in factors:
            continue
        try:
            scale, bin_size = float(factors["microns_per_pixel"]), factors.get("bin_size_um")
            if bin_size is None:
                found.add(scale)
                continue
            bins = nearest / float(bin_size)
        except (TypeError, ValueError, ZeroDivisionError):
            continue
        if abs(bins * scale - 1) < _TOLERANCE:
            found.add(scale)
        elif abs(bins - 1) < _TOLERANCE:
            found.add(1.0)
    return found.pop() if len(found) == 1 else None


# -------------------------------------------------------------------------------------------------
# Spots sorted into squares: the simplest way to look at a slice more coarsely.


def squares(points: NDArray, side: float) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Sort points into the squares of a grid that begins at the lowest x and y."""
    if not 0 < side < np.inf:
        raise ValueError(f"side is {side!r}: give a positive length, in the unit of the positions.")
    place = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    places, member = np.unique(place, axis=0, return_inverse=True)
    return places, member.ravel()
