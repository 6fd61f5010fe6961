"""One slice or several: as a list, by name, and with an embedding that they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from .slices import SliceError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Slices",
    "as_list",
    "embedding",
    "joint_embeddings",
    "named_slices",
    "rows_of_each",
]

Slices = AnnData | Iterable[AnnData] | Mapping[str, AnnData]
"""What functions that work on one slice or on several together take."""


def as_list(slices: Slices) -> list[AnnData]:
    """Return one slice, a list or a dictionary of slices as a list."""
    if isinstance(slices, AnnData):
        return [slices]
    return list(slices.values()) if isinstance(slices, Mapping) else list(slices)


def named_slices(slices: Slices) -> dict[str, AnnData]:
    """Return slices by name; those of a list are called "slice 1", "slice 2", ...

    Raises
    ------
    SliceError
        If there is none, or one is no AnnData.
    """
    if isinstance(slices, AnnData):
        return {"slice": slices}
    if not isinstance(slices, Mapping):
        slices = {f"slice {number}": adata for number, adata in enumerate(slices, 1)}
    if not slices or not all(isinstance(adata, AnnData) for adata in slices.values()):
        raise SliceError("give one AnnData, or a list or dictionary of them that is not empty")
    return dict(slices)


def embedding(adata: AnnData, name: str, use_rep: str, *, dtype: DTypeLike = float) -> NDArray:
    """Return a copy of ``obsm[use_rep]``, (n, d).

    Parameters
    ----------
    adata, name
        The slice, and what messages call it.
    use_rep
        Slot of ``obsm``.
    dtype
        Of the copy.

    Raises
    ------
    SliceError
        If it is missing, of another shape, or not finite.
    """
    if use_rep not in adata.obsm:
        raise SliceError(
            f"{name}: obsm[{use_rep!r}] is missing (obsm holds: "
            f"{', '.join(adata.obsm.keys()) or 'nothing'}); make it first, for all slices together "
            "(X_pca: preprocess; X_genot: train_encoder)"
        )
    values = np.asarray(adata.obsm[use_rep])
    if values.ndim != 2:
        raise SliceError(f"{name}: obsm[{use_rep!r}] has shape {values.shape}; needed: (n, d)")
    if not np.isfinite(values).all():
        raise SliceError(
            f"{name}: obsm[{use_rep!r}] holds values that are not finite; "
            "check the expression that they were computed from"
        )
    return np.array(values, dtype=dtype, order="C")


def joint_embeddings(
    named: Mapping[str, AnnData], use_rep: str, *, dtype: DTypeLike = float
) -> list[NDArray]:
    """Return copies of the embeddings of several slices, (n, d) each, with the same d.

    Parameters
    ----------
    named
        Name, for messages, to slice.
    use_rep, dtype
        As in :func:`embedding`.

    Raises
    ------
    SliceError
        As :func:`embedding`, or if the slices differ in d.
    """
    found = [embedding(adata, name, use_rep, dtype=dtype) for name, adata in named.items()]
    widths = {name: values.shape[1] for name, values in zip(named, found, strict=True)}
    if len(set(widths.values())) > 1:
        raise SliceError(
            f"the slices differ in the number of components in obsm[{use_rep!r}]: {widths}; "
            "compute them in one joint principal component analysis"
        )
    return found


def rows_of_each(slices: Iterable[AnnData], stacked: NDArray) -> Iterator[tuple[AnnData, NDArray]]:
    """Yield each slice with its rows of an array in which the slices follow one another."""
    begin = 0
    for adata in slices:
        yield adata, stacked[begin : begin + adata.n_obs]
        begin += adata.n_obs
