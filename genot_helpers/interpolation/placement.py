"""Real spots for a generated slice: which one goes where.

Positions and the expression to be expected there are known (:mod:`genot_helpers.interpolation`).
What is expected is a mean; a slice made of means has no variance and no zeros, and no cell in it
could be a cell. So every position gets the unchanged expression of one real spot of either slice,
no spot twice, such that *around* every position the mean of the chosen spots follows what is
expected (kernel herding: Chen, Welling & Smola, UAI 2010, arXiv:1203.3472). With x_a(i) the
components of the spot chosen for position i, m_i those expected, and W averages over the 30 or 100
nearest positions, the choice a minimises::

    sum over averages W of  k_W |W (x_a - m)|^2                     local means are right
    - 2 lambda sum_i x_a(i) . (m_i - mean m)                        each spot leans its place's way
    + sum_i price(a(i))                                             the mixture of spots stays

The first term alone makes neighbours compensate each other, which costs spatial autocorrelation;
the second alone exaggerates it. Lambda is therefore steered, sweep by sweep, until the
autocorrelation (Moran's I of the components) is that of the two real slices. Prices do the same for
the population: a spot becomes dearer if spots of its kind are used more than their share, where
kind means components and their products, so that variances and gene-gene correlations stay.

The search replaces a spot by one of the nearest unused ones of the same slice, or swaps two,
whenever that lowers the sum (compiled by numba; Lam, Pitrou & Seibert 2015,
doi 10.1145/2833157.2833162).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from ..slices.spacing import spot_spacing

__all__ = ["Placement", "autocorrelation", "place_spots"]

AVERAGES = {30: 1.0, 100: 1.0}
"""Nearest positions that are averaged → weight of that average."""

_N_CANDIDATES = 30  # spots considered for each position
_N_SWEEPS = 14
_N_PRODUCTS = 20  # leading components whose products are kept as they are
_PRICE_RATE = 30.0
_FIRST_LAMBDA = 100.0
_LARGEST_LAMBDA = 1000.0  # where the target cannot be reached
_NEAREST = 8  # neighbours for Moran's I


class Placement(NamedTuple):
    """Which spot of the pool stands at each position.

    Attributes
    ----------
    chosen
        (n,) int64, rows of the pool, none twice.
    alignment_weight
        Lambda of the last sweep.
    autocorrelation
        Moran's I of the components after each sweep.
    target
        What it should be.
    n_changes
        Positions that changed their spot, for each sweep.
    """

    chosen: NDArray[np.int64]
    alignment_weight: float
    autocorrelation: list[float]
    target: float
    n_changes: list[int]


def autocorrelation(points: NDArray, embedding: NDArray) -> float:
    """Moran's I over the eight nearest neighbours, of all components together.

    Parameters
    ----------
    points
        (n, 2).
    embedding
        (n, d). Components count by their variance.
    """
    nearest = cKDTree(points).query(points, _NEAREST + 1)[1][:, 1:]
    return _autocorrelation(nearest, embedding)


def _autocorrelation(nearest: NDArray, embedding: NDArray) -> float:
    centred = embedding - embedding.mean(axis=0)
    around = sum(centred[column] for column in nearest.T) / nearest.shape[1]
    return float((centred * around).sum() / (centred**2).sum())


def place_spots(
    positions: NDArray,
    expected: NDArray,
    pool_points: NDArray,
    pool_embedding: NDArray,
    start: NDArray,
    *,
    pool_slice: NDArray,
    states: NDArray,
    expected_states: NDArray,
    target: float,
    anchor: float = 0.0,
    seed: int = 0,
    progress: bool | None = None,
) -> Placement:
    """Choose a real spot for every position.

    Parameters
    ----------
    positions
        (n, 2), where the generated spots are.
    expected
        (n, d), components expected there.
    pool_points, pool_embedding
        (p, 2) and (p, d), all real spots: where they would be in the generated slice's frame, and
        their components.
    start
        (n,) int, the choice to begin with, no spot twice. The share of either slice stays as here.
    pool_slice
        (p,) int, slice of each spot of the pool.
    states, expected_states
        (p, s) and (n, s), states of expression and their expected share, see
        :func:`genot_helpers.pairs.shared_space.expression_states`; averaged like the components, so
        that the mixture of cell types is right everywhere.
    target
        Moran's I to reach, see :func:`autocorrelation`.
    anchor
        Price of a spot away from its own place, for each squared spot spacing. Where little time
        passes between the slices, spots should stay where they are.
    seed
        Order in which positions are visited.
    progress
        Show a bar; None decides by whether anyone can see it.
    """
    rng = np.random.default_rng(seed)
    wanted = np.hstack([expected, expected_states]).astype(np.float32)
    features = np.hstack([pool_embedding, states]).astype(np.float32)
    lean = np.zeros_like(wanted)
    lean[:, : expected.shape[1]] = expected - expected.mean(axis=0)
    kinds = _kinds(pool_embedding)
    fair = _fair_share(kinds, pool_slice, start)

    # Scaled such that the squared distance is the price of not standing in one's own place.
    unit = np.sqrt(anchor) / spot_spacing(positions)
    places, homes = (unit * np.asarray(points) for points in (positions, pool_points))
    tree = cKDTree(positions)
    averaging = _averaging(tree)
    surroundings = averaging.indptr, averaging.indices, averaging.data, averaging.diagonal()
    nearest = tree.query(positions, _NEAREST + 1)[1][:, 1:]
    n_candidates = min(_N_CANDIDATES, len(pool_points))
    candidates = cKDTree(pool_points).query(positions, n_candidates)[1]
    chosen = np.asarray(start, dtype=np.int64).copy()
    owner = np.full(len(pool_points), -1, dtype=np.int64)
    owner[chosen] = np.arange(len(positions))

    weight, debt = _FIRST_LAMBDA, np.zeros(kinds.shape[1])
    price = np.zeros(len(pool_points), dtype=np.float32)
    reached, changes = [], []
    for sweep in tqdm(range(_N_SWEEPS), desc="placing spots", disable=progress_off(progress)):
        pull = averaging @ (features[chosen] - wanted)
        order = rng.permutation(len(positions))
        n_changes = _sweep(
            order, chosen, owner, candidates, features, lean, np.float32(weight), price,
            pool_slice, places, homes, surroundings, pull,
        )  # fmt: skip
        changes.append(n_changes)
        reached.append(_autocorrelation(nearest, pool_embedding[chosen]))
        if sweep < _N_SWEEPS - 1:
            missing = float(np.clip(target / max(reached[-1], 1e-3), 0.6, 1.6))
            weight = min(weight * missing**1.5, _LARGEST_LAMBDA)
            debt += kinds[chosen].mean(axis=0) - fair
            price = (_PRICE_RATE * (kinds @ debt)).astype(np.float32)
    return Placement(chosen, weight, reached, target, changes)


def progress_off(progress: bool | None) -> bool | None:
    """Translate ``progress`` into what tqdm calls ``disable``."""
    return None if progress is None else not progress


def _averaging(tree: cKDTree) -> sparse.csr_matrix:
    """Sum over the averages of k W'W: pull = this @ (x_a - m) is half the slope of the first term.

    A mean over k independent spots has 1 / k of their variance; the factor k makes up for it.
    """
    n, total = tree.n, None
    for k, weight in AVERAGES.items():
        k = min(k, n)
        distance, index = tree.query(tree.data, k)
        share = np.exp(-0.5 * (distance / (0.6 * distance[:, -1].mean())) ** 2)
        share /= share.sum(axis=1, keepdims=True)
        mean = sparse.csr_matrix(
            (share.ravel().astype(np.float32), index.ravel(), np.arange(0, n * k + 1, k)),
            shape=(n, n),
        )
        term = (mean.T @ mean) * np.float32(weight * k)
        total = term if total is None else total + term
    total = total.tocsr()
    total.sort_indices()
    return total


def _kinds(embedding: NDArray) -> NDArray[np.float32]:
    """Features whose mean over the chosen spots must not drift: components and their products."""
    leading = embedding[:, :_N_PRODUCTS]
    one, other = np.triu_indices(leading.shape[1])
    parts = []
    for values in (embedding, leading[:, one] * leading[:, other]):
        values = values - values.mean(axis=0)
        parts.append(values / np.sqrt((values**2).sum(axis=1).mean()))
    return np.hstack(parts).astype(np.float32)


def _fair_share(kinds, pool_slice, start) -> NDArray:
    """Mean of the kinds if every spot of a slice were equally likely, at the slices' shares."""
    slices, counts = np.unique(pool_slice[start], return_counts=True)
    means = [kinds[pool_slice == number].mean(axis=0, dtype=np.float64) for number in slices]
    return np.average(means, axis=0, weights=counts)


