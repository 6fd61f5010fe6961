"""Domains of two slices matched by their marker genes.

Domains are numbered by size, so "3" is not the same tissue in two slices that were clustered each
on its own. Without an annotation and without a common frame, expression can say which domains
correspond: a cortical layer keeps its genes. The code published with GenOT counts how many of the
first twenty markers two groups have in common; here all markers count, with their sizes, as a
correlation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from ..pairs.comparable import sparse_log_profiles
from ..slices.slices import SliceError
from .domain_columns import domain_means

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData

__all__ = ["domain_similarity", "marker_matches", "match_domains_by_markers"]


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
    found = sparse_log_profiles(other, reference).most_variable(max_genes)
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


def marker_matches(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    other_key: str | None = None,
    min_similarity: float = 0.3,
    **options: Any,
) -> pd.DataFrame:
    """Match the domains of two slices one to one by their marker genes, and say how well.

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
    pandas.DataFrame
        A row for each domain of ``other``: ``match`` (domain of the reference, None if there is
        none), ``correlation`` with it, and ``next_best``, the highest correlation with another one.
        Where that is as high, the match is a guess.
    """
    table = domain_similarity(reference, other, key=key, other_key=other_key, **options)
    values = np.nan_to_num(table.to_numpy(), nan=-1.0)
    # A pair that is no match adds nothing to the sum, however low it is.
    strength = np.arctanh(np.clip(values, min_similarity, 1 - 1e-9))
    rows = []
    pairs = dict(zip(*linear_sum_assignment(strength, maximize=True), strict=True))
    for i, ours in enumerate(values):
        j = pairs.get(i)
        j = j if j is not None and ours[j] > min_similarity else None
        others = np.delete(ours, j) if j is not None else ours
        name, correlation = (None, np.nan) if j is None else (table.columns[j], ours[j])
        rows.append((name, correlation, others.max(initial=-1.0)))
    columns = ["match", "correlation", "next_best"]
    found = pd.DataFrame(rows, index=table.index.rename("domain"), columns=columns)
    return found.astype({"match": object})


def match_domains_by_markers(
    reference: AnnData, other: AnnData, **options: Any
) -> dict[str, str | None]:
    """Match the domains of two slices by their marker genes; see :func:`marker_matches`.

    Parameters
    ----------
    reference, other, **options
        As for :func:`marker_matches`.

    Returns
    -------
    ``{domain of other: domain of reference}``, every domain of ``other`` once; None where there is
    no match. :func:`genot_helpers.evaluation.rename_domains` gives them the names of the reference,
    and with the names the colours.

    Examples
    --------
    >>> rename_domains(other, match_domains_by_markers(reference, other), like=reference)
    """
    found = marker_matches(reference, other, **options)["match"]
    return {name: None if match is None else str(match) for name, match in found.items()}
