"""Annotations of spots: read from a table, kept as a categorical.

The layer map of the human cortex (Maynard et al. 2021, https://doi.org/10.1038/s41593-020-00787-0)
is such a table; so is what one exports from Loupe Browser after drawing regions by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from .slices import SliceError

__all__ = ["add_labels", "as_labels", "covers_section"]

_UNANNOTATED = ("", "NA", "nan", "NaN", "None", "<NA>")
_HEADERS = ("", "barcode", "barcodes", "spot", "spot_id", "cell", "cell_id", "id", "index", "name")


def as_labels(values: pd.Series) -> pd.Series:
    """Return labels as a categorical sorted by name; empty, NA and NaN mean unannotated.

    Parameters
    ----------
    values
        Names or numbers, one per spot.
    """
    text = values.astype(object).map(str).str.strip()
    text = text.where(values.notna() & ~text.isin(_UNANNOTATED), np.nan)
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
    """Read an annotation from a table and write it to ``obs``.

    Parameters
    ----------
    adata
        The slice. Gets ``obs[key_added]``: categorical sorted by name; NaN where the table has no
        row for a spot.
    path
        Table with barcodes in the first column, separated by tabs or commas, with or without a
        header: ``barcode, label`` or ``barcode, section, label``.
    section
        In a table of three columns or more, only the rows whose second column says so.
    column
        Name of the column with the labels, in a table with a header; the last one if not given.
    key_added
        Column of ``obs`` to write.
    min_matched
        Least share of barcodes that have to match, of the rows or of the spots, whichever are
        fewer: a table may cover part of the spots, and the slice part of what the table covers.

    Raises
    ------
    SliceError
        If fewer barcodes match, if a barcode has two labels, or the table has no such column or
        section.
    """
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
