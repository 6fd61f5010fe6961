"""A checklist of a slice: what is there, what is missing, and how to mend it.

:func:`genot_helpers.slices.check_slice` refuses a slice that cannot be used; :func:`inspect_slice`
lists what that check would say, and beside it all that can be used but deserves a look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from ..arguments import checked
from .geometry import (
    columns_exchanged,
    find_joined,
    looks_like_sections,
    micrometres_per_unit,
    nearest_distance,
    on_visium_grid,
    pictures,
)
from .sections import control_features, list_some
from .slices import (
    Problem,
    SliceError,
    beside_tissue,
    check_names,
    check_positions,
    check_sizes,
    check_values,
    find_labels,
    missing,
    n_values,
    sections_fix,
    shared_positions,
    unusable_matrix,
)
from .values import find_counts, slice_kind

_OK, _LOOK, _MEND = "ok", "look", "mend"
_FEW_SPOTS = 200  # fewer, and a domain of a tenth of the tissue has 20 spots to be described by
_MANY_LABELS = 40
_SHALLOW = 0.05  # of the median total
_IDENTIFIER = r"ENS[A-Z]*G\d{6,}(\.\d+)?"  # how Ensembl calls genes
_MOST_STRAY = 5.0  # spacings to the nearest other spot
_FEWEST_GENES = 20  # shallower spots are alike by chance


class _Row(NamedTuple):
    """One line of the checklist."""

    check: str
    status: str
    found: str
    fix: str = ""


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
        Column of ``obs`` with the annotation, see :func:`genot_helpers.slices.find_labels`.
    spatial_key
        Slot of ``obsm`` with the positions.
    min_spots
        Fewest spots that :func:`genot_helpers.slices.check_slice` accepts.

    Returns
    -------
    pandas.DataFrame
        One or more rows for each ``check`` (the index): size, names, positions, duplicates, values
        and so on. ``status`` is ``"mend"`` (it cannot be used like this), ``"look"`` (something is
        not known or unusual) or ``"ok"``; ``found`` says what is there, ``fix`` what to do.

    Examples
    --------
    >>> table = inspect_slice(adata)
    >>> table[table["status"] != "ok"]
    """
    rows = [
        *_size(adata, min_spots),
        *_names(adata),
        *_places(adata, spatial_key),
        *_values(adata),
        *_sections(adata, spatial_key),
        *_beside(adata),
        *_labels(adata, label_key),
        *_image(adata),
        *_left_out(adata),
    ]
    return pd.DataFrame(rows, columns=_Row._fields).set_index("check")


def _count(which: np.ndarray) -> str:
    """Say how many spots are meant."""
    n = int(which.sum())
    return f"{n:,} spot" + ("" if n == 1 else "s")


def _mend(check: str, problems: Iterable[Problem]) -> list[_Row]:
    """Turn what check_slice found into lines."""
    return [_Row(check, _MEND, f"{p.slot}: {p.found}", p.fix) for p in problems]


def _size(adata: AnnData, min_spots: int) -> list[_Row]:
    rows = _mend("size", check_sizes(adata, min_spots))
    found = f"{adata.n_obs:,} spots, {adata.n_vars:,} genes."
    if rows:
        return rows
    if adata.n_obs < _FEW_SPOTS:
        fix = f"expect a few rough domains at most; {_FEW_SPOTS} spots or more are better."
        return [_Row("size", _LOOK, found, fix)]
    return [_Row("size", _OK, found)]


def _names(adata: AnnData) -> Iterator[_Row]:
    problems = list(check_names(adata))
    for slot, check, names in (
        ("obs_names", "names of spots", adata.obs.index),
        ("var_names", "names of genes", adata.var.index),
    ):
        wrong = _mend(check, [p for p in problems if p.slot == slot])
        yield from wrong
        if wrong:
            continue
        example = ", ".join(map(str, names[:3]))
        if slot == "var_names" and names.astype(str).str.fullmatch(_IDENTIFIER).mean() > 0.5:
            yield _Row(check, _LOOK, f"unique, but identifiers: {example}.", _symbols(adata))
        else:
            yield _Row(check, _OK, f"unique: {example}, …")


