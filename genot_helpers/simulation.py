"""Simulated tissues with known domains: for demonstrations and tests, never evidence.

Every slice is drawn from a seed in seconds and needs no file. What is simulated: positions and
domains (:mod:`genot_helpers.tissues`), a mixture of cell types per spot, marker genes, programmes
that run smoothly through the tissue and are *not* domains (a gradient, blood vessels, patches of
stress, a drift of mitochondrial RNA), a depth that varies with the domain and in space, a batch
effect per slice, dropout. Counts are negative binomial, the usual model for unique molecular
identifiers (UMIs; Svensson 2020, https://doi.org/10.1038/s41587-019-0379-5).

Real gene names say where such a gene is expressed, roughly; genes called ``SIM0001`` and so on have
no counterpart. No measured value is copied. The cortex was calibrated on summary figures of real
sections (table in :func:`simulate_cortex`) with the encoder of this package out of sight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from .recipes import BULB, CORTEX, EMBRYO, HIPPOCAMPUS, Recipe
from .tissues import (
    Shape,
    bulb_shape,
    cortex_shape,
    embryo_shape,
    hippocampus_shape,
    smooth_field,
)

__all__ = [
    "simulate_cortex",
    "simulate_embryo",
    "simulate_hippocampus",
    "simulate_olfactory_bulb",
]


class Assay(NamedTuple):
    """How a technology sees a tissue.

    Attributes
    ----------
    depth
        Median UMIs per spot.
    cells
        Cells mixed in a spot: the fewer, the more one cell type dominates.
    spread, patches
        Standard deviation of log depth from spot to spot, and of its part that is smooth in space.
    dropout
        Chance that a gene with few UMIs is missed in a spot.
    batch
        Standard deviation of the shift of a gene's log expression in a slice.
    """

    depth: float
    cells: float
    spread: float = 0.32
    patches: float = 0.28
    dropout: float = 0.05
    batch: float = 0.12


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
SOURCE = "Simulated with genot_helpers.simulation: no measured tissue. Positions are in µm."


# The bare numbers in the functions below were calibrated on the cortex: see simulate_cortex.


def _rng(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one part, so that no part depends on how many others are drawn."""
    return np.random.default_rng([seed, *key])


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
    mouse = recipe is not CORTEX
    roles = {"housekeeping": HOUSEKEEPING} | {name: genes for name, (_, genes) in FIELDS.items()}
    table = {
        _mouse_name(gene) if mouse else gene: (role, "")
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


def _draw_genes(rng, recipe: Recipe, n_genes: int, n_umis: float) -> Genes:
    """Draw what every cell type expresses and how every gene follows the smooth fields."""
    types = _read_cell_types(recipe)
    var = _gene_table(recipe, types, n_genes)
    role = var["role"].to_numpy()
    base = rng.normal(0, 1.2, n_genes) + 1.3 * np.isin(role, ["housekeeping", "mitochondria"])
    place = var.groupby("marker_of").cumcount().to_numpy()  # markers: the best come first
    base = np.where(role == "marker", 0.4 * base + 1.6 - 0.25 * place, base)
    swing = np.exp(-0.2 * (base - base.mean()))  # the more a gene is expressed, the less it varies

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


def _draw_fields(rng) -> dict[str, Callable]:
    """Draw the smooth functions: one per field, and one for depth."""
    lengths = {name: length for name, (length, _) in FIELDS.items() if length}
    return {
        name: smooth_field(rng, length, 3) for name, length in (lengths | {"depth": 0.1}).items()
    }


def _field_values(
    fields: dict, shape: Shape, size: float, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate the fields at the spots: (spots, fields) and, for depth, (spots,)."""
    points = np.column_stack([shape.common / size, np.full(len(shape.common), z)])
    value = {name: field(points) for name, field in fields.items()}
    value["gradient"] = 3 * shape.gradient - 1.5
    value["vessel"] = 4 * np.exp(-((value["vessel"] / 0.15) ** 2)) - 0.5  # winds along the zeros
    return 0.7 * np.column_stack([value[name] for name in FIELDS]), value["depth"]


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


def _count(rng, mean: np.ndarray, dispersion: np.ndarray, dropout: float) -> sparse.csr_matrix:
    """Draw negative binomial counts; a gene with few UMIs may be missed altogether."""
    counts = rng.poisson(mean * dispersion * rng.standard_gamma(1 / dispersion, mean.shape))
    counts[rng.random(mean.shape) < dropout * np.exp(-mean)] = 0
    return sparse.csr_matrix(counts, dtype=np.float32)


def _measure(rng, shape, recipe, genes, fields, assay, *, size=None, z=0.0) -> ad.AnnData:
    """Count the UMIs of every gene in every spot of one slice, z (a share of size) into it."""
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


def _label(adata: ad.AnnData, name: str, seed: int, parameters: dict) -> ad.AnnData:
    """Name the spots and say in ``uns["genot"]`` that the slice is simulated, and how."""
    adata.obs_names = [f"{name}_spot{i + 1:05d}" for i in range(adata.n_obs)]
    adata.obs["domain_truth"] = adata.obs["domain_truth"].cat.remove_unused_categories()
    adata.uns["genot"] = {
        **{"simulated": True, "source": SOURCE, "seed": int(seed), "spatial_unit": "µm"},
        "parameters": {"slice": name, **parameters},
    }
    return adata


def _check_whole(**limits: tuple[object, int]) -> None:
    """Raise a ValueError for an argument that is not a whole number or below its limit."""
    for name, (value, low) in limits.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or value < low:
            raise ValueError(f"{name} is {value!r}: give a whole number of at least {low}.")


def _age(stage: object) -> float:
    """Read the embryonic day from a name such as "E9.5"."""
    try:
        age = float(str(stage).removeprefix("E")) if str(stage).startswith("E") else math.nan
    except ValueError:
        age = math.nan
    if not 9 <= age <= 12.5:
        raise ValueError(f'stage {stage!r} is not known: give names from "E9" to "E12.5".')
    return age


def simulate_cortex(
    n_sections: int = 3,
    *,
    n_spots: int = 3600,
    n_genes: int = 1200,
    section_gap_um: float = 100.0,
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate consecutive sections of one block of human cortex, measured with 10x Visium.

    Six layers and white matter are folded around a gyrus. Layers differ in thickness (L4 is thin)
    and neighbouring ones share most of their expression. The sections are deformed smoothly from
    one to the next and lie rotated and shifted on their slides, so a middle one can be held out.

    Parameters
    ----------
    n_sections
        Number of sections. Section k is the same however many there are.
    n_spots
        Spots under tissue, about, at least 150; 3,700 fill the 78 x 64 positions of a real slide.
        Spots stay 100 µm apart: fewer mean less tissue, with layers only a spot or two thick.
    n_genes
        Number of genes; the named ones come first.
    section_gap_um
        Distance between consecutive sections, µm.
    seed
        The same seed gives bit-identical slices.

    Returns
    -------
    dict of str to AnnData
        ``"cortex_1"``, ``"cortex_2"``, …, each with

        - ``X``: counts, CSR, float32, (spots, genes).
        - ``obs["domain_truth"]``: ``L1`` … ``L6``, ``WM``; NaN in 1 % of the spots (unannotated).
          ``obs["cell_type"]``: the most abundant cell type. ``obs["in_tissue"]``,
          ``obs["array_row"]``, ``obs["array_col"]``: as Space Ranger writes them.
        - ``obsm["spatial"]``: (spots, 2) float64, µm on the slide, y down.
          ``obsm["spatial_common"]``: the same spots in the frame of the block, deformation undone:
          the truth for alignment, which no instrument knows.
        - ``var["role"]``: what the gene follows; ``var["marker_of"]``: its cell type, or empty.
        - ``uns["genot"]``: ``simulated`` (True), ``source``, ``seed``, ``spatial_unit``,
          ``parameters`` (``position_um`` is the depth of the section in the block).

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Calibrated on three sections of one donor in Maynard et al. 2021 [1]_ (151673, 151674, 151675;
    of the genes that are variable in all sections, the 1,200 most expressed). Range over the
    sections, and mean (range) over the first section of seeds 0 to 7:

    ======================================================  ===========  =================
    Figure                                                  real         simulated
    ======================================================  ===========  =================
    median UMIs per spot                                    680–1194     950 (647–1222)
    standard deviation of log UMIs                          .55–.61      .55 (.51–.62)
    its Moran's I; its share explained by layers            .64; .32     .62; .39
    median UMIs in L1, in L3, against the section           .44; 1.31    .40; 1.30
    share of zero counts                                    .58–.70      .65 (.60–.71)
    median (variance - mean) / mean², genes of mean .3–1    .16–.20      .25 (.18–.29)
    the same, genes of mean 1–3                             .06–.08      .22 (.19–.25)
    standard deviation of log2 fold change, L1–L2, L3–L4    .45; .28     .45; .30
    the same, L5–L6, L6–WM                                  .42; .94     .57; .99
    ARI, expression alone, k-means                          .26–.30      .33 (.25–.37)
    ARI, expression alone, mixture                          .34–.47      .38 (.21–.57)
    ARI, expression alone, supervised                       .59–.64      .62 (.57–.66)
    ARI, neighbour mean, k-means                            .35–.36      .35 (.27–.41)
    ARI, neighbour mean, mixture                            .45–.58      .59 (.40–.70)
    ARI, neighbour mean, supervised                         .86–.89      .76 (.72–.79)
    ======================================================  ===========  =================

    Expression alone: log1p of depth-normalised counts, 30 principal components. Neighbour mean:
    these, four times averaged over a spot and its 6 nearest. Mixture: Gaussian with one shared
    covariance, likeliest of 30 starts. Supervised: logistic regression on the true labels, in
    cross-validation, a ceiling. Not reached: highly expressed genes vary more than real ones, more
    of the smooth variation is nuisance, and the ceiling is lower.

    References
    ----------
    .. [1] Maynard et al. (2021), Transcriptome-scale spatial gene expression in the human
       dorsolateral prefrontal cortex. https://doi.org/10.1038/s41593-020-00787-0

    Examples
    --------
    >>> sections = simulate_cortex(n_spots=300, seed=1)
    >>> list(sections)
    ['cortex_1', 'cortex_2', 'cortex_3']
    """
    _check_whole(n_sections=(n_sections, 1), n_spots=(n_spots, 150), seed=(seed, 0))
    _check_whole(n_genes=(n_genes, 1))
    if not isinstance(section_gap_um, Real) or not 0 <= section_gap_um < math.inf:
        raise ValueError(f"section_gap_um is {section_gap_um!r}: give a distance in µm, 0 or more.")
    assay = Assay(depth=1000, cells=11)
    genes = _draw_genes(_rng(seed, 1), CORTEX, n_genes, n_spots * assay.depth)
    fields = _draw_fields(_rng(seed, 2))
    placing = [_rng(seed, 3, i) for i in range(n_sections)]
    shapes = cortex_shape(_rng(seed, 4), placing, n_spots=n_spots, gap_um=section_gap_um)
    size = np.ptp(shapes[0].common)
    given = {"n_sections": n_sections, "n_spots": n_spots, "n_genes": n_genes}
    sections = {}
    for i, shape in enumerate(shapes):
        rng, name, position = _rng(seed, 5, i), f"cortex_{i + 1}", i * float(section_gap_um)
        adata = _measure(rng, shape, CORTEX, genes, fields, assay, size=size, z=position / 2000)
        adata.obs.loc[rng.random(adata.n_obs) < 0.01, "domain_truth"] = np.nan
        adata.obs["in_tissue"] = 1
        parameters = given | {"section_gap_um": float(section_gap_um), "position_um": position}
        sections[name] = _label(adata, name, seed, parameters)
    return sections


def simulate_embryo(
    stages: Sequence[str] = ("E9.5", "E10.5", "E11.5"),
    *,
    n_bins: int = 3000,
    n_genes: int = 900,
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate mouse embryos at several stages, measured with Stereo-seq in bins of 25 µm (bin50).

    Organs grow (liver), move (heart), shrink (branchial arch) and appear (limb bud and dorsal root
    ganglia from day 10, lung from day 10.8). Every stage is another animal. The layout follows the
    mouse atlas of Chen et al. 2022 [1]_, schematically.

    Parameters
    ----------
    stages
        Names from ``"E9"`` to ``"E12.5"``; days in between (``"E10"``) can serve as held-out truth.
    n_bins
        Bins in tissue at E9.5, about, at least 500; there are 1.45 times as many each day.
    n_genes
        Number of genes; the named ones come first.
    seed
        The same seed gives bit-identical slices, whichever other stages are asked for.

    Returns
    -------
    dict of str to AnnData
        One slice a stage; slots as in :func:`simulate_cortex`, ``obs["domain_truth"]`` holding the
        organs of that stage (no ``in_tissue``).

    Raises
    ------
    ValueError
        If a stage is unknown or given twice, or a number is out of range.

    References
    ----------
    .. [1] Chen et al. (2022), Spatiotemporal transcriptomic atlas of mouse organogenesis.
       https://doi.org/10.1016/j.cell.2022.04.003

    Examples
    --------
    >>> embryos = simulate_embryo(["E9.5", "E10.5"], n_bins=500)
    >>> "Limb bud" in embryos["E9.5"].obs["domain_truth"].cat.categories
    False
    """
    _check_whole(n_bins=(n_bins, 500), n_genes=(n_genes, 1), seed=(seed, 0))
    stages = [stages] if isinstance(stages, str) else list(stages)
    ages = {stage: _age(stage) for stage in stages}
    if len(ages) < max(len(stages), 1):
        raise ValueError(f"stages is {stages!r}: give one stage or more, each once.")
    assay = Assay(depth=1100, cells=4, spread=0.35, dropout=0.1)
    genes = _draw_genes(_rng(seed, 1), EMBRYO, n_genes, n_bins * assay.depth)
    embryos = {}
    for stage, age in ages.items():
        key, grown = round(100 * age), round(n_bins * 1.45 ** (age - 9.5))
        shape = embryo_shape(_rng(seed, 3, key), age, n_bins=grown)
        fields = _draw_fields(_rng(seed, 2, key))
        adata = _measure(_rng(seed, 5, key), shape, EMBRYO, genes, fields, assay)
        parameters = {"n_bins": n_bins, "n_genes": n_genes, "embryonic_day": age}
        embryos[stage] = _label(adata, stage, seed, parameters)
    return embryos


def simulate_hippocampus(
    *, n_beads: int = 8000, n_genes: int = 900, seed: int = 0
) -> dict[str, ad.AnnData]:
    """Simulate mouse hippocampus on Slide-seqV2 beads: thin, curved domains and few UMIs.

    Beads of 10 µm lie at irregular positions on a disc 3 mm wide. A bead holds one cell or two, so
    ``obs["cell_type"]`` scatters (astrocytes lie in every domain) while the domains are regions.
    A real disc (Stickels et al. 2021 [1]_) holds some five times as many beads as the default.

    Parameters
    ----------
    n_beads
        Number of beads, 500 to 30000.
    n_genes
        Number of genes; the named ones come first.
    seed
        The same seed gives a bit-identical slice.

    Returns
    -------
    dict of str to AnnData
        One slice, ``"hippocampus"``; slots as in :func:`simulate_cortex`, without array positions.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] Stickels et al. (2021), Highly sensitive spatial transcriptomics at near-cellular
       resolution with Slide-seqV2. https://doi.org/10.1038/s41587-020-0739-1

    Examples
    --------
    >>> simulate_hippocampus(n_beads=500)["hippocampus"].n_obs
    500
    """
    _check_whole(n_beads=(n_beads, 500), n_genes=(n_genes, 1), seed=(seed, 0))
    if n_beads > 30000:
        raise ValueError(f"n_beads is {n_beads}: the disc has room for at most 30000.")
    assay = Assay(depth=300, cells=1.5, spread=0.5, dropout=0.2)
    genes = _draw_genes(_rng(seed, 1), HIPPOCAMPUS, n_genes, n_beads * assay.depth)
    shape = hippocampus_shape(_rng(seed, 3), n_beads=n_beads)
    fields = _draw_fields(_rng(seed, 2))
    adata = _measure(_rng(seed, 5), shape, HIPPOCAMPUS, genes, fields, assay)
    parameters = {"n_beads": n_beads, "n_genes": n_genes}
    return {"hippocampus": _label(adata, "hippocampus", seed, parameters)}


def simulate_olfactory_bulb(
    *, n_bins: int = 4000, n_beads: int = 6000, n_genes: int = 1000, seed: int = 0
) -> dict[str, ad.AnnData]:
    """Simulate one mouse olfactory bulb measured with two technologies.

    Stereo-seq sees several cells in each bin of 25 µm; Slide-seqV2 sees one or two in each 10 µm
    bead, and fewer UMIs. Frames, resolution, capture and the level of each gene differ, and each
    technology misses an eighth of the genes, another one. Layers are concentric.

    Parameters
    ----------
    n_bins
        Bins under tissue, about, at least 500: the size of the bulb, for the beads too.
    n_beads
        Number of beads, from 500 up to three a bin.
    n_genes
        Genes that at least one technology measures.
    seed
        The same seed gives bit-identical slices.

    Returns
    -------
    dict of str to AnnData
        ``"stereoseq"`` and ``"slideseqv2"``; slots as in :func:`simulate_cortex` (array positions
        for Stereo-seq only). ``obsm["spatial_common"]`` is the frame that both share.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> bulb = simulate_olfactory_bulb(n_bins=500, n_beads=600)
    >>> bulb["slideseqv2"].n_obs
    600
    """
    _check_whole(n_bins=(n_bins, 500), n_beads=(n_beads, 500), n_genes=(n_genes, 1), seed=(seed, 0))
    if n_beads > 3 * n_bins:
        raise ValueError(f"n_beads is {n_beads}: there is room for at most {3 * n_bins} (3 a bin).")
    assays = {
        "stereoseq": Assay(depth=600, cells=3, spread=0.35, dropout=0.1, batch=0.4),
        "slideseqv2": Assay(depth=220, cells=1.5, spread=0.5, dropout=0.2, batch=0.4),
    }
    genes = _draw_genes(_rng(seed, 1), BULB, n_genes, min(300 * n_bins, 100 * n_beads))
    missed = _rng(seed, 6).permutation(n_genes)
    fields = _draw_fields(_rng(seed, 2))
    slices = {}
    for i, (name, assay) in enumerate(assays.items()):
        shape = bulb_shape(_rng(seed, 4), _rng(seed, 3, i), n_bins=n_bins, n_beads=i * n_beads)
        adata = _measure(_rng(seed, 5, i), shape, BULB, genes, fields, assay)
        measured = np.sort(np.delete(missed, np.s_[i::8]))
        parameters = {"n_bins": n_bins, "n_beads": n_beads, "n_genes": n_genes}
        slices[name] = _label(adata[:, measured].copy(), name, seed, parameters)
    return slices
