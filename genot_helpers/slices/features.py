"""What the columns of a slice are: genes, or control features of the instrument; and their names.

Imaging instruments measure features that are no genes, to learn how often they see what is not
there: blank and deprecated codewords, probes against sequences that do not occur, pieces of
antisense or bacterial sequence. They are left out, and what was left out is reported. The names are
those of 10x Genomics (Xenium), Vizgen (MERSCOPE), Bruker/NanoString (CosMx, GeoMx) and of the ERCC
spike-ins.

The same gene is called by a symbol in one table and by an Ensembl identifier in the next.
:func:`match_genes` finds the name that two slices have in common, among the columns of ``var``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from anndata import AnnData

from ..arguments import checked
from .slices import SliceError

__all__ = [
    "FEWEST_SHARED",
    "control_features",
    "control_names",
    "gene_problem",
    "list_some",
    "match_genes",
    "share_of_genes",
]

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
        Two slices or more. ``var_names`` is replaced where that makes more genes agree; the names
        before are kept in ``var["genot_name_before"]``. Identifiers are compared without their
        version (``ENSG00000141510.18``), symbols in upper case where only the case differs.
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
    if not isinstance(slices, Mapping):
        slices = {f"slice {number}": adata for number, adata in enumerate(slices, 1)}
    named = dict(slices)
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
    if said and share >= FEWEST_SHARED:
        return found, f"`gh.match_genes([left, right])`: {said}; {share:.0%} agree then."
    fix = "use the same kind of gene name, symbols or identifiers, and of one species, in both."
    return found, fix


def _match(left: AnnData, right: AnnData, names: tuple[str, str]) -> str:
    """Rename the genes of one of two slices, or of both, so that most agree."""
    options = [
        (np.round(_agreeing(a, b), 6), -one_cost - other_cost, one, other)
        for one, one_cost, a in _name_choices(left)
        for other, other_cost, b in _name_choices(right)
    ]
    best = max(options, key=lambda option: option[:2])
    now = share_of_genes(left.var_names, right.var_names)
    if best[0] <= now + 0.05:
        return ""
    said = []
    for adata, name, how in zip((left, right), names, best[2:], strict=True):
        if how != "":
            choice = next(a for key, _, a in _name_choices(adata) if key == how)
            adata.var["genot_name_before"] = adata.var_names.astype(str)
            adata.var_names = choice
            adata.var_names_make_unique()
            said.append(f"{name}: genes are named by {how} now")
    return "; ".join(said)


def _agreeing(one: pd.Index, other: pd.Index) -> float:
    return share_of_genes(one.dropna().unique(), other.dropna().unique())


def _name_choices(adata: AnnData) -> list[tuple[str, int, pd.Index]]:
    """List ways to name the genes: what it is called, how far from today's names, the names."""
    choices = [("", 0, adata.var_names.astype(str))]
    for column in adata.var.columns:
        values = adata.var[column]
        text = pd.api.types.is_string_dtype(values.astype(object)) or isinstance(
            values.dtype, pd.CategoricalDtype
        )
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
