"""Two slices made comparable: one frame, the same genes on one scale, one code for each label.

Scores take :func:`comparable_places`, :func:`log_profiles` and :func:`label_codes`; the alignment
:func:`expression_maps`; everything between two slices :func:`shared_space`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans

from .preprocessing.genes import select_highly_variable
from .preprocessing.preprocessing import joint_components, normalise
from .slices.geometry import spot_spacing
from .slices.sections import control_names, gene_problem, joint_embeddings
from .slices.slices import Problem, SliceError, as_labels, check_positions, check_slice
from .slices.values import (
    ValueKind,
    holds_logarithms,
    is_numeric,
    plain_matrix,
    scan,
    slice_kind,
    value_kind,
)


def comparable_places(
    one: AnnData,
    other: AnnData,
    names: tuple[str, str],
    *,
    spatial_key: str = "spatial",
    min_spots: int = 1,
) -> list[NDArray]:
    """Return the coordinates (n, 2), (m, 2) of two slices that can be compared place by place."""
    if min(one.n_obs, other.n_obs) < min_spots:
        raise SliceError(
            f"The {names[0]} slice has {one.n_obs} spots and the {names[1]} slice {other.n_obs}: "
            f"too few to compare them; at least {min_spots} of each are needed."
        )
    slices = zip((one, other), names, strict=True)
    places = [coordinates(adata, name, spatial_key) for adata, name in slices]
    check_overlap(*places, names)
    return places


def coordinates(adata: AnnData, name: str, spatial_key: str = "spatial") -> NDArray:
    """Return the coordinates of a slice, (n, 2) float64; refuse missing or unusable ones."""
    for slot, found, fix in check_positions(adata, spatial_key, alone=False):
        raise SliceError(f"{slot} of the {name} slice: {found} Fix: {fix}")
    return np.array(adata.obsm[spatial_key], dtype=float)


def check_overlap(
    one: NDArray, other: NDArray, names: tuple[str, str] = ("held-out", "generated")
) -> None:
    """Refuse two sets of points, (n, 2) and (m, 2), whose bounding boxes do not overlap."""
    boxes = [(points.min(axis=0), points.max(axis=0)) for points in (one, other)]
    (low, high), (other_low, other_high) = boxes
    if (low > other_high).any() or (other_low > high).any():
        first, second = (
            f"the {name} one lies in x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"
            for name, (low, high) in zip(names, boxes, strict=True)
        )
        raise SliceError(
            f"The slices do not overlap: {first}, {second}. Bring both into one frame and unit "
            "first (align them)."
        )


class LogProfiles(NamedTuple):
    """Log expression of the same genes in two slices, from :func:`sparse_log_profiles`."""

    genes: pd.Index  # (p,) names, in the order of the held-out slice
    real: sparse.csr_matrix  # (n, p) CSR float64, the held-out slice
    generated: sparse.csr_matrix  # (m, p) CSR float64

    def most_variable(self, n_genes: int | None = None) -> LogProfiles:
        """Keep the genes that the held-out slice expresses; of more, those that vary most there."""
        mean, variance = column_moments(self.real)
        largest = np.argsort(-variance, kind="stable")[:n_genes]
        chosen = np.sort(largest[mean[largest] > 0])
        return LogProfiles(self.genes[chosen], self.real[:, chosen], self.generated[:, chosen])


def log_profiles(
    generated: AnnData, held_out: AnnData, *, layer: str | None = None, max_genes: int = 500
) -> tuple[NDArray, NDArray]:
    """Return log expression of the most variable genes, dense: (n, p) held-out, (m, p) ours."""
    found = sparse_log_profiles(generated, held_out, layer=layer).most_variable(max_genes)
    return found.real.toarray(), found.generated.toarray()


def sparse_log_profiles(
    generated: AnnData, held_out: AnnData, *, layer: str | None = None
) -> LogProfiles:
    """Return log expression of the genes both slices have, on one scale."""
    # Each spot is divided by its total over the shared genes, multiplied by the median total of the
    # held-out slice, and log(1 + x) is taken: the scale does not depend on the generated slice.
    # Values with fractions that all stay below 20 are taken for logarithms.
    if layer is not None and layer not in generated.layers:
        found = list(generated.layers) or "nothing"
        raise SliceError(f"layers[{layer!r}] of the generated slice is missing. Found: {found}.")
    genes = shared_genes({"generated": generated, "held-out": held_out})
    real = held_out[:, genes].X
    ours = generated[:, genes].X if layer is None else generated[:, genes].layers[layer]
    if _both_logarithms(real, ours, layer):
        return LogProfiles(genes, _log_values(real, None), _log_values(ours, None))
    totals = _totals(real)
    if not np.isfinite(totals).any():
        raise SliceError("X of the held-out slice is 0 for all shared genes.")
    depth = np.median(totals[np.isfinite(totals)])
    return LogProfiles(
        genes, _log_values(real, depth / totals), _log_values(ours, depth / _totals(ours))
    )


def _totals(matrix: Any) -> NDArray:
    """Sum of each row; infinite for an empty one, which then stays empty when divided by it."""
    totals = np.asarray(matrix.sum(axis=1), dtype=float).ravel()
    return np.where(totals > 0, totals, np.inf)


def _log_values(matrix: Any, scale: NDArray | None) -> sparse.csr_matrix:
    """Multiply each row by its scale and take log(1 + x); as it is without a scale."""
    matrix = sparse.csr_matrix(matrix, dtype=np.float64)
    if scale is None:
        return matrix
    return sparse.csr_matrix(sparse.diags(scale) @ matrix).log1p()


def label_codes(
    generated: AnnData, held_out: AnnData, generated_key: str, key: str
) -> tuple[NDArray, NDArray]:
    """Return the labels of both slices, held-out first, as numbers by name; -1 without a label."""
    names = []
    for adata, column in ((held_out, key), (generated, generated_key)):
        nowhere = pd.Series(np.nan, index=adata.obs_names, dtype=object)
        names.append(as_labels(adata.obs.get(column, nowhere)).astype(object))
    categories = pd.Index(sorted(set().union(*(series.dropna() for series in names))))
    real, ours = (categories.get_indexer(series) for series in names)
    return real, ours


def _both_logarithms(real: Any, ours: Any, layer: str | None) -> bool:
    """Return whether both matrices hold logarithms; refuse values that cannot be compared."""
    # Judged by the values alone: a layer, or a generated slice, lacks the mark of its logarithm.
    name = f"{'X' if layer is None else f'layers[{layer!r}]'} of the generated slice"
    kind, largest = _describe(real, "X of the held-out slice")
    # Means of counts are no counts, means of logarithms may be a little below 0.
    negative = layer is not None and kind == "logarithms"
    our_kind, our_largest = _describe(ours, name, negative=negative)
    if layer is not None or our_kind == kind:
        return kind == "logarithms"
    # The largest value lies near the limit: the same kind, if they are of the same size.
    alike = "counts" not in (kind, our_kind) and largest < 3 * our_largest < 9 * largest
    if not alike:
        raise SliceError(
            f"X of the held-out slice holds {kind} (largest {largest:g}), that of the generated "
            f"slice {our_kind} (largest {our_largest:g}). Give both in the same form, for example "
            "counts; for a denoised product, put it into a layer and score it with layer=... ."
        )
    return False


def _describe(matrix: Any, name: str, *, negative: bool = False) -> tuple[str, float]:
    """Return what a matrix holds (counts, values or logarithms) and its largest value."""
    if not is_numeric(matrix):
        raise SliceError(f"{name} has dtype {matrix.dtype}; numbers are needed.")
    bad = scan(matrix)[0]
    for problem in ("NaN or infinite", *(() if negative else ("negative",))):
        if bad[problem]:
            raise SliceError(
                f"{name}: {bad[problem][0]:,} values are {problem} (first: {bad[problem][3]:g}). "
                "Counts, normalised values or their logarithms are needed, not centred or scaled."
            )
    largest = float(matrix.max())
    if not bad["fractions"]:
        return "counts", largest
    return value_kind(matrix).kind, largest


# -------------------------------------------------------------------------------------------------
# Two slices checked together, and given features that both share, on a few thousand places: a
# larger slice is pooled to square bins, so that time and memory do not grow with it. Features are
# joint components, centred in each slice, because a shift of a whole slice is a batch effect.

_N_GENES = 300
_N_COMPONENTS = 20
_SAME_SCALE = 1.2  # totals that every spot was scaled to differ by more: another scale


def column_moments(values: sparse.csr_matrix) -> tuple[NDArray, NDArray]:
    """Mean and variance of each column of a sparse matrix."""
    mean = np.asarray(values.mean(axis=0)).ravel()
    return mean, np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2


def shared_genes(slices: Mapping[str, AnnData]) -> pd.Index:
    """Return the genes that all slices have, in the order of the last, without control probes."""
    names = {name: adata.var_names for name, adata in slices.items()}
    for name, genes in names.items():
        if not genes.is_unique:
            raise SliceError(f"The {name} slice has genes twice: `adata.var_names_make_unique()`.")
    *others, shared = names.values()
    shared = shared[~control_names(shared)]
    for genes in others:
        shared = shared[shared.isin(genes)]
    if not len(shared):
        first = "; ".join(f"{name}: {', '.join(genes[:3])}" for name, genes in names.items())
        raise SliceError(
            f"The slices have no gene in common (first genes: {first}). Use the same kind of gene "
            "name, symbols or identifiers, in all of them."
        )
    return shared


def check_pair(
    left: AnnData,
    right: AnnData,
    *,
    spatial_key: str = "spatial",
    min_spots: int = 20,
    one_matrix: bool = True,
) -> None:
    """Raise one error that lists what keeps two slices from being compared."""
    # Values that enter one matrix must be of the same kind; where each slice is normalised by
    # itself (``one_matrix=False``), counts and scaled values can be compared.
    # Genes and spots without any count are accepted: cutting out a part of a slice makes them.
    problems = []
    for name, adata in (("left", left), ("right", right)):
        try:
            check_slice(adata, name=name, spatial_key=spatial_key, min_spots=min_spots)
        except SliceError as error:
            found = [p for p in error.problems if not (p.slot == "X" and "are empty" in p.found)]
            problems += [Problem(f"{name} {p.slot}", p.found, p.fix) for p in found]
    problems = problems or _mismatches(left, right, one_matrix)
    if problems:
        lines = [f"- {slot}: {found}\n  Fix: {fix}" for slot, found, fix in problems]
        raise SliceError("\n".join(["the slices cannot be compared.", *lines]), tuple(problems))


def _mismatches(left: AnnData, right: AnnData, one_matrix: bool) -> list[Problem]:
    """List what differs between two slices that have each passed the check."""
    problems = []
    genes = gene_problem(left, right, ("left", "right"))
    if genes is not None:
        problems.append(Problem("var_names", *genes))
    kinds = [slice_kind(adata) for adata in (left, right)]
    logarithms = [kind.kind == "logarithms" for kind in kinds]
    if not _same_kind(*kinds) if one_matrix else logarithms[0] != logarithms[1]:
        found = f"different normalisation: left {kinds[0]} and right {kinds[1]}."
        fix = "give the same kind in both, counts where there are any: `X = layers['counts']`."
        problems.append(Problem("X", found, fix))
    return problems


def _same_kind(left: ValueKind, right: ValueKind) -> bool:
    """Say whether values of two slices can be put into one matrix."""
    # Counts of another depth can; values scaled to another total or to another base cannot.
    pairs = ((left.total, right.total), (left.base, right.base))
    return left.kind == right.kind and not any(
        abs(np.log(a / b)) > np.log(_SAME_SCALE) for a, b in pairs if a > 0 and b > 0
    )


def expression_maps(
    left: AnnData,
    right: AnnData,
    *,
    use_rep: str | None = "X_pca",
    spatial_key: str = "spatial",
    max_spots: int = 6000,
    n_neighbors: int = 12,
) -> tuple[ExpressionMap, ExpressionMap]:
    """Give two slices that passed :func:`check_pair` features of joint total variance 1."""
    # ``"X_pca"`` is used only where both slices carry the record of one and the same analysis:
    # components computed slice by slice cannot be compared. Otherwise, or with None, joint
    # components of the 300 shared genes that vary most are computed here.
    slices = (left, right)
    points = [np.asarray(adata.obsm[spatial_key], dtype=float) for adata in slices]
    pools = [_pool(position, max_spots) for position in points]
    if _has_joint_embedding(left, right, use_rep):
        stored = (np.asarray(adata.obsm[use_rep], dtype=float) for adata in slices)
        features = [pool @ values for pool, values in zip(pools, stored, strict=True)]
    else:
        features = _components(slices, pools)
    maps = []
    for pool, position, values in zip(pools, points, features, strict=True):
        place = pool @ position
        maps.append(ExpressionMap(place, values, spot_spacing(place)).smoothed(n_neighbors))
    centred = [one.features - one.features.mean(axis=0) for one in maps]
    variance = np.mean([(values**2).sum(axis=1).mean() for values in centred])
    if not variance > 0:
        raise SliceError("no expression varies in space: there is nothing to align the slices by.")
    scaled = [values / np.sqrt(variance) for values in centred]
    return maps[0]._replace(features=scaled[0]), maps[1]._replace(features=scaled[1])


class ExpressionMap(NamedTuple):
    """The expression of a slice at places: its spots, or bins of spots."""

    points: np.ndarray  # (n, 2) float64, in the unit of the slice
    features: np.ndarray  # (n, d) float64, smoothed components with mean 0 in the slice
    spacing: float  # typical distance of neighbouring places, see spot_spacing

    def sample(self, n: int) -> ExpressionMap:
        """Return at most ``n`` of the places, always the same; ``spacing`` stays that of all."""
        if len(self.points) <= n:
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.points))[:n])
        return self._replace(points=self.points[chosen], features=self.features[chosen])

    def smoothed(self, n_neighbors: int) -> ExpressionMap:
        """Return the map with the mean over each place and its nearest ones as features."""
        k = min(n_neighbors + 1, len(self.points))
        neighbors = cKDTree(self.points).query(self.points, k=k)[1].reshape(len(self.points), k)
        total = np.zeros_like(self.features)
        for column in neighbors.T:  # one neighbour at a time: no (n, k, d) array
            total += self.features[column]
        return self._replace(features=total / k)

    def coarser(self, n: int) -> ExpressionMap:
        """Return a map of at most ``n`` of the places, with the spacing that these have."""
        fewer = self.sample(n)
        return fewer if fewer is self else fewer._replace(spacing=spot_spacing(fewer.points))


def _pool(points: np.ndarray, max_spots: int) -> sparse.csr_matrix:
    """Return (places, spots), rows sum to 1: means over square bins, or the spots themselves."""
    # Places are sorted: nothing depends on the order of the spots, not even ties between
    # neighbours.
    n_spots = len(points)
    if n_spots <= max_spots:
        return sparse.identity(n_spots, format="csr")[np.lexsort(points.T)]
    size = spot_spacing(points) * np.sqrt(n_spots / max_spots)  # area of a bin: so many spots
    cells = np.floor((points - points.min(axis=0)) / size).astype(np.int64)
    bins = pd.factorize(cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1], sort=True)[0]
    member = sparse.csr_matrix((np.ones(n_spots), (bins, np.arange(n_spots))))
    return sparse.csr_matrix(sparse.diags(1.0 / np.bincount(bins)) @ member)


def _has_joint_embedding(left: AnnData, right: AnnData, use_rep: str | None) -> bool:
    """Say whether the slices have a joint embedding; raise where one was asked for by name."""
    if use_rep is None:
        return False
    present = [use_rep in adata.obsm for adata in (left, right)]
    if use_rep == "X_pca":
        records = [adata.uns.get("genot", {}).get("X_pca", {}) for adata in (left, right)]
        ratios = [np.asarray(record.get("variance_ratio", np.nan)) for record in records]
        return all(present) and np.array_equal(*ratios)
    if not all(present):
        raise SliceError(
            f"obsm[{use_rep!r}] is missing in {'right' if present[0] else 'left'}: embed both "
            "slices together, or pass use_rep=None to compute joint components from X."
        )
    joint_embeddings({"left": left, "right": right}, use_rep)  # refuses what is of no use
    return True


def _take_logarithm(slices: list[AnnData], taken: bool) -> None:
    """Write ``layers["log1p"]``: normalised, or as it is where ``X`` holds logarithms already."""
    if not taken:
        normalise(slices)
    for adata in slices if taken else ():
        adata.layers["log1p"] = adata.X


def _components(slices, pools) -> list[np.ndarray]:
    """Compute joint components of the genes that vary most, on copies of what is needed."""
    shared = shared_genes({"right": slices[1], "left": slices[0]})
    copies = []
    for adata, pool in zip(slices, pools, strict=True):
        columns = adata.var_names.get_indexer(shared)
        values = sparse.csr_matrix(plain_matrix(adata.X), dtype=np.float32)[:, columns]
        copies.append(AnnData(sparse.csr_matrix(pool.astype(np.float32) @ values)))
        copies[-1].var_names = shared
    with warnings.catch_warnings():  # such a spot keeps its zeros
        warnings.filterwarnings("ignore", message="Some cells have zero counts")
        _take_logarithm(copies, holds_logarithms(slices[0]))
    variance = sum(column_moments(copy.layers["log1p"])[1] for copy in copies)
    chosen = np.zeros(len(shared), dtype=bool)
    chosen[np.argsort(-variance, kind="stable")[:_N_GENES]] = True
    for copy in copies:
        copy.var["genot_selected"] = chosen
    n_spots = sum(copy.n_obs for copy in copies)
    joint_components(copies, n_components=min(_N_COMPONENTS, int(chosen.sum()), n_spots))
    return [copy.obsm["X_pca"].astype(float) for copy in copies]


# -------------------------------------------------------------------------------------------------
# Components of expression that mean the same in two slices: log expression of the shared genes,
# centred in each slice, every gene with the same variance, then joint principal components. The
# mean squared length of a spot is 1.

_BLOCK_SPOTS = 4096  # spots made dense at a time


class SharedSpace(NamedTuple):
    """Two slices in the same coordinates of expression."""

    left: NDArray[np.float32]  # (n, d) components, the largest first
    right: NDArray[np.float32]  # (m, d)
    genes: pd.Index  # genes that were used


def shared_space(
    left: AnnData, right: AnnData, *, n_components: int = 60, n_genes: int = 1000
) -> SharedSpace:
    """Compute components of two slices from counts, other non-negative values, or logarithms."""
    genes = shared_genes({"right": right, "left": left})
    matrices = [sparse.csr_matrix(plain_matrix(adata[:, genes].X)) for adata in (left, right)]
    plain = [AnnData(matrix, var=pd.DataFrame(index=genes)) for matrix in matrices]
    _take_logarithm(plain, holds_logarithms(left))
    if len(genes) > n_genes:
        for adata in plain:
            select_highly_variable(adata, n_genes=n_genes)
        chosen = np.any([a.var["genot_selected"] for a in plain], axis=0)
        plain = [a[:, chosen] for a in plain]
    values = [sparse.csr_matrix(a.layers["log1p"], dtype=np.float32) for a in plain]
    used = plain[0].var_names
    return SharedSpace(*_weighted_components(values, min(n_components, len(used))), used)


def _weighted_components(values: list[sparse.csr_matrix], d: int) -> list[NDArray[np.float32]]:
    """Principal components of both, each centred, genes of equal variance."""
    means = [np.asarray(v.mean(axis=0)).ravel() for v in values]
    covariance = sum(_scatter(v, m) for v, m in zip(values, means, strict=True))
    covariance /= sum(v.shape[0] for v in values)
    deviation = np.sqrt(np.diag(covariance))
    varies = deviation > 1e-4 * np.abs(np.mean(means, axis=0))  # less is rounding
    if not varies.any():
        raise SliceError("X: no shared gene varies between spots, so nothing tells places apart.")
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    size, directions = np.linalg.eigh(covariance * scale * scale[:, None])
    directions = directions[:, ::-1][:, :d]
    # An eigenvector's sign is arbitrary: the largest entry is made positive.
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(d)])
    loading = (directions * scale[:, None] / np.sqrt(size[::-1][:d].sum())).astype(np.float32)
    return [v @ loading - (m @ loading) for v, m in zip(values, means, strict=True)]


def _scatter(values: sparse.csr_matrix, mean: NDArray) -> NDArray[np.float64]:
    """Sum over spots of the outer product of what is left after the mean."""
    total = np.zeros((values.shape[1],) * 2)
    for begin in range(0, values.shape[0], _BLOCK_SPOTS):
        block = values[begin : begin + _BLOCK_SPOTS].toarray() - mean
        total += block.T @ block
    return total


def expression_states(
    embedding: NDArray, n_states: int = 20, *, seed: int = 0
) -> NDArray[np.float32]:
    """Sort spots into unnamed states of expression (cell types, say): (n, n_states) float32."""
    # 1 for the state of a spot, else 0; centred, with mean squared length 4, so that the mixture of
    # states counts twice as much as the components.
    chosen = np.random.default_rng(seed).permutation(len(embedding))[:20_000]
    n_states = min(n_states, len(embedding) // 10 + 1)
    model = KMeans(n_states, n_init=1, random_state=seed).fit(embedding[np.sort(chosen)])
    states = np.eye(n_states, dtype=np.float32)[model.predict(embedding)]
    states -= states.mean(axis=0)
    return 2.0 * states / np.sqrt(np.maximum((states**2).sum(axis=1).mean(), 1e-12))
