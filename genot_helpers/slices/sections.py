"""One slice or several: by name, in one object, with an embedding and genes that all have."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..arguments import checked
from .geometry import own_pictures, pictures
from .slices import MissingSlot, SliceError, as_labels, missing, near_names

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Slices: TypeAlias = AnnData | Iterable[AnnData] | Mapping[str, AnnData]
"""What functions that work on one slice or on several together take."""


def as_list(slices: Slices) -> list[AnnData]:
    """Return one slice, a list or a dictionary of slices as a list."""
    if isinstance(slices, AnnData):
        return [slices]
    return list(slices.values()) if isinstance(slices, Mapping) else list(slices)


def named_slices(slices: Slices) -> dict[str, AnnData]:
    """Return slices by name; those of a list are called "slice 1", "slice 2", ..."""
    if isinstance(slices, AnnData):
        return {"slice": slices}
    if not isinstance(slices, Mapping):
        slices = {f"slice {number}": adata for number, adata in enumerate(slices, 1)}
    if not slices or not all(isinstance(adata, AnnData) for adata in slices.values()):
        raise SliceError("give one AnnData, or a list or dictionary of them that is not empty")
    return dict(slices)


def genes_of_all(slices: Sequence[AnnData]) -> pd.Index:
    """Return the genes that all slices have, in the order of the first."""
    genes = slices[0].var_names
    for adata in slices[1:]:
        genes = genes[genes.isin(adata.var_names)]
    return genes


@checked(sound=False)
def check_genes(slices: Slices, genes: str | Sequence[str] | None) -> None:
    """Raise an error for a gene that a slice does not have, before anything is computed.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of them.
    genes
        Names of genes; None: nothing is asked.

    Raises
    ------
    SliceError
        With the slice that lacks the gene, and the genes whose names are near.

    Examples
    --------
    >>> adata = AnnData(np.ones((20, 2), dtype="float32"))
    >>> adata.var_names = ["Mbp", "Th"]
    >>> check_genes(adata, "Mbp")
    """
    genes = [genes] if isinstance(genes, str) else list(genes or ())
    for name, adata in named_slices(slices).items():
        for gene in genes:
            if gene not in adata.var_names:
                raise MissingSlot(f"{name}: {no_gene(gene, adata)}")


def no_gene(gene: str, adata: AnnData) -> str:
    """Say that a slice has no such gene, and which names are near."""
    near = ", ".join(near_names(gene, adata.var_names))
    names = f"Near: {near}" if near else f"First: {', '.join(map(str, adata.var_names[:5]))}"
    return f"var_names, {adata.n_vars:,} genes, has no {str(gene)!r}. {names}."


def embedding(adata: AnnData, name: str, use_rep: str, *, dtype: DTypeLike = float) -> NDArray:
    """Return a copy of ``obsm[use_rep]``, (n, d)."""
    slot = f"{name}: obsm[{use_rep!r}]"
    if use_rep not in adata.obsm:
        raise SliceError(
            f"{slot} is missing (obsm holds: {', '.join(adata.obsm.keys()) or 'nothing'}); make it "
            "first, for all slices together (X_pca: preprocess; X_genot: train_encoder)"
        )
    values = np.asarray(adata.obsm[use_rep])
    if values.ndim != 2:
        raise SliceError(f"{slot} has shape {values.shape}; needed: (n, d)")
    if not np.isfinite(values).all():
        raise SliceError(f"{slot} holds values that are not finite; check what they come from")
    return np.array(values, dtype=dtype, order="C")


def joint_embeddings(
    named: Mapping[str, AnnData], use_rep: str, *, dtype: DTypeLike = float
) -> list[NDArray]:
    """Return copies of the embeddings of several slices, (n, d) each, with the same d."""
    found = [embedding(adata, name, use_rep, dtype=dtype) for name, adata in named.items()]
    widths = {name: values.shape[1] for name, values in zip(named, found, strict=True)}
    if len(set(widths.values())) > 1:
        raise SliceError(
            f"the slices differ in the number of components in obsm[{use_rep!r}]: {widths}; "
            "compute them in one joint principal component analysis"
        )
    return found


def rows_of_each(slices: Iterable[AnnData], stacked: NDArray) -> Iterator[tuple[AnnData, NDArray]]:
    """Yield each slice with its rows of an array in which the slices follow one another."""
    begin = 0
    for adata in slices:
        yield adata, stacked[begin : begin + adata.n_obs]
        begin += adata.n_obs


@checked
def split_sections(adata: AnnData, section_key: str) -> dict[str, AnnData]:
    """Split an object by the column that says which section a spot belongs to.

    Parameters
    ----------
    adata
        Several sections in one object, in memory.
    section_key
        Column of ``obs``, what squidpy calls ``library_key``.

    Returns
    -------
    dict of str to AnnData
        Name → section, in the order of the categories or of first appearance, with its own image.
        Sections whose rows follow one another share memory with ``adata``, others are copies.
        :func:`join_results` writes results back.

    Raises
    ------
    SliceError
        If there is no such column, a spot has no section, or names are not unique as text.

    Examples
    --------
    >>> sections = split_sections(adata, "library_id")
    """
    codes, names = section_codes(adata, section_key)
    found = {}
    for number, name in enumerate(names):
        rows = np.flatnonzero(codes == number)
        follow = len(rows) == rows[-1] - rows[0] + 1
        part = _block(adata, rows[0], rows[-1] + 1) if follow else adata[rows].copy()
        part.uns["genot"] = {**dict(adata.uns.get("genot", {})), "name": name}
        part.uns["genot"].pop("one_section", None)
        if len(pictures(part)) > 1:  # none where it is not clear which are its own
            own = own_pictures(part, name)
            part.uns["spatial"] = {key: part.uns["spatial"][key] for key in own}
        found[name] = part
    return found


def section_codes(adata: AnnData, section_key: str) -> tuple[NDArray[np.intp], list[str]]:
    """Return the number of each spot's section, and the names of the sections."""
    if section_key not in adata.obs:
        said = missing("obs", section_key, adata.obs.columns)
        raise SliceError(f"section_key names the column that tells sections apart, but {said}")
    values = adata.obs[section_key]
    if values.isna().any():
        raise SliceError(
            f"obs[{section_key!r}] is empty for {values.isna().sum():,} spots: give each its "
            "section, or leave these spots out."
        )
    values = as_labels(values) if values.dtype.kind in "iufb" else values
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.remove_unused_categories()
        return values.cat.codes.to_numpy(np.intp), list(map(str, values.cat.categories))
    codes, names = pd.factorize(values.astype(str))
    return codes, list(map(str, names))