def _symbols(adata: AnnData) -> str:
    """Say where gene symbols could come from."""
    usual = ("gene_symbols", "gene_symbol", "symbol", "gene_name", "gene_names", "feature_name")
    there = next((column for column in usual if column in adata.var), None)
    if there is None:
        return "fine for domains; for marker genes name them alike, or add a column of symbols."
    return f"for marker genes: `adata.var_names = adata.var[{there!r}].astype(str)`."


def _values(adata: AnnData) -> list[_Row]:
    if adata.X is None:
        fix = "`adata.X = adata.layers[...]`."
        return [_Row("values", _MEND, f"X is empty; layers: {list(adata.layers)}.", fix)]
    problems = list(check_values(adata, False))
    rows = _mend("values", problems)
    bad = any("empty" not in p.found for p in problems)
    if bad or 0 in adata.shape:
        return rows
    kind = slice_kind(adata)
    if kind.kind == "counts":
        rows.append(_Row("values", _OK, "counts: whole numbers, none negative."))
        return [*rows, _depth(adata)]
    counts = find_counts(adata)
    if kind.kind == "logarithms":
        guess = " (by their size; if not: adata.uns['genot']['values'] = 'values')"
        guess = "" if kind.sure else guess
        taken = f"{kind}{guess}: taken as they are, not taken again."
        fix = (
            "counts are best; none were found. `gh.slices.undo_logarithm(adata)` turns these back."
        )
    else:
        taken = "fractions, no counts: normalised before."
        fix = "can be used as it is; counts are better where you have them."
    if counts:
        fix = f"counts are in {counts}: `adata = gh.load_slice(adata)` takes them."
    rows.append(_Row("values", _LOOK, taken, fix))
    return [*rows, _depth(adata)]


def _depth(adata: AnnData) -> _Row:
    """Look at the totals of the spots."""
    total = np.asarray(adata.X.sum(axis=1), dtype=float).ravel()
    middle = float(np.median(total))
    shallow = total < _SHALLOW * middle
    found = f"total of the median spot {middle:,.4g}."
    if not shallow.any():
        return _Row("depth", _OK, found)
    found += f" {_count(shallow)} with less than {_SHALLOW:.0%} of it."
    fix = f"mostly noise: `sc.pp.filter_cells(adata, min_counts={_SHALLOW * middle:.0f})`."
    return _Row("depth", _LOOK, found, fix)


def _sections(adata: AnnData, spatial_key: str) -> Iterator[_Row]:
    """Look for several sections in one object, over each other or side by side."""
    joined = None
    if not any(check_positions(adata, spatial_key, alone=False)):
        with contextlib.suppress(KeyError, ValueError):
            joined = find_joined(adata, np.asarray(adata.obsm[spatial_key], dtype=float))
    several = [
        str(column)
        for column, values in adata.obs.items()
        if looks_like_sections(str(column)) and 1 < n_values(values) <= adata.n_obs / 10
        if values.dtype.kind != "f"
    ]
    if joined is not None:
        status = _MEND if joined.sure else _LOOK
        yield _Row("several sections", status, f"{joined.found}.", sections_fix(joined))
    elif several:
        column, values = several[0], adata.obs[several[0]].dropna().unique().tolist()
        found = f"obs[{column!r}] has {len(values)} values: several sections side by side?"
        fix = (
            f"if so, `sections = gh.split_sections(adata, {column!r})`, or one of them: "
            f"`adata = adata[adata.obs[{column!r}] == {values[0]!r}].copy()`."
        )
        yield _Row("several sections", _LOOK, found, fix)
    elif len(pictures(adata)) > 1:
        names = list(pictures(adata))
        found = f"images of {len(names)} sections ({', '.join(names[:3])})."
        yield _Row("several sections", _LOOK, found, "one slice per object: split it.")
    else:
        yield _Row("several sections", _OK, "no sign of more than one.")


