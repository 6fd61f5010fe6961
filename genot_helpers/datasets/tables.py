"""Tables and matrices as instruments and repositories write them, packed or not.

Compression is told by the first bytes, not by the name. Every matrix that is read is checked before
anything is computed from it: indices beyond its edge, as a damaged file has them, take the
interpreter down.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import io as scipy_io, sparse

from ..slices.slices import SliceError
from ..slices.values import check_matrix

PACKED = ("", ".gz", ".bz2", ".xz", ".zst")
"""Endings that every file may have."""


def _open_zstd(path: Path, mode: str) -> IO[bytes]:
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


_OPENERS = {  # by the first bytes of a file
    **{b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open},
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
_CHUNK = 4096  # rows of a wide table made sparse at a time


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading; gzip, bzip2, xz and zstd are unpacked on the way."""
    return (_opener(path) or open)(path, "rb")


def _opener(path: Path) -> Any:
    """Return what unpacks a file; None for one that is not packed."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((found for mark, found in _OPENERS.items() if start.startswith(mark)), None)


@contextmanager
def unpacked_file(path: Path) -> Iterator[Path]:
    """Give the path of an unpacked copy, as HDF5 needs it, or the path itself if not packed."""
    if _opener(path) is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="genot-") as folder:
        copy = Path(folder) / path.name.removesuffix(path.suffix)
        with open_unpacked(path) as packed, copy.open("wb") as plain:
            try:
                shutil.copyfileobj(packed, plain, 1 << 22)
            except (OSError, EOFError, lzma.LZMAError) as error:
                raise ValueError(f"{path} cannot be unpacked ({error}): it is cut off.") from error
        yield copy


def files_in(folder: Path) -> list[Path]:
    """List what is in a folder, sorted; what macOS and others hide there is not meant."""
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in inside if path.name[0] != ".")


def read_table(
    path: Path, *, header: str = "auto", known: tuple[str, ...] = (), gaps: bool = True
) -> pd.DataFrame:
    """Read a table of text or Parquet, all text as it stands; with ``gaps`` NA is missing."""
    try:
        if ".parquet" in path.suffixes:
            with unpacked_file(path) as plain:
                return _without_index(pd.read_parquet(plain))
        with open_unpacked(path) as file:
            text = _decoded(file.read())
    except (OSError, EOFError, ValueError, ImportError) as error:
        raise SliceError(f"{path} cannot be read as a table ({error}).") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    lines = [*text.split("\n", 2), ""]
    separator = max(",;\t", key=lines[0].count)
    if separator not in lines[0] and " " in lines[0].strip():
        separator = " "
    try:
        first, second = (next(csv.reader([line], delimiter=separator), []) for line in lines[:2])
        named = header == "yes" or any(cell.strip().strip('"').lower() in known for cell in first)
        one_short = len(second) == len(first) + 1  # R writes names of rows like that
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=0 if named else None,
            dtype=str,
            skipinitialspace=True,
            keep_default_na=gaps,
            index_col=False if named and not one_short else None,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise SliceError(f"{path} cannot be read as a table ({error}).") from error
    return _without_index(table)


def _decoded(raw: bytes) -> str:
    """Turn bytes into text: UTF-8 or UTF-16 with its mark, else Latin 1, which knows every byte."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _without_index(table: pd.DataFrame) -> pd.DataFrame:
    """Make named rows a column like the others."""
    return table if isinstance(table.index, pd.RangeIndex) else table.reset_index(names="barcode")


def read_wide_counts(path: Path, *, by_gene: bool = False) -> AnnData:
    """Read a wide table of counts, a few thousand rows at a time, into a sparse matrix."""
    with open_unpacked(path) as file:
        first = file.readline()
    separator = "\t" if b"\t" in first else ";" if b";" in first else ","
    blocks, names, texts, genes = [], [], [], None
    try:
        with open_unpacked(path) as file:
            chunks = pd.read_csv(
                file, sep=separator, chunksize=_CHUNK, encoding="utf-8-sig", dtype={0: str}
            )
            for chunk in chunks:
                names.append(chunk.iloc[:, 0].astype(object).map(str))  # a missing name too
                rest = chunk.iloc[:, 1:]
                if genes is None:
                    genes = list(rest.select_dtypes(["number", "bool"]).columns)
                texts.append(rest.drop(columns=genes))
                blocks.append(sparse.csr_matrix(rest[genes].to_numpy(dtype=np.float32)))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise SliceError(f"{path} cannot be read as a table of counts ({error}).") from error
    if not genes:
        raise SliceError(f"{path} holds no columns of numbers: no table of counts.")
    values = sparse.vstack(blocks, format="csr")
    rows = pd.Index(pd.concat(names).str.strip(), name=None)
    columns = pd.Index([str(gene).strip() for gene in genes])
    if by_gene:
        obs, var = (pd.DataFrame(index=names) for names in (columns, rows))
        return AnnData(sparse.csr_matrix(values.T), obs=obs, var=var)
    obs = pd.concat(texts).set_index(rows).astype(str)
    with doubled_names_allowed():
        return AnnData(values, obs=obs, var=pd.DataFrame(index=columns))