def second_of_two(adata: AnnData, section_key: str) -> NDArray[np.bool_]:
    """Say which spots are those of the second section, of two."""
    codes, names = section_codes(adata, section_key)
    if len(names) != 2:
        raise SliceError(f"obs[{section_key!r}] has {len(names)} sections ({names}); needed: two.")
    return codes == 1


def _block(adata: AnnData, start: int, end: int) -> AnnData:
    """Return rows that follow one another, without copying the matrices."""
    layers = {key: one for key, one in adata.layers.items() if key is not None}  # anndata 0.13: X
    part = AnnData(
        _rows(adata.X, start, end),
        obs=adata.obs.iloc[start:end].copy(),
        var=adata.var.copy(),
        uns=dict(adata.uns),
        obsm={key: value[start:end] for key, value in adata.obsm.items()},
        layers={key: _rows(value, start, end) for key, value in layers.items()},
    )
    for key, value in adata.obsp.items():
        part.obsp[key] = value[start:end, start:end]
    return part


def _rows(matrix: Any, start: int, end: int) -> Any:
    """Return rows of a matrix; of CSR and dense ones as a view of the same memory."""
    if not sparse.issparse(matrix) or matrix.format != "csr":
        return None if matrix is None else matrix[start:end]
    first, last = matrix.indptr[start], matrix.indptr[end]
    rows = matrix.indptr[start : end + 1] - first
    parts = (matrix.data[first:last], matrix.indices[first:last], rows)
    return type(matrix)(parts, shape=(end - start, matrix.shape[1]), copy=False)


