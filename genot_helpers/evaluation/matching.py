"""Domains of two slices: matched, named alike, compared, and described by their genes.

Domains are numbered by size, so "3" is not the same tissue in two slices that were clustered each
on its own. Expression can say which correspond: a cortical layer keeps its genes. The code
published with GenOT counts how many of the first twenty markers two groups share; here all markers
count, as a correlation. Top to bottom: matching; names; agreement in place; marker genes; scores of
domains that were found in two slices together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from ..arguments import checked
from ..comparable import comparable_places, coordinates, label_codes, sparse_log_profiles
from ..slices.geometry import spot_spacing
from ..slices.sections import by_pair
from ..slices.slices import SliceError, as_labels
from .evaluation import domain_means, found_domains, match_overlap, membership, score_domains
from .measures import compare_labels

if TYPE_CHECKING:
    from typing import Any


@by_pair
@checked
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
    mean over its domains is taken off gene by gene, which removes a batch effect, and genes are
    divided by their spread between domains. Places and other labels are not used.

    Parameters
    ----------
    reference, other
        Slices with genes in common and the same kind of values in ``X``. Nothing is written.
    key, other_key
        Columns of ``obs`` with the domains; of ``other`` the same as of ``reference`` if not given.
    n_markers, max_genes
        Compared are the ``n_markers`` highest genes of each domain, in either slice, of the
        ``max_genes`` shared ones that vary most in the reference.

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
    sides = (other, found.generated, other_key or key), (reference, found.real, key)
    tables = []
    for adata, profiles, column in sides:
        means = domain_means(adata, profiles, column)
        if len(means) < 2:
            raise SliceError(f"obs[{column!r}] names {len(means)} domain: at least 2 are needed.")
        means -= means.mean(axis=0)
        spread = np.sqrt((means**2).mean(axis=0))
        tables.append(means / spread.where(spread > 1e-9, np.inf))
    marks = np.zeros(len(found.genes), dtype=bool)
    for table in tables:
        marks[np.argsort(-table.to_numpy(), axis=1, kind="stable")[:, :n_markers]] = True
    ours, theirs = (table.to_numpy()[:, marks] for table in tables)
    values = np.corrcoef(ours, theirs)[: len(ours), len(ours) :]
    return pd.DataFrame(values, index=tables[0].index, columns=tables[1].index)


@by_pair
@checked
def marker_matches(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    other_key: str | None = None,
    min_similarity: float = 0.3,
    **options: Any,
) -> pd.DataFrame:
    """Match the domains of two slices one to one by their marker genes, with correlations.

    For slices clustered each on its own, in any frame. Of all one-to-one assignments the one with
    the largest sum of Fisher's z (inverse hyperbolic tangent of the correlation) is taken: one
    strong pair counts more than two middling ones.

    Parameters
    ----------
    reference, other, key, other_key, **options
        As for :func:`domain_similarity`; errors too.
    min_similarity
        Pairs that correlate less are not matched: a slice may have domains that the other lacks.

    Returns
    -------
    pandas.DataFrame
        A row for each domain of ``other``: ``match`` (domain of the reference, or None),
        ``correlation`` with it, and ``next_best``, the highest one with another. Where that is as
        high, the match is a guess.
    """
    table = domain_similarity(reference, other, key=key, other_key=other_key, **options)
    values = np.nan_to_num(table.to_numpy(), nan=-1.0)
    # A pair below min_similarity adds nothing to the sum, however low its correlation.
    strength = np.arctanh(np.clip(values, min_similarity, 1 - 1e-9))
    rows = []
    pairs = dict(zip(*linear_sum_assignment(strength, maximize=True), strict=True))
    for i, ours in enumerate(values):
        j = pairs.get(i)
        if j is None or not ours[j] > min_similarity:
            rows.append((None, np.nan, ours.max(initial=-1.0)))
        else:
            rows.append((table.columns[j], ours[j], np.delete(ours, j).max(initial=-1.0)))
    columns = ["match", "correlation", "next_best"]
    found = pd.DataFrame(rows, index=table.index.rename("domain"), columns=columns)
    return found.astype({"match": object})


@by_pair
@checked
def match_domains_by_markers(
    reference: AnnData, other: AnnData, **options: Any
) -> dict[str, str | None]:
    """Match the domains of two slices by their marker genes; parameters of :func:`marker_matches`.

    Returns
    -------
    ``{domain of other: domain of reference}``, every domain of ``other`` once; None: no match.
    """
    found = marker_matches(reference, other, **options)["match"]
    return {name: None if match is None else str(match) for name, match in found.items()}


# -------------------------------------------------------------------------------------------------
# Names in common, and with the names the colours: by place, or from any match.


@by_pair(writes=True)
@checked
def name_domains_like(
    reference: AnnData, other: AnnData, *, key: str = "genot_domain", spatial_key: str = "spatial"
) -> dict[str, str]:
    """Give the domains of a slice the names of the domains they lie on in another slice.

    Matched one to one, by the number of reference spots whose nearest spot in ``other`` has them.

    Parameters
    ----------
    reference, other
        Slices in one frame. ``obs[key]`` of the second is written anew, under the names of the
        first.
    key, spatial_key
        Column of ``obs`` and slot of ``obsm`` with the coordinates, in both.

    Returns
    -------
    dict
        Old name → new name. A domain without a partner gets a name that is not taken yet.

    Raises
    ------
    SliceError
        If the column or coordinates are missing, or the slices do not overlap.
    """
    p, q = _places_of_domains(reference, other, key, spatial_key)
    found = other.obs[key].astype("category")
    theirs = pd.Series(reference.obs[key].to_numpy()).astype("category")
    ours = pd.Series(found.array[cKDTree(q).query(p)[1]])
    partner = {b: a for a, b in match_overlap(pd.crosstab(theirs, ours)).items()}
    taken = {str(name) for name in theirs.dropna().unique()}
    free = (str(n) for n in itertools.count(1) if str(n) not in taken)
    names = {
        str(name): str(partner[name]) if name in partner else next(free)
        for name in found.cat.categories
    }
    renamed = found.astype(object).map(lambda name: names[str(name)], na_action="ignore")
    other.obs[key] = as_labels(renamed)
    return names


@checked
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
        Writes ``obs[key_added]``: categorical with the categories of the reference, in its order,
        then those without a match, named "new ..." after their old name.
    matched, like
        From :func:`match_domains_by_markers`; the reference.
    key, like_key, key_added
        Column that is read; column of the reference, and column that is written (``key`` if not
        given). Colours kept in ``uns`` for the old names are dropped.

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


# -------------------------------------------------------------------------------------------------
# Domains of two slices in one frame, compared place by place. Two technologies do not share their
# errors, so a border that both find in one place is probably in the tissue.


@by_pair
@checked
def domain_agreement(
    one: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    n_neighbors: int = 5,
    spatial_key: str = "spatial",
) -> float:
    """Compare the domains of two slices of the same tissue, place by place.

    Two technologies do not share their errors, so a border that both find is probably in the
    tissue.

    Parameters
    ----------
    one, other, key, spatial_key
        Slices in one frame and unit, column of the domains (names do not matter), coordinates.
    n_neighbors
        Nearest spots of the other slice that vote.

    Returns
    -------
    float
        Adjusted Rand index of the domain of each spot and the vote of its nearest spots in the
        other slice, mean over both directions: 1 for the same borders, about 0 for unrelated ones.
        Two annotations by one hand do not reach 1 either: compute theirs too, as a ceiling.

    Raises
    ------
    SliceError
        If the column or coordinates are missing, or the slices do not overlap.
    """
    p, q = _places_of_domains(one, other, key, spatial_key)
    a, b = label_codes(other, one, key, key)
    there = compare_labels(p, q, a, b, k=n_neighbors)["ari"]
    back = compare_labels(q, p, b, a, k=n_neighbors)["ari"]
    return (there + back) / 2


@by_pair
@checked
def agreement_in_place(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    spatial_key: str = "spatial",
    max_distance: float = 1.5,
) -> dict[str, float]:
    """Measure how often spots that lie on each other are in domains of the same name.

    An independent check of domains that were matched by markers, which do not use places.

    Parameters
    ----------
    reference, other, key, spatial_key
        As for :func:`domain_agreement`.
    max_distance
        How far the nearest spot of the reference may be, in its spot spacings.

    Returns
    -------
    dict of str to float
        ``covered``, the share of the spots of ``other`` with a spot of the reference near enough;
        of these, ``share``, in a domain of the same name as that spot, and ``by_chance``, that
        share if places were shuffled. The two are NaN if no spot is near enough.

    Raises
    ------
    SliceError
        If the column or coordinates are missing.
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


