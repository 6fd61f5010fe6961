"""What kind of values a slice holds: counts, plain values, logarithms."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from .matrices import entries, is_numeric

__all__ = ["LARGEST_LOGARITHM", "holds_counts", "holds_logarithms", "undo_logarithm"]

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
