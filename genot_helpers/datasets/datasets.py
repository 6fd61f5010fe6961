"""From a name to a slice: simulated, from a local folder, downloaded, or the reader's own file.

The same name and the same slots whatever the source. ``data/README.md`` describes the data sets,
the papers they come from, and how a local folder is laid out.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from ..arguments import checked
from ..simulation.brain_regions import (
    simulate_hippocampus,
    simulate_hypothalamus,
    simulate_olfactory_bulb,
)
from ..simulation.embryo import simulate_embryo, simulate_embryo_cells
from ..simulation.visium_sections import simulate_cortex, simulate_sagittal_brain
from ..slices.sections import (
    FEWEST_SHARED,
    match_genes,
    named_slices,
    share_of_genes,
    split_sections,
)
from ..slices.slices import as_labels, check_slice, find_labels, remark
from .downloads import fetch, public_slices, read_registry
from .readers import (
    find_slices,
    from_spatialdata,
    in_memory,
    is_spatialdata,
    is_zarr,
    names_in,
    read_slice,
    regions_of,
    slice_folder,
    slices_below,
    tidy,
)

_NO_PATHS = ("demo", "local", "download")
SOURCES = {
    "dlpfc": "Maynard et al. 2021, https://doi.org/10.1038/s41593-020-00787-0",
    "merfish_hypothalamus": "Moffitt et al. 2018, https://doi.org/10.1126/science.aau5324",
    "mosta": "Chen et al. 2022, https://doi.org/10.1016/j.cell.2022.04.003",
    "slideseqv2_hippocampus": "Stickels et al. 2021, https://doi.org/10.1038/s41587-020-0739-1",
    "olfactory_bulb": "Stickels et al. 2021, https://doi.org/10.1038/s41587-020-0739-1 (beads); "
    "Chen et al. 2022, https://doi.org/10.1016/j.cell.2022.04.003 (bins)",
    "mouse_brain_sagittal": "10x Genomics, public data of Visium for fresh frozen tissue",
    "seqfish_embryo": "Lohoff et al. 2022, https://doi.org/10.1038/s41587-021-01006-2",
}
"""Where each data set was published."""


@checked(sound=False)
def load_slice(
    name: str | Path | AnnData | Any,
    *,
    data_source: str | Path | AnnData | Any = "demo",
    data_dir: str | Path | None = None,
    dataset: str | None = None,
    label_key: str | None = "auto",
    bin_size: int | str | None = None,
    check: bool = True,
    seed: int = 0,
    registry: str | Path | None = None,
) -> AnnData:
    """Load one slice by its name.

    Parameters
    ----------
    name
        For example ``"151673"`` or ``"E10.5"``: see :func:`list_slices`. A path that exists, an
        AnnData (also backed or lazy) or a SpatialData object stand for ``data_source``.
    data_source
        - ``"demo"``: a simulated stand-in with the same name and slots; no files needed.
        - ``"local"``: from ``data_dir``. Every section laid out like the others is found.
        - ``"download"``: fetched into ``data_dir`` first, where it is not there yet.
        - a path: the reader's own file or folder, or a folder of several, of which ``name`` is
          taken. Known are AnnData (``.h5ad``, packed or not; zarr), SpatialData, and the folders of
          Visium, Visium HD, Xenium, MERSCOPE, CosMx, Stereo-seq and Slide-seq (``data/README.md``).
        - an AnnData or SpatialData object; it is not changed.
    data_dir
        Folder of local or downloaded data; ``GENOT_DATA_DIR`` if not given.
    dataset
        Needed only where two data sets use the same name.
    label_key
        Column of ``obs`` with the annotation, see :func:`genot_helpers.slices.find_labels`;
        ``labels.tsv`` or the layer map beside the section are read first.
    bin_size
        Of Visium HD in µm (8 if not given) or of Stereo-seq in nanoballs (50), or ``"cells"``.
    check
        Refuse a slice that cannot be used; with False it is returned as it is, to be mended.
    seed
        Of the simulation.
    registry
        Another list of downloads, for example of a mirror.

    Returns
    -------
    AnnData
        ``X``: CSR float32; ``obsm["spatial"]``: (spots, 2) float64; ``obs["domain_truth"]``: the
        annotation, if any, categorical sorted by name; ``uns["genot"]``: ``source``, ``name``,
        ``dataset``, ``data_source``, ``simulated``, ``label_key``, ``dropped`` (controls, genes and
        spots without counts), ``values`` (their kind), ``read_as`` (what the reader had to decide),
        and where known ``position_um`` (along the axis of sectioning), ``micrometres_per_unit`` and
        ``y_axis`` ("up" where y grows upwards, not as in images).

    Raises
    ------
    ValueError
        If the name, data set or source is not known; with the near ones.
    FileNotFoundError
        If a folder or file is not there.
    SliceError
        If the slice cannot be used: see :func:`genot_helpers.slices.check_slice`.
    DownloadError
        If a download fails.

    Examples
    --------
    >>> adata = load_slice("151673")
    >>> adata.uns["genot"]["simulated"]
    True
    """
    if isinstance(data_source, str) and data_source == "demo":
        name, data_source = _as_source(name)
    name, source = str(name), str(data_source)
    if not isinstance(data_source, str | Path):
        source = "an object in memory"
        adata = _from_object(data_source, name, bin_size)
    elif source == "demo":
        dataset = _choose(name, dataset, list(DEMO_SLICES), "the simulated data")
        adata = _demo_slice(dataset, name, seed)
    elif source == "local":
        folder = _data_dir(data_dir)
        found = find_slices(folder)
        dataset = _choose(name, dataset, list(found), str(folder))
        adata = read_slice(found[dataset, name], name, folder / dataset)
    elif source == "download":
        public = public_slices(read_registry(registry))
        dataset = _choose(name, dataset, public, "the registry of downloads")
        path = fetch(dataset, name, data_dir, registry=registry)
        adata = read_slice(path, name, path.parent)
    else:
        adata = _read_own(Path(source).expanduser(), name, bin_size)
    return _finish(adata, name, dataset or "", source, label_key, check)


def _as_source(name: Any) -> tuple[str, Any]:
    """Tell a name from what stands for a source: a path that exists, or an object."""
    if isinstance(name, int | np.integer):
        return str(name), "demo"
    if isinstance(name, str | Path):
        path = Path(name).expanduser()
        known = {pair[1] for pair in DEMO_SLICES}
        is_path = isinstance(name, Path) or len(path.parts) > 1 or path.exists()
        if is_path and str(name) not in known:
            names = own_slices(path)
            return (names[0] if len(names) == 1 else path.name), str(path)
        return str(name), "demo"
    return "slice", name


def _from_object(thing: Any, name: str, bin_size: int | str | None) -> AnnData:
    """Take a slice from an AnnData or a SpatialData; neither is changed."""
    if isinstance(thing, AnnData) or type(thing).__name__ == "Dataset2D":
        return in_memory(thing)
    if is_spatialdata(thing):
        return from_spatialdata(thing, name, bin_size=bin_size)
    raise TypeError(
        f"a slice is read from a path, an AnnData or a SpatialData, not a {type(thing).__name__}."
    )


@checked(sound=False)
def load_slices(
    names: Iterable[str] | str | Path | Any, *, section_key: str | None = None, **options
) -> dict[str, AnnData]:
    """Load several slices.

    Parameters
    ----------
    names
        Names of slices, in the order wanted; or a path (or an AnnData or SpatialData object) of
        which all slices are taken; or a list or dictionary of AnnData.
    section_key
        Column of ``obs`` that says which section a spot belongs to, where one file or object holds
        several; see :func:`genot_helpers.slices.split_sections`.
    **options
        As for :func:`load_slice`.

    Returns
    -------
    dict of str to AnnData
        Name → slice.

    Raises
    ------
    ValueError
        If several names are asked of one file, and as :func:`load_slice`.
    """
    if section_key is not None:
        return _load_sections(names, section_key, options)
    objects = list(names.values()) if isinstance(names, Mapping) else names
    if isinstance(objects, list | tuple) and all(isinstance(one, AnnData) for one in objects):
        named = named_slices(names).items()
        found = {name: load_slice(name, **options, data_source=one) for name, one in named}
        _name_genes_alike(found)
        return found
    spatial = not isinstance(names, str | Path) and is_spatialdata(names)
    if spatial or isinstance(names, AnnData):
        options["data_source"], names = names, regions_of(names) if spatial else ["slice"]
    elif isinstance(names, str | Path) and options.get("data_source", "demo") == "demo":
        name, source = _as_source(names)
        options["data_source"] = source
        names = [name] if source == "demo" else own_slices(source)
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    source = options.get("data_source", "demo")
    own = isinstance(source, str | Path) and str(source) not in _NO_PATHS
    if len(set(names)) > 1 and own:
        known = own_slices(source)
        if len(known) < len(set(names)):  # or one file would be read under several names
            raise ValueError(
                f"{source} holds {len(known)} slice ({', '.join(known)}); asked for: "
                f"{', '.join(names)}. Put all of them into one folder and give that, or say which "
                "column of obs tells the sections of one file: section_key=... ."
            )
    found = {name: load_slice(name, **options) for name in names}
    _name_genes_alike(found)
    return found


def _load_sections(names: Any, section_key: str, options: dict) -> dict[str, AnnData]:
    """Load one file or object, split it by a column, and check the sections."""
    check = options.pop("check", True)
    wanted = None
    if options.get("data_source", "demo") not in _NO_PATHS:
        wanted = [names] if isinstance(names, str) else [str(name) for name in names]
        names = options.pop("data_source")
    whole = load_slice(names, check=False, **options)
    sections = split_sections(whole, section_key)
    facts, label_key = whole.uns["genot"], options.get("label_key", "auto")
    found = {}
    for name in wanted or sections:
        if name not in sections:
            raise ValueError(_unknown("section", name, list(sections), f"obs[{section_key!r}]"))
        sections[name].uns["genot"] = {**facts, "name": name, "section_key": section_key}
        source = str(facts["data_source"])
        found[name] = _finish(sections[name], name, "", source, label_key, check)
    return found


def _name_genes_alike(slices: dict[str, AnnData]) -> None:
    """Match symbols with identifiers, where the slices have hardly a gene name in common."""
    first, *others = slices.values()
    if any(share_of_genes(first.var_names, other.var_names) < FEWEST_SHARED for other in others):
        said = match_genes(slices, min_share=0.0)
        for adata in slices.values() if said else ():
            remark(adata, said)


@checked
def list_slices(
    dataset: str | None = None,
    *,
    data_dir: str | Path | None = None,
    registry: str | Path | None = None,
) -> pd.DataFrame:
    """List the slices that can be loaded, and from where.

    Parameters
    ----------
    dataset
        Only those of one data set.
    data_dir
        Folder of local data; ``GENOT_DATA_DIR`` if not given; none if that is not set.
    registry
        As for :func:`load_slice`.

    Returns
    -------
    pandas.DataFrame
        ``dataset``, ``name``, and whether it can be had from ``demo``, ``local``, ``download``.

    Raises
    ------
    ValueError
        If there is no such data set; with the near ones.
    FileNotFoundError
        If a folder is named that is not there.
    """
    public = public_slices(read_registry(registry))
    where = data_dir or os.environ.get("GENOT_DATA_DIR")
    local = list(find_slices(_data_dir(where))) if where else []
    pairs = list(dict.fromkeys([*public, *DEMO_SLICES, *local]))
    table = pd.DataFrame(pairs, columns=["dataset", "name"])
    for column, known in (("demo", DEMO_SLICES), ("local", local), ("download", public)):
        table[column] = [pair in known for pair in pairs]
    if dataset is None:
        return table
    if dataset not in set(table["dataset"]):
        raise ValueError(_unknown("data set", dataset, sorted(set(table["dataset"])), "the list"))
    return table[table["dataset"] == dataset].reset_index(drop=True)


def _data_dir(data_dir: str | Path | None) -> Path:
    given = data_dir or os.environ.get("GENOT_DATA_DIR")
    if not given:
        raise ValueError(
            "data_source='local' needs a folder: give data_dir=..., or set the environment "
            "variable GENOT_DATA_DIR. data/README.md describes the layout."
        )
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} (data_dir or GENOT_DATA_DIR).")
    return folder


def _choose(name: str, dataset: str | None, known: list[tuple[str, str]], where: str) -> str:
    """Return the data set that a name belongs to; complain with the near names."""
    datasets = sorted({pair[0] for pair in known})
    if dataset not in (None, *datasets):
        raise ValueError(_unknown("data set", dataset, datasets, where))
    candidates = [pair for pair in known if dataset in (None, pair[0])]
    homes = [pair[0] for pair in candidates if pair[1] == name]
    if not homes:
        raise ValueError(_unknown("slice", name, [pair[1] for pair in candidates], where))
    homes = [home for home in homes if home in SOURCES] or homes  # the published set first
    if len(homes) > 1:
        raise ValueError(f"{name!r} is in {' and in '.join(homes)}: say which, dataset=... .")
    return homes[0]


def _finish(
    adata: AnnData, name: str, dataset: str, source: str, label_key: str | None, check: bool
) -> AnnData:
    """Bring a slice into the common form, say where it comes from, and check it."""
    adata = tidy(adata)
    column = find_labels(adata, label_key)
    if column is not None:
        adata.obs["domain_truth"] = as_labels(adata.obs[column])
        adata.uns.pop("domain_truth_colors", None)  # they followed the order of the old names
    known = adata.uns["genot"]  # a slice that was written by this package says what it is
    simulated = bool(known.get("simulated", False))
    facts = {} if simulated else _position(dataset, name)
    published = SOURCES.get(dataset) or known.get("source") or "the reader's own data"
    facts["source"] = known.get("source", "simulated") if simulated else published
    facts |= {"name": name, "dataset": dataset or known.get("dataset", ""), "data_source": source}
    facts |= {"simulated": simulated, "label_key": column or ""}
    adata.uns["genot"] = known | facts
    if check:
        check_slice(adata, name=f"slice {name!r} ({source})")
    return adata


def _position(dataset: str, name: str) -> dict[str, Any]:
    """Return what is known about where a section lies and what one unit of length is."""
    if dataset == "merfish_hypothalamus" and name.removeprefix("merfish_").isdecimal():
        n = int(name.removeprefix("merfish_"))
        behind = n % 5 == 4  # sections every 50 µm, from bregma +0.26 mm to bregma -0.29 mm
        position = 10.0 * (n if behind else -n)
        # Dorsal is at large y: drawn downwards like an image, the brain would stand on its head.
        return {"position_um": position, "micrometres_per_unit": 1.0, "y_axis": "up"}
    for sections in DLPFC_DONORS if dataset == "dlpfc" else ():
        if name in sections:  # two pairs of sections 10 µm apart, 300 µm between the pairs
            return {"position_um": (0.0, 10.0, 310.0, 320.0)[sections.index(name)]}
    return {}


@checked
def own_slices(path: str | Path) -> list[str]:
    """List the slices in the reader's own file or folder, without reading them.

    Parameters
    ----------
    path
        As ``data_source`` of :func:`genot_helpers.datasets.load_slice`: a file or folder that a
        reader knows, or a folder with several of either.

    Returns
    -------
    list of str
        Names that ``load_slice(name, data_source=path)`` knows, sorted. Of a single file or folder
        of one slice: its own name (there any name will do).

    Raises
    ------
    FileNotFoundError
        If there is no such path, or nothing in it; with the near ones.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(_no_path(path))
    names = names_in(path) or list(slices_below(path))
    if not names:
        there = ", ".join(sorted(one.name for one in path.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"{path} is neither a Space Ranger folder nor holds slices. A Space Ranger folder has "
            "filtered_feature_bc_matrix.h5 and spatial/ in it; a Xenium folder has "
            "cell_feature_matrix.h5 and cells.parquet, a MERSCOPE one cell_by_gene.csv and "
            "cell_metadata.csv, a CosMx one *_exprMat_file.csv and *_metadata_file.csv, a "
            "Slide-seq one bead locations and digital expression; other slices are .h5ad, .zarr, "
            f".gef or .gem files. There: {there}."
        )
    return names


def _read_own(path: Path, name: str, bin_size: int | str | None = None) -> AnnData:
    """Read one slice from the reader's own file or folder; a folder of several needs the name."""
    names = own_slices(path)
    if path.is_file() or is_zarr(path):
        return read_slice(path, name, path.parent, bin_size)
    place = slice_folder(path, name, bin_size)
    if place is not None:
        return read_slice(place, name, path.resolve().parent, bin_size)
    if name not in names:
        raise ValueError(_unknown("slice", name, names, str(path)))
    return read_slice(slices_below(path)[name], name, path, bin_size)


def _unknown(what: str, given: str, known: list[str], where: str) -> str:
    """Say that a name is not known, and which ones are near."""
    if not known:
        return (
            f"{where} holds no {what}. Give the folder that holds a folder for each data set, as "
            "data/README.md describes."
        )
    near = difflib.get_close_matches(given, known, n=4, cutoff=0.6)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    listed = ", ".join(known[:15]) + (", …" if len(known) > 15 else "")
    return f"No {what} is called {given!r} in {where}. {hint}There: {listed}. See list_slices()."


def _no_path(path: Path) -> str:
    """Say that a path does not exist, and what is near."""
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), _NO_PATHS, n=1)
    near += difflib.get_close_matches(path.name, beside, n=3)
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    return (
        f"data_source={str(path)!r} is no known source and no existing path. {hint}Give 'demo', "
        "'local', 'download', or the path of an .h5ad file or a Space Ranger folder."
    )


