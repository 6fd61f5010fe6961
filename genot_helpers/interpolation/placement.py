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
whenever that lowers the sum: :mod:`genot_helpers.interpolation.placement_search`.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..runtime import progress_off
from ..slices.geometry import spot_spacing
from .local_means import chain_neighbours, find_nearest

__all__ = [
    "AVERAGES",
    "Placement",
    "Prices",
    "Surroundings",
    "autocorrelation",
    "lay_out",
    "place_spots",
    "sweep",
    "visiting_order",
    "weigh_surroundings",
]

_N_CANDIDATES = 30  # spots considered for each position
_N_SWEEPS = 14
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


@threadpool_limits.wrap(limits=1)  # the search takes one step after the other
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
    rows, pool_rows = lay_out(positions, pool_points)
    problem = _Problem(
        positions=positions[rows],
        expected=expected[rows],
        pool_points=pool_points[pool_rows],
        pool_embedding=pool_embedding[pool_rows],
        start=np.argsort(pool_rows)[start[rows]],
        pool_slice=pool_slice[pool_rows],
        states=states[pool_rows],
        expected_states=expected_states[rows],
        target=target,
        anchor=anchor,
    )
    placement = _search(problem, np.random.default_rng(seed), progress)
    chosen = np.empty_like(placement.chosen)
    chosen[rows] = pool_rows[placement.chosen]
    return placement._replace(chosen=chosen)


class _Problem(NamedTuple):
    """What :func:`place_spots` is given, laid out such that neighbours are close in memory."""

    positions: NDArray
    expected: NDArray
    pool_points: NDArray
    pool_embedding: NDArray
    start: NDArray
    pool_slice: NDArray
    states: NDArray
    expected_states: NDArray
    target: float
    anchor: float


def _search(given: _Problem, rng: np.random.Generator, progress: bool | None) -> Placement:
    """Sweep over all positions, again and again, and steer lambda and prices in between."""
    wanted = np.hstack([given.expected, given.expected_states]).astype(np.float32)
    features = np.hstack([given.pool_embedding, given.states]).astype(np.float32)
    lean = np.zeros_like(wanted)
    lean[:, : given.expected.shape[1]] = given.expected - given.expected.mean(axis=0)
    prices = Prices(given.pool_embedding, given.pool_slice, given.start)

    n, n_pool = len(given.positions), len(given.pool_points)
    # Scaled such that the squared distance is the price of not standing in one's own place.
    unit = np.sqrt(given.anchor) / spot_spacing(given.positions)
    places, homes = unit * given.positions, unit * given.pool_points
    surroundings = weigh_surroundings(given.positions)
    nearest = cKDTree(given.positions).query(given.positions, _NEAREST + 1)[1][:, 1:]
    candidates = cKDTree(given.pool_points).query(given.positions, min(_N_CANDIDATES, n_pool))[1]
    chosen = given.start.copy()
    owner = np.full(n_pool, -1, dtype=np.int64)
    owner[chosen] = np.arange(n)

    weight, price = np.float32(_FIRST_LAMBDA), np.zeros(n_pool, dtype=np.float32)
    slope = surroundings @ (features[chosen] - wanted) - weight * lean
    reached, changes = [], []
    for number in tqdm(range(_N_SWEEPS), desc="placing spots", disable=progress_off(progress)):
        changes.append(sweep(
            visiting_order(n, rng), chosen, owner, candidates, features, price,
            given.pool_slice, places, homes, surroundings, slope,
        ))  # fmt: skip
        reached.append(_autocorrelation(nearest, given.pool_embedding[chosen]))
        if number < _N_SWEEPS - 1:
            missing = float(np.clip(given.target / max(reached[-1], 1e-3), 0.6, 1.6))
            before, weight = weight, np.float32(min(weight * missing**1.5, _LARGEST_LAMBDA))
            slope += (before - weight) * lean
            price = prices.after(chosen)
    return Placement(chosen, float(weight), reached, given.target, changes)


