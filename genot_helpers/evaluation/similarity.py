r"""How alike two slices are, gene by gene: over places, or over domains.

A score of a whole slice averages over genes, and hides which ones failed. Here each gene is a
vector, and the vectors of two slices are compared. With :math:`x` and :math:`y` the vectors:

- ``pearson``: correlation. Is the pattern right? Level and size of the pattern do not count.
- ``cosine``: :math:`x \cdot y / (|x| |y|)`. As values are not negative and not centred, it is
  high for any gene that is everywhere; look at it beside ``mean``.
- ``rmse``: root mean square difference, in units of log expression. Small for rare genes.
- ``jensen_shannon``: divergence, in bits (0 to 1; Lin, IEEE Transactions on Information Theory
  1991, doi 10.1109/18.61115), of :math:`x / \sum x` and :math:`y / \sum y`: of where a gene is.
- ``ssim``: structural similarity of the two maps, see :mod:`genot_helpers.evaluation.grid_maps`.

The code published with GenOT compares principal components of genes instead, computed for each
slice alone. Signs and order of components are then arbitrary between slices; places are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..pairs.comparable import comparable_places, sparse_log_profiles
from ..slices.slices import SliceError
from .domain_columns import domain_means
from .grid_maps import MapPair, column_correlation, column_divergence, map_similarity

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["gene_similarity", "gene_similarity_by_domain"]

_FEWEST_SPOTS = 20


def gene_similarity(
    generated: AnnData,
    real: AnnData,
    *,
    layer: str | None = None,
    spatial_key: str = "spatial",
    max_genes: int | None = None,
) -> pd.DataFrame:
    """Compare two slices of one frame gene by gene, each gene as a map over places.

    Maps are those of :func:`genot_helpers.evaluation.grid_maps.compare_maps`: log expression at one
    depth, averaged in bins of about four spots of the real slice and lightly smoothed. Only bins
    that hold spots of both slices count.

    Parameters
    ----------
    generated, real
        Two slices in one frame and unit, with the same kind of values in ``X``: a generated one
        and the held-out one, or two sections. Nothing is written.
    layer
        Layer of ``generated`` to take in place of its ``X``: ``"mean"`` for the denoised product.
    spatial_key
        Slot of ``obsm`` with the coordinates, (n, 2).
    max_genes
        Of more shared genes, those that vary most in ``real``; None: all.

    Returns
    -------
    pandas.DataFrame
        One row for each gene that both slices have and ``real`` expresses, the most similar first
        (by ``pearson``): ``pearson``, ``cosine``, ``rmse``, ``jensen_shannon``, ``ssim``, and
        ``mean``, the mean log expression in ``real`` over these bins. NaN where a measure has no
        meaning: ``pearson`` of a constant map, ``cosine`` and ``jensen_shannon`` of an empty one,
        ``ssim`` below 7 × 7 bins.

    Raises
    ------
    SliceError
        If the slices share no gene, hold different kinds of values, have fewer than 20 spots, do
        not overlap, or share fewer than three bins.

    Examples
    --------
    >>> table = gene_similarity(generated, held_out)
    >>> table.nsmallest(10, "pearson")
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


def gene_similarity_by_domain(
    one: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    other_key: str | None = None,
) -> pd.DataFrame:
    """Compare two slices gene by gene, each gene as its mean in every domain.

    Needs no common frame, only domains of the same name in both: annotated ones, or found ones that
    were clustered together or matched
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
    means = [
        domain_means(adata, profiles, column)
        for adata, profiles, column in (
            (one, found.generated, key),
            (other, found.real, other_key or key),
        )
    ]
    shared = means[1].index[means[1].index.isin(means[0].index)]
    if len(shared) < 3:
        raise SliceError(
            f"{len(shared)} domains have the same name in both slices; at least 3 are needed. "
            "Match them first: match_domains_by_markers."
        )
    y, x = (table.loc[shared].to_numpy() for table in means)
    table = _measures(x, y).set_axis(found.genes.rename("gene"))
    return table.sort_values("pearson", ascending=False, kind="stable")


def _measures(x: NDArray, y: NDArray) -> pd.DataFrame:
    """Compare the columns of two tables, (places, genes); x is the real one."""
    sizes = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    empty = (x.sum(axis=0) <= 0) | (y.sum(axis=0) <= 0)
    columns = [np.asfortranarray(values) for values in (x, y)]  # in one piece: more exact sums
    divergence = np.where(empty, np.nan, column_divergence(*columns))
    return pd.DataFrame(
        {
            "pearson": column_correlation(x, y),
            "cosine": np.where(empty, np.nan, (x * y).sum(axis=0) / np.where(empty, 1.0, sizes)),
            "rmse": np.sqrt(((x - y) ** 2).mean(axis=0)),
            "jensen_shannon": divergence,
            "mean": x.mean(axis=0),
        }
    )
