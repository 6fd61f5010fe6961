"""Spots sorted into squares: the simplest way to look at a slice more coarsely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["squares"]


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
