"""Real spots for a generated slice: which one goes where.

Positions and the components expected there are known. Expected components are means, and a slice
made of means has no variance between spots and no zeros. So every position gets the unchanged
expression of one real spot, no spot twice, such that the mean of the chosen spots *around* every
position follows the expectation (kernel herding: Chen, Welling & Smola 2010, arXiv:1203.3472). With
x_a(i) the components of the spot chosen for position i, m_i the expected ones, and W the averages
over the 30 and the 100 nearest positions, the choice a minimises::

    sum over averages W of  k_W |W (x_a - m)|^2           local means follow the expectation
    - 2 lambda sum_i x_a(i) . (m_i - mean m)              each spot resembles its own position
    + sum_i price(a(i))                                   the mixture of spots is preserved

The first term alone lowers spatial autocorrelation, the second alone exaggerates it: lambda is
adjusted after every sweep until Moran's I is that of the two real slices. A spot's price rises when
spots of its kind (components and their products) are used more than their share. Top to bottom: the
algorithm, one compiled sweep, the prices; then whether small sections gain by it at all.
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

from ..arguments import progress_off
from ..comparable import expression_states
from ..slices.geometry import spot_spacing
from .places import chain_neighbours, find_nearest, local_weights

_N_CANDIDATES = 30  # spots considered for each position
_N_SWEEPS = 14
_FIRST_LAMBDA = 100.0
_LARGEST_LAMBDA = 1000.0  # where the target cannot be reached
_NEAREST = 8  # neighbours for Moran's I


class Placement(NamedTuple):
    """Which spot of the pool stands at each position, and how the search went."""

    chosen: NDArray[np.int64]  # rows of the pool (n,), none twice
    alignment_weight: float  # lambda of the last sweep
    autocorrelation: list[float]  # Moran's I of the components after each sweep
    target: float  # Moran's I to reach
    n_changes: list[int]  # positions that changed their spot, for each sweep


def autocorrelation(points: NDArray, embedding: NDArray) -> float:
    """Moran's I over the eight nearest neighbours, of all components together."""
    # Not `evaluation.measures.morans_i`, one value a gene over six neighbours: here components
    # count by their variance, and each step of the search changes a few of the summands.
    return _moran(_nearest(points), embedding)


def _nearest(points: NDArray) -> NDArray:
    """Find the neighbours for Moran's I, (n, 8)."""
    return cKDTree(points).query(points, _NEAREST + 1)[1][:, 1:]


def _moran(nearest: NDArray, embedding: NDArray) -> float:
    """Moran's I for given neighbours: components (n, d) count by their variance."""
    likeness, variance = _likeness(nearest, embedding)
    return float(likeness.sum() / variance.sum())