def _labels(adata: AnnData, label_key: str | None) -> Iterator[_Row]:
    optional = "optional: without it nothing is scored against an annotation."
    try:
        key = find_labels(adata, label_key)
    except ValueError as error:
        yield _Row("labels", _MEND, str(error), f"name one of them, or None. {optional}")
        return
    if key is None:
        columns = ", ".join(map(str, adata.obs.columns[:8])) or "none"
        found = f"no annotation found (columns of obs: {columns})."
        yield _Row("labels", _LOOK, found, f"{optional} Else name its column: label_key=... .")
        return
    labels = adata.obs[key]
    n_labels, missing = labels.nunique(), float(labels.isna().mean())
    found = f"obs[{key!r}]: {n_labels} labels, {missing:.0%} of the spots without."
    if n_labels < 2 or n_labels > min(_MANY_LABELS, adata.n_obs / 10):
        fix = "are these domains? Another column: label_key=...; none: label_key=None."
        yield _Row("labels", _LOOK, found, fix)
    else:
        yield _Row("labels", _OK, found)


def _beside(adata: AnnData) -> Iterator[_Row]:
    """Look for spots beside the tissue, and features that are no genes."""
    glass = beside_tissue(adata)
    if glass.any():
        found = f"{_count(glass)} beside the tissue: glass would take one of the domains."
        fix = "`gh.load_slice(adata)` leaves them out; or keep in_tissue 1."
        yield _Row("tissue", _LOOK, found, fix)
    controls = control_features(adata)
    if controls.any():
        found = f"no genes but controls: {list_some(adata.var_names[controls], 6)}."
        yield _Row("control features", _LOOK, found, "`gh.load_slice(adata)` leaves them out.")


def _image(adata: AnnData) -> Iterator[_Row]:
    sizes = [
        f"{name} ({np.shape(image)[1]} × {np.shape(image)[0]} pixels)"
        for stored in pictures(adata).values()
        for name, image in dict(stored.get("images", {})).items()
        if np.ndim(image) >= 2
    ]
    if sizes:
        yield _Row("image", _OK, ", ".join(sizes) + ".")
    else:
        fix = "optional. Space Ranger keeps it in `spatial/`: give the folder, not the matrix."
        yield _Row("image", _LOOK, "none of the tissue.", fix)


def _left_out(adata: AnnData) -> Iterator[_Row]:
    facts = adata.uns.get("genot", {})
    if facts.get("read_as"):
        yield _Row("read as", _OK, f"{facts['read_as']}.")
    if facts.get("dropped"):
        fix = "nothing to do; is it what you expect?"
        yield _Row("left out when read", _LOOK, f"{facts['dropped']}.", fix)


def _places(adata: AnnData, key: str) -> list[_Row]:
    """Look at ``obsm[key]``; what depends on positions is left out where they are of no use."""
    rows = _mend("positions", check_positions(adata, key, alone=False))
    if rows:
        return rows
    points = np.asarray(adata.obsm[key], dtype=float)
    width, height = np.ptp(points, axis=0) if len(points) else (0.0, 0.0)
    rows = [_Row("positions", _OK, f"x and y for every spot; {width:,.4g} × {height:,.4g} units.")]
    if width == 0 or height == 0:
        fix = "a slice is flat, not a line: are these really x and y?"
        found = f"all spots on one line ({width:g} × {height:g} units)."
        rows = [_Row("positions", _LOOK, found, fix)]
    grid = adata.obs[[c for c in ("array_row", "array_col") if c in adata.obs]]
    grid = grid.apply(pd.to_numeric, errors="coerce")
    if on_visium_grid(adata, key) and columns_exchanged(*grid.to_numpy(float).T, points):
        fix = "x runs along array_col: `adata.obsm['spatial'] = adata.obsm['spatial'][:, ::-1]`."
        rows = [_Row("positions", _LOOK, "x and y are exchanged, as the grid shows.", fix)]
    doubled = _mend("duplicates", check_positions(adata, key))
    rows += doubled or [_doubled(adata, points, key)]
    if adata.n_obs > 2 and not doubled:
        rows += [_stray(points), _unit(adata, points)]
    return rows


