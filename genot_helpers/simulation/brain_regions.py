"""Simulated mouse hippocampus (beads of Slide-seqV2) and olfactory bulb (bins and beads).

For each tissue: the function that simulates it, its shape, and what it is made of. The hippocampus
has thin, curved cell layers; the bulb has concentric layers and is seen by two technologies.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from ..arguments import checked
from .simulation import (
    BIN_UM,
    Assay,
    Recipe,
    Shape,
    check_whole,
    draw_fields,
    draw_genes,
    generator,
    label,
    measure,
    rotate,
    scatter_beads,
    smooth_field,
    square_grid,
)

__all__ = ["simulate_hippocampus", "simulate_olfactory_bulb"]


@checked
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
        One slice, ``"hippocampus"``; slots as in
        :func:`genot_helpers.simulation.simulate_cortex`, without array positions.

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
    check_whole(n_beads=(n_beads, 500), n_genes=(n_genes, 1), seed=(seed, 0))
    if n_beads > 30000:
        raise ValueError(f"n_beads is {n_beads}: the disc has room for at most 30000.")
    assay = Assay(depth=300, cells=1.5, spread=0.5, dropout=0.2)
    genes = draw_genes(generator(seed, 1), HIPPOCAMPUS, n_genes, n_beads * assay.depth)
    shape = _hippocampus_shape(generator(seed, 3), n_beads=n_beads)
    fields = draw_fields(generator(seed, 2))
    adata = measure(generator(seed, 5), shape, HIPPOCAMPUS, genes, fields, assay)
    parameters = {"n_beads": n_beads, "n_genes": n_genes}
    return {"hippocampus": label(adata, "hippocampus", seed, parameters)}


def _hippocampus_shape(rng: np.random.Generator, *, n_beads: int) -> Shape:
    """Scatter beads over a disc of 3 mm; ``gradient`` runs from left to right."""
    # Codes: 0 cortex, 1 corpus callosum, 2 CA1, 3 CA3, 4 dentate gyrus, 5 hippocampal neuropil,
    # 6 thalamus, 7 third ventricle.
    radius = 1500.0
    common = scatter_beads(rng, n_beads, lambda p: (p**2).sum(axis=1) < radius**2, radius)
    unit = common / radius
    wave = [smooth_field(rng, 0.4) for _ in range(2)]
    points = unit + 0.02 * np.column_stack([field(unit) for field in wave])
    x, y = points.T
    roof = -0.55 + 0.30 * x**2  # lower border of the corpus callosum
    domain = np.full(n_beads, 5)
    domain[y < roof] = 1
    domain[y < roof - 0.13] = 0
    domain[y > 0.42 + 0.12 * np.cos(3 * x)] = 6
    domain[(x + 0.80) ** 2 / 0.02 + (y - 0.32) ** 2 / 0.05 < 1] = 7
    to_ca, along_ca = _along(_CA_LAYER, points)
    domain[(to_ca < 0.036) & (along_ca < 0.55)] = 2
    domain[(to_ca < 0.044) & (along_ca >= 0.55)] = 3
    domain[_along(_DENTATE, points)[0] < 0.042] = 4
    return Shape(common + radius, common, domain, (unit[:, 0] + 1) / 2)


HIPPOCAMPUS = Recipe(
    domains={
        **{"Cortex": 1.1, "Corpus callosum": 0.8, "CA1": 1.6, "CA3": 1.5, "Dentate gyrus": 1.5},
        **{"Hippocampal neuropil": 0.8, "Thalamus": 1.1, "Third ventricle": 0.9},
    },
    cell_types="""
    CA1 neuron | neuron | CA1 62, CA3 4, Hippocampal neuropil 8 | Wfs1 Fibcd1 Mpped1 Satb2 Pou3f1
    CA3 neuron | neuron | CA3 62, CA1 4, Hippocampal neuropil 6 | Cpne4 Nptx1 Chgb Iyd Grik4 Hs3st4
    Granule neuron | neuron | Dentate gyrus 66, Hippocampal neuropil 6 | Prox1 C1ql2 Stxbp6 Dsp Rfx3
    Cortical neuron | neuron | Cortex 44, Corpus callosum 3 | Lamp5 Rorb Cux2 Fezf2 Tbr1 Nrn1
    Thalamic neuron | neuron | Thalamus 45 | Tcf7l2 Prkcd Lef1 Zic1 Rgs16
    Interneuron | neuron | Cortex 12, elsewhere 7 | Gad1 Gad2 Sst Pvalb Vip Npy
    Astrocyte | astroglia | Hippocampal neuropil 34, elsewhere 13 | Gfap Aqp4 Slc1a3 Gja1 Aldoc Cst3
    Oligodendrocyte | myelin | Corpus callosum 58, Thalamus 16, elsewhere 8 | Mbp Plp1 Mobp Mag Mog
    Microglia | immune | elsewhere 6 | C1qa C1qb Csf1r Cx3cr1 P2ry12 Hexb
    Endothelial | vascular | elsewhere 8 | Cldn5 Flt1 Pecam1 Itm2a Slc2a1
    Ependymal | ependyma | Third ventricle 60 | Ccdc153 Tmem212 Foxj1 Ttr
    """,
    gradient="Nrgn Ncdn Camk2n1 Snap25 Syt1 Thy1 Atp1b1 Chn1",
    ramp={},
    strength={"neuron": 1.5, "myelin": 2.0, "ependyma": 2.0, "astroglia": 1.5},
    own=0.6,
)
"""What the tissue is made of; the codes of its shape follow the order of its domains."""

# Points the thin cell layers run through, in a frame where the bead disc has radius 1 (y down).
_CA_LAYER = ((-0.74, 0.00), (-0.50, -0.27), (-0.10, -0.40), (0.32, -0.36), (0.62, -0.10))
_CA_LAYER += ((0.62, 0.18), (0.40, 0.30), (0.16, 0.18))
_DENTATE = ((-0.46, 0.20), (-0.20, 0.02), (0.14, -0.08), (0.32, 0.06), (0.18, 0.34), (-0.15, 0.42))
_DENTATE += ((-0.44, 0.40),)


def _along(curve: tuple, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each point to a smooth curve and how far along it lies (0 to 1)."""
    t = np.linspace(0, 1, 400)
    line = CubicSpline(np.linspace(0, 1, len(curve)), np.array(curve))(t)
    distance, nearest = cKDTree(line).query(points)
    return distance, t[nearest]


