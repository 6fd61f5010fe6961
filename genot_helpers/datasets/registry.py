"""The list of public files: what each slice consists of and where its files go.

``data/registry.tsv`` says where the public gets the data, with SHA-256, bytes and shape where they
are known. Files go where :mod:`genot_helpers.datasets` looks for local ones (``data/README.md``
describes the layout and names the papers).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

__all__ = ["download_dir", "public_slices", "read_registry", "short_name", "slice_files"]

SPATIAL_FOLDER = "spatial"  # Space Ranger keeps everything but the matrix there
MERFISH_STACK = "merfish.h5ad"  # all sections of the hypothalamus in one file, told by bregma
MERFISH_SECTIONS = tuple(f"merfish_{n}" for n in (29, 24, 19, 14, 9, 4, 1, 6, 11, 16, 21, 26))


def read_registry(path: str | Path | None = None) -> pd.DataFrame:
    """Read the list of public files.

    Parameters
    ----------
    path
        Table with the columns ``dataset, file, url, sha256, bytes, shape, note``, separated by
        tabs. If not given, ``data/registry.tsv`` of the checkout: beside the package, or in the
        working directory or a folder above it (for a package that was installed elsewhere).

    Returns
    -------
    pandas.DataFrame
        One row per file, all strings; empty where a fact is not known. ``place`` is added: where
        the file goes, relative to the folder with the data.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if path is None:
        here = Path(__file__).resolve().parents[2]
        places = [folder / "data" / "registry.tsv" for folder in (here, *_above(Path.cwd()))]
        path = next((place for place in places if place.is_file()), places[0])
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no list of downloads at {path}. It comes with the checkout, as "
            "data/registry.tsv: work inside the checkout, or give its path as registry=... ."
        )
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table["place"] = [
        f"{dataset}/{_place(file)}" for dataset, file in zip(table.dataset, table.file, strict=True)
    ]
    table.attrs["folder"] = str(path.resolve().parent)
    return table


def _above(folder: Path) -> list[Path]:
    return [folder, *folder.parents]


def _place(file: str) -> str:
    """Map the name of a published file to its place in a Space Ranger folder."""
    section, _, name = file.rpartition("/")
    if not section or name.endswith((".h5", ".tar.gz")):
        return file
    return f"{section}/{SPATIAL_FOLDER}/{name.replace('_list.txt', '_list.csv')}"


def short_name(file: str) -> str:
    """Return the name of a slice from that of its ``.h5ad`` file.

    Examples
    --------
    >>> short_name("merfish_9_paste.h5ad"), short_name("E9.5_E1S1.MOSTA.h5ad")
    ('merfish_9', 'E9.5')
    """
    return re.sub(r"(_paste|_E\d+S\d+\.MOSTA)?\.h5ad$", "", file)


def download_dir(data_dir: str | Path | None = None, *, registry: pd.DataFrame) -> Path:
    """Return the folder that downloads go to.

    Parameters
    ----------
    data_dir
        The folder, if the reader names one.
    registry
        As from :func:`read_registry`.

    Returns
    -------
    pathlib.Path
        ``data_dir``; else the environment variable ``GENOT_DATA_DIR`` where that folder can be
        written to; else the folder of the registry (``data/`` of the checkout).
    """
    if data_dir is not None:
        return Path(data_dir).expanduser()
    shared = os.environ.get("GENOT_DATA_DIR")
    if shared and os.access(shared, os.W_OK):
        return Path(shared)
    return Path(registry.attrs["folder"])


def public_slices(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (dataset, name) of every slice in the registry, each once, in order.

    Parameters
    ----------
    table
        As from :func:`read_registry`.
    """
    found: dict[tuple[str, str], None] = {}
    for dataset, file in zip(table.dataset, table.file, strict=True):
        if "/" in file:
            found[dataset, file.split("/")[0]] = None
        elif file == MERFISH_STACK:
            found |= dict.fromkeys((dataset, name) for name in MERFISH_SECTIONS)
        elif file.endswith(".h5ad"):
            found[dataset, short_name(file)] = None
    return list(found)


def slice_files(table: pd.DataFrame, dataset: str, name: str) -> pd.DataFrame:
    """Return the rows of the registry that make up one slice, shared label tables included."""
    rows = table[table.dataset == dataset]
    section = rows.file.str.startswith(f"{name}/")
    if section.any():
        return rows[section | rows.file.str.endswith(".tsv")]
    whole = rows[(rows.file.map(short_name) == name) | (rows.file == f"{name}.h5ad")]
    if whole.empty and name in MERFISH_SECTIONS:
        whole = rows[rows.file == MERFISH_STACK]
    if whole.empty:
        raise ValueError(
            f"The registry lists no files of {dataset!r} / {name!r}; see list_slices()."
        )
    return whole
