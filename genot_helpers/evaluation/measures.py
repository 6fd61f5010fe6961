"""Measures of how alike two slices are: plain arrays in, numbers out.

In space: agreement of nearest spots, of carried labels, of the composition of neighbourhoods, of
spatial autocorrelation (Moran, Biometrika 1950, doi 10.1093/biomet/37.1-2.17), and of coordinates
alone (sliced Wasserstein distance: Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3).
Regardless of place: how much genes vary, how they vary together, and whether a classifier can tell
generated from real profiles (Lopez-Paz & Oquab, ICLR 2017, arXiv:1610.06545).

*real* is the held-out slice and *generated* the one under test; points are (n, 2) in one frame,
profiles (n, p) log expression of the same genes, labels (n,) integer codes with -1 for a spot
without annotation. Comparisons on a grid are in ``gene_maps.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import ot
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.spatial.distance import jensenshannon
from scipy.stats import theilslopes
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from ..arguments import checked
from ..slices.geometry import nearest_distance, spot_side
from ..slices.slices import SliceError
from .gene_maps import column_correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CutAgreement",
    "averaging",
    "classifier_auc",
    "compare_autocorrelation",
    "compare_genes",
    "compare_labels",
    "compare_nearest",
    "compare_niches",
    "compare_points",
    "cut_agreement",
    "cut_offset",
    "cut_strip",
    "domains_by_height",
    "morans_i",
]

_FLAT = 1e-9  # a smaller standard deviation counts as constant
_NO_PATTERN = 0.005  # a smaller mean Moran's I counts as noise
_ROWS_AT_ONCE = 1000


def averaging(points: NDArray, at: NDArray, k: int) -> sparse.csr_matrix:
    """Return the operator that averages over the ``k`` nearest of ``points``."""
    k = min(k, len(points))
    near = cKDTree(points).query(at, k=k)[1].reshape(len(at), k)
    entries = np.full(near.size, 1.0 / k), near.ravel(), np.arange(0, near.size + 1, k)
    return sparse.csr_matrix(entries, shape=(len(at), len(points)))


def compare_nearest(
    real: NDArray,
    generated: NDArray,
    real_profiles: NDArray,
    generated_profiles: NDArray,
    *,
    k: int = 10,
) -> dict[str, float]:
    """Compare each real spot with the generated spots nearest to it."""
    # Genes are standardised with mean and standard deviation of the real slice; genes constant
    # there are left out.
    mean, std = real_profiles.mean(axis=0), real_profiles.std(axis=0)
    use = std > _FLAT
    if not use.any():
        return dict.fromkeys(("nearest", "knn", "knn_rmse"), float("nan"))
    first, many = averaging(generated, real, 1), averaging(generated, real, k)
    rows: dict[str, list[NDArray]] = {"nearest": [], "knn": []}
    squares = 0.0
    for start in range(0, len(real), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        truth, one, average = (
            (profiles[:, use] - mean[use]) / std[use]
            for profiles in (
                real_profiles[part],
                first[part] @ generated_profiles,
                many[part] @ generated_profiles,
            )
        )
        rows["nearest"].append(column_correlation(truth.T, one.T))
        rows["knn"].append(column_correlation(truth.T, average.T))
        squares += float(((truth - average) ** 2).sum())
    # A spot with a constant profile counts as 0.
    scores = {key: float(np.nan_to_num(np.concatenate(r)).mean()) for key, r in rows.items()}
    return {**scores, "knn_rmse": float(np.sqrt(squares / (len(real) * use.sum())))}


def compare_labels(
    real: NDArray, generated: NDArray, truth: NDArray, carried: NDArray, *, k: int = 5
) -> dict[str, float]:
    """Compare the labels of real spots with the vote of the generated spots nearest to them."""
    # Ties go to the label of the nearest spot. Spots without a label are left out on either side.
    known, usable = truth >= 0, carried >= 0
    if not known.any() or not usable.any():
        return {"ari": float("nan"), "accuracy": float("nan")}
    k = min(k, int(usable.sum()))
    near = cKDTree(generated[usable]).query(real[known], k=k)[1].reshape(-1, k)
    votes = carried[usable][near]
    support = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)  # votes for the label of each
    found = votes[np.arange(len(votes)), support.argmax(axis=1)]
    return {
        "ari": float(adjusted_rand_score(truth[known], found)),
        "accuracy": float((truth[known] == found).mean()),
    }


def compare_niches(
    real: NDArray, generated: NDArray, truth: NDArray, carried: NDArray, *, k: int = 30
) -> float:
    """Compare the composition of neighbourhoods: mean Jensen-Shannon divergence, in bits."""
    # Around every labelled real spot: shares of the labels among the k nearest labelled spots of
    # the real slice (itself included), and of the generated one.
    known, usable = truth >= 0, carried >= 0
    if not known.any() or not usable.any():
        return float("nan")
    names = np.arange(max(truth.max(), carried.max()) + 1)
    shares = [
        averaging(points, real[known], k) @ (codes[:, None] == names).astype(float)
        for points, codes in ((real[known], truth[known]), (generated[usable], carried[usable]))
    ]
    distance = jensenshannon(*shares, axis=1, base=2)
    return float((np.nan_to_num(distance) ** 2).mean())  # rounding: the root of -1e-17 is NaN


def morans_i(points: NDArray, profiles: NDArray, *, k: int = 6) -> NDArray:
    """Moran's I of every gene: how much neighbours resemble each other."""
    # I = sum_ij w_ij (x_i - mean)(x_j - mean) / sum_i (x_i - mean)^2, with w_ij = 1 / k for the k
    # nearest spots j of i, itself not included.
    n, k = len(points), min(k, len(points) - 1)
    near = cKDTree(points).query(points, k=k + 1)[1][:, 1:]
    entries = np.full(n * k, 1.0 / k), near.ravel(), np.arange(0, n * k + 1, k)
    graph = sparse.csr_matrix(entries, shape=(n, n))
    varies = profiles.std(axis=0) > _FLAT
    result = np.zeros(profiles.shape[1])
    if varies.any():
        result[varies] = sc.metrics.morans_i(graph, np.ascontiguousarray(profiles[:, varies].T))
    return result