@numba.njit(cache=True)
def _sweep(
    order, chosen, owner, candidates, features, lean, weight, price, pool_slice,
    places, homes, surroundings, pull,
):  # fmt: skip
    """Visit every position once; replace or swap where that lowers the sum most.

    ``pull`` is kept up to date: what one change does to its surroundings is seen by the next.
    """
    starts, columns, shares, diagonal = surroundings
    n_changes = 0
    for i in order:
        now = chosen[i]
        best, best_gain = -1, -1e-6
        for j in candidates[i]:
            other = owner[j]
            if j == now or (other < 0 and pool_slice[j] != pool_slice[now]):
                continue
            square, slope = np.float32(0.0), np.float32(0.0)
            if other < 0:
                for k in range(features.shape[1]):
                    step = features[j, k] - features[now, k]
                    square += step * step
                    slope += step * (pull[i, k] - weight * lean[i, k])
                gain = diagonal[i] * square + 2 * slope + price[j] - price[now]
            else:
                shared = _entry(starts, columns, shares, i, other)
                for k in range(features.shape[1]):
                    step = features[j, k] - features[now, k]
                    square += step * step
                    pulls = pull[i, k] - pull[other, k]
                    slope += step * (pulls - weight * (lean[i, k] - lean[other, k]))
                gain = (diagonal[i] + diagonal[other] - 2 * shared) * square + 2 * slope
                gain += _away(places, other, homes, now) - _away(places, other, homes, j)
            gain += _away(places, i, homes, j) - _away(places, i, homes, now)
            if gain < best_gain:
                best, best_gain = j, gain
        if best >= 0:
            other = owner[best]
            _put(i, best, now, chosen, owner, features, surroundings, pull)
            if other >= 0:
                _put(other, now, best, chosen, owner, features, surroundings, pull)
            else:
                owner[now] = -1
            n_changes += 1
    return n_changes


@numba.njit(cache=True)
def _entry(starts, columns, shares, i, j):
    """Look up an entry of a sparse matrix with sorted columns; 0 where there is none."""
    low, high = starts[i], starts[i + 1]
    while low < high:
        middle = (low + high) // 2
        if columns[middle] < j:
            low = middle + 1
        else:
            high = middle
    return shares[low] if low < starts[i + 1] and columns[low] == j else np.float32(0.0)


@numba.njit(cache=True)
def _away(places, i, homes, j):
    """Price of spot j at position i."""
    return (places[i, 0] - homes[j, 0]) ** 2 + (places[i, 1] - homes[j, 1]) ** 2


@numba.njit(cache=True)
def _put(i, new, old, chosen, owner, features, surroundings, pull):
    """Put spot ``new`` at position i, where ``old`` was, and pass on what that changes."""
    starts, columns, shares, _ = surroundings
    chosen[i] = new
    owner[new] = i
    for p in range(starts[i], starts[i + 1]):
        for k in range(features.shape[1]):
            pull[columns[p], k] += shares[p] * (features[new, k] - features[old, k])
