"""The search behind :mod:`genot_helpers.interpolation.placement`: one spot exchanged at a time.

What a change costs is known without adding anything up, because the slope of the sum is kept: for
every position and every feature, how much the sum grows with it. A change at one position alters
the slope at the few hundred positions whose averages it enters, and nowhere else. So a visit takes
the same time whatever the number of spots; and positions that are close to each other are close in
memory and are visited soon after each other, because waiting for memory would be most of the work.

Compiled by numba (Lam, Pitrou & Seibert 2015, doi 10.1145/2833157.2833162). Sums over features may
be added up in any order, which lets the processor add several at once; the order is fixed when the
code is compiled, so the result is the same again and again.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .nearest import chain_neighbours, find_nearest

__all__ = ["AVERAGES", "Surroundings", "lay_out", "sweep", "visiting_order", "weigh_surroundings"]

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
