"""Where one slice lies on another: all angles and all shifts are tried, no start is needed.

Both expression maps are drawn on a grid. For each of 36 angles the correlation of the two pictures
is computed for *all* shifts at once by Fourier transforms, over the part where both have tissue
(masked normalised cross-correlation: Padfield 2012, https://doi.org/10.1109/TIP.2011.2181402). So a
slice may lie upside down, and a part that only one slice has does not count. With r the correlation
and o the mean overlap, placements are ranked by artanh(r) * sqrt(o).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

from ..shared_features import ExpressionMap
from .transforms import SimilarityTransform

__all__ = [
    "Fit",
    "search_placements",
]

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
