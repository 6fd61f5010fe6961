"""Slices in folders: which ones are there, and how each is read.

The layout is described in ``data/README.md``: a folder per data set, in it a Space Ranger folder or
an ``.h5ad`` file per section. Names are discovered, so a section put beside the others is found.
"""

from __future__ import annotations

from pathlib import Path

import anndata as ad
from anndata import AnnData

from ..slices.labels import add_labels, covers_section
from ..slices.slices import SliceError
from .readers import is_space_ranger, read_h5ad, read_space_ranger
from .registry import MERFISH_SECTIONS, MERFISH_STACK, short_name

__all__ = ["find_slices", "read_slice", "slices_inside", "space_ranger_folder"]

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