def compare_autocorrelation(
    real: NDArray, generated: NDArray, real_profiles: NDArray, generated_profiles: NDArray
) -> dict[str, float]:
    """Compare Moran's I of all genes."""
    a, b = morans_i(real, real_profiles), morans_i(generated, generated_profiles)
    return {
        "moran": float(b.mean() / a.mean()) if a.mean() > _NO_PATTERN else float("nan"),
        "moran_correlation": float(column_correlation(a[:, None], b[:, None])[0])
        if len(a) > 2
        else float("nan"),
    }


def compare_points(real: NDArray, generated: NDArray, *, seed: int = 0) -> dict[str, float]:
    """Compare coordinates alone: sliced Wasserstein distance in spot sides, and spacing."""
    nearest = [nearest_distance(points) for points in (real, generated)]
    distance = float(ot.sliced_wasserstein_distance(generated, real, n_projections=50, seed=seed))
    return {
        "sliced_wasserstein": distance / spot_side(real),
        "spacing": float(nearest[1] / nearest[0]) if nearest[0] > 0 else float("nan"),
    }


# -------------------------------------------------------------------------------------------------
# Profiles regardless of place.


def compare_genes(real_profiles: NDArray, generated_profiles: NDArray) -> dict[str, float]:
    """Compare how much genes vary and how they vary together."""
    use = real_profiles.std(axis=0) > _FLAT
    a, b = real_profiles[:, use], generated_profiles[:, use]
    if use.sum() < 2:
        return {"variance": float("nan"), "gene_gene": float("nan")}
    difference = _correlations(b) - _correlations(a)
    np.fill_diagonal(difference, 0.0)
    n_pairs = use.sum() * (use.sum() - 1)
    return {
        "variance": float(np.median(b.var(axis=0) / a.var(axis=0))),
        "gene_gene": float(np.sqrt((difference**2).sum() / n_pairs)),
    }


def _correlations(profiles: NDArray) -> NDArray:
    """Correlation of all pairs of columns; 0 where one is constant."""
    std = profiles.std(axis=0)
    scaled = (profiles - profiles.mean(axis=0)) / np.where(std > _FLAT, std, np.inf)
    return scaled.T @ scaled / len(profiles)


