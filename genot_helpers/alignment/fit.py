"""The fine fit of one slice to another, from a start that is about right.

:func:`refine_by_maps` takes Gauss-Newton steps on angle and shift that make the features of the
right spots equal the left map, read off where they land (Lucas & Kanade 1981, *An iterative image
registration technique*, IJCAI). The map is read off by local linear regression, so that regular
grids of spots do not lock into each other, as they may when spots are matched with spots.

Fits that match spots with spots are in :mod:`genot_helpers.alignment.matched`; how far a fit still
is from the best one, in :mod:`genot_helpers.alignment.residual`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from ..pairs.pairs import ExpressionMap
from .search import Fit
from .transforms import SimilarityTransform

__all__ = ["REACH", "compare", "reach_between", "refine_by_maps", "settle"]

REACH = 1.5
"""Spot spacings within which a spot has a neighbour in the other slice."""
_N_NEIGHBORS = 12  # of the local regression


def reach_between(
    left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform
) -> float:
    """Distance within which two places are neighbours: that of the coarser map counts."""
    return REACH * max(left.spacing, transform.scale * right.spacing)


def settle(
    start: SimilarityTransform,
    step: Callable[[SimilarityTransform], tuple[SimilarityTransform, np.ndarray] | None],
    *,
    n_steps: int,
    tolerance: float,
) -> SimilarityTransform:
    """Go on from a transform, step by step, until a step moves nothing any more.

    Parameters
    ----------
    start
        The first transform.
    step
        Takes the transform so far; returns the move that makes it better, and the places, (n, 2),
        that are moved; None where it cannot go on.
    n_steps
        Most steps.
    tolerance
        The last step is the first one that moves no place by so much.
    """
    transform = start
    for _ in range(n_steps):
        found = step(transform)
        if found is None:
            break
        move, places = found
        transform = move @ transform
        if np.abs(move.apply(places) - places).max() < tolerance:
            break
    return transform


def refine_by_maps(
    left: ExpressionMap,
    right: ExpressionMap,
    start: SimilarityTransform,
    *,
    allow_scale: bool = False,
    n_steps: int = 60,
) -> SimilarityTransform:
    """Turn and shift until the right features agree with the left map under them.

    Parameters
    ----------
    left, right
        The maps.
    start
        Near the fit: within some 20° and a tenth of the tissue.
    allow_scale
        Let the size change, too, by a quarter at most.
    n_steps
        Most steps; fewer when one moves no spot by more than 0.003 spacings.

    Returns
    -------
    SimilarityTransform
        Right to left; never mirrored against ``start``.
    """
    tree = cKDTree(left.points)

    def step(transform: SimilarityTransform) -> tuple[SimilarityTransform, np.ndarray] | None:
        read = _read_off(left, right, tree, transform)
        if read is None:
            return None
        places, error, gradient = read
        arm = places - places.mean(axis=0)
        turned = np.column_stack([-arm[:, 1], arm[:, 0]])  # where a small rotation moves a place
        effects = [np.einsum("nda,na->nd", gradient, turned), gradient[..., 0], gradient[..., 1]]
        if allow_scale:
            effects.append(np.einsum("nda,na->nd", gradient, arm))
        best = _solve(np.stack(effects, axis=2), error)
        grown = transform.scale * (1 + best[3]) if allow_scale else start.scale
        grown = np.clip(grown, start.scale / 1.25, start.scale * 1.25)
        move = SimilarityTransform.from_angle(
            float(np.rad2deg(np.clip(best[0], -0.2, 0.2))),
            scale=float(grown / transform.scale),
            center=places.mean(axis=0),
            translation=_at_most(best[1:3], 5 * left.spacing),
        )
        return move, places

    return settle(start, step, n_steps=n_steps, tolerance=0.003 * left.spacing)


def compare(left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform) -> Fit:
    """Measure how well a placement fits; the agreement is nan where nothing overlaps."""
    moved, reach = transform.apply(right.points), reach_between(left, right, transform)
    tree = cKDTree(left.points)
    near = tree.query(moved)[0] < reach
    overlap = float((cKDTree(moved).query(left.points)[0] < reach).mean()), float(near.mean())
    read = _read_off(left, right, tree, transform)
    if read is None:
        return Fit(transform, float("nan"), overlap)
    theirs = right.features[near]
    ours = theirs - read[1]
    ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    size = np.sqrt((ours**2).sum() * (theirs**2).sum())
    agreement = float((ours * theirs).sum() / size) if size > 0 else float("nan")
    return Fit(transform, agreement, overlap)


def _read_off(left: ExpressionMap, right: ExpressionMap, tree: cKDTree, transform):
    """Return places of right that lie on left, right minus left features there, left's gradient.

    Value (n, d) and gradient (n, d, 2) of the left map by local linear regression with Gaussian
    weights; None where fewer than 10 places overlap.
    """
    places = transform.apply(right.points)
    k = min(_N_NEIGHBORS, len(left.points))
    distance, neighbor = tree.query(places, k=k)
    near = distance[:, 0] < reach_between(left, right, transform)
    if near.sum() < 10:
        return None
    places, distance, neighbor = places[near], distance[near], neighbor[near]
    width = np.maximum(distance[:, -1:], 1e-12)
    weight = np.exp(-2 * (distance / width) ** 2)
    offset = (left.points[neighbor] - places[:, None]) / width[:, :, None]
    design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset], axis=2)
    weighted = design * weight[:, :, None]
    normal = weighted.transpose(0, 2, 1) @ design + 1e-6 * np.eye(3)
    hat = np.linalg.solve(normal, weighted.transpose(0, 2, 1))  # (n, 3, k)
    found = hat @ left.features[neighbor]
    gradient = found[:, 1:].transpose(0, 2, 1) / width[:, :, None]
    return places, right.features[near] - found[:, 0], gradient


def _solve(effects: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Solve for the step (p,), given effects (n, d, p) and errors (n, d), robustly.

    The mean of each component is free, for a batch effect; spots that fit badly count less.
    """
    error = error - np.median(error, axis=0)
    squares = (error**2).sum(axis=1)
    weight = 1 / (1 + squares / max(float(np.median(squares)), 1e-12))
    weight /= weight.sum()
    error = error - weight @ error
    effects = effects - np.einsum("n,ndp->dp", weight, effects)
    normal = np.einsum("n,ndp,ndq->pq", weight, effects, effects, optimize=True)
    size = np.sqrt(np.maximum(np.diag(normal), 1e-30))
    pull = np.einsum("n,ndp,nd->p", weight, effects, error, optimize=True)
    scaled = normal / np.outer(size, size) + 1e-6 * np.eye(len(size))
    return np.linalg.solve(scaled, pull / size) / size


def _at_most(step: np.ndarray, limit: float) -> np.ndarray:
    """Shorten a step to a limit."""
    length = float(np.linalg.norm(step))
    return step * min(1.0, limit / max(length, 1e-12))
