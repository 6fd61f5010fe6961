"""Scores of spatial domains, against an annotation (spots a pathologist labelled) or without one.

Against an annotation:

- ARI, adjusted Rand index: Hubert & Arabie, J. of Classification 1985, doi 10.1007/BF01908075.
- NMI, normalised mutual information: Vinh, Epps & Bailey, J. of Machine Learning Research 2010.
- Homogeneity, completeness: Rosenberg & Hirschberg, EMNLP-CoNLL 2007.
- Macro F1: the mean F1 of the annotated domains, after found domains have been matched to annotated
  ones one to one (Kuhn, Naval Research Logistics 1955, doi 10.1002/nav.3800020109). A thin layer
  counts as much as a thick one, whereas ARI is dominated by the large domains.

Without: CHAOS and PAS, the coherence of domains in space (Shang & Zhou, Nature Communications 2022,
doi 10.1038/s41467-022-34879-1; used by Yuan et al., Nature Methods 2024,
doi 10.1038/s41592-024-02215-8). Smaller is smoother, and smooth is not the same as right: one
single domain for the whole slice has a perfect PAS.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from sklearn import metrics

from ..arguments import checked
from ..slices.slices import SliceError

__all__ = [
    "complete_domains",
    "confidence_by_correctness",
    "domain_means",
    "found_domains",
    "majority_domains",
    "match_domains",
    "match_overlap",
    "membership",
    "recall_per_domain",
    "reliability",
    "score_coherence",
    "score_domains",
]


@checked
def score_domains(
    adata: AnnData,
    *,
    truth: str = "domain_truth",
    predicted: str = "genot_domain",
    spatial_key: str = "spatial",
) -> dict[str, float]:
    """Score found domains against annotated ones, and their coherence in space.

    Spots without an annotation (NaN in ``obs[truth]``) are left out of the comparison with it;
    ``n_spots``, ``n_domains``, ``chaos`` and ``pas`` use all spots.

    Parameters
    ----------
    adata
        A slice. Nothing is written.
    truth
        Column of ``obs`` with the annotated domains.
    predicted
        Column of ``obs`` with the found domains, one for every spot.
    spatial_key
        Key of ``obsm`` with the coordinates, shape (n, 2).

    Returns
    -------
    Numbers ready for a table or JSON:

    - ``n_spots``, ``n_scored`` (annotated spots), ``n_domains`` (found domains),
    - ``ari``, ``nmi``, ``homogeneity``, ``completeness``: 1 is perfect, 0 is chance,
    - ``macro_f1``, ``macro_recall``: means over annotated domains; 0 for one that was not found,
    - ``chaos``, ``pas``: see :func:`genot_helpers.evaluation.score_coherence`; smaller is
      smoother.

    Raises
    ------
    SliceError
        If a column or the coordinates are missing, no spot is annotated, or a spot has no found
        domain.
    """
    annotated, found = _annotated_and_found(adata, truth, predicted)
    coherence = score_coherence(adata, predicted=predicted, spatial_key=spatial_key)
    per_domain = _score_each_domain(annotated, found)
    labels = annotated.cat.codes, found.cat.codes
    return {
        "n_spots": adata.n_obs,
        "n_scored": len(annotated),
        "n_domains": int(adata.obs[predicted].nunique()),
        "ari": float(metrics.adjusted_rand_score(*labels)),
        "nmi": float(metrics.normalized_mutual_info_score(*labels)),
        "homogeneity": float(metrics.homogeneity_score(*labels)),
        "completeness": float(metrics.completeness_score(*labels)),
        "macro_f1": float(per_domain["f1"].mean()),
        "macro_recall": float(per_domain["recall"].mean()),
        **coherence,
    }


@checked
def recall_per_domain(
    adata: AnnData, *, truth: str = "domain_truth", predicted: str = "genot_domain"
) -> pd.DataFrame:
    """Measure for each annotated domain how much of it was found.

    A good ARI can hide that a thin layer (Layer 4 of the cortex, often) is missing altogether:
    here such a layer shows as a row with recall 0. Parameters as in :func:`score_domains`; spots
    without an annotation are left out.

    Returns
    -------
    One row for each annotated domain, in the order of the categories:

    - ``n_spots``: annotated spots of this domain,
    - ``recall``: share of them that lie in the matched found domain,
    - ``precision``: share of the matched found domain's annotated spots that belong here,
    - ``f1``: harmonic mean of the two,
    - ``matched_domain``: the found domain matched one to one (see :func:`match_domains`), or None.
    """
    return _score_each_domain(*_annotated_and_found(adata, truth, predicted))


@checked
def match_domains(
    adata: AnnData, *, truth: str = "domain_truth", predicted: str = "genot_domain"
) -> dict[object, object]:
    """Match found domains to annotated ones, one to one, so that both can share a colour.

    Of all one-to-one assignments the one with the largest number of spots in common is taken.
    Parameters as in :func:`score_domains`; spots without an annotation are left out.

    Returns
    -------
    ``{found domain: annotated domain}`` with every found domain as a key. The value is None where
    no annotated domain is left (more domains found than annotated) or no spot is shared.
    """
    annotated, found = _annotated_and_found(adata, truth, predicted)
    pairs = match_overlap(pd.crosstab(annotated, found))
    partner = {ours: theirs for theirs, ours in pairs.items()}
    return {name: partner.get(name) for name in complete_domains(adata, predicted).cat.categories}


@checked
def confidence_by_correctness(
    adata: AnnData,
    *,
    truth: str = "domain_truth",
    predicted: str = "genot_domain",
    confidence: str = "genot_confidence",
) -> dict[str, float]:
    """Measure whether confident spots are more often in the right domain.

    A spot is right when its found domain is the one matched to its annotated domain. Parameters
    as in :func:`score_domains`, and the column of ``obs`` with the confidence.

    Returns
    -------
    ``right`` and ``wrong``, the mean confidence of the right and of the wrong spots, and ``auc``,
    the chance that a right spot is more confident than a wrong one (0.5: no information; NaN if
    all spots are right or all are wrong).
    """
    right, sure = _right_and_sure(adata, truth, predicted, confidence)
    mixed = right.any() and not right.all()
    return {
        "right": float(sure[right].mean()) if right.any() else float("nan"),
        "wrong": float(sure[~right].mean()) if not right.all() else float("nan"),
        "auc": float(metrics.roc_auc_score(right, sure)) if mixed else float("nan"),
    }


@checked
def reliability(
    adata: AnnData,
    *,
    truth: str = "domain_truth",
    predicted: str = "genot_domain",
    confidence: str = "genot_confidence",
    n_bins: int = 5,
) -> pd.DataFrame:
    """Compare confidence with how often it is right: the reliability curve, as a table.

    A spot is right when its found domain is the one matched to its annotated domain. Spots are
    sorted by confidence and cut into groups of equal width of confidence between 0 and 1.

    Parameters
    ----------
    adata
        A slice. Nothing is written.
    truth, predicted, confidence
        Columns of ``obs``: annotated domains, found domains, confidence from 0 to 1.
    n_bins
        Number of groups, at least 1; groups without a spot are left out.

    Returns
    -------
    pandas.DataFrame
        A row per group: mean ``confidence``, share of ``right`` spots, ``n_spots``. A calibrated
        confidence has the first two equal.

    Raises
    ------
    SliceError
        If a column is missing, no spot is annotated, or a spot has no found domain.
    ValueError
        If `n_bins` is less than 1.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; give 1 or more.")
    right, sure = _right_and_sure(adata, truth, predicted, confidence)
    group = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    table = pd.DataFrame({"confidence": sure, "right": right.astype(float), "n_spots": 1.0})
    of = table.groupby(group)
    found = of[["confidence", "right"]].mean()
    found["n_spots"] = of["n_spots"].sum().astype(int)
    return found.reset_index(drop=True)


