"""Files, folders and objects to slices: which reader knows a path, and one form for what it gives.

Visium and the other instruments have files of their own; AnnData and SpatialData, in any packing,
are read here. ``data/README.md`` describes the layout of a local folder: a folder per data set, in
it a folder or file per section. Names are discovered: a section put beside the others is found.
"""

from __future__ import annotations

import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..arguments import checked
from ..slices.sections import Slices, as_list, control_features, list_some
from ..slices.slices import (
    SliceError,
    add_labels,
    beside_tissue,
    covers_section,
    positions_elsewhere,
    record,
    remark,
    xy_columns,
)
from ..slices.values import (
    check_matrix,
    find_counts,
    is_numeric,
    plain_matrix,
    raw_columns,
    slice_kind,
)
from .downloads import MERFISH_SECTIONS, MERFISH_STACK, short_name
from .instruments import FILE_READERS, FOLDER_READERS
from .tables import (
    PACKED,
    check_structure,
    doubled_names_allowed,
    files_in,
    first_line,
    unpacked_file,
)
from .visium import hd_choices, read_space_ranger, sections_beside, space_ranger_folder

LABEL_FILE = "labels.tsv"  # in the folder of a section: barcode, label
LABEL_MAP = "barcode_level_layer_map.tsv"  # beside the sections: barcode, section, label

