"""What kind of values a slice holds: counts, plain values, logarithms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

__all__ = [
    "LARGEST_LOGARITHM",
    "entries",
    "holds_counts",
    "holds_logarithms",
    "is_numeric",
    "scan",
    "undo_logarithm",
]

LARGEST_LOGARITHM = 20.0
"""Natural logarithms of expression stay below it: it is that of half a billion."""


def holds_counts(adata: AnnData) -> bool:
    """Say whether ``X`` holds counts: whole numbers, none negative.

    Parameters
    ----------
    adata
        The slice; ``X`` sparse, dense or backed. Reading stops at the first value that is no count.
    """
    if adata.X is None or not is_numeric(adata.X):
        return False
    return not any(
        ((values < 0) | (np.rint(values) != values) | np.isinf(values)).any()
        for _, _, values in entries(adata.X)
    )


def holds_logarithms(adata: AnnData) -> bool:
    """Say whether ``X`` seems to hold logarithms.

    It does if :func:`scanpy.pp.log1p` left its mark in ``uns``, or if the values are fractions and
    none reaches 20: counts are whole numbers, and values scaled to a common total reach further.
    """
    if adata.X is None or not is_numeric(adata.X) or holds_counts(adata):
        return False
    if "log1p" in adata.uns:
        return True
    return all(values.max(initial=0) < LARGEST_LOGARITHM for _, _, values in entries(adata.X))


def undo_logarithm(adata: AnnData) -> None:
    """Turn log(1 + x) in ``X`` back into x, so that no step takes the logarithm a second time.

    Parameters
    ----------
    adata
        A slice whose ``X`` (CSR, CSC or dense) holds logarithms; the base is read from
        ``uns["log1p"]["base"]`` where scanpy left it, else it is e. ``X`` is replaced, and
        ``uns["log1p"]`` removed. What was scaled to one depth before stays so: counts do not come
        back.

    Raises
    ------
    ValueError
        If ``X`` does not hold logarithms.
    """
    if not holds_logarithms(adata):
        raise ValueError("X holds no logarithms (see holds_logarithms): there is nothing to undo.")
    base = dict(adata.uns.pop("log1p", {})).get("base")
    X = adata.X * np.float32(1.0 if base is None else np.log(base))
    adata.X = X.expm1() if hasattr(X, "expm1") else np.expm1(X)


# -------------------------------------------------------------------------------------------------
# Looking at every value of a large matrix without copying it: sparse, dense, or on disk.
#
# A matrix of spots by genes is read in blocks along the axis it is stored by (rows of a CSR matrix
# or an array, columns of a CSC matrix), so that memory stays small and a file is read once, in
# order. The formats are those of AnnData (Virshup et al. 2024,
# https://doi.org/10.21105/joss.04371).

_BLOCK_VALUES = 4_000_000  # values looked at in one go: 16 MB as float32

Found = tuple[int, int, int, float]  # how many; row, column and value of the first


def entries(X: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the entries of a matrix other than zero, block by block.

    Parameters
    ----------
    X
        (n, m), NumPy array, SciPy sparse matrix, or the HDF5 counterpart of a backed AnnData.

    Yields
    ------
    tuple of ndarray
        Rows, columns and values, each (k,).
    """
    layout = getattr(X, "format", "dense")  # sparse matrices have one, backed ones too
    if layout not in ("csr", "csc", "dense"):
        X = X.tocsr()
    axis = 1 if layout == "csc" else 0
    filled = X.nnz if sparse.issparse(X) else np.prod(X.shape, dtype=float)
    step = max(1, int(_BLOCK_VALUES * X.shape[axis] / max(filled, 1)))
    for start in range(0, X.shape[axis], step):
        part = slice(start, start + step)
        block = sparse.coo_matrix(X[:, part] if axis else X[part])
        nonzero = block.data != 0  # zeros can be stored
        rows, columns = block.row[nonzero], block.col[nonzero]
        rows, columns = (rows, columns + start) if axis else (rows + start, columns)
        yield rows, columns, block.data[nonzero]


def scan(X: Any) -> tuple[dict[str, Found | None], np.ndarray, np.ndarray]:
    """Look at every value once.

    Parameters
    ----------
    X
        (n, m), numbers; as for :func:`entries`.

    Returns
    -------
    bad : dict
        ``"NaN or infinite"``, ``"negative"``, ``"fractions"``: how many, and row, column and value
        of the first; None where there is none.
    used_rows, used_columns : ndarray
        (n,) and (m,) bool, whether there is a value other than zero.
    """
    bad: dict[str, Found | None] = dict.fromkeys(("NaN or infinite", "negative", "fractions"))
    used_rows, used_columns = np.zeros(X.shape[0], dtype=bool), np.zeros(X.shape[1], dtype=bool)
    for rows, columns, values in entries(X):
        used_rows[rows], used_columns[columns] = True, True
        finite = np.isfinite(values)
        masks = (~finite, values < 0, finite & (np.rint(values) != values))
        for kind, mask in zip(bad, masks, strict=True):
            if mask.any():
                k = mask.argmax()
                before = bad[kind] or (0, int(rows[k]), int(columns[k]), float(values[k]))
                bad[kind] = (before[0] + int(mask.sum()), *before[1:])
    return bad, used_rows, used_columns


def is_numeric(values: Any) -> bool:
    """Say whether an array or matrix holds real numbers (booleans count)."""
    return values.dtype.kind in "biuf"