@checked
def join_results(adata: AnnData, sections: Mapping[str, AnnData], section_key: str) -> None:
    """Write what was found in the sections of one object back to it.

    Parameters
    ----------
    adata
        The object. Gets what the sections have in ``obs``, ``var``, ``obsm``, ``layers`` and
        ``obsp`` and it has not, or what carries this package's prefix. A column of ``var`` is true
        if it is in one section, or the mean; ``uns["genot"]`` is that of the first.
    sections
        From :func:`split_sections`, with results.
    section_key
        The column it was split by.

    Raises
    ------
    SliceError
        If a section has another number of spots than in the object.
    """
    codes, names = section_codes(adata, section_key)
    rows = [np.flatnonzero(codes == number) for number in range(len(names))]
    parts = [sections[name] for name in names]
    for name, part, here in zip(names, parts, rows, strict=True):
        if part.n_obs != len(here):
            raise SliceError(
                f"section {name!r} has {part.n_obs:,} spots now and had {len(here):,}: results "
                "cannot be written back. Leave spots out of the one object first."
            )
    order = np.argsort(np.concatenate(rows), kind="stable")
    _join_tables(adata, parts, order)
    for key in _new(adata.obsm, [part.obsm for part in parts]):
        adata.obsm[key] = np.concatenate([np.asarray(part.obsm[key]) for part in parts])[order]
    for key in _new(adata.layers, [part.layers for part in parts]):
        blocks = [sparse.csr_matrix(part.layers[key]) for part in parts]
        adata.layers[key] = sparse.vstack(blocks, format="csr")[order]
    for key in _new(adata.obsp, [part.obsp for part in parts]):
        blocks = sparse.block_diag([part.obsp[key] for part in parts], format="csr")
        adata.obsp[key] = blocks[order][:, order].tocsr()
    for key, value in parts[0].uns.items():
        if key not in adata.uns and key != "spatial":
            adata.uns[key] = value
    facts = {k: v for k, v in parts[0].uns.get("genot", {}).items() if k != "name"}
    adata.uns["genot"] = {**adata.uns.get("genot", {}), **facts, "section_key": section_key}


def _join_tables(adata: AnnData, parts: list[AnnData], order: NDArray[np.intp]) -> None:
    """Write new columns of ``obs`` and ``var``."""
    for column in _new(adata.obs, [part.obs for part in parts]):
        values = [part.obs[column] for part in parts]
        joined = pd.concat([one.astype(object) for one in values]).iloc[order].to_numpy()
        kinds = {str(one.dtype) for one in values}
        if kinds == {"category"}:
            names = dict.fromkeys(name for one in values for name in one.cat.categories)
            joined = pd.Categorical(joined, categories=list(names))
        elif len(kinds) == 1:
            joined = joined.astype(values[0].dtype)
        adata.obs[column] = joined
    for column in _new(adata.var, [part.var for part in parts]):
        values = np.stack([part.var[column].to_numpy() for part in parts])
        if values.dtype.kind in "biuf":
            adata.var[column] = values.any(axis=0) if values.dtype == bool else values.mean(axis=0)


def _new(before: Any, now: list[Any]) -> list[str]:
    """Return the keys that all sections have and that are new, or ours."""
    ours = ("genot", "X_", "spatial_", "log1p")
    everywhere = [k for k in now[0] if k is not None and all(k in slot for slot in now)]
    return [key for key in everywhere if key not in before or str(key).startswith(ours)]


