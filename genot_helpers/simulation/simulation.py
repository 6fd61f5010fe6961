"""Simulated tissues with known domains: what all of them share. For demonstrations, never evidence.

Per spot: a mixture of cell types, markers, smooth programmes that are *not* domains, a depth that
varies, a batch effect per slice, dropout. Counts are negative binomial (Svensson 2020,
https://doi.org/10.1038/s41587-019-0379-5). Genes called ``SIM0001`` have no counterpart. Shapes
follow what an atlas shows; no measured value is copied. Top to bottom: :func:`measure` and its
parts; recipes and genes; places of spots and smooth functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

SOURCE = "Simulated with genot_helpers.simulation: no measured tissue. Positions are in µm."


def measure(
    rng: np.random.Generator,
    shape: Shape,
    recipe: Recipe,
    genes: Genes,
    fields: dict[str, Field],
    assay: Assay,
    *,
    size: float | None = None,
    z: float = 0.0,
) -> ad.AnnData:
    """Count the UMIs of every gene in every spot of a slice; :func:`label` gives the names."""
    # ``size`` is the length, in µm, that the patches of the fields are shares of (default: width of
    # the slice); ``z`` is the depth of the slice in the tissue, as a share of it.
    n_spots, n_genes = len(shape.domain), len(genes.var)
    seen, cells = _mix_cells(rng, shape, recipe, genes, assay.cells)
    nuisance, patches = _field_values(fields, shape, size or np.ptp(shape.common), z)
    batch = rng.normal(0, assay.batch, n_genes)
    depth = np.log(assay.depth) + rng.normal(0, 0.15) + assay.patches * patches
    depth += seen @ np.log(list(recipe.domains.values())) + rng.normal(0, assay.spread, n_spots)
    blocks = []
    for rows in np.array_split(np.arange(n_spots), math.ceil(n_spots / 1000)):  # dense, but small
        mean = cells[rows] @ genes.rate * np.exp(nuisance[rows] @ genes.response + batch)
        mean *= np.exp(depth[rows, None]) / mean.sum(axis=1, keepdims=True)
        blocks.append(_count(rng, mean, genes.dispersion, assay.dropout))
    adata = ad.AnnData(sparse.vstack(blocks, format="csr"), var=genes.var.copy())
    adata.obs["domain_truth"] = pd.Categorical.from_codes(shape.domain, list(recipe.domains))
    adata.obsm["spatial"], adata.obsm["spatial_common"] = shape.spatial, shape.common
    if shape.grid is not None:
        adata.obs["array_row"], adata.obs["array_col"] = shape.grid.T
    types = genes.share.columns
    adata.obs["cell_type"] = pd.Categorical.from_codes(cells.argmax(axis=1), types)
    return adata


def _mix_cells(rng, shape: Shape, recipe: Recipe, genes: Genes, cells: float):
    """Return the domains a spot sees (spots, domains) and the cells in it (spots, cell types)."""
    nearest = cKDTree(shape.common).query(shape.common, k=7)[1]
    # A spot sees its neighbours too, and composition drifts: no border is sharper than a spot.
    seen = np.eye(len(recipe.domains))[shape.domain][nearest].mean(axis=1)
    far = seen
    for _ in range(25):
        far = far[nearest].mean(axis=1)
    seen = 0.85 * seen + 0.15 * far
    share = seen @ genes.share.to_numpy()
    for name, (steepness, place) in recipe.ramp.items():
        ramp = 0.3 + np.exp(steepness * (shape.gradient - place))
        share[:, genes.share.columns.get_loc(name)] *= ramp
    drawn = rng.standard_gamma(cells * share) + 1e-9 * share  # Dirichlet
    return seen, drawn / drawn.sum(axis=1, keepdims=True)


def _field_values(
    fields: dict, shape: Shape, size: float, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate the fields at the spots: (spots, fields) and, for depth, (spots,)."""
    points = np.column_stack([shape.common / size, np.full(len(shape.common), z)])
    value = {name: field(points) for name, field in fields.items()}
    value["gradient"] = 3 * shape.gradient - 1.5
    value["vessel"] = 4 * np.exp(-((value["vessel"] / 0.15) ** 2)) - 0.5  # winds along the zeros
    return 0.7 * np.column_stack([value[name] for name in FIELDS]), value["depth"]


