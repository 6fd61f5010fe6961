"""The fine fit of one slice to another, from a start that is about right, and how good it is.

:func:`refine_by_maps` takes Gauss-Newton steps on angle and shift that make the features of the
right spots equal the left map, read off where they land (Lucas & Kanade 1981, *An iterative image
registration technique*, IJCAI). The map is read off by local linear regression, so that regular
grids of spots do not lock into each other, as they may when spots are matched with spots.

Fits that match spots with spots are in :mod:`genot_helpers.alignment.matched`.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..pairs.pairs import ExpressionMap
from .search import Fit
from .transforms import SimilarityTransform

__all__ = ["REACH", "compare", "reach_between", "refine_by_maps", "residual_shift"]

REACH = 1.5
"""Spot spacings within which a spot has a neighbour in the other slice."""
_N_NEIGHBORS = 12  # of the local regression
_FARTHEST = 8  # spot spacings tried by the residual


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
    tree, transform = cKDTree(left.points), start
    for _ in range(n_steps):
        read = _read_off(left, right, tree, transform)
        if read is None:
            break
        places, error, gradient = read
        arm = places - places.mean(axis=0)
        turned = np.column_stack([-arm[:, 1], arm[:, 0]])  # where a small rotation moves a place
        effects = [np.einsum("nda,na->nd", gradient, turned), gradient[..., 0], gradient[..., 1]]
        if allow_scale:
            effects.append(np.einsum("nda,na->nd", gradient, arm))
        step = _solve(np.stack(effects, axis=2), error)
        grown = transform.scale * (1 + step[3]) if allow_scale else start.scale
        grown = np.clip(grown, start.scale / 1.25, start.scale * 1.25)
        move = SimilarityTransform.from_angle(
            float(np.rad2deg(np.clip(step[0], -0.2, 0.2))),
            scale=float(grown / transform.scale),
            center=places.mean(axis=0),
            translation=_at_most(step[1:3], 5 * left.spacing),
        )
        transform = move @ transform
        if np.abs(move.apply(places) - places).max() < 0.003 * left.spacing:
            break
    return transform


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


def residual_shift(
    left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform
) -> float:
    """Say by how much patches of the tissue would still have to move, in spot spacings.

    The overlap is cut into up to 25 patches. Each is shifted in all directions, up to 8 spacings,
    and its best shift is the shortest one that reaches 95 % of what can be gained: along a layer,
    where nothing can be said, it stays. The median over patches, weighted by what there is to gain,
    is small for a good placement, a few spacings where the tissue is deformed, and about 7 where
    expression has nothing to say or contradicts.

    Returns
    -------
    float
        Between 0 and 8; nan if fewer than 30 places overlap.
    """
    left, right = left.smoothed(12), right.smoothed(12).sample(1500)
    tree, reach = cKDTree(left.points), reach_between(left, right, transform)
    places = transform.apply(right.points)
    distance, nearest = tree.query(places)
    near = distance < reach
    if near.sum() < 30:
        return float("nan")
    places, theirs = places[near], right.features[near]
    theirs = theirs - theirs.mean(axis=0)
    ours = left.features - left.features[nearest[near]].mean(axis=0)
    patch, n_patches = _patches(places)
    size = np.bincount(patch, minlength=n_patches)

    steps = np.arange(-_FARTHEST, _FARTHEST + 1)
    shifts = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2).astype(float)
    lengths = np.linalg.norm(shifts, axis=1)
    order = np.argsort(lengths, kind="stable")[: int((lengths <= _FARTHEST).sum())]
    shifts, lengths = shifts[order], lengths[order]
    misfit = np.full((len(shifts), n_patches), np.nan)
    for row, shift in enumerate(shifts):
        distance, nearest = tree.query(places + shift * left.spacing)
        on = distance < reach
        squares = ((theirs[on] - ours[nearest[on]]) ** 2).sum(axis=1)
        count = np.bincount(patch[on], minlength=n_patches)
        total = np.bincount(patch[on], squares, minlength=n_patches)
        enough = count >= np.maximum(0.6 * size, 10)
        misfit[row, enough] = total[enough] / count[enough]

    usable = np.isfinite(misfit).sum(axis=0) > len(shifts) / 3
    if not usable.any():
        return float("nan")
    misfit, size = misfit[:, usable], size[usable]
    least, gain = np.nanmin(misfit, axis=0), np.nanmean(misfit, axis=0) - np.nanmin(misfit, axis=0)
    best = lengths[(misfit <= least + 0.05 * gain).argmax(axis=0)]
    order = np.argsort(best)
    share = np.cumsum((gain * size)[order])
    return float(best[order][np.searchsorted(share, 0.5 * share[-1])])


def _patches(places: np.ndarray) -> tuple[np.ndarray, int]:
    """Cut places into up to 5 × 5 patches; return the patch of each, and the number of patches."""
    n_rows = int(np.clip(np.sqrt(len(places) / 30), 2, 5))
    share = (places - places.min(axis=0)) / np.maximum(np.ptp(places, axis=0), 1e-12)
    return np.minimum((n_rows * share).astype(int), n_rows - 1) @ [n_rows, 1], n_rows**2


def reach_between(
    left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform
) -> float:
    """Distance within which two places are neighbours: that of the coarser map counts."""
    return REACH * max(left.spacing, transform.scale * right.spacing)


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
