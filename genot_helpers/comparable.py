"""Two slices made comparable: one frame, the same genes on one scale, one code for each label.

Top to bottom: :func:`comparable_places` (coordinates that overlap),
:func:`log_profiles` (log expression on one scale), :func:`label_codes`, and
:func:`_both_logarithms`, which judges from the values alone what a matrix holds: a layer, or a
generated slice, lacks the mark that :func:`genot_helpers.slices.holds_logarithms` looks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from .shared_features import column_moments, shared_genes
from .slices.slices import SliceError, as_labels
from .slices.values import is_numeric, scan, value_kind

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = [
    "LogProfiles",
    "check_overlap",
    "comparable_places",
    "coordinates",
    "label_codes",
    "log_profiles",
    "sparse_log_profiles",
]


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
    slot = f"obsm[{spatial_key!r}] of the {name} slice"
    if spatial_key not in adata.obsm:
        raise SliceError(f"{slot} is missing. Found: {list(adata.obsm) or 'nothing'}.")
    points = np.asarray(adata.obsm[spatial_key])
    if points.ndim != 2 or points.shape[1] != 2 or not is_numeric(points):
        raise SliceError(f"{slot} has shape {points.shape}; one row (x, y) per spot is needed.")
    if not np.isfinite(points).all():
        raise SliceError(f"{slot} holds values that are not finite: remove these spots.")
    return points.astype(float)


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
    names = [
        _label_names(adata, column)
        for adata, column in ((held_out, key), (generated, generated_key))
    ]
    categories = pd.Index(sorted(set().union(*(series.dropna() for series in names))))
    real, ours = (categories.get_indexer(series) for series in names)
    return real, ours


def _label_names(adata: AnnData, key: str) -> pd.Series:
    """Return labels as strings, NaN where there is none."""
    if key not in adata.obs:
        return pd.Series(np.nan, index=adata.obs_names, dtype=object)
    return as_labels(adata.obs[key]).astype(object)


def _both_logarithms(real: Any, ours: Any, layer: str | None) -> bool:
    """Return whether both matrices hold logarithms; refuse values that cannot be compared."""
    name = "X" if layer is None else f"layers[{layer!r}]"
    kind, largest = _describe(real, "X of the held-out slice")
    if layer is not None and kind != "logarithms":
        # Means of counts are no counts, means of logarithms may be a little below 0.
        _describe(ours, f"{name} of the generated slice")
        return False
    our_kind, our_largest = _describe(
        ours, f"{name} of the generated slice", negative=layer is not None
    )
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
