"""What a slice is, checked once, with errors that help.

A slice is an :class:`anndata.AnnData` (Virshup et al. 2024, https://doi.org/10.21105/joss.04371):
one tissue section, one row per spot, one column per gene.

=======================  =======================================================================
slot                     what
=======================  =======================================================================
``X``                    (spots, genes), counts or normalised values: finite, not negative
``obsm["spatial"]``      (spots, 2), position of each spot
``obs["domain_truth"]``  optional annotation; NaN where a spot is unannotated
=======================  =======================================================================
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..arguments import checked
from .joined import Joined, find_joined
from .values import check_matrix, holds_counts, is_numeric, scan

__all__ = [
    "LABEL_COLUMNS",
    "Problem",
    "SharedPositions",
    "SliceError",
    "add_labels",
    "as_labels",
    "beside_tissue",
    "check_names",
    "check_positions",
    "check_sections",
    "check_sizes",
    "check_slice",
    "check_values",
    "covers_section",
    "find_labels",
    "holds_counts",
    "record",
    "remark",
    "sections_fix",
    "shared_positions",
]

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
        The slice, ``X`` sparse or dense. Nothing is written or copied; the matrix is read once, in
        blocks.
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
        ``obs`` or ``var`` of another length than ``X``; positions missing, of the wrong shape, NaN,
        infinite, or shared by spots; values that are negative, NaN or infinite; spots and genes
        without any value; too few spots; no genes; a matrix on disk, not computed or damaged;
        several sections over each other in one frame.
    TypeError
        If ``adata`` is no AnnData.

    Examples
    --------
    >>> adata = AnnData(np.ones((20, 3), dtype="float32"))
    >>> adata.obsm["spatial"] = np.random.default_rng(0).random((20, 2))
    >>> check_slice(adata)
    """
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"{name} is a {type(adata).__name__}, but a slice is an anndata.AnnData. Read files "
            "and SpatialData objects with load_slice."
        )
    problems = (
        *check_sizes(adata, min_spots),
        *check_names(adata),
        *check_positions(adata, spatial_key),
        *check_values(adata, require_counts),
    )
    problems += tuple(check_sections(adata, spatial_key, name)) if not problems else ()
    if problems:
        lines = [
            f"  {i}. {p.slot}: {p.found}\n     Fix: {p.fix}" for i, p in enumerate(problems, 1)
        ]
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise SliceError("\n".join([f"{name} cannot be used: {count}.", *lines]), problems)


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
    if label_key is None:
        return None
    if label_key == "auto":
        elements = _element_columns(adata)
        usable = (
            key
            for key in LABEL_COLUMNS
            if key in adata.obs
            and key not in elements
            and _names_groups(adata.obs[key], at_least=1 if key == "domain_truth" else 2)
        )
        return next(usable, None)
    if label_key not in adata.obs:
        near = difflib.get_close_matches(label_key, list(adata.obs.columns), n=3, cutoff=0.5)
        hint = f"Near: {', '.join(near)}. " if near else ""
        raise SliceError(
            f"obs[{label_key!r}] is missing. {hint}Columns found: {list(adata.obs.columns)}."
        )
    return label_key


def _element_columns(adata: AnnData) -> set[str]:
    """Return the columns in which SpatialData says what a row belongs to: no annotation."""
    about = adata.uns.get("spatialdata_attrs", {})
    keys = ("region_key", "instance_key")
    return (
        {str(about[key]) for key in keys if key in about} if isinstance(about, Mapping) else set()
    )


def _names_groups(column: pd.Series, at_least: int) -> bool:
    """Say whether a column names so many groups, and is not a measurement."""
    found = column.dropna()
    if found.nunique() < at_least:
        return False
    return not pd.api.types.is_float_dtype(column.dtype) or bool((found == found.round()).all())


def beside_tissue(adata: AnnData) -> np.ndarray:
    """Say which spots lie beside the tissue, by a column like ``obs["in_tissue"]``."""
    nowhere = np.zeros(adata.n_obs, dtype=bool)
    for column in adata.obs.columns:
        if re.sub(r"[^a-z]", "", str(column).lower()) not in _TISSUE_COLUMNS:
            continue
        words = adata.obs[column].astype(object).map(lambda value: str(value).strip().lower())
        inside, outside = words.isin(_YES), words.isin(_NO)
        if (inside | outside).all() and inside.any() and outside.any():
            return outside.to_numpy()
    return nowhere


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


class SharedPositions(NamedTuple):
    """Spots that lie where another one lies."""

    share: float  # of all spots
    found: str
    fix: str


def shared_positions(points: np.ndarray, names: np.ndarray, key: str) -> SharedPositions | None:
    """Describe spots that lie where another one lies, if there are any."""
    shared = pd.DataFrame(points).duplicated(keep=False).to_numpy()
    if not shared.any():
        return None
    first = shared.argmax()
    found = (
        f"{shared.sum():,} of {len(points):,} spots share their position with another "
        f"(first: {_label(names, first)} at {points[first, 0]:g}, {points[first, 1]:g})."
    )
    fix = (
        "split an object of several sections; else keep one spot per position: "
        f"`adata = adata[~pd.DataFrame(adata.obsm['{key}']).duplicated().to_numpy()].copy()`."
    )
    return SharedPositions(float(shared.mean()), found, fix)


