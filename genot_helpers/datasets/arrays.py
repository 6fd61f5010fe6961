"""Capture arrays other than Visium: Stereo-seq (GEF, GEM) and Slide-seq folders.

A GEF file is HDF5: for every gene a run of (x, y, count) at the finest level, DNA nanoballs 0.5 µm
apart. Bins are sums of n × n nanoballs, made here as a sparse sum, so that no dense array of the
chip is needed. A GEM file is the same as text. In a cell-bin file counts are those of cells. The
formats are those of the Stereo-seq Analysis Workflow, https://github.com/STOmics/SAW, and of
Stereopy. A Slide-seq folder holds a table of bead locations and one of counts, genes × beads.
"""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..slices.slices import SliceError, record, remark
from .tables import open_unpacked, read_10x_mtx, read_table, read_wide_counts, unpacked_file

__all__ = [
    "bin_counts",
    "is_gef",
    "is_gem",
    "is_slideseq",
    "read_gef",
    "read_gem",
    "read_slideseq",
]

_NANOBALL_UM = 0.5  # centre to centre; GEF files state it in nm
_USUAL_BIN = 50  # nanoballs: 25 µm
_GEM_NAMES = (".gem", ".gem.gz", ".gem.bz2", ".gem.xz", ".gem.zst", ".bgem", ".cgem")
_GENE = ("geneid", "gene", "gene_id", "genename", "gene_name", "genes")
_COUNT = ("midcount", "midcounts", "umicount", "umicounts", "umi", "count", "counts", "values")
_CELL = ("cellid", "cell_id", "cell", "label", "cellbin")
_LOCATIONS = re.compile(
    r"(?P<prefix>.*?)_?(bead_?locations?(forr)?|matched_?bead_?locations?|bead_?coords?|locations?)"
    r"\.(csv|tsv|txt)(\.(gz|bz2|xz|zst))?",
    re.IGNORECASE,
)
_EXPRESSION = re.compile(
    r"(?P<prefix>.*?)[_.]?(mappeddgeforr|digital_?expression|dge|expression|counts?)"
    r"\.(csv|tsv|txt)(\.(gz|bz2|xz|zst))?",
    re.IGNORECASE,
)


