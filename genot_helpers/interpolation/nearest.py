"""Nearest spots, found once and on all processors; and an order in which neighbours are together.

Neither changes any result: they are about where the time goes. A search over a hundred thousand
spots waits for memory most of the time, unless what is near in space is near in memory.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.spatial import cKDTree

__all__ = ["chain_neighbours", "find_nearest", "n_threads"]

_LINKED = 8  # nearest spots that are to be close in memory
_TIE = 1e-6  # distances this close to each other are the same


def n_threads() -> int:
    """Return how many threads to use: ``OMP_NUM_THREADS``, or one for each processor."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    usable = getattr(os, "sched_getaffinity", None)  # Linux only: what a job may use of a machine
    return len(usable(0)) if usable else os.cpu_count() or 1


def find_nearest(
    points: NDArray, places: NDArray, k: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Find the k nearest points of every place.

    Parameters
    ----------
    points
        (n, 2).
    places
        (m, 2).
    k
        1 to n.

    Returns
    -------
    distance, nearest
        (m, k) each, nearest first.
    """
    tree = cKDTree(points)
    distance, nearest = tree.query(places, np.arange(1, k + 1), workers=n_threads())
    return distance, nearest.astype(np.int32)


def chain_neighbours(points: NDArray) -> NDArray[np.int64]:
    """Order spots such that neighbours come soon after each other.

    From neighbour to neighbour (Cuthill & McKee 1969, doi 10.1145/800195.805928), so that the order
    stays the same when the spots are turned. Of neighbours at one distance, as on a grid, all are
    linked or none: rounding is not to decide which.

    Parameters
    ----------
    points
        (n, 2).

    Returns
    -------
    ndarray of int64, shape (n,)
        A permutation of the rows.
    """
    n = len(points)
    k = min(_LINKED + 2, n)
    distance, nearest = find_nearest(points, points, k)
    linked = distance < (1.0 - _TIE) * distance[:, -1:]
    starts = np.concatenate([[0], np.cumsum(linked.sum(axis=1))])
    links = sparse.csr_matrix(
        (np.ones(starts[-1], dtype=bool), nearest[linked], starts), shape=(n, n)
    )
    links = (links + links.T).tocsr()
    links.sort_indices()  # of links to equally many, the first is followed
    return reverse_cuthill_mckee(links, symmetric_mode=True).astype(np.int64)
