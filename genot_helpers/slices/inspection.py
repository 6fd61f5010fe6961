"""A checklist of a slice: what is there, what is missing, and how to mend it.

:func:`genot_helpers.slices.check_slice` refuses a slice that cannot be used.
:func:`inspect_slice` never refuses: it lists what that check would say, and beside it all that can
be used but deserves a look, because a later step has to guess where the slice is silent. The slots
are those of AnnData (Virshup et al. 2024, https://doi.org/10.21105/joss.04371).
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from ..arguments import checked
from .features import control_features, list_some
from .geometry import micrometres_per_unit, nearest_distance, pictures
from .joined import find_joined, looks_like_sections
from .slices import (
    Problem,
    SliceError,
    beside_tissue,
    check_names,
    check_positions,
    check_sizes,
    check_values,
    find_labels,
    sections_fix,
    shared_positions,
)
from .values import find_counts, is_numeric, slice_kind

__all__ = [
    "LOOK",
    "MEND",
    "OK",
    "Row",
    "counted",
    "inspect_slice",
    "mended_by",
    "place_rows",
    "set_positions",
]

_FEW_SPOTS = 200  # fewer, and a domain of a tenth of the tissue has 20 spots to be described by
_MANY_LABELS = 40
_SHALLOW = 0.05  # of the median total
_IDENTIFIER = r"ENS[A-Z]*G\d{6,}(\.\d+)?"  # how Ensembl calls genes


@checked(sound=False)
def inspect_slice(
    adata: AnnData,
    *,
    label_key: str | None = "auto",
    spatial_key: str = "spatial",
    min_spots: int = 10,
) -> pd.DataFrame:
    """List what a slice has, what it lacks, and what to do about it. Nothing is raised or written.

    Parameters
    ----------
    adata
        A slice as read, sound or not; in memory, ``X`` sparse or dense.
    label_key
        Column of ``obs`` with the annotation; "auto" looks for the usual names, see
        :func:`genot_helpers.slices.find_labels`.
    spatial_key
        Slot of ``obsm`` with the positions.
    min_spots
        Fewest spots that :func:`genot_helpers.slices.check_slice` accepts.

    Returns
    -------
    pandas.DataFrame
        One or more rows for each ``check`` (the index): size, names of spots, names of genes,
        positions, duplicates, stray spots, unit of length, values, depth, several sections, labels,
        image, left out when read. Columns:

        - ``status``: ``"mend"``, it cannot be used like this (:func:`check_slice` would raise);
          ``"look"``, it can, but something is not known or unusual; ``"ok"``;
        - ``found``: what is there, in words;
        - ``fix``: what to do; empty where nothing is to be done.

    Raises
    ------
    TypeError
        If ``adata`` is no AnnData.

    Examples
    --------
    >>> table = inspect_slice(adata)
    >>> table[table["status"] != "ok"]
    """
    if not isinstance(adata, AnnData):
        raise TypeError(f"inspect_slice looks at an AnnData, not at a {type(adata).__name__}.")
    rows = [
        *_size(adata, min_spots),
        *_names(adata),
        *place_rows(adata, spatial_key),
        *_values(adata),
        *_sections(adata, spatial_key),
        *_tissue(adata),
        *_controls(adata),
        *_labels(adata, label_key),
        *_image(adata),
        *_left_out(adata),
    ]
    table = pd.DataFrame(rows, columns=Row._fields).set_index("check")
    return table


def _size(adata: AnnData, min_spots: int) -> list[Row]:
    rows = mended_by("size", check_sizes(adata, min_spots))
    found = f"{adata.n_obs:,} spots, {adata.n_vars:,} genes."
    if rows:
        return rows
    if adata.n_obs < _FEW_SPOTS:
        fix = f"expect a few rough domains at most; {_FEW_SPOTS} spots or more are better."
        return [Row("size", LOOK, found, fix)]
    return [Row("size", OK, found)]


def _names(adata: AnnData) -> Iterator[Row]:
    problems = list(check_names(adata))
    for slot, check, names in (
        ("obs_names", "names of spots", adata.obs.index),
        ("var_names", "names of genes", adata.var.index),
    ):
        wrong = mended_by(check, [p for p in problems if p.slot == slot])
        yield from wrong
        if wrong:
            continue
        example = ", ".join(map(str, names[:3]))
        strange = slot == "var_names" and names.astype(str).str.fullmatch(_IDENTIFIER).mean() > 0.5
        if strange:
            yield Row(check, LOOK, f"unique, but identifiers: {example}.", _symbols(adata))
        else:
            yield Row(check, OK, f"unique: {example}, …")


def _symbols(adata: AnnData) -> str:
    """Say where gene symbols could come from."""
    usual = ("gene_symbols", "gene_symbol", "symbol", "gene_name", "gene_names", "feature_name")
    there = next((column for column in usual if column in adata.var), None)
    if there is None:
        return "fine for domains; for marker genes name them alike, or add a column of symbols."
    return f"for marker genes: `adata.var_names = adata.var[{there!r}].astype(str)`."


def _values(adata: AnnData) -> list[Row]:
    if adata.X is None:
        fix = "`adata.X = adata.layers[...]`."
        return [Row("values", MEND, f"X is empty; layers: {list(adata.layers)}.", fix)]
    problems = list(check_values(adata, False))
    rows = mended_by("values", problems)
    bad = any("empty" not in p.found for p in problems)
    if bad or 0 in adata.shape:
        return rows
    kind = slice_kind(adata)
    if kind.kind == "counts":
        rows.append(Row("values", OK, "counts: whole numbers, none negative."))
        return [*rows, _depth(adata)]
    counts = find_counts(adata)
    if kind.kind == "logarithms":
        guess = (
            "" if kind.sure else " (by their size; if not: adata.uns['genot']['values'] = 'values')"
        )
        taken = f"{kind}{guess}: taken as they are, not taken again."
        fix = "counts are best; none were found. `gh.undo_logarithm(adata)` turns these back."
    else:
        taken = "fractions, no counts: normalised before."
        fix = "can be used as it is; counts are better where you have them."
    if counts:
        fix = f"counts are in {counts}: `adata = gh.load_slice(adata)` takes them."
    rows.append(Row("values", LOOK, taken, fix))
    return [*rows, _depth(adata)]


def _depth(adata: AnnData) -> Row:
    """Look at the totals of the spots."""
    total = np.asarray(adata.X.sum(axis=1), dtype=float).ravel()
    middle = float(np.median(total))
    shallow = total < _SHALLOW * middle
    found = f"total of the median spot {middle:,.4g}."
    if not shallow.any():
        return Row("depth", OK, found)
    found += f" {counted(shallow)} with less than {_SHALLOW:.0%} of it."
    fix = f"mostly noise: `sc.pp.filter_cells(adata, min_counts={_SHALLOW * middle:.0f})`."
    return Row("depth", LOOK, found, fix)


def _sections(adata: AnnData, spatial_key: str) -> Iterator[Row]:
    """Look for several sections in one object, over each other or side by side."""
    problems = list(check_positions(adata, spatial_key))
    joined = None
    if not any(
        "finite" in p.found or "needed" in p.found or "no coord" in p.found for p in problems
    ):
        with contextlib.suppress(KeyError, ValueError):
            joined = find_joined(adata, np.asarray(adata.obsm[spatial_key], dtype=float))
    several = [
        str(column)
        for column in adata.obs
        if looks_like_sections(str(column)) and 1 < adata.obs[column].nunique() <= adata.n_obs / 10
    ]
    several = [column for column in several if adata.obs[column].dtype.kind != "f"]
    if joined is not None:
        status = MEND if joined.sure else LOOK
        yield Row("several sections", status, f"{joined.found}.", sections_fix(joined))
    elif several:
        values = adata.obs[several[0]].dropna().unique()
        found = (
            f"obs[{several[0]!r}] has {len(values)} values: several sections side by side in one "
            "object?"
        )
        fix = (
            f"if so, `sections = gh.split_sections(adata, {several[0]!r})`, or one of them: "
            f"`adata = adata[adata.obs[{several[0]!r}] == {_plain(values[0])!r}].copy()`."
        )
        yield Row("several sections", LOOK, found, fix)
    elif len(pictures(adata)) > 1:
        names = list(pictures(adata))
        found = f"images of {len(names)} sections ({', '.join(names[:3])})."
        yield Row("several sections", LOOK, found, "one slice per object: split it.")
    else:
        yield Row("several sections", OK, "no sign of more than one.")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _labels(adata: AnnData, label_key: str | None) -> Iterator[Row]:
    optional = "optional: without it nothing is scored against an annotation."
    try:
        key = find_labels(adata, label_key)
    except ValueError as error:
        yield Row("labels", MEND, str(error), f"name one of them, or None. {optional}")
        return
    if key is None:
        columns = ", ".join(map(str, adata.obs.columns[:8])) or "none"
        found = f"no annotation found (columns of obs: {columns})."
        yield Row("labels", LOOK, found, f"{optional} Else name its column: label_key=... .")
        return
    labels = adata.obs[key]
    n_labels, missing = labels.nunique(), float(labels.isna().mean())
    found = f"obs[{key!r}]: {n_labels} labels, {missing:.0%} of the spots without."
    if n_labels < 2 or n_labels > min(_MANY_LABELS, adata.n_obs / 10):
        fix = "are these domains? Another column: label_key=...; none: label_key=None."
        yield Row("labels", LOOK, found, fix)
    else:
        yield Row("labels", OK, found)


def _tissue(adata: AnnData) -> Iterator[Row]:
    """Look for spots beside the tissue."""
    glass = beside_tissue(adata)
    if glass.any():
        found = f"{counted(glass)} beside the tissue: glass would take one of the domains."
        fix = "`gh.load_slice(adata)` leaves them out; or keep in_tissue 1."
        yield Row("tissue", LOOK, found, fix)


def _controls(adata: AnnData) -> Iterator[Row]:
    """Look for features that are no genes."""
    controls = control_features(adata)
    if controls.any():
        found = f"no genes but controls: {list_some(adata.var_names[controls], 6)}."
        yield Row("control features", LOOK, found, "`gh.load_slice(adata)` leaves them out.")


def _image(adata: AnnData) -> Iterator[Row]:
    sizes = [
        f"{name} ({np.shape(image)[1]} × {np.shape(image)[0]} pixels)"
        for stored in pictures(adata).values()
        for name, image in dict(stored.get("images", {})).items()
        if np.ndim(image) >= 2
    ]
    if sizes:
        yield Row("image", OK, ", ".join(sizes) + ".")
    else:
        fix = "optional. Space Ranger keeps it in `spatial/`: give the folder, not the matrix."
        yield Row("image", LOOK, "none of the tissue.", fix)


def _left_out(adata: AnnData) -> Iterator[Row]:
    facts = adata.uns.get("genot", {})
    if facts.get("read_as"):
        yield Row("read as", OK, f"{facts['read_as']}.")
    dropped = facts.get("dropped", "")
    if dropped:
        fix = "nothing to do; is it what you expect?"
        yield Row("left out when read", LOOK, f"{dropped}.", fix)


# -------------------------------------------------------------------------------------------------
# Lines of the checklist about places: positions, spots that share one, stray ones, the unit.
#
# See :mod:`genot_helpers.slices.inspection`; the slots are those of AnnData (Virshup et al. 2024,
# https://doi.org/10.21105/joss.04371).

OK, LOOK, MEND = "ok", "look", "mend"

_MOST_STRAY = 5.0  # spacings to the nearest other spot
_FEWEST_GENES = 20  # shallower spots are alike by chance
_XY = (
    *(("x", "y"), ("x_centroid", "y_centroid"), ("center_x", "center_y"), ("xcoord", "ycoord")),
    *(("x_coord", "y_coord"), ("coord_x", "coord_y"), ("pxl_col_in_fullres", "pxl_row_in_fullres")),
    *(("centroid_x", "centroid_y"), ("x_location", "y_location"), ("imagecol", "imagerow")),
)


class Row(NamedTuple):
    """One line of the checklist."""

    check: str
    status: str
    found: str
    fix: str = ""


def counted(which: np.ndarray) -> str:
    """Say how many spots are meant."""
    n = int(which.sum())
    return f"{n:,} spot" + ("" if n == 1 else "s")


def mended_by(check: str, problems: Iterable[Problem]) -> list[Row]:
    """Turn what check_slice found into lines."""
    return [Row(check, MEND, f"{p.slot}: {p.found}", p.fix) for p in problems]


def place_rows(adata: AnnData, key: str) -> list[Row]:
    """Look at ``obsm[key]``; what depends on positions is left out where they are of no use."""
    problems = list(check_positions(adata, key))
    doubled = [p for p in problems if "share their position" in p.found]
    rows = mended_by("positions", [p for p in problems if p not in doubled])
    if rows:
        if "no coordinates" in rows[0].found:
            rows[0] = rows[0]._replace(fix=_positions_elsewhere(adata) or rows[0].fix)
        return rows
    points = np.asarray(adata.obsm[key], dtype=float)
    width, height = np.ptp(points, axis=0) if len(points) else (0.0, 0.0)
    rows = [Row("positions", OK, f"x and y for every spot; {width:,.4g} × {height:,.4g} units.")]
    if width == 0 or height == 0:
        fix = "a slice is flat, not a line: are these really x and y?"
        found = f"all spots on one line ({width:g} × {height:g} units)."
        rows = [Row("positions", LOOK, found, fix)]
    rows += mended_by("duplicates", doubled) or [_doubled(adata, points, key)]
    if adata.n_obs > 2 and not doubled:
        rows += [_stray(points), _unit(adata, points)]
    return rows


def _doubled(adata: AnnData, points: np.ndarray, key: str) -> Row:
    """Report spots that share a position, if any, else spots with the same profile."""
    shared = shared_positions(points, adata.obs_names.to_numpy(), key)
    if shared is None:
        return _same_profiles(adata)
    return Row("duplicates", LOOK, shared.found, shared.fix)


def _positions_elsewhere(adata: AnnData) -> str:
    """Name the slots or columns that look like positions."""
    flat = [k for k, v in adata.obsm.items() if np.ndim(v) == 2 and np.shape(v)[1] >= 2]
    flat = [k for k in flat if any(word in k.lower() for word in ("spatial", "coord", "position"))]
    if flat:
        return f"positions look to be in obsm[{flat[0]!r}]: `gh.set_positions(adata, {flat[0]!r})`."
    lower = {str(column).lower(): column for column in adata.obs}
    for x, y in _XY:
        if x in lower and y in lower:
            pair = lower[x], lower[y]
            return f"positions look to be in obs: `gh.set_positions(adata, {pair!r})`."
    return ""


def _same_profiles(adata: AnnData) -> Row:
    """Look for spots with exactly the same expression: a slice that was joined to itself."""
    good = "no two spots share a place or all of their expression."
    if adata.X is None or 0 in adata.shape or not is_numeric(adata.X):
        return Row("duplicates", OK, "no two spots share a place.")
    filled = np.asarray((adata.X != 0).sum(axis=1)).ravel() >= _FEWEST_GENES
    rng = np.random.default_rng(0)
    marks = np.asarray(adata.X @ rng.random((adata.n_vars, 2)))
    twice = pd.DataFrame(marks).duplicated(keep=False).to_numpy() & filled
    if not twice.any():
        return Row("duplicates", OK, good)
    found = f"{counted(twice)} with exactly the expression of another one."
    fix = "were two objects joined that hold the same spots? Keep one of each."
    return Row("duplicates", LOOK, found, fix)


def _stray(points: np.ndarray) -> Row:
    """Look for spots far from all others."""
    typical = nearest_distance(points)
    alone = cKDTree(points).query(points, 2)[0][:, 1] > _MOST_STRAY * typical
    if not alone.any():
        return Row("stray spots", OK, "none: every spot has a neighbour.")
    found = f"{counted(alone)} more than {_MOST_STRAY:g} spacings from any other."
    fix = "debris or a second piece of tissue? They have no true neighbours: look, or remove them."
    return Row("stray spots", LOOK, found, fix)


def _unit(adata: AnnData, points: np.ndarray) -> Row:
    spacing, scale = nearest_distance(points), micrometres_per_unit(adata)
    if scale is not None:
        found = f"one unit is {scale:.4g} µm; neighbours are {spacing * scale:,.4g} µm apart."
        return Row("unit of length", OK, found)
    found = f"not known; neighbours are {spacing:,.4g} units apart."
    fix = (
        "no scale bar, and lengths cannot be compared. If you know it: "
        "`adata.uns.setdefault('genot', {})['micrometres_per_unit'] = ...` "
        f"(if neighbours are 100 µm apart, it is {100 / spacing:.4g})."
    )
    return Row("unit of length", LOOK, found, fix)


# -------------------------------------------------------------------------------------------------
# Small repairs of a slice that a reader asks for by name; nothing is guessed.


@checked(sound=False)
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
