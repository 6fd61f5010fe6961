"""Measures of how alike two slices are: plain arrays in, numbers out.

*real* is the held-out slice and *generated* the one under test; points are (n, 2) in one frame,
profiles (n, p) log expression of the same genes, labels (n,) integer codes with -1 for a spot
without annotation. Top to bottom: in space; regardless of place; kinds of spots, and layers that
double (:func:`ghost_layers`). Comparisons on a grid are in ``gene_maps.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import ot
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import jensenshannon
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from ..arguments import checked
from ..comparable import coordinates
from ..slices.geometry import nearest_distance, spot_side
from ..slices.slices import SliceError
from .gene_maps import column_correlation, make_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    both = column_correlation(a[:, None], b[:, None])
    return {
        "moran": float(b.mean() / a.mean()) if a.mean() > _NO_PATTERN else float("nan"),
        "moran_correlation": float(both[0]) if len(a) > 2 else float("nan"),
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
# Kinds of spots in place. Soft accuracy and soft Spearman correlation after MIMYR (Deshpande et al.
# 2025, doi 10.1101/2025.11.24.690239), so that numbers can stand beside those of other methods.
# Radius and squares follow the spot spacing of the real slice: compare within one table only.

_RADIUS = 2.5  # spot sides around a place: about 20 spots
_SPOTS_PER_SQUARE = 25.0
_PSEUDO = 0.5  # of a spot, added to each type in a square: the divergence stays finite
_LINK = 2.5  # spot sides from one spot of a layer to the next
_SMALLEST_BAND = 0.1  # of the spots of a label ...
_FEWEST_IN_BAND = 4  # ... and no fewer than so many


def compare_types(
    real: NDArray, generated: NDArray, truth: NDArray, kinds: NDArray
) -> dict[str, float]:
    """Compare the mixture of kinds of spots, around every place, in squares and over the slice."""
    # soft_accuracy: cosine of the shares of labels within 2.5 spot sides of a real spot; 1 is best.
    # grid_l1: summed absolute difference of shares in squares of about 25 spots (2 where only the
    # real slice has spots); grid_kl: their Kullback-Leibler divergence, in bits; both weighted by
    # real spots. type_abundance: the difference of shares over the slice.
    names = ("soft_accuracy", "grid_l1", "grid_kl", "type_abundance")
    known, usable = truth >= 0, kinds >= 0
    if not known.any() or not usable.any():
        return dict.fromkeys(names, float("nan"))
    side, grid = spot_side(real), make_grid(real, spots_per_bin=_SPOTS_PER_SQUARE)
    p, q = real[known], generated[usable]
    codes = np.arange(max(truth.max(), kinds.max()) + 1)
    one, other = ((c[:, None] == codes).astype(float) for c in (truth[known], kinds[usable]))
    around = [
        _within(points, p, _RADIUS * side) @ values for points, values in ((p, one), (q, other))
    ]
    size = np.linalg.norm(around[0], axis=1) * np.linalg.norm(around[1], axis=1)
    cosine = (around[0] * around[1]).sum(axis=1) / np.maximum(size, 1e-12)
    counts = [grid.summing(points) @ values for points, values in ((p, one), (q, other))]
    weight = counts[0].sum(axis=1)
    shares = [c / np.maximum(c.sum(axis=1, keepdims=True), 1.0) for c in counts]
    l1 = np.where(counts[1].sum(axis=1) > 0, np.abs(shares[0] - shares[1]).sum(axis=1), 2.0)
    filled = [(c + _PSEUDO) / (c + _PSEUDO).sum(axis=1, keepdims=True) for c in counts]
    kl = (filled[0] * np.log2(filled[0] / filled[1])).sum(axis=1)
    total = np.abs(one.mean(axis=0) - other.mean(axis=0)).sum()
    values = cosine.mean(), np.average(l1, weights=weight), np.average(kl, weights=weight), total
    return dict(zip(names, map(float, values), strict=True))


def soft_spearman(
    real: NDArray, generated: NDArray, real_profiles: NDArray, generated_profiles: NDArray
) -> float:
    """Correlate, over genes, ranks of mean profiles around every real spot; mean over spots."""
    # Genes are measured from their mean in the real slice: else all places agree on which genes are
    # high everywhere. A spot without generated ones near by counts as 0.
    reach = _RADIUS * spot_side(real)
    centre = real_profiles.mean(axis=0)
    found = []
    for start in range(0, len(real), _ROWS_AT_ONCE):
        places = real[start : start + _ROWS_AT_ONCE]
        ranks = []
        for points, profiles in ((real, real_profiles), (generated, generated_profiles)):
            near = _within(points, places, reach)
            number = np.asarray(near.sum(axis=1)).reshape(-1, 1)
            mean = (near @ profiles) / np.maximum(number, 1.0) - centre
            ranks.append(rankdata(np.where(number > 0, mean, 0.0), axis=1))
        found.append(np.nan_to_num(column_correlation(ranks[0].T, ranks[1].T)))
    return float(np.concatenate(found).mean())


def count_bands(points: NDArray, labels: NDArray) -> NDArray[np.int64]:
    """Count the connected bands of each label, (largest label + 1,); see :func:`ghost_layers`."""
    reach, counts = _LINK * spot_side(points), []
    for label in range(int(labels.max()) + 1 if len(labels) else 0):
        own = points[labels == label]
        pairs = cKDTree(own).query_pairs(reach, output_type="ndarray") if len(own) else []
        links = np.asarray(pairs, dtype=int).reshape(-1, 2)
        graph = sparse.csr_matrix((np.ones(len(links)), links.T), shape=(len(own),) * 2)
        sizes = np.bincount(connected_components(graph, directed=False)[1]) if len(own) else []
        enough = max(_SMALLEST_BAND * len(own), _FEWEST_IN_BAND)
        counts.append(int((np.asarray(sizes) >= enough).sum()))
    return np.array(counts, dtype=np.int64)


@checked
def ghost_layers(
    generated: AnnData,
    left: AnnData,
    right: AnnData,
    *,
    label_key: str = "domain_truth",
    generated_label_key: str = "genot_domain",
    spatial_key: str = "spatial",
) -> pd.DataFrame:
    """Count, for each label, the connected bands in a generated slice and in its two neighbours.

    Spots of a label are connected if they lie within 2.5 spot sides; a band holds a tenth of the
    spots of its label at least, and four. A layer that was copied from different places in left and
    right is one band in each and two in the generated slice: a ghost. Some structures do have two
    bands, so bands are compared.

    Parameters
    ----------
    generated, left, right, spatial_key
        Slices, and the slot of ``obsm`` with their coordinates. Nothing is written.
    label_key, generated_label_key
        Columns of ``obs`` with the labels of the neighbours and of the generated slice.

    Returns
    -------
    pandas.DataFrame
        One row per label that any of the slices has; columns ``generated``, ``left``, ``right``
        (bands), and ``ghosts``: bands of the generated slice beyond those of the neighbour with
        more of them.

    Raises
    ------
    SliceError
        If coordinates are missing, or a slice has no label in its column.
    """
    slices = {"generated": generated, "left": left, "right": right}
    keys = {"generated": generated_label_key, "left": label_key, "right": label_key}
    names = pd.Index([])
    for name, adata in slices.items():
        if keys[name] not in adata.obs or adata.obs[keys[name]].isna().all():
            found = ", ".join(map(str, adata.obs.columns[:8])) or "nothing"
            raise SliceError(
                f"obs[{keys[name]!r}] of the {name} slice names no spot. Name another column; "
                f"found: {found}."
            )
        names = names.union(adata.obs[keys[name]].dropna().astype(str).unique())
    bands = pd.DataFrame(0, index=names, columns=list(slices), dtype=int)
    for name, adata in slices.items():
        labels = adata.obs[keys[name]].astype(object).map(str, na_action="ignore")
        counted = count_bands(coordinates(adata, name, spatial_key), names.get_indexer(labels))
        bands.loc[names[: len(counted)], name] = counted
    beyond = bands["generated"] - bands[["left", "right"]].max(axis=1)
    return bands.assign(ghosts=beyond.clip(lower=0))


def excess_bands(real: NDArray, generated: NDArray, truth: NDArray, kinds: NDArray) -> float:
    """Bands of labels beyond those of the real slice, summed over labels; NaN without labels."""
    if not (truth >= 0).any() or not (kinds >= 0).any():
        return float("nan")
    bands = pd.Series(count_bands(generated, kinds))
    return float(bands.sub(pd.Series(count_bands(real, truth)), fill_value=0).clip(lower=0).sum())


def _within(points: NDArray, places: NDArray, reach: float) -> sparse.csr_matrix:
    """Return the operator that adds up over the points within reach of places, (m, n) CSR."""
    near = cKDTree(places).sparse_distance_matrix(cKDTree(points), reach, output_type="coo_matrix")
    ones = np.ones(len(near.row))
    return sparse.csr_matrix((ones, (near.row, near.col)), shape=(len(places), len(points)))
