"""How far apart spots are: measures for different purposes.

:func:`spot_spacing` is the distance of neighbours, a length to compare displacements with.
:func:`spot_side` is the side of the square that a spot has to itself, a length that squares to an
area; on a grid both are the pitch, for cells that lie irregularly the second is larger.
"""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = [
    "micrometres_per_unit",
    "nearest_distance",
    "on_visium_grid",
    "spot_side",
    "spot_spacing",
    "squares",
    "stated_micrometres_per_unit",
]


def spot_spacing(points: np.ndarray) -> float:
    """Typical distance of neighbouring spots: the mean over the nearest four, median over spots.

    On a square or hexagonal grid this is the pitch; for cells, which lie irregularly, it is
    steadier than the distance to the very nearest.
    """
    distances = cKDTree(points).query(points, k=min(5, len(points)))[0][:, 1:]
    return float(np.median(distances.mean(axis=1)))


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
    """Median distance from a spot to its nearest other spot: what crowding shows in first.

    Parameters
    ----------
    points
        (n, 2), two points at least.
    """
    return float(np.median(cKDTree(points).query(points, 2)[0][:, 1]))


# -------------------------------------------------------------------------------------------------
# How long one unit of the coordinates is, and whether spots lie on a grid, if a slice tells.

_VISIUM_PITCH = 100.0  # µm, centre to centre


def on_visium_grid(adata: AnnData) -> bool:
    """Say whether the spots carry the numbering of a hexagonal Visium grid.

    Neighbouring rows are shifted by half a spot, so Visium numbers only every second column:
    row + column is even. Square grids (Visium HD) use every column and fail the test.
    """
    if not {"array_row", "array_col"} <= set(adata.obs.columns):
        return False
    index = adata.obs[["array_row", "array_col"]].to_numpy(dtype=float).sum(axis=1)
    return bool((index % 2 == 0).all())


def stated_micrometres_per_unit(adata: AnnData) -> float | None:
    """Return µm per unit of ``obsm["spatial"]`` that ``uns["genot"]`` states, None without it."""
    facts = adata.uns.get("genot", {})
    if "micrometres_per_unit" in facts:
        return float(facts["micrometres_per_unit"])
    return 1.0 if facts.get("spatial_unit") == "µm" else None


def micrometres_per_unit(adata: AnnData) -> float | None:
    """Return µm per unit of ``obsm["spatial"]``: stated, or from the pitch of a Visium grid.

    None where neither is known.
    """
    stated = stated_micrometres_per_unit(adata)
    if stated is None and {"array_row", "array_col"} <= set(adata.obs):
        return _VISIUM_PITCH / nearest_distance(adata.obsm["spatial"])
    return stated


# -------------------------------------------------------------------------------------------------
# Spots sorted into squares: the simplest way to look at a slice more coarsely.


def squares(points: NDArray, side: float) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Sort points into the squares of a grid that begins at the lowest x and y.

    Parameters
    ----------
    points
        (n, 2), coordinates.
    side
        Side of a square, in the unit of the coordinates.

    Returns
    -------
    places : ndarray of int, shape (m, 2)
        Column and row of every square that holds a point, sorted.
    member : ndarray of int, shape (n,)
        Number of the square that a point lies in, 0 to m - 1.

    Raises
    ------
    ValueError
        If ``side`` is not a positive number.
    """
    if not 0 < side < np.inf:
        raise ValueError(f"side is {side!r}: give a positive length, in the unit of the positions.")
    place = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    places, member = np.unique(place, axis=0, return_inverse=True)
    return places, member.ravel()
