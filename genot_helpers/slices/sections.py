"""One slice or several: as a list, by name, and with an embedding that they have in common."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..arguments import checked
from .geometry import own_pictures, pictures
from .slices import SliceError, as_labels

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Slices",
    "as_list",
    "by_each_section",
    "by_section",
    "embedding",
    "join_results",
    "joint_embeddings",
    "named_slices",
    "rows_of_each",
    "section_codes",
    "split_sections",
]

Slices = AnnData | Iterable[AnnData] | Mapping[str, AnnData]
"""What functions that work on one slice or on several together take."""


def as_list(slices: Slices) -> list[AnnData]:
    """Return one slice, a list or a dictionary of slices as a list."""
    if isinstance(slices, AnnData):
        return [slices]
    return list(slices.values()) if isinstance(slices, Mapping) else list(slices)


def named_slices(slices: Slices) -> dict[str, AnnData]:
    """Return slices by name; those of a list are called "slice 1", "slice 2", ..."""
    if isinstance(slices, AnnData):
        return {"slice": slices}
    if not isinstance(slices, Mapping):
        slices = {f"slice {number}": adata for number, adata in enumerate(slices, 1)}
    if not slices or not all(isinstance(adata, AnnData) for adata in slices.values()):
        raise SliceError("give one AnnData, or a list or dictionary of them that is not empty")
    return dict(slices)


def embedding(adata: AnnData, name: str, use_rep: str, *, dtype: DTypeLike = float) -> NDArray:
    """Return a copy of ``obsm[use_rep]``, (n, d)."""
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
    """Return copies of the embeddings of several slices, (n, d) each, with the same d."""
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


# -------------------------------------------------------------------------------------------------
# Several sections in one object.


@checked
def split_sections(adata: AnnData, section_key: str) -> dict[str, AnnData]:
    """Split an object by the column that says which section a spot belongs to.

    Parameters
    ----------
    adata
        Several sections in one object, in memory.
    section_key
        Column of ``obs``, what squidpy calls ``library_key``.

    Returns
    -------
    dict of str to AnnData
        Name → section, in the order of the categories or of first appearance. ``X`` and layers of
        a section whose rows follow one another share their memory with ``adata``; other sections
        are copies. Of the images in ``uns["spatial"]`` a section keeps its own. Results are written
        back by :func:`join_results`.

    Raises
    ------
    SliceError
        If there is no such column, a spot has no section, or names are not unique as text.

    Examples
    --------
    >>> sections = split_sections(adata, "library_id")
    """
    if section_key not in adata.obs:
        near = difflib.get_close_matches(section_key, list(map(str, adata.obs.columns)), n=3)
        hint = f" Near: {', '.join(near)}." if near else ""
        raise SliceError(
            f"obs[{section_key!r}] is missing.{hint} Columns: {list(adata.obs.columns)}."
        )
    codes, names = section_codes(adata, section_key)
    found = {}
    for number, name in enumerate(names):
        rows = np.flatnonzero(codes == number)
        follow = len(rows) == rows[-1] - rows[0] + 1
        part = _block(adata, rows[0], rows[-1] + 1) if follow else adata[rows].copy()
        part.uns["genot"] = {**dict(adata.uns.get("genot", {})), "name": name}
        part.uns["genot"].pop("one_section", None)
        _own_picture(part, name)
        found[name] = part
    return found


def section_codes(adata: AnnData, section_key: str) -> tuple[NDArray[np.intp], list[str]]:
    """Return the number of each spot's section, and the names of the sections."""
    values = adata.obs[section_key]
    if values.isna().any():
        raise SliceError(
            f"obs[{section_key!r}] is empty for {values.isna().sum():,} spots: give each its "
            "section, or leave these spots out."
        )
    values = as_labels(values) if values.dtype.kind in "iufb" else values
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.remove_unused_categories()
        return values.cat.codes.to_numpy(np.intp), [str(name) for name in values.cat.categories]
    codes, names = pd.factorize(values.astype(str))
    return codes, [str(name) for name in names]


def _block(adata: AnnData, start: int, end: int) -> AnnData:
    """Return rows that follow one another, without copying the matrices."""
    part = AnnData(
        _rows(adata.X, start, end),
        obs=adata.obs.iloc[start:end].copy(),
        var=adata.var.copy(),
        uns=dict(adata.uns),
        obsm={key: value[start:end] for key, value in adata.obsm.items()},
        layers={key: _rows(value, start, end) for key, value in adata.layers.items()},
    )
    for key, value in adata.obsp.items():
        part.obsp[key] = value[start:end, start:end]
    return part


def _rows(matrix: Any, start: int, end: int) -> Any:
    """Return rows of a matrix; of CSR and dense ones as a view of the same memory."""
    if not sparse.issparse(matrix) or matrix.format != "csr":
        return None if matrix is None else matrix[start:end]
    first, last = matrix.indptr[start], matrix.indptr[end]
    parts = (
        matrix.data[first:last],
        matrix.indices[first:last],
        matrix.indptr[start : end + 1] - first,
    )
    return type(matrix)(parts, shape=(end - start, matrix.shape[1]), copy=False)