def classifier_auc(
    real_profiles: NDArray,
    generated_profiles: NDArray,
    *,
    n_components: int = 30,
    n_folds: int = 5,
    max_spots: int = 10_000,
    seed: int = 0,
) -> float:
    """Let a classifier try to tell generated from real profiles (two-sample test)."""
    # Quadratic discriminant analysis on the leading principal components of both slices,
    # cross-validated. With a covariance for either slice it detects a loss of spread as well as a
    # shift; a linear classifier misses that averages over neighbours lack variance. Boosted trees
    # and a small network ranked real slices alike and took 10 to 20 times as long.
    # Equal profiles share a fold, so that no spot is both in the training and in the test part.
    rng = np.random.default_rng(seed)
    pair = [p[rng.permutation(len(p))[:max_spots]] for p in (real_profiles, generated_profiles)]
    both = np.vstack(pair)
    is_generated = np.repeat([False, True], [len(p) for p in pair])
    # Compared as float32, so that rounding does not split one spot into two.
    rows = np.array([row.tobytes() for row in both.astype(np.float32)], dtype=object)
    group = pd.factorize(rows)[0]
    if len(np.unique(group[is_generated])) < n_folds:
        return 1.0
    n_components = min(n_components, both.shape[1], max(1, min(map(len, pair)) // 4))
    features = PCA(n_components, svd_solver="covariance_eigh", whiten=True).fit_transform(both)
    fold = rng.permutation(group.max() + 1)[group] % n_folds
    chance = np.empty(len(both))
    for test in (fold == number for number in range(n_folds)):
        # The regularisation keeps covariances invertible, also where a slice has no spread at all.
        model = QuadraticDiscriminantAnalysis(reg_param=0.05)
        model.fit(features[~test], is_generated[~test])
        chance[test] = model.decision_function(features[test])
    return max(float(roc_auc_score(is_generated, chance)), 0.5)


# -------------------------------------------------------------------------------------------------
# Two halves of one tissue on two slides, compared along the cut. No annotation is needed.
#
# Tissue that was cut in two continues beyond the cut, so the domains found in the two halves
# should meet there. The strip of spots along the cut is taken in both halves, and the domains at
# each height are compared (:func:`cut_agreement`), or the embedding (:func:`cut_offset`).
# Coordinates of the two slides are unrelated, so height is relative: 0 at the upper end of the
# cut, 1 at the lower. The figures are :func:`genot_helpers.plotting.plot_cut` and
# :func:`genot_helpers.plotting.join_halves`.

_REACH = 8.0  # spots: rows whose tissue ends further from the outermost one are left out


class CutAgreement(NamedTuple):
    """How well two halves agree along their cut.

    Attributes
    ----------
    agreement
        Share of the strips, height by height, that carry the same domain: 0 to 1.
    shuffled
        The same after the heights of one half were shuffled: what the mere shares of the domains
        give. Mean over shuffles.
    upside_down
        The same with one half upside down.
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

    .. math:: \frac{1}{B} \sum_b \sum_d \min(p_{bd}, q_{bd}),

    one minus the mean total variation distance.

    Parameters
    ----------
    left, right
        The halves; nothing is written.
    key
        Column of ``obs``; the same names must mean the same domains in both.
    sides
        Where the cut is in the first and in the second half. Two sections of the same half can be
        compared too, by giving the same side twice: as good as agreement can be expected to get.
    width
        See :func:`cut_strip`.
    n_bins
        Heights that are told apart.
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

    Expression should not change where the knife went. The mean difference between facing pieces of
    the two strips is a shift that only the slides can explain.

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
        height = cut_strip(half, side, width=width)
        bins = np.minimum((height * n_bins).astype(int), n_bins - 1).to_numpy()
        values = pd.DataFrame(half.obsm[use_rep], index=half.obs_names).loc[height.index]
        means.append(values.groupby(bins).mean().reindex(range(n_bins)).to_numpy(dtype=float))
    both = np.isfinite(means[0]).all(axis=1) & np.isfinite(means[1]).all(axis=1)
    one, other = means[0][both], means[1][both]
    spread = np.sqrt(np.mean([((part - part.mean(0)) ** 2).sum(1).mean() for part in (one, other)]))
    return float(np.linalg.norm((one - other).mean(axis=0)) / spread)


@checked
def cut_strip(adata: AnnData, side: str, *, width: float = 3.0) -> pd.Series:
    """Find the spots along a cut, and how high each lies.

    Rows of the tissue (as high as the spots are apart) are followed to their last spot on that
    side; spots within ``width`` of it belong to the strip. Rows that end away from the straight
    line through the others, because the outline recedes there, are left out.

    Parameters
    ----------
    adata
        A slice, with y downwards in ``obsm["spatial"]``.
    side
        ``"left"`` or ``"right"``: where the cut is.
    width
        Width of the strip, in distances between neighbouring spots.

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


def domains_by_height(
    adata: AnnData, key: str, side: str, width: float, n_bins: int
) -> pd.DataFrame:
    """Return the share of each domain (columns) at each height (n_bins rows) along the cut."""
    if key not in adata.obs:
        raise SliceError(f"obs[{key!r}] is missing. Columns found: {list(adata.obs.columns)}.")
    height = cut_strip(adata, side, width=width)
    bins = np.minimum((height * n_bins).astype(int), n_bins - 1)
    names = adata.obs.loc[height.index, key].astype(object)
    table = pd.crosstab(bins, names).reindex(range(n_bins), fill_value=0)
    table.columns = table.columns.astype(str)
    return table.div(table.sum(axis=1).clip(lower=1), axis=0)
