"""Two slices made comparable: one frame, the same genes on one scale, one code for each label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from ..slices.matrices import is_numeric, scan
from ..slices.slices import SliceError
from ..slices.values import LARGEST_LOGARITHM

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = [
    "LogProfiles",
    "check_overlap",
    "coordinates",
    "label_codes",
    "log_profiles",
    "named_log_profiles",
    "shared_genes",
    "sparse_log_profiles",
]

_CONTROL_PROBES = "blank"  # what control probes of multiplexed imaging are called


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


def check_overlap(real: NDArray, generated: NDArray) -> None:
    """Refuse two sets of points whose bounding boxes do not overlap."""
    boxes = [(points.min(axis=0), points.max(axis=0)) for points in (generated, real)]
    (low, high), (other_low, other_high) = boxes
    if (low > other_high).any() or (other_low > high).any():
        ours, theirs = (f"x {a[0]:g} to {b[0]:g}, y {a[1]:g} to {b[1]:g}" for a, b in boxes)
        raise SliceError(
            f"The slices do not overlap: the generated one lies in {ours}, the held-out one in "
            f"{theirs}. Bring both into one frame and unit first (align them)."
        )


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
    shared = shared[~shared.str.lower().str.startswith(_CONTROL_PROBES)]
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
    """Log expression of the same genes in two slices, spots by genes."""

    genes: pd.Index
    real: sparse.csr_matrix
    generated: sparse.csr_matrix


def log_profiles(
    generated: AnnData, held_out: AnnData, *, layer: str | None = None, max_genes: int = 500
) -> tuple[NDArray, NDArray]:
    """Return what :func:`named_log_profiles` does, (n, p) and (m, p) float64, without names."""
    _, real, ours = named_log_profiles(generated, held_out, layer=layer, max_genes=max_genes)
    return real.toarray(), ours.toarray()


def named_log_profiles(
    generated: AnnData,
    held_out: AnnData,
    *,
    layer: str | None = None,
    max_genes: int | None = None,
) -> LogProfiles:
    """Return log expression of the same genes in both slices, on one scale.

    Counts, and other non-negative values, are divided by the total of the spot over the shared
    genes, multiplied by its median in the held-out slice, and log(1 + x) is taken: as
    :func:`genot_helpers.preprocessing.normalise` does, but on a scale that does not depend on the
    generated slice. Values with fractions that all stay below 20 are taken for logarithms.

    Parameters
    ----------
    layer
        Layer of the generated slice, in the unit of the held-out ``X``, to take in place of its
        ``X``.
    max_genes
        Of more genes, those with the largest variance in the held-out slice; None: all.

    Returns
    -------
    LogProfiles
        Names of the genes and (n, p) and (m, p) csr, float64; genes in the order of the held-out
        slice, all of them expressed there.

    Raises
    ------
    SliceError
        If no gene is shared, values are negative, NaN or infinite, or the slices hold different
        kinds of values.
    """
    genes, expected, ours = sparse_log_profiles(generated, held_out, layer=layer)
    mean = np.asarray(expected.mean(axis=0)).ravel()
    variance = np.asarray(expected.multiply(expected).mean(axis=0)).ravel() - mean**2
    largest = np.argsort(-variance, kind="stable")[:max_genes]
    chosen = np.sort(largest[mean[largest] > 0])
    return LogProfiles(genes[chosen], expected[:, chosen], ours[:, chosen])


def sparse_log_profiles(
    generated: AnnData, held_out: AnnData, *, layer: str | None = None
) -> LogProfiles:
    """Return all shared genes, expressed or not; else as :func:`named_log_profiles`."""
    if layer is not None and layer not in generated.layers:
        found = list(generated.layers) or "nothing"
        raise SliceError(f"layers[{layer!r}] of the generated slice is missing. Found: {found}.")
    genes = shared_genes({"generated": generated, "held-out": held_out})
    real = held_out[:, genes].X
    ours = generated[:, genes].X if layer is None else generated[:, genes].layers[layer]
    if _are_logarithms(real, ours, layer):
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


def _are_logarithms(real: Any, ours: Any, layer: str | None) -> bool:
    """Say whether both slices hold logarithms; refuse values that cannot be compared."""
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
    return "logarithms" if largest <= LARGEST_LOGARITHM else "values", largest


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
    labels = adata.obs[key].astype(object)
    return labels.map(str, na_action="ignore")
