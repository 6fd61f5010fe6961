"""What a slice is, checked once, with errors that help.

A slice is an :class:`anndata.AnnData` (Virshup et al. 2024, https://doi.org/10.21105/joss.04371),
one row per spot, one column per gene: ``X`` (counts or normalised values, finite, not negative),
``obsm["spatial"]`` (spots, 2), and, optional, ``obs["domain_truth"]`` (NaN: not annotated).
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..arguments import SOUND, checked
from .geometry import Joined, find_joined
from .values import check_matrix, is_numeric, scan

LABEL_COLUMNS = (
    *("domain_truth", "domain", "layer_guess", "layer_guess_reordered", "spatialLIBD", "layer"),
    *("Region", "region", "ground_truth", "Ground Truth", "annotation", "cluster"),
    "celltype_mapped_refined",
)
"""Columns of ``obs`` in which published slices keep their annotation, in order of preference."""

# More than this share of spots on top of each other means several sections, or no positions at all;
# fewer are cells of which one lies above the other.
_MOST_SHARED = 0.5
_LARGEST = 1e100  # squares of coordinates have to stay below the largest number
_TISSUE_COLUMNS = ("intissue", "undertissue", "ontissue", "istissue", "isintissue", "tissue")
_YES = ("1", "1.0", "true", "yes", "in", "in_tissue", "tissue")
_NO = ("0", "0.0", "false", "no", "out", "off_tissue", "background")


class Problem(NamedTuple):
    """One thing that is wrong with a slice: where, what was found, and what to do about it."""

    slot: str
    found: str
    fix: str


class SliceError(ValueError):
    """A slice cannot be used as it is.

    Attributes
    ----------
    problems
        Tuple of :class:`Problem`; empty where the message alone says it.
    """

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()):
        super().__init__(message)
        self.problems = problems


class MissingSlot(SliceError, KeyError):
    """A slot is not there: an error of the slice, and one of the name that was looked up."""

    __str__ = Exception.__str__  # that of KeyError shows the message in quotes


@checked(sound=False)
def check_slice(
    adata: AnnData,
    *,
    name: str = "slice",
    spatial_key: str = "spatial",
    min_spots: int = 10,
    require_counts: bool = False,
) -> None:
    """Raise one error that lists everything that is wrong with a slice.

    Parameters
    ----------
    adata
        The slice. Nothing is written or copied; the matrix is read once, in blocks.
    name
        What to call the slice in the message.
    spatial_key
        Slot of ``obsm`` with the positions.
    min_spots
        Fewest spots that make a graph worth the name.
    require_counts
        Also ask that ``X`` holds whole numbers.

    Raises
    ------
    SliceError
        If anything is wrong; ``problems`` holds it piece by piece. Looked for: names used twice,
        ``obs`` or ``var`` of another length than ``X``; positions missing, of the wrong shape, not
        finite, or shared by spots; values that are negative or not finite; spots and genes without
        any value; too few spots; no genes; a matrix on disk, not computed or damaged; several
        sections over each other.
    TypeError
        If ``adata`` is no AnnData.

    Examples
    --------
    >>> adata = AnnData(np.ones((20, 3), dtype="float32"))
    >>> adata.obsm["spatial"] = np.random.default_rng(0).random((20, 2))
    >>> check_slice(adata)
    """
    problems = (
        *check_sizes(adata, min_spots),
        *check_names(adata),
        *check_positions(adata, spatial_key),
        *check_values(adata, require_counts),
    )
    problems = problems or tuple(check_sections(adata, spatial_key, name))
    if problems:
        lines = [
            f"  {i}. {p.slot}: {p.found}\n     Fix: {p.fix}" for i, p in enumerate(problems, 1)
        ]
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise SliceError("\n".join([f"{name} cannot be used: {count}.", *lines]), problems)


def check_sizes(adata: AnnData, min_spots: int) -> Iterator[Problem]:
    """Yield what is wrong with the number of spots and genes."""
    n_spots, n_genes = len(adata.obs), len(adata.var)
    if adata.X is None:
        fix = "store counts there, e.g. `adata.X = adata.layers['counts']`."
        yield Problem("X", "there is no matrix.", fix)
    elif tuple(adata.X.shape) != (n_spots, n_genes):
        rows, columns = adata.X.shape
        found = (
            f"{rows:,} × {columns:,}, but obs has {n_spots:,} rows and var has {n_genes:,}: they "
            "are misaligned."
        )
        fix = "select with `adata[spots, genes].copy()`; never drop rows of obs or var in place."
        yield Problem("X", found, fix)
    if n_spots < min_spots:
        found = f"{n_spots} spots, too few for a spatial graph (at least {min_spots})."
        yield Problem("obs", found, "check the filter applied before, or take more tissue.")
    if n_genes == 0:
        yield Problem("var", "no genes.", "check the filter applied before: every gene is gone.")


def check_names(adata: AnnData) -> Iterator[Problem]:
    """Yield which names are used twice."""
    for slot, names, what in (("obs", adata.obs.index, "spots"), ("var", adata.var.index, "genes")):
        twice = names.duplicated(keep=False)
        if twice.any():
            found = (
                f"{twice.sum():,} of {len(names):,} {what} share their name with another "
                f"(first: {names[twice.argmax()]!r})."
            )
            yield Problem(f"{slot}_names", found, f"`adata.{slot}_names_make_unique()`.")
        columns = getattr(adata, slot).columns
        if not columns.is_unique:
            found = f"two columns are called {columns[columns.duplicated()][0]!r}."
            fix = f"`adata.{slot} = adata.{slot}.loc[:, ~adata.{slot}.columns.duplicated()]`."
            yield Problem(slot, found, fix)


def check_positions(adata: AnnData, key: str, *, alone: bool = True) -> Iterator[Problem]:
    """Yield what is wrong with the coordinates; with ``alone`` also that spots share theirs."""
    slot, names = f'obsm["{key}"]', adata.obs.index
    unusable = _no_coordinates(adata, key)
    if unusable:
        yield Problem(slot, *unusable)
        return
    values = np.asarray(adata.obsm[key])
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        found = (
            f"{(~finite).sum():,} of {len(values):,} spots have NaN or infinite coordinates "
            f"(first: {_label(names, finite.argmin())})."
        )
        fix = f"`adata = adata[np.isfinite(adata.obsm['{key}']).all(axis=1)].copy()`."
        yield Problem(slot, found, fix)
    far = np.abs(values[finite]).max(initial=0)
    if far > _LARGEST:
        found = f"coordinates up to {far:.0e}, so large that distances overflow."
        yield Problem(slot, found, "give positions in pixels or micrometres.")
    if alone:
        share, found, fix = shared_positions(values[finite], np.asarray(names)[finite], key)
        if share > _MOST_SHARED:
            joined = find_joined(adata, values) if finite.all() and far < _LARGEST else None
            yield Problem(slot, found, sections_fix(joined) if joined else fix)


def _no_coordinates(adata: AnnData, key: str) -> tuple[str, str] | None:
    """Say why ``obsm[key]`` is no array (n, 2) of numbers and what to do; None where it is one."""
    slot = f"adata.obsm['{key}']"
    try:
        present = list(adata.obsm)
    except ValueError:  # anndata refuses when obs was cut in place
        found = f"the rows no longer match the {len(adata.obs):,} rows of obs."
        return found, "select spots with `adata[spots].copy()`."
    if key not in present:
        found = f"there are no coordinates (obsm holds {present or 'nothing'})."
        source = positions_elsewhere(adata)
        if source is None:
            return found, f"one row (x, y) per spot: `{slot} = adata.obs[['x', 'y']].to_numpy()`."
        return found, f"they look to be elsewhere: `gh.slices.set_positions(adata, {source!r})`."
    stored = adata.obsm[key]
    if isinstance(stored, pd.DataFrame):
        found = f"a table with the columns {list(stored.columns)}; needed: an array, (n, 2)."
        return found, f"`{slot} = {slot}.iloc[:, :2].to_numpy(dtype=float)`."
    if sparse.issparse(stored) or hasattr(stored, "compute"):
        found = f"a {type(stored).__name__}; needed: an array, (n, 2)."
        return found, f"`{slot} = np.asarray(...)` with plain numbers, (n, 2)."
    values = np.asarray(stored)
    numbers = is_numeric(values) and values.dtype.isnative
    if values.ndim != 2 or values.shape[1] != 2 or not numbers:
        found = f"shape {values.shape}, dtype {values.dtype}; needed: (n, 2), numbers."
        return found, f"keep x and y: `{slot} = {slot}[:, :2].astype(float)`."
    return None


_XY = (  # pairs of columns, lower case, the whole slide before a field of view
    *(("x", "y"), ("x_centroid", "y_centroid"), ("center_x", "center_y"), ("xcoord", "ycoord")),
    *(("x_coord", "y_coord"), ("coord_x", "coord_y"), ("pxl_col_in_fullres", "pxl_row_in_fullres")),
    *(("centroid_x", "centroid_y"), ("x_location", "y_location"), ("imagecol", "imagerow")),
    *(("centerx_global_px", "centery_global_px"), ("x_slide_mm", "y_slide_mm")),
    *(("x_global_px", "y_global_px"), ("global_x", "global_y"), ("spatial_x", "spatial_y")),
    *(("x_um", "y_um"), ("pos_x", "pos_y"), ("x_pos", "y_pos"), ("x_position", "y_position")),
    *(("xloc", "yloc"), ("sb_x", "sb_y"), ("pixel_x", "pixel_y"), ("pxl_col", "pxl_row")),
)
_PLACES = re.compile(
    r"(x_|cell_)?(spatial|coords?|coordinates?|positions?|locations?|centroids?|xy)"
    r"(_?(coords?|coordinates?|um|xy|locations?|loc|pixels?|px|2d))?",
    re.IGNORECASE,
)


def xy_columns(table: pd.DataFrame) -> tuple[str, str] | None:
    """Return the columns of a table that hold x and y, by their usual names."""
    lower = {str(column).lower(): column for column in table}
    pairs = (pair for pair in _XY if set(pair) <= set(lower))
    return next(((lower[x], lower[y]) for x, y in pairs), None)


def positions_elsewhere(adata: AnnData) -> str | tuple[str, str] | None:
    """Name the slot of ``obsm``, or the two columns of ``obs``, that look like positions."""
    flat = [key for key, value in adata.obsm.items() if np.ndim(value) == 2 <= np.shape(value)[1]]
    return next(filter(_PLACES.fullmatch, flat), None) or xy_columns(adata.obs)


def shared_positions(points: np.ndarray, names: np.ndarray, key: str) -> tuple[float, str, str]:
    """Return the share of spots that lie where another one lies, in words, and what to do."""
    shared = pd.DataFrame(points).duplicated(keep=False).to_numpy()
    if not shared.any():
        return 0.0, "", ""
    first = shared.argmax()
    found = (
        f"{shared.sum():,} of {len(points):,} spots share their position with another "
        f"(first: {_label(names, first)} at {points[first, 0]:g}, {points[first, 1]:g})."
    )
    fix = (
        "split an object of several sections; else keep one spot per position: "
        f"`adata = adata[~pd.DataFrame(adata.obsm['{key}']).duplicated().to_numpy()].copy()`."
    )
    return float(shared.mean()), found, fix


_VALUE_FIXES = {
    "NaN or infinite": "remove spots or genes that were not measured; 0 is: measured, absent.",
    "negative": "take the values from before scaling: `adata.X = adata.layers['counts']` or "
    "`adata = adata.raw.to_adata()`.",
    "fractions": "this step needs counts: `adata.X = adata.layers['counts']`.",
}


def check_values(adata: AnnData, require_counts: bool) -> Iterator[Problem]:
    """Yield what is wrong with the matrix."""
    if adata.X is None or 0 in adata.X.shape:
        return
    backed = getattr(adata, "isbacked", False)
    if backed or hasattr(adata.X, "compute"):
        found = "on disk (backed)" if backed else f"not computed yet ({type(adata.X).__name__})"
        fix = "`adata = gh.load_slice(adata)`, or `adata = adata.to_memory()`."
        yield Problem("X", f"{found}; needed: a matrix in memory.", fix)
        if not backed:
            return
    unusable = list(unusable_matrix(adata.X, "X"))
    if unusable:
        yield from unusable
        return
    bad, *used = scan(adata.X)
    for kind, fix in _VALUE_FIXES.items():
        if bad[kind] and (require_counts or kind != "fractions"):
            yield Problem("X", _bad_values(adata, kind, bad[kind]), fix)
    for filled, names, what, fix in (
        (used[0], adata.obs.index, "spots", "`sc.pp.filter_cells(adata, min_genes=1)`."),
        (used[1], adata.var.index, "genes", "`sc.pp.filter_genes(adata, min_cells=1)`."),
    ):
        if not filled.all():
            found = (
                f"{(~filled).sum():,} of {filled.size:,} {what} are empty, all zero "
                f"(first: {_label(names, filled.argmin())})."
            )
            yield Problem("X", found, fix)


def unusable_matrix(matrix: Any, slot: str) -> Iterator[Problem]:
    """Yield why nothing can be computed from a matrix: damaged, or no numbers."""
    damaged = check_matrix(matrix)
    if damaged:
        fix = "read the file again, or get it again: its matrix is broken."
        yield Problem(slot, f"damaged: {damaged}.", fix)
    elif isinstance(matrix, np.ma.MaskedArray) or not matrix.dtype.isnative:
        found = "a masked array" if isinstance(matrix, np.ma.MaskedArray) else "foreign byte order"
        yield Problem(slot, f"{found}; needed: plain numbers.", "`adata = gh.load_slice(adata)`.")
    elif slot == "X" and not is_numeric(matrix):
        fix = "`adata.X = adata.X.astype('float32')`."
        yield Problem(slot, f"dtype {matrix.dtype}; needed: numbers.", fix)


def _bad_values(adata: AnnData, kind: str, found: tuple[int, int, int, float]) -> str:
    """Say how many values of ``X`` are bad, and where the first one is."""
    number, spot, gene, value = found
    place = f"spot {_label(adata.obs.index, spot)}, gene {_label(adata.var.index, gene)}"
    return f"{number:,} values are {kind} (first: {value:g} in {place})."


def _label(names: pd.Index, i: int) -> str:
    """Name a spot or gene; by its number where the names are out of step."""
    return repr(names[i]) if i < len(names) else f"number {i}"


def check_sections(adata: AnnData, key: str, name: str = "slice") -> Iterator[Problem]:
    """Yield the sign that sections were joined; warn where it only looks like it."""
    joined = find_joined(adata, np.asarray(adata.obsm[key], dtype=float))
    if joined is None:
        return
    fix = sections_fix(joined)
    if joined.sure:
        yield Problem("obs", f"several sections in one object: {joined.found}.", fix)
    else:
        warnings.warn(
            f"{name} may hold several sections: {joined.found}. If so: {fix}", stacklevel=3
        )


def sections_fix(joined: Joined) -> str:
    """Say how to split sections that were joined, and how to say that they were not."""
    if joined.key:
        split = f"give section_key={joined.key!r}, or `gh.split_sections(adata, {joined.key!r})`"
    else:
        split = "put the section of each spot into a column of obs and give it as section_key"
    return (
        f"{split}: spots of different sections would become neighbours. If it is one section: "
        "`adata.uns.setdefault('genot', {})['one_section'] = True`."
    )


# -------------------------------------------------------------------------------------------------
# What every public function needs of its slices. ``@checked`` calls it, once for each call from
# outside.

# Slot in which the name given by an argument has to be, in one of the slices at least.
_SLOTS = {
    **dict.fromkeys(("use_rep", "spatial_key", "aligned_key"), "obsm"),
    "layer": "layers",
    **dict.fromkeys(("key", "label_key", "generated_label_key", "niche_key", "type_key"), "obs"),
    **dict.fromkeys(("truth", "predicted", "confidence", "like_key", "other_key"), "obs"),
}
# Functions whose docstring says that the column may be missing.
_MAY_LACK = {
    ("baseline_slices", "label_key"),
    ("colour_domains", "truth"),
    ("plot_domains", "truth"),
    ("plot_side_by_side", "truth"),
}


def check_structure(function: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise SliceError for a slice that cannot be worked on, or a slot that no slice has.

    Looked at in one pass: names used once, indices of sparse matrices (compiled code would write
    out of bounds), values and positions finite. :func:`check_slice` says everything.

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
        for slot, found, fix in _unsound(adata, key):
            raise _error(adata, slot, key)(f"{function}: {name}, {slot}: {found} Fix: {fix}")
    for name, value in given.items():
        if damaged := check_matrix(value):
            raise SliceError(f"{function}: argument {name} is damaged: {damaged}. Build it again.")
    for argument, slot in _SLOTS.items():
        name = given.get(argument)
        if not isinstance(name, str) or name in ("auto", "X", defaults.get(argument)):
            continue
        there = {str(one) for adata in slices.values() for one in getattr(adata, slot)}
        if slices and name not in there and (function, argument) not in _MAY_LACK:
            near = near_names(name, there)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise MissingSlot(
                f"{function}: argument {argument} is {name!r}, but no slice has {slot}[{name!r}]."
                f"{hint} There: {', '.join(sorted(there)[:12]) or 'nothing'}."
            )


SOUND.append(check_structure)


def check_drawable(adata: AnnData, key: str = "spatial", *, name: str = "") -> None:
    """Raise SliceError, naming the slice, where spots cannot be drawn, or distances taken."""
    start = f"{name}, " if name else ""
    for slot, found, fix in _undrawable(adata, key):
        raise _error(adata, slot, key)(f"{start}{slot}: {found} Fix: {fix}")


def _error(adata: AnnData, slot: str, key: str | None) -> type[SliceError]:
    """Return the class of the error: a slot that is missing is a KeyError too."""
    absent = key is not None and slot == f'obsm["{key}"]' and key not in adata.obsm
    return MissingSlot if absent else SliceError


def _slices(given: Mapping[str, Any]) -> Iterator[tuple[str, AnnData]]:
    """Yield the slices among the arguments, and what to call them."""
    for name, value in given.items():
        if isinstance(value, AnnData):
            yield name, value
        elif isinstance(value, Mapping | list | tuple):
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            yield from ((f"{name}[{k!r}]", one) for k, one in pairs if isinstance(one, AnnData))


def _unsound(adata: AnnData, key: str | None) -> Iterator[Problem]:
    """Yield why a slice cannot be worked on."""
    if not adata.n_obs:
        yield Problem("obs", "no spots.", "check the filter applied before.")
    yield from check_names(adata)
    if adata.isbacked:
        return
    if adata.X is not None and not hasattr(adata.X, "compute"):
        yield from unusable_matrix(adata.X, "X")
        if not np.isfinite(_total(adata.X)):
            bad = scan(adata.X)[0]["NaN or infinite"]  # or finite each, too large to be added
            found = "values so large that their sum is infinite."
            fix = "remove spots or genes that were not measured (gh.check_slice lists them)."
            yield Problem("X", _bad_values(adata, "NaN or infinite", bad) if bad else found, fix)
    for slots, name in ((adata.layers, "layers"), (adata.obsp, "obsp")):
        for one in (one for one in slots if one is not None):  # anndata 0.13: None is X
            yield from unusable_matrix(slots[one], f'{name}["{one}"]')
    if key == "spatial" or (key is not None and key in adata.obsm):
        yield from _undrawable(adata, key)


def _undrawable(adata: AnnData, key: str) -> Iterator[Problem]:
    """Yield why spots cannot be drawn, or distances be taken."""
    yield from check_positions(adata, key, alone=False)
    if adata.n_obs == 1:
        yield Problem("obs", "a single spot.", "take more tissue: distances need two or more.")


def _total(matrix: Any) -> float:
    """Return the sum of all values, which is not finite if one of them is not."""
    with np.errstate(all="ignore"):
        values = matrix.data if sparse.issparse(matrix) else np.asarray(matrix)
        return float(values.sum(dtype=float))


def near_names(name: str, there: Iterable) -> list[str]:
    """Return up to three of the names there that are near; large and small letters are one."""
    small = {str(one).lower(): str(one) for one in there}
    near = difflib.get_close_matches(str(name).lower(), small, n=3, cutoff=0.6)
    return [small[one] for one in near]


def missing(slot: str, name: str, there: Iterable) -> str:
    """Say that a slot has no such name, which names are near, and which there are."""
    there = [str(one) for one in there]
    near = near_names(name, there)
    hint = f"Near: {', '.join(near)}. " if near else ""
    return f"{slot}[{name!r}] is missing. {hint}Found: {', '.join(there) or 'nothing'}."


# -------------------------------------------------------------------------------------------------
# Which spots lie on tissue, and how a result came about, kept in ``uns["genot"]``.


def beside_tissue(adata: AnnData) -> np.ndarray:
    """Say which spots lie beside the tissue, by a column like ``obs["in_tissue"]``: (n,) bool."""
    # A column counts if it holds nothing but yes and no, in numbers or words, and both.
    for column in adata.obs.columns:
        if re.sub(r"[^a-z]", "", str(column).lower()) not in _TISSUE_COLUMNS:
            continue
        words = adata.obs[column].astype(object).map(lambda value: str(value).strip().lower())
        inside, outside = words.isin(_YES), words.isin(_NO)
        if (inside | outside | adata.obs[column].isna()).all() and inside.any() and outside.any():
            return outside.to_numpy()
    return np.zeros(adata.n_obs, dtype=bool)


def record(adata: AnnData, **facts: Any) -> None:
    """Write facts that ``.h5ad`` files can hold to ``uns["genot"]``; what else is there stays."""
    adata.uns["genot"] = {**adata.uns.get("genot", {}), **facts}


def remark(adata: AnnData, text: str) -> None:
    """Add a sentence to ``uns["genot"]["read_as"]``: what a reader decided on the way."""
    before = str(adata.uns.get("genot", {}).get("read_as", ""))
    record(adata, read_as=f"{before}; {text}" if before else text)


# -------------------------------------------------------------------------------------------------
# Annotations of spots: a column of ``obs``, or a table such as the layer map of the human cortex
# (Maynard et al. 2021, https://doi.org/10.1038/s41593-020-00787-0) or what Loupe Browser exports.

_UNANNOTATED = ("", "NA", "nan", "NaN", "None", "<NA>")
_HEADERS = ("", "barcode", "barcodes", "spot", "spot_id", "cell", "cell_id", "id", "index", "name")


@checked(sound=False)
def find_labels(adata: AnnData, label_key: str | None = "auto") -> str | None:
    """Find the column of ``obs`` that holds the annotation.

    Parameters
    ----------
    adata
        The slice.
    label_key
        ``"auto"``: the first of :data:`LABEL_COLUMNS` with names in it. Another string: that
        column. None: no column.

    Returns
    -------
    str or None
        The column; None where there is none.

    Raises
    ------
    SliceError
        If a column is named that ``obs`` does not have.
    """
    if label_key not in (None, "auto", *adata.obs.columns):
        raise SliceError(missing("obs", label_key, adata.obs.columns))
    if label_key != "auto":
        return label_key
    about = adata.uns.get("spatialdata_attrs", {})  # SpatialData's columns are no annotation
    keys = ("region_key", "instance_key") if isinstance(about, Mapping) else ()
    elements = {str(about[key]) for key in keys if key in about}
    for key in LABEL_COLUMNS:
        fewest = 1 if key == "domain_truth" else 2
        if key in adata.obs and key not in elements and _names_groups(adata.obs[key], fewest):
            return key
    return None


def n_values(column: pd.Series) -> int:
    """Count the values of a column; none where it holds lists and the like."""
    try:
        return column.nunique()
    except TypeError:
        return 0


def _names_groups(column: pd.Series, at_least: int) -> bool:
    """Say whether a column names so many groups, and is not a measurement."""
    found = column.dropna()
    if n_values(column) < at_least:
        return False
    # Whole numbers with gaps are stored as floats, and may name groups nevertheless.
    return not pd.api.types.is_float_dtype(column.dtype) or bool((found == found.round()).all())


def as_labels(values: pd.Series) -> pd.Series:
    """Return labels as a categorical sorted by name; empty, NA and NaN mean unannotated."""
    text = values.astype(object).map(str).str.strip()
    text = text.where(values.notna() & ~text.isin(_UNANNOTATED), np.nan)
    if text.dropna().str.fullmatch(r"-?\d+(\.0+)?").all():  # a column with gaps holds 1.0 for 1
        text = text.str.replace(r"\.0+$", "", regex=True)
    names = sorted(text.dropna().unique(), key=lambda s: (int(s) if s.isdecimal() else -1, s))
    return pd.Series(pd.Categorical(text, categories=names), index=values.index)


def joint_labels(columns: Iterable[pd.Series]) -> list[str]:
    """Return the labels of columns of :func:`as_labels`, sorted together."""
    found = dict.fromkeys(label for column in columns for label in column.cat.categories)
    return list(as_labels(pd.Series(list(found))).cat.categories)


def add_labels(
    adata: AnnData,
    path: str | Path,
    *,
    section: str | None = None,
    column: str | None = None,
    key_added: str = "domain_truth",
    min_matched: float = 0.5,
) -> None:
    """Write labels from a table ``barcode, label`` or ``barcode, section, label`` to ``obs``."""
    # Tabs or commas, with or without a header. ``section`` picks rows by the second column,
    # ``column`` the labels (else the last). ``min_matched`` is a share of the rows or the spots,
    # whichever are fewer: a table may cover part of the spots, the slice part of the table.
    path = Path(path).expanduser()
    table = _read_label_table(path)
    if column is not None and column not in table:
        raise SliceError(f"{path} has no column {column!r}. Columns: {list(table.columns)}.")
    if section is not None and table.shape[1] > 2:
        here = table.iloc[:, 1] == str(section)
        if not here.any():
            found = ", ".join(table.iloc[:, 1].dropna().unique()[:8])
            raise SliceError(f"{path} has no rows for section {section!r}. Sections: {found}.")
        table = table[here]
    labels = table[column] if column else table.iloc[:, -1]
    labels = pd.Series(labels.to_numpy(), index=table.iloc[:, 0].to_numpy())
    labels = labels[~pd.MultiIndex.from_arrays([labels.index, labels]).duplicated()]
    if not labels.index.is_unique:
        twice = labels.index[labels.index.duplicated()][0]
        both = ", ".join(labels[[twice]].astype(str))
        raise SliceError(
            f"{path} gives barcode {twice!r} more than one label ({both}). Does it hold several "
            "sections? Name one with section=... ."
        )
    matched = labels.index.isin(adata.obs_names)
    if matched.sum() < min_matched * min(len(labels), adata.n_obs) or not matched.any():
        ours, theirs = (
            ", ".join(repr(str(name)) for name in names[:3]) + (", …" if len(names) > 3 else "")
            for names in (adata.obs_names, labels.index)
        )
        raise SliceError(
            f"{path}: only {matched.sum():,} of its {len(labels):,} barcodes are among the "
            f"{adata.n_obs:,} spots of the slice. The table has {theirs}; the slice has {ours}. Is "
            "it the table of this section, and are endings such as '-1' the same in both?"
        )
    adata.obs[key_added] = as_labels(labels.reindex(adata.obs_names))


def covers_section(path: str | Path, section: str) -> bool:
    """Say whether a table ``barcode, section, label`` has rows for a section."""
    table = _read_label_table(Path(path))
    return table.shape[1] > 2 and bool((table.iloc[:, 1] == str(section)).any())


def _read_label_table(path: Path) -> pd.DataFrame:
    """Read a table of barcodes and labels as strings; find out separator and header."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {path}.")
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    separator = "\t" if "\t" in first else ","
    header = 0 if first.split(separator)[0].strip(' "\n').lower() in _HEADERS else None
    table = pd.read_csv(path, sep=separator, header=header, dtype=str, encoding="utf-8-sig")
    if table.shape[1] < 2:
        raise SliceError(
            f"{path} has one column; needed are barcodes and labels, separated by tabs or commas."
        )
    return table
