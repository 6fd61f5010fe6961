"""Ragged borders smoothed: every spot gets the domain that most of its neighbours have."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

__all__ = ["refine_domains"]


def refine_domains(
    adata: ad.AnnData,
    *,
    key: str = "genot_domain",
    n_neighbors: int = 50,
    spatial_key: str = "spatial",
    key_added: str | None = None,
) -> int:
    """Give each spot the domain most common among its nearest spots (majority vote).

    Smooths ragged borders and removes lone spots; thin layers can lose width, so it is
    optional. Ties go to the domain with the smaller number.

    Parameters
    ----------
    adata : AnnData
        One slice: neighbours are never looked for across slices.
    key : str
        Domain column that is read.
    n_neighbors : int
        Nearest spots that vote, the spot itself not among them (the published GenOT: 50).
    spatial_key : str
        Coordinates in `obsm`.
    key_added : str, optional
        Column that is written; None writes back to `key`.

    Returns
    -------
    int
        Number of spots that changed domain.

    Raises
    ------
    KeyError
        If the domains or the coordinates are missing.
    ValueError
        If a spot has no domain, or `n_neighbors` does not fit the number of spots.
    """
    if key not in adata.obs:
        raise KeyError(f"There is no obs[{key!r}] to refine. Run cluster_mixture first.")
    if spatial_key not in adata.obsm:
        raise KeyError(f"There is no obsm[{spatial_key!r}] (found: {sorted(adata.obsm)}).")
    if adata.obs[key].isna().any():
        raise ValueError(
            f"obs[{key!r}] has no domain for {int(adata.obs[key].isna().sum())} spots (NaN). "
            "Give every spot a domain, or refine a slice without these spots."
        )
    if not 1 <= n_neighbors < adata.n_obs:
        raise ValueError(
            f"n_neighbors is {n_neighbors}, but the slice has {adata.n_obs} spots. "
            f"Choose from 1 to {adata.n_obs - 1}."
        )
    domains = adata.obs[key].astype("category")
    one_hot = np.eye(len(domains.cat.categories), dtype=np.int32)[domains.cat.codes]
    index = NearestNeighbors(n_neighbors=n_neighbors).fit(adata.obsm[spatial_key])
    votes = index.kneighbors_graph() @ one_hot
    winner = votes.argmax(axis=1)
    adata.obs[key_added or key] = pd.Categorical.from_codes(winner, domains.cat.categories)
    return int((winner != domains.cat.codes.to_numpy()).sum())
