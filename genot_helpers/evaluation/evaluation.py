"""Scores of spatial domains, against an annotation (spots a pathologist labelled) or without one.

ARI: Hubert & Arabie 1985, doi 10.1007/BF01908075. NMI: Vinh, Epps & Bailey, JMLR 2010. Homogeneity,
completeness: Rosenberg & Hirschberg, EMNLP-CoNLL 2007. Macro F1: mean over annotated domains,
matched to found ones one to one (Kuhn 1955, doi 10.1002/nav.3800020109), so that a thin layer
counts as much as a thick one. CHAOS, PAS: Shang & Zhou 2022, doi 10.1038/s41467-022-34879-1. They
need no annotation; smooth is not the same as right, and one single domain has a perfect PAS.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.stats import theilslopes
from sklearn import metrics

from ..arguments import checked
from ..slices.geometry import nearest_distance
from ..slices.slices import SliceError, missing


@checked
def score_domains(
    adata: AnnData,
    *,
    truth: str = "domain_truth",
    predicted: str = "genot_domain",
    spatial_key: str = "spatial",
) -> dict[str, float]:
    """Score found domains against annotated ones, and their coherence in space.

    Spots without an annotation (NaN) are left out; ``n_spots``, ``n_domains``, ``chaos`` and
    ``pas`` use all spots.

    Parameters
    ----------
    adata
        A slice. Nothing is written.
    truth, predicted, spatial_key
        Columns of ``obs`` with annotated and found domains; slot of ``obsm`` with the coordinates.

    Returns
    -------
    Numbers ready for a table or JSON:

    - ``n_spots``, ``n_scored`` (annotated spots), ``n_domains`` (found domains),
    - ``ari``, ``nmi``, ``homogeneity``, ``completeness``: 1 is perfect, 0 is chance,
    - ``macro_f1``, ``macro_recall``: means over annotated domains; 0 for one that was not found,
    - ``chaos``, ``pas``: see :func:`genot_helpers.evaluation.score_coherence`; smaller is smoother.

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

    A good ARI can hide that a thin layer is missing altogether: here it shows as a row with recall
    0. Parameters and errors as for :func:`score_domains`.

    Returns
    -------
    One row for each annotated domain, in the order of the categories: ``n_spots``; ``recall``, the
    share of them in the matched found domain; ``precision``, the share of that domain's annotated
    spots that belong here; ``f1``; ``matched_domain`` (see :func:`match_domains`), or None.
    """
    return _score_each_domain(*_annotated_and_found(adata, truth, predicted))


@checked
def match_domains(
    adata: AnnData, *, truth: str = "domain_truth", predicted: str = "genot_domain"
) -> dict[object, object]:
    """Match found domains to annotated ones, one to one, so that both can share a colour.

    Of all one-to-one assignments the one with the most spots in common is taken. Parameters and
    errors as for :func:`score_domains`.

    Returns
    -------
    ``{found domain: annotated domain}``, every found domain once; None where no annotated domain is
    left or no spot is shared.
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

    A spot is right when its found domain is the one matched to its annotated domain. Parameters and
    errors as for :func:`reliability`.

    Returns
    -------
    ``right`` and ``wrong``, mean confidence of the right and of the wrong spots, and ``auc``, the
    chance that a right spot is more confident than a wrong one (0.5: no information; NaN if all are
    alike).
    """
    right, sure = _right_and_sure(adata, truth, predicted, confidence)
    mixed = right.any() and not right.all()
    return {
        "right": float(sure[right].mean()) if right.any() else float("nan"),
        "wrong": float(sure[~right].mean()) if not right.all() else float("nan"),
        "auc": float(metrics.roc_auc_score(right, sure)) if mixed else float("nan"),
    }


@checked(n_bins=(1, 10_000))
def reliability(
    adata: AnnData,
    *,
    truth: str = "domain_truth",
    predicted: str = "genot_domain",
    confidence: str = "genot_confidence",
    n_bins: int = 5,
) -> pd.DataFrame:
    """Compare confidence with how often it is right: the reliability curve, as a table.

    Spots are cut into groups of equal width of confidence between 0 and 1. Right: as in
    :func:`confidence_by_correctness`.

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
    """
    right, sure = _right_and_sure(adata, truth, predicted, confidence)
    group = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    of = pd.DataFrame({"confidence": sure, "right": right.astype(float)}).groupby(group)
    return of.mean().assign(n_spots=of.size()).reset_index(drop=True)


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

    Parameters and errors as for :func:`score_domains`. Two found domains may get one name.

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
    matched_size = table.sum().reindex(matched, fill_value=0).to_numpy()
    size = table.sum(axis=1).to_numpy()
    scores = {"n_spots": size, "recall": shared / size}
    scores["precision"] = shared / np.maximum(matched_size, 1)
    scores["f1"] = 2 * shared / (size + matched_size)
    scores["matched_domain"] = pd.array(matched, dtype=object)
    return pd.DataFrame(scores, index=pd.Index(table.index.astype(object), name=annotated.name))


def _annotated_and_found(adata: AnnData, truth: str, predicted: str) -> tuple[pd.Series, pd.Series]:
    """Return both labels of the annotated spots, as categories that all occur."""
    found = complete_domains(adata, predicted)
    if truth not in adata.obs:
        raise SliceError(
            f"{missing('obs', truth, adata.obs.columns)} Name the column with truth=..., or use "
            "score_coherence, which needs no annotation."
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

    With coordinates scaled to unit variance along each axis, and :math:`d_i` the distance from spot
    :math:`i` to the nearest other spot *of its own domain*,

    .. math:: \mathrm{CHAOS} = \frac{1}{n} \sum_i d_i .

    PAS (percentage of abnormal spots, here from 0 to 1) is the share of spots that have more than
    half of their 10 nearest neighbours in other domains. Parameters as for :func:`score_domains`.

    Returns
    -------
    ``{"chaos": ..., "pas": ...}``. A spot alone in its domain is left out of the mean (NaN if all
    are).

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
# Two halves of one tissue on two slides, along their cut, where domains should meet. Coordinates of
# the slides are unrelated, so height is relative: 0 at the upper end of the cut, 1 at the lower.

_REACH = 8.0  # spots: rows whose tissue ends further from the outermost one are left out


class CutAgreement(NamedTuple):
    """How well two halves agree along their cut.

    Attributes
    ----------
    agreement
        Share of the strips, height by height, that carry the same domain: 0 to 1.
    shuffled, upside_down
        The same with the heights of one half shuffled (mean over shuffles), or upside down.
    """

    agreement: float
    shuffled: float
    upside_down: float


@checked
def cut_agreement(
    left: AnnData,
    right: AnnData,
    *,
    key: str = "genot_domain",
    sides: tuple[str, str] = ("right", "left"),
    width: float = 3.0,
    n_bins: int = 20,
    n_shuffles: int = 200,
    seed: int = 0,
) -> CutAgreement:
    r"""Compare the domains of two halves along their cut.

    With :math:`p_b, q_b` the shares of the domains at height b in the two strips, the agreement is

    .. math:: \frac{1}{B} \sum_b \sum_d \min(p_{bd}, q_{bd}).

    Parameters
    ----------
    left, right, key
        The halves, and the column of ``obs``; equal names mean the same domain in both.
    sides
        Where the cut is in each. The same side twice compares two sections of one half: as good as
        agreement can be expected to get.
    width, n_bins
        See :func:`cut_strip`; heights that are told apart.
    n_shuffles, seed
        Of the shuffled baseline.

    Returns
    -------
    CutAgreement

    Raises
    ------
    SliceError
        If the column is missing, or no height has spots with a domain in both halves.
    """
    shares = [
        domains_by_height(half, key, side, width, n_bins)
        for half, side in zip((left, right), sides, strict=True)
    ]
    names = sorted(set(shares[0].columns) | set(shares[1].columns))
    one, other = (share.reindex(columns=names, fill_value=0.0).to_numpy() for share in shares)

    def agreement(one, other):
        both = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
        return float(np.minimum(one, other)[both].sum() / both.sum()) if both.any() else np.nan

    found = agreement(one, other)
    if np.isnan(found):
        raise SliceError(f"No height along the cut has spots with obs[{key!r}] in both halves.")
    rng = np.random.default_rng(seed)
    shuffled = [agreement(one, rng.permutation(other)) for _ in range(n_shuffles)]
    return CutAgreement(found, float(np.nanmean(shuffled)), agreement(one, other[::-1]))


@checked
def cut_offset(
    left: AnnData,
    right: AnnData,
    *,
    use_rep: str = "X_pca",
    sides: tuple[str, str] = ("right", "left"),
    width: float = 3.0,
    n_bins: int = 20,
) -> float:
    """Measure the jump of an embedding at the cut, in units of its variation along the cut.

    Expression should not change where the knife went: a mean difference between facing pieces is a
    shift that only the slides can explain.

    Parameters
    ----------
    left, right, sides, width, n_bins
        As in :func:`cut_agreement`.
    use_rep
        Embedding in ``obsm``.

    Returns
    -------
    float
        Length of the mean difference over heights, divided by the root mean square distance of the
        heights of a strip from their mean. 0: no jump; 1: as large as the tissue's own variation.
    """
    means = []
    for half, side in zip((left, right), sides, strict=True):
        bins = _pieces(half, side, width, n_bins)
        values = pd.DataFrame(half.obsm[use_rep], index=half.obs_names).loc[bins.index]
        means.append(values.groupby(bins).mean().reindex(range(n_bins)).to_numpy(dtype=float))
    both = np.isfinite(np.hstack(means)).all(axis=1)
    one, other = (part[both] for part in means)
    spread = np.sqrt(np.mean([((part - part.mean(0)) ** 2).sum(1).mean() for part in (one, other)]))
    return float(np.linalg.norm((one - other).mean(axis=0)) / spread)


@checked
def cut_strip(adata: AnnData, side: str, *, width: float = 3.0) -> pd.Series:
    """Find the spots along a cut, and how high each lies.

    Rows of the tissue are followed to their last spot on that side; spots within ``width`` of it
    belong to the strip. Rows that end away from the straight line through the others are left out.

    Parameters
    ----------
    adata, side
        A slice, y downwards; ``"left"`` or ``"right"``: where the cut is.
    width
        Of the strip, in distances between neighbouring spots.

    Returns
    -------
    pandas.Series
        Height from 0 (top) to 1 (bottom) of the spots in the strip, by spot name.

    Raises
    ------
    ValueError
        If the side is neither.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side is {side!r}: give 'left' or 'right', where the cut is.")
    xy = np.asarray(adata.obsm["spatial"], dtype=float)
    spacing = nearest_distance(xy)
    outwards = xy[:, 0] if side == "right" else -xy[:, 0]
    row = np.floor((xy[:, 1] - xy[:, 1].min()) / spacing).astype(int)
    end = pd.Series(outwards).groupby(row).max()
    end = end[end > end.max() - _REACH * spacing]
    slope, intercept, *_ = theilslopes(end, end.index)  # the cut is straight, and may be tilted
    end = end[np.abs(end - intercept - slope * end.index) < 2 * spacing]
    strip = outwards > end.reindex(row).to_numpy() - (width - 0.5) * spacing  # NaN: not in it
    height = xy[strip, 1]
    height = (height - height.min()) / max(np.ptp(height), np.finfo(float).tiny)
    return pd.Series(height, index=adata.obs_names[strip], name="height")


def _pieces(adata: AnnData, side: str, width: float, n_bins: int) -> pd.Series:
    """Return for each spot along the cut the piece of its height, from 0 to n_bins - 1."""
    height = cut_strip(adata, side, width=width)
    return np.minimum((height * n_bins).astype(int), n_bins - 1)


def domains_by_height(
    adata: AnnData, key: str, side: str, width: float, n_bins: int
) -> pd.DataFrame:
    """Return the share of each domain (columns) at each height (n_bins rows) along the cut."""
    found_domains(adata, key)
    bins = _pieces(adata, side, width, n_bins)
    names = adata.obs.loc[bins.index, key].astype(object)
    table = pd.crosstab(bins, names).reindex(range(n_bins), fill_value=0)
    table.columns = table.columns.astype(str)
    return table.div(table.sum(axis=1).clip(lower=1), axis=0)


# -------------------------------------------------------------------------------------------------
# Columns of domains: which domain every spot has, and means over domains.


def found_domains(adata: AnnData, key: str) -> pd.Series:
    """Return ``obs[key]`` with the categories that occur; raise if the column is missing."""
    if key not in adata.obs:
        raise SliceError(f"{missing('obs', key, adata.obs.columns)} Find domains first.")
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