def is_gef(path: Path) -> bool:
    """Say whether a file is a GEF: HDF5 with the groups of Stereo-seq."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return path.is_file() and path.name.lower().endswith((".gef", ".gef.gz"))
    with h5py.File(path, "r") as file:
        return "geneExp" in file or "cellBin" in file


def is_gem(path: Path) -> bool:
    """Say whether a file is called like a GEM, packed or not."""
    return path.is_file() and path.name.lower().endswith(_GEM_NAMES)


def bin_counts(
    genes: np.ndarray, x: np.ndarray, y: np.ndarray, counts: np.ndarray, side: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Sum counts over square bins."""
    column, row = np.asarray(x, np.int64) // side, np.asarray(y, np.int64) // side
    low = (column.min(), row.min()) if len(column) else (0, 0)
    width = int(column.max(initial=0) - low[0]) + 1
    key = (row - low[1]) * width + (column - low[0])
    places, member = np.unique(key, return_inverse=True)
    n_genes = int(np.max(genes, initial=-1)) + 1
    values = sparse.coo_matrix(
        (np.asarray(counts, np.float32), (member.ravel(), genes)), shape=(len(places), n_genes)
    ).tocsr()
    corners = np.column_stack([places % width + low[0], places // width + low[1]])
    return values, corners


def _asked_bin(bin_size: int | str | None) -> int | str | None:
    """Read a size of bins: 50, "50", "bin50", or "cells"."""
    if bin_size is None:
        return None
    text = str(bin_size).lower().removeprefix("bin").removesuffix("s")
    if text in ("cell", "cellbin"):
        return "cells"
    if not text.isdecimal() or int(text) < 1:
        raise SliceError(f"bin_size is {bin_size!r}; give a whole number of nanoballs, or 'cells'.")
    return int(text)


def read_gef(path: Path, bin_size: int | str | None = None) -> AnnData:
    """Read a GEF file of Stereo-seq, square bins or cells."""
    wanted = _asked_bin(bin_size)
    try:
        with unpacked_file(path) as plain, h5py.File(plain, "r") as file:
            if "cellBin" in file and wanted in (None, "cells"):
                return _gef_cells(file["cellBin"])
            if "geneExp" not in file:
                there = "cells only" if "cellBin" in file else ", ".join(file) or "nothing"
                raise SliceError(f"{path} holds no square bins ({there}); bin_size='cells'.")
            if wanted == "cells":
                raise SliceError(f"{path} holds square bins and no cells; give a number.")
            return _gef_bins(file["geneExp"], wanted or _USUAL_BIN, path)
    except (OSError, KeyError, IndexError) as error:
        raise SliceError(f"{path} cannot be read as GEF ({error}).") from error


def _gef_bins(group: h5py.Group, side: int, path: Path) -> AnnData:
    """Read the bins of a size, or the largest finer ones that they can be summed from."""
    sizes = sorted(
        int(name[3:]) for name in group if name.startswith("bin") and name[3:].isdecimal()
    )
    finer = [size for size in sizes if side % size == 0]
    finer = [size for size in finer if {"expression", "gene"} <= set(group[f"bin{size}"])]
    if not finer:
        raise SliceError(f"{path} holds bins of {sizes} nanoballs: none gives bin_size={side}.")
    level = group[f"bin{finer[-1]}"]
    table, spots = level["gene"][:], level["expression"]
    numbers = np.repeat(np.arange(len(table)), table["count"].astype(np.int64))
    starts = table["offset"].astype(np.int64)
    if len(numbers) != len(spots) or (np.diff(starts) < 0).any():
        raise SliceError(
            f"{path} is damaged: its genes announce {len(numbers)} of {len(spots)} values."
        )
    x, y, counts = spots["x"], spots["y"], spots["count"]
    # Some writers give places in nanoballs at every level, others number the bins.
    pitch = finer[-1] if _step(x) % finer[-1] or _step(y) % finer[-1] else 1
    place = [np.asarray(axis, np.int64) * pitch for axis in (x, y)]
    values, corners = bin_counts(numbers, *place, counts, side)
    scale = _resolution(spots, level)
    name = "geneName" if "geneName" in table.dtype.names else table.dtype.names[0]
    adata = _as_slice(values, _text(table[name]), (corners + 0.5) * side * scale)
    adata.obs_names = [f"{a * side}_{b * side}" for a, b in corners]
    if "geneID" in table.dtype.names and name != "geneID":
        adata.var["gene_ids"] = _text(table["geneID"])
    others = ", ".join(map(str, sizes))
    _say(
        adata,
        f"Stereo-seq, bins of {side} nanoballs ({side * scale:g} µm); bin_size=... for others"
        f" (in the file: {others})",
    )
    return adata


def _step(x: np.ndarray) -> int:
    """Return the greatest number that all differences of places are multiples of."""
    there = np.unique(np.asarray(x, np.int64))
    return int(np.gcd.reduce(np.diff(there))) if len(there) > 1 else 0


def _resolution(*places: h5py.Dataset | h5py.Group) -> float:
    """Return µm per nanoball, which files state in nm."""
    for place in places:
        if "resolution" in place.attrs:
            value = float(np.ravel(place.attrs["resolution"])[0])
            if value > 0:
                return value / 1000.0
    return _NANOBALL_UM


def _text(values: np.ndarray) -> list[str]:
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _as_slice(values: sparse.csr_matrix, names: list[str], points: np.ndarray) -> AnnData:
    if values.shape[1] < len(names):  # the last genes have no count
        values.resize(values.shape[0], len(names))
    adata = AnnData(values, var=pd.DataFrame(index=names))
    adata.var_names_make_unique()
    adata.obsm["spatial"] = np.asarray(points, dtype=float)
    return adata


def _say(adata: AnnData, text: str) -> None:
    remark(adata, text)
    record(adata, micrometres_per_unit=1.0, spatial_unit="µm")


def _gef_cells(group: h5py.Group) -> AnnData:
    """Read the cells of a cell-bin file."""
    cells, counts, genes = group["cell"][:], group["cellExp"], group["gene"][:]
    numbers = np.asarray(counts["geneID"], np.int64)
    lengths = cells["geneCount"].astype(np.int64)
    if lengths.sum() != len(numbers) or numbers.max(initial=-1) >= len(genes):
        raise SliceError("the cell-bin GEF is damaged: cells and counts do not fit together.")
    pointer = np.concatenate([[0], np.cumsum(lengths)])
    values = sparse.csr_matrix(
        (counts["count"].astype(np.float32), numbers, pointer), shape=(len(cells), len(genes))
    )
    scale = _resolution(group, group["cell"])
    name = "geneName" if "geneName" in genes.dtype.names else genes.dtype.names[0]
    adata = _as_slice(values, _text(genes[name]), np.column_stack([cells["x"], cells["y"]]) * scale)
    names = cells["id"] if "id" in cells.dtype.names else np.arange(len(cells))
    adata.obs_names = [str(number) for number in names]
    if "area" in cells.dtype.names:
        adata.obs["area"] = cells["area"]
    _say(adata, f"Stereo-seq, cells of a cell-bin file ({scale:g} µm per nanoball)")
    return adata


def read_gem(path: Path, bin_size: int | str | None = None) -> AnnData:
    """Read a GEM file of Stereo-seq, text, packed or not."""
    wanted = _asked_bin(bin_size)
    table, header = _gem_table(path)
    columns = {str(name).strip().lower(): name for name in table.columns}
    gene = _first(columns, ("genename", "gene_name", *_GENE))
    count, cell = _first(columns, _COUNT), _first(columns, _CELL)
    x, y = _first(columns, ("x",)), _first(columns, ("y",))
    if None in (gene, count, x, y):
        raise SliceError(
            f"{path} is no GEM: columns {list(table.columns)}; needed: geneID, x, y, MIDCount."
        )
    table = table.dropna(subset=[gene, x, y, count])
    codes, names = pd.factorize(table[gene].astype(str), sort=True)
    numbers = table[[x, y, count]].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any(axis=None):
        raise SliceError(f"{path}: columns {x}, {y}, {count} hold something that is no number.")
    place = [np.floor(numbers[axis].to_numpy()).astype(np.int64) for axis in (x, y)]
    molecules = numbers[count].to_numpy(np.float32)
    scale = float(header.get("resolution", 1000 * _NANOBALL_UM)) / 1000.0
    if wanted == "cells":
        if cell is None:
            raise SliceError(f"{path} has no column of cells: {list(table.columns)}.")
        return _gem_cells(codes, names, place, molecules, table[cell], scale)
    side = wanted or _USUAL_BIN
    step = int(np.gcd(_step(place[0]), _step(place[1]))) or 1
    if wanted is None and side % step:
        side = step  # binned when it was written
    values, corners = bin_counts(codes, *place, molecules, side)
    adata = _as_slice(values, list(names), (corners + 0.5) * side * scale)
    adata.obs_names = [f"{a * side}_{b * side}" for a, b in corners]
    also = "; bin_size='cells' for its cells" if cell is not None else ""
    _say(
        adata,
        f"Stereo-seq, bins of {side} nanoballs ({side * scale:g} µm); bin_size=... for others"
        f"{also}",
    )
    return adata


def _first(columns: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _gem_table(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the table and the facts in the lines before it."""
    header: dict[str, str] = {}
    try:
        with open_unpacked(path) as file:
            lines = 0
            for raw in file:
                line = raw.decode("utf-8-sig", "replace").strip()
                if not line.startswith("#"):
                    break
                key, _, value = line.lstrip("# ").partition("=")
                header[key.strip().lower()] = value.strip()
                lines += 1
        separator = "\t" if "\t" in line else "," if "," in line else r"\s+"
        with open_unpacked(path) as file:
            table = pd.read_csv(file, sep=separator, skiprows=lines, encoding="utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        raise SliceError(f"{path} cannot be read as GEM ({error}).") from error
    if not re.fullmatch(r"\d+(\.\d+)?", header.get("resolution", "")):
        header.pop("resolution", None)
    return table, header


def _gem_cells(codes, names, place, molecules, cells: pd.Series, scale: float) -> AnnData:
    """Sum the counts of each cell; it lies at the mean place of its molecules."""
    outside = cells.astype(str).str.fullmatch(r"0|0\.0|-1|nan|None|")
    inside = ~(cells.isna() | outside).to_numpy(dtype=bool)  # pandas 3 keeps what is missing
    member, ids = pd.factorize(cells[inside].astype(str).str.replace(r"\.0$", "", regex=True))
    weights = molecules[inside].astype(float)
    values = sparse.coo_matrix(
        (molecules[inside], (member, codes[inside])), shape=(len(ids), len(names))
    ).tocsr()
    total = np.bincount(member, weights)
    points = [np.bincount(member, weights * axis[inside]) / total for axis in place]
    adata = _as_slice(values, list(names), np.column_stack(points) * scale)
    adata.obs_names = [str(one) for one in ids]
    _say(adata, f"Stereo-seq, cells ({scale:g} µm per nanoball)")
    return adata


def is_slideseq(folder: Path) -> bool:
    """Say whether a folder holds bead locations and a table, or a matrix, of counts."""
    return _slideseq_files(folder) is not None


def _slideseq_files(folder: Path) -> tuple[Path, Path] | None:
    """Return the locations and the counts of the first puck in a folder."""
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.is_file())
    places = [path for path in files if _LOCATIONS.fullmatch(path.name)]
    counts = [path for path in files if _EXPRESSION.fullmatch(path.name)]
    counts += [path for path in files if re.search(r"matrix\.mtx(\.\w+)?$", path.name)]
    if not places or not counts:
        return None
    if len(places) > 1:
        named = [_LOCATIONS.fullmatch(path.name)["prefix"] for path in places]
        counts = [path for path in counts if path.name.startswith(named[0])] or counts
    return places[0], counts[0]


def read_slideseq(folder: Path) -> AnnData:
    """Read a puck of Slide-seq from its folder."""
    _one_puck(folder)
    place, counts = _slideseq_files(folder)
    if ".mtx" in counts.suffixes:
        adata = read_10x_mtx(folder, counts.name.split("matrix.mtx")[0])
    else:
        adata = read_wide_counts(counts, by_gene=True)
        where = _bead_table(place).index
        if not adata.obs_names.isin(where).any() and adata.var_names.isin(where).any():
            adata = adata.T.copy()  # beads × genes
            adata.X = sparse.csr_matrix(adata.X)
    adata.var_names_make_unique()
    table = _bead_table(place)
    known = adata.obs_names.isin(table.index)
    if not known.any():
        raise SliceError(
            f"{place} has no bead of {counts.name} (there {adata.obs_names[0]!r}, here "
            f"{table.index[0]!r})."
        )
    if not known.all():
        remark(adata, f"{(~known).sum():,} beads without a location left out")
    adata = adata[known].copy()
    adata.obsm["spatial"] = table.loc[adata.obs_names].to_numpy(dtype=float)
    remark(adata, "Slide-seq, beads, positions in the unit of the table of locations")
    return adata


def _one_puck(folder: Path) -> None:
    """Refuse a folder with several pucks."""
    found = [m for path in folder.iterdir() if (m := _LOCATIONS.fullmatch(path.name))]
    prefixes = sorted({m["prefix"] for m in found})
    if len(prefixes) > 1:
        raise SliceError(
            f"{folder} holds the locations of {len(prefixes)} pucks ({', '.join(prefixes)}): put "
            "each into a folder of its own."
        )


def _bead_table(path: Path) -> pd.DataFrame:
    """Return barcode → x, y."""
    known = ("barcode", "barcodes", "xcoord", "ycoord", "x", "y", "bead", "sb_x")
    table = read_table(path, known=known)
    names = {str(column).strip().lower(): column for column in table.columns}
    x = _first(names, ("xcoord", "x", "x_coord", "sb_x", "x_um"))
    y = _first(names, ("ycoord", "y", "y_coord", "sb_y", "y_um"))
    if x is None or y is None:
        table = table.iloc[:, -3:] if table.shape[1] > 3 else table
        x, y = table.columns[-2:]
    words = [c for c in table if pd.to_numeric(table[c], errors="coerce").isna().mean() > 0.5]
    key = (
        _first(names, ("barcode", "barcodes", "bead", "cell_bc"))
        or (words or [table.columns[0]])[0]
    )
    table = table.set_index(table[key].astype(str).str.strip())[[x, y]]
    table = table.apply(pd.to_numeric, errors="coerce").dropna()
    return table[~table.index.duplicated()]
