"""A simulated mouse olfactory bulb seen by two technologies: bins and beads."""

from __future__ import annotations

import anndata as ad
import numpy as np

from .genes import Recipe, draw_genes
from .places import BIN_UM, Shape, rotate, scatter_beads, smooth_field, square_grid
from .simulation import Assay, check_whole, draw_fields, generator, label, measure

__all__ = ["bulb_shape", "simulate_olfactory_bulb"]

BULB = Recipe(
    domains={
        **{"Nerve layer": 0.7, "Glomerular layer": 1.1, "External plexiform layer": 0.8},
        **{"Mitral cell layer": 1.4, "Internal plexiform layer": 0.9, "Granule cell layer": 1.3},
        "Migratory stream": 1.1,
    },
    cell_types="""
    Ensheathing glia | glia | Nerve layer 70, elsewhere 3 | Apod Frzb Omp Sparc
    Periglomerular neuron | inhibitory | Glomerular layer 36, elsewhere 3 | Th Calb1 Calb2 Kctd12
    Tufted neuron | excitatory | Glomerular layer 18, External plexiform layer 26 |\
    Cdhr1 Barhl2 Slc17a7 Lbhd2
    Mitral neuron | excitatory | Mitral cell layer 50, elsewhere 3 | Tbx21 Eomes Nrsn1 Snca
    Granule neuron | inhibitory | Granule cell layer 60, Internal plexiform layer 36,\
    Mitral cell layer 20, Migratory stream 15, elsewhere 4 | Penk Meis2 Synpr Tshz1 Gad1
    Neuroblast | neuroblast | Migratory stream 55, elsewhere 2 | Dcx Sox11 Cd24a Dlx1 Dlx2
    Astrocyte | glia | External plexiform layer 34, elsewhere 16 | Gfap Aqp4 Slc1a3 Gja1
    Oligodendrocyte | myelin | Internal plexiform layer 20, elsewhere 7 | Mbp Plp1 Mobp Mag Mog
    Microglia | immune | elsewhere 6 | C1qa C1qb Csf1r Cx3cr1 P2ry12
    Endothelial | vascular | elsewhere 7 | Cldn5 Flt1 Pecam1 Itm2a
    """,
    gradient="Nrgn Camk2n1 Snap25 Syt1 Thy1 Atp1b1 Nrp1",
    ramp={},
    strength={"inhibitory": 2.0, "excitatory": 2.0, "neuroblast": 2.0, "glia": 1.5, "myelin": 1.5},
    own=0.6,
)
"""What the tissue is made of; the codes of its shape follow the order of its domains."""

# Outer border of each layer as a share of the radius, outside in: nerve layer, glomeruli, external
# plexiform layer, mitral cells (thin), internal plexiform layer, granule cells, migratory stream.
_BORDERS = (1.0, 0.90, 0.76, 0.55, 0.505, 0.45, 0.16)


def bulb_shape(
    bulb_rng: np.random.Generator, slice_rng: np.random.Generator, *, n_bins: int, n_beads: int = 0
) -> Shape:
    """Cut one olfactory bulb: on a square grid of bins, or on beads where ``n_beads`` is given.

    Parameters
    ----------
    bulb_rng, slice_rng
        Draw the bulb (the same seed gives both technologies the same bulb), and how the slice lies
        on its chip.
    n_bins
        Bins of 25 µm that the tissue covers, about: its size, for the beads too.
    n_beads
        Number of beads; 0 for the square grid.

    Returns
    -------
    Shape
        Codes 0 (olfactory nerve layer) to 6 (migratory stream), outside in. ``gradient`` runs from
        the top of the bulb to the bottom.
    """
    radius = BIN_UM * np.sqrt(n_bins / 3.4)
    outline, borders = smooth_field(bulb_rng, 0.5), smooth_field(bulb_rng, 0.3)

    def height(common):  # 0 in the centre, 1 on the surface
        points = common / radius
        rho = np.hypot(points[:, 0] / 0.85, points[:, 1] / 1.25)
        return rho * (1 + 0.06 * outline(points)) + 0.02 * borders(points)

    if n_beads:
        grid = None
        common = scatter_beads(slice_rng, n_beads, lambda p: height(p) < 1, 1.6 * radius)
        spatial = rotate(common, slice_rng.uniform(60, 100))
        spatial = spatial - spatial.min(axis=0)
    else:
        grid, spatial = square_grid(1.6 * radius)
        common = rotate(spatial - spatial.mean(axis=0), slice_rng.uniform(-15, 15))
        keep = height(common) < 1
        grid, spatial, common = grid[keep], spatial[keep], common[keep]
    domain = (height(common)[:, None] < np.array(_BORDERS)[1:]).sum(axis=1)
    return Shape(spatial, common, domain, np.clip(common[:, 1] / radius / 2.6 + 0.5, 0, 1), grid)


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
        ``"stereoseq"`` and ``"slideseqv2"``; slots as in
        :func:`genot_helpers.simulation.simulate_cortex` (array positions for Stereo-seq only).
        ``obsm["spatial_common"]`` is the frame that both share.

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
    check_whole(n_bins=(n_bins, 500), n_beads=(n_beads, 500), n_genes=(n_genes, 1), seed=(seed, 0))
    if n_beads > 3 * n_bins:
        raise ValueError(f"n_beads is {n_beads}: there is room for at most {3 * n_bins} (3 a bin).")
    assays = {
        "stereoseq": Assay(depth=600, cells=3, spread=0.35, dropout=0.1, batch=0.4),
        "slideseqv2": Assay(depth=220, cells=1.5, spread=0.5, dropout=0.2, batch=0.4),
    }
    genes = draw_genes(generator(seed, 1), BULB, n_genes, min(300 * n_bins, 100 * n_beads))
    missed = generator(seed, 6).permutation(n_genes)
    fields = draw_fields(generator(seed, 2))
    slices = {}
    for i, (name, assay) in enumerate(assays.items()):
        shape = bulb_shape(
            generator(seed, 4), generator(seed, 3, i), n_bins=n_bins, n_beads=i * n_beads
        )
        adata = measure(generator(seed, 5, i), shape, BULB, genes, fields, assay)
        measured = np.sort(np.delete(missed, np.s_[i::8]))
        parameters = {"n_bins": n_bins, "n_beads": n_beads, "n_genes": n_genes}
        slices[name] = label(adata[:, measured].copy(), name, seed, parameters)
    return slices
