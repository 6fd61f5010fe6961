"""What kind of values a slice holds: counts, plain values, logarithms; and where the counts are.

The kinds leave marks that survive any choice of genes: within a spot, divided counts are whole
multiples of the smallest one, and so are log values once the logarithm is undone; divided to a
common total, the totals agree. Without a mark the record of the slice decides, or else the size.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from ..arguments import checked

_LARGEST_LOGARITHM = 20.0  # of expression, natural: that of half a billion
_BASES = (np.e, 2.0, 10.0)
_SAMPLE_ROWS = 200
_FEWEST = 5  # values in a row that say something
_COUNT_NAMES = re.compile(
    r"(x[-_. ]?)?(raw[-_. ]?)?(umi[-_. ]?)?counts?(umi)?"
    r"([-_. ]?(raw|umi|matrix|original|unnormali[sz]ed))?"
    r"|raw([-_. ]?(data|x|values|expr(ession)?|umis?))?|umis?|integers?|transcripts?"
    r"|(un(normali[sz]ed|processed)|original)([-_. ]?(counts?|x|data))?|molecules|reads",
    re.IGNORECASE,
)
_PART = re.compile("spliced|ambiguous|mask|bin", re.IGNORECASE)
_LAST_RESORT = re.compile(r"spliced|matrix", re.IGNORECASE)  # spliced: a part of the counts only


@checked(sound=False)
def holds_counts(adata: AnnData) -> bool:
    """Say whether ``X`` holds counts: whole numbers, none negative.

    Parameters
    ----------
    adata
        The slice; ``X`` sparse, dense or backed. Reading stops at the first value that is no count.
    """
    _refuse_damaged(adata)
    if adata.X is None or not is_numeric(adata.X):
        return False
    return not any(
        ((values < 0) | (np.rint(values) != values) | np.isinf(values)).any()
        for _, _, values in entries(adata.X)
    )


@checked(sound=False)
def holds_logarithms(adata: AnnData) -> bool:
    """Say whether ``X`` holds logarithms; see :func:`slice_kind`."""
    _refuse_damaged(adata)
    if adata.X is None or not is_numeric(adata.X):
        return False
    return slice_kind(adata).kind == "logarithms"


def slice_kind(adata: AnnData) -> ValueKind:
    """Say what kind of values ``X`` of a slice holds."""
    found = value_kind(adata.X)
    if found.sure:
        return found
    if "log1p" in adata.uns:  # the mark of scanpy.pp.log1p
        mark = adata.uns["log1p"]
        base = mark.get("base") if isinstance(mark, Mapping) else None
        return ValueKind("logarithms", base=float(np.e if base is None else base), sure=False)
    recorded = adata.uns.get("genot", {}).get("values")
    if recorded in ("values", "logarithms"):
        return ValueKind(recorded, base=np.e if recorded == "logarithms" else np.nan, sure=False)
    return found


@checked(sound=False)
def undo_logarithm(adata: AnnData) -> None:
    """Turn log(1 + x) in ``X`` back into x, so that no step takes the logarithm a second time.

    Parameters
    ----------
    adata
        A slice whose ``X`` holds logarithms; the base is that which the values bear out, or that
        in ``uns["log1p"]["base"]``, else e. ``X`` is replaced, ``uns["log1p"]`` removed, and
        ``uns["genot"]["values"]`` set to "values". Counts do not come back.

    Raises
    ------
    ValueError
        If ``X`` does not hold logarithms.
    """
    if not holds_logarithms(adata):
        raise ValueError("X holds no logarithms (see holds_logarithms): there is nothing to undo.")
    base = slice_kind(adata).base
    adata.uns.pop("log1p", None)
    X = adata.X * np.float32(np.log(base))
    adata.X = X.expm1() if hasattr(X, "expm1") else np.expm1(X)
    adata.uns["genot"] = {**adata.uns.get("genot", {}), "values": "values"}


class ValueKind(NamedTuple):
    """What a matrix holds."""

    kind: str  # "counts", "values" (no counts), "logarithms" or "centred" (some are negative)
    base: float = np.nan  # of logarithms; nan for other kinds
    total: float = np.nan  # that every spot was scaled to before the logarithm; nan if they differ
    sure: bool = True  # whether the values bear it out, and not only their size

    def __str__(self) -> str:
        if self.kind == "logarithms":
            base = "natural" if abs(self.base - np.e) < 1e-6 else f"base {self.base:g}"
            scaled = f" of values scaled to {self.total:,.4g} a spot" if self.total > 0 else ""
            return f"logarithms ({base}){scaled}"
        if self.kind == "values" and self.total > 0:
            return f"values scaled to {self.total:,.4g} a spot"
        said = {"values": "plain values, no counts", "centred": "centred values"}
        return said.get(self.kind, self.kind)


def value_kind(X: Any) -> ValueKind:
    """Say what kind of values a matrix holds."""
    for _, _, values in entries(X):
        if (values < 0).any():
            return ValueKind("centred")
        if (np.rint(values) != values).any():
            break
    else:
        return ValueKind("counts")
    sample = _sample(X)
    sample.eliminate_zeros()
    rows = [row for row in np.split(sample.data, sample.indptr[1:-1]) if len(row) >= _FEWEST]
    if any((row < 0).any() for row in rows):
        return ValueKind("centred")
    plain, total = _marks(rows)
    if plain:
        return ValueKind("values", total=total)
    largest = max((row.max(initial=0.0) for row in rows), default=0.0)
    for base in _BASES:
        if largest * np.log(base) < 80:  # or undoing it overflows
            logged, total = _marks([np.expm1(row * np.log(base)) for row in rows])
            if logged:
                return ValueKind("logarithms", base=base, total=total)
    top = max((values.max(initial=0) for _, _, values in entries(X)), default=0)
    if top < _LARGEST_LOGARITHM:
        return ValueKind("logarithms", base=np.e, sure=False)
    return ValueKind("values", sure=False)


def _sample(X: Any) -> sparse.csr_matrix:
    """Return rows all over a matrix."""
    chosen = np.unique(np.linspace(0, X.shape[0] - 1, _SAMPLE_ROWS).astype(int))
    return sparse.csr_matrix(X[chosen].astype(np.float64))


def _marks(rows: list[NDArray[np.float64]]) -> tuple[bool, float]:
    """Say whether rows are counts divided by something, and the total that they have in common."""
    if len(rows) < _FEWEST:
        return False, np.nan
    totals = np.array([row.sum() for row in rows])
    middle = float(np.median(totals))
    alike = float(np.mean(np.abs(totals / middle - 1) < 1e-3)) if middle > 0 else 0.0
    total = middle if alike > 0.9 else np.nan
    multiples = [found for row in rows if (found := _whole_multiples(row)) is not None]
    many = len(multiples) >= _FEWEST and np.mean(multiples) > 0.6
    return bool(alike > 0.9 or many), total


def _whole_multiples(row: NDArray[np.float64]) -> bool | None:
    """Say whether values are whole multiples of one unit; None where there are too few."""
    ratio = row / row.min()
    ratio = ratio[(ratio > 1.2) & (ratio < 10)]
    if len(ratio) < 2:
        return None
    return any(
        np.mean(np.abs(units * ratio - np.rint(units * ratio)) < 0.02) > 0.9 for units in (1, 2, 3)
    )


def find_counts(adata: AnnData) -> str:
    """Name the counts of a slice: "X", "layers['…']" or "raw.X"; empty if there are none."""
    if adata.X is not None and is_numeric(adata.X) and value_kind(adata.X).kind == "counts":
        return "X"
    layers = [key for key in adata.layers if key is not None]  # anndata 0.13 calls X so
    good = [key for key in layers if _usable(adata.layers[key])]
    named = [key for key in good if _COUNT_NAMES.fullmatch(str(key))]
    if named:
        return f"layers[{named[0]!r}]"
    if adata.raw is not None and _usable(adata.raw.X) and len(raw_columns(adata)):
        return "raw.X"
    last = [key for key in good if _LAST_RESORT.fullmatch(str(key))]
    alike = [key for key in good if _same_zeros(adata.X, adata.layers[key])]
    if not alike and len(good) == 1 and not _PART.search(good[0]) and _centred(adata.X):
        alike = good
    return f"layers[{(alike or last)[0]!r}]" if alike or last else ""


def _centred(X: Any) -> bool:
    """Say whether a matrix is scaled, so that its zeros say nothing."""
    return is_numeric(X) and value_kind(X).kind == "centred"


def _usable(X: Any) -> bool:
    """Say whether a matrix holds counts, not yes and no."""
    if X is None or not is_numeric(X) or X.dtype == bool or 0 in X.shape:
        return False
    return value_kind(X).kind == "counts" and float(X.max()) > 1


def _same_zeros(X: Any, other: Any) -> bool:
    """Say whether two matrices are zero in the same places, judged by rows all over."""
    if X is None:
        return True
    one, two = (_sample(matrix) != 0 for matrix in (X, other))
    return (one != two).nnz <= 0.001 * max(one.nnz, 1)


def raw_columns(adata: AnnData) -> NDArray[np.intp]:
    """Return the columns of ``.raw`` for the genes of ``X``; empty where they are not all there."""
    names = adata.raw.var_names
    if names.is_unique:
        columns = names.get_indexer(adata.var_names)
        if (columns >= 0).all():
            return columns
    if len(names) == adata.n_vars and _same_zeros(adata.X, adata.raw.X):
        return np.arange(adata.n_vars)  # named otherwise, in the same order
    return np.array([], dtype=np.intp)


# -------------------------------------------------------------------------------------------------
# Every value of a large matrix, sparse, dense or on disk, in blocks along the axis it is stored by,
# so that memory stays small and a file is read once, in order.

_BLOCK_VALUES = 4_000_000  # values looked at in one go: 16 MB as float32

Found = tuple[int, int, int, float]  # how many; row, column and value of the first


def entries(X: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the entries of a matrix other than zero, block by block: rows, columns, values."""
    layout = getattr(X, "format", "dense")  # sparse matrices have one, backed ones too
    if layout not in ("csr", "csc", "dense"):
        X = X.tocsr()
    axis = 1 if layout == "csc" else 0
    filled = X.nnz if sparse.issparse(X) else np.prod(X.shape, dtype=float)
    step = max(1, int(_BLOCK_VALUES * X.shape[axis] / max(filled, 1)))
    for start in range(0, X.shape[axis], step):
        part = slice(start, start + step)
        block = X[:, part] if axis else X[part]
        if block.dtype.kind == "b" or block.dtype == np.float16:  # SciPy and NumPy lack steps
            block = block.astype(np.float32)
        block = sparse.coo_matrix(block)
        nonzero = block.data != 0  # zeros can be stored
        rows, columns = block.row[nonzero], block.col[nonzero]
        rows, columns = (rows, columns + start) if axis else (rows + start, columns)
        yield rows, columns, block.data[nonzero]


