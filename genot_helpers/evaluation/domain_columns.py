"""Columns of domains, read from a slice: which domain every spot has, and sums over domains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from ..slices.slices import SliceError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["complete_domains", "domain_means", "found_domains", "membership"]


def found_domains(adata: AnnData, key: str) -> pd.Series:
    """Return ``obs[key]`` as categories that all occur, or say that it is missing."""
    if key not in adata.obs:
        columns = list(adata.obs.columns)
        raise SliceError(f"obs[{key!r}] is missing: find domains first. Columns found: {columns}.")
    return adata.obs[key].astype("category").cat.remove_unused_categories()


def complete_domains(adata: AnnData, key: str) -> pd.Series:
    """Return ``obs[key]`` as :func:`found_domains` does; refuse spots without a domain (NaN)."""
    domains = found_domains(adata, key)
    n_missing = int(domains.isna().sum())
    if n_missing:
        raise SliceError(
            f"obs[{key!r}] has no domain for {n_missing} of {adata.n_obs} spots (NaN). "
            "Give every spot a domain, or score a slice without these spots."
        )
    return domains


def membership(domains: pd.Series) -> sparse.csr_matrix:
    """Return (domains, spots), 1 where a spot belongs; spots without a domain nowhere."""
    codes = domains.cat.codes.to_numpy()
    known = np.flatnonzero(codes >= 0)
    shape = len(domains.cat.categories), len(codes)
    return sparse.csr_matrix((np.ones(len(known)), (codes[known], known)), shape=shape)


def domain_means(adata: AnnData, profiles: sparse.spmatrix, key: str) -> pd.DataFrame:
    """Average profiles, (spots, genes), over each domain: (domains, genes), domains by name."""
    domains = found_domains(adata, key)
    members = membership(domains)
    size = np.asarray(members.sum(axis=1))
    means = (members @ profiles).toarray() / size
    return pd.DataFrame(means, index=[str(name) for name in domains.cat.categories])