def by_section(function: Callable | None = None, *, writes: bool = True) -> Callable:
    """Let a function of several slices take one object with ``section_key``, as squidpy does."""
    if function is None:
        return functools.partial(by_section, writes=writes)
    signature = _with_section_key(function)
    first = next(iter(signature.parameters.values()))
    listed = str(first.annotation).startswith("Sequence")

    @functools.wraps(function)
    def with_sections(*args: Any, section_key: str | None = None, **options: Any):
        if section_key is None:
            return function(*args, **options)
        slices, *rest = args or (options.pop(first.name, None),)
        sections = _split(function, slices, section_key)
        result = function(list(sections.values()) if listed else sections, *rest, **options)
        if writes:
            join_results(slices, sections, section_key)
        return result

    with_sections.__signature__ = signature
    return with_sections


def by_pair(function: Callable | None = None, *, writes: bool = False) -> Callable:
    """Let a function of two slices take one object that holds both, with ``section_key``.

    The second slice is left out then, or is a pair of names where the column has more than two.
    """
    if function is None:
        return functools.partial(by_pair, writes=writes)
    signature = _with_section_key(function)
    first, second = list(signature.parameters)[:2]

    @functools.wraps(function)
    def with_sections(*args: Any, section_key: str | None = None, **options: Any):
        if section_key is None:
            return function(*args, **options)
        both, *rest = args or (options.pop(first, None),)
        sections = _split(function, both, section_key)
        names = options.pop(second, None)
        if names is None and rest and _names(rest[0], sections):
            names = rest.pop(0)
        names = list(sections) if names is None else names
        if not (_names(names, sections) and len(names) == 2 and set(names) <= set(sections)):
            raise SliceError(
                f"{function.__qualname__}: section_key needs two sections, and obs[{section_key!r}]"
                f" has {', '.join(sections)}. Name two, {second}=('…', '…'); of two, leave "
                f"{second} out."
            )
        result = function(*(sections[name] for name in names), *rest, **options)
        if writes:
            join_results(both, sections, section_key)
        return result

    with_sections.__signature__ = signature
    return with_sections


def _names(value: Any, sections: Mapping[str, AnnData]) -> bool:
    """Say whether a value names sections; another slice is meant to, and refused."""
    if isinstance(value, list | tuple):
        return any(isinstance(one, str) and one in sections for one in value)
    return isinstance(value, AnnData)


def _split(function: Callable, slices: Any, section_key: str) -> dict[str, AnnData]:
    """Split the one object that a function was given; refuse anything else."""
    if not isinstance(slices, AnnData):
        raise TypeError(
            f"{function.__qualname__}: section_key={section_key!r} belongs to one AnnData that "
            f"holds several sections, not to a {type(slices).__name__}. Leave section_key out, or "
            "give the AnnData."
        )
    return split_sections(slices, section_key)


def _with_section_key(function: Callable) -> inspect.Signature:
    """Return the signature of a function with ``section_key``."""
    signature = inspect.signature(function)
    found = list(signature.parameters.values())
    key = inspect.Parameter(
        "section_key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="str | None"
    )
    if "section_key" not in signature.parameters:
        found.insert(len(found) - (found[-1].kind is key.VAR_KEYWORD), key)
    return signature.replace(parameters=found)


def by_each_section(function: Callable) -> Callable:
    """Let a function of one slice take an object of several sections: each is done by itself."""

    @functools.wraps(function)
    def with_sections(adata: AnnData, *args: Any, section_key: str | None = None, **options: Any):
        if section_key is None:
            return function(adata, *args, **options)
        sections = split_sections(adata, section_key)
        for section in sections.values():
            function(section, *args, **options)
        return join_results(adata, sections, section_key)

    return with_sections


