"""Domains of two slices matched by their marker genes, and names and colours to go with it.

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
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from ..pairs.comparable import coordinates, named_log_profiles
from ..slices.slices import SliceError
from ..slices.spacing import spot_spacing
from .markers import domain_means, found_domains

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData

__all__ = [
    "agreement_in_place",
    "domain_similarity",
    "marker_matches",
    "match_domains_by_markers",
    "rename_domains",
]


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
    no match. :func:`rename_domains` gives them the names of the reference, and with the names the
    colours.

    Examples
    --------
    >>> rename_domains(other, match_domains_by_markers(reference, other), like=reference)
    """
    found = marker_matches(reference, other, **options)["match"]
    return {name: None if match is None else str(match) for name, match in found.items()}


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
    old = found_domains(adata, key)
    names = {str(one): matched.get(str(one), old) for one in old.cat.categories}
    missing = [one for one, name in names.items() if name is old]
    if missing:
        raise SliceError(f"no match is given for domain {missing[0]!r} of obs[{key!r}].")
    given = [name for name in names.values() if name is not None]
    if len(set(given)) < len(given):
        raise SliceError("two domains have the same match; a match is one to one.")
    names = {one: f"new {one}" if name is None else str(name) for one, name in names.items()}
    reference = [str(one) for one in found_domains(like, like_key or key).cat.categories]
    categories = reference + [name for name in names.values() if name not in reference]
    column = adata.obs[key].astype(object).map(lambda one: names.get(str(one), np.nan))
    adata.obs[key_added or key] = pd.Categorical(column, categories=categories)
    adata.uns.pop(f"{key_added or key}_colors", None)


def agreement_in_place(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    spatial_key: str = "spatial",
    max_distance: float = 1.5,
) -> dict[str, float]:
    """Tell how often spots of two slices that lie on each other are in domains of the same name.

    An independent check of domains that were matched by markers: those know nothing of places.

    Parameters
    ----------
    reference, other
        Slices in one frame with ``obs[key]``.
    key, spatial_key
        Column of the domains, and slot of the coordinates.
    max_distance
        How far the nearest spot of the reference may be, in its spot spacings.

    Returns
    -------
    ``share`` of the spots of ``other`` in a domain of the same name as the nearest spot of the
    reference; ``by_chance``, that share if places were shuffled; ``covered``, the share of spots
    that have one near enough. NaN if none has.
    """
    still = coordinates(reference, "reference", spatial_key)
    distance, near = cKDTree(still).query(coordinates(other, "other", spatial_key))
    here = distance <= max_distance * spot_spacing(still)
    if not here.any():
        return {"share": np.nan, "by_chance": np.nan, "covered": 0.0}
    ours = found_domains(other, key).astype(str).to_numpy()[here]
    theirs = found_domains(reference, key).astype(str).to_numpy()[near[here]]
    chance = sum((ours == name).mean() * (theirs == name).mean() for name in np.unique(ours))
    same = float((ours == theirs).mean())
    return {"share": same, "by_chance": float(chance), "covered": float(here.mean())}