# -------------------------------------------------------------------------------------------------
# The olfactory bulb.


@checked
def simulate_olfactory_bulb(
    *, n_bins: int = 4000, n_beads: int = 6000, n_genes: int = 1000, seed: int = 0
) -> dict[str, ad.AnnData]:
    """Simulate one mouse olfactory bulb measured with two technologies.

    Stereo-seq sees several cells in each bin of 25 µm; Slide-seqV2 sees one or two in each 10 µm
    bead, and fewer UMIs. Frames, resolution, capture and the level of each gene differ, and each
    technology misses a different eighth of the genes. Layers are concentric.

    Parameters
    ----------
    n_bins
        Approximate number of bins under tissue, at least 500; sets the size of the bulb.
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
        shape = _bulb_shape(
            generator(seed, 4), generator(seed, 3, i), n_bins=n_bins, n_beads=i * n_beads
        )
        adata = measure(generator(seed, 5, i), shape, BULB, genes, fields, assay)
        measured = np.sort(np.delete(missed, np.s_[i::8]))
        parameters = {"n_bins": n_bins, "n_beads": n_beads, "n_genes": n_genes}
        slices[name] = label(adata[:, measured].copy(), name, seed, parameters)
    return slices


def _bulb_shape(
    bulb_rng: np.random.Generator, slice_rng: np.random.Generator, *, n_bins: int, n_beads: int = 0
) -> Shape:
    """Cut one bulb on square bins, or on ``n_beads`` beads; ``gradient``: top to bottom."""
    # The same ``bulb_rng`` gives both technologies the same bulb, of ``n_bins`` bins. Codes 0
    # (olfactory nerve layer) to 6 (migratory stream), outside in.
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
