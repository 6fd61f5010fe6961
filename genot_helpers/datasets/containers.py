"""Containers: AnnData files of any packing, AnnData and SpatialData in zarr, and objects in memory.

A SpatialData object (Marconato et al. 2025, https://doi.org/10.1038/s41592-024-02212-x) keeps
counts in tables and places in elements (circles, polygons, labels, points) that the tables
annotate. A slice is one table's rows of one region, at the centroids of its elements, in one
coordinate system. What was found can be written back as a table of the same object
(:func:`add_table`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from ..arguments import checked
from ..slices.slices import SliceError, record, remark
from ..slices.values import plain_matrix
from .tables import check_structure, unpacked_file

__all__ = [
    "add_table",
    "from_spatialdata",
    "in_memory",
    "is_spatialdata",
    "is_zarr",
    "make_plain",
    "mend_positions",
    "read_anndata",
    "read_zarr",
    "regions_of",
]

_FOREIGN = {  # what other files are, and the way to an .h5ad
    ".rds": "an R object: in R, `zellkonverter::writeH5AD(sce, 'slice.h5ad')` "
    "(Seurat: `as.SingleCellExperiment` first)",
    ".rdata": "R objects: load them in R and write an .h5ad with zellkonverter::writeH5AD",
    ".rda": "R objects: load them in R and write an .h5ad with zellkonverter::writeH5AD",
    ".qs": "an R object: read it in R and write an .h5ad with zellkonverter::writeH5AD",
    ".h5seurat": "a Seurat object on disk: in R, `SeuratDisk::Convert(file, dest = 'h5ad')`",
    ".loom": "a loom file: `anndata.io.read_loom(path).write_h5ad('slice.h5ad')`, and its "
    "positions into obsm['spatial']",
    ".h5mu": "several modalities: `mudata.read(path)['rna'].write_h5ad('slice.h5ad')`",
    ".csv": "a table; a slice needs counts and positions: read it with pandas, make an "
    "anndata.AnnData, put x and y into obsm['spatial'] and write_h5ad",
    ".tar": "an archive: unpack it and give the folder",
    ".h5": "HDF5 but no .h5ad; a 10x .h5 file has no positions: give the Space Ranger folder",
}
_FOREIGN |= {end: _FOREIGN[".csv"] for end in (".tsv", ".txt", ".xlsx", ".parquet")}
_FOREIGN |= {end: _FOREIGN[".tar"] for end in (".tgz", ".tar.gz", ".zip")}
_POSITION_SLOTS = ("X_spatial", "spatial_coords", "X_spatial_coords")
_USUAL_BINS = "square_008um"


def read_anndata(path: Path) -> AnnData:
    """Read an AnnData from HDF5, packed or not, whatever it is called."""
    if zipfile.is_zipfile(path):
        return _from_zip(path)
    with unpacked_file(path) as plain:
        if not h5py.is_hdf5(plain):
            raise ValueError(f"{path} {_what_it_is(path)}")
        try:
            with warnings.catch_warnings():  # old formats and doubled names are dealt with here
                warnings.simplefilter("ignore", category=ad.OldFormatWarning)
                warnings.filterwarnings("ignore", message=".*names are not unique")
                adata = ad.read_h5ad(plain)
        except Exception as error:  # what a damaged file raises depends on where the damage is
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{path} cannot be read as .h5ad ({reason}). A 10x .h5 "
                "file has no positions: give the Space Ranger folder instead."
            ) from error
    check_structure(adata, path)
    return adata


def _what_it_is(path: Path) -> str:
    """Say what a file is that is no HDF5, and what to do."""
    name = path.name.lower()
    for end in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(end)
    for end, what in sorted(_FOREIGN.items(), key=lambda pair: -len(pair[0])):
        if name.endswith(end) and end != ".h5":
            return f"is {what}."
    return "is no .h5ad file (not HDF5), or it is cut off. Get it again."


def _from_zip(path: Path) -> AnnData:
    """Read the one .h5ad in a zip archive, or a zarr store that was zipped."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="genot-") as folder:
        names = [
            name for name in archive.namelist() if name.lower().endswith((".h5ad", ".h5ad.gz"))
        ]
        stores = [n for n in archive.namelist() if n.split("/")[-1] in ("zarr.json", ".zgroup")]
        if len(names) == 1:
            inside = Path(folder) / "slice.h5ad"
            with archive.open(names[0]) as packed, inside.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 22)
            return read_anndata(inside)
        if stores and not names:
            safe = [n for n in archive.namelist() if ".." not in Path(n).parts and n[:1] != "/"]
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
    try:
        if is_spatialdata(path):
            sdata = _open_spatialdata(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", category=ad.OldFormatWarning)
                warnings.filterwarnings("ignore", message=".*names are not unique")
                adata = ad.read_zarr(path)
    except SliceError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} cannot be read as zarr of AnnData or SpatialData ({reason})."
        ) from error
    if is_spatialdata(path):
        return from_spatialdata(sdata, name, bin_size=bin_size)
    check_structure(adata, path)
    return adata


def _open_spatialdata(path: Path) -> Any:
    """Open a SpatialData without its images, which are not needed."""
    import spatialdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return spatialdata.read_zarr(path, selection=("tables", "shapes", "points", "labels"))


