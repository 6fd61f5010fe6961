"""Means over a neighbourhood of another slice: what to expect at a place.

A kernel regression in space (Nadaraya 1964, doi 10.1137/1109020; Watson 1964): the value at a place
is the mean over the nearest spots, with Gaussian weights. How wide the Gaussian is, is decided by
the slices themselves: the width at which each slice predicts the other one best, or both together
predict a spot of either.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.spatial import cKDTree

from ..preprocessing.preprocessing import normalise
from ..shared_features import holds_logarithms
from ..slices.values import plain_matrix

__all__ = [
    "Nearest",
    "chain_neighbours",
    "choose_bandwidth",
    "compare_errors",
    "expected_expression",
    "find_nearest",
    "local_mean",
    "local_weights",
    "n_threads",
]

BANDWIDTHS = (0.75, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0)
"""Widths that :func:`choose_bandwidth` tries, in spot spacings."""

_MOST_NEIGHBOURS = 150
_MOST_TRIED = 4000  # spots on which a width is judged


class Nearest:
    """The spots around places, found once, to be weighed with Gaussians of any width up to one.

    Parameters
    ----------
    points
        (n, 2), spots.
    places
        (m, 2), where means are wanted.
    widest
        Largest standard deviation that will be asked for, in the unit of the points.
    spacing
        Spot spacing; says how many spots lie within two bandwidths, at most 150 are used.
    leave_out_nearest
        Where the places are the spots: weigh the others.
    """

    def __init__(
        self,
        points: NDArray,
        places: NDArray,
        widest: float,
        spacing: float,
        *,
        leave_out_nearest: bool = False,
    ) -> None:
        self._spacing, self._skip, self._n = spacing, int(leave_out_nearest), len(points)
        distance, nearest = find_nearest(points, places, self._reach(widest))
        self._nearest = nearest[:, self._skip :]
        # Relative to the nearest spot, so that a place far from all has weights too.
        squared = distance[:, self._skip :] ** 2
        self._beyond = (squared - squared[:, :1]).astype(np.float32)

    def weights(self, bandwidth: float) -> sparse.csr_matrix:
        """Weigh them, see :func:`local_weights`."""
        k = self._reach(bandwidth) - self._skip
        weights = np.exp(self._beyond[:, :k] * np.float32(-0.5 / bandwidth**2))
        weights /= weights.sum(axis=1, keepdims=True)
        starts = np.arange(0, weights.size + 1, weights.shape[1], dtype=np.int32)
        shape = (len(weights), self._n)
        return sparse.csr_matrix((weights.ravel(), self._nearest[:, :k].ravel(), starts), shape)

    def _reach(self, bandwidth: float) -> int:
        """How many spots to look at, those left out included."""
        within = int(np.ceil(np.pi * (2.0 * bandwidth / self._spacing) ** 2)) + 1
        return min(max(within, 3) + self._skip, _MOST_NEIGHBOURS, self._n)


def local_weights(
    points: NDArray, places: NDArray, bandwidth: float, spacing: float, **options
) -> sparse.csr_matrix:
    """Weigh the spots around places with a Gaussian of their distance.

    Parameters
    ----------
    points, places, spacing, **options
        See :class:`Nearest`.
    bandwidth
        Standard deviation of the Gaussian, in the unit of the points.

    Returns
    -------
    scipy.sparse.csr_matrix of float32, shape (m, n)
        Rows sum to 1; times values of the spots, it gives local means.
    """
    return Nearest(points, places, bandwidth, spacing, **options).weights(bandwidth)


def local_mean(points, values, places, bandwidth, spacing, **options) -> NDArray[np.floating]:
    """Average values (n, d) of spots around places; see :func:`local_weights`."""
    return local_weights(points, places, bandwidth, spacing, **options) @ values


def choose_bandwidth(
    left_points: NDArray,
    right_points: NDArray,
    left_values: NDArray,
    right_values: NDArray,
    spacing: float,
    *,
    from_both: bool = False,
    seed: int = 0,
) -> float:
    """Find the width at which spots are predicted with the smallest squared error.

    Parameters
    ----------
    left_points, right_points
        (n, 2) and (m, 2), in one frame.
    left_values, right_values
        (n, d) and (m, d).
    spacing
        Spot spacing, the unit of :data:`BANDWIDTHS`.
    from_both
        Predict a spot from both slices in equal parts, from its own without itself. So it is for a
        place halfway: near enough to both for details to be worth keeping. Otherwise each slice is
        predicted from the other alone, which takes a wider mean.
    seed
        Which 4,000 spots of a larger slice are predicted.

    Returns
    -------
    float
        In the unit of the points.
    """
    rng = np.random.default_rng(seed)
    widest = max(BANDWIDTHS) * spacing
    sides = (left_points, left_values), (right_points, right_values)
    errors = np.zeros(len(BANDWIDTHS))
    for (points, values), (far_points, far_values) in (sides, sides[::-1]):
        tried = rng.permutation(len(points))[:_MOST_TRIED]
        sources = [(Nearest(far_points, points[tried], widest, spacing), far_values)]
        if from_both:
            own = Nearest(points, points[tried], widest, spacing, leave_out_nearest=True)
            sources.append((own, values))
        for number, width in enumerate(BANDWIDTHS):
            found = sum(spots.weights(width * spacing) @ v for spots, v in sources) / len(sources)
            errors[number] += ((values[tried] - found) ** 2).sum(axis=1).mean()
    return BANDWIDTHS[int(np.argmin(errors))] * spacing


def compare_errors(
    left_points: NDArray,
    right_points: NDArray,
    left_values: NDArray,
    right_values: NDArray,
    bandwidth: float,
    spacing: float,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """Compare how well the surroundings in the same and in the other slice predict a spot.

    Parameters
    ----------
    left_points, right_points, left_values, right_values, spacing, seed
        As for :func:`choose_bandwidth`.
    bandwidth
        Width of the mean.

    Returns
    -------
    own, other : float
        Mean squared error of the prediction from the other spots of the same slice, and from the
        other slice; the second is at least the first.
    """
    rng = np.random.default_rng(seed)
    own, other = [], []
    sides = (left_points, left_values), (right_points, right_values)
    for (points, values), (far_points, far_values) in (sides, sides[::-1]):
        tried = rng.permutation(len(points))[:_MOST_TRIED]
        args = points[tried], bandwidth, spacing
        near = local_mean(points, values, *args, leave_out_nearest=True)
        far = local_mean(far_points, far_values, *args)
        own.append(((values[tried] - near) ** 2).sum(axis=1).mean())
        other.append(((values[tried] - far) ** 2).sum(axis=1).mean())
    return float(np.mean(own)), float(max(np.mean(own), np.mean(other)))


def expected_expression(
    slices: Sequence[AnnData], weights: Sequence[sparse.csr_matrix], shares: Sequence[float]
) -> NDArray[np.float32]:
    """Average the expression around places over slices, on the scale of logarithms.

    Spots are brought to one depth, the median of all, first. Averaging logarithms keeps single deep
    spots from deciding; back from the logarithm each gene is multiplied by what makes its mean the
    mean of the spots, because exp(mean of logarithms) - 1 falls short of it. Slices that hold
    logarithms stay logarithms.

    Parameters
    ----------
    slices
        With the same genes in the same order.
    weights
        (m, n) for each slice, see :func:`local_weights`.
    shares
        How much each slice counts; they sum to 1.

    Returns
    -------
    ndarray of float32, shape (m, genes)
        In the unit of ``X``, for a spot of the median depth.
    """
    plain = [AnnData(sparse.csr_matrix(plain_matrix(a.X)), var=a.var[[]]) for a in slices]
    logged = holds_logarithms(plain[0])
    if not logged:
        normalise(plain)
    values = [a.X if logged else a.layers["log1p"] for a in plain]
    mean = sum(s * (w @ v) for s, w, v in zip(shares, weights, values, strict=True))
    mean = mean.toarray().astype(np.float32)
    if logged:
        return mean
    mean = np.expm1(mean)
    wanted = sum(
        share * np.asarray(np.expm1(v).mean(axis=0)).ravel()
        for share, v in zip(shares, values, strict=True)
    )
    found = mean.mean(axis=0)
    return mean * np.where(found > 0, wanted / np.maximum(found, 1e-12), 1.0).astype(np.float32)


# -------------------------------------------------------------------------------------------------
# Nearest spots, found once and on all processors; and an order in which neighbours are together.
#
# Neither changes any result: they are about where the time goes. A search over a hundred thousand
# spots waits for memory most of the time, unless what is near in space is near in memory.

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
