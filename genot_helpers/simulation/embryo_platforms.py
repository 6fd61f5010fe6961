"""A simulated mouse embryo under another instrument: single cells, a panel of genes, other units.

The tissue is that of :func:`genot_helpers.simulation.simulate_embryo`: the same cell types express
the same genes, and an embryo of a stage has the same outline and organs. What differs is how it is
measured. Imaging by seqFISH (the real set: Lohoff et al. 2022,
https://doi.org/10.1038/s41587-021-01006-2) sees cells instead of bins and catches more molecules of
a gene in a cell, but only those of a panel that was chosen beforehand. Positions come in units of a
field of view, the section lies turned on its slide and with its other side up, and every gene has
an efficiency of its own. No measured value is copied.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from .embryo import BODY_AREA, EMBRYO, GROWTH, embryo_anatomy, embryonic_day
from .genes import Genes, draw_genes
from .places import BIN_UM, Shape, rotate, scatter_beads, smooth_field
from .simulation import Assay, check_whole, draw_fields, generator, label, measure

__all__ = ["simulate_embryo_cells"]

FIELD_OF_VIEW_UM = 210.0  # what the unit of the positions really is
PANEL_UMIS = 200.0  # of the panel in the median cell
ONLY_HERE = 0.06  # share of the panel that the other instrument does not know
ASSAY = Assay(depth=PANEL_UMIS, cells=0.4, spread=0.45, patches=0.15, dropout=0.0, batch=0.6)
SOURCE = (
    "Simulated with genot_helpers.simulation: no measured tissue. Positions are in fields of view."
)


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
        From ``"E9"`` to ``"E12.5"``. It is the animal that :func:`simulate_embryo` measures in bins
        under the same name and seed; another stage is another animal.
    n_cells
        Number of cells, at least 500 and at most 5 for each bin of the tissue.
    n_panel
        Genes of the panel, from 100 up to half of ``n_genes``: the named markers, genes that tell
        cell types apart, and others; 6 % of them are not among those of ``simulate_embryo``. Genes
        that every cell is full of would crowd an image, and are left out.
    n_bins, n_genes
        Size of the embryo and genes of the tissue, as in :func:`simulate_embryo`: give the same
        values (and seed) there, so that both are made of the same cell types.
    seed
        The same seed gives a bit-identical slice.

    Returns
    -------
    dict of str to AnnData
        One slice, ``"seqfish"``; slots as in :func:`genot_helpers.simulation.simulate_cortex`,
        except: no array positions; ``obsm["spatial"]`` in fields of view, turned and mirrored
        (``obsm["spatial_common"]`` stays in µm, in the frame of the embryo); ``obs["Area"]`` and
        ``obs["celltype_mapped_refined"]``, the cell type, as the public file calls them.
        ``uns["genot"]["parameters"]`` has ``embryonic_day`` and the true length of the unit.

    Raises
    ------
    ValueError
        If the stage is unknown, or a number is out of range.

    Examples
    --------
    >>> cells = simulate_embryo_cells(n_cells=600, n_bins=500)["seqfish"]
    >>> cells.n_vars
    350
    """
    age = embryonic_day(stage)
    check_whole(n_cells=(n_cells, 500), n_panel=(n_panel, 100), n_bins=(n_bins, 500))
    check_whole(n_genes=(n_genes, 2 * n_panel), seed=(seed, 0))
    grown, key = round(n_bins * GROWTH ** (age - 9.5)), round(100 * age)
    if n_cells > 5 * grown:
        raise ValueError(f"n_cells is {n_cells}: there is room for at most {5 * grown} (5 a bin).")
    depth = n_bins * 1100
    known = draw_genes(generator(seed, 1), EMBRYO, n_genes, depth)
    rng, n_new = generator(seed, 8), round(ONLY_HERE * n_panel)
    panel = _choose_panel(known, n_panel - n_new, rng)
    panel = np.append(panel, n_genes + np.arange(n_new))
    genes = _with_unknown(known, n_new, rng)
    seen = genes.rate[:, panel].sum(axis=1).mean()  # a cell holds more than the panel shows
    shape = _cells(generator(seed, 3, key), generator(seed, 9, key), age, n_cells, grown)
    rng, fields = generator(seed, 5, key, 1), draw_fields(generator(seed, 2, key))
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
    """Choose genes as a designer would, who knows cell types but not where they lie: columns."""
    role, mean = known.var["role"].to_numpy(), known.rate.mean(axis=0)
    crowded = np.isin(role, ["housekeeping", "mitochondria"]) | (mean > np.quantile(mean, 0.97))
    rank = np.log(known.rate).std(axis=0) * (mean > np.median(mean))  # what tells types apart
    rank[role == "marker"] = np.inf
    rank[crowded] = -np.inf
    order = np.argsort(-rank, kind="stable")[: (~crowded).sum()]
    n_best = 2 * n_chosen // 3
    others = rng.permutation(order[n_best:])[: n_chosen - n_best]  # of interest for other reasons
    return np.sort(np.concatenate([order[:n_best], others]))


def _cells(
    body_rng: np.random.Generator,
    slide_rng: np.random.Generator,
    age: float,
    n_cells: int,
    size: int,
) -> Shape:
    """Scatter cells over the body that ``embryo_shape`` draws with the same first generator."""
    body_rng.uniform()  # there: how the embryo lies on the chip
    outline = [smooth_field(body_rng, 0.25) for _ in range(2)]
    radius = BIN_UM * np.sqrt(size / BODY_AREA)
    common = scatter_beads(
        slide_rng, n_cells, lambda p: embryo_anatomy(p / radius, age, outline)[0], 1.35 * radius
    )
    _, domain, gradient = embryo_anatomy(common / radius, age, outline)
    turned = rotate(common * [-1.0, 1.0], slide_rng.uniform(90, 270)) / FIELD_OF_VIEW_UM
    return Shape(turned - turned.mean(axis=0), common, domain, gradient)
