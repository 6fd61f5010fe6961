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

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..progress import progress_off
from ..slices.spacing import spot_spacing
from .placement_prices import Prices
from .placement_search import lay_out, sweep, visiting_order, weigh_surroundings

__all__ = ["Placement", "autocorrelation", "place_spots"]

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
