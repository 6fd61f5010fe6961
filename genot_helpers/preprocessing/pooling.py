"""Cells pooled into squares, to compare them with bins: the finer slice at the coarser resolution.

Resolution can be taken away, not added. Two slices that are to be analysed together (one spatial
graph rule, one depth, one meaning of "neighbour") are therefore both taken at the resolution of the
coarser one, and what was found is handed back to the cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..slices.labels import as_labels
from ..slices.slices import SliceError
from ..slices.squares import squares

__all__ = ["pool_spots"]


def pool_spots(
    adata: AnnData,
    side: float,
    *,
    label_keys: Sequence[str] = ("domain_truth",),
    key_added: str = "genot_pool",
    spatial_key: str = "spatial",
) -> AnnData:
    """Sum the spots in squares.

    Parameters
    ----------
    adata
        The finer slice, counts or other plain values (sums of logarithms mean nothing). Gets
        ``obs[key_added]``: the row of the pooled slice that a spot went to.
    side
        Side of a square, in the unit of the coordinates.
    label_keys
        Columns of ``obs`` to keep by majority (ties: the first by name); missing ones are skipped.
    key_added
        See ``adata``.
    spatial_key
        Slot of ``obsm`` with the coordinates.

    Returns
    -------
    AnnData
        One row per square that holds a spot: ``X`` (csr, float32), the sum; ``obs["n_spots"]``;
        ``obsm["spatial"]``, the middle of the square; ``var`` and ``uns["genot"]`` of the slice.

    Raises
    ------
    SliceError
        If coordinates are missing.
    ValueError
        If ``side`` is not a positive number.
    """
    if spatial_key not in adata.obsm:
        raise SliceError(f"obsm[{spatial_key!r}] is missing. Found: {list(adata.obsm)}.")
    points = np.asarray(adata.obsm[spatial_key], dtype=np.float64)[:, :2]
    places, member = squares(points, side)
    adata.obs[key_added] = member
    ones = np.ones(len(member), dtype=np.float32)
    pool = sparse.csr_matrix((ones, (member, np.arange(len(member)))))
    names = [f"square{number + 1:05d}" for number in range(len(places))]
    pooled = ad.AnnData(
        sparse.csr_matrix(pool @ sparse.csr_matrix(adata.X), dtype=np.float32),
        obs=pd.DataFrame({"n_spots": np.bincount(member)}, index=names),
        var=adata.var.copy(),
        obsm={"spatial": points.min(axis=0) + (places + 0.5) * side},
    )
    for key in (key for key in label_keys if key in adata.obs):
        pooled.obs[key] = _majority(adata.obs[key], pool, names)
    pooled.uns["genot"] = dict(adata.uns.get("genot", {})) | {"pooled_to": float(side)}
    return pooled


def _majority(labels: pd.Series, pool: sparse.csr_matrix, names: list[str]) -> pd.Series:
    """Return the label that most spots of a square have; NaN where none has any."""
    codes = as_labels(labels).cat
    votes = pool @ (codes.codes.to_numpy()[:, None] == np.arange(len(codes.categories)))
    best = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return pd.Series(pd.Categorical.from_codes(best, list(codes.categories)), index=names)