# -------------------------------------------------------------------------------------------------
# What the columns of slices are: genes by a common name, or control features of the instrument.
#
# Blank codewords, probes against sequences that do not occur and the like tell how often an
# instrument sees what is not there. The names are those of 10x Genomics (Xenium), Vizgen
# (MERSCOPE), Bruker/NanoString (CosMx, GeoMx) and of the ERCC spike-ins.

FEWEST_SHARED = 0.2
"""Least share of the genes of the slice with fewer genes that two slices have to have in common."""

_PLENTY = 200  # so many shared genes are enough, whatever the share

_END = r"([-_ .]?\d+)*"
_CONTROLS = re.compile(
    "|".join(
        (
            rf"blank([-_ .]?(codeword|code|probe|barcode))?{_END}",
            rf"negative{_END}",
            r"neg(ative)?[-_ .]?(control|ctrl|ctl|prb|probe|cntrl|codeword)([-_ .]?\w+)*",
            r"(control|unassigned|deprecated|genomic[-_ .]?control|dummy)"
            rf"[-_ .]?(codeword|code|probe|barcode){_END}",
            rf"genomic[-_ .]?control{_END}",
            r"deprecated[-_ .]ens\w+([-_ .]\w+)*",
            rf"system[-_ .]?control{_END}",
            rf"false[-_ .]?(code|positive)(word)?{_END}",
            r"antisense([-_ .]\S+)?",
            r"intergenic[-_ .]?region([-_ .]?\w+)*",
            r"ercc[-_ .]\d{5}",
        )
    ),
    re.IGNORECASE,
)
_TYPE_COLUMNS = ("feature_types", "feature_type", "featuretype", "codeclass", "code_class")
_GENE_TYPES = ("geneexpression", "gene", "endogenous", "rna")
_VERSION = re.compile(r"\.\d+$")
_ENSEMBL = re.compile(r"ens[a-z]*g\d{6,}(\.\d+)?", re.IGNORECASE)


def control_features(adata: AnnData) -> np.ndarray:
    """Say which columns are no genes but controls, antibodies or other features."""
    found = control_names(adata.var_names)
    for column in adata.var.columns:
        if str(column).lower() not in _TYPE_COLUMNS:
            continue
        kinds = adata.var[column].astype(str).str.lower().str.replace(r"[^a-z]", "", regex=True)
        genes = kinds.isin(_GENE_TYPES).to_numpy()
        if genes.any():
            found |= ~genes
    return found


def control_names(names: Iterable[str]) -> np.ndarray:
    """Say which names are those of control features, (n,) bool."""
    return np.array([bool(_CONTROLS.fullmatch(str(name))) for name in names], dtype=bool)


def list_some(names: Iterable[str], most: int = 12) -> str:
    """Name the features that were left out; of many the first, and how many there are."""
    names = [str(name) for name in names]
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])}, … ({len(names):,} in all)"


def share_of_genes(left: pd.Index, right: pd.Index) -> float:
    """Return which share of the genes of the slice with fewer genes the other slice has too."""
    fewer, more = sorted((left, right), key=len)
    return float(fewer.isin(more).mean()) if len(fewer) else 0.0


@checked
def match_genes(
    slices: Iterable[AnnData] | Mapping[str, AnnData], *, min_share: float = FEWEST_SHARED
) -> str:
    """Name the genes of several slices alike, where a column of ``var`` allows it.

    Parameters
    ----------
    slices
        Two slices or more. ``var_names`` is replaced where that makes more genes agree (the names
        before are in ``var["genot_name_before"]``); identifiers may lose their version, symbols
        turn to upper case.
    min_share
        Least share of the genes (of the slice with fewest) that have to agree in the end.

    Returns
    -------
    str
        What was done, in a sentence; empty where the names agreed from the start.

    Raises
    ------
    SliceError
        If no column makes enough genes agree.

    Examples
    --------
    >>> match_genes([left, right])
    "slice 2: genes are named by var['gene_symbols'] now"
    """
    named = named_slices(slices)
    first, *others = named
    done = [_match(named[first], named[other], (first, other)) for other in others]
    for other in others:
        share = share_of_genes(named[first].var_names, named[other].var_names)
        if share < min_share:
            raise SliceError(
                f"{first} and {other} have {share:.1%} of their genes in common, by whatever "
                f"column of var; at least {min_share:.0%} are needed. First genes: "
                f"{', '.join(named[first].var_names[:3])}; {', '.join(named[other].var_names[:3])}."
                " Are both of one species, and are symbols or identifiers in var?"
            )
    return "; ".join(text for text in done if text)


