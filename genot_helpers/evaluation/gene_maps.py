"""Expression maps of two slices on one grid, and how alike they are, gene by gene.

Spots of two slices never sit in the same places, so expression is averaged in square bins of about
four spots. Sums and numbers of spots are smoothed alike before one is divided by the other
(normalised convolution: Knutsson & Westin 1993, doi 10.1109/CVPR.1993.341081). The code published
with GenOT compares principal components computed for each slice alone, whose signs and order are
arbitrary; places are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import jensenshannon
from skimage.metrics import structural_similarity

from ..arguments import checked
from ..comparable import comparable_places, sparse_log_profiles
from ..slices.geometry import spot_side
from ..slices.sections import by_pair
from ..slices.slices import SliceError
from .evaluation import domain_means

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


FLAT = 1e-9
"""A map that varies less counts as constant."""

SPOTS_PER_BIN = 4.0
SMOOTHING = 0.7  # standard deviation of the Gaussian in bins: 1.4 spot spacings
_MARGIN = 3  # empty bins around the held-out slice, where the Gaussian fades out
_GENES_AT_ONCE = 100
_SSIM_WINDOW = 7  # bins, the width that Wang et al. and scikit-image use without a Gaussian


class _Grid(NamedTuple):
    """Square bins over a slice: the lower corner, the side of a bin, bins along x and y."""

    corner: NDArray
    side: float
    shape: tuple[int, int]

    def bins(self, points: NDArray) -> NDArray:
        """Return the bin of each point, (n,) int; points outside belong to the outermost bins."""
        place = np.floor((points - self.corner) / self.side)
        place = np.clip(place, 0, np.array(self.shape) - 1).astype(int)
        return np.ravel_multi_index(tuple(place.T), self.shape)

    def summing(self, points: NDArray) -> sparse.csr_matrix:
        """Return the operator that adds up over the points in each bin, (bins, n)."""
        entries = np.ones(len(points)), (self.bins(points), np.arange(len(points)))
        return sparse.csr_matrix(entries, shape=(int(np.prod(self.shape)), len(points)))


def make_grid(points: NDArray, *, spots_per_bin: float = SPOTS_PER_BIN) -> _Grid:
    """Lay a grid over the held-out slice, with about ``spots_per_bin`` spots in a bin."""
    side = np.sqrt(spots_per_bin) * spot_side(points)
    if not side > 0:
        raise SliceError("Most spots of the held-out slice share their position with many others.")
    # A little more than the margin: rounding must not decide on which side of a line the first is.
    corner = points.min(axis=0) - (_MARGIN + 1e-6) * side
    n_x, n_y = ((points.max(axis=0) - corner) // side).astype(int) + 1 + _MARGIN
    return _Grid(corner, float(side), (int(n_x), int(n_y)))


def compare_maps(
    real: NDArray, generated: NDArray, real_profiles: NDArray, generated_profiles: NDArray
) -> dict[str, float]:
    """Compare expression and density of two slices on the grid of the real one."""
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
    """Two slices on the grid of the first."""

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
        """Yield the smoothed maps of some genes at a time: which genes, and both maps of them."""
        # Profiles are (n, p) and (m, p), dense or sparse (CSC is quickest); maps are dense, (bins
        # in x, bins in y, genes of the block).
        for start in range(0, real_profiles.shape[1], _GENES_AT_ONCE):
            part = slice(start, start + _GENES_AT_ONCE)
            chosen = (profiles[:, part] for profiles in (real_profiles, generated_profiles))
            dense = (p.toarray() if sparse.issparse(p) else p for p in chosen)
            yield part, *(side.mean_map(p) for side, p in zip(self.sides, dense, strict=True))


class _Side:
    """One of the two slices, binned."""

    def __init__(self, grid: _Grid, points: NDArray):
        self.shape, self.binning = grid.shape, grid.summing(points)
        self.counts = self.binning.sum(axis=1).A1.reshape(grid.shape)
        self.weight = gaussian_filter(self.counts.astype(float), SMOOTHING, mode="constant")

    def mean_map(self, profiles: NDArray) -> NDArray:
        """Smoothed sum divided by smoothed number of spots, (bins in x, bins in y, genes)."""
        sums = (self.binning @ profiles).reshape(*self.shape, -1)
        sums = gaussian_filter(sums, (SMOOTHING, SMOOTHING, 0), mode="constant")
        return sums / np.maximum(self.weight, 1e-12)[..., None]


def map_similarity(a: NDArray, b: NDArray, both: NDArray) -> float:
    """Structural similarity of two maps of one gene, averaged over some of the bins."""
    # Without the empty margin, which is equal in all maps.
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
    """Pearson correlation of each column of ``a`` with that of ``b``; NaN where one is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    varies = size > 1e-9 * len(a)
    return np.where(varies, (a * b).sum(axis=0) / np.where(varies, size, 1.0), np.nan)


def column_divergence(a: NDArray, b: NDArray) -> NDArray:
    """Jensen-Shannon divergence, in bits, of each column of a and b, scaled to sum 1."""
    # Lin, IEEE Transactions on Information Theory 1991, doi 10.1109/18.61115.
    shares = [np.clip(values, 0.0, None) for values in (a, b)]
    empty = np.any([values.sum(axis=0) <= 0 for values in shares], axis=0)
    shares = [np.where(empty, 1.0, values) for values in shares]
    divergence = np.nan_to_num(jensenshannon(*shares, axis=0, base=2)) ** 2
    return np.where(empty, np.nan, divergence)


