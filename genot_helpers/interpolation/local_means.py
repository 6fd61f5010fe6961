"""What to expect at a place: local means of expression, and a vote on the label.

Top to bottom:

- means: a kernel regression in space (Nadaraya 1964, doi 10.1137/1109020; Watson 1964). With d the
  distance of a spot from the place, h the bandwidth::

      weight of a spot  ~  exp(-d^2 / 2 h^2),   expected value  =  weighted mean of the spots

  The bandwidth is the one at which each slice predicts the other best, or both together predict a
  spot of either (:func:`choose_bandwidth`);
- expression of all genes, averaged on the scale of logarithms (:func:`expected_expression`);
- labels (:class:`CarriedLabels`): annotations are drawn by hand and their borders are a little off
  in every slice, so the neighbourhood in both slices votes. A vote favours large domains: a thin
  layer loses places to its thick neighbours. Labels that win too few places get more weight until
  each has its share (a correction of class priors: Saerens, Latinne & Decaestecker 2002,
  doi 10.1162/089976602753284446);
- nearest spots, found with all processors, and an order of spots that saves memory access.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.spatial import cKDTree

from ..preprocessing.preprocessing import normalise
from ..slices.slices import SliceError, as_labels
from ..slices.values import holds_logarithms, plain_matrix

__all__ = [
    "BANDWIDTHS",
    "CarriedLabels",
    "Nearest",
    "chain_neighbours",
    "choose_bandwidth",
    "compare_errors",
    "expected_expression",
    "find_nearest",
    "keep_composition",
    "local_mean",
    "local_weights",
    "n_threads",
    "prepare_labels",
]

BANDWIDTHS = (0.75, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0)
"""Widths that :func:`choose_bandwidth` tries, in spot spacings."""

_MOST_NEIGHBOURS = 150
_MOST_TRIED = 4000  # spots on which a width is judged


class Nearest:
    """Spots (n, 2) around places (m, 2), found once, weighed with Gaussians up to ``widest``."""

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
        """Return the weights as (m, n) sparse float32; rows sum to 1."""
        k = self._reach(bandwidth) - self._skip
        weights = np.exp(self._beyond[:, :k] * np.float32(-0.5 / bandwidth**2))
        weights /= weights.sum(axis=1, keepdims=True)
        starts = np.arange(0, weights.size + 1, weights.shape[1], dtype=np.int32)
        shape = (len(weights), self._n)
        return sparse.csr_matrix((weights.ravel(), self._nearest[:, :k].ravel(), starts), shape)

    def _reach(self, bandwidth: float) -> int:
        """Count the spots within two bandwidths, at most 150, with those that are left out."""
        within = int(np.ceil(np.pi * (2.0 * bandwidth / self._spacing) ** 2)) + 1
        return min(max(within, 3) + self._skip, _MOST_NEIGHBOURS, self._n)


def local_weights(
    points: NDArray, places: NDArray, bandwidth: float, spacing: float, **options
) -> sparse.csr_matrix:
    """Weigh spots (n, 2) around places (m, 2): sparse float32 (m, n), rows sum to 1."""
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
    """Find the width, of :data:`BANDWIDTHS` spacings, that predicts spots with the least error."""
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
    """Mean squared error of predicting spots from their own slice and from the other one."""
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
    """Average expression around places, given (m, n) weights and a share of each slice."""
    # Counts are scaled to the median depth, then averaged as logarithms, so that single deep spots
    # do not dominate. exp(mean of logarithms) - 1 is too small, so each gene is multiplied by the
    # factor that restores its mean over spots. Slices of logarithms stay logarithms.
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
# Labels: a vote of the neighbourhood in both slices.

_LOST = 0.25  # of the places have another label than the shares say: the vote has failed
_LARGEST_WEIGHT = 3.0  # of a label in the vote; the smallest is 1
_STEPS = np.geomspace(0.5, 0.02, 40)
_FLOOR = 1e-3  # share below which nothing is corrected much


def prepare_labels(
    left: AnnData,
    right: AnnData,
    key: str,
    middle: tuple[NDArray, NDArray],
    spacing: float,
    *,
    seed: int = 0,
) -> CarriedLabels:
    """Read the labels of both slices and decide how the vote is taken."""
    labels = [as_labels(adata.obs[key]) for adata in (left, right)]
    names = [str(name) for name in pd.unique(np.concatenate([c.cat.categories for c in labels]))]
    if not names:
        raise SliceError(
            f"obs[{key!r}] names no spot in either slice. Name another column, or pass "
            "label_key=None to carry no labels."
        )
    columns = [column.astype(object).to_numpy() for column in labels]
    votes = tuple((column[:, None] == np.array(names)).astype(float) for column in columns)
    bandwidth = choose_bandwidth(*middle, *votes, spacing, seed=seed)
    errors = compare_errors(*middle, *votes, bandwidth, spacing, seed=seed)
    return CarriedLabels(key, names, votes, bandwidth, *errors)


class CarriedLabels(NamedTuple):
    """Labels of two slices as votes, and how the votes are counted."""

    key: str  # column of obs
    names: list[str]  # all labels of both slices
    # (n, k) and (m, k): 1 for the label of a spot; a row of zeros for a spot without label
    votes: tuple[NDArray[np.float64], NDArray[np.float64]]
    bandwidth: float  # width of the vote, in the unit of the coordinates
    # mean squared error of predicting labels from the same slice, and from the other one
    own_error: float
    other_error: float

    def weights(self, t: float) -> tuple[float, float]:
        """Weigh both slices at position t by the inverse of their error there."""
        # The error grows from own_error at the slice itself to other_error at the other slice. As
        # own_error is above 0, the farther slice weighs more than its share of t.
        growth = self.other_error - self.own_error
        left, right = (1.0 / max(self.own_error + growth * far, 1e-9) for far in (t, 1.0 - t))
        return left / (left + right), right / (left + right)

    def composition(self, t: float) -> NDArray[np.float64]:
        """Share of each label among labelled spots, at position t between both slices."""
        shares = [votes.sum(axis=0) for votes in self.votes]
        weights = [w * (s.sum() > 0) for w, s in zip((1.0 - t, t), shares, strict=True)]
        if not sum(weights):  # an end without annotation
            weights = [float(s.sum() > 0) for s in shares]
        mixed = sum(w * s / max(s.sum(), 1.0) for w, s in zip(weights, shares, strict=True))
        return mixed / mixed.sum()

    def carry(
        self, t: float, around: tuple[sparse.csr_matrix, sparse.csr_matrix]
    ) -> tuple[pd.Categorical, NDArray[np.float64]]:
        """Vote at places, given weights (p, n) and (p, m): labels, and their share of the vote."""
        shares = sum(
            weight * (spots @ votes)
            for weight, spots, votes in zip(self.weights(t), around, self.votes, strict=True)
        )
        total = shares.sum(axis=1)
        winner = np.full(len(shares), -1)
        winner[total > 0] = keep_composition(shares[total > 0], self.composition(t))
        confidence = shares[np.arange(len(shares)), winner] / np.maximum(total, 1e-12)
        return pd.Categorical.from_codes(winner, categories=self.names), confidence

    def is_lost(self, labels: pd.Categorical, t: float) -> bool:
        """Whether the vote lost the mixture of labels: in small, noisy sections one takes all."""
        found = np.bincount(labels.codes[labels.codes >= 0], minlength=len(self.names))
        shares = found / max(found.sum(), 1)
        return bool(0.5 * np.abs(shares - self.composition(t)).sum() > _LOST)


def keep_composition(shares: NDArray, wanted: NDArray) -> NDArray[np.int64]:
    """Choose labels from votes (p, k) such that each label gets its wanted share of the places."""
    # A label that wins too few places has all its votes multiplied by one weight, at most 3, found
    # step by step; no label loses weight.
    winner, weights = shares.argmax(axis=1), np.zeros(len(wanted))
    limit = np.log(_LARGEST_WEIGHT)
    for step in _STEPS:
        found = np.bincount(winner, minlength=len(wanted)) / max(len(winner), 1)
        if np.abs(found - wanted).max() * len(winner) < 0.5:  # less than half a place off
            break
        missing = np.log(wanted + _FLOOR) - np.log(found + _FLOOR)
        weights = np.minimum(weights + step * np.maximum(missing, 0.0), limit)
        winner = (shares * np.exp(weights)).argmax(axis=1)
    return winner


# -------------------------------------------------------------------------------------------------
# Nearest spots on all processors, and an order in which neighbours follow each other. A search over
# 100,000 spots mostly waits for memory, unless spots near in space are near in memory.

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
    """Find the k nearest points of every place."""
    tree = cKDTree(points)
    distance, nearest = tree.query(places, np.arange(1, k + 1), workers=n_threads())
    return distance, nearest.astype(np.int32)


def chain_neighbours(points: NDArray) -> NDArray[np.int64]:
    """Sort spots (n, 2) such that neighbours follow each other: a permutation of the rows."""
    # From neighbour to neighbour (Cuthill & McKee 1969, doi 10.1145/800195.805928): the order does
    # not change when the slice is rotated. Neighbours at one distance, as on a grid, are all linked
    # or none, so that rounding does not decide which.
    n = len(points)
    k = min(_LINKED + 2, n)
    distance, nearest = find_nearest(points, points, k)
    linked = distance < (1.0 - _TIE) * distance[:, -1:]
    starts = np.concatenate([[0], np.cumsum(linked.sum(axis=1))])
    links = sparse.csr_matrix(
        (np.ones(starts[-1], dtype=bool), nearest[linked], starts), shape=(n, n)
    )
    links = (links + links.T).tocsr()
    links.sort_indices()  # ties are broken by the lowest row
    return reverse_cuthill_mckee(links, symmetric_mode=True).astype(np.int64)
