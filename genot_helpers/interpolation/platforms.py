"""Expression of one technology, carried onto the places of another.

Two technologies see the same tissue with other genes, another resolution and another depth. Once
the slices are in one frame (:mod:`genot_helpers.alignment`), an optimal transport coupling says
which spots of the source a spot of the target corresponds to. The mean of these, weighted by mass,
is what the source would have seen there (barycentric projection: Ferradans et al., SIAM J. Imaging
Sciences 2014, doi 10.1137/130929886). A mean has fewer zeros than what was measured; a threshold
for each gene gives them back.

What can be transferred is the pattern of a gene at the resolution of the coarser slice, not the
depth, and not what cells of one place differ in.
"""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from ..pairs.pairs import check_pair
from ..pairs.shared_space import shared_space
from ..slices.slices import SliceError
from ..transport.transport import sparse_coupling

__all__ = ["carry_expression"]


def carry_expression(
    source: AnnData,
    target: AnnData,
    *,
    embedding_weight: float = 0.0,
    n_neighbors: int = 40,
    threshold: bool = False,
    spatial_key: str = "spatial",
) -> AnnData:
    """Carry the expression of a slice onto the spots of another one.

    Parameters
    ----------
    source
        Slice whose ``X`` is carried; all its genes are.
    target
        Slice whose spots are filled, in the same frame and unit. At least one gene must be shared;
        shared genes are carried too, so that they can be compared with what the target measured.
    embedding_weight
        How much expression of the shared genes counts beside the place, see
        :func:`genot_helpers.transport.sparse_coupling`; 0: by place alone.
    n_neighbors
        Candidate partners of a spot.
    threshold
        Set the smallest carried values of each gene to 0, until it has the share of zeros that it
        has in the source.
    spatial_key
        Slot of ``obsm`` with the coordinates.

    Returns
    -------
    AnnData
        Spots, ``obs`` and coordinates of the target; genes of the source. ``X`` (csr, float32) in
        the unit of the source; ``obs["genot_covered"]`` (bool) is False where no mass arrived: such
        a spot has no expression. ``uns["genot"]`` says how it was made. Neither slice is changed.

    Raises
    ------
    SliceError
        If a slice is unsound, no gene is shared, one holds logarithms and the other does not, or
        the slices do not touch.
    """
    check_pair(source, target, spatial_key=spatial_key)
    embeddings: tuple = (None, None)
    if embedding_weight:
        space = shared_space(source, target)
        embeddings = space.left, space.right
    points = [np.asarray(a.obsm[spatial_key], dtype=np.float64)[:, :2] for a in (source, target)]
    coupling = sparse_coupling(
        *points, *embeddings, embedding_weight=embedding_weight, n_neighbors=n_neighbors
    )
    arrived = np.asarray(coupling.plan.sum(axis=0)).ravel()
    covered = arrived > 0
    if not covered.any():
        raise SliceError("No spot of the target has a partner in the source. Align them first.")
    share = np.where(covered, 1.0 / np.maximum(arrived, 1e-300), 0.0)
    weights = sparse.diags(share) @ coupling.plan.T
    values = sparse.csr_matrix(weights @ sparse.csr_matrix(source.X), dtype=np.float32)
    if threshold:
        values = _with_zeros_of(values, sparse.csc_matrix(source.X), covered)
    carried = AnnData(values, obs=target.obs.copy(), var=source.var.copy())
    carried.obsm["spatial"] = points[1]
    carried.obs["genot_covered"] = covered
    carried.uns["genot"] = {
        "source": "Expression of another slice, carried onto these places by optimal transport.",
        "embedding_weight": float(embedding_weight),
        "threshold": threshold,
        "unmatched_fraction": coupling.unmatched_fraction,
    }
    return carried


def _with_zeros_of(
    values: sparse.csr_matrix, original: sparse.csc_matrix, covered: NDArray[np.bool_]
) -> sparse.csr_matrix:
    """Drop the smallest values of each gene until the covered spots have its share of zeros."""
    expressed = original.getnnz(axis=0) / original.shape[0]
    columns, n_covered = values.tocsc(), int(covered.sum())
    for gene, share in enumerate(expressed):
        part = slice(columns.indptr[gene], columns.indptr[gene + 1])
        kept = round(share * n_covered)
        stored = columns.data[part]
        if kept < len(stored):
            order = np.argsort(-stored, kind="stable")
            stored[order[kept:]] = 0.0
    columns.eliminate_zeros()
    return columns.tocsr()
