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
from scipy.spatial.distance import jensenshannon
from skimage.metrics import structural_similarity

from ..slices.slices import SliceError
from ..slices.spacing import spot_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FLAT",
    "Grid",
    "MapPair",
    "column_correlation",
    "column_divergence",
    "compare_maps",
    "make_grid",
    "map_similarity",
]

FLAT = 1e-9
"""A map that varies less is that of a constant."""

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
    pair = MapPair(real, generated)
    density = column_correlation(*(side.weight[pair.either][:, None] for side in pair.sides))[0]
    correlations, similarities = [np.array([])], []
    for _, a, b in pair.blocks(real_profiles, generated_profiles) if pair.both.sum() > 2 else ():
        varies = np.ptp(a[pair.both], axis=0) > FLAT
        a, b = a[..., varies], b[..., varies]
        correlations.append(np.nan_to_num(column_correlation(a[pair.both], b[pair.both])))
        similarities += [map_similarity(a[..., i], b[..., i], pair.both) for i in range(a.shape[2])]
    return {
        "map": _mean(np.concatenate(correlations)),
        "ssim": _mean(np.array(similarities)),
        "density": float(density),
    }


class MapPair:
    """Two slices on the grid of the first.

    Attributes
    ----------
    both, either
        (bins in x, bins in y) bool, bins that hold spots of both slices, or of either.
    """

    def __init__(self, real: NDArray, generated: NDArray):
        self.grid = make_grid(real)
        self.sides = [_Side(self.grid, real), _Side(self.grid, generated)]
        here = [side.counts > 0 for side in self.sides]
        self.both, self.either = here[0] & here[1], here[0] | here[1]

    def check_overlap(self) -> None:
        """Raise a SliceError if fewer than three bins hold spots of both slices."""
        if self.both.sum() < 3:
            raise SliceError(
                "The slices hardly overlap: they share fewer than three bins of spots. Align them "
                "first."
            )

    def blocks(
        self, real_profiles: Any, generated_profiles: Any
    ) -> Iterator[tuple[slice, NDArray, NDArray]]:
        """Yield the smoothed maps of some genes at a time: which genes, and both maps of them.

        Profiles are (n, p) and (m, p), dense or sparse (CSC is quickest); maps are dense, (bins in
        x, bins in y, genes of the block).
        """
        for start in range(0, real_profiles.shape[1], _GENES_AT_ONCE):
            part = slice(start, start + _GENES_AT_ONCE)
            chosen = (profiles[:, part] for profiles in (real_profiles, generated_profiles))
            dense = (p.toarray() if sparse.issparse(p) else p for p in chosen)
            yield part, *(side.mean_map(p) for side, p in zip(self.sides, dense, strict=True))


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
        sums = (self.binning @ profiles).reshape(*self.shape, -1)
        sums = gaussian_filter(sums, (SMOOTHING, SMOOTHING, 0), mode="constant")
        return sums / np.maximum(self.weight, 1e-12)[..., None]


def map_similarity(a: NDArray, b: NDArray, both: NDArray) -> float:
    """Structural similarity of two maps of one gene, averaged over some of the bins.

    Parameters
    ----------
    a, b
        (bins in x, bins in y), the first is that of the real slice.
    both
        The bins that count, same shape, bool. NaN if they span fewer than 7 x 7, or if the real
        map is constant there.
    """
    # Without the empty margin, which is alike whatever the maps are.
    rows, columns = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    a, b, both = a[box], b[box], both[box]
    middle, spread = a[both].mean(), np.ptp(a[both])
    if min(a.shape) < _SSIM_WINDOW or not spread > FLAT:
        return np.nan
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


def column_divergence(a: NDArray, b: NDArray) -> NDArray:
    """Jensen-Shannon divergence, in bits, of each column of ``a`` and that of ``b``, sum 1 each.

    Lin, IEEE Transactions on Information Theory 1991, doi 10.1109/18.61115.

    Parameters
    ----------
    a, b
        (n, p). Values below 0, as a mean of logarithms of a denoised product may be, count as 0.

    Returns
    -------
    ndarray, (p,)
        0 to 1; NaN where one of the columns is empty.
    """
    shares = [np.clip(values, 0.0, None) for values in (a, b)]
    empty = np.any([values.sum(axis=0) <= 0 for values in shares], axis=0)
    shares = [np.where(empty, 1.0, values) for values in shares]
    divergence = np.nan_to_num(jensenshannon(*shares, axis=0, base=2)) ** 2
    return np.where(empty, np.nan, divergence)


def _mean(values: NDArray) -> float:
    """Mean of what is a number; NaN, without a warning, if nothing is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
