"""Simulated tissues with known domains: for demonstrations and tests, never evidence.

Every slice is drawn from a seed in seconds and needs no file. What is simulated: positions and
domains, a mixture of cell types per spot, marker genes, programmes that run smoothly through the
tissue and are *not* domains (a gradient, blood vessels, patches of stress, a drift of mitochondrial
RNA), a depth that varies with the domain and in space, a batch effect per slice, dropout. Counts
are negative binomial, the usual model for unique molecular identifiers (UMIs; Svensson 2020,
https://doi.org/10.1038/s41587-019-0379-5).

Real gene names say where such a gene is expressed, roughly; genes called ``SIM0001`` and so on have
no counterpart. Nothing is measured: shapes were drawn after what an atlas shows, and no measured
value is copied. The cortex was calibrated on summary figures of real sections (table in
:func:`genot_helpers.simulation.simulate_cortex`) with the encoder of this package out of sight.

Each tissue has a file of its own: what it is made of, its shape, and the function that simulates
it. This file holds what they share, from the shape of a slice to counts; the tools for shapes are
in :mod:`genot_helpers.simulation.places`, the genes in :mod:`genot_helpers.simulation.genes`.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from .genes import FIELDS, Genes, Recipe
from .places import Field, Shape, smooth_field

__all__ = [
    "Assay",
    "check_not_negative",
    "check_whole",
    "draw_fields",
    "generator",
    "label",
    "measure",
]

SOURCE = "Simulated with genot_helpers.simulation: no measured tissue. Positions are in µm."


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


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one part, so that no part depends on how many others are drawn."""
    return np.random.default_rng([seed, *key])


def draw_fields(rng: np.random.Generator) -> dict[str, Field]:
    """Draw the smooth functions of (x, y, z), in units of the tissue: for fields and for depth."""
    lengths = {name: length for name, (length, _) in FIELDS.items() if length}
    return {
        name: smooth_field(rng, length, 3) for name, length in (lengths | {"depth": 0.1}).items()
    }


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
    """Count the UMIs of every gene in every spot of one slice.

    Parameters
    ----------
    rng
        Source of randomness of this slice: its batch effect, its cells, its counts.
    shape, recipe, genes, fields
        Where the spots lie, what the tissue is made of, and what
        :func:`~genot_helpers.simulation.genes.draw_genes` and :func:`draw_fields` drew.
    assay
        How the technology sees the tissue.
    size
        Length, in µm, that the patches of the smooth fields are shares of; the width of the slice
        if not given.
    z
        Depth of the slice in the tissue, as a share of ``size``.

    Returns
    -------
    AnnData
        Counts and truth, the slots that :func:`genot_helpers.simulation.simulate_cortex` lists,
        without names and ``uns``: see :func:`label`.
    """
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


def label(adata: ad.AnnData, name: str, seed: int, parameters: dict) -> ad.AnnData:
    """Name the spots and say in ``uns["genot"]`` that the slice is simulated, and how."""
    adata.obs_names = [f"{name}_spot{i + 1:05d}" for i in range(adata.n_obs)]
    adata.obs["domain_truth"] = adata.obs["domain_truth"].cat.remove_unused_categories()
    adata.uns["genot"] = {
        **{"simulated": True, "source": SOURCE, "seed": int(seed), "spatial_unit": "µm"},
        "parameters": {"slice": name, **parameters},
    }
    return adata


def check_whole(**limits: tuple[object, int]) -> None:
    """Raise a ValueError for an argument that is not a whole number or below its limit."""
    for name, (value, low) in limits.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or value < low:
            raise ValueError(f"{name} is {value!r}: give a whole number of at least {low}.")


def check_not_negative(**values: object) -> None:
    """Raise a ValueError for an argument that is not a number, or negative, NaN or infinite."""
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}: give a number, 0 or more.")


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
