"""Files and folders to slices: which reader knows a path, and one form for whatever it gives.

Each technology has its reader: :mod:`genot_helpers.datasets.visium` (Visium, Visium HD),
:mod:`~genot_helpers.datasets.imaging` (Xenium, MERSCOPE, CosMx),
:mod:`~genot_helpers.datasets.arrays` (Stereo-seq, Slide-seq) and
:mod:`~genot_helpers.datasets.containers` (AnnData and SpatialData). The layout of a local folder is
described in ``data/README.md``: a folder per data set, in it a folder or a file per section. Names
are discovered, so a section put beside the others is found.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from anndata import AnnData
from scipy import sparse

from ..slices.sections import control_features, list_some
from ..slices.slices import (
    SliceError,
    add_labels,
    beside_tissue,
    covers_section,
    record,
    remark,
)
from ..slices.values import check_matrix, find_counts, is_numeric, raw_columns, slice_kind
from .arrays import is_gef, is_gem, is_slideseq, read_gef, read_gem, read_slideseq
from .containers import (
    is_spatialdata,
    is_zarr,
    make_plain,
    mend_positions,
    read_anndata,
    read_zarr,
    regions_of,
)
from .downloads import MERFISH_SECTIONS, MERFISH_STACK, short_name
from .imaging import is_cosmx, is_merscope, is_xenium, read_cosmx, read_merscope, read_xenium
from .visium import hd_choices, read_space_ranger, sections_beside, space_ranger_folder

__all__ = [
    "find_slices",
    "names_in",
    "read_any",
    "read_slice",
    "slice_folder",
    "slices_inside",
    "take_counts",
    "tidy",
]

LABEL_FILE = "labels.tsv"  # in the folder of a section: barcode, label
LABEL_MAP = "barcode_level_layer_map.tsv"  # beside the sections: barcode, section, label

_SLICE_FILES = re.compile(
    r".*\.(h5ad|gef|gem|cgem|bgem|zarr\.zip|h5ad\.zip)(\.(gz|bz2|xz|zst))?", re.IGNORECASE
)
_FOLDER_READERS = (
    (is_zarr, read_zarr),
    (is_xenium, read_xenium),
    (is_merscope, read_merscope),
    (is_cosmx, read_cosmx),
    (is_slideseq, read_slideseq),
)


def slice_folder(
    path: Path, name: str | None = None, bin_size: int | str | None = None
) -> Path | None:
    """Return the folder that a reader takes: this one or one inside; None if none knows it."""
    if name in hd_choices(path):
        bin_size = name
    place = space_ranger_folder(path, bin_size)
    if place is not None:
        return place
    inside = (path, path / "outs")
    return next((place for place in inside for known, _ in _FOLDER_READERS if known(place)), None)


def read_any(path: Path, name: str, bin_size: int | str | None = None) -> AnnData:
    """Read a slice with the reader that knows the path."""
    if path.is_file():
        if is_gem(path):
            return read_gem(path, bin_size or _bins_in(name))
        if is_gef(path):
            return read_gef(path, bin_size or _bins_in(name))
        return read_anndata(path)
    if is_zarr(path):
        return read_zarr(path, name, bin_size)
    for known, reader in _FOLDER_READERS:
        if known(path):
            return reader(path)
    return read_space_ranger(path, name=name)


def _bins_in(name: str) -> str | None:
    """Return the bins that a name asks for: "bin100", "cellbin"."""
    return name if re.fullmatch(r"bin\d+|cell_?bins?|cells", name, re.IGNORECASE) else None


def find_slices(folder: Path) -> dict[tuple[str, str], Path]:
    """Find every slice in a folder of data sets: (dataset, name) -> file or folder."""
    datasets = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    return {
        (dataset.name, name): path
        for dataset in datasets
        for name, path in slices_inside(dataset).items()
    }


def slices_inside(dataset: Path) -> dict[str, Path]:
    """Find the slices of one data set: name → file or folder that :func:`read_any` knows."""
    found: dict[str, Path] = {}
    for path in sorted(dataset.iterdir()):
        if path.name[0] == "." or path.name == MERFISH_STACK:
            continue
        if path.is_dir():
            place = slice_folder(path)
            if place is not None:
                found[path.name] = place
        elif _SLICE_FILES.fullmatch(path.name):
            name = short_name(f"{_stem(path)}.h5ad")
            found[_stem(path) if name in found else name] = path
    if (dataset / MERFISH_STACK).is_file():
        found = dict.fromkeys(MERFISH_SECTIONS, dataset / MERFISH_STACK) | found
    return found


def _stem(path: Path) -> str:
    """Return the name of a file without its endings."""
    return re.sub(
        r"(\.(h5ad|gef|gem|cgem|bgem|zarr|zip|gz|bz2|xz|zst))+$", "", path.name, flags=re.I
    )


def names_in(path: Path) -> list[str]:
    """Return the names of the slices in a file or folder that a reader knows; empty for others."""
    if path.is_file():
        return [_stem(path)]
    if is_zarr(path):
        return regions_of(path) if is_spatialdata(path) else [_stem(path)]
    place = slice_folder(path)
    if place is None:
        return []
    return sections_beside(place) or [path.resolve().name]


def read_slice(path: Path, name: str, dataset: Path, bin_size: int | str | None = None) -> AnnData:
    """Read a slice and the labels that lie beside it."""
    if path.name == MERFISH_STACK and name in MERFISH_SECTIONS:
        return _cut_from_stack(path, name)
    adata = read_any(path, name, bin_size)
    if path.is_file():
        return adata
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


# -------------------------------------------------------------------------------------------------
# One form for whatever was read.


def tidy(adata: AnnData) -> AnnData:
    """Bring a slice into the form the rest of the package expects."""
    notes = []
    make_plain(adata)
    mend_positions(adata)
    for names, what in ((adata.obs_names, "spots"), (adata.var_names, "genes")):
        if not names.is_unique:
            notes.append(f"{names.duplicated().sum():,} {what} renamed (their name was taken)")
    adata.obs_names_make_unique()
    adata.var_names_make_unique()
    glass = beside_tissue(adata)
    if glass.any():
        notes.append(f"{glass.sum():,} spots beside the tissue (in_tissue 0)")
        adata = adata[~glass].copy()
    positions = np.asarray(adata.obsm.get("spatial", "none"))
    if is_numeric(positions):
        adata.obsm["spatial"] = positions.astype(float)
    if adata.X is not None and check_matrix(adata.X):
        raise SliceError(f"X is damaged ({check_matrix(adata.X)}).")
    take_counts(adata)
    if adata.X is not None and is_numeric(adata.X):
        adata.X = _csr(adata.X)
        useless, why = _useless_genes(adata)
        notes += why
        keep_genes = ~useless
        spots = (adata.X if keep_genes.all() else adata.X[:, keep_genes]).getnnz(axis=1) > 0
        if not spots.all():
            notes.append(f"{(~spots).sum():,} spots without counts")
        if not (spots.all() and keep_genes.all()):
            adata = adata[spots, keep_genes].copy()
    record(adata, dropped="; ".join(notes))
    return adata


def _useless_genes(adata: AnnData) -> tuple[np.ndarray, list[str]]:
    """Say which genes are controls, NaN everywhere, or empty; and name them."""
    control = control_features(adata)
    n_missing = np.bincount(adata.X.indices[np.isnan(adata.X.data)], minlength=adata.n_vars)
    unmeasured = (n_missing == adata.n_obs) & ~control & (adata.n_obs > 0)
    empty = (adata.X.getnnz(axis=0) == 0) & ~control
    notes = []
    if control.any():
        notes.append(f"control probes {list_some(adata.var_names[control])}")
    if unmeasured.any():
        notes.append(f"genes not measured: {list_some(adata.var_names[unmeasured])}")
    if empty.any():
        notes.append(f"{empty.sum():,} genes without counts")
    return control | unmeasured | empty, notes


def take_counts(adata: AnnData) -> None:
    """Put counts into ``X`` where they are found, and record which kind of values it holds."""
    if adata.X is not None and not is_numeric(adata.X):
        return
    place = find_counts(adata)
    if place not in ("", "X"):
        if place == "raw.X":
            adata.X = adata.raw.X[:, raw_columns(adata)]
        else:
            key = next(key for key in adata.layers if place == f"layers[{key!r}]")
            adata.X = adata.layers.pop(key)
        adata.uns.pop("log1p", None)
        record(adata, counts_from=place, values="counts")
        remark(adata, f"counts taken from {place}")
        return
    if adata.X is None or 0 in adata.shape:
        return
    found = slice_kind(adata)
    record(adata, values=found.kind)
    if found.kind != "counts" and found.kind != "centred":
        guess = "" if found.sure else ", by their size (if not, set uns['genot']['values'])"
        remark(adata, f"no counts found: X holds {found}{guess}")


def _csr(X: Any) -> sparse.csr_matrix:
    """Return a matrix as CSR float32 with sorted indices and no stored zeros."""
    X = sparse.csr_matrix(X, dtype=np.float32)
    X.eliminate_zeros()
    X.sort_indices()
    return X
