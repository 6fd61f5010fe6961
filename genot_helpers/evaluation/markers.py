"""Genes that tell domains apart, and domains of two slices matched by them.

Domains are numbered by size, so "3" is not the same tissue in two slices that were clustered each
on its own. Without an annotation and without a common frame, expression can say which domains
correspond: a cortical layer keeps its genes. The code published with GenOT counts how many of the
first twenty markers two groups have in common; here all markers count, with their sizes, as a
correlation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from ..pairs.comparable import named_log_profiles
from ..slices.slices import SliceError

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData

__all__ = [
    "domain_markers",
    "domain_means",
    "domain_similarity",
    "match_domains_by_markers",
    "rename_domains",
]


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
    domains = _domains(adata, key)
    if len(domains.cat.categories) < 2:
        raise SliceError(f"obs[{key!r}] names one domain only: there is nothing to set apart.")
    X = sparse.csr_matrix(adata.layers[layer], dtype=np.float64)
    inside = _members(domains)
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


def domain_similarity(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    other_key: str | None = None,
    n_markers: int = 50,
    max_genes: int = 3000,
) -> pd.DataFrame:
    """Correlate the mean expression of the domains of two slices, over their markers.

    Log expression of the shared genes at one depth is averaged over each domain. In each slice the
    mean over its domains is taken off gene by gene, which removes a batch effect that is the same
    everywhere, and genes are divided by their spread between domains. Compared are the genes that
    are among the ``n_markers`` highest of a domain, in either slice. Places play no part, nor do
    labels other than those compared.

    Parameters
    ----------
    reference, other
        Slices with genes in common and the same kind of values in ``X``. Nothing is written.
    key, other_key
        Columns of ``obs`` with the domains; of ``other`` the same as of ``reference`` if not given.
    n_markers
        Genes for each domain.
    max_genes
        Of more shared genes, those that vary most in the reference are considered.

    Returns
    -------
    pandas.DataFrame
        Pearson correlation, domains of ``other`` in the rows, of ``reference`` in the columns.

    Raises
    ------
    SliceError
        If a column is missing, a slice has fewer than two domains, no gene is shared, or values are
        of different kinds.
    """
    found = named_log_profiles(other, reference, max_genes=max_genes)
    tables = []
    for adata, profiles, column in (
        (other, found.generated, other_key or key),
        (reference, found.real, key),
    ):
        means = domain_means(adata, profiles, column)
        if len(means) < 2:
            raise SliceError(f"obs[{column!r}] names {len(means)} domain: at least 2 are needed.")
        means -= means.mean(axis=0)
        spread = np.sqrt((means**2).mean(axis=0))
        tables.append(means / spread.where(spread > 1e-9, np.inf))
    marks = np.zeros(len(found.genes), dtype=bool)
    for table in tables:
        for row in table.to_numpy():
            marks[np.argsort(-row, kind="stable")[:n_markers]] = True
    ours, theirs = (table.to_numpy()[:, marks] for table in tables)
    values = np.corrcoef(ours, theirs)[: len(ours), len(ours) :]
    return pd.DataFrame(values, index=tables[0].index, columns=tables[1].index)


def match_domains_by_markers(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    other_key: str | None = None,
    min_similarity: float = 0.3,
    **options: Any,
) -> dict[str, str | None]:
    """Match the domains of two slices one to one by their marker genes.

    For slices that were clustered each on its own, without annotation and in any frame. Of all
    one-to-one assignments the one with the largest sum of Fisher's z (the inverse hyperbolic
    tangent of the correlation) is taken (Kuhn 1955, doi 10.1002/nav.3800020109): one strong pair
    counts more than two middling ones.

    Parameters
    ----------
    reference, other, key, other_key
        As for :func:`domain_similarity`.
    min_similarity
        Pairs that correlate less are no match: a domain that the other slice does not have should
        stay alone.
    **options
        ``n_markers`` and ``max_genes`` of :func:`domain_similarity`.

    Returns
    -------
    ``{domain of other: domain of reference}``, every domain of ``other`` once; None where there is
    no match. :func:`rename_domains` gives them the names of the reference, and with the names the
    colours.

    Examples
    --------
    >>> rename_domains(other, match_domains_by_markers(reference, other), like=reference)
    """
    table = domain_similarity(reference, other, key=key, other_key=other_key, **options)
    values = np.nan_to_num(table.to_numpy(), nan=-1.0)
    # A pair that is no match adds nothing to the sum, however low it is.
    strength = np.arctanh(np.clip(values, min_similarity, 1 - 1e-9))
    rows, columns = linear_sum_assignment(strength, maximize=True)
    matched: dict[str, str | None] = dict.fromkeys(table.index)
    for i, j in zip(rows, columns, strict=True):
        if values[i, j] > min_similarity:
            matched[table.index[i]] = table.columns[j]
    return matched


def rename_domains(
    adata: AnnData,
    matched: Mapping[str, str | None],
    *,
    like: AnnData,
    key: str = "genot_domain",
    like_key: str | None = None,
    key_added: str | None = None,
) -> None:
    """Give domains the names, and so the colours, of those they were matched with.

    Parameters
    ----------
    adata
        The slice to rename in. Writes ``obs[key_added]``: categorical with the categories of the
        reference, in its order, then those without a match, named "new ..." after their old name.
    matched
        From :func:`match_domains_by_markers`.
    like
        The reference.
    key, like_key, key_added
        Column that is read; column of the reference (the same if not given); column that is written
        (``key`` if not given). Colours kept in ``uns`` for the old names are dropped.

    Raises
    ------
    SliceError
        If a domain is not in ``matched``, or two have the same match.
    """
    old = _domains(adata, key)
    names = {str(one): matched.get(str(one), old) for one in old.cat.categories}
    missing = [one for one, name in names.items() if name is old]
    if missing:
        raise SliceError(f"no match is given for domain {missing[0]!r} of obs[{key!r}].")
    given = [name for name in names.values() if name is not None]
    if len(set(given)) < len(given):
        raise SliceError("two domains have the same match; a match is one to one.")
    names = {one: f"new {one}" if name is None else str(name) for one, name in names.items()}
    reference = [str(one) for one in _domains(like, like_key or key).cat.categories]
    categories = reference + [name for name in names.values() if name not in reference]
    column = adata.obs[key].astype(object).map(lambda one: names.get(str(one), np.nan))
    adata.obs[key_added or key] = pd.Categorical(column, categories=categories)
    adata.uns.pop(f"{key_added or key}_colors", None)


def domain_means(adata: AnnData, profiles: sparse.spmatrix, key: str) -> pd.DataFrame:
    """Average profiles, (spots, genes), over each domain: (domains, genes), domains by name."""
    domains = _domains(adata, key)
    members = _members(domains)
    size = np.asarray(members.sum(axis=1))
    means = (members @ profiles).toarray() / size
    return pd.DataFrame(means, index=[str(name) for name in domains.cat.categories])


def _domains(adata: AnnData, key: str) -> pd.Series:
    """Return ``obs[key]`` as categories that all occur."""
    if key not in adata.obs:
        columns = list(adata.obs.columns)
        raise SliceError(f"obs[{key!r}] is missing: find domains first. Columns found: {columns}.")
    return adata.obs[key].astype("category").cat.remove_unused_categories()


def _members(domains: pd.Series) -> sparse.csr_matrix:
    """Return (domains, spots), 1 where a spot belongs; spots without a domain nowhere."""
    codes = domains.cat.codes.to_numpy()
    known = np.flatnonzero(codes >= 0)
    shape = len(domains.cat.categories), len(codes)
    return sparse.csr_matrix((np.ones(len(known)), (codes[known], known)), shape=shape)
