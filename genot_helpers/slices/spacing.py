"""How far apart spots are: measures for different purposes.

:func:`spot_spacing` is the distance of neighbours, a length to compare displacements with.
:func:`spot_side` is the side of the square that a spot has to itself, a length that squares to an
area; on a grid both are the pitch, for cells that lie irregularly the second is larger.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["nearest_distance", "spot_side", "spot_spacing"]


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
