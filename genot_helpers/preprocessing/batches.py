"""Batch effects between slices: see them, measure them, take out a constant shift.

A gene captured twice as well in one slice is, in logarithms, a constant added to that gene in all
its spots; so the simplest model of a batch effect is one vector per slice, in the space of
principal components. :func:`slice_mixing`, :func:`slice_share` measure it; :func:`centre_slices`
and :func:`anchor_slices` take it out; :func:`correct_stripes` is about one slice: rows and columns
of a grid of bins that caught more or less than those beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.neighbors import NearestNeighbors

from ..arguments import checked
from ..slices.sections import Slices, as_list, by_section, joint_embeddings
from ..slices.slices import SliceError
from .graph import neighbour_mean, smooth

NEARER_HALF = 0.5  # share of the pairs, the nearest ones, that a shift is taken from


@by_section
@checked
def slice_mixing(
    slices: Slices,
    *,
    use_rep: str = "X_pca",
    n_neighbors: int = 30,
    max_spots: int = 5000,
    section_key: str | None = None,
) -> pd.DataFrame:
    """Measure from which slices the nearest neighbours of a slice's spots come, in an embedding.

    Sections of one tissue without batch effect share neighbours in proportion to their numbers of
    spots; with one, each keeps to itself. Slices of different tissue keep to themselves too, and
    should: more mixing is not always better.

    Parameters
    ----------
    slices, use_rep
        With the embedding ``obsm[use_rep]``, (n, d), the same d in all.
    n_neighbors
        Neighbours per spot, itself not counted.
    max_spots
        Larger slices are thinned to about this many spots, evenly through their rows.
    section_key
        Column of ``obs`` with the sections of one AnnData.

    Returns
    -------
    pandas.DataFrame
        (slices, slices); row: the share of the neighbours of this slice's spots that lie in each
        slice. Rows sum to 1.

    Raises
    ------
    SliceError
        If the embedding is missing, not finite, or of different widths.
    """
    named = _named(slices)
    blocks = [_thinned(block, max_spots) for block in joint_embeddings(named, use_rep)]
    owner = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    n_neighbors = min(n_neighbors, len(owner) - 1)
    everything = np.concatenate(blocks)
    index = NearestNeighbors(n_neighbors=n_neighbors).fit(everything)
    near = owner[index.kneighbors(return_distance=False)]  # of the points fitted: itself left out
    numbers = range(len(blocks))
    share = [[(near[owner == i] == j).mean() for j in numbers] for i in numbers]
    return pd.DataFrame(share, index=list(named), columns=list(named))


@by_section
@checked
def slice_share(
    slices: Slices, *, use_rep: str = "X_pca", section_key: str | None = None
) -> np.ndarray:
    """Measure which share of each dimension of an embedding is a difference between slices.

    Parameters
    ----------
    slices, use_rep
        Slices of the same tissue, with ``obsm[use_rep]``, (n, d): between others, part of the
        difference is tissue.
    section_key
        Column of ``obs`` with the sections of one AnnData.

    Returns
    -------
    numpy.ndarray of float, shape (d,)
        Share of the variance that lies between the means of the slices: 0 to 1 (correlation ratio).
    """
    blocks = joint_embeddings(_named(slices), use_rep)
    everything = np.concatenate(blocks)
    means = np.array([block.mean(axis=0) for block in blocks])
    weights = np.array([len(block) for block in blocks]) / len(everything)
    between_slices = weights @ (means - everything.mean(axis=0)) ** 2
    return between_slices / np.maximum(everything.var(axis=0), np.finfo(float).tiny)


@by_section
@checked
def centre_slices(
    slices: Slices,
    *,
    use_rep: str = "X_pca",
    key_added: str = "X_centred",
    section_key: str | None = None,
) -> pd.Series:
    """Shift every slice so that all have the same mean in an embedding.

    Right if all hold the same tissue in the same proportions; otherwise the difference between the
    tissues goes too.

    Parameters
    ----------
    slices, use_rep, key_added
        Reads ``obsm[use_rep]``, (n, d), writes ``obsm[key_added]``, float32.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    pandas.Series
        Length of the shift of each slice, in the unit of the embedding.
    """
    named = _named(slices)
    blocks = joint_embeddings(named, use_rep)
    middle = np.concatenate(blocks).mean(axis=0)
    shifts = [middle - block.mean(axis=0) for block in blocks]
    for adata, block, shift in zip(named.values(), blocks, shifts, strict=True):
        adata.obsm[key_added] = (block + shift).astype(np.float32)
    return pd.Series([np.linalg.norm(shift) for shift in shifts], list(named), name="shift")


@by_section
@checked
def anchor_slices(
    slices: Slices,
    *,
    use_rep: str = "X_pca",
    key_added: str = "X_anchored",
    n_neighbors: int = 10,
    n_steps: int = 4,
    max_spots: int = 5000,
    section_key: str | None = None,
) -> pd.DataFrame:
    r"""Shift every slice onto those before it, by spots that are mutual nearest neighbours.

    After Haghverdi et al. 2018, doi 10.1038/nbt.4091, with one vector per slice instead of a local
    average. Right as long as the batch effect is smaller than the differences between tissues, or
    at right angles to them. The first slice stays where it is. For each further one, pairs of spots
    :math:`(i, j)` are found, i in the slice and j in one of those already placed, that are among
    each other's ``n_neighbors`` nearest. The slice is moved by the median, per dimension, of
    :math:`y_j - x_i` over the nearer half of the pairs. Pairs are looked for after averaging over
    the spatial neighbourhood; the shift is applied to the embedding itself.

    Parameters
    ----------
    slices, use_rep, key_added
        Reads ``obsm[use_rep]``, (n, d), and ``obsp["spatial_connectivities"]``; writes
        ``obsm[key_added]``, float32. Each slice needs tissue in common with one before it.
    n_neighbors
        Two spots are mutual neighbours if each is among the so many nearest of the other.
    n_steps
        Rounds of averaging before pairs are looked for.
    max_spots
        Larger slices are thinned to about this many spots for the search.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    pandas.DataFrame
        A row per slice: ``shift`` (its length), ``anchors`` (pairs it was taken from) and
        ``scatter`` (root mean square distance of the pairs' differences from the shift: the pairs
        agree on it where this is small beside ``shift``).

    Raises
    ------
    SliceError
        If the embedding or the graph is missing, or embeddings do not fit together.
    ValueError
        If a slice has no mutual neighbour in those before it.
    """
    named = _named(slices)
    blocks = joint_embeddings(named, use_rep)
    smoothed = [
        _thinned(smooth(block, neighbour_mean(adata, f"slice {name!r}"), n_steps), max_spots)
        for block, (name, adata) in zip(blocks, named.items(), strict=True)
    ]
    placed = smoothed[0].astype(float)
    shifts, rows = [np.zeros(placed.shape[1])], [(0.0, 0, 0.0)]
    for name, block in zip(list(named)[1:], smoothed[1:], strict=True):
        here, there = _mutual_neighbours(block, placed, n_neighbors)
        if not len(here):
            raise ValueError(
                f"Slice {name!r} has no mutual nearest neighbour in the slices before it. Raise "
                "n_neighbors, or put it after a slice of the same tissue."
            )
        difference = placed[there] - block[here]
        length = np.linalg.norm(difference, axis=1)
        difference = difference[length <= np.quantile(length, NEARER_HALF)]
        shift = np.median(difference, axis=0)
        scatter = np.sqrt(((difference - shift) ** 2).sum(axis=1).mean())
        rows.append((np.linalg.norm(shift), len(difference), scatter))
        shifts.append(shift)
        placed = np.concatenate([placed, block + shift])
    for adata, block, shift in zip(named.values(), blocks, shifts, strict=True):
        adata.obsm[key_added] = (block + shift).astype(np.float32)
    return pd.DataFrame(rows, index=list(named), columns=["shift", "anchors", "scatter"])


def _mutual_neighbours(
    one: np.ndarray, other: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of one and of the other that are among each other's nearest."""
    k = min(n_neighbors, len(one), len(other))
    forth = NearestNeighbors(n_neighbors=k).fit(other).kneighbors_graph(one)
    back = NearestNeighbors(n_neighbors=k).fit(one).kneighbors_graph(other)
    both = sparse.coo_matrix(forth.multiply(back.T))
    return both.row, both.col


