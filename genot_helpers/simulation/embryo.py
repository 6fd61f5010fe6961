"""Simulated mouse embryos: bins of Stereo-seq at several stages, and single cells of seqFISH.

Top to bottom: :func:`simulate_embryo`, its shape and anatomy; what it is made of;
:func:`simulate_embryo_cells`, the same tissue under another instrument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd

from ..arguments import checked
from .simulation import (
    BIN_UM,
    Assay,
    Field,
    Genes,
    Recipe,
    Shape,
    draw_tissue,
    generator,
    label,
    measure,
    rotate,
    scatter_beads,
    smooth_field,
    square_grid,
)


@checked(n_bins=(500, 10**7))
def simulate_embryo(
    stages: str | Sequence[str] = ("E9.5", "E10.5", "E11.5"),
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
        Approximate number of bins in tissue at E9.5, at least 500; 1.45 times as many each day.
    n_genes
        Number of genes; the named ones come first.
    seed
        The same seed gives bit-identical slices, whichever other stages are asked for.

    Returns
    -------
    dict of str to AnnData
        One slice a stage; slots as in :func:`genot_helpers.simulation.simulate_cortex`,
        ``obs["domain_truth"]`` holding the organs of that stage (no ``in_tissue``).

    Raises
    ------
    ValueError
        If a stage is unknown or given twice, or a number is out of range.

    References
    ----------
    .. [1] Chen et al. (2022), Spatiotemporal transcriptomic atlas of mouse organogenesis.
       https://doi.org/10.1016/j.cell.2022.04.003
    """
    stages = [stages] if isinstance(stages, str) else list(stages)
    ages = {stage: _embryonic_day(stage) for stage in stages}
    if len(ages) < max(len(stages), 1):
        raise ValueError(f"stages is {stages!r}: give one stage or more, each once.")
    assay = Assay(depth=1100, cells=4, spread=0.35, dropout=0.1)
    embryos = {}
    for stage, age in ages.items():
        key, grown = round(100 * age), round(n_bins * GROWTH ** (age - 9.5))
        shape = _embryo_shape(generator(seed, 3, key), age, n_bins=grown)
        genes, fields = draw_tissue(seed, EMBRYO, n_genes, n_bins * assay.depth, key)
        adata = measure(generator(seed, 5, key), shape, EMBRYO, genes, fields, assay)
        parameters = {"n_bins": n_bins, "n_genes": n_genes, "embryonic_day": age}
        embryos[stage] = label(adata, stage, seed, parameters)
    return embryos


def _embryonic_day(stage: object) -> float:
    """Read the embryonic day from a name such as "E9.5"."""
    try:
        age = float(str(stage).removeprefix("E")) if str(stage).startswith("E") else math.nan
    except ValueError:
        age = math.nan
    if not 9 <= age <= 12.5:
        raise ValueError(f'stage {stage!r} is not known: give names from "E9" to "E12.5".')
    return age


def _embryo_shape(rng: np.random.Generator, age: float, *, n_bins: int) -> Shape:
    """Draw one curled-up embryo on a square grid of bins; ``gradient`` runs from head to tail."""
    # Codes: 0 mesenchyme, 1 brain, 2 spinal cord, 3 heart, 4 liver, 5 somite, 6 branchial arch,
    # 7 limb bud, 8 gut, 9 lung, 10 dorsal root ganglion.
    radius = BIN_UM * np.sqrt(n_bins / BODY_AREA)
    grid, spatial = square_grid(1.35 * radius)
    common = rotate(spatial - spatial.mean(axis=0), rng.uniform(-10, 10))
    outline = [smooth_field(rng, 0.25) for _ in range(2)]
    inside, domain, gradient = _embryo_anatomy(common / radius, age, outline)
    return Shape(spatial[inside], common[inside], domain[inside], gradient[inside], grid[inside])


