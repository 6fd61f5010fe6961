"""Real spots of two slices, gathered into a new slice; and the order in which spots are taken.

Rows of a table have no meaning, but a random draw goes by row. So that a result does not depend on
how the spots of a slice happen to be sorted, everything is done in an order that follows from their
names and from who is whose neighbour, which go with the spots, whichever way the slice is turned.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from .nearest import chain_neighbours

__all__ = ["as_given", "gather_spots", "genes_of_both", "order_of_spots"]


def order_of_spots(adata: AnnData, points: NDArray) -> NDArray[np.intp]:
    """Return the rows of a slice from neighbour to neighbour, starting from the order of names.

    Parameters
    ----------
    points
        (n, 2), coordinates of the spots. That neighbours follow each other saves time.
    """
    names = np.argsort(adata.obs_names.to_numpy(dtype=str), kind="stable")  # names are unique
    return names[chain_neighbours(points[names])]


def genes_of_both(left: AnnData, right: AnnData) -> pd.Index:
    """Genes that both slices have, in the order of the left one."""
    return left.var_names[left.var_names.isin(right.var_names)]


def gather_spots(left: AnnData, right: AnnData, chosen: NDArray, *, hidden: set[str]) -> AnnData:
    """Make a slice of real spots, with their expression unchanged and what is known of them.

    Parameters
    ----------
    left, right
        The slices.
    chosen
        (n,) int, rows of the left slice, and after them those of the right one.
    hidden
        Columns of ``obs`` that are left behind; so are those that begin with ``genot_``.

    Returns
    -------
    AnnData
        Genes of both slices; columns of ``obs`` that both have; ``obs["genot_source"]``,
        ``obs["genot_source_spot"]``.
    """
    genes = genes_of_both(left, right)
    X = sparse.vstack([sparse.csr_matrix(a[:, genes].X) for a in (left, right)], format="csr")
    X = X[chosen] if sparse.issparse(left.X) else X[chosen].toarray()
    obs = _known(left, right, chosen, hidden)
    names = np.concatenate([left.obs_names, right.obs_names])
    side = np.where(chosen < left.n_obs, "left", "right")
    obs["genot_source"] = pd.Categorical(side, categories=["left", "right"])
    obs["genot_source_spot"] = names[chosen].astype(str)
    return AnnData(X, obs=obs.set_axis(_names(len(chosen))), var=left[:, genes].var.copy())


def as_given(generated: AnnData, end: AnnData) -> AnnData:
    """Return the slice at an end with its spots in the order of that end."""
    rows = end.obs_names.astype(str).get_indexer(generated.obs["genot_source_spot"])
    generated = generated[np.argsort(rows)].copy()
    generated.obs_names = _names(generated.n_obs)
    return generated


def _names(n: int) -> list[str]:
    return [f"generated_{i}" for i in range(n)]


def _known(left: AnnData, right: AnnData, chosen: NDArray, hidden: set[str]) -> pd.DataFrame:
    """Look up what both slices know of their spots."""
    shared = [c for c in left.obs if c in right.obs and c not in hidden]
    shared = [c for c in shared if not c.startswith("genot_")]
    obs = pd.concat([left.obs[shared], right.obs[shared]]).iloc[chosen].copy()
    for column in obs.select_dtypes("object"):  # categories of both slices, as categories
        if any(isinstance(a.obs[column].dtype, pd.CategoricalDtype) for a in (left, right)):
            obs[column] = obs[column].astype("category")
    return obs