# -------------------------------------------------------------------------------------------------
# Simulated stand-ins under the names of real slices, with the same slots, so that nothing but
# ``data_source`` changes when the real one is there.

DLPFC_DONORS = (
    ("151507", "151508", "151509", "151510"),
    ("151669", "151670", "151671", "151672"),
    ("151673", "151674", "151675", "151676"),
)
"""Sections of each donor of the human cortex."""


class Demo(NamedTuple):
    """How a slice is simulated; section k of a block is the same however many follow it."""

    simulator: Callable[..., dict[str, AnnData]]
    key: str
    options: tuple[tuple[str, object], ...] = ()
    seed_shift: int = 0


DEMO_SLICES: dict[tuple[str, str], Demo] = {
    ("dlpfc", section): Demo(
        simulate_cortex, f"cortex_{k}", (("n_sections", k),), 1000 * (len(DLPFC_DONORS) - donor)
    )
    for donor, sections in enumerate(DLPFC_DONORS, 1)
    for k, section in enumerate(sections, 1)
}
DEMO_SLICES |= {  # as far apart as the measured sections; a few cells less
    ("merfish_hypothalamus", f"merfish_{5 * k - 1}"): Demo(
        simulate_hypothalamus, f"hypothalamus_{k}", (("n_sections", k), ("n_cells", 4000)), 3000
    )
    for k in range(1, 7)
}
DEMO_SLICES |= {
    ("mosta", stage): Demo(simulate_embryo, stage, (("stages", (stage,)),))
    for stage in ("E9.5", "E10.5", "E11.5", "E12.5")
}
DEMO_SLICES[("seqfish_embryo", "seqfish")] = Demo(simulate_embryo_cells, "seqfish")
DEMO_SLICES |= {
    ("slideseqv2_hippocampus", "slideseqv2"): Demo(simulate_hippocampus, "hippocampus"),
    ("olfactory_bulb", "stereoseq_mob"): Demo(simulate_olfactory_bulb, "stereoseq"),
    ("olfactory_bulb", "slideseqv2_mob"): Demo(simulate_olfactory_bulb, "slideseqv2"),
}
DEMO_SLICES |= {
    ("mouse_brain_sagittal", f"V1_Mouse_Brain_Sagittal_{half}{section}"): Demo(
        simulate_sagittal_brain, f"{half.lower()}_{k}", (("n_sections", 2),)
    )
    for half in ("Anterior", "Posterior")
    for k, section in enumerate(("", "_Section_2"), 1)
}
"""(dataset, name) → how it is simulated."""


def _demo_slice(dataset: str, name: str, seed: int) -> AnnData:
    """Simulate the stand-in for a slice."""
    demo = DEMO_SLICES[dataset, name]
    adata = _simulate(demo.simulator, demo.options, seed + demo.seed_shift)[demo.key].copy()
    facts = adata.uns["genot"]
    facts["source"] = f"Simulated stand-in for {name} ({dataset}). {facts['source']}"
    if facts["spatial_unit"] == "µm":
        facts["micrometres_per_unit"] = 1.0
    if "position_um" in facts.get("parameters", {}):
        facts["position_um"] = float(facts["parameters"]["position_um"])
    return adata


@lru_cache(maxsize=4)
def _simulate(simulator: Callable, options: tuple, seed: int) -> dict[str, AnnData]:
    """Simulate once what is asked for again and again. The caller copies what is kept here."""
    return simulator(seed=seed, **dict(options))
