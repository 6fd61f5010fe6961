"""Fine fits of one slice to another that match spots with spots.

:func:`refine_by_coupling` alternates a partial optimal transport coupling of position and
expression, as PASTE2 does (Liu et al. 2023, https://doi.org/10.1101/gr.277670.123), with a weighted
Procrustes fit of the coupled pairs. :func:`refine_by_outline` does so by position alone: for whole
bodies that grow, in which parts that look alike need not lie alike.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..pairs.pairs import ExpressionMap
from ..slices.slices import SliceError
from ..transport.transport import sparse_coupling
from .fit import reach_between, settle
from .transforms import SimilarityTransform, weighted_procrustes

__all__ = ["refine_by_coupling", "refine_by_outline"]

_TURNS = (0.0, -20.0, 20.0)
"""Angles against the start from which the outline is fitted: as far as expression may be wrong."""


def refine_by_coupling(
    left: ExpressionMap,
    right: ExpressionMap,
    start: SimilarityTransform,
    *,
    allow_scale: bool = False,
    n_steps: int = 12,
    n_neighbors: int = 30,
    embedding_weight: float = 200.0,
    max_spots: int = 1500,
) -> SimilarityTransform:
    """Couple the spots that overlap, fit the pairs, and so on until nothing moves.

    Parameters
    ----------
    left, right, start, allow_scale, n_steps
        As in :func:`genot_helpers.alignment.fit.refine_by_maps`; ``start`` must be nearer, within a
        few spot spacings.
    n_neighbors, embedding_weight
        Passed to :func:`genot_helpers.transport.sparse_coupling`: nearest spots that are possible
        partners, and the weight of expression against distance in squared spot spacings.
    max_spots
        Maps are thinned to so many places: the time of an exact coupling grows with the square.

    Returns
    -------
    SimilarityTransform
        Right to left.
    """
    left, right = left.coarser(max_spots), right.coarser(max_spots)
    tree, reach = cKDTree(left.points), reach_between(left, right, start)

    def step(transform: SimilarityTransform) -> tuple[SimilarityTransform, np.ndarray] | None:
        moved = transform.apply(right.points)
        near_left = cKDTree(moved).query(left.points)[0] < reach
        near_right = tree.query(moved)[0] < reach
        if min(near_left.sum(), near_right.sum()) < 10:
            return None
        plan = sparse_coupling(
            left.points[near_left],
            moved[near_right],
            left.features[near_left],
            right.features[near_right],
            embedding_weight=embedding_weight,
            n_neighbors=min(n_neighbors, int(near_left.sum()), int(near_right.sum())),
            unmatched_cost=25.0,
        ).plan.tocoo()
        move = weighted_procrustes(
            left.points[near_left][plan.row],
            moved[near_right][plan.col],
            plan.data,
            allow_scale=allow_scale,
        )
        return move, moved

    return settle(start, step, n_steps=n_steps, tolerance=0.02 * left.spacing)


def refine_by_outline(
    left: ExpressionMap,
    right: ExpressionMap,
    start: SimilarityTransform,
    *,
    allow_scale: bool = False,
    n_steps: int = 40,
    max_spots: int = 800,
) -> SimilarityTransform:
    """Lay one whole body over the other: couple by place alone, fit the pairs, and so on.

    That ends in the nearest resting place, which need not be the best one. So it is done from the
    start and from 20° to either side of it, and the one that is cheapest to transport is returned.

    Parameters
    ----------
    left, right, start, allow_scale, n_steps, max_spots
        As in :func:`refine_by_coupling`; ``start`` within some 30°.

    Returns
    -------
    SimilarityTransform
        Right to left.
    """
    left, right = left.coarser(max_spots), right.coarser(max_spots)
    center = start.apply(right.points).mean(axis=0)
    options = {"allow_scale": allow_scale, "n_steps": n_steps, "embedding_weight": 0.0}
    tried = []
    for degrees in _TURNS:
        turned = SimilarityTransform.from_angle(degrees, center=center) @ start
        tried.append(refine_by_coupling(left, right, turned, **options, max_spots=max_spots))
    return min(tried, key=lambda transform: _transport_cost(left, right, transform))


def _transport_cost(left: ExpressionMap, right: ExpressionMap, transform) -> float:
    """Cost per unit of mass of carrying one outline to the other; infinite if they lie apart."""
    try:
        coupling = sparse_coupling(left.points, transform.apply(right.points))
    except SliceError:
        return float("inf")
    return coupling.objective
