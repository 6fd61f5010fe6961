"""Scores of kinds of spots in place: composition around a spot, maps of types, layers that double.

Cell types, or domains where no types are known, are what a biologist looks at first in a generated
slice. The measures of :mod:`genot_helpers.evaluation.measures` ask for the label of the nearest
spots; here the mixture of labels counts, within a radius, in squares of a grid and over the whole
slice, in the way in which other methods are scored, so that numbers can stand beside each other:
soft accuracy and soft Spearman correlation after MIMYR (Deshpande et al. 2025,
doi 10.1101/2025.11.24.690239), and distances of the distributions of types in squares. Radius and
squares are set from the spot spacing of the real slice, not in micrometres, so values are to be
compared within one table only.

A *ghost layer* is a thin layer that appears twice in a generated slice, because left and right
showed it in different places and both stayed: :func:`ghost_layers`.

As in :mod:`genot_helpers.evaluation.measures`, *real* is the held-out slice, points are (n, 2) in
one frame, labels (n,) integer codes with -1 for a spot without annotation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from ..arguments import checked
from ..comparable import coordinates
from ..slices.geometry import spot_side
from ..slices.slices import SliceError
from .gene_maps import column_correlation, make_grid

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["compare_types", "count_bands", "excess_bands", "ghost_layers", "soft_spearman"]

_RADIUS = 2.5  # spot sides around a place: about 20 spots
_SPOTS_PER_SQUARE = 25.0
_PSEUDO = 0.5  # of a spot, added to each type in a square: the divergence stays finite
_LINK = 2.5  # spot sides from one spot of a layer to the next
_SMALLEST_BAND = 0.1  # of the spots of a label ...
_FEWEST_IN_BAND = 4  # ... and no fewer than so many
_ROWS_AT_ONCE = 1000


def compare_types(
    real: NDArray, generated: NDArray, truth: NDArray, kinds: NDArray
) -> dict[str, float]:
    """Compare the mixture of kinds of spots, around every place and over the slice.

    Returns
    -------
    - ``soft_accuracy``: cosine of the shares of the labels among the labelled spots within a
      radius of 2.5 spot sides, of the real and of the generated slice, mean over the labelled real
      spots; 0 where no generated spot is near. 1 is best.
    - ``grid_l1``: sum over labels of the absolute difference of their shares in a square of the
      grid (about 25 spots), mean over the squares with labelled spots of either slice, by the
      number of real spots; 2, the largest value, where only the real slice has spots.
    - ``grid_kl``: Kullback-Leibler divergence of the shares in a square, real from generated, in
      bits, half a spot added to every label; mean over squares as before.
    - ``type_abundance``: sum over labels of the absolute difference of their share of all labelled
      spots, 0 to 2. 0 is best.

    All are NaN where a slice has no labels.
    """
    names = ("soft_accuracy", "grid_l1", "grid_kl", "type_abundance")
    known, usable = truth >= 0, kinds >= 0
    if not known.any() or not usable.any():
        return dict.fromkeys(names, float("nan"))
    side, grid = spot_side(real), make_grid(real, spots_per_bin=_SPOTS_PER_SQUARE)
    p, q = real[known], generated[usable]
    codes = np.arange(max(truth.max(), kinds.max()) + 1)
    one, other = ((c[:, None] == codes).astype(float) for c in (truth[known], kinds[usable]))
    around = [
        _within(points, p, _RADIUS * side) @ values for points, values in ((p, one), (q, other))
    ]
    size = np.linalg.norm(around[0], axis=1) * np.linalg.norm(around[1], axis=1)
    cosine = (around[0] * around[1]).sum(axis=1) / np.maximum(size, 1e-12)
    counts = [_in_squares(grid, points, values) for points, values in ((p, one), (q, other))]
    weight = counts[0].sum(axis=1)
    shares = [c / np.maximum(c.sum(axis=1, keepdims=True), 1.0) for c in counts]
    l1 = np.where(counts[1].sum(axis=1) > 0, np.abs(shares[0] - shares[1]).sum(axis=1), 2.0)
    filled = [(c + _PSEUDO) / (c + _PSEUDO).sum(axis=1, keepdims=True) for c in counts]
    kl = (filled[0] * np.log2(filled[0] / filled[1])).sum(axis=1)
    total = np.abs(one.mean(axis=0) - other.mean(axis=0)).sum()
    values = cosine.mean(), np.average(l1, weights=weight), np.average(kl, weights=weight), total
    return dict(zip(names, map(float, values), strict=True))


def soft_spearman(
    real: NDArray, generated: NDArray, real_profiles: NDArray, generated_profiles: NDArray
) -> float:
    """Correlate, over genes, the ranks of the mean profiles around every real spot.

    The means are over the spots within 2.5 spot sides, of the real slice (the spot itself included)
    and of the generated one. Genes are measured from their mean in the real slice: without that,
    all places agree on which genes are high everywhere, and any slice would come near 1.

    Parameters
    ----------
    real_profiles, generated_profiles
        (n, p) and (m, p), log expression of the same genes.

    Returns
    -------
    Spearman correlation, mean over real spots; a spot without generated spots near by counts as 0.
    """
    reach = _RADIUS * spot_side(real)
    centre = real_profiles.mean(axis=0)
    found = []
    for start in range(0, len(real), _ROWS_AT_ONCE):
        places = real[start : start + _ROWS_AT_ONCE]
        ranks = []
        for points, profiles in ((real, real_profiles), (generated, generated_profiles)):
            near = _within(points, places, reach)
            number = np.asarray(near.sum(axis=1)).reshape(-1, 1)
            mean = (near @ profiles) / np.maximum(number, 1.0) - centre
            ranks.append(rankdata(np.where(number > 0, mean, 0.0), axis=1))
        found.append(np.nan_to_num(column_correlation(ranks[0].T, ranks[1].T)))
    return float(np.concatenate(found).mean())


def count_bands(points: NDArray, labels: NDArray) -> NDArray[np.int64]:
    """Count the connected bands that each label forms.

    Two spots of a label are connected if they lie within 2.5 spot sides of each other. A band holds
    a tenth of the spots of its label at least, and four: single spots in the wrong place are none.

    Parameters
    ----------
    points
        (n, 2), all spots of the slice: their spacing is the unit.
    labels
        (n,) int, -1 for a spot without label.

    Returns
    -------
    ndarray of int64, (largest label + 1,)
        0 for a label that has fewer than four connected spots.
    """
    reach, counts = _LINK * spot_side(points), []
    for label in range(int(labels.max()) + 1 if len(labels) else 0):
        own = points[labels == label]
        pairs = cKDTree(own).query_pairs(reach, output_type="ndarray") if len(own) else []
        links = np.asarray(pairs, dtype=int).reshape(-1, 2)
        graph = sparse.csr_matrix((np.ones(len(links)), links.T), shape=(len(own),) * 2)
        sizes = np.bincount(connected_components(graph, directed=False)[1]) if len(own) else []
        enough = max(_SMALLEST_BAND * len(own), _FEWEST_IN_BAND)
        counts.append(int((np.asarray(sizes) >= enough).sum()))
    return np.array(counts, dtype=np.int64)


@checked
def ghost_layers(
    generated: AnnData,
    left: AnnData,
    right: AnnData,
    *,
    label_key: str = "domain_truth",
    generated_label_key: str = "genot_domain",
    spatial_key: str = "spatial",
) -> pd.DataFrame:
    """Count, for each label, the connected bands in a generated slice and in its two neighbours.

    A layer that lies in different places in left and right, and was copied from both, is one band
    in each of them and two in the generated slice: a ghost. It is told by comparison, because a
    structure may well have two bands: both halves of a brain, say.

    Parameters
    ----------
    generated, left, right
        Slices with ``obsm[spatial_key]`` (n, 2). Nothing is written.
    label_key, generated_label_key
        Columns of ``obs`` with the labels of the neighbours and of the generated slice; a column of
        real spots (``"cell_class"``) works too.

    Returns
    -------
    pandas.DataFrame
        One row per label that any of the slices has; columns ``generated``, ``left``, ``right``
        (int, bands, see :func:`count_bands`), and ``ghosts``: bands of the generated slice beyond
        those of the neighbour with more of them.

    Raises
    ------
    SliceError
        If coordinates are missing, or a slice has no label in its column.

    Examples
    --------
    >>> bands = ghost_layers(generated, left, right)
    >>> bands.loc[bands["ghosts"] > 0]
    """
    slices = {"generated": generated, "left": left, "right": right}
    keys = {"generated": generated_label_key, "left": label_key, "right": label_key}
    names = pd.Index([])
    for name, adata in slices.items():
        if keys[name] not in adata.obs or adata.obs[keys[name]].isna().all():
            found = ", ".join(map(str, adata.obs.columns[:8])) or "nothing"
            raise SliceError(
                f"obs[{keys[name]!r}] of the {name} slice names no spot. Name another column; "
                f"found: {found}."
            )
        names = names.union(adata.obs[keys[name]].dropna().astype(str).unique())
    bands = pd.DataFrame(0, index=names, columns=list(slices), dtype=int)
    for name, adata in slices.items():
        labels = adata.obs[keys[name]].astype(object).map(str, na_action="ignore")
        found = count_bands(coordinates(adata, name, spatial_key), names.get_indexer(labels))
        bands.loc[names[: len(found)], name] = found
    beyond = bands["generated"] - bands[["left", "right"]].max(axis=1)
    return bands.assign(ghosts=beyond.clip(lower=0))


def excess_bands(real: NDArray, generated: NDArray, truth: NDArray, kinds: NDArray) -> float:
    """Bands of labels in the generated slice beyond those in the real one, summed over labels.

    Both slices have the same number of spots, so chance breaks layers in both. NaN without labels.
    """
    if not (truth >= 0).any() or not (kinds >= 0).any():
        return float("nan")
    n = max(truth.max(), kinds.max()) + 1
    bands = [
        np.pad(found, (0, n - len(found)))
        for found in (count_bands(real, truth), count_bands(generated, kinds))
    ]
    return float(np.clip(bands[1] - bands[0], 0, None).sum())


def _within(points: NDArray, places: NDArray, reach: float) -> sparse.csr_matrix:
    """Return the operator that adds up over the points within reach of places, (m, n) CSR."""
    near = cKDTree(places).sparse_distance_matrix(cKDTree(points), reach, output_type="coo_matrix")
    ones = np.ones(len(near.row))
    return sparse.csr_matrix((ones, (near.row, near.col)), shape=(len(places), len(points)))


def _in_squares(grid, points: NDArray, values: NDArray) -> NDArray[np.float64]:
    """Add up the values (n, k) of the points in each square."""
    bins, n = grid.bins(points), len(points)
    adding = sparse.csr_matrix(
        (np.ones(n), (bins, np.arange(n))), shape=(int(np.prod(grid.shape)), n)
    )
    return np.asarray(adding @ values)