def _named(slices: Slices) -> dict[str, AnnData]:
    """Return slices by name; those of a list are called by their number, from 0."""
    if isinstance(slices, Mapping):
        return {str(name): adata for name, adata in slices.items()}
    return {str(number): adata for number, adata in enumerate(as_list(slices))}


def _thinned(block: np.ndarray, max_spots: int) -> np.ndarray:
    """Keep every so-many-th row, so that at most about max_spots are left."""
    return block[:: max(1, -(-len(block) // max_spots))]


class Stripes(NamedTuple):
    """What rows and columns of a grid of bins catch, from :func:`correct_stripes`.

    Attributes
    ----------
    rows, columns
        Number of the row or column → its factor; 1 is what the rows or columns beside it catch.
    before, after
        Standard deviation of the logarithm of those factors, rows and columns together, in the
        counts and in the corrected counts.
    """

    rows: pd.Series
    columns: pd.Series
    before: float
    after: float


@checked(width=(0.1, 1_000), n_rounds=(1, 1_000))
def correct_stripes(
    adata: AnnData,
    *,
    width: float = 8.0,
    n_rounds: int = 30,
    row_key: str = "array_row",
    column_key: str = "array_col",
    key_added: str = "destriped",
) -> Stripes:
    r"""Estimate what each row and column of a grid of bins catches, and divide it out.

    The total of the bin in row r and column c is taken for Poisson with mean
    :math:`a_r\, b_c\, m_{rc}`, where m is smooth. m is the total divided by the factors, averaged
    over neighbouring bins with a Gaussian; given m, the factors of the largest likelihood are

    .. math:: a_r = \frac{\sum_c N_{rc}}{\sum_c b_c\, m_{rc}}, \qquad
              b_c = \frac{\sum_r N_{rc}}{\sum_r a_r\, m_{rc}},

    and both steps alternate. Changes over more than a few ``width`` are taken out of the factors,
    go into m and stay: they may be tissue. One factor divides all genes of a bin alike: after
    :func:`normalise` stripes are gone but for the noise of bins that caught little.

    Parameters
    ----------
    adata
        Bins of one grid; ``X`` holds counts. Bins may be missing.
    width
        Standard deviation of the Gaussian, in bins.
    n_rounds
        How often both steps alternate.
    row_key, column_key
        Columns of ``obs`` with row and column as whole numbers.
    key_added
        Writes ``layers[key_added]``, ``X`` divided by the factors, float32, no whole numbers any
        more; and ``obs[key_added + "_factor"]``, the product of both factors of a bin. ``X`` stays.

    Returns
    -------
    Stripes
        Factors of rows and columns, and how large stripes are before and after.

    Raises
    ------
    SliceError
        If a column is missing or holds no whole numbers, two bins share a place, or the grid has
        over 100 times as many places as there are bins.

    Examples
    --------
    >>> stripes = correct_stripes(bins)  # doctest: +SKIP
    >>> print(f"{stripes.before:.2f} before, {stripes.after:.2f} after")  # doctest: +SKIP
    """
    row, column = (_grid_numbers(adata, key) for key in (row_key, column_key))
    shape = int(row.max()) + 1, int(column.max()) + 1
    if shape[0] * shape[1] > 100 * adata.n_obs:
        raise SliceError(
            f"obs[{row_key!r}] and obs[{column_key!r}] span {shape[0]:,} × {shape[1]:,} places for "
            f"{adata.n_obs:,} bins: that is no grid of bins."
        )
    total, there = np.zeros(shape), np.zeros(shape)
    np.add.at(there, (row, column), 1.0)
    if there.max() > 1:
        raise SliceError(f"Two bins share a place of obs[{row_key!r}] and obs[{column_key!r}].")
    total[row, column] = np.asarray(adata.X.sum(axis=1)).ravel()
    factors = _stripes(total, there, width, n_rounds)
    product = factors[0][row] * factors[1][column]
    adata.obs[f"{key_added}_factor"] = product
    scale = sparse.diags((1 / product).astype(np.float32))
    adata.layers[key_added] = sparse.csr_matrix(scale @ adata.X, dtype=np.float32)
    left = _stripes(total / np.outer(*factors), there, width, n_rounds)
    first = [pd.to_numeric(adata.obs[key]).min() for key in (row_key, column_key)]
    named = [
        pd.Series(factor, index=np.arange(len(factor)) + int(low), name="factor")
        for factor, low in zip(factors, first, strict=True)
    ]
    sizes = [float(np.log(np.concatenate(found)).std()) for found in (factors, left)]
    return Stripes(*named, *sizes)


def _grid_numbers(adata: AnnData, key: str) -> np.ndarray:
    """Return the row or column of every bin, from 0."""
    if key not in adata.obs:
        raise SliceError(
            f"obs[{key!r}] is missing; store the row or column of each bin of the grid there."
        )
    values = pd.to_numeric(adata.obs[key], errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(values).all() or (values % 1).any():
        raise SliceError(f"obs[{key!r}] is to hold whole numbers: rows or columns of a grid.")
    return (values - values.min()).astype(np.int64)


def _stripes(
    total: np.ndarray, there: np.ndarray, width: float, n_rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit factors of rows and columns to totals of a grid; 1 where a row holds nothing."""
    rows, columns = np.ones(total.shape[0]), np.ones(total.shape[1])
    weight = np.maximum(gaussian_filter(there, width, mode="constant"), 1e-12)
    for _ in range(n_rounds):
        smooth_total = gaussian_filter(total / np.outer(rows, columns), width, mode="constant")
        mean = there * smooth_total / weight
        rows = _level(_ratio(total.sum(axis=1), mean @ columns), width)
        columns = _level(_ratio(total.sum(axis=0), rows @ mean), width)
    return rows, columns


def _level(factors: np.ndarray, width: float) -> np.ndarray:
    """Take out what changes slowly: the smooth mean holds it, and both would drift apart."""
    logs = np.log(factors)
    return np.exp(logs - gaussian_filter1d(logs, width, mode="nearest"))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide; 1 where either is nothing, so that logarithms are finite."""
    good = (above > 0) & (below > 0)
    return np.where(good, above / np.where(good, below, 1.0), 1.0)