def _count(rng, mean: np.ndarray, dispersion: np.ndarray, dropout: float) -> sparse.csr_matrix:
    """Draw negative binomial counts; a gene with few UMIs may be missed altogether."""
    counts = rng.poisson(mean * dispersion * rng.standard_gamma(1 / dispersion, mean.shape))
    counts[rng.random(mean.shape) < dropout * np.exp(-mean)] = 0
    return sparse.csr_matrix(counts, dtype=np.float32)


def label(adata: ad.AnnData, name: str, seed: int, parameters: dict) -> ad.AnnData:
    """Name the spots and say in ``uns["genot"]`` that the slice is simulated, and how."""
    adata.obs_names = [f"{name}_spot{i + 1:05d}" for i in range(adata.n_obs)]
    adata.obs["domain_truth"] = adata.obs["domain_truth"].cat.remove_unused_categories()
    adata.uns["genot"] = {
        **{"simulated": True, "source": SOURCE, "seed": int(seed), "spatial_unit": "µm"},
        "parameters": {"slice": name, **parameters},
    }
    return adata


class Assay(NamedTuple):
    """The way a technology sees a tissue."""

    depth: float  # median UMIs per spot
    cells: float  # mixed in a spot: the fewer, the more one cell type dominates
    spread: float = 0.32  # standard deviation of log depth from spot to spot
    patches: float = 0.28  # standard deviation of the part of log depth that is smooth in space
    dropout: float = 0.05  # chance that a gene with few UMIs is missed in a spot
    batch: float = 0.12  # standard deviation of the shift of a gene's log expression in a slice


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one part, so that no part depends on how many others are drawn."""
    return np.random.default_rng([seed, *key])


def draw_tissue(
    seed: int, recipe: Recipe, n_genes: int, n_umis: float, *key: int
) -> tuple[Genes, dict[str, Field]]:
    """Draw genes, and smooth functions of (x, y, z) for programmes and depth; ``key``: of these."""
    rng = generator(seed, 2, *key)
    lengths = {name: length for name, (length, _) in FIELDS.items() if length} | {"depth": 0.1}
    fields = {name: smooth_field(rng, length, 3) for name, length in lengths.items()}
    return _draw_genes(generator(seed, 1), recipe, n_genes, n_umis), fields


# -------------------------------------------------------------------------------------------------
# What a simulated tissue expresses: a :class:`Recipe` in words, which ``_draw_genes`` turns into
# numbers. The bare numbers below were calibrated on the cortex.


class Recipe(NamedTuple):
    """The composition of a tissue."""

    # names and relative UMIs per spot, in the order of the codes of a Shape
    domains: dict[str, float]
    # a line each: name | kind | share in each domain, in % | markers, the clearest first
    cell_types: str
    gradient: str  # genes that rise along ``Shape.gradient``, with no step at a border
    # cell type -> (steepness, place): its share also grows along ``Shape.gradient``
    ramp: dict[str, tuple[float, float]]
    # kind -> distance of its programme from that of the others (default 1)
    strength: dict[str, float]
    own: float  # how far the types of one kind differ
    human: bool = False  # gene names as in human, else as in mouse


class Genes(NamedTuple):
    """The genes of a tissue."""

    var: pd.DataFrame  # names, ``role``, ``marker_of``
    share: pd.DataFrame  # (domains, cell types), rows sum to 1
    rate: np.ndarray  # (cell types, genes), rows sum to 1
    response: np.ndarray  # (fields, genes): how far each smooth field moves log expression
    dispersion: np.ndarray  # (genes,): variance = mean + dispersion * mean²


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


def _draw_genes(rng: np.random.Generator, recipe: Recipe, n_genes: int, n_umis: float) -> Genes:
    """Draw the expression of every cell type, and how genes follow the smooth fields."""
    # No gene is so rare that a slice of ``n_umis`` UMIs would have none of it.
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
    """Draw by how much a cell type moves the log expression of a gene: (cell types, genes)."""
    # ``base`` and ``swing`` are level and scope of each gene, ``place`` the rank of a marker.
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


# -------------------------------------------------------------------------------------------------
# Where spots can lie, and random smooth functions to bend a tissue with: sums of cosine waves in
# random directions, the random Fourier features of a Gaussian kernel (Rahimi and Recht 2007,
# https://dl.acm.org/doi/10.5555/2981562.2981710). They can be evaluated at any point, so two
# sections of one block see the same function.

VISIUM_PITCH_UM = 100.0  # centre to centre; a Visium spot is 55 µm wide
BIN_UM = 25.0  # Stereo-seq bin50: 50 x 50 DNA nanoballs, 0.5 µm apart
BEAD_UM = 10.0  # Slide-seqV2 bead: no two centres are closer

Field = Callable[[np.ndarray], np.ndarray]
"""A smooth function: points (n, 2) or (n, 3) to values (n,)."""


class Shape(NamedTuple):
    """The places of the spots of one slice."""

    spatial: np.ndarray  # (n, 2) float64, µm, as the instrument reports it (y down)
    common: np.ndarray  # (n, 2) float64, µm, in the frame of the tissue
    domain: np.ndarray  # (n,) int, code of the domain
    gradient: np.ndarray  # (n,) float64 from 0 to 1, smooth, regardless of domains
    # (n, 2) int, array row and column; None where positions are irregular
    grid: np.ndarray | None = None


def smooth_field(rng: np.random.Generator, length: float, n_dims: int = 2) -> Field:
    """Draw a random smooth function with mean 0, variance 1 and a Gaussian kernel of a length."""
    n_waves = 48
    frequency = rng.normal(size=(n_dims, n_waves)) / length
    phase = rng.uniform(0, 2 * np.pi, n_waves)
    return lambda points: np.sqrt(2 / n_waves) * np.cos(points @ frequency + phase).sum(axis=1)


def rotate(points: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate points (n, 2) about the origin."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def visium_grid(n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return array row and column (n, 2), and position (n, 2) in µm, of every spot of a slide."""
    rows, half_columns = np.divmod(np.arange(n_rows * n_columns), n_columns)
    grid = np.column_stack([rows, 2 * half_columns + rows % 2])  # Space Ranger numbers every other
    return grid, grid[:, ::-1] * VISIUM_PITCH_UM * np.array([0.5, np.sqrt(3) / 2])


def square_grid(half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column (n, 2), and position (n, 2) in µm, of every bin of a square chip."""
    side = np.arange(2 * int(half_width / BIN_UM) + 1)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid, grid[:, ::-1] * BIN_UM


def scatter_beads(
    rng: np.random.Generator, n_beads: int, inside: Callable, half_width: float
) -> np.ndarray:
    """Draw n_beads positions (n, 2) in µm with ``inside`` true; beads do not overlap."""
    kept = np.empty((0, 2))
    while len(kept) < n_beads:
        drawn = rng.uniform(-half_width, half_width, (2 * n_beads, 2))
        pool = np.vstack([kept, drawn[inside(drawn)]])
        close = cKDTree(pool).query_pairs(BEAD_UM, output_type="ndarray")
        # Of two beads that would overlap, the one drawn later goes.
        kept = np.delete(pool, np.unique(close.max(axis=1)), axis=0) if len(close) else pool
    return kept[:n_beads]
