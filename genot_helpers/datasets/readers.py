"""Files to slices: Space Ranger folders and ``.h5ad`` files.

Space Ranger's output is described at
https://www.10xgenomics.com/support/software/space-ranger/latest/analysis/outputs/output-overview.
``squidpy.read.visium`` and ``scanpy.read_visium`` stop when the high-resolution image is missing,
which it is from many public sets (squidpy 1.8.2, scanpy 1.11.5); so the counts are read by scanpy
and the rest, three small files, here.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from PIL import Image
from scipy import sparse

from ..slices.slices import SliceError, add_labels, covers_section, record
from ..slices.values import holds_counts, is_numeric
from .downloads import MERFISH_SECTIONS, MERFISH_STACK, short_name

__all__ = [
    "find_slices",
    "is_space_ranger",
    "read_h5ad",
    "read_slice",
    "read_space_ranger",
    "slices_inside",
    "space_ranger_folder",
    "tidy",
]

_MATRICES = (
    *("filtered_feature_bc_matrix.h5", "*filtered_feature_bc_matrix.h5"),
    *("filtered_feature_bc_matrix", "*filtered_feature_bc_matrix"),
    *("raw_feature_bc_matrix.h5", "*raw_feature_bc_matrix.h5"),
)
_POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions_list.txt")
_POSITION_COLUMNS = ["in_tissue", "array_row", "array_col", "pxl_row", "pxl_col"]
_COUNT_LAYERS = ("counts", "count", "raw_counts")
_CONTROL_PROBE = re.compile(r"blank([-_ .]?\d+)*", re.IGNORECASE)


def is_space_ranger(folder: str | Path) -> bool:
    """Say whether a folder holds a count matrix as Space Ranger writes it."""
    return _find_matrix(Path(folder)) is not None


def read_space_ranger(folder: str | Path, *, name: str | None = None) -> AnnData:
    """Read the output folder of Space Ranger, version 1 or 2.

    Parameters
    ----------
    folder
        Folder with ``filtered_feature_bc_matrix.h5`` (a prefix is allowed) or the folder
        ``filtered_feature_bc_matrix/`` or, failing both, the raw matrix; and ``spatial/`` with
        ``tissue_positions.csv`` (2.x, with a header) or ``tissue_positions_list.csv`` (1.x,
        without), and, if there are any, the scale factors and images.
    name
        Name of the section; that of the folder if not given.

    Returns
    -------
    AnnData
        Spots in tissue only, with

        - ``X``: counts, CSR, float32. Genes are named by symbol; a symbol met again gets ``-1``,
          ``-2``, … (``var["gene_ids"]`` tells them apart).
        - ``obs["in_tissue"]``, ``obs["array_row"]``, ``obs["array_col"]``.
        - ``obsm["spatial"]``: (spots, 2) float64, x and y in pixels of the full-size image.
        - ``uns["spatial"][name]``: images that are there (``hires``, ``lowres``; uint8) and scale
          factors, as :func:`squidpy.pl.spatial_scatter` expects them. With only the small image,
          call it with ``img_res_key="lowres"``. Absent when there are no scale factors.

    Raises
    ------
    FileNotFoundError
        If the count matrix or the positions are not there; the message lists what was looked for.
    SliceError
        If barcodes of the matrix have no position.
    """
    folder = Path(folder).expanduser()
    name = name or (folder.parent.name if folder.name == "outs" else folder.resolve().name)
    matrix = _find_matrix(folder)
    if matrix is None:
        raise FileNotFoundError(
            f"{folder} holds no Space Ranger count matrix. Looked for: {', '.join(_MATRICES)}. "
            "Give the folder that Space Ranger calls 'outs'."
        )
    with warnings.catch_warnings():  # symbols are made unique below
        warnings.filterwarnings("ignore", message=".*names are not unique")
        if matrix.is_dir():
            adata = sc.read_10x_mtx(matrix, make_unique=False)
        else:
            adata = sc.read_10x_h5(matrix)
    adata.var_names_make_unique()
    positions = _read_positions(folder)
    known = adata.obs_names.isin(positions.index)
    if not known.all():
        raise SliceError(
            f"{(~known).sum():,} of {adata.n_obs:,} barcodes of {matrix.name} have no position "
            f"(first: {adata.obs_names[known.argmin()]!r}; the positions start with "
            f"{positions.index[0]!r}). Are both from the same run of Space Ranger?"
        )
    positions = positions.loc[adata.obs_names]
    in_tissue = positions["in_tissue"].to_numpy() == 1
    if not in_tissue.all():
        adata, positions = adata[in_tissue].copy(), positions[in_tissue]
    adata.X = _csr(adata.X)
    for column in ("in_tissue", "array_row", "array_col"):
        adata.obs[column] = positions[column].astype(int)
    adata.obsm["spatial"] = positions[["pxl_col", "pxl_row"]].to_numpy(dtype=float)
    images = _read_images(folder)
    if images is not None:
        adata.uns["spatial"] = {name: images}
    return adata


def _find_matrix(folder: Path) -> Path | None:
    """Return the count matrix in a folder, the filtered one first."""
    found = (path for pattern in _MATRICES for path in sorted(folder.glob(pattern)))
    return next((path for path in found if path.is_file() or _is_mtx(path)), None)


def _is_mtx(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("matrix.mtx.gz", "matrix.mtx"))


def _in_spatial(folder: Path, *names: str) -> Path | None:
    """Find a file in ``spatial/``, or beside the matrix where some public sets keep it."""
    places = (place / name for place in (folder / "spatial", folder) for name in names)
    return next((path for path in places if path.is_file()), None)


def _read_positions(folder: Path) -> pd.DataFrame:
    """Return barcode -> in_tissue, array_row, array_col, pxl_row, pxl_col."""
    path = _in_spatial(folder, *_POSITIONS)
    if path is None:
        raise FileNotFoundError(
            f"{folder} holds no positions of the spots. Looked for {', '.join(_POSITIONS)} in "
            f"{folder / 'spatial'} and beside the matrix."
        )
    with path.open(encoding="utf-8") as file:
        first = file.readline().strip().split(",")
    if len(first) != 6:
        raise SliceError(
            f"{path} has {len(first)} columns; needed are 6, separated by commas: barcode, "
            f"{', '.join(_POSITION_COLUMNS)}."
        )
    header = 0 if first[0].lower() == "barcode" else None
    columns = ["barcode", *_POSITION_COLUMNS]
    return pd.read_csv(path, header=header, names=columns, index_col="barcode")


def _read_images(folder: Path) -> dict | None:
    """Return images and scale factors for ``uns["spatial"]``, None without scale factors."""
    path = _in_spatial(folder, "scalefactors_json.json")
    if path is None:
        return None
    images = {}
    for size in ("hires", "lowres"):
        image = _in_spatial(folder, f"tissue_{size}_image.png")
        if image is not None:
            images[size] = np.asarray(Image.open(image).convert("RGB"))
    factors = json.loads(path.read_text(encoding="utf-8"))
    return {"images": images, "scalefactors": factors, "metadata": {}}


def read_h5ad(path: str | Path) -> AnnData:
    """Read a slice from an ``.h5ad`` file; counts kept in a layer become ``X``.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    AnnData
        As stored, except: where ``X`` holds no counts but ``layers["counts"]`` (or ``"count"``,
        ``"raw_counts"``) does, that layer becomes ``X`` (and ``uns["genot"]["counts_from"]`` says
        so).

    Raises
    ------
    ValueError
        If it is no such file.
    """
    path = Path(path).expanduser()
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is no .h5ad file (not HDF5), or it is cut off. Get it again.")
    try:
        with warnings.catch_warnings():  # old formats and doubled names are dealt with here
            warnings.simplefilter("ignore", category=ad.OldFormatWarning)
            warnings.filterwarnings("ignore", message=".*names are not unique")
            adata = ad.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read as .h5ad ({str(error).strip().splitlines()[0]}). A 10x .h5 "
            "file has no positions: give the Space Ranger folder instead."
        ) from error
    layers = [layer for layer in _COUNT_LAYERS if layer in adata.layers]
    if layers and not holds_counts(adata) and holds_counts(AnnData(adata.layers[layers[0]])):
        adata.X = adata.layers.pop(layers[0])
        record(adata, counts_from=f"layers[{layers[0]!r}]")
    return adata


def tidy(adata: AnnData) -> AnnData:
    """Bring a slice into the form the rest of the package expects.

    Parameters
    ----------
    adata
        As read from a file. It may be changed; go on with what is returned.

    Returns
    -------
    AnnData
        With unique names; ``X`` CSR float32; ``obsm["spatial"]`` float64; without control probes
        (genes called ``Blank``, ``Blank_1``, …), genes that were not measured (NaN in every spot),
        and genes and spots without a single count. ``uns["genot"]["dropped"]`` says in a sentence
        what was left out or renamed; empty where nothing was.
    """
    notes = []
    for names, what in ((adata.obs_names, "spots"), (adata.var_names, "genes")):
        if not names.is_unique:
            notes.append(f"{names.duplicated().sum():,} {what} renamed (their name was taken)")
    adata.obs_names_make_unique()
    adata.var_names_make_unique()
    positions = np.asarray(adata.obsm.get("spatial", "none"))
    if is_numeric(positions):
        adata.obsm["spatial"] = positions.astype(float)
    if adata.X is not None and is_numeric(adata.X):
        adata.X = _csr(adata.X)
        control, unmeasured, empty = _useless_genes(adata)
        if control.any():
            notes.append(f"control probes {', '.join(adata.var_names[control])}")
        if unmeasured.any():
            notes.append(f"genes not measured: {', '.join(adata.var_names[unmeasured])}")
        if empty.any():
            notes.append(f"{empty.sum():,} genes without counts")
        genes = ~(control | unmeasured | empty)
        spots = (adata.X if genes.all() else adata.X[:, genes]).getnnz(axis=1) > 0
        if not spots.all():
            notes.append(f"{(~spots).sum():,} spots without counts")
        if not (spots.all() and genes.all()):
            adata = adata[spots, genes].copy()
    record(adata, dropped="; ".join(notes))
    return adata


def _useless_genes(adata: AnnData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Say which genes are control probes, which are NaN everywhere, and which are empty."""
    control = np.array([bool(_CONTROL_PROBE.fullmatch(g)) for g in adata.var_names], dtype=bool)
    n_missing = np.bincount(adata.X.indices[np.isnan(adata.X.data)], minlength=adata.n_vars)
    unmeasured = (n_missing == adata.n_obs) & ~control & (adata.n_obs > 0)
    return control, unmeasured, (adata.X.getnnz(axis=0) == 0) & ~control


