"""Fits of one slice to another: fine ones from a start that is about right, and the search for it.

Gauss-Newton steps on angle and shift until the features of the right spots equal the left map, read
off where they land (Lucas & Kanade 1981). The map is a local linear regression, so that grids of
spots do not lock into each other, as they may when spots are matched with spots. Then: overlap and
agreement of a placement; fits by couplings; the residual; the search of all angles and shifts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from ..arguments import checked
from ..comparable import ExpressionMap
from ..slices.slices import SliceError
from ..transport.transport import sparse_coupling
from .transforms import SimilarityTransform, weighted_procrustes

_REACH = 1.5  # spot spacings within which a spot has a neighbour in the other slice
_N_NEIGHBORS = 12  # of the local regression


def _reach_between(
    left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform
) -> float:
    """Distance within which two places are neighbours, from the coarser map."""
    return _REACH * max(left.spacing, transform.scale * right.spacing)


def iterate_fit(
    start: SimilarityTransform,
    step: Callable[[SimilarityTransform], tuple[SimilarityTransform, np.ndarray] | None],
    *,
    n_steps: int,
    tolerance: float,
) -> SimilarityTransform:
    """Repeat a step from a transform until no place moves by more than the tolerance."""
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
    """Rotate and shift until the right features agree with the left map under them."""
    tree = cKDTree(left.points)

    def step(transform: SimilarityTransform) -> tuple[SimilarityTransform, np.ndarray] | None:
        read = _read_off(left, right, tree, transform)
        if read is None:
            return None
        places, error, gradient = read
        arm = places - places.mean(axis=0)
        turned = np.column_stack([-arm[:, 1], arm[:, 0]])  # how a rotation moves a place
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

    return iterate_fit(start, step, n_steps=n_steps, tolerance=0.003 * left.spacing)


def measure_fit(left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform) -> Fit:
    """Measure how well a placement fits; the agreement is nan where nothing overlaps."""
    moved, reach = transform.apply(right.points), _reach_between(left, right, transform)
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
    """Return places of right that lie on left, right minus left features there, left's gradient."""
    # Value (n, d) and gradient (n, d, 2) of the left map by local linear regression with Gaussian
    # weights; None where fewer than 10 places overlap.
    places = transform.apply(right.points)
    k = min(_N_NEIGHBORS, len(left.points))
    distance, neighbor = tree.query(places, k=k)
    near = distance[:, 0] < _reach_between(left, right, transform)
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
    """Solve for the step (p,), given effects (n, d, p) and errors (n, d), robustly."""
    # The mean of each component is free, for a batch effect; outliers get less weight.
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


# -------------------------------------------------------------------------------------------------
# Fits that match spots with spots.

_TURNS = (0.0, -20.0, 20.0)  # degrees; expression may be wrong by about so much


@checked
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
    """Couple the spots that overlap, fit the pairs by Procrustes, and repeat, as in PASTE2.

    Parameters
    ----------
    left, right
        From :func:`genot_helpers.comparable.expression_maps`.
    start
        Right to left, within a few spot spacings of the right placement.
    allow_scale, n_steps
        Whether to fit the scale too; most steps.
    n_neighbors, embedding_weight
        Of :func:`genot_helpers.transport.sparse_coupling`.
    max_spots
        Maps are thinned to this many places; the time of an exact coupling grows with its square.

    Returns
    -------
    SimilarityTransform
        Right to left.
    """
    left, right = left.coarser(max_spots), right.coarser(max_spots)
    tree, reach = cKDTree(left.points), _reach_between(left, right, start)

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

    return iterate_fit(start, step, n_steps=n_steps, tolerance=0.02 * left.spacing)


def refine_by_outline(
    left: ExpressionMap,
    right: ExpressionMap,
    start: SimilarityTransform,
    *,
    allow_scale: bool = False,
    n_steps: int = 40,
    max_spots: int = 800,
) -> SimilarityTransform:
    """Lay one whole body over the other: couple by place alone, fit the pairs, and repeat."""
    # This finds a local optimum only. So it is done from the start and from 20° to either side, and
    # the fit with the lowest transport cost is returned.
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


# -------------------------------------------------------------------------------------------------
# The residual: by how much patches would still have to move to agree best.

_FARTHEST = 8  # spot spacings that are tried


def residual_shift(
    left: ExpressionMap, right: ExpressionMap, transform: SimilarityTransform
) -> float:
    """Median shift, in spot spacings, with which patches of the tissue would agree best."""
    # The overlap is cut into up to 25 patches. Each is shifted in all directions, up to 8 spacings,
    # and its best shift is the shortest one with 95 % of the largest gain: so a patch does not move
    # along a layer. The median over patches, weighted by their gain, is small for a good placement,
    # a few spacings if the tissue is deformed, and about 7 if expression is unrelated.
    left, right = left.smoothed(12), right.smoothed(12).sample(1500)
    tree, reach = cKDTree(left.points), _reach_between(left, right, transform)
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
    """Return the median over patches of the best shift, weighted by the gain."""
    # misfit is (shifts, patches), NaN where too little overlaps; size the places of a patch.
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


# -------------------------------------------------------------------------------------------------
# Where one slice lies on another: all angles and all shifts are tried, no start is needed.
#
# Both expression maps are drawn on a grid. For each of 36 angles the correlation of the two
# pictures is computed for *all* shifts at once by Fourier transforms, over the part where both
# have tissue (masked normalised cross-correlation: Padfield 2012,
# https://doi.org/10.1109/TIP.2011.2181402). So a slice may lie upside down, and a part that only
# one slice has does not count. With r the correlation and o the mean overlap, placements are
# ranked by artanh(r) * sqrt(o).