def gene_problem(left: AnnData, right: AnnData, names: tuple[str, str]) -> tuple[str, str] | None:
    """Say what is found and what to do where two slices have too few genes in common."""
    share = share_of_genes(left.var_names, right.var_names)
    shared = round(share * min(left.n_vars, right.n_vars))
    if shared and (share >= FEWEST_SHARED or shared >= _PLENTY):
        return None
    first = "; ".join(", ".join(map(str, adata.var_names[:3])) for adata in (left, right))
    how_many = f"{shared} of {min(left.n_vars, right.n_vars)}" if shared else "no"
    found = (
        f"{how_many} gene{'s' if shared else ''} in common (first genes: {first}); at least "
        f"{FEWEST_SHARED:.0%} of the slice with fewer genes, or {_PLENTY}, are needed."
    )
    copies = [AnnData(shape=(0, adata.n_vars), var=adata.var.copy()) for adata in (left, right)]
    said = _match(*copies, names)
    share = share_of_genes(copies[0].var_names, copies[1].var_names)
    fix = "use the same kind of gene name, symbols or identifiers, and of one species, in both."
    if said and share >= FEWEST_SHARED:
        fix = f"`gh.slices.match_genes([left, right])`: {said}; {share:.0%} agree then."
    return found, fix


def _match(left: AnnData, right: AnnData, names: tuple[str, str]) -> str:
    """Rename the genes of one of two slices, or of both, so that most agree."""
    options = []
    for one in _name_choices(left):
        for other in _name_choices(right):
            share = share_of_genes(*(way[2].dropna().unique() for way in (one, other)))
            options.append((np.round(share, 6), -one[1] - other[1], one, other))
    best = max(options, key=lambda option: option[:2])
    if best[0] <= share_of_genes(left.var_names, right.var_names) + 0.05:
        return ""
    said = []
    for adata, name, (how, _, choice) in zip((left, right), names, best[2:], strict=True):
        if how:
            adata.var["genot_name_before"] = adata.var_names.astype(str)
            adata.var_names = choice
            adata.var_names_make_unique()
            said.append(f"{name}: genes are named by {how} now")
    return "; ".join(said)


def _name_choices(adata: AnnData) -> list[tuple[str, int, pd.Index]]:
    """List ways to name the genes: what it is called, how far from today's names, the names."""
    choices = [("", 0, adata.var_names.astype(str))]
    for column in adata.var.columns:
        values = adata.var[column]
        text = pd.api.types.is_string_dtype(values.astype(object)) or values.dtype == "category"
        if text and column != "genot_name_before" and values.nunique() > 0.5 * adata.n_vars:
            names = pd.Index(values.astype(object).where(values.notna(), adata.var_names))
            choices.append((f"var[{str(column)!r}]", 2, names.astype(str)))
    found = list(choices)
    for how, cost, names in found:
        plain = names.str.replace(_VERSION, "", regex=True)
        identifiers = names.str.fullmatch(_ENSEMBL)
        if identifiers.mean() > 0.5 and not plain.equals(names):
            choices.append((f"{how or 'var_names'} without versions", cost + 1, plain))
        elif identifiers.mean() <= 0.5 and not names.str.upper().equals(names):
            choices.append((f"{how or 'var_names'} in upper case", cost + 1, names.str.upper()))
    return choices
