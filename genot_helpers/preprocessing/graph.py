"""From a spatial graph to means over the neighbourhood, step by step.

Multiplying the features of all spots by the normalised adjacency matrix of the graph replaces the
features of each spot by a weighted mean over its neighbourhood; doing so k times reaches the k-th
hop. That product is the only thing the encoder of GenOT knows about space. The normalisations are
those of Kipf and Welling (arXiv:1609.02907) and of Wu et al. (arXiv:1902.07153), who showed that
the repeated product needs no training and can be computed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..runtime import sq
from ..slices.geometry import on_visium_grid
from ..slices.sections import by_each_section
from ..slices.slices import SliceError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "connectivities",
    "graph_operator",
    "grid_graph",
    "nearest_neighbour_graph",
    "neighbour_mean",
    "row_normalised",
    "smooth",
    "spatial_graph",
    "spots_averaged",
    "symmetric_normalised",
]


# -------------------------------------------------------------------------------------------------
# From spot coordinates to a spatial graph, which says which spots touch.
#
# The graphs come from squidpy (Palla et al., Nature Methods 2022, doi:10.1038/s41592-021-01358-2).
# What is done with them is in :mod:`genot_helpers.preprocessing.graph`. Everything is sparse: n
# spots with k neighbours cost O(n k) memory and time.


@by_each_section
def spatial_graph(
    adata: AnnData,
    *,
    n_neighbors: int = 6,
    spatial_key: str = "spatial",
    key_added: str = "spatial",
    section_key: str | None = None,
) -> None:
    """Join every spot to its neighbours, in the way that suits the technology.

    Spots of a hexagonal Visium grid (recognised by ``obs["array_row"]`` and ``obs["array_col"]``)
    get their up to six touching neighbours by :func:`grid_graph`; all others get their
    ``n_neighbors`` nearest by :func:`nearest_neighbour_graph`.

    Parameters
    ----------
    adata
        A slice with coordinates in ``obsm[spatial_key]``, (n, 2).
    n_neighbors
        Neighbours of a spot that is not on a hexagonal grid.
    spatial_key
        Slot of the coordinates.
    key_added
        Prefix of the slots written.
    section_key
        Column of ``obs`` that tells the sections apart, where one AnnData holds several; results
        are written back to it (:func:`genot_helpers.slices.split_sections`).

    Returns
    -------
    Nothing. Writes ``obsp[key_added + "_connectivities"]`` (n, n) CSR float32 and
    ``obsp[key_added + "_distances"]`` (n, n) CSR, and ``uns[key_added + "_neighbors"]``.

    Raises
    ------
    SliceError
        Coordinates are missing, not finite or fewer than the graph needs.

    Examples
    --------
    >>> spatial_graph(adata)
    >>> adata.obsp["spatial_connectivities"].sum(axis=1).mean()  # neighbours of an average spot
    """
    if on_visium_grid(adata):
        grid_graph(adata, spatial_key=spatial_key, key_added=key_added)
    else:
        nearest_neighbour_graph(
            adata, n_neighbors=n_neighbors, spatial_key=spatial_key, key_added=key_added
        )


def grid_graph(adata: AnnData, *, spatial_key: str = "spatial", key_added: str = "spatial") -> None:
    """Join every spot of a hexagonal grid to the spots that touch it (six at most).

    Spots at the border of the tissue have fewer neighbours, and a spot that lies alone has none: a
    mean over its neighbourhood then leaves it its own features. Parameters, slots and errors are
    those of :func:`spatial_graph`; the distances count steps on the grid, so each of them is 1.
    """
    _check_coordinates(adata, spatial_key, n_neighbors=6)
    sq.gr.spatial_neighbors_grid(
        adata, n_neighs=6, n_rings=1, spatial_key=spatial_key, key_added=key_added
    )


def nearest_neighbour_graph(
    adata: AnnData,
    *,
    n_neighbors: int = 6,
    spatial_key: str = "spatial",
    key_added: str = "spatial",
) -> None:
    """Join every spot to its ``n_neighbors`` nearest spots.

    The graph is directed (row = spot, columns = its neighbours): being among the nearest of
    another spot is not mutual. Parameters, slots and errors are those of :func:`spatial_graph`;
    the distances are Euclidean, in the unit of the coordinates.
    """
    _check_coordinates(adata, spatial_key, n_neighbors)
    sq.gr.spatial_neighbors_knn(
        adata, n_neighs=n_neighbors, spatial_key=spatial_key, key_added=key_added
    )


def _check_coordinates(adata: AnnData, spatial_key: str, n_neighbors: int) -> None:
    """Say what is wrong with the coordinates before squidpy or scikit-learn stumbles on it."""
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


def symmetric_normalised(
    adjacency: sparse.sparray | sparse.spmatrix, *, self_loops: float = 1.0
) -> sparse.csr_matrix:
    r"""Normalise both sides of the undirected graph: :math:`D^{-1/2} (A + w I) D^{-1/2}`.

    An edge that exists in one direction is made to exist in both, with the larger of the two
    weights. The result is symmetric with eigenvalues in [-1, 1], so any number of hops stays
    bounded (Kipf and Welling, arXiv:1609.02907, equation 2).

    Parameters
    ----------
    adjacency
        (n, n), non-negative weights.
    self_loops
        w, the weight of a spot in its own neighbourhood. Self loops that the graph already has
        are kept as they are. A spot without any neighbour always keeps its own features.

    Returns
    -------
    (n, n) CSR, float64.
    """
    adjacency = sparse.csr_matrix(adjacency, dtype=np.float64)
    looped = _with_self_loops(adjacency.maximum(adjacency.T), self_loops)
    scale = 1.0 / np.sqrt(_row_sums(looped))
    looped = looped.tocoo()
    looped.data *= scale[looped.row] * scale[looped.col]
    return looped.tocsr()


def row_normalised(
    adjacency: sparse.sparray | sparse.spmatrix, *, self_loops: float = 1.0
) -> sparse.csr_matrix:
    r"""Divide every row by its sum: :math:`D^{-1} (A + w I)`, the mean over a neighbourhood.

    With ``self_loops=1`` a spot counts as one of its own neighbours. Directed graphs stay
    directed. Constant features remain constant, also at the border of the tissue.

    Parameters
    ----------
    adjacency
        (n, n), non-negative weights.
    self_loops
        w, as in :func:`symmetric_normalised`.

    Returns
    -------
    (n, n) CSR, float64; every row sums to 1.
    """
    looped = _with_self_loops(sparse.csr_matrix(adjacency, dtype=np.float64), self_loops)
    return sparse.csr_matrix(sparse.diags(1.0 / _row_sums(looped)) @ looped)


def graph_operator(
    adjacency: sparse.sparray | sparse.spmatrix, normalisation: str = "mean"
) -> sparse.csr_matrix:
    """Turn a graph into one of the operators P that the encoder knows, by name.

    "mean": :func:`row_normalised`. "symmetric": :func:`symmetric_normalised`. "symmetric_twice":
    normalised without self loops, then once more with them, as the code published with GenOT does;
    a spot then weighs about as much as all of its neighbours together.
    """
    if normalisation == "mean":
        return row_normalised(adjacency)
    if normalisation == "symmetric":
        return symmetric_normalised(adjacency)
    if normalisation == "symmetric_twice":
        return symmetric_normalised(symmetric_normalised(adjacency, self_loops=0.0))
    raise ValueError(
        f"normalisation is {normalisation!r}; choose mean, symmetric or symmetric_twice"
    )


def connectivities(adata: AnnData, name: str, *, otherwise: str = "") -> sparse.csr_matrix:
    """Return the spatial graph ``obsp["spatial_connectivities"]``.

    Parameters
    ----------
    adata, name
        A slice, and what messages call it.
    otherwise
        What the reader can do besides making the graph, to end the message with.

    Raises
    ------
    SliceError
        If there is no graph.
    """
    if "spatial_connectivities" not in adata.obsp:
        raise SliceError(
            f"{name}: obsp['spatial_connectivities'] is missing; run spatial_graph first{otherwise}"
        )
    return adata.obsp["spatial_connectivities"]


def neighbour_mean(adata: AnnData, name: str = "the slice") -> sparse.csr_matrix:
    """Return the mean over a spot and its neighbours as an operator, see :func:`row_normalised`.

    Parameters
    ----------
    adata, name
        A slice with ``obsp["spatial_connectivities"]``, and what messages call it.

    Raises
    ------
    SliceError
        If there is no graph.
    """
    return row_normalised(connectivities(adata, name))


def smooth(
    features: ArrayLike, operator: sparse.sparray | sparse.spmatrix, n_steps: int
) -> NDArray[np.float32]:
    """Average the features over the neighbourhood ``n_steps`` times: ``P^n_steps features``.

    With :func:`row_normalised` and four steps this is the trivial baseline of the notebooks.

    Parameters
    ----------
    features
        (n, p).
    operator
        (n, n), a normalised adjacency matrix P.
    n_steps
        How often; 0 returns the features.

    Returns
    -------
    (n, p) float32.

    Raises
    ------
    ValueError
        If the shapes do not fit, or ``n_steps`` is negative.

    Examples
    --------
    >>> smooth(adata.obsm["X_pca"], neighbour_mean(adata), 4)
    """
    current = np.asarray(features, dtype=np.float32)
    operator = sparse.csr_matrix(operator, dtype=np.float32)
    if current.ndim != 2 or operator.shape != (len(current), len(current)):
        raise ValueError(
            f"features are {current.shape} and the graph is {operator.shape}; "
            "give (n, p) features and the (n, n) graph of the same n spots"
        )
    if n_steps < 0:
        raise ValueError(f"n_steps is {n_steps}; give 0 or more")
    for _ in range(n_steps):
        current = operator @ current
    return current


def spots_averaged(adata: AnnData, n_steps: int = 4, *, seed: int = 0) -> float:
    r"""Tell how many spots a mean over the neighbourhood, taken ``n_steps`` times, amounts to.

    A mean with weights :math:`w_j` is as steady as a plain one over :math:`1 / \sum_j w_j^2`
    spots. Measured as the loss of variance of random numbers. Spots of a smoothed slice are no more
    independent than one in so many.

    Parameters
    ----------
    adata
        With ``obsp["spatial_connectivities"]``, see
        :func:`genot_helpers.preprocessing.spatial_graph`. Nothing is written.
    n_steps
        As in :func:`smooth`.
    seed
        Of the random numbers.

    Returns
    -------
    float
        1 or more; on the hexagonal grid of Visium about 25 for four steps.

    Raises
    ------
    SliceError
        If there is no graph.
    """
    operator = neighbour_mean(adata)
    noise = np.random.default_rng(seed).standard_normal((adata.n_obs, 16))
    return max(1.0, float(1.0 / (smooth(noise, operator, n_steps) ** 2).mean()))


def _with_self_loops(adjacency: sparse.csr_matrix, weight: float) -> sparse.csr_matrix:
    """Add a self loop to the spots that have none; always to the spots without neighbours."""
    if weight < 0 or (adjacency.nnz and adjacency.data.min() < 0):
        raise ValueError("a spatial graph has non-negative weights; found a negative one")
    loops = np.where(adjacency.diagonal() == 0, weight, 0.0)
    loops[_row_sums(adjacency) == 0] = weight or 1.0
    return sparse.csr_matrix(adjacency + sparse.diags(loops))


def _row_sums(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=1)).ravel()
