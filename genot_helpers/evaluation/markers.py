"""Genes that tell domains apart, ranked by effect size and not by p-value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from ..slices.slices import SliceError
from .domain_columns import found_domains, membership

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["domain_markers"]


def domain_markers(
    adata: AnnData,
    *,
    key: str = "genot_domain",
    layer: str = "log1p",
    n_genes: int = 5,
    min_share: float = 0.1,
) -> pd.DataFrame:
    r"""List the genes that set each domain apart from the rest of the slice.

    Genes are ranked by effect size, the difference of the means in units of the standard deviation
    within (Cohen's d):

    .. math:: d = \frac{\bar x_{in} - \bar x_{out}}
              {\sqrt{(n_{in} s_{in}^2 + n_{out} s_{out}^2) / n}}

    There is no p-value on purpose. The domains were made from these very numbers, so a test of
    whether expression differs between them is passed by construction, even where there are no
    domains at all (Gao, Bien & Witten, JASA 2022, doi 10.1080/01621459.2022.2116331).

    Parameters
    ----------
    adata
        A slice with ``layers[layer]``, log expression. Nothing is written.
    key
        Column of ``obs`` with the domains; spots without one (NaN) are left out.
    layer
        As :func:`genot_helpers.preprocessing.normalise` writes it.
    n_genes
        Genes for each domain.
    min_share
        Genes that fewer spots of the domain express are passed over.

    Returns
    -------
    pandas.DataFrame
        Index: domain and gene, strongest first. Columns: ``effect`` (d), ``mean_inside`` and
        ``mean_outside`` (log expression), ``share_inside`` and ``share_outside`` (of spots that
        express the gene). A domain with no gene higher inside than outside has no row.

    Raises
    ------
    SliceError
        If the layer or the column is missing, or there are fewer than two domains.
    """
    if layer not in adata.layers:
        raise SliceError(f"layers[{layer!r}] is missing: run normalise or preprocess first.")
    domains = found_domains(adata, key)
    if len(domains.cat.categories) < 2:
        raise SliceError(f"obs[{key!r}] names one domain only: there is nothing to set apart.")
    X = sparse.csr_matrix(adata.layers[layer], dtype=np.float64)
    inside = membership(domains)
    size = np.asarray(inside.sum(axis=1))
    n = size.sum()
    sums, squares, filled = (
        (inside @ values).toarray() for values in (X, X.multiply(X).tocsr(), (X > 0).astype(float))
    )
    rows = []
    for i, name in enumerate(domains.cat.categories):
        n_in, n_out = float(size[i, 0]), float(n - size[i, 0])
        mean = sums[i] / n_in, (sums.sum(axis=0) - sums[i]) / n_out
        within = squares.sum(axis=0) - n_in * mean[0] ** 2 - n_out * mean[1] ** 2
        spread = np.sqrt(np.maximum(within / n, 0.0))
        difference = mean[0] - mean[1]
        effect = np.divide(difference, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        share = filled[i] / n_in, (filled.sum(axis=0) - filled[i]) / n_out
        effect[share[0] < min_share] = 0.0
        best = np.argsort(-effect, kind="stable")[:n_genes]
        best = best[effect[best] > 0]
        columns = {"effect": effect, "mean_inside": mean[0], "mean_outside": mean[1]}
        columns |= {"share_inside": share[0], "share_outside": share[1]}
        index = pd.MultiIndex.from_product([[str(name)], adata.var_names[best]])
        rows.append(pd.DataFrame({k: v[best] for k, v in columns.items()}, index=index))
    return pd.concat(rows).rename_axis(["domain", "gene"])