def regions_of(thing: Any) -> list[str]:
    """List the slices in a SpatialData: one for each region of each table of counts."""
    sdata = _open_spatialdata(Path(thing)) if isinstance(thing, str | Path) else thing
    return list(_choices(sdata))


def _choices(sdata: Any) -> dict[str, tuple[str, str | None]]:
    """Return name of a slice → (table, region)."""
    found: dict[str, tuple[str, str | None]] = {}
    pairs = []
    for table, adata in sdata.tables.items():
        about = adata.uns.get("spatialdata_attrs", {})
        key = about.get("region_key")
        if key in adata.obs:
            pairs += [(table, str(region)) for region in pd.unique(adata.obs[key].dropna())]
        else:
            pairs.append((table, None))
    regions = [region for _, region in pairs]
    for table, region in pairs:
        plain = region is not None and regions.count(region) == 1
        found[region if plain else f"{table}/{region}" if region else table] = (table, region)
    return found


def from_spatialdata(
    sdata: Any,
    name: str | None = None,
    *,
    bin_size: int | str | None = None,
    coordinate_system: str | None = None,
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
        points, system, known = _centroids(
            sdata, region, adata.obs[about["instance_key"]], coordinate_system
        )
        if points is not None:
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


def _centroids(sdata: Any, region: str, instances: pd.Series, system: str | None):
    """Return centroids of the elements that rows annotate, where, and which rows have one."""
    import spatialdata
    from spatialdata.transformations import get_transformation

    element = _elements(sdata).get(region)
    if element is None:
        return None, None, None
    systems = list(get_transformation(element, get_all=True))
    if system is None:
        plain = [one for one in systems if "downscaled" not in one]
        system = "global" if "global" in systems else (plain or systems)[0]
    if system not in systems:
        raise SliceError(f"{region!r} does not lie in {system!r}; it does in {', '.join(systems)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places = spatialdata.get_centroids(element, coordinate_system=system).compute()
    places.index = places.index.astype(str)
    places = places[~places.index.duplicated()].reindex(instances.astype(str))
    points = places[["x", "y"]].to_numpy(dtype=float)
    return points, system, np.isfinite(points).all(axis=1)


@checked
def add_table(sdata: Any, slices: Any, *, table_name: str = "genot") -> None:
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

    found = (
        [slices]
        if isinstance(slices, AnnData)
        else list(slices.values() if isinstance(slices, Mapping) else slices)
    )
    about = [dict(adata.uns.get("spatialdata_attrs", {})) for adata in found]
    if not all({"region_key", "instance_key", "region"} <= set(one) for one in about):
        raise SliceError(
            "uns['spatialdata_attrs'] is missing: the slice does not say which elements it "
            "annotates. Read it from the SpatialData object with load_slice."
        )
    key, instance = about[0]["region_key"], about[0]["instance_key"]
    joined = (
        found[0].copy() if len(found) == 1 else ad.concat(found, join="outer", uns_merge="first")
    )
    joined.uns.pop("spatialdata_attrs", None)
    joined.obs[key] = pd.Categorical(joined.obs[key].astype(str))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = TableModel.parse(
            joined, region=sorted(joined.obs[key].unique()), region_key=key, instance_key=instance
        )
        sdata.tables[table_name] = table


def in_memory(adata: AnnData) -> AnnData:
    """Return a slice with everything in memory, in matrices that every step knows."""
    backed = getattr(adata, "isbacked", False)
    adata = adata.to_memory() if backed or _lazy(adata) else adata.copy()
    make_plain(adata)
    return adata


def make_plain(adata: AnnData) -> None:
    """Turn matrices of a slice, in place, into kinds that scanpy and scikit-learn know."""
    if adata.X is not None:
        plain = plain_matrix(adata.X)
        if plain is not adata.X:
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
    if "spatial" in adata.obsm and isinstance(adata.obsm["spatial"], pd.DataFrame):
        table = adata.obsm["spatial"]
        lower = {str(column).lower(): column for column in table}
        named = [lower[axis] for axis in ("x", "y") if axis in lower]
        numbers = table[named] if len(named) == 2 else table.iloc[:, :2]
        adata.obsm["spatial"] = numbers.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
        remark(adata, "obsm['spatial'] was a table: taken as an array")
    stereopy = {"sn", "bin_type", "bin_size"} & set(adata.uns)
    if "spatial" not in adata.obsm:
        slot = next((key for key in _POSITION_SLOTS if key in adata.obsm), None)
        if slot is not None:
            adata.obsm["spatial"] = np.asarray(adata.obsm[slot], dtype=float)[:, :2]
            remark(adata, f"positions taken from obsm[{slot!r}]")
        elif stereopy and {"x", "y"} <= set(adata.obs):
            adata.obsm["spatial"] = adata.obs[["x", "y"]].to_numpy(dtype=float)
            remark(adata, "positions taken from obs['x'] and obs['y'] (Stereopy)")
    about = adata.uns.get("attr", {})
    resolution = about.get("resolution") if isinstance(about, Mapping) else None
    resolution = adata.uns.get("resolution", resolution)
    known = {"micrometres_per_unit", "spatial_unit"} & set(adata.uns.get("genot", {}))
    if (
        stereopy
        and not known
        and isinstance(resolution, int | float | np.number)
        and resolution > 0
    ):
        record(adata, micrometres_per_unit=float(resolution) / 1000.0)
