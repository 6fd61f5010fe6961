"""Places of a generated slice: where they are, and what to expect there.

A coupling pairs spots of the left slice with spots of the right one. At position t a pair stands at
(1 - t) x_left + t x_right (McCann 1997, doi 10.1006/aima.1997.1634); a spot without partner at its
own place, with probability 1 - t if it is a left one and t if it is a right one. Top to bottom:
pairs, places and spacing; local means around them; a vote on the label; nearest spots.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.spatial import cKDTree

from ..preprocessing.preprocessing import normalise
from ..slices.geometry import nearest_distance
from ..slices.slices import SliceError, as_labels
from ..slices.values import holds_logarithms, plain_matrix
from ..transport.transport import Coupling, coupling_pairs

_TIGHT = 0.85  # of the real distance between neighbours; closer positions are pushed apart
_PUSHES = 30


class Pairs(NamedTuple):
    """Row of the left and of the right slice for each position; -1 for none."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]


def draw_pairs(coupling: Coupling, t: float, n_spots: int, rng: np.random.Generator) -> Pairs:
    """Draw n_spots pairs, or single spots without partner, from a coupling."""
    # Systematic sampling (Madow & Madow 1944, doi 10.1214/aoms/1177731312): the pairs lie on a
    # line, each as long as its mass, and are read off at equal steps; only the start is random. At
    # steps of one, a pair of mass one is drawn exactly once.
    left, right, mass = coupling_pairs(coupling)
    alone = (
        np.flatnonzero(coupling.left_unmatched > 0),
        np.flatnonzero(coupling.right_unmatched > 0),
    )
    none = [np.full(len(spots), -1) for spots in alone]
    lengths = np.concatenate(
        [
            mass,
            (1.0 - t) * coupling.left_unmatched[alone[0]],
            t * coupling.right_unmatched[alone[1]],
        ]
    )
    ends = np.cumsum(lengths)
    marks = (np.arange(n_spots) + rng.uniform(0.25, 0.75)) * ends[-1] / n_spots
    drawn = np.minimum(np.searchsorted(ends, marks), len(ends) - 1)
    return Pairs(
        np.concatenate([left, alone[0], none[1]])[drawn],
        np.concatenate([right, none[0], alone[1]])[drawn],
    )


def place_between(pairs: Pairs, left: NDArray, right: NDArray, t: float) -> NDArray[np.float64]:
    """Return the positions (n, 2) of pairs at t, from coordinates already warped to t."""
    positions = (1.0 - t) * left[pairs.left] + t * right[pairs.right]
    positions[pairs.right < 0] = left[pairs.left[pairs.right < 0]]
    positions[pairs.left < 0] = right[pairs.right[pairs.left < 0]]
    return positions


def roughen(
    positions: NDArray, wanted_spacing: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Move positions a little at random until neighbours are as close as in real slices."""
    # Midpoints of irregular spots are more regular than the spots, so nearest neighbours are too
    # far apart; random steps of the right size undo that. Grids are left alone.
    draws = rng.normal(size=positions.shape)
    if nearest_distance(positions) <= 1.005 * wanted_spacing:
        return positions
    steps = _directed(draws, positions)
    low, high = 0.0, 0.5 * wanted_spacing
    for _ in range(12):  # bisection: the larger the steps, the closer the nearest neighbour
        size = (low + high) / 2
        if nearest_distance(positions + size * steps) > wanted_spacing:
            low = size
        else:
            high = size
    return positions + low * steps


def _directed(draws: NDArray, positions: NDArray) -> NDArray[np.float64]:
    """Turn draws to point from the centre and across it, so that steps rotate with the slice."""
    along = positions - positions.mean(axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-300)
    return draws[:, :1] * along + draws[:, 1:] * along[:, ::-1] * (-1.0, 1.0)


def spread(
    positions: NDArray, wanted_spacing: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Push positions in tight groups apart until neighbours are as far apart as in real slices."""
    # In tissue that has grown, a spot has several partners, and the positions on the way to them
    # form a tight group, with gaps between groups. Neighbours that are too close push each other
    # apart in small steps. Other positions are left alone.
    enough = _TIGHT * wanted_spacing
    if nearest_distance(positions) >= enough:
        return positions
    draws = rng.normal(size=positions.shape)
    positions = positions + 1e-3 * wanted_spacing * _directed(draws, positions)
    for _ in range(_PUSHES):
        i, j = cKDTree(positions).query_pairs(wanted_spacing, output_type="ndarray").T
        way = positions[i] - positions[j]
        length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12 * wanted_spacing)
        push = 0.2 * (wanted_spacing - length) * way / length
        for axis in (0, 1):
            positions[:, axis] += np.bincount(i, push[:, axis], len(positions))
            positions[:, axis] -= np.bincount(j, push[:, axis], len(positions))
        if nearest_distance(positions) >= enough:
            break
    return positions


