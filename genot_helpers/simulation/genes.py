"""What a simulated tissue expresses: its cell types, and how every gene follows them.

A :class:`Recipe` says what a tissue is made of, in words; :func:`draw_genes` turns it into numbers.
The bare numbers in the functions below were calibrated on the cortex: see
:func:`genot_helpers.simulation.simulate_cortex`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = ["FIELDS", "Genes", "Recipe", "draw_genes"]


class Recipe(NamedTuple):
    """What a tissue is made of.

    Attributes
    ----------
    domains
        Names and relative UMIs per spot, in the order of the codes of a Shape.
    cell_types
        A line each: name | kind | share in each domain, in % | marker genes, the clearest first.
        Types of one kind have a programme in common.
    gradient
        Genes that rise along ``Shape.gradient``, with no step at the border of a domain.
    ramp
        Cell type -> (steepness, place): its share also grows along ``Shape.gradient``.
    strength
        Kind -> how far its programme lies from that of the others (1 where it is not named).
    own
        How far the types of one kind differ from each other.
    human
        Whether genes are named as in human; else as in mouse.
    """

    domains: dict[str, float]
    cell_types: str
    gradient: str
    ramp: dict[str, tuple[float, float]]
    strength: dict[str, float]
    own: float
    human: bool = False


class Genes(NamedTuple):
    """The genes of a tissue.

    Attributes
    ----------
    var
        Names, ``role``, ``marker_of``.
    share
        (domains, cell types), rows sum to 1.
    rate
        (cell types, genes) expression of each cell type, rows sum to 1.
    response
        (fields, genes) how far each smooth field moves log expression.
    dispersion
        (genes,) of the negative binomial: variance = mean + dispersion * mean².
    """

    var: pd.DataFrame
    share: pd.DataFrame
    rate: np.ndarray
    response: np.ndarray
    dispersion: np.ndarray


# Smooth programmes that are not domains: length of the patches as a share of the tissue, and genes.
FIELDS = {
    "gradient": (None, ""),
    "mitochondria": (0.5, "MT-CO1 MT-CO2 MT-CO3 MT-ND1 MT-ND2 MT-ND4 MT-ATP6 MT-CYB"),
    "stress": (0.12, "FOS FOSB JUN JUNB EGR1 IER2 DUSP1 NR4A1 HSPA1A HSPA1B DNAJB1 BTG2"),
    "hypoxia": (0.08, "VEGFA ADM PFKFB3 BNIP3 NDRG1 SLC2A3 PDK1 DDIT4 HILPDA"),
    "interferon": (0.16, "ISG15 IFIT1 IFIT3 MX1 STAT1 IRF7 IFITM3 BST2 XAF1"),
    "vessel": (0.15, "HBB HBA1 HBA2 ACTA2 TAGLN MYL9 VWF IGFBP7 COL4A1"),
}
HOUSEKEEPING = """MALAT1 ACTB ACTG1 GAPDH EEF1A1 EEF2 TPT1 UBB UBC PPIA RPLP0 RPLP1 RPS27A RPL13A
RPS18 TUBA1A TUBA1B HSP90AB1 PGK1 ALDOA LDHB ATP5F1B FTH1 CALM1 YWHAZ PPIB TMSB4X B2M"""
# What the nameless genes follow, in turn: two fifths cell types, a fifth nothing.
NAMELESS = ("noise", "spatial", "stress", "spatial", "gradient")
NAMELESS += ("noise", "spatial", "hypoxia", "spatial", "interferon")


def draw_genes(rng: np.random.Generator, recipe: Recipe, n_genes: int, n_umis: float) -> Genes:
    """Draw what every cell type expresses and how every gene follows the smooth fields.

    Parameters
    ----------
    rng
        Source of randomness.
    recipe
        What the tissue is made of.
    n_genes
        Number of genes, at least the named ones.
    n_umis
        UMIs in a slice, about: no gene is so rare that a slice would have none of it.

    Raises
    ------
    ValueError
        If there are more named genes than ``n_genes``.
    """
    types = _read_cell_types(recipe)
    var = _gene_table(recipe, types, n_genes)
    role = var["role"].to_numpy()
    base = rng.normal(0, 1.2, n_genes) + 1.3 * np.isin(role, ["housekeeping", "mitochondria"])
    place = var.groupby("marker_of").cumcount().to_numpy()  # markers: the best come first
    base = np.where(role == "marker", 0.4 * base + 1.6 - 0.25 * place, base)
    swing = np.exp(-0.2 * (base - base.mean()))  # the more a gene is expressed, the less it varies
    effect = _draw_effects(rng, recipe, types, var, base, swing, place)

    response = np.array([swing * (role == field) for field in FIELDS]) * rng.normal(size=n_genes)
    named = ~var.index.str.startswith("SIM")  # they rise with their field; others rise or fall
    response[:, named] = np.abs(response[:, named])
    dispersion = np.exp(rng.normal(np.log(0.05), 0.6, n_genes))
    rate = np.exp(base + effect)
    rate /= rate.sum(axis=1, keepdims=True)
    rate = np.maximum(rate, 15 / n_umis)  # some 15 UMIs of every gene in a slice: none is empty
    share = types[list(recipe.domains)].T.astype(float)
    share = share.div(share.sum(axis=1), axis=0)
    return Genes(var, share, rate / rate.sum(axis=1, keepdims=True), response, dispersion)


def _draw_effects(rng, recipe, types, var, base, swing, place) -> np.ndarray:
    """Draw by how much a cell type moves the log expression of a gene: (cell types, genes).

    ``base`` and ``swing`` are level and scope of each gene, ``place`` the rank of a marker among
    those of its cell type.
    """
    role, n_genes = var["role"].to_numpy(), len(var)
    # Types of one kind share a programme; each type adds a little of its own.
    kinds = dict.fromkeys(types["kind"])
    programme = {k: 0.5 * recipe.strength.get(k, 1) * rng.normal(size=n_genes) for k in kinds}
    own = recipe.own * rng.normal(size=(len(types), n_genes))
    effect = np.array([programme[k] for k in types["kind"]]) + own
    effect *= swing * ~np.isin(role, ["noise", "housekeeping"])
    total = np.exp(base + effect).sum(axis=1, keepdims=True) / np.exp(base).sum()
    effect -= np.log(total)  # so that a marker is as visible in every type
    owner = types.index.get_indexer(var["marker_of"])
    marker = np.flatnonzero(owner >= 0)
    effect[:, marker] = 0.3 * effect[:, marker] - 0.6
    clear = np.maximum(2.5 - 0.22 * place, 1)
    effect[owner[marker], marker] += clear[marker] + rng.uniform(-0.2, 0.2, len(marker))
    return effect


def _mouse_name(name: str) -> str:
    """Return the mouse symbol of a human gene."""
    if name.startswith("MT-"):
        return "mt-" + name[3:].capitalize()
    return {"HBB": "Hbb-bs", "HBA1": "Hba-a1", "HBA2": "Hba-a2"}.get(name, name.capitalize())


def _read_cell_types(recipe: Recipe) -> pd.DataFrame:
    """Read the table of cell types: index name; columns kind, markers and one per domain."""
    rows = {}
    for line in recipe.cell_types.strip().splitlines():
        name, kind, shares, markers = (part.strip() for part in line.split(" | "))
        percent = dict(part.strip().rsplit(" ", 1) for part in shares.split(","))
        elsewhere = float(percent.pop("elsewhere", 0.3))
        share = {domain: float(percent.pop(domain, elsewhere)) for domain in recipe.domains}
        rows[name] = {"kind": kind, "markers": markers.split(), **share}
    return pd.DataFrame.from_dict(rows, orient="index")


def _gene_table(recipe: Recipe, types: pd.DataFrame, n_genes: int) -> pd.DataFrame:
    """Name every gene and say what it follows (``role``) or which cell type it marks."""
    roles = {"housekeeping": HOUSEKEEPING} | {name: genes for name, (_, genes) in FIELDS.items()}
    table = {
        gene if recipe.human else _mouse_name(gene): (role, "")
        for role, genes in roles.items()
        for gene in genes.split()
    }
    table |= {gene: ("gradient", "") for gene in recipe.gradient.split()}
    table |= {gene: ("marker", name) for name in types.index for gene in types.at[name, "markers"]}
    if n_genes < len(table):
        raise ValueError(f"n_genes is {n_genes}: give at least {len(table)}, the named genes.")
    rest = range(n_genes - len(table))
    table |= {f"SIM{i + 1:04d}": (NAMELESS[i % len(NAMELESS)], "") for i in rest}
    return pd.DataFrame.from_dict(table, orient="index", columns=["role", "marker_of"])
