"""Slices given to public functions, looked at before any work: sound, or one clear error.

:func:`check_slice` says everything that is wrong with a slice, and is called where one is read.
Here is the part that every public function needs, in one pass over the numbers: names used once,
sparse matrices whose indices lie within (compiled code would write out of bounds), values and
positions finite and not so large that distances overflow. ``@checked`` calls it, once for each call
from outside.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from ..arguments import SOUND
from .slices import SliceError, check_names, check_positions
from .values import check_matrix, is_numeric, scan

__all__ = ["MissingSlot", "check_drawable", "check_structure"]

# Slot in which the name given by an argument has to be, in one of the slices at least.
_SLOTS = {
    **dict.fromkeys(("use_rep", "spatial_key", "aligned_key"), "obsm"),
    "layer": "layers",
    **dict.fromkeys(("key", "label_key", "generated_label_key", "niche_key", "type_key"), "obs"),
    **dict.fromkeys(("truth", "predicted", "confidence", "like_key", "other_key"), "obs"),
}
_ANYWHERE = ("auto", "X")
# Functions whose docstring says that the column may be missing.
_MAY_LACK = {
    ("baseline_slices", "label_key"),
    ("colour_domains", "truth"),
    ("plot_domains", "truth"),
    ("plot_side_by_side", "truth"),
}


class MissingSlot(SliceError, KeyError):
    """A slot is not there: an error of the slice, and one of the name that was looked up."""

    __str__ = Exception.__str__  # that of KeyError shows the message in quotes


def check_structure(function: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise SliceError for a slice that cannot be worked on, or a slot that no slice has.

    Parameters
    ----------
    function
        Name of the function that was called, for the message.
    given
        Its arguments and their values.
    defaults
        Values of arguments that were not given. A slot that only a default names may be missing.
    """
    key = given.get("spatial_key", defaults.get("spatial_key"))
    slices = dict(_slices(given))
    for name, adata in slices.items():
        for slot, found, fix in _problems(adata, key):
            raise _error(adata, slot, key)(f"{function}: {name}, {slot}: {found} Fix: {fix}")
    for name, value in given.items():
        if damaged := check_matrix(value):
            raise SliceError(f"{function}: argument {name} is damaged: {damaged}. Build it again.")
    for argument, slot in _SLOTS.items():
        names = given.get(argument)
        names = None if str(names) == str(defaults.get(argument)) else names
        if (function, argument) in _MAY_LACK:
            continue
        for one in [names] if isinstance(names, str) else ():
            if slices and one not in _ANYWHERE and not _has(slices, slot, one, argument):
                raise MissingSlot(_missing(function, argument, slot, one, slices))


def check_drawable(adata: AnnData, key: str = "spatial") -> None:
    """Raise SliceError where ``obsm[key]`` is missing or cannot be drawn."""
    for slot, found, fix in check_positions(adata, key):
        if "share their position" not in found:
            raise _error(adata, slot, key)(f"{slot}: {found} Fix: {fix}")
    if adata.n_obs == 1:
        raise SliceError("obs: a single spot. Fix: take more tissue, two spots or more.")


def _error(adata: AnnData, slot: str, key: str | None) -> type[SliceError]:
    """Return the class of the error: a slot that is missing is a KeyError too."""
    missing = key is not None and slot == f'obsm["{key}"]' and key not in adata.obsm
    return MissingSlot if missing else SliceError


def _slices(given: Mapping[str, Any]) -> Iterator[tuple[str, AnnData]]:
    """Yield the slices among the arguments, and what to call them."""
    for name, value in given.items():
        if isinstance(value, AnnData):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}[{k!r}]", v) for k, v in value.items() if isinstance(v, AnnData))
        elif isinstance(value, list | tuple):
            yield from ((f"{name}[{i}]", v) for i, v in enumerate(value) if isinstance(v, AnnData))


def _problems(adata: AnnData, key: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield slot, what was found and what to do."""
    if not adata.n_obs:
        yield "obs", "no spots.", "check the filter applied before."
    yield from check_names(adata)
    if adata.isbacked:
        return
    again = "read the file again, or get it again: its matrix is broken."
    for slot, matrix in _matrices(adata):
        damaged = check_matrix(matrix)
        if damaged:
            yield slot, f"damaged: {damaged}.", again
        if slot == "X" and matrix is not None and not hasattr(matrix, "compute"):
            if not is_numeric(matrix):
                yield slot, f"dtype {matrix.dtype}, no numbers.", "`adata.X.astype('float32')`."
            elif not np.isfinite(_total(matrix)):
                fix = "remove spots or genes that were not measured (gh.check_slice lists them)."
                yield slot, _not_finite(adata), fix
    if key is None or (key != "spatial" and key not in adata.obsm):
        return
    yield from (one for one in check_positions(adata, key) if "share their position" not in one[1])
    if adata.n_obs == 1:
        yield "obs", "a single spot.", "take more tissue: distances need two spots or more."


def _matrices(adata: AnnData) -> Iterator[tuple[str, Any]]:
    """Yield the matrices of a slice, and the names of their slots."""
    yield "X", adata.X
    yield from ((f'layers["{name}"]', adata.layers[name]) for name in adata.layers)
    yield from ((f'obsp["{name}"]', adata.obsp[name]) for name in adata.obsp)


def _not_finite(adata: AnnData) -> str:
    """Say how many values are NaN or infinite, and where the first one is."""
    found = scan(adata.X)[0]["NaN or infinite"]
    if found is None:  # values that are finite each, and too large to be added
        return "values so large that their sum is infinite."
    number, spot, gene, value = found
    place = f"spot {adata.obs_names[spot]!r}, gene {adata.var_names[gene]!r}"
    return f"{number:,} values are NaN or infinite (first: {value:g} in {place})."


def _total(matrix: Any) -> float:
    """Return the sum of all values, which is not finite if one of them is not."""
    with np.errstate(all="ignore"):
        values = matrix.data if sparse.issparse(matrix) else np.asarray(matrix)
        return float(values.sum(dtype=float))


def _has(slices: Mapping[str, AnnData], slot: str, name: str, argument: str) -> bool:
    """Whether one of the slices has a slot of this name (a gene may be one, or ``uns`` hold it)."""
    return any(name in getattr(adata, slot) for adata in slices.values())


def _missing(
    function: str, argument: str, slot: str, name: str, slices: Mapping[str, AnnData]
) -> str:
    """Say which slot is missing, and what is there."""
    there = sorted({str(one) for adata in slices.values() for one in getattr(adata, slot)})
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"{function}: argument {argument} is {name!r}, but no slice has {slot}[{name!r}].{hint} "
        f"There: {', '.join(there[:12]) or 'nothing'}."
    )


SOUND.append(check_structure)