_CELLS = 64  # of the pictures, along the diameter of the larger slice
_ANGLE_STEP = 10.0


class Fit(NamedTuple):
    """A placement of the right map on the left one, and how well it fits."""

    transform: SimilarityTransform  # right to left
    # correlation of centred left and right features over all components, where the maps overlap
    agreement: float
    # share of left and of right that has tissue of the other within reach
    overlap: tuple[float, float]

    @property
    def score(self) -> float:
        """Fisher's z of the agreement times the root of the mean overlap."""
        # The standard error of z falls with the root of the area compared, so this is proportional
        # to a significance, and a small part that agrees by chance does not win over the whole.
        return float(_score(np.nan_to_num(self.agreement), np.mean(self.overlap)))


def search_placements(
    left: ExpressionMap,
    right: ExpressionMap,
    *,
    scales: tuple[float, ...] = (1.0,),
    allow_reflection: bool = False,
    min_overlap: float = 0.3,
) -> list[Fit]:
    """Try all angles and shifts, and return the best shift of each angle, best first."""
    extent = max(_diameter(left.points), *(scale * _diameter(right.points) for scale in scales))
    cell = max(left.spacing, *(scale * right.spacing for scale in scales), extent / _CELLS)
    size = fft.next_fast_len(
        int(np.ceil((_diameter(left.points) + max(scales) * _diameter(right.points)) / cell)) + 6,
        real=True,
    )
    left_origin = left.points.min(axis=0)
    still = _Picture(left.points - left_origin, left.features, cell, size)
    center = right.points.mean(axis=0)
    fits = []
    for scale in scales:
        for reflect in (False, True) if allow_reflection else (False,):
            for angle in np.arange(0.0, 360.0, _ANGLE_STEP):
                turn = SimilarityTransform.from_angle(
                    angle, scale=scale, reflect=reflect, center=center
                )
                points = turn.apply(right.points)
                origin = points.min(axis=0)
                picture = _Picture(points - origin, right.features, cell, size)
                found = _best_shift(still, picture, min_overlap)
                if found is not None:
                    cells, agreement, overlap = found
                    shift = SimilarityTransform(translation=left_origin - origin + cells * cell)
                    fits.append(Fit(shift @ turn, agreement, overlap))
    return sorted(fits, key=lambda fit: -fit.score)


class _Picture:
    """A map on a grid, as Fourier transforms of its features, of their squares and of its mask."""

    def __init__(self, points: np.ndarray, features: np.ndarray, cell: float, size: int):
        index = np.floor(points / cell).astype(int) @ [size, 1]

        def draw(weights=None):
            grid = np.bincount(index, weights, minlength=size * size).reshape(size, size)
            return gaussian_filter(grid.astype(float), 0.7, mode="wrap", truncate=3)

        number = draw()
        tissue = number > 0.25 * np.median(number[number > 0])
        weight = np.where(tissue, number, 1.0)
        values = np.stack([np.where(tissue, draw(column) / weight, 0.0) for column in features.T])
        self.size, self.area = size, int(tissue.sum())
        self.mask = fft.rfft2(tissue.astype(float))
        self.values = fft.rfft2(values)
        self.squares = fft.rfft2((values**2).sum(axis=0))


def _best_shift(left: _Picture, right: _Picture, min_overlap: float):
    """Return the shift of right in cells, the correlation there, and the shares that overlap."""

    def correlate(a, b):
        return fft.irfft2(a * b.conj(), s=(left.size, left.size))

    number = np.maximum(correlate(left.mask, right.mask), 1e-6)  # cells with tissue in both
    left_sum, right_sum = correlate(left.values, right.mask), correlate(left.mask, right.values)
    products = fft.irfft2((left.values * right.values.conj()).sum(axis=0), s=(left.size,) * 2)
    covariance = products - (left_sum * right_sum).sum(axis=0) / number
    left_variance = correlate(left.squares, right.mask) - (left_sum**2).sum(axis=0) / number
    right_variance = correlate(left.mask, right.squares) - (right_sum**2).sum(axis=0) / number
    spread = np.sqrt(np.maximum(left_variance, 0) * np.maximum(right_variance, 0))
    left_overlap, right_overlap = number / left.area, number / right.area
    allowed = (np.maximum(left_overlap, right_overlap) >= min_overlap) & (
        spread > 1e-9 * spread.max()
    )
    if not allowed.any():
        return None
    agreement = covariance / np.where(allowed, spread, 1.0)
    score = np.where(allowed, _score(agreement, (left_overlap + right_overlap) / 2), -np.inf)
    best = np.unravel_index(score.argmax(), score.shape)
    cells = np.array(best)
    cells = np.where(cells > left.size // 2, cells - left.size, cells)  # shifts wrap round
    return cells, float(agreement[best]), (float(left_overlap[best]), float(right_overlap[best]))


def _score(agreement, overlap):
    """Fisher's z times the root of the overlap."""
    return np.arctanh(np.clip(agreement, -0.99, 0.99)) * np.sqrt(overlap)


def _diameter(points: np.ndarray) -> float:
    """Twice the distance from the mean to the farthest point: room for any rotation."""
    return 2 * float(np.linalg.norm(points - points.mean(axis=0), axis=1).max())
