"""Maps of two slices on one grid, and how alike they are.

Spots of two slices never sit in the same places, so expression is compared after averaging it in
square bins. A bin of a few spots is noisy; sums and numbers of spots are therefore smoothed with
the same Gaussian before one is divided by the other (normalised convolution, Knutsson & Westin,
CVPR 1993, doi 10.1109/CVPR.1993.341081), which does not bleed the empty outside into the tissue.

The structural similarity of two maps is that of Wang et al., IEEE Transactions on Image Processing
2004, doi 10.1109/TIP.2003.819861.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from ..slices.slices import SliceError
from ..slices.spacing import spot_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Grid",
    "column_correlation",
    "compare_maps",
    "make_grid",
    "map_similarity",
    "paired_maps",
]

SPOTS_PER_BIN = 4.0
SMOOTHING = 0.7  # standard deviation of the Gaussian in bins: 1.4 spot spacings
_MARGIN = 3  # empty bins around the held-out slice, where the Gaussian fades out
_GENES_AT_ONCE = 100
_SSIM_WINDOW = 7  # bins, the width that Wang et al. and scikit-image use without a Gaussian


class Grid(NamedTuple):
    """Square bins over a slice: the lower corner, the side of a bin, bins along x and y."""

    corner: NDArray
    side: float
    shape: tuple[int, int]

    def bins(self, points: NDArray) -> NDArray:
        """Return the bin of each point, (n,) int; points outside belong to the outermost bins."""
        place = np.floor((points - self.corner) / self.side)
        place = np.clip(place, 0, np.array(self.shape) - 1).astype(int)
        return np.ravel_multi_index(tuple(place.T), self.shape)


def make_grid(points: NDArray, *, spots_per_bin: float = SPOTS_PER_BIN) -> Grid:
    """Lay a grid over the held-out slice, with about ``spots_per_bin`` spots in a bin.

    Parameters
    ----------
    points
        (n, 2), coordinates of the held-out slice.
    spots_per_bin
        The side of a bin is its root times :func:`spot_side`.

    Raises
    ------
    SliceError
        If most spots share their position with many others.
    """
    side = np.sqrt(spots_per_bin) * spot_side(points)
    if not side > 0:
        raise SliceError("Most spots of the held-out slice share their position with many others.")
    corner = points.min(axis=0) - _MARGIN * side
    n_x, n_y = ((points.max(axis=0) - corner) // side).astype(int) + 1 + _MARGIN
    return Grid(corner, float(side), (int(n_x), int(n_y)))


def compare_maps(
    real: NDArray, generated: NDArray, real_profiles: NDArray, generated_profiles: NDArray
) -> dict[str, float]:
    """Compare expression and density of two slices on the grid of the real one.

    Parameters
    ----------
    real, generated
        (n, 2) and (m, 2), coordinates in one frame.
    real_profiles, generated_profiles
        (n, p) and (m, p), log expression. Worked on in blocks of genes.

    Returns
    -------
    - ``map``: Pearson correlation of the two smoothed maps of a gene over the bins that hold spots
      of both slices, mean over genes. A gene constant over the real bins is left out; one that is
      constant in the generated map only has missed the pattern and counts as 0.
    - ``ssim``: structural similarity of these maps, mean over the same bins and genes; outside of
      the bins both maps get the mean of the real one. NaN below 7 × 7 bins.
    - ``density``: Pearson correlation of the smoothed number of spots, over the bins that hold
      spots of either slice.
    """
    grid = make_grid(real)
    sides = [_Side(grid, real), _Side(grid, generated)]
    here = [side.counts > 0 for side in sides]
    both, either = here[0] & here[1], here[0] | here[1]
    density = column_correlation(*(side.weight[either][:, None] for side in sides))[0]
    correlations, similarities = [np.array([])], []
    for a, b in _map_blocks(sides, both, real_profiles, generated_profiles):
        varies = np.ptp(a[both], axis=0) > 1e-9
        a, b = a[..., varies], b[..., varies]
        correlations.append(np.nan_to_num(column_correlation(a[both], b[both])))
        similarities += [map_similarity(a[..., i], b[..., i], both) for i in range(a.shape[2])]
    return {
        "map": _mean(np.concatenate(correlations)),
        "ssim": _mean(np.array(similarities)),
        "density": float(density),
    }


def paired_maps(
    real: NDArray, generated: NDArray, real_profiles: Any, generated_profiles: Any
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield the smoothed maps that :func:`compare_maps` compares, in blocks of genes.

    Parameters
    ----------
    real, generated, real_profiles, generated_profiles
        As for :func:`compare_maps`; profiles may be sparse.

    Yields
    ------
    tuple of ndarray
        Maps of the real and of the generated slice, (bins in x, bins in y, genes), and (bins in x,
        bins in y) bool: where both slices have spots.
    """
    grid = make_grid(real)
    sides = [_Side(grid, real), _Side(grid, generated)]
    both = (sides[0].counts > 0) & (sides[1].counts > 0)
    for a, b in _map_blocks(sides, both, real_profiles, generated_profiles):
        yield a, b, both


def _map_blocks(sides: list[_Side], both: NDArray, *profiles: Any) -> Iterator[list[NDArray]]:
    """Make the maps of both sides, some genes at a time; none if they hardly share a bin."""
    for start in range(0, profiles[0].shape[1] if both.sum() > 2 else 0, _GENES_AT_ONCE):
        part = slice(start, start + _GENES_AT_ONCE)
        yield [side.mean_map(one[:, part]) for side, one in zip(sides, profiles, strict=True)]


class _Side:
    """One of the two slices, binned."""

    def __init__(self, grid: Grid, points: NDArray):
        n, self.shape = len(points), grid.shape
        bins = grid.bins(points)
        self.binning = sparse.csr_matrix(
            (np.ones(n), (bins, np.arange(n))), shape=(np.prod(grid.shape), n)
        )
        self.counts = np.bincount(bins, minlength=np.prod(grid.shape)).reshape(grid.shape)
        self.weight = gaussian_filter(self.counts.astype(float), SMOOTHING, mode="constant")

    def mean_map(self, profiles: NDArray) -> NDArray:
        """Smoothed sum divided by smoothed number of spots, (bins in x, bins in y, genes)."""
        sums = self.binning @ profiles
        sums = (sums.toarray() if sparse.issparse(sums) else sums).reshape(*self.shape, -1)
        sums = gaussian_filter(sums, (SMOOTHING, SMOOTHING, 0), mode="constant")
        return sums / np.maximum(self.weight, 1e-12)[..., None]


def map_similarity(a: NDArray, b: NDArray, both: NDArray) -> float:
    """Structural similarity of two maps of one gene, averaged over some of the bins."""
    # Without the empty margin, which is alike whatever the maps are.
    rows, columns = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    a, b, both = a[box], b[box], both[box]
    if min(a.shape) < _SSIM_WINDOW:
        return np.nan
    middle, spread = a[both].mean(), np.ptp(a[both])
    a, b = np.where(both, a, middle), np.where(both, b, middle)
    full = structural_similarity(a, b, data_range=spread, win_size=_SSIM_WINDOW, full=True)[1]
    return float(full[both].mean())


def column_correlation(a: NDArray, b: NDArray) -> NDArray:
    """Pearson correlation of each column of ``a`` with that of ``b``; NaN where one is constant.

    Parameters
    ----------
    a, b
        (n, p).
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    varies = size > 1e-9 * len(a)
    return np.where(varies, (a * b).sum(axis=0) / np.where(varies, size, 1.0), np.nan)


def _mean(values: NDArray) -> float:
    """Mean of what is a number; NaN, without a warning, if nothing is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
