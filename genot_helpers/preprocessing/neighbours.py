"""From spot coordinates to a spatial graph, which says which spots touch.

The graphs come from squidpy (Palla et al., Nature Methods 2022, doi:10.1038/s41592-021-01358-2).
What is done with them is in :mod:`genot_helpers.preprocessing.graph`. Everything is sparse:
n spots with k neighbours cost O(n k) memory and time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..quiet import sq
from ..slices.slices import SliceError
from ..slices.units import on_visium_grid

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["grid_graph", "nearest_neighbour_graph", "spatial_graph"]


def spatial_graph(
    adata: AnnData,
    *,
    n_neighbors: int = 6,
    spatial_key: str = "spatial",
    key_added: str = "spatial",
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