def check_positions(adata: AnnData, key: str) -> Iterator[Problem]:
    """Yield what is wrong with the coordinates."""
    slot, names = f'obsm["{key}"]', adata.obs.index
    try:
        present = list(adata.obsm)
    except ValueError:  # anndata refuses when obs was cut in place
        found = f"the rows no longer match the {len(names):,} rows of obs."
        yield Problem(slot, found, "select spots with `adata[spots].copy()`.")
        return
    if key not in present:
        found = f"there are no coordinates (obsm holds {present or 'nothing'})."
        fix = f"one row (x, y) per spot: `adata.obsm['{key}'] = adata.obs[['x', 'y']].to_numpy()`."
        yield Problem(slot, found, fix)
        return
    if isinstance(adata.obsm[key], pd.DataFrame):
        columns = list(adata.obsm[key].columns)
        found = f"a table with the columns {columns}; needed: an array, (n, 2)."
        fix = f"`adata.obsm['{key}'] = adata.obsm['{key}'].iloc[:, :2].to_numpy(dtype=float)`."
        yield Problem(slot, found, fix)
        return
    if sparse.issparse(adata.obsm[key]) or hasattr(adata.obsm[key], "compute"):
        kind = type(adata.obsm[key]).__name__
        fix = f"`adata.obsm['{key}'] = np.asarray(...)` with plain numbers, (n, 2)."
        yield Problem(slot, f"a {kind}; needed: an array, (n, 2).", fix)
        return
    values = np.asarray(adata.obsm[key])
    if values.ndim != 2 or values.shape[1] != 2 or not is_numeric(values):
        found = f"shape {values.shape}, dtype {values.dtype}; needed: (n, 2), numbers."
        fix = f"keep x and y: `adata.obsm['{key}'] = adata.obsm['{key}'][:, :2].astype(float)`."
        yield Problem(slot, found, fix)
        return
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
    problem = shared_positions(values[finite], np.asarray(names)[finite], key)
    if problem and problem.share > _MOST_SHARED:
        yield Problem(slot, problem.found, problem.fix)


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
    damaged = check_matrix(adata.X)
    if damaged:
        fix = "read the file again, or get it again: its matrix is broken."
        yield Problem("X", f"damaged: {damaged}.", fix)
        return
    if not is_numeric(adata.X):
        fix = "`adata.X = adata.X.astype('float32')`."
        yield Problem("X", f"dtype {adata.X.dtype}; needed: numbers.", fix)
        return
    spots, genes = adata.obs.index, adata.var.index
    bad, used_spots, used_genes = scan(adata.X)
    for kind, fix in _VALUE_FIXES.items():
        if bad[kind] and (require_counts or kind != "fractions"):
            count, spot, gene, value = bad[kind]
            found = (
                f"{count:,} values are {kind} (first: {value:g} in spot {_label(spots, spot)}, "
                f"gene {_label(genes, gene)})."
            )
            yield Problem("X", found, fix)
    for used, names, what, fix in (
        (used_spots, spots, "spots", "`sc.pp.filter_cells(adata, min_genes=1)`."),
        (used_genes, genes, "genes", "`sc.pp.filter_genes(adata, min_cells=1)`."),
    ):
        if not used.all():
            found = (
                f"{(~used).sum():,} of {used.size:,} {what} are empty, all zero "
                f"(first: {_label(names, used.argmin())})."
            )
            yield Problem("X", found, fix)


def _label(names: pd.Index, i: int) -> str:
    """Name a spot or gene; by its number where the names are out of step."""
    return repr(names[i]) if i < len(names) else f"number {i}"


# -------------------------------------------------------------------------------------------------
# How a result came about, kept with the slice in ``uns["genot"]``.


def record(adata: AnnData, **facts: Any) -> None:
    """Write facts to ``uns["genot"]``; what else is there stays."""
    adata.uns["genot"] = {**adata.uns.get("genot", {}), **facts}


def remark(adata: AnnData, text: str) -> None:
    """Add a sentence to ``uns["genot"]["read_as"]``: what a reader decided on the way."""
    before = str(adata.uns.get("genot", {}).get("read_as", ""))
    record(adata, read_as=f"{before}; {text}" if before else text)


# -------------------------------------------------------------------------------------------------
# Annotations of spots: read from a table, kept as a categorical.
#
# The layer map of the human cortex (Maynard et al. 2021,
# https://doi.org/10.1038/s41593-020-00787-0) is such a table; so is what one exports from Loupe
# Browser after drawing regions by hand.

_UNANNOTATED = ("", "NA", "nan", "NaN", "None", "<NA>")
_HEADERS = ("", "barcode", "barcodes", "spot", "spot_id", "cell", "cell_id", "id", "index", "name")


def as_labels(values: pd.Series) -> pd.Series:
    """Return labels as a categorical sorted by name; empty, NA and NaN mean unannotated."""
    text = values.astype(object).map(str).str.strip()
    text = text.where(values.notna() & ~text.isin(_UNANNOTATED), np.nan)
    if text.dropna().str.fullmatch(r"-?\d+(\.0+)?").all():
        text = text.str.replace(r"\.0+$", "", regex=True)
    names = sorted(text.dropna().unique(), key=lambda s: (int(s) if s.isdecimal() else -1, s))
    return pd.Series(pd.Categorical(text, categories=names), index=values.index)


def add_labels(
    adata: AnnData,
    path: str | Path,
    *,
    section: str | None = None,
    column: str | None = None,
    key_added: str = "domain_truth",
    min_matched: float = 0.5,
) -> None:
    """Read an annotation from a table and write it to ``obs``."""
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
        raise SliceError(
            f"{path}: only {matched.sum():,} of its {len(labels):,} barcodes are among the "
            f"{adata.n_obs:,} spots of the slice. The table has {_some(labels.index)}; the slice "
            f"has {_some(adata.obs_names)}. Is it the table of this section, and are endings such "
            "as '-1' the same in both?"
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


def _some(names: pd.Index) -> str:
    """Return the first names as an example."""
    return ", ".join(repr(str(name)) for name in names[:3]) + (", …" if len(names) > 3 else "")