# -------------------------------------------------------------------------------------------------
# The search behind :mod:`genot_helpers.interpolation.placement`: one spot exchanged at a time.
#
# What a change costs is known without adding anything up, because the slope of the sum is kept:
# for every position and every feature, how much the sum grows with it. A change at one position
# alters the slope at the few hundred positions whose averages it enters, and nowhere else. So a
# visit takes the same time whatever the number of spots; and positions that are close to each
# other are close in memory and are visited soon after each other, because waiting for memory would
# be most of the work.
#
# Compiled by numba (Lam, Pitrou & Seibert 2015, doi 10.1145/2833157.2833162). Sums over features
# may be added up in any order, which lets the processor add several at once; the order is fixed
# when the code is compiled, so the result is the same again and again.

AVERAGES = {30: 1.0, 100: 1.0}
"""Nearest positions that are averaged → weight of that average."""

_BLOCK = 512  # positions visited one after the other, before the next block
_ANY_ORDER = {"reassoc", "contract", "nsz"}  # of additions; nothing else is given up


class Surroundings(NamedTuple):
    """Sum over the averages of k W'W as a sparse matrix, row by row, and its diagonal.

    Times (x_a - m) it is half the slope of the first term of the sum. It is symmetric.
    """

    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    shares: NDArray[np.float32]
    diagonal: NDArray[np.float32]

    def __matmul__(self, values: NDArray) -> NDArray[np.float32]:
        """Multiply with values (n, d)."""
        n = len(self.diagonal)
        matrix = sparse.csr_matrix((self.shares, self.columns, self.starts), shape=(n, n))
        return matrix @ values


def weigh_surroundings(positions: NDArray) -> Surroundings:
    """Make the :class:`Surroundings` of positions (n, 2).

    A mean over k independent spots has 1 / k of their variance; the factor k makes up for it.
    """
    n, roots = len(positions), []
    distance, nearest = find_nearest(positions, positions, min(max(AVERAGES), n))
    for k, weight in AVERAGES.items():
        k = min(k, n)
        share = np.exp(-0.5 * (distance[:, :k] / (0.6 * distance[:, k - 1].mean())) ** 2)
        share *= np.sqrt(weight * k) / share.sum(axis=1, keepdims=True)
        rows = share.astype(np.float32).ravel(), nearest[:, :k].ravel()
        starts = np.arange(0, n * k + 1, k, dtype=np.int32)
        roots.append(sparse.csr_matrix((*rows, starts), shape=(n, n)))
    root = sparse.vstack(roots, format="csr")  # with all averages at once, k W'W is one product
    product = root.T.tocsr() @ root
    product.sort_indices()
    return Surroundings(product.indptr, product.indices, product.data, product.diagonal())


def lay_out(positions: NDArray, pool_points: NDArray) -> tuple[NDArray, NDArray]:
    """Order positions, and the pool like the positions nearest to its spots.

    Returns
    -------
    rows, pool_rows : ndarray of int64
        Permutations in which neighbours are close to each other.
    """
    rows = chain_neighbours(positions)
    nearest = find_nearest(positions, pool_points, 1)[1][:, 0]
    return rows, np.argsort(np.argsort(rows)[nearest], kind="stable")