def _mean(values: NDArray) -> float:
    """Mean of the finite values; NaN, without a warning, if there are none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


# -------------------------------------------------------------------------------------------------
# Gene by gene, over places or over domains.

_FEWEST_SPOTS = 20


@by_pair
@checked
def gene_similarity(
    generated: AnnData,
    real: AnnData,
    *,
    layer: str | None = None,
    spatial_key: str = "spatial",
    max_genes: int | None = None,
) -> pd.DataFrame:
    """Compare two slices of one frame gene by gene, each gene as a map over places.

    A map is the log expression at one depth, averaged in bins of about four spots of the real slice
    and lightly smoothed. Only bins that hold spots of both slices count.

    Parameters
    ----------
    generated, real, spatial_key
        Two slices in one frame and unit, with the same kind of values in ``X``. Nothing is written.
    layer
        Layer of ``generated`` to take in place of its ``X``: ``"mean"`` for the denoised product.
    max_genes
        Of more shared genes, those that vary most in ``real``; None: all.

    Returns
    -------
    pandas.DataFrame
        One row for each gene that both have and ``real`` expresses, the most similar first. With x
        and y the maps as vectors over bins:

        - ``pearson``: correlation; ``cosine``: x · y over the product of their lengths,
        - ``rmse``: root mean square difference of log expression; small for rare genes,
        - ``jensen_shannon``: divergence of x / Σx and y / Σy, in bits (Lin 1991, doi
          10.1109/18.61115),
        - ``ssim``: structural similarity (Wang et al. 2004, doi 10.1109/TIP.2003.819861),
        - ``mean``: mean log expression in ``real`` over these bins.

        NaN where undefined: a constant or empty map; ``ssim`` below 7 × 7 bins.

    Raises
    ------
    SliceError
        If the slices share no gene, hold different kinds of values, have fewer than 20 spots, or
        share fewer than three bins.
    """
    options = {"spatial_key": spatial_key, "min_spots": _FEWEST_SPOTS}
    places = comparable_places(real, generated, ("real", "generated"), **options)
    found = sparse_log_profiles(generated, real, layer=layer).most_variable(max_genes)
    blocks, maps = [], MapPair(*places)
    maps.check_overlap()
    both = maps.both
    for _, x, y in maps.blocks(found.real.tocsc(), found.generated.tocsc()):
        block = _measures(x[both], y[both])
        n_genes = x.shape[2]
        block["ssim"] = [map_similarity(x[..., i], y[..., i], both) for i in range(n_genes)]
        blocks.append(block)
    table = pd.concat(blocks).set_axis(found.genes.rename("gene"))
    columns = ["pearson", "cosine", "rmse", "jensen_shannon", "ssim", "mean"]
    return table[columns].sort_values("pearson", ascending=False, kind="stable")


@by_pair
@checked
def gene_similarity_by_domain(
    one: AnnData, other: AnnData, *, key: str = "genot_domain", other_key: str | None = None
) -> pd.DataFrame:
    """Compare two slices gene by gene, each gene as its mean in every domain.

    Needs no common frame, only domains of the same name in both
    (:func:`genot_helpers.evaluation.match_domains_by_markers`).

    Parameters
    ----------
    one, other
        Slices with the same kind of values in ``X``. Nothing is written.
    key, other_key
        Columns of ``obs`` with the domains; of ``other`` the same as of ``one`` if not given.

    Returns
    -------
    pandas.DataFrame
        As :func:`gene_similarity`, without ``ssim``; ``mean`` is that of ``other``.

    Raises
    ------
    SliceError
        If a column is missing, fewer than three domains have the same name, no gene is shared, or
        values are of different kinds.
    """
    found = sparse_log_profiles(one, other).most_variable()
    ours = domain_means(one, found.generated, key)
    theirs = domain_means(other, found.real, other_key or key)
    shared = theirs.index[theirs.index.isin(ours.index)]
    if len(shared) < 3:
        raise SliceError(
            f"{len(shared)} domains have the same name in both slices; at least 3 are needed. "
            "Match them first: match_domains_by_markers."
        )
    y, x = (table.loc[shared].to_numpy() for table in (ours, theirs))
    table = _measures(x, y).set_axis(found.genes.rename("gene"))
    return table.sort_values("pearson", ascending=False, kind="stable")


def _measures(x: NDArray, y: NDArray) -> pd.DataFrame:
    """Compare the columns of two tables, (places, genes); x is the real one."""
    sizes = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    empty = (x.sum(axis=0) <= 0) | (y.sum(axis=0) <= 0)
    columns = [np.asfortranarray(values) for values in (x, y)]  # contiguous: more exact sums
    divergence = np.where(empty, np.nan, column_divergence(*columns))
    measures = {"pearson": column_correlation(x, y)}
    measures["cosine"] = np.where(empty, np.nan, (x * y).sum(axis=0) / np.where(empty, 1.0, sizes))
    measures["rmse"] = np.sqrt(((x - y) ** 2).mean(axis=0))
    return pd.DataFrame(measures | {"jensen_shannon": divergence, "mean": x.mean(axis=0)})