def _embryo_anatomy(
    places: np.ndarray, age: float, outline: list[Field]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tissue or not, domain and gradient (n,) at places (n, 2) of a body of radius 1."""
    # Brain and spinal cord follow the back, somites (and ganglia from day 10) lie inside them,
    # organs are ellipses that grow and move, the ventricle widens. Two smooth functions
    # (``outline``) bend the body.
    points = places + 0.025 * np.column_stack([field(places) for field in outline])
    days = age - 9.5
    # Angle along the back: 0 at the crown, a quarter turn at the shoulder, more towards the tail.
    turn = np.rad2deg(np.arctan2(points[:, 0], -points[:, 1]))
    turn = np.where(turn < -110, turn + 360, turn)
    head = np.exp(-(((turn + 8) / 48) ** 2))
    height = np.hypot(points[:, 0], points[:, 1]) / (0.86 + (0.22 + 0.03 * days) * head)
    belly = ((points[:, 0] + 0.20) / 0.44) ** 2 + ((points[:, 1] - 0.20) / 0.42) ** 2 < 1
    hollow = np.clip((turn - 180) / 40, 0, 1) * 0.72  # the tail is a thin strip
    inside = (height < 1) & (turn < 250) & (((height > hollow) & (turn > -80)) | belly)

    domain = np.zeros(len(points), dtype=int)
    for code, start, growth, born in _ORGANS:
        if age >= born:
            x, y, a, b = np.array(start) + days * np.array(growth)
            domain[((points[:, 0] - x) / a) ** 2 + ((points[:, 1] - y) / b) ** 2 < 1] = code
    domain[(turn > 58) & (turn < 238) & (height > 0.70)] = 5
    if age >= 10:
        domain[(turn > 62) & (turn < 190) & (height > 0.81)] = 10
    domain[(turn > 52) & (height > 0.87)] = 2
    domain[(turn > -42 - 4 * days) & (turn <= 52) & (height > 0.50 - 0.02 * days)] = 1
    ventricle = ((turn - 5) / 30) ** 2 + ((height - 0.74) / (0.06 + 0.02 * days)) ** 2 < 1
    gradient = np.clip((turn + 88) / 338, 0, 1)
    return inside & ~ventricle, domain, gradient


EMBRYO = Recipe(
    domains={
        **{"Mesenchyme": 0.8, "Brain": 1.2, "Spinal cord": 1.2, "Heart": 1.1, "Liver": 1.4},
        **{"Somite": 0.9, "Branchial arch": 0.9, "Limb bud": 0.9, "Gut": 1, "Lung": 1},
        "Dorsal root ganglion": 1.1,
    },
    cell_types="""
    Neural progenitor | neural | Brain 45, Spinal cord 38, elsewhere 1 | Sox2 Nes Pax6 Hes5 Fabp7
    Brain neuron | neural | Brain 28, Spinal cord 4 | Tbr1 Neurod1 Otx2 Foxg1 En2
    Spinal neuron | neural | Spinal cord 32, Brain 3 | Isl1 Lhx3 Chat Hoxb8 Hoxc6
    Sensory neuron | neural | Dorsal root ganglion 50, elsewhere 1 | Ntrk1 Pou4f1 Prph Six1 Sox10
    Cardiomyocyte | muscle | Heart 60, elsewhere 1 | Myh6 Myh7 Myl4 Myl7 Tnnt2 Nppa
    Myotome | muscle | Somite 40, Limb bud 5, elsewhere 2 | Myog Myf5 Meox1 Tcf15
    Hepatoblast | endoderm | Liver 42, Gut 5 | Afp Alb Apoa1 Fgb
    Gut epithelium | endoderm | Gut 40, Lung 6, elsewhere 1 | Cdx2 Shh Foxa1 Epcam
    Lung epithelium | endoderm | Lung 40, Gut 5 | Nkx2-1 Sftpc Etv5 Foxf1
    Erythroid | blood | Liver 36, Heart 12, elsewhere 6 | Hbb-y Hba-x Alas2 Gypa
    Limb mesenchyme | mesenchyme | Limb bud 55, elsewhere 2 | Prrx1 Tbx5 Hoxd13 Lhx9
    Arch mesenchyme | mesenchyme | Branchial arch 55, elsewhere 2 | Dlx5 Dlx2 Hand2 Barx1
    Chondroprogenitor | mesenchyme | Somite 25, Limb bud 15, elsewhere 5 | Sox9 Pax1 Col2a1 Nkx3-2
    Fibroblast | mesenchyme | Mesenchyme 70, elsewhere 18 | Col1a1 Col3a1 Dcn Postn Pdgfra
    Endothelial | vascular | elsewhere 9 | Cdh5 Pecam1 Kdr Emcn Cldn5
    """,
    gradient="Hoxa5 Hoxa7 Hoxb9 Hoxc9 Hoxd9 Hoxa10 Cdx4",
    ramp={},
    strength={"neural": 1.5, "blood": 1.5},
    own=0.35,
)

# x, y, half-widths at embryonic day 9.5, what each gains a day, and the day the organ appears.
# The frame is the circle of radius 1 that the curled-up body fills; later rows lie over earlier.
_ORGANS = (
    (6, (-0.52, -0.28, 0.17, 0.15), (0.02, 0.00, -0.03, -0.02), 9.0),  # branchial arch
    (3, (-0.38, 0.06, 0.20, 0.19), (0.01, 0.03, 0.01, 0.02), 9.0),  # heart
    (4, (-0.18, 0.34, 0.11, 0.10), (-0.02, 0.03, 0.08, 0.05), 9.0),  # liver
    (8, (0.10, 0.36, 0.08, 0.20), (-0.02, 0.04, 0.01, 0.02), 9.0),  # gut
    (9, (0.00, -0.02, 0.07, 0.09), (0.01, 0.02, 0.04, 0.03), 10.8),  # lung
    (7, (0.24, 0.02, 0.06, 0.09), (0.02, 0.03, 0.05, 0.05), 9.8),  # forelimb bud
    (7, (0.20, 0.56, 0.04, 0.06), (0.00, 0.01, 0.05, 0.05), 10.2),  # hindlimb bud
)
BODY_AREA = 2.35  # where the radius of the body is 1
GROWTH = 1.45  # of the area, a day


# -------------------------------------------------------------------------------------------------
# The same tissue under another instrument: an embryo of a stage has the same outline, organs and
# cell types. Imaging by seqFISH (the real set: Lohoff et al. 2022,
# https://doi.org/10.1038/s41587-021-01006-2) sees cells instead of bins and catches more molecules,
# but only of a panel of genes. Positions are in fields of view, the section is turned and mirrored,
# and every gene has an efficiency of its own. No measured value is copied.

FIELD_OF_VIEW_UM = 210.0  # length of the unit of the positions
PANEL_UMIS = 200.0  # of the panel in the median cell
ONLY_HERE = 0.06  # share of the panel that the other instrument does not measure
ASSAY = Assay(depth=PANEL_UMIS, cells=0.4, spread=0.45, patches=0.15, dropout=0.0, batch=0.6)
SOURCE = (
    "Simulated with genot_helpers.simulation: no measured tissue. Positions are in fields of view."
)


@checked(n_cells=(500, 10**7), n_panel=(100, 10**5), n_bins=(500, 10**7))
def simulate_embryo_cells(
    stage: str = "E9",
    *,
    n_cells: int = 8000,
    n_panel: int = 350,
    n_bins: int = 3000,
    n_genes: int = 900,
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate the cells of a mouse embryo, measured with seqFISH.

    Parameters
    ----------
    stage
        From ``"E9"`` to ``"E12.5"``: the animal that :func:`simulate_embryo` measures in bins under
        the same name and seed.
    n_cells
        Number of cells, at least 500 and at most 5 for each bin of the tissue.
    n_panel
        Genes of the panel, from 100 up to half of ``n_genes``: the named markers, genes that tell
        cell types apart, and others; 6 % of them are not among those of ``simulate_embryo``. Genes
        abundant in every cell are left out: their signals would overlap in an image.
    n_bins, n_genes
        As in :func:`simulate_embryo`: the same values (and seed) give the same cell types.
    seed
        The same seed gives a bit-identical slice.

    Returns
    -------
    dict of str to AnnData
        One slice, ``"seqfish"``; slots as in :func:`genot_helpers.simulation.simulate_cortex`,
        except: no array positions; ``obsm["spatial"]`` in fields of view, turned and mirrored
        (``obsm["spatial_common"]`` in µm, in the frame of the embryo); ``obs["Area"]`` and
        ``obs["celltype_mapped_refined"]``, the cell type, as the public file calls them.
        ``uns["genot"]["parameters"]`` has ``embryonic_day`` and the true length of the unit.

    Raises
    ------
    ValueError
        If the stage is unknown, or a number is out of range.
    """
    age = _embryonic_day(stage)
    if n_genes < 2 * n_panel:
        raise ValueError(f"n_genes is {n_genes}: give at least {2 * n_panel}, twice the panel.")
    grown, key = round(n_bins * GROWTH ** (age - 9.5)), round(100 * age)
    if n_cells > 5 * grown:
        raise ValueError(f"n_cells is {n_cells}: there is room for at most {5 * grown} (5 a bin).")
    known, fields = draw_tissue(seed, EMBRYO, n_genes, n_bins * 1100, key)
    rng, n_new = generator(seed, 8), round(ONLY_HERE * n_panel)
    panel = _choose_panel(known, n_panel - n_new, rng)
    panel = np.append(panel, n_genes + np.arange(n_new))
    genes = _with_unknown(known, n_new, rng)
    seen = genes.rate[:, panel].sum(axis=1).mean()  # a cell holds more than the panel shows
    shape = _cells(generator(seed, 3, key), generator(seed, 9, key), age, n_cells, grown)
    rng = generator(seed, 5, key, 1)
    assay = ASSAY._replace(depth=PANEL_UMIS / seen)
    adata = measure(rng, shape, EMBRYO, genes, fields, assay)[:, panel].copy()
    adata.obs["Area"] = np.exp(rng.normal(np.log(100.0), 0.35, n_cells))  # µm²
    adata.obs = adata.obs.rename(columns={"cell_type": "celltype_mapped_refined"})
    parameters = {"n_cells": n_cells, "n_panel": n_panel, "n_bins": n_bins, "n_genes": n_genes}
    parameters |= {"embryonic_day": age, "true_micrometres_per_unit": FIELD_OF_VIEW_UM}
    label(adata, "seqfish", seed, parameters)
    adata.uns["genot"] |= {"source": SOURCE, "spatial_unit": "field of view"}
    return {"seqfish": adata}


def _with_unknown(known: Genes, n_new: int, rng: np.random.Generator) -> Genes:
    """Add genes that only the panel has: like some of the others, in other cell types."""
    role = known.var["role"].to_numpy()
    like = rng.permutation(np.flatnonzero(role == "spatial"))[:n_new]
    rate = np.hstack([known.rate, rng.permuted(known.rate[:, like], axis=0)])
    names = [f"SIMQ{number + 1:03d}" for number in range(n_new)]
    var = pd.DataFrame({"role": "spatial", "marker_of": ""}, index=names)
    return Genes(
        var=pd.concat([known.var, var]),
        share=known.share,
        rate=rate / rate.sum(axis=1, keepdims=True),
        response=np.hstack([known.response, known.response[:, like]]),
        dispersion=np.concatenate([known.dispersion, known.dispersion[like]]),
    )


def _choose_panel(known: Genes, n_chosen: int, rng: np.random.Generator) -> np.ndarray:
    """Choose the columns of genes that tell cell types apart, without looking at places."""
    role, mean = known.var["role"].to_numpy(), known.rate.mean(axis=0)
    crowded = np.isin(role, ["housekeeping", "mitochondria"]) | (mean > np.quantile(mean, 0.97))
    rank = np.log(known.rate).std(axis=0) * (mean > np.median(mean))  # what tells types apart
    rank[role == "marker"] = np.inf
    rank[crowded] = -np.inf
    order = np.argsort(-rank, kind="stable")[: (~crowded).sum()]
    n_best = 2 * n_chosen // 3
    others = rng.permutation(order[n_best:])[: n_chosen - n_best]  # of interest for other reasons
    return np.sort(np.concatenate([order[:n_best], others]))


def _cells(body_rng, slide_rng, age: float, n_cells: int, size: int) -> Shape:
    """Scatter cells over the body that ``_embryo_shape`` draws with the same first generator."""
    body_rng.uniform()  # there: how the embryo lies on the chip
    outline = [smooth_field(body_rng, 0.25) for _ in range(2)]
    radius = BIN_UM * np.sqrt(size / BODY_AREA)
    common = scatter_beads(
        slide_rng, n_cells, lambda p: _embryo_anatomy(p / radius, age, outline)[0], 1.35 * radius
    )
    _, domain, gradient = _embryo_anatomy(common / radius, age, outline)
    turned = rotate(common * [-1.0, 1.0], slide_rng.uniform(90, 270)) / FIELD_OF_VIEW_UM
    return Shape(turned - turned.mean(axis=0), common, domain, gradient)
