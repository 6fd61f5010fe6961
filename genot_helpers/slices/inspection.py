"""A checklist of a slice: what is there, what is missing, and how to mend it.

:func:`genot_helpers.slices.check_slice` refuses a slice that cannot be used.
:func:`inspect_slice` never refuses: it lists what that check would say, and beside it all that can
be used but deserves a look, because a later step has to guess where the slice is silent. The slots
are those of AnnData (Virshup et al. 2024, https://doi.org/10.21105/joss.04371).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .place_rows import LOOK, MEND, OK, Row, counted, mended_by, place_rows
from .slices import check_names, check_sizes, check_values, find_labels
from .values import holds_counts, holds_logarithms

__all__ = ["inspect_slice"]

_FEW_SPOTS = 200  # fewer, and a domain of a tenth of the tissue has 20 spots to be described by
_MANY_LABELS = 40
_SHALLOW = 0.05  # of the median total
_SECTION_COLUMNS = (
    *("sample", "sample_id", "section", "section_id", "slice", "slice_id", "batch", "library_id"),
    *("fov", "donor", "Bregma"),
)
_IDENTIFIER = r"ENS[A-Z]*G\d{6,}(\.\d+)?"  # how Ensembl calls genes


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
        *_sections(adata),
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
    if holds_counts(adata):
        rows.append(Row("values", OK, "counts: whole numbers, none negative."))
    elif holds_logarithms(adata):
        fix = (
            "counts are best (`adata.X = adata.layers['counts']`); else `gh.undo_logarithm(adata)`."
        )
        rows.append(Row("values", LOOK, "logarithms: the next step would take them again.", fix))
    else:
        fix = "can be used as it is; counts are better where you have them."
        rows.append(Row("values", LOOK, "fractions, no counts: normalised before.", fix))
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


def _sections(adata: AnnData) -> Iterator[Row]:
    several = [
        column
        for column in _SECTION_COLUMNS
        if column in adata.obs and adata.obs[column].nunique() > 1
    ]
    pictures = list(adata.uns.get("spatial", {}))
    if several:
        values = adata.obs[several[0]].dropna().unique()
        found = f"obs[{several[0]!r}] has {len(values)} values: several sections in one object?"
        fix = (
            "one slice per object, or spots of different sections become neighbours: "
            f"`adata = adata[adata.obs[{several[0]!r}] == {_plain(values[0])!r}].copy()`."
        )
        yield Row("several sections", LOOK, found, fix)
    elif len(pictures) > 1:
        found = f"images of {len(pictures)} sections ({', '.join(map(str, pictures[:3]))})."
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


def _image(adata: AnnData) -> Iterator[Row]:
    sizes = [
        f"{name} ({np.shape(image)[1]} × {np.shape(image)[0]} pixels)"
        for stored in adata.uns.get("spatial", {}).values()
        for name, image in stored.get("images", {}).items()
    ]
    if sizes:
        yield Row("image", OK, ", ".join(sizes) + ".")
    else:
        fix = "optional. Space Ranger keeps it in `spatial/`: give the folder, not the matrix."
        yield Row("image", LOOK, "none of the tissue.", fix)


def _left_out(adata: AnnData) -> Iterator[Row]:
    dropped = adata.uns.get("genot", {}).get("dropped", "")
    if dropped:
        fix = "nothing to do; is it what you expect?"
        yield Row("left out when read", LOOK, f"{dropped}.", fix)
