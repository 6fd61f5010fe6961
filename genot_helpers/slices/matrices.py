"""Looking at every value of a large matrix without copying it: sparse, dense, or on disk.

A matrix of spots by genes is read in blocks along the axis it is stored by (rows of a CSR matrix or
an array, columns of a CSC matrix), so that memory stays small and a file is read once, in order.
The formats are those of AnnData (Virshup et al. 2024, https://doi.org/10.21105/joss.04371).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["entries", "is_numeric", "scan"]

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