_SLICE_FILES = re.compile(  # the zarr of a Xenium are parts of one slice
    r"(?!.*(cells|cell_feature_matrix|transcripts|analysis)\.zarr)"
    r".*\.(h5ad|gef|gem|cgem|bgem|zarr\.zip|h5ad\.zip)(\.(gz|bz2|xz|zst))?",
    re.IGNORECASE,
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
    known = [is_zarr, *(known for known, _ in FOLDER_READERS)]
    inside = (path, path / "outs")
    return next((place for place in inside if any(one(place) for one in known)), None)


def _read(path: Path, name: str, bin_size: int | str | None = None) -> AnnData:
    """Read a slice with the reader that knows the path."""
    if path.is_file():
        named = re.fullmatch(r"bin\d+|cell_?bins?|cells", name, re.IGNORECASE)
        bin_size = bin_size or (name if named else None)  # a name may ask for bins: "bin100"
        reader = next((reader for known, reader in FILE_READERS if known(path)), None)
        return reader(path, bin_size) if reader else read_anndata(path)
    if is_zarr(path):
        return read_zarr(path, name, bin_size)
    for known, reader in FOLDER_READERS:
        if known(path):
            return reader(path)
    return read_space_ranger(path, name=name)


def find_slices(folder: Path) -> dict[tuple[str, str], Path]:
    """Find every slice in a folder of data sets: (dataset, name) -> file or folder."""
    found: dict[tuple[str, str], Path] = {}
    for dataset in sorted(folder.iterdir()):
        if dataset.is_dir() and dataset.name[0] != ".":
            inside = slices_inside(dataset).items()
            found |= {(dataset.name, name): path for name, path in inside}
    return found


def slices_inside(dataset: Path) -> dict[str, Path]:
    """Find the slices of one data set: name → file or folder that a reader knows."""
    found: dict[str, Path] = {}
    for path in files_in(dataset):
        if path.name == MERFISH_STACK:
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


def slices_below(path: Path, depth: int = 3) -> dict[str, Path]:
    """Find the slices in a folder, or, where it holds none itself, in the folders in it."""
    found = slices_inside(path)
    if found or not depth:
        return found
    deeper = [
        (folder.name, *pair)
        for folder in files_in(path)
        if folder.is_dir()
        for pair in slices_below(folder, depth - 1).items()
    ]
    names = [name for _, name, _ in deeper]
    return {
        name if names.count(name) == 1 else f"{folder}_{name}": place
        for folder, name, place in deeper
    }


def _stem(path: Path) -> str:
    """Return the name of a file without its endings."""
    ends = r"(\.(h5ad|gef|gem|cgem|bgem|zarr|zip|gz|bz2|xz|zst))+$"
    return re.sub(ends, "", path.name, flags=re.IGNORECASE)


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
    adata = _read(path, name, bin_size)
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
# AnnData in files, and SpatialData (Marconato et al. 2025,
# https://doi.org/10.1038/s41592-024-02212-x), which keeps counts in tables and places in elements
# (circles, polygons, labels, points) that the tables annotate. A slice is one table's rows of one
# region, at the centroids of its elements, in one coordinate system.

_FOREIGN = {  # what other files are, and the way to an .h5ad
    ".rds": "an R object: in R, `zellkonverter::writeH5AD(sce, 'slice.h5ad')` "
    "(Seurat: `as.SingleCellExperiment` first)",
    **dict.fromkeys(
        (".rdata", ".rda", ".qs"),
        "R objects: load them in R and write an .h5ad with zellkonverter::writeH5AD",
    ),
    ".h5seurat": "a Seurat object on disk: in R, `SeuratDisk::Convert(file, dest = 'h5ad')`",
    ".loom": "a loom file: `anndata.io.read_loom(path).write_h5ad('slice.h5ad')`, and its "
    "positions into obsm['spatial']",
    ".h5mu": "several modalities: `mudata.read(path)['rna'].write_h5ad('slice.h5ad')`",
    ".csv": "a table; a slice needs counts and positions: read it with pandas, make an "
    "anndata.AnnData, put x and y into obsm['spatial'] and write_h5ad",
    ".tar": "an archive: unpack it and give the folder",
}
_FOREIGN |= {end: _FOREIGN[".csv"] for end in (".tsv", ".txt", ".xlsx", ".parquet")}
_FOREIGN |= {end: _FOREIGN[".tar"] for end in (".tgz", ".tar.gz", ".zip")}
_USUAL_BINS = "square_008um"
_DAMAGED = "is no .h5ad file (not HDF5), or it is cut off. Get it again."


def read_anndata(path: Path) -> AnnData:
    """Read an AnnData from HDF5, packed or not, whatever it is called."""
    if zipfile.is_zipfile(path):
        return _from_zip(path)
    with unpacked_file(path) as plain:
        if not h5py.is_hdf5(plain):
            raise ValueError(f"{path} {_what_it_is(path)}")
        try:
            with doubled_names_allowed():
                adata = ad.read_h5ad(plain)
        except Exception as error:  # what a damaged file raises depends on where the damage is
            what = _what_it_is(path)
            known = f"{path} {what}" if what != _DAMAGED else ""
            raise ValueError(
                known
                or f"{path} cannot be read as .h5ad ({first_line(error)}). A 10x .h5 file has no "
                "positions: give the Space Ranger folder instead."
            ) from error
    check_structure(adata, path)
    return adata


def _what_it_is(path: Path) -> str:
    """Say what a file is that is no HDF5, and what to do."""
    name = path.name.lower()
    for end in PACKED:
        name = name.removesuffix(end)
    for end, what in _FOREIGN.items():
        if name.endswith(end):
            return f"is {what}."
    return _DAMAGED


def _from_zip(path: Path) -> AnnData:
    """Read the one .h5ad in a zip archive, or a zarr store that was zipped."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="genot-") as folder:
        inside = archive.namelist()
        names = [name for name in inside if name.lower().endswith((".h5ad", ".h5ad.gz"))]
        stores = [name for name in inside if name.split("/")[-1] in ("zarr.json", ".zgroup")]
        if len(names) == 1:
            return read_anndata(Path(archive.extract(names[0], folder)))
        if stores and not names:
            safe = [name for name in inside if ".." not in Path(name).parts and name[:1] != "/"]
            archive.extractall(folder, safe)
            top = min(stores, key=len).rpartition("/")[0]
            return read_zarr(Path(folder) / top)
    raise ValueError(f"{path} is an archive with {len(names)} .h5ad files: unpack it and give one.")


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def is_spatialdata(thing: Any) -> bool:
    """Say whether an object is a SpatialData, or a path is that of one on disk."""
    if isinstance(thing, str | Path):
        attributes = _attributes(Path(thing))
        return "spatialdata_attrs" in attributes or (Path(thing) / "tables").is_dir()
    return type(thing).__name__ == "SpatialData" and hasattr(thing, "tables")


def _attributes(path: Path) -> dict[str, Any]:
    """Return the attributes at the top of a zarr store."""
    for name in ("zarr.json", ".zattrs"):
        if (path / name).is_file():
            try:
                found = json.loads((path / name).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return {}
            return found.get("attributes", found) if name == "zarr.json" else found
    return {}


def read_zarr(path: Path, name: str | None = None, bin_size: int | str | None = None) -> AnnData:
    """Read a slice from a zarr store, of AnnData or of SpatialData."""
    spatial = is_spatialdata(path)
    try:
        with doubled_names_allowed():
            stored = _open_spatialdata(path) if spatial else ad.read_zarr(path)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as zarr of AnnData or SpatialData ({first_line(error)})."
        ) from error
    if spatial:
        return from_spatialdata(stored, name, bin_size=bin_size)
    check_structure(stored, path)
    return stored


@contextmanager
def _quiet_spatialdata() -> Iterator[None]:
    """Silence what spatialdata and its libraries say to their own developers."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield


def _open_spatialdata(path: Path) -> Any:
    """Open a SpatialData without its images, which are not needed."""
    import spatialdata

    with _quiet_spatialdata():
        return spatialdata.read_zarr(path, selection=("tables", "shapes", "points", "labels"))


def regions_of(thing: Any) -> list[str]:
    """List the slices in a SpatialData: one for each region of each table of counts."""
    sdata = _open_spatialdata(Path(thing)) if isinstance(thing, str | Path) else thing
    return list(_choices(sdata))


def _choices(sdata: Any) -> dict[str, tuple[str, str | None]]:
    """Return name of a slice → (table, region)."""
    pairs: list[tuple[str, str | None]] = []
    for table, adata in sdata.tables.items():
        key = adata.uns.get("spatialdata_attrs", {}).get("region_key")
        regions = map(str, pd.unique(adata.obs[key].dropna())) if key in adata.obs else [None]
        pairs += [(table, region) for region in regions]
    placed = [pair for pair in pairs if pair[1] or "spatial" in sdata.tables[pair[0]].obsm]
    pairs = placed or pairs  # a table of something else, without places, is no slice
    often = [region for _, region in pairs]
    return {
        (region if often.count(region) == 1 else f"{table}/{region}") if region else table: (
            table,
            region,
        )
        for table, region in pairs
    }


def from_spatialdata(
    sdata: Any, name: str | None = None, *, bin_size: int | str | None = None
) -> AnnData:
    """Take a slice out of a SpatialData object."""
    choices = _choices(sdata)
    if not choices:
        raise SliceError("the SpatialData object has no table: counts have to be made first.")
    chosen = _chosen(choices, name, bin_size)
    table, region = choices[chosen]
    source = sdata.tables[table]
    about = dict(source.uns.get("spatialdata_attrs", {}))
    if region is not None:
        here = (source.obs[about["region_key"]].astype(str) == region).to_numpy()
        adata = in_memory(source[here] if not here.all() else source)
        adata.uns["spatialdata_attrs"] = {**about, "region": region}
        if region in _elements(sdata):
            points, system = _centroids(sdata, region, adata.obs[about["instance_key"]])
            known = np.isfinite(points).all(axis=1)
            if not known.all():
                remark(adata, f"{(~known).sum():,} rows without an element left out")
            adata = adata[known].copy()
            adata.obsm["spatial"] = points[known]
            remark(adata, f"positions: centroids of {region!r} in coordinate system {system!r}")
    else:
        adata = in_memory(source)
    check_structure(adata, f"table {table!r}")
    others = [one for one in choices if one != chosen]
    also = f"; also there: {', '.join(others)}" if others else ""
    remark(adata, f"SpatialData, table {table!r}{also}")
    if "spatial" not in adata.obsm:
        raise SliceError(
            f"table {table!r} annotates no element that is there (region {region!r}; elements: "
            f"{', '.join(_elements(sdata)) or 'none'}), so nothing says where its rows lie."
        )
    return adata


def _chosen(choices: Mapping[str, Any], name: str | None, bin_size: int | str | None) -> str:
    """Return which of several slices is meant."""
    if name in choices:
        return name
    by_table = [key for key, (table, _) in choices.items() if table == name]
    if len(by_table) == 1 or len(choices) == 1:
        return (by_table or list(choices))[0]
    bins = f"square_{int(bin_size):03d}um" if str(bin_size or "").isdecimal() else _USUAL_BINS
    usual = [key for key, (table, _) in choices.items() if table.endswith(bins)]
    if len(usual) == 1:
        return usual[0]
    raise SliceError(
        f"the SpatialData object holds {len(choices)} slices: {', '.join(choices)}. Name one, or "
        "read all with load_slices(...)."
    )


def _elements(sdata: Any) -> dict[str, Any]:
    return {**dict(sdata.shapes), **dict(sdata.labels), **dict(sdata.points)}


def _centroids(sdata: Any, region: str, instances: pd.Series) -> tuple[np.ndarray, str]:
    """Return centroids of the elements that rows annotate, and in which coordinate system."""
    import spatialdata
    from spatialdata.transformations import get_transformation

    element = _elements(sdata)[region]
    systems = list(get_transformation(element, get_all=True))
    plain = [one for one in systems if "downscaled" not in one]  # not called after a smaller image
    system = "global" if "global" in systems else (plain or systems)[0]
    with _quiet_spatialdata():
        places = spatialdata.get_centroids(element, coordinate_system=system).compute()
    places.index = places.index.astype(str)
    places = places[~places.index.duplicated()].reindex(instances.astype(str))
    return places[["x", "y"]].to_numpy(dtype=float), system


@checked
def add_table(sdata: Any, slices: Slices, *, table_name: str = "genot") -> None:
    """Write slices that came from a SpatialData object back to it, as a table.

    Parameters
    ----------
    sdata
        The object. Gets ``tables[table_name]``, which annotates the elements that the slices came
        from; call ``sdata.write_element(table_name)`` to have it on disk.
    slices
        One slice from :func:`from_spatialdata`, or a list or dictionary of them, with results.
    table_name
        Name of the table; an old one is replaced.

    Raises
    ------
    SliceError
        If a slice does not know the elements it belongs to.
    """
    from spatialdata.models import TableModel

    found = as_list(slices)
    about = [dict(adata.uns.get("spatialdata_attrs", {})) for adata in found]
    if not all({"region_key", "instance_key", "region"} <= set(one) for one in about):
        raise SliceError(
            "uns['spatialdata_attrs'] is missing: the slice does not say which elements it "
            "annotates. Read it from the SpatialData object with load_slice."
        )
    key, instance = about[0]["region_key"], about[0]["instance_key"]
    one = len(found) == 1
    joined = found[0].copy() if one else ad.concat(found, join="outer", uns_merge="first")
    joined.uns.pop("spatialdata_attrs", None)
    joined.obs[key] = pd.Categorical(joined.obs[key].astype(str))
    with _quiet_spatialdata():
        table = TableModel.parse(
            joined, region=sorted(joined.obs[key].unique()), region_key=key, instance_key=instance
        )
        sdata.tables[table_name] = table


# -------------------------------------------------------------------------------------------------
# One form for whatever was read.


def _two_columns(table: Any) -> tuple[np.ndarray, str]:
    """Return x and y as numbers, and in words what had to be done to them."""
    if isinstance(table, pd.DataFrame):
        named, how = xy_columns(table), "was a table: taken as an array"
        numbers = table[list(named)] if named else table.iloc[:, :2]
    else:
        values = np.asarray(table)
        words = values.dtype.kind in "OUS"
        flat = values.ndim == 2 and values.shape[1] == 3 and (values[:, 2:] == values[:1, 2:]).all()
        if not (words or flat) or values.ndim != 2:
            return values, ""
        how = "held text: read as numbers" if words else "had a third column, all alike: left out"
        numbers = pd.DataFrame(values[:, :2] if flat else values)
    return numbers.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float), how


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
    if damaged := check_matrix(adata.X):
        raise SliceError(f"X is damaged ({damaged}).")
    take_counts(adata)
    if adata.X is not None and is_numeric(adata.X):
        adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
        adata.X.eliminate_zeros()
        adata.X.sort_indices()
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
    if found.kind in ("values", "logarithms"):
        guess = "" if found.sure else ", by their size (if not, set uns['genot']['values'])"
        remark(adata, f"no counts found: X holds {found}{guess}")