def _own_picture(part: AnnData, name: str) -> None:
    """Keep the images of one section only; none where it is not clear which are its own."""
    if len(pictures(part)) > 1:
        part.uns["spatial"] = {key: part.uns["spatial"][key] for key in own_pictures(part, name)}


@checked
def join_results(adata: AnnData, sections: Mapping[str, AnnData], section_key: str) -> None:
    """Write what was found in the sections of one object back to it.

    Parameters
    ----------
    adata
        The object. Gets the columns of ``obs`` and ``var`` and the slots of ``obsm``, ``layers``
        and ``obsp`` that the sections have and it has not, or that carry this package's prefix;
        spots of different sections are no neighbours in ``obsp``. A column of ``var`` that differs
        between sections is true if it is in one of them, or the mean. ``uns["genot"]`` is that of
        the first section.
    sections
        From :func:`split_sections`, with results.
    section_key
        The column it was split by.

    Raises
    ------
    SliceError
        If a section has another number of spots than in the object.
    """
    codes, names = section_codes(adata, section_key)
    rows = [np.flatnonzero(codes == number) for number in range(len(names))]
    parts = [sections[name] for name in names]
    for name, part, here in zip(names, parts, rows, strict=True):
        if part.n_obs != len(here):
            raise SliceError(
                f"section {name!r} has {part.n_obs:,} spots now and had {len(here):,}: results "
                "cannot be written back. Leave spots out of the one object first."
            )
    order = np.argsort(np.concatenate(rows), kind="stable")
    _join_tables(adata, parts, order)
    for key in _new(adata.obsm, [part.obsm for part in parts]):
        adata.obsm[key] = np.concatenate([np.asarray(part.obsm[key]) for part in parts])[order]
    for key in _new(adata.layers, [part.layers for part in parts]):
        blocks = [sparse.csr_matrix(part.layers[key]) for part in parts]
        adata.layers[key] = sparse.vstack(blocks, format="csr")[order]
    for key in _new(adata.obsp, [part.obsp for part in parts]):
        blocks = sparse.block_diag([part.obsp[key] for part in parts], format="csr")
        adata.obsp[key] = blocks[order][:, order].tocsr()
    for key, value in parts[0].uns.items():
        if key not in adata.uns and key != "spatial":
            adata.uns[key] = value
    facts = {k: v for k, v in parts[0].uns.get("genot", {}).items() if k != "name"}
    adata.uns["genot"] = {**adata.uns.get("genot", {}), **facts, "section_key": section_key}


def _join_tables(adata: AnnData, parts: list[AnnData], order: NDArray[np.intp]) -> None:
    """Write new columns of ``obs`` and ``var``."""
    for column in _new(adata.obs, [part.obs for part in parts]):
        values = [part.obs[column] for part in parts]
        joined = pd.concat([one.astype(object) for one in values]).iloc[order].to_numpy()
        kinds = {str(one.dtype) for one in values}
        if kinds == {"category"}:
            names = dict.fromkeys(name for one in values for name in one.cat.categories)
            joined = pd.Categorical(joined, categories=list(names))
        elif len(kinds) == 1:
            joined = joined.astype(values[0].dtype)
        adata.obs[column] = joined
    for column in _new(adata.var, [part.var for part in parts]):
        values = np.stack([part.var[column].to_numpy() for part in parts])
        if values.dtype.kind in "biuf":
            adata.var[column] = values.any(axis=0) if values.dtype == bool else values.mean(axis=0)


def _new(before: Any, now: list[Any]) -> list[str]:
    """Return the keys that all sections have and that are new, or ours."""
    ours = ("genot", "X_", "spatial_", "log1p")
    everywhere = [key for key in now[0] if all(key in slot for slot in now)]
    return [key for key in everywhere if key not in before or str(key).startswith(ours)]


def by_section(function: Callable) -> Callable:
    """Let a function of several slices take one object with ``section_key``, as squidpy does."""

    @functools.wraps(function)
    def with_sections(slices: Slices, *args: Any, section_key: str | None = None, **options: Any):
        if section_key is None:
            return function(slices, *args, **options)
        if not isinstance(slices, AnnData):
            raise TypeError("section_key belongs to one AnnData that holds several sections.")
        sections = split_sections(slices, section_key)
        result = function(sections, *args, **options)
        join_results(slices, sections, section_key)
        return result

    return with_sections


def by_each_section(function: Callable) -> Callable:
    """Let a function of one slice take an object of several sections: each is done by itself."""

    @functools.wraps(function)
    def with_sections(adata: AnnData, *args: Any, section_key: str | None = None, **options: Any):
        if section_key is None:
            return function(adata, *args, **options)
        sections = split_sections(adata, section_key)
        for section in sections.values():
            function(section, *args, **options)
        return join_results(adata, sections, section_key)

    return with_sections