def _doubled(adata: AnnData, points: np.ndarray, key: str) -> _Row:
    """Report spots that share a position, if any, else spots with the same profile."""
    share, found, fix = shared_positions(points, adata.obs_names.to_numpy(), key)
    return _Row("duplicates", _LOOK, found, fix) if share else _same_profiles(adata)


def _same_profiles(adata: AnnData) -> _Row:
    """Look for spots with exactly the same expression: a slice that was joined to itself."""
    there = isinstance(adata.X, np.ndarray) or sparse.issparse(adata.X)  # not on disk
    if not there or 0 in adata.shape or any(unusable_matrix(adata.X, "X")):
        return _Row("duplicates", _OK, "no two spots share a place.")
    filled = np.asarray((adata.X != 0).sum(axis=1)).ravel() >= _FEWEST_GENES
    rng = np.random.default_rng(0)
    marks = np.asarray(adata.X @ rng.random((adata.n_vars, 2)))
    twice = pd.DataFrame(marks).duplicated(keep=False).to_numpy() & filled
    if not twice.any():
        return _Row("duplicates", _OK, "no two spots share a place or all of their expression.")
    found = f"{_count(twice)} with exactly the expression of another one."
    fix = "were two objects joined that hold the same spots? Keep one of each."
    return _Row("duplicates", _LOOK, found, fix)


def _stray(points: np.ndarray) -> _Row:
    """Look for spots far from all others."""
    typical = nearest_distance(points)
    alone = cKDTree(points).query(points, 2)[0][:, 1] > _MOST_STRAY * typical
    if not alone.any():
        return _Row("stray spots", _OK, "none: every spot has a neighbour.")
    found = f"{_count(alone)} more than {_MOST_STRAY:g} spacings from any other."
    fix = "debris or a second piece of tissue? They have no true neighbours: look, or remove them."
    return _Row("stray spots", _LOOK, found, fix)


def _unit(adata: AnnData, points: np.ndarray) -> _Row:
    spacing, scale = nearest_distance(points), micrometres_per_unit(adata)
    if scale is not None:
        found = f"one unit is {scale:.4g} µm; neighbours are {spacing * scale:,.4g} µm apart."
        return _Row("unit of length", _OK, found)
    found = f"not known; neighbours are {spacing:,.4g} units apart."
    fix = (
        "no scale bar, and lengths cannot be compared. If you know it: "
        "`adata.uns.setdefault('genot', {})['micrometres_per_unit'] = ...` "
        f"(if neighbours are 100 µm apart, it is {100 / spacing:.4g})."
    )
    return _Row("unit of length", _LOOK, found, fix)


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
            raise SliceError(missing("obsm", source, adata.obsm.keys()))
        values = np.asarray(adata.obsm[source])
        where = f"obsm[{source!r}]"
    else:
        columns = list(source)
        if len(columns) != 2:
            raise SliceError(f"positions are {columns}; give two columns of obs: x, then y.")
        for column in columns:
            if column not in adata.obs:
                raise SliceError(missing("obs", column, adata.obs.columns))
        values = adata.obs[columns].apply(pd.to_numeric, errors="coerce").to_numpy()
        where = f"obs[{columns}]"
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "iuf":
        found = f"{where} has shape {values.shape}, dtype {values.dtype}"
        raise SliceError(f"{found}; needed: two columns of numbers, x and y.")
    if not np.isfinite(values[:, :2].astype(float)).any():
        raise SliceError(f"{where} holds no numbers.")
    adata.obsm[key_added] = values[:, :2].astype(float)