def in_memory(adata: AnnData) -> AnnData:
    """Return a slice with everything in memory, in matrices that every step knows."""
    backed = getattr(adata, "isbacked", False)
    adata = adata.to_memory() if backed or _lazy(adata) else adata.copy()
    make_plain(adata)
    return adata


def make_plain(adata: AnnData) -> None:
    """Turn matrices of a slice, in place, into kinds that scanpy and scikit-learn know."""
    for key in {"genot", "log1p"} & set(adata.uns):
        if not isinstance(adata.uns[key], Mapping):
            adata.uns[key] = {}
    for slot in ("obs", "var"):
        table = getattr(adata, slot)
        if not table.columns.is_unique:
            remark(adata, f"of the columns of {slot} with one name the first kept")
            setattr(adata, slot, table.loc[:, ~table.columns.duplicated()].copy())
        if not all(isinstance(name, str) for name in table.index):  # NaN
            getattr(adata, slot).index = table.index.astype(str)
    if adata.X is not None and (plain := plain_matrix(adata.X)) is not adata.X:
        adata.X = plain
    for slot in (adata.layers, adata.obsp):
        for key in list(slot):
            plain = plain_matrix(slot[key])
            if plain is not slot[key]:
                slot[key] = plain


def _lazy(adata: AnnData) -> bool:
    """Say whether any part waits to be computed."""
    parts = [adata.X, *adata.layers.values(), *adata.obsm.values(), *adata.obsp.values(), adata.obs]
    return any(
        hasattr(part, "compute") or type(part).__module__.startswith("anndata.exp")
        for part in parts
    )


