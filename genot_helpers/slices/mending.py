"""Small repairs of a slice that a reader asks for by name; nothing is guessed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from .slices import SliceError

__all__ = ["set_positions"]


def set_positions(
    adata: AnnData, source: str | Sequence[str], *, key_added: str = "spatial"
) -> None:
    """Take the positions of the spots from where a file keeps them.

    Parameters
    ----------
    adata
        The slice. Gets ``obsm[key_added]``, (n, 2) float64.
    source
        A slot of ``obsm`` (its first two columns are taken), or two columns of ``obs``: x, then y.
    key_added
        Slot to write.

    Raises
    ------
    SliceError
        If there is no such slot or column, or it does not hold numbers.

    Examples
    --------
    >>> set_positions(adata, ("x_centroid", "y_centroid"))
    """
    if isinstance(source, str):
        if source not in adata.obsm:
            raise SliceError(_missing(f"obsm[{source!r}]", source, adata.obsm.keys()))
        values = np.asarray(adata.obsm[source])
        where = f"obsm[{source!r}]"
    else:
        columns = list(source)
        if len(columns) != 2:
            raise SliceError(f"positions are {columns}; give two columns of obs: x, then y.")
        for column in columns:
            if column not in adata.obs:
                raise SliceError(_missing(f"obs[{column!r}]", column, adata.obs.columns))
        values = adata.obs[columns].apply(pd.to_numeric, errors="coerce").to_numpy()
        where = f"obs[{columns}]"
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "iuf":
        found = f"{where} has shape {values.shape}, dtype {values.dtype}"
        raise SliceError(f"{found}; needed: two columns of numbers, x and y.")
    if not np.isfinite(values[:, :2].astype(float)).any():
        raise SliceError(f"{where} holds no numbers.")
    adata.obsm[key_added] = values[:, :2].astype(float)


def _missing(what: str, name: str, found) -> str:
    """Say what is not there, and what is near."""
    found = [str(one) for one in found]
    near = difflib.get_close_matches(name, found, n=3)
    hint = f"Near: {', '.join(near)}. " if near else ""
    return f"{what} is missing. {hint}Found: {', '.join(found) or 'nothing'}."