def _csr(X: Any) -> sparse.csr_matrix:
    """Return a matrix as CSR float32 with sorted indices and no stored zeros."""
    X = sparse.csr_matrix(X, dtype=np.float32)
    X.eliminate_zeros()
    X.sort_indices()
    return X


# -------------------------------------------------------------------------------------------------
# Slices in folders: which ones are there, and how each is read.
#
# The layout is described in ``data/README.md``: a folder per data set, in it a Space Ranger folder
# or an ``.h5ad`` file per section. Names are discovered, so a section put beside the others is
# found.

LABEL_FILE = "labels.tsv"  # in the folder of a section: barcode, label
LABEL_MAP = "barcode_level_layer_map.tsv"  # beside the sections: barcode, section, label


def find_slices(folder: Path) -> dict[tuple[str, str], Path]:
    """Find every slice in a folder of data sets: (dataset, name) -> file or folder."""
    datasets = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    return {
        (dataset.name, name): path
        for dataset in datasets
        for name, path in slices_inside(dataset).items()
    }


def slices_inside(dataset: Path) -> dict[str, Path]:
    """Find the slices of one data set: name -> Space Ranger folder or ``.h5ad`` file."""
    found: dict[str, Path] = {}
    for path in sorted(dataset.iterdir()):
        if path.is_dir():
            place = space_ranger_folder(path)
            if place is not None:
                found[path.name] = place
        elif path.suffix == ".h5ad" and path.name[0] != "." and path.name != MERFISH_STACK:
            name = short_name(path.name)
            found[path.stem if name in found else name] = path
    if (dataset / MERFISH_STACK).is_file():
        found = dict.fromkeys(MERFISH_SECTIONS, dataset / MERFISH_STACK) | found
    return found