def _likeness(nearest: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """Return the product of each centred value with the mean of its neighbours, and its square."""
    centred = values - values.mean(axis=0)
    around = sum(centred[column] for column in nearest.T) / nearest.shape[1]
    return centred * around, centred**2


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
    """Choose a real spot of the pool (p) for every position (n); start is a first choice."""
    # States of expression are averaged like the components, so that the mixture of cell types is
    # right everywhere. The anchor is the price of a spot away from its own place, for each squared
    # spot spacing. The share of either slice stays as in start. Neighbours are close in memory.
    rows, pool_rows = lay_out(positions, pool_points)
    positions, expected, expected_states = positions[rows], expected[rows], expected_states[rows]
    pool_points, pool_embedding = pool_points[pool_rows], pool_embedding[pool_rows]
    pool_slice, start = pool_slice[pool_rows], np.argsort(pool_rows)[start[rows]]
    wanted = np.hstack([expected, expected_states]).astype(np.float32)
    features = np.hstack([pool_embedding, states[pool_rows]]).astype(np.float32)
    lean = np.zeros_like(wanted)
    lean[:, : expected.shape[1]] = expected - expected.mean(axis=0)
    prices, rng = Prices(pool_embedding, pool_slice, start), np.random.default_rng(seed)

    n, n_pool = len(positions), len(pool_points)
    # Scaled such that the squared distance is the price of a spot away from its own place.
    unit = np.sqrt(anchor) / spot_spacing(positions)
    places, homes = unit * positions, unit * pool_points
    surroundings = averaging_matrix(positions)
    nearest = _nearest(positions)
    candidates = cKDTree(pool_points).query(positions, min(_N_CANDIDATES, n_pool))[1]
    chosen = start.copy()
    owner = np.full(n_pool, -1, dtype=np.int64)
    owner[chosen] = np.arange(n)

    weight, price = np.float32(_FIRST_LAMBDA), np.zeros(n_pool, dtype=np.float32)
    slope = surroundings @ (features[chosen] - wanted) - weight * lean
    reached, changes = [], []
    for number in tqdm(range(_N_SWEEPS), desc="placing spots", disable=progress_off(progress)):
        changes.append(sweep(
            visiting_order(n, rng), chosen, owner, candidates, features, price,
            pool_slice, places, homes, surroundings, slope,
        ))  # fmt: skip
        reached.append(_moran(nearest, pool_embedding[chosen]))
        if number < _N_SWEEPS - 1:
            missing = float(np.clip(target / max(reached[-1], 1e-3), 0.6, 1.6))
            before, weight = weight, np.float32(min(weight * missing**1.5, _LARGEST_LAMBDA))
            slope += (before - weight) * lean
            price = prices.after(chosen)
    placed = np.empty_like(chosen)
    placed[rows] = pool_rows[chosen]
    return Placement(placed, float(weight), reached, target, changes)


# -------------------------------------------------------------------------------------------------
# One sweep, compiled by numba (Lam, Pitrou & Seibert 2015, doi 10.1145/2833157.2833162). The slope
# of the sum in every feature of every position is kept, so the cost of a change needs no new sums,
# and a change updates the slope at a few hundred positions only: a visit takes the same time
# whatever the number of spots. The order of additions is fixed when the code is compiled.

AVERAGES = {30: 1.0, 100: 1.0}
"""Nearest positions that are averaged → weight of that average."""

_BLOCK = 512  # positions visited one after the other, before the next block
_ANY_ORDER = {"reassoc", "contract", "nsz"}  # of additions


class AveragingMatrix(NamedTuple):
    """Sum over the averages of k W'W, sparse, row by row: times (x_a - m) half a slope."""

    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    shares: NDArray[np.float32]
    diagonal: NDArray[np.float32]

    def __matmul__(self, values: NDArray) -> NDArray[np.float32]:
        """Multiply with values (n, d)."""
        n = len(self.diagonal)
        matrix = sparse.csr_matrix((self.shares, self.columns, self.starts), shape=(n, n))
        return matrix @ values


def averaging_matrix(positions: NDArray) -> AveragingMatrix:
    """Make the averaging matrix of positions (n, 2)."""
    # A mean over k independent spots has 1 / k of their variance; the factor k makes up for it.
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
    return AveragingMatrix(product.indptr, product.indices, product.data, product.diagonal())


def lay_out(positions: NDArray, pool_points: NDArray) -> tuple[NDArray, NDArray]:
    """Sort positions by neighbourhood, and the pool by its nearest positions: two permutations."""
    rows = chain_neighbours(positions)
    nearest = find_nearest(positions, pool_points, 1)[1][:, 0]
    return rows, np.argsort(np.argsort(rows)[nearest], kind="stable")


def visiting_order(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of a sweep: blocks in random order, and positions within a block too."""
    order = rng.permutation(n)
    rank = rng.permutation(-(-n // _BLOCK))
    return order[np.argsort(rank[order // _BLOCK], kind="stable")]


@numba.njit(cache=True, fastmath=_ANY_ORDER)
def sweep(
    order, chosen, owner, candidates, features, price, pool_slice, places, homes, surroundings,
    slope,
):  # fmt: skip
    """Visit positions in order; replace or swap spots where that lowers the sum; count changes."""
    # ``owner`` is the position of each spot of the pool, -1 if it is free; ``chosen``, ``owner``
    # and ``slope`` (half the slope of all terms that depend on features) are updated in place.
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
    """Replace ``old`` by ``new`` at position i, and update the slope around it."""
    starts, columns, shares, _ = surroundings
    chosen[i] = new
    owner[new] = i
    step = features[new] - features[old]
    for p in range(starts[i], starts[i + 1]):
        row, share = columns[p], shares[p]
        for k in range(features.shape[1]):
            slope[row, k] += share * step[k]


# -------------------------------------------------------------------------------------------------
# Prices keep the chosen spots a fair sample: spots that suit their place would otherwise be
# over-used, and variances and correlations would drift. Means of products are variances.

_N_PRODUCTS = 20  # leading components whose products are preserved
_RATE = 30.0


class Prices:
    """Prices (p,) that rise for kinds of spots that were used more than their share."""

    # The fair share is the mean if every spot of a slice were equally likely, at the shares of the
    # slices in start.

    def __init__(self, embedding: NDArray, pool_slice: NDArray, start: NDArray) -> None:
        self._embedding = np.asarray(embedding, dtype=np.float32)
        centred = self._embedding - self._embedding.mean(axis=0)
        products = _second_moments(self._embedding[:, :_N_PRODUCTS] ** 2)
        variances = np.triu(products - _second_moments(self._embedding[:, :_N_PRODUCTS]) ** 2)
        # Components and products are each scaled to a total variance of one.
        self._scale = float((centred**2).sum(axis=1).mean()), float(variances.sum())
        slices, counts = np.unique(pool_slice[start], return_counts=True)
        means = [_moments(self._embedding[pool_slice == number]) for number in slices]
        self._fair = [np.average(m, axis=0, weights=counts) for m in zip(*means, strict=True)]
        self._debt = [np.zeros_like(fair) for fair in self._fair]

    def after(self, chosen: NDArray) -> NDArray[np.float32]:
        """Count one more choice (n,) as used; return the prices (p,)."""
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


# -------------------------------------------------------------------------------------------------
# Small or noisy sections: components weighed by their signal; placed spots, a mixture or a copy.
#
# Placing follows an expectation, and where sections are small or measured poorly, that is mostly
# noise. Then a mixture of both sections, or one of them as it is, is closer to the missing one:
#
# 1. Of two small sections, one of which is much noisier (Moran's I), the better one is copied.
# 2. Otherwise both are cut at random into halves. One half of each is what is given; the others
#    together are a sample of the tissue midway. Spots are placed at the places of a random mixture
#    of the given halves. If their local means (ten spots) correlate better with those of the kept
#    halves than those of the mixture do, or as well (trials on halves understate the gain), over
#    several cuts, spots are placed; else they are mixed.
#
# Sections of 1,000 spots and more are not tried: placing was better on all that was looked at
# (benchmarks/README.md).

WAYS = ("placed", "mixture", "copy")
"""How a slice can be filled."""

LARGE = 1000
"""Spots of the smaller slice from which on nothing here is done: spots are placed."""

_SMALL = 300  # spots of the smaller slice below which one slice may be copied
_MUCH_NOISIER = 1.5  # ratio of Moran's I ...
_CLEARLY = 0.1  # ... and their difference: both are near 0 in the smallest sections, by chance
_LOSS = -0.01  # of correlation: a gain below this is a loss; halves understate what placing gains
_N_TRIALS = 4
_AVERAGED = 10  # spots that a local mean is over


class Filling(NamedTuple):
    """How the slice in between is filled, and why."""

    way: str  # "placed", "mixture" or "copy"
    reason: str  # one sentence
    # Moran's I of the shared components of left and right; empty if it was not looked at
    signal: tuple[float, ...] = ()
    # correlation of local means with kept halves, of placed spots minus that of mixed ones; NaN:
    # not tried
    gain: float = float("nan")

    def copied_side(self, t: float) -> int:
        """Side to copy at position t, 0 left and 1 right: the nearer one, weighed by its signal."""
        left, right = (max(s, 1e-6) for s in self.signal or (1.0, 1.0))
        return int(t * right > (1.0 - t) * left)


def weigh_by_signal(
    points: tuple[NDArray, NDArray], embeddings: tuple[NDArray, NDArray]
) -> list[NDArray[np.float32]]:
    """Multiply each component by the root of its Moran's I, relative to the largest."""
    # The mean squared length stays 1; without any signal, components stay as they were.
    signal = np.zeros(embeddings[0].shape[1])
    for places, values in zip(points, embeddings, strict=True):
        likeness, variance = _likeness(_nearest(places), values)
        signal += likeness.sum(axis=0) / np.maximum(variance.sum(axis=0), 1e-12)
    signal = np.clip(signal, 0.0, None)
    if not signal.any():
        return list(embeddings)
    weighed = [values * np.sqrt(signal / signal.max()) for values in embeddings]
    size = sum((v**2).sum() for v in weighed) / sum(map(len, weighed))
    return [(v / np.sqrt(size)).astype(np.float32) for v in weighed]


def choose_filling(
    middle: tuple[NDArray, NDArray],
    embeddings: tuple[NDArray, NDArray],
    signal: tuple[float, ...],
    bandwidth: float,
    spacing: float,
    *,
    has_grown: bool = False,
    seed: int = 0,
) -> Filling:
    """Decide between placed spots, a mixture and a copy, from slices warped to halfway."""
    smaller = min(map(len, middle))
    if smaller >= LARGE:
        return Filling("placed", "Spots are placed: the sections are large enough.")
    low, high = np.clip(sorted(signal), 1e-6, None)
    differ = high > _MUCH_NOISIER * low and high - low > _CLEARLY
    if smaller < _SMALL and not has_grown and differ:
        side = "left" if signal[0] == max(signal) else "right"
        return Filling(
            "copy",
            f"The {side} section is copied: the sections are small ({smaller} spots), and the "
            f"other one is {high / low:.1f} times as noisy (Moran's I {low:.2f} against "
            f"{high:.2f}), which a mixture would take over.",
            signal,
        )
    kinds = expression_states(np.vstack(embeddings), seed=seed)
    states = np.split(kinds, [len(embeddings[0])])
    gains = [
        _gain(middle, embeddings, states, bandwidth, spacing, [seed, 7, number])
        for number in range(_N_TRIALS)
    ]
    gain = float(np.mean(gains))
    error = float(np.std(gains, ddof=1) / np.sqrt(_N_TRIALS))
    tried = f"(correlation with local means of kept halves: {gain:+.3f} ± {error:.3f})"
    if gain > _LOSS:
        why = f"Spots are placed: mixed ones do not meet kept spots better {tried}."
        return Filling("placed", why, signal, gain)
    why = f"The sections are mixed: too small or too noisy for placing spots to gain {tried}."
    return Filling("mixture", why, signal, gain)


def _gain(middle, embeddings, states, bandwidth, spacing, seed) -> float:
    """How much better placed spots meet the kept halves than a mixture does, in one cut."""
    rng = np.random.default_rng(seed)
    cuts = [np.array_split(rng.permutation(len(p)), 2) for p in middle]
    given, kept = ([cut[half] for cut in cuts] for half in (0, 1))
    points, values, kinds = (
        [v[rows] for v, rows in zip(both, given, strict=True)]
        for both in (middle, embeddings, states)
    )
    pool, pool_values = np.vstack(points), np.vstack(values)
    places, kept_values = (
        np.vstack([v[rows] for v, rows in zip(both, kept, strict=True)])
        for both in (middle, embeddings)
    )
    mixed = np.sort(rng.permutation(len(pool))[: len(pool) // 2])
    around = [local_weights(p, pool[mixed], bandwidth, spacing) for p in points]
    expected, expected_states = (
        sum(w @ v for w, v in zip(around, both, strict=True)) / 2 for both in (values, kinds)
    )
    target = sum(autocorrelation(p, v) for p, v in zip(points, values, strict=True)) / 2
    chosen = place_spots(
        pool[mixed], expected, pool, pool_values, mixed,
        pool_slice=(np.arange(len(pool)) >= len(points[0])).astype(int),
        states=np.vstack(kinds), expected_states=expected_states, target=target,
        seed=int(rng.integers(2**31)), progress=False,
    ).chosen  # fmt: skip
    wanted = _around(places, places, kept_values)
    before, after = (
        _correlation(_around(pool[mixed], places, pool_values[rows]), wanted)
        for rows in (mixed, chosen)
    )
    return after - before


def _around(points: NDArray, places: NDArray, values: NDArray) -> NDArray:
    """Mean over the ten nearest points."""
    k = min(_AVERAGED, len(points))
    return values[cKDTree(points).query(places, k)[1].reshape(len(places), k)].mean(axis=1)


def _correlation(one: NDArray, other: NDArray) -> float:
    """Pearson correlation of two tables of values, over places and components at once."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    return float((one * other).sum() / np.sqrt(max((one**2).sum() * (other**2).sum(), 1e-300)))
