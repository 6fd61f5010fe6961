"""The spatial graph of a slice, and means over the neighbourhood that it defines.

Which spots touch is found by squidpy (Palla et al. 2022, doi:10.1038/s41592-021-01358-2) in O(n k)
memory and time. The product P X with a normalised adjacency matrix P replaces the features of each
spot by a weighted mean over its neighbourhood, P^k X reaches k hops. That product is the only thing
the encoder of GenOT knows about space, and it can be computed once (Wu et al., arXiv:1902.07153).
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from ..arguments import checked
from ..slices.geometry import on_visium_grid
from ..slices.sections import by_each_section
from ..slices.slices import SliceError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

with warnings.catch_warnings():
    # A docstring of squidpy 1.8.2, the last release for Python 3.11, names keys it does not have.
    warnings.filterwarnings("ignore", ".* is not a valid key!", SyntaxWarning)
    import squidpy as sq

# spatialdata logs for every graph that it uses no transform, which no reader can act on.
logging.getLogger("spatialdata._logging").setLevel(logging.WARNING)


@by_each_section
@checked
def spatial_graph(
    adata: AnnData,
    *,
    n_neighbors: int = 6,
    spatial_key: str = "spatial",
    key_added: str = "spatial",
    section_key: str | None = None,
) -> None:
    """Join every spot to its neighbours, by a rule that suits the technology.

    Spots of a hexagonal Visium grid (recognised by ``obs["array_row"]`` and ``obs["array_col"]``)
    get their up to six touching neighbours by :func:`grid_graph`; all others get their
    ``n_neighbors`` nearest by :func:`nearest_neighbour_graph`.

    Parameters
    ----------
    adata, spatial_key
        A slice with coordinates in ``obsm[spatial_key]``, (n, 2).
    n_neighbors
        Neighbours of a spot that is not on a hexagonal grid.
    key_added
        Writes ``obsp[key_added + "_connectivities"]`` (n, n) CSR float32 and
        ``obsp[key_added + "_distances"]`` (n, n) CSR, and ``uns[key_added + "_neighbors"]``.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Raises
    ------
    SliceError
        Coordinates are missing, not finite or fewer than the graph needs.

    Examples
    --------
    >>> spatial_graph(adata)
    >>> adata.obsp["spatial_connectivities"].sum(axis=1).mean()  # neighbours of an average spot
    """
    if on_visium_grid(adata, spatial_key):
        grid_graph(adata, spatial_key=spatial_key, key_added=key_added)
    else:
        nearest_neighbour_graph(
            adata, n_neighbors=n_neighbors, spatial_key=spatial_key, key_added=key_added
        )


@checked
def grid_graph(adata: AnnData, *, spatial_key: str = "spatial", key_added: str = "spatial") -> None:
    """Join every spot of a hexagonal grid to the spots that touch it (six at most).

    Spots at the border of the tissue have fewer neighbours. An isolated spot has none: the mean
    over its neighbourhood is then its own features. Parameters, slots and errors are
    those of :func:`spatial_graph`; the distances count steps on the grid, so each of them is 1.
    """
    _check_coordinates(adata, spatial_key, n_neighbors=6)
    sq.gr.spatial_neighbors_grid(
        adata, n_neighs=6, n_rings=1, spatial_key=spatial_key, key_added=key_added
    )


@checked
def nearest_neighbour_graph(
    adata: AnnData,
    *,
    n_neighbors: int = 6,
    spatial_key: str = "spatial",
    key_added: str = "spatial",
) -> None:
    """Join every spot to its ``n_neighbors`` nearest spots.

    The graph is directed (row = spot, columns = its neighbours): a spot need not be among the
    nearest of its own neighbours. Parameters, slots and errors are those of :func:`spatial_graph`;
    the distances are Euclidean, in the unit of the coordinates.
    """
    _check_coordinates(adata, spatial_key, n_neighbors)
    sq.gr.spatial_neighbors_knn(
        adata, n_neighs=n_neighbors, spatial_key=spatial_key, key_added=key_added
    )


def _check_coordinates(adata: AnnData, spatial_key: str, n_neighbors: int) -> None:
    """Raise a clear error for coordinates that squidpy or scikit-learn could not use."""
    if spatial_key not in adata.obsm:
        found = ", ".join(adata.obsm.keys()) or "nothing"
        raise SliceError(
            f"obsm[{spatial_key!r}] is missing (obsm holds: {found}); "
            "store the coordinates of the spots there, one row (x, y) each"
        )
    if not np.all(np.isfinite(np.asarray(adata.obsm[spatial_key], dtype=float))):
        raise SliceError(
            f"obsm[{spatial_key!r}] holds values that are not finite; "
            "remove the spots without a position"
        )
    if n_neighbors < 1:
        raise SliceError(f"n_neighbors is {n_neighbors}; give 1 or more")
    if adata.n_obs <= n_neighbors:
        raise SliceError(
            f"the slice has {adata.n_obs} spots and the graph needs more than {n_neighbors}; "
            "use a larger slice or fewer neighbours"
        )


# -------------------------------------------------------------------------------------------------
# Means over the neighbourhood, and the normalised adjacency matrices behind them.


def neighbour_mean(adata: AnnData, name: str = "the slice") -> sparse.csr_matrix:
    """Return the mean over a spot and its neighbours as an operator P, (n, n) CSR."""
    return row_normalised(connectivities(adata, name))


def connectivities(adata: AnnData, name: str, *, otherwise: str = "") -> sparse.csr_matrix:
    """Return ``obsp["spatial_connectivities"]``, or say what to do (``otherwise`` adds to it)."""
    if "spatial_connectivities" not in adata.obsp:
        raise SliceError(
            f"{name}: obsp['spatial_connectivities'] is missing; run spatial_graph first{otherwise}"
        )
    return adata.obsp["spatial_connectivities"]


@checked
def smooth(
    features: ArrayLike, operator: sparse.sparray | sparse.spmatrix, n_steps: int
) -> NDArray[np.float32]:
    """Average features (n, p) over the neighbourhood ``n_steps`` times: P^n_steps X, float32."""
    current = np.asarray(features, dtype=np.float32)
    operator = sparse.csr_matrix(operator, dtype=np.float32)
    if current.ndim != 2 or operator.shape != (len(current), len(current)):
        raise ValueError(
            f"features are {current.shape} and the graph is {operator.shape}; "
            "give (n, p) features and the (n, n) graph of the same n spots"
        )
    for _ in range(n_steps):
        current = operator @ current
    return current


@checked
def spots_averaged(adata: AnnData, n_steps: int = 4, *, seed: int = 0) -> float:
    r"""Measure over how many spots ``n_steps`` means over the neighbourhood average.

    A mean with weights :math:`w_j` has the variance of a plain mean over :math:`1 / \sum_j w_j^2`
    spots; that number is measured as the loss of variance of random numbers. Of the spots of a
    smoothed slice, about one in so many is independent.

    Parameters
    ----------
    adata
        With ``obsp["spatial_connectivities"]`` (:func:`spatial_graph`); else a SliceError.
    n_steps, seed
        As in :func:`smooth`; seed of the random numbers.

    Returns
    -------
    float
        1 or more; on the hexagonal grid of Visium about 25 for four steps.
    """
    operator = neighbour_mean(adata)
    noise = np.random.default_rng(seed).standard_normal((adata.n_obs, 16))
    return max(1.0, float(1.0 / (smooth(noise, operator, n_steps) ** 2).mean()))


def graph_operator(
    adjacency: sparse.sparray | sparse.spmatrix, normalisation: str = "mean"
) -> sparse.csr_matrix:
    """Turn a graph into an operator P: "mean", "symmetric" or "symmetric_twice"."""
    if normalisation == "mean":
        return row_normalised(adjacency)
    if normalisation == "symmetric":
        return symmetric_normalised(adjacency)
    if normalisation == "symmetric_twice":
        # As published with GenOT: a spot weighs about as much as all its neighbours together.
        return symmetric_normalised(symmetric_normalised(adjacency, self_loops=0.0))
    raise ValueError(
        f"normalisation is {normalisation!r}; choose mean, symmetric or symmetric_twice"
    )


@checked
def row_normalised(
    adjacency: sparse.sparray | sparse.spmatrix, *, self_loops: float = 1.0
) -> sparse.csr_matrix:
    """Divide every row by its sum: D^-1 (A + w I), the mean over a neighbourhood, (n, n) CSR."""
    # Directed graphs stay directed; a spot without neighbours keeps its own features.
    looped = _with_self_loops(sparse.csr_matrix(adjacency, dtype=np.float64), self_loops)
    return sparse.csr_matrix(sparse.diags(1.0 / _row_sums(looped)) @ looped)


def symmetric_normalised(
    adjacency: sparse.sparray | sparse.spmatrix, *, self_loops: float = 1.0
) -> sparse.csr_matrix:
    """Normalise both sides of the undirected graph: D^-1/2 (A + w I) D^-1/2, (n, n) CSR."""
    # An edge in one direction counts in both, with the larger weight. Eigenvalues lie in [-1, 1]:
    # any number of hops stays bounded (Kipf and Welling, equation 2).
    adjacency = sparse.csr_matrix(adjacency, dtype=np.float64)
    looped = _with_self_loops(adjacency.maximum(adjacency.T), self_loops)
    scale = 1.0 / np.sqrt(_row_sums(looped))
    looped = looped.tocoo()
    looped.data *= scale[looped.row] * scale[looped.col]
    return looped.tocsr()


def _with_self_loops(adjacency: sparse.csr_matrix, weight: float) -> sparse.csr_matrix:
    """Add a self loop to the spots that have none; always to the spots without neighbours."""
    if weight < 0 or (adjacency.nnz and adjacency.data.min() < 0):
        raise ValueError("a spatial graph has non-negative weights; found a negative one")
    loops = np.where(adjacency.diagonal() == 0, weight, 0.0)
    loops[_row_sums(adjacency) == 0] = weight or 1.0
    return sparse.csr_matrix(adjacency + sparse.diags(loops))


def _row_sums(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=1)).ravel()


@checked(n_permutations=(1, 1_000_000))
def neighbourhood_enrichment(
    adata: AnnData, key: str, *, n_permutations: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Tell which kinds of spots are neighbours more often than by chance (squidpy).

    Counted are edges of the spatial graph between two kinds, compared with spots whose kinds were
    shuffled.

    Parameters
    ----------
    adata
        A slice with ``obsp["spatial_connectivities"]``. squidpy writes its result to
        ``uns[key + "_nhood_enrichment"]``.
    key
        Column of ``obs`` with the kinds, categorical, one for every spot.
    n_permutations, seed
        Number of shuffles, and their seed.

    Returns
    -------
    pandas.DataFrame
        z-scores, kinds by kinds: positive where two kinds meet more often than by chance. They grow
        with the number of spots.

    Raises
    ------
    SliceError
        If the column or the graph is missing.
    """
    if key not in adata.obs or "spatial_connectivities" not in adata.obsp:
        missing = (
            f"obs[{key!r}]" if key not in adata.obs else "the spatial graph: run spatial_graph"
        )
        raise SliceError(f"To compare neighbours, {missing} is missing.")
    kinds = adata.obs[key].astype("category").cat.categories
    options = {"n_perms": n_permutations, "seed": seed, "show_progress_bar": False}
    sq.gr.nhood_enrichment(adata, cluster_key=key, **options)
    scores = adata.uns[f"{key}_nhood_enrichment"]["zscore"]
    return pd.DataFrame(scores, index=kinds, columns=kinds)
