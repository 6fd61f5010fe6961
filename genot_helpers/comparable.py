"""Two slices made comparable: one frame, the same genes on one scale, one code for each label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from .slices.features import control_names
from .slices.slices import SliceError, as_labels
from .slices.values import is_numeric, scan, value_kind

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = [
    "LogProfiles",
    "both_logarithms",
    "check_overlap",
    "comparable_places",
    "coordinates",
    "label_codes",
    "log_profiles",
    "shared_genes",
    "sparse_log_profiles",
]


def coordinates(adata: AnnData, name: str, spatial_key: str = "spatial") -> NDArray:
    """Return the coordinates of a slice, (n, 2) float64.

    Raises
    ------
    SliceError
        If they are missing, of another shape, or not finite.
    """
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


def comparable_places(
    one: AnnData,
    other: AnnData,
    names: tuple[str, str],
    *,
    spatial_key: str = "spatial",
    min_spots: int = 1,
) -> list[NDArray]:
    """Return the coordinates of two slices that can be compared place by place.

    Parameters
    ----------
    one, other, names
        The slices, and what messages call them.
    spatial_key
        Slot of ``obsm`` with the coordinates.
    min_spots
        Fewest spots of a slice.

    Returns
    -------
    list of ndarray
        (n, 2) and (m, 2) float64.

    Raises
    ------
    SliceError
        If a slice has fewer spots, coordinates are missing, or the slices do not overlap.
    """
    if min(one.n_obs, other.n_obs) < min_spots:
        raise SliceError(
            f"The {names[0]} slice has {one.n_obs} spots and the {names[1]} slice {other.n_obs}: "
            f"too few to compare them; at least {min_spots} of each are needed."
        )
    slices = zip((one, other), names, strict=True)
    places = [coordinates(adata, name, spatial_key) for adata, name in slices]
    check_overlap(*places, names)
    return places


def shared_genes(slices: Mapping[str, AnnData]) -> pd.Index:
    """Return the genes that all slices have, in the order of the last, without control probes.

    Parameters
    ----------
    slices
        Name, for messages, to slice.

    Raises
    ------
    SliceError
        If there is none, or a slice has a gene twice.
    """
    names = [adata.var_names for adata in slices.values()]
    for name, genes in zip(slices, names, strict=True):
        if not genes.is_unique:
            raise SliceError(f"The {name} slice has genes twice: `adata.var_names_make_unique()`.")
    shared = names[-1]
    shared = shared[~control_names(shared)]
    for genes in names[:-1]:
        shared = shared[shared.isin(genes)]
    if not len(shared):
        first = "; ".join(
            f"{name}: {', '.join(g[:3])}" for name, g in zip(slices, names, strict=True)
        )
        raise SliceError(
            f"The slices have no gene in common (first genes: {first}). Use the same kind of gene "
            "name, symbols or identifiers, in all of them."
        )
    return shared


class LogProfiles(NamedTuple):
    """Log expression of the same genes in two slices, from :func:`sparse_log_profiles`.

    Attributes
    ----------
    genes
        Names of the p genes, in the order of the held-out slice.
    real, generated
        (n, p) and (m, p) CSR, float64: the held-out slice and the generated one.
    """

    genes: pd.Index
    real: sparse.csr_matrix
    generated: sparse.csr_matrix

    def most_variable(self, n_genes: int | None = None) -> LogProfiles:
        """Keep the genes that the held-out slice expresses; of more, those that vary most there."""
        mean = np.asarray(self.real.mean(axis=0)).ravel()
        variance = np.asarray(self.real.multiply(self.real).mean(axis=0)).ravel() - mean**2
        largest = np.argsort(-variance, kind="stable")[:n_genes]
        chosen = np.sort(largest[mean[largest] > 0])
        return LogProfiles(self.genes[chosen], self.real[:, chosen], self.generated[:, chosen])


def log_profiles(
    generated: AnnData, held_out: AnnData, *, layer: str | None = None, max_genes: int = 500
) -> tuple[NDArray, NDArray]:
    """Return log expression of the most variable genes, dense: (n, p) and (m, p) float64.

    The held-out slice comes first; else as :func:`sparse_log_profiles`.
    """
    found = sparse_log_profiles(generated, held_out, layer=layer).most_variable(max_genes)
    return found.real.toarray(), found.generated.toarray()


def sparse_log_profiles(
    generated: AnnData, held_out: AnnData, *, layer: str | None = None
) -> LogProfiles:
    """Return log expression of the genes both slices have, on one scale.

    Counts, and other non-negative values, are divided by the total of the spot over the shared
    genes, multiplied by its median in the held-out slice, and log(1 + x) is taken: as
    :func:`genot_helpers.preprocessing.normalise` does, but on a scale that does not depend on the
    generated slice. Values with fractions that all stay below 20 are taken for logarithms.

    Parameters
    ----------
    generated, held_out
        The slices. Nothing is written.
    layer
        Layer of the generated slice, in the unit of the held-out ``X``, to take in place of its
        ``X``.

    Returns
    -------
    LogProfiles
        All shared genes but control probes, expressed or not.

    Raises
    ------
    SliceError
        If the layer is missing, no gene is shared or expressed, values are negative, NaN or
        infinite, or the slices hold different kinds of values.
    """
    if layer is not None and layer not in generated.layers:
        found = list(generated.layers) or "nothing"
        raise SliceError(f"layers[{layer!r}] of the generated slice is missing. Found: {found}.")
    genes = shared_genes({"generated": generated, "held-out": held_out})
    real = held_out[:, genes].X
    ours = generated[:, genes].X if layer is None else generated[:, genes].layers[layer]
    if both_logarithms(real, ours, layer):
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
    """Return the labels of both slices as whole numbers, the same for the same name.

    Returns
    -------
    real, generated : ndarray
        (n,) and (m,) int; -1 for a spot without a label, and for all of them if there is no such
        column.
    """
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


# -------------------------------------------------------------------------------------------------
# Whether two matrices of expression hold the same kind of values, judged by the values alone.
#
# A layer, or a generated slice, does not carry the mark of logarithms that scanpy leaves in
# ``uns`` and that :func:`genot_helpers.slices.holds_logarithms` looks for.


def both_logarithms(real: Any, ours: Any, layer: str | None) -> bool:
    """Say whether both matrices hold logarithms; refuse values that cannot be compared.

    Parameters
    ----------
    real, ours
        (n, p) and (m, p), sparse or dense: the held-out slice and the generated one.
    layer
        Layer that the generated matrix comes from; None for ``X``.

    Raises
    ------
    SliceError
        If values are no numbers, NaN, infinite or negative, or of different kinds.
    """
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
    """Say what a matrix holds, counts, values or logarithms, and its largest value."""
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