def mend_positions(adata: AnnData) -> None:
    """Bring ``obsm["spatial"]`` into the usual form where it is clear what is meant."""
    stereopy = {"sn", "bin_type", "bin_size"} & set(adata.uns)
    source = "spatial" if "spatial" in adata.obsm else positions_elsewhere(adata)
    if source is not None:
        slot = isinstance(source, str)
        table = adata.obsm[source] if slot else adata.obs[list(source)]
        where = f"obsm[{source!r}]" if slot else f"obs[{source[0]!r}] and obs[{source[1]!r}]"
        numbers, how = _two_columns(table)
        if source != "spatial" or how:
            adata.obsm["spatial"] = numbers
            here = source == "spatial"
            remark(adata, f"{where} {how}" if here else f"positions taken from {where}")
        if not slot and source[0].lower().endswith("_mm"):
            record(adata, micrometres_per_unit=1000.0)
    about = adata.uns.get("attr", {})
    resolution = about.get("resolution") if isinstance(about, Mapping) else None
    resolution = adata.uns.get("resolution", resolution)
    known = {"micrometres_per_unit", "spatial_unit"} & set(adata.uns.get("genot", {}))
    number = isinstance(resolution, int | float | np.number)
    if stereopy and not known and number and resolution > 0:
        record(adata, micrometres_per_unit=float(resolution) / 1000.0)