def scan(X: Any) -> tuple[dict[str, Found | None], np.ndarray, np.ndarray]:
    """Return the first bad value of each kind and how many, and which rows and columns are used."""
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


def _refuse_damaged(adata: AnnData) -> None:
    """Raise ValueError before compiled code reads a sparse matrix that points out of its bounds."""
    if damaged := check_matrix(adata.X):
        raise ValueError(f"X is damaged: {damaged}. Build the matrix again.")


def check_matrix(matrix: Any) -> str:
    """Say what is wrong with the structure of a sparse matrix; empty where nothing is."""
    if not sparse.issparse(matrix) or matrix.format not in ("csr", "csc"):
        return ""
    rows, columns = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    pointer, indices = matrix.indptr, matrix.indices
    if len(pointer) != rows + 1 or pointer[0] != 0 or (np.diff(pointer) < 0).any():
        return "pointers to its rows are out of order"
    if pointer[-1] != len(indices) or len(indices) != len(matrix.data):
        return f"{pointer[-1]:,} entries announced, {len(indices):,} there"
    if len(indices) and (indices.min() < 0 or indices.max() >= columns):
        return f"an index of {indices.max():,} in {columns:,} columns"
    return ""


def plain_matrix(matrix: Any) -> Any:
    """Return a matrix in memory that scanpy and scikit-learn know: the same where it is one."""
    if hasattr(matrix, "compute"):
        matrix = matrix.compute()
    if isinstance(matrix, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(matrix).any()  # missing, whatever lies below the mask
        matrix = matrix.astype(float).filled(np.nan) if masked else matrix.data
    if isinstance(matrix, sparse.sparray) or getattr(matrix, "format", "csr") not in ("csr", "csc"):
        kind = sparse.csc_matrix if matrix.format == "csc" else sparse.csr_matrix
        matrix = kind(matrix)
    dtype = getattr(matrix, "dtype", np.dtype(float))
    if dtype.kind == "O" and not sparse.issparse(matrix):
        with contextlib.suppress(TypeError, ValueError):  # else it is refused, as no numbers
            matrix = matrix.astype(float)
    elif dtype in (np.float16, np.bool_):
        matrix = matrix.astype(np.float32)
    return matrix if dtype.isnative else matrix.astype(dtype.newbyteorder("="))