def is_10x_h5(path: Path) -> bool:
    """Say whether a file is a count matrix of 10x Genomics in HDF5."""
    try:
        with h5py.File(path, "r") as file:
            groups = [file[key] for key in file if isinstance(file[key], h5py.Group)]
            return any({"barcodes", "indptr"} <= set(group) for group in groups)
    except OSError:
        return False


def read_10x_h5(path: Path) -> AnnData:
    """Read a matrix of 10x Genomics from HDF5, packed or not, every kind of feature."""
    try:
        with unpacked_file(path) as plain, doubled_names_allowed():
            adata = sc.read_10x_h5(plain, gex_only=False)
    except Exception as error:  # a damaged file shows in many ways
        reason = first_line(error)
        raise ValueError(f"{path} cannot be read as a 10x matrix ({reason}).") from error
    check_structure(adata, path)
    return adata


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def doubled_names_allowed() -> Iterator[None]:
    """Silence what anndata says of old formats and doubled names, which are dealt with later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ad.OldFormatWarning)
        warnings.filterwarnings("ignore", message=".*names are not unique")
        yield


def read_10x_mtx(folder: Path, prefix: str = "") -> AnnData:
    """Read a matrix of 10x Genomics from Matrix Market files."""
    ends = ("tsv", "txt", "csv")
    matrix = _one_of(folder, prefix, ("matrix.mtx", "MoleculesPerMatchedBead.mtx"))
    barcodes = _one_of(folder, prefix, [f"barcodes.{end}" for end in ends])
    features = _one_of(
        folder, prefix, [f"{n}.{end}" for end in ends for n in ("features", "genes")]
    )
    names = read_table(barcodes, gaps=False).iloc[:, 0].astype(str).str.strip()
    table = read_table(features, gaps=False).astype(str)
    try:
        with open_unpacked(matrix) as file:
            values = scipy_io.mmread(io.BytesIO(file.read()))
    except (OSError, EOFError, ValueError) as error:
        raise SliceError(f"{matrix} cannot be read as a matrix ({error}).") from error
    names, table = _trimmed(names, table, values.shape)
    if values.shape == (len(table), len(names)):
        values = values.T
    elif values.shape != (len(names), len(table)):
        raise SliceError(
            f"{matrix} is {values.shape[0]:,} × {values.shape[1]:,}, but there are "
            f"{len(table):,} features and {len(names):,} barcodes beside it."
        )
    symbols = table.iloc[:, min(1, table.shape[1] - 1)].to_numpy()
    var = pd.DataFrame({"gene_ids": table.iloc[:, 0].to_numpy()}, index=symbols)
    if table.shape[1] > 2:
        var["feature_types"] = table.iloc[:, 2].to_numpy()
    with doubled_names_allowed():
        obs = pd.DataFrame(index=pd.Index(names.to_numpy()))
        return AnnData(sparse.csr_matrix(values), obs=obs, var=var)


def _trimmed(names: pd.Series, table: pd.DataFrame, shape: tuple[int, int]):
    """Drop a line of column names that some exports put first."""
    n, m = len(names), len(table)
    if shape in ((m - 1, n), (n, m - 1), (m - 1, n - 1), (n - 1, m - 1)) and m - 1 in shape:
        table = table.iloc[1:]
    if shape in ((len(table), n - 1), (n - 1, len(table))) and n not in shape:
        names = names.iloc[1:]
    return names, table


def _one_of(folder: Path, prefix: str, names: Sequence[str]) -> Path:
    places = (folder / f"{prefix}{name}{end}" for name in names for end in PACKED)
    found = [path for path in places if path.is_file()]
    if not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
        raise FileNotFoundError(f"{folder} has no {prefix}{names[0]} (packed or not): {there}.")
    return found[0]


def check_structure(adata: AnnData, path: Any) -> None:
    """Refuse sparse matrices whose structure is damaged, before anything is computed from them.

    Parameters
    ----------
    adata
        As read: ``X``, layers, ``.raw`` and pairwise matrices are looked at.
    path
        Where they come from, for the message.

    Raises
    ------
    SliceError
        If indices or pointers lie outside a matrix.
    """
    parts = {"X": adata.X} | {f"layers[{key!r}]": value for key, value in adata.layers.items()}
    parts |= {f"obsp[{key!r}]": value for key, value in adata.obsp.items()}
    if adata.raw is not None:
        parts["raw.X"] = adata.raw.X
    for slot, matrix in parts.items():
        wrong = check_matrix(matrix)
        if wrong:
            raise SliceError(f"{path}: {slot} is damaged ({wrong}). Get the file again.")