def _places_of_domains(one: AnnData, other: AnnData, key: str, spatial_key: str) -> list[NDArray]:
    """Return the coordinates of both; refuse slices apart, and slices without a domain."""
    for adata in (one, other):
        if not len(found_domains(adata, key).cat.categories):
            raise SliceError(f"obs[{key!r}] is empty: no spot has a domain.")
    return comparable_places(one, other, ("first", "second"), spatial_key=spatial_key)


# -------------------------------------------------------------------------------------------------
# Genes that tell domains apart, ranked by effect size and not by p-value.


@checked(min_share=(0, 2))
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

    There is no p-value on purpose: the domains were made from these very numbers, so a test is
    passed by construction (Gao, Bien & Witten, JASA 2022, doi 10.1080/01621459.2022.2116331).

    Parameters
    ----------
    adata, key, layer
        A slice; the column of ``obs`` with the domains (spots without one are left out); log
        expression, as :func:`genot_helpers.preprocessing.normalise` writes it.
    n_genes, min_share
        Genes for each domain; those that fewer of its spots express are passed over.

    Returns
    -------
    pandas.DataFrame
        Index: domain and gene, strongest first. Columns: ``effect`` (d), ``mean_inside``,
        ``mean_outside`` (log expression), ``share_inside``, ``share_outside`` (of spots that
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
    n, n_out = size.sum(), size.sum() - size
    sums, squares, filled = (
        (inside @ values).toarray() for values in (X, X.multiply(X).tocsr(), (X > 0).astype(float))
    )
    mean, mean_out = sums / size, (sums.sum(axis=0) - sums) / n_out
    share, share_out = filled / size, (filled.sum(axis=0) - filled) / n_out
    within = squares.sum(axis=0) - size * mean**2 - n_out * mean_out**2
    spread = np.sqrt(np.maximum(within / n, 0.0))
    effect = np.divide(mean - mean_out, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    effect[share < min_share] = 0.0
    columns = {"effect": effect, "mean_inside": mean, "mean_outside": mean_out}
    columns |= {"share_inside": share, "share_outside": share_out}
    rows = []
    for i, name in enumerate(domains.cat.categories):
        best = np.argsort(-effect[i], kind="stable")[:n_genes]
        best = best[effect[i, best] > 0]
        index = pd.MultiIndex.from_product([[str(name)], adata.var_names[best]])
        rows.append(pd.DataFrame({k: v[i, best] for k, v in columns.items()}, index=index))
    return pd.concat(rows).rename_axis(["domain", "gene"])


@checked
def score_joint_domains(
    slices: Mapping[str, AnnData], annotated: AnnData, columns: Mapping[str, str]
) -> pd.DataFrame:
    """Score domains that were found in two slices together, in several ways.

    Parameters
    ----------
    slices
        The two, in one frame, with the columns. Nothing is written.
    annotated
        Slice, or both joined, whose ``obs["domain_truth"]``, where it has it, domains are compared
        with.
    columns
        Name of a way → column of ``obs`` with its domains.

    Returns
    -------
    pandas.DataFrame
        A row for each way: ``place by place`` (:func:`domain_agreement` of the two slices), and
        :func:`genot_helpers.evaluation.score_domains` where there is an annotation; errors as
        theirs.
    """
    one, other = slices.values()
    table = {}
    for name, column in columns.items():
        table[name] = {"place by place": domain_agreement(one, other, key=column)}
        if "domain_truth" in annotated.obs:
            table[name].update(score_domains(annotated, predicted=column))
    return pd.DataFrame.from_dict(table, orient="index")