def _right_and_sure(
    adata: AnnData, truth: str, predicted: str, confidence: str
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which annotated spots are in the right domain, and how sure each was."""
    matched = match_domains(adata, truth=truth, predicted=predicted)
    if confidence not in adata.obs:
        raise SliceError(f"obs[{confidence!r}] is missing; find domains first.")
    known = adata.obs[truth].notna().to_numpy()
    found = adata.obs[predicted].astype(object).map(matched).to_numpy()[known]
    right = found == adata.obs[truth].astype(object).to_numpy()[known]
    return right, adata.obs[confidence].to_numpy(dtype=float)[known]


@checked
def majority_domains(
    adata: AnnData, *, truth: str = "domain_truth", predicted: str = "genot_domain"
) -> dict[object, object]:
    """Name found domains after the annotated one that more than half of their spots lie in.

    Parameters as in :func:`score_domains`; spots without an annotation are left out. Two found
    domains may get one name.

    Returns
    -------
    ``{found domain: annotated domain}``, or ``"mixed"`` where none has the majority.
    """
    annotated, found = _annotated_and_found(adata, truth, predicted)
    shares = pd.crosstab(found, annotated, normalize="index")
    named = {name: row.idxmax() if row.max() > 0.5 else "mixed" for name, row in shares.iterrows()}
    return {
        name: named.get(name, "mixed") for name in complete_domains(adata, predicted).cat.categories
    }


def match_overlap(table: pd.DataFrame) -> dict[object, object]:
    """Match rows (annotated) to columns (found) so that most spots agree: ``{row: column}``."""
    shared = table.to_numpy(dtype=float)
    f1 = 2 * shared / (shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True))
    # Shared spots are whole numbers. Adding less than one in total breaks ties between equally
    # large overlaps in favour of the higher F1 (not of whichever name comes first).
    rows, columns = linear_sum_assignment(shared + f1 / (min(shared.shape) + 1), maximize=True)
    pairs = zip(rows, columns, strict=True)
    return {table.index[i]: table.columns[j] for i, j in pairs if shared[i, j] > 0}


def _score_each_domain(annotated: pd.Series, found: pd.Series) -> pd.DataFrame:
    """Recall, precision and F1 of each annotated domain against its matched found domain."""
    table = pd.crosstab(annotated, found)
    partner = match_overlap(table)
    matched = [partner.get(name) for name in table.index]
    pairs = list(zip(table.index, matched, strict=True))
    shared = np.array([0 if ours is None else table.at[theirs, ours] for theirs, ours in pairs])
    matched_size = np.array([0 if ours is None else table[ours].sum() for ours in matched])
    size = table.sum(axis=1).to_numpy()
    columns = {
        "n_spots": size,
        "recall": shared / size,
        "precision": shared / np.maximum(matched_size, 1),
        "f1": 2 * shared / (size + matched_size),
        "matched_domain": pd.array(matched, dtype=object),
    }
    return pd.DataFrame(columns, index=pd.Index(table.index.astype(object), name=annotated.name))


def _annotated_and_found(adata: AnnData, truth: str, predicted: str) -> tuple[pd.Series, pd.Series]:
    """Return both labels of the annotated spots, as categories that all occur."""
    found = complete_domains(adata, predicted)
    if truth not in adata.obs:
        raise SliceError(
            f"obs[{truth!r}] is missing: name the column with truth=..., or use score_coherence, "
            f"which needs no annotation. Columns found: {list(adata.obs.columns)}."
        )
    known = adata.obs[truth].notna().to_numpy()
    if not known.any():
        raise SliceError(
            f"obs[{truth!r}] has no annotated spot, all {adata.n_obs} are NaN: check that the "
            "barcodes of the label file match obs_names, or use score_coherence."
        )
    return _as_category(adata.obs[truth][known]), _as_category(found[known])


def _as_category(labels: pd.Series) -> pd.Series:
    """Categories without those that no spot has; the order of given categories is kept."""
    return labels.reset_index(drop=True).astype("category").cat.remove_unused_categories()


# -------------------------------------------------------------------------------------------------
# Coherence in space, for which no annotation is needed.


@checked
def score_coherence(
    adata: AnnData, *, predicted: str = "genot_domain", spatial_key: str = "spatial"
) -> dict[str, float]:
    r"""Score how coherent domains are in space. No annotation is needed.

    With coordinates scaled to unit variance along each axis, and :math:`d_i` the distance from
    spot :math:`i` to the nearest other spot *of its own domain*,

    .. math:: \mathrm{CHAOS} = \frac{1}{n} \sum_i d_i .

    PAS (percentage of abnormal spots, here a share between 0 and 1) is the share of spots that
    have more than half of their nearest neighbours, so at least 6 of 10, in other domains.
    By k-d trees, in time O(n log n) and memory O(n).

    Parameters
    ----------
    adata
        A slice. Nothing is written.
    predicted
        Column of ``obs`` with the found domains, one for every spot.
    spatial_key
        Key of ``obsm`` with the coordinates, shape (n, 2).

    Returns
    -------
    ``{"chaos": ..., "pas": ...}``. A spot alone in its domain has no :math:`d_i` and is left out
    of the mean (if all spots are alone, ``chaos`` is NaN).

    Raises
    ------
    SliceError
        If the column or the coordinates are missing, or a spot has no domain.
    """
    domains = complete_domains(adata, predicted)
    if spatial_key not in adata.obsm or not np.isfinite(adata.obsm[spatial_key]).all():
        raise SliceError(
            f"obsm[{spatial_key!r}] is missing or not finite: CHAOS and PAS need coordinates."
        )
    coords = np.asarray(adata.obsm[spatial_key], dtype=float)
    # Spots on a grid have many neighbours at the same distance, and a k-d tree breaks such ties by
    # row. Sorting by place first makes the scores independent of the order of the rows.
    order = np.lexsort(coords.T)
    coords, codes = coords[order], domains.cat.codes.to_numpy()[order]
    return {"chaos": _chaos(coords, codes), "pas": _pas(coords, codes)}


def _chaos(coords: np.ndarray, codes: np.ndarray) -> float:
    """Mean distance to the nearest spot of the same domain, coordinates scaled per axis."""
    spread = coords.std(axis=0)
    scaled = (coords - coords.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    nearest = []
    for code in np.unique(codes):
        members = scaled[codes == code]
        if len(members) > 1:
            # Column 0 is the spot itself, at distance 0.
            nearest.append(cKDTree(members).query(members, k=2)[0][:, 1])
    return float(np.concatenate(nearest).mean()) if nearest else float("nan")


def _pas(coords: np.ndarray, codes: np.ndarray, n_neighbors: int = 10) -> float:
    """Share of spots that have more than half of their neighbours in other domains."""
    k = min(n_neighbors, len(coords) - 1)
    neighbors = cKDTree(coords).query(coords, k=k + 1)[1]
    # Each spot is among its own k + 1 results and never in another domain than itself.
    n_other = (codes[neighbors] != codes[:, None]).sum(axis=1)
    return float((n_other > k / 2).mean())


# -------------------------------------------------------------------------------------------------
# Columns of domains: which domain every spot has, and means over domains.


def found_domains(adata: AnnData, key: str) -> pd.Series:
    """Return ``obs[key]`` with the categories that occur; raise if the column is missing."""
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