def space_ranger_folder(folder: Path) -> Path | None:
    """Return the folder with the count matrix, ``outs`` looked into; None if there is none."""
    return next((place for place in (folder, folder / "outs") if is_space_ranger(place)), None)


def read_slice(path: Path, name: str, dataset: Path) -> AnnData:
    """Read a slice and the labels that lie beside it.

    Parameters
    ----------
    path
        ``.h5ad`` file, or folder with the count matrix.
    name
        Name of the section; also picks its rows from the layer map, and its cells from a file that
        holds a whole stack.
    dataset
        Folder of the data set, where a layer map may lie.
    """
    if path.name == MERFISH_STACK and name in MERFISH_SECTIONS:
        return _cut_from_stack(path, name)
    if path.is_file():
        return read_h5ad(path)
    adata = read_space_ranger(path, name=name)
    section = path.parent if path.name == "outs" else path
    if (section / LABEL_FILE).is_file():
        add_labels(adata, section / LABEL_FILE)
    elif (dataset / LABEL_MAP).is_file() and covers_section(dataset / LABEL_MAP, name):
        add_labels(adata, dataset / LABEL_MAP, section=name)
    return adata


def _cut_from_stack(path: Path, name: str) -> AnnData:
    """Read one section of the hypothalamus from the file that holds all of them."""
    stack = ad.read_h5ad(path, backed="r")
    try:
        if "Bregma" not in stack.obs:
            raise SliceError(f"{path} has no obs['Bregma'], which tells the sections apart.")
        bregma = stack.obs["Bregma"].astype(float).abs().round()  # hundredths of a millimetre
        here = (bregma == int(name.removeprefix("merfish_"))).to_numpy()
        if not here.any():
            raise SliceError(f"{path} has no cell of {name}. Bregma: {sorted(bregma.unique())}.")
        return stack[here].to_memory()
    finally:
        stack.file.close()