def visiting_order(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of a sweep: blocks at random, and the positions of a block at random."""
    order = rng.permutation(n)
    rank = rng.permutation(-(-n // _BLOCK))
    return order[np.argsort(rank[order // _BLOCK], kind="stable")]


@numba.njit(cache=True, fastmath=_ANY_ORDER)
def sweep(
    order, chosen, owner, candidates, features, price, pool_slice, places, homes, surroundings,
    slope,
):  # fmt: skip
    """Visit positions in order; at each, replace or swap where that lowers the sum most.

    Parameters
    ----------
    order
        (n,) int64, rows of the positions.
    chosen, owner
        (n,) and (p,) int64, spot of each position, and position of each spot (-1 if it is free).
        Both are brought up to date.
    candidates
        (n, c) int64, spots to be considered at each position.
    features
        (p, d) float32.
    price, pool_slice
        (p,), price and slice of each spot.
    places, homes
        (n, 2) and (p, 2), scaled such that their squared distance is the price of standing there.
    surroundings
        See :class:`Surroundings`.
    slope
        (n, d) float32, half the slope of all terms that depend on features. It is kept up to
        date: what one change does to its surroundings is seen by the next.

    Returns
    -------
    How many positions changed their spot by themselves (the other side of a swap not counted).
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
            square, along = np.float32(0.0), np.float32(0.0)
            if other < 0:
                for k in range(features.shape[1]):
                    step = features[j, k] - features[now, k]
                    square += step * step
                    along += step * slope[i, k]
                gain = diagonal[i] * square + 2 * along + price[j] - price[now]
            else:
                for k in range(features.shape[1]):
                    step = features[j, k] - features[now, k]
                    square += step * step
                    along += step * (slope[i, k] - slope[other, k])
                shared = _entry(starts, columns, shares, i, other)
                gain = (diagonal[i] + diagonal[other] - 2 * shared) * square + 2 * along
                gain += _away(places, other, homes, now) - _away(places, other, homes, j)
            gain += _away(places, i, homes, j) - _away(places, i, homes, now)
            if gain < best_gain:
                best, best_gain = j, gain
        if best >= 0:
            other = owner[best]
            _put(i, best, now, chosen, owner, features, surroundings, slope)
            if other >= 0:
                _put(other, now, best, chosen, owner, features, surroundings, slope)
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


@numba.njit(cache=True, fastmath=_ANY_ORDER)
def _put(i, new, old, chosen, owner, features, surroundings, slope):
    """Put spot ``new`` at position i, where ``old`` was, and pass on what that changes."""
    starts, columns, shares, _ = surroundings
    chosen[i] = new
    owner[new] = i
    step = features[new] - features[old]
    for p in range(starts[i], starts[i + 1]):
        row, share = columns[p], shares[p]
        for k in range(features.shape[1]):
            slope[row, k] += share * step[k]


# -------------------------------------------------------------------------------------------------
# What a spot costs, so that the chosen spots stay a fair sample of all there are.
#
# Picking spots that suit their place favours some kinds of spots over others, and variances and
# gene-gene correlations drift. So whatever is used more than its share becomes dearer from sweep
# to sweep, where kinds are told apart by the components and by the products of the leading ones:
# means of products are variances and correlations.

_N_PRODUCTS = 20  # leading components whose products are kept as they are
_RATE = 30.0


class Prices:
    """Prices that rise with what has been used too much so far.

    Parameters
    ----------
    embedding
        (p, d), components of all spots of the pool.
    pool_slice
        (p,) int, slice of each.
    start
        (n,) int, a choice with the right share of each slice. The target is the mean if every spot
        of a slice were equally likely, at these shares.
    """

    def __init__(self, embedding: NDArray, pool_slice: NDArray, start: NDArray) -> None:
        self._embedding = np.asarray(embedding, dtype=np.float32)
        centred = self._embedding - self._embedding.mean(axis=0)
        products = _second_moments(self._embedding[:, :_N_PRODUCTS] ** 2)
        variances = np.triu(products - _second_moments(self._embedding[:, :_N_PRODUCTS]) ** 2)
        # Both groups of kinds are scaled to a total variance of one, and so count alike.
        self._scale = float((centred**2).sum(axis=1).mean()), float(variances.sum())
        slices, counts = np.unique(pool_slice[start], return_counts=True)
        means = [_moments(self._embedding[pool_slice == number]) for number in slices]
        self._fair = [np.average(m, axis=0, weights=counts) for m in zip(*means, strict=True)]
        self._debt = [np.zeros_like(fair) for fair in self._fair]

    def after(self, chosen: NDArray) -> NDArray[np.float32]:
        """Add one more choice (n,) to what has been used; return the prices (p,)."""
        used = _moments(self._embedding[chosen])
        parts = []
        for debt, mean, fair, scale in zip(self._debt, used, self._fair, self._scale, strict=True):
            debt += mean - fair
            parts.append((_RATE / max(scale, 1e-12) * debt).astype(np.float32))
        leading = self._embedding[:, :_N_PRODUCTS]
        return self._embedding @ parts[0] + ((leading @ parts[1]) * leading).sum(axis=1)


def _moments(values: NDArray) -> tuple[NDArray, NDArray]:
    """Return means (d,), and means of the products of the leading components, each pair once."""
    return values.mean(axis=0), np.triu(_second_moments(values[:, :_N_PRODUCTS]))


def _second_moments(values: NDArray) -> NDArray:
    """Return the means of all products of two columns."""
    return values.T @ values / len(values)