def first_choice(
    pairs: Pairs,
    positions: NDArray,
    pool_points: NDArray,
    n_left: int,
    t: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose a real spot (row of left stacked on right) for each position, none twice."""
    # A position wants one spot of its pair, the right one with probability t. If that is taken, it
    # gets the nearest free spot, of the same slice if there is one.
    right = np.where(pairs.right >= 0, n_left + pairs.right, -1)
    prefer_right = rng.random(len(positions)) < t
    wish = np.where(prefer_right, right, pairs.left)
    wish = np.where(wish < 0, np.maximum(right, pairs.left), wish)  # a spot without partner
    chosen = np.full(len(positions), -1, dtype=np.int64)
    _, once = np.unique(wish, return_index=True)  # the first position gets it
    chosen[once] = wish[once]
    free = np.ones(len(pool_points), dtype=bool)
    free[wish] = False
    is_right = np.arange(len(pool_points)) >= n_left
    while (chosen < 0).any():
        for side in (False, True):
            left_over = np.flatnonzero((chosen < 0) & ((wish >= n_left) == side))
            if not len(left_over):
                continue
            same = free & (is_right == side)
            rows = np.flatnonzero(same if same.any() else free)
            nearest = rows[cKDTree(pool_points[rows]).query(positions[left_over])[1]]
            _, once = np.unique(nearest, return_index=True)
            chosen[left_over[once]] = nearest[once]
            free[nearest[once]] = False
    return chosen


# -------------------------------------------------------------------------------------------------
# Local means: a kernel regression in space (Nadaraya 1964, doi 10.1137/1109020). A spot at distance
# d weighs exp(-d^2 / 2 h^2). The bandwidth h is the one at which each slice predicts the other
# best, or both together predict a spot of either.

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
    widest, errors = max(BANDWIDTHS) * spacing, np.zeros(len(BANDWIDTHS))
    pairs = (left_points, left_values), (right_points, right_values)
    for points, values, far_points, far_values, tried in _sides(*pairs, seed):
        sources = [(Nearest(far_points, points[tried], widest, spacing), far_values)]
        if from_both:
            own = Nearest(points, points[tried], widest, spacing, leave_out_nearest=True)
            sources.append((own, values))
        for number, width in enumerate(BANDWIDTHS):
            found = sum(spots.weights(width * spacing) @ v for spots, v in sources) / len(sources)
            errors[number] += _error(values[tried], found)
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
    own, other = [], []
    pairs = (left_points, left_values), (right_points, right_values)
    for points, values, far_points, far_values, tried in _sides(*pairs, seed):
        args = points[tried], bandwidth, spacing
        near = local_mean(points, values, *args, leave_out_nearest=True)
        own.append(_error(values[tried], near))
        other.append(_error(values[tried], local_mean(far_points, far_values, *args)))
    return float(np.mean(own)), float(max(np.mean(own), np.mean(other)))


def _sides(left: tuple, right: tuple, seed: int) -> Iterator[tuple]:
    """Yield points and values of a slice and of the other one, and the spots to try; both ways."""
    rng = np.random.default_rng(seed)
    for own, far in ((left, right), (right, left)):
        yield *own, *far, rng.permutation(len(own[0]))[:_MOST_TRIED]


def _error(values: NDArray, found: NDArray) -> float:
    """Mean squared distance."""
    return ((values - found) ** 2).sum(axis=1).mean()


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
# Labels: annotations are drawn by hand and their borders are a little off in every slice, so the
# neighbourhood in both slices votes. A vote favours large domains, so labels that win too few
# places get more weight (class priors: Saerens et al. 2002, doi 10.1162/089976602753284446).

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


def order_of_spots(adata: AnnData, points: NDArray) -> NDArray[np.intp]:
    """Sort the rows of a slice by name, then from neighbour to neighbour."""
    names = np.argsort(adata.obs_names.to_numpy(dtype=str), kind="stable")  # names are unique
    return names[chain_neighbours(points[names])]
