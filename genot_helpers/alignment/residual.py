"""By how much a placed slice would still have to move, patch by patch, to agree best."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..pairs.pairs import ExpressionMap
from .fit import reach_between
from .transforms import SimilarityTransform

__all__ = ["residual_shift"]

_FARTHEST = 8  # spot spacings that are tried


def residual_shift(
    left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform
) -> float:
    """Say by how much patches of the tissue would still have to move, in spot spacings.

    The overlap is cut into up to 25 patches. Each is shifted in all directions, up to 8 spacings,
    and its best shift is the shortest one that reaches 95 % of what can be gained: along a layer,
    where nothing can be said, it stays. The median over patches, weighted by what there is to gain,
    is small for a good placement, a few spacings where the tissue is deformed, and about 7 where
    expression has nothing to say or contradicts.

    Parameters
    ----------
    left, right
        The maps.
    transform
        Right to left: the placement.

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

    shifts, lengths = _shifts()
    misfit = np.full((len(shifts), n_patches), np.nan)
    for row, shift in enumerate(shifts):
        distance, nearest = tree.query(places + shift * left.spacing)
        on = distance < reach
        squares = ((theirs[on] - ours[nearest[on]]) ** 2).sum(axis=1)
        count = np.bincount(patch[on], minlength=n_patches)
        total = np.bincount(patch[on], squares, minlength=n_patches)
        enough = count >= np.maximum(0.6 * size, 10)
        misfit[row, enough] = total[enough] / count[enough]
    return _typical_shift(misfit, lengths, size)


def _shifts() -> tuple[np.ndarray, np.ndarray]:
    """Return the shifts that are tried (n, 2), in spot spacings, the shortest first; lengths."""
    steps = np.arange(-_FARTHEST, _FARTHEST + 1)
    shifts = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2).astype(float)
    lengths = np.linalg.norm(shifts, axis=1)
    order = np.argsort(lengths, kind="stable")[: int((lengths <= _FARTHEST).sum())]
    return shifts[order], lengths[order]


def _typical_shift(misfit: np.ndarray, lengths: np.ndarray, size: np.ndarray) -> float:
    """Return the median over patches of the best shift, weighted by what there is to gain.

    ``misfit`` is (shifts, patches), NaN where too little overlaps; ``size`` the places of a patch.
    """
    usable = np.isfinite(misfit).sum(axis=0) > len(lengths) / 3
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
