"""Simulated regions of the mouse brain: hippocampus, olfactory bulb, preoptic hypothalamus.

For each: the function that simulates it, its shape, and what it is made of. The hippocampus has
thin, curved cell layers; the bulb has concentric layers and is seen by two technologies; nuclei of
the hypothalamus are mixtures of cell types.
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
    draw_tissue,
    generator,
    label,
    measure,
    rotate,
    scatter_beads,
    smooth_field,
    square_grid,
)


@checked(n_beads=(500, 30_000))
def simulate_hippocampus(
    *, n_beads: int = 8000, n_genes: int = 900, seed: int = 0
) -> dict[str, ad.AnnData]:
    """Simulate mouse hippocampus on Slide-seqV2 beads: thin, curved domains and few UMIs.

    Beads of 10 µm lie at irregular positions on a disc 3 mm wide. A bead holds one cell or two, so
    ``obs["cell_type"]`` scatters while the domains are regions. A real disc (Stickels et al. 2021
    [1]_) holds some five times as many beads as the default.

    Parameters
    ----------
    n_beads
        Number of beads, 500 to 30000.
    n_genes, seed
        As in :func:`genot_helpers.simulation.simulate_cortex`; errors too.

    Returns
    -------
    dict of str to AnnData
        One slice, ``"hippocampus"``; slots as in :func:`genot_helpers.simulation.simulate_cortex`,
        without array positions.

    References
    ----------
    .. [1] Stickels et al. (2021), Highly sensitive spatial transcriptomics at near-cellular
       resolution with Slide-seqV2. https://doi.org/10.1038/s41587-020-0739-1
    """
    assay = Assay(depth=300, cells=1.5, spread=0.5, dropout=0.2)
    genes, fields = draw_tissue(seed, HIPPOCAMPUS, n_genes, n_beads * assay.depth)
    shape = _hippocampus_shape(generator(seed, 3), n_beads=n_beads)
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


@checked(n_bins=(500, 10**7), n_beads=(500, 10**8))
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
    """
    if n_beads > 3 * n_bins:
        raise ValueError(f"n_beads is {n_beads}: there is room for at most {3 * n_bins} (3 a bin).")
    assays = {
        "stereoseq": Assay(depth=600, cells=3, spread=0.35, dropout=0.1, batch=0.4),
        "slideseqv2": Assay(depth=220, cells=1.5, spread=0.5, dropout=0.2, batch=0.4),
    }
    genes, fields = draw_tissue(seed, BULB, n_genes, min(300 * n_bins, 100 * n_beads))
    missed = generator(seed, 6).permutation(n_genes)
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

# Outer border of each layer as a share of the radius, outside in: nerve layer, glomeruli, external
# plexiform layer, mitral cells (thin), internal plexiform layer, granule cells, migratory stream.
_BORDERS = (1.0, 0.90, 0.76, 0.55, 0.505, 0.45, 0.16)


# -------------------------------------------------------------------------------------------------
# The preoptic hypothalamus, in single cells.


@checked(n_cells=(300, 12_000), section_gap_um=(0, 10**9))
def simulate_hypothalamus(
    n_sections: int = 3,
    *,
    n_cells: int = 5500,
    n_genes: int = 155,
    section_gap_um: float = 50.0,
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate consecutive sections of a mouse hypothalamus, measured cell by cell (MERFISH).

    Eight regions stand in for those annotated by Moffitt et al. 2018 [1]_: nuclei, the fornix (fx)
    and the third ventricle (V3). Nuclei differ by the *proportions* of fifteen cell types, as
    neurons of most types lie nearly everywhere: a test of models of composition.

    Parameters
    ----------
    n_sections
        Number of sections. Section k is the same however many there are.
    n_cells
        Cells in a section, 300 to 12,000.
    n_genes, section_gap_um, seed
        As in :func:`genot_helpers.simulation.simulate_cortex`; errors too.

    Returns
    -------
    dict of str to AnnData
        ``"hypothalamus_1"``, …; slots as in :func:`genot_helpers.simulation.simulate_cortex`,
        without array positions. y grows from ventral to dorsal (``uns["genot"]["y_axis"]``: "up").

    References
    ----------
    .. [1] Moffitt et al. (2018), Molecular, spatial, and functional single-cell profiling of the
       hypothalamic preoptic region. https://doi.org/10.1126/science.aau5324
    """
    # A cell is one cell, not a mixture: .35 leaves a little of the neighbours' transcripts in it.
    assay = Assay(depth=350, cells=0.35, spread=0.45, patches=0.15, dropout=0.1)
    genes, fields = draw_tissue(seed, HYPOTHALAMUS, n_genes, n_cells * assay.depth)
    placing = [generator(seed, 3, i) for i in range(n_sections)]
    shapes = _hypothalamus_shape(
        generator(seed, 4), placing, n_cells=n_cells, gap_um=section_gap_um
    )
    given = {"n_sections": n_sections, "n_cells": n_cells, "n_genes": n_genes}
    sections = {}
    for i, shape in enumerate(shapes):
        name, position = f"hypothalamus_{i + 1}", i * float(section_gap_um)
        adata = measure(
            generator(seed, 5, i), shape, HYPOTHALAMUS, genes, fields, assay, z=position / 2000
        )
        facts = {**given, "section_gap_um": float(section_gap_um), "position_um": position}
        sections[name] = label(adata, name, seed, facts)
        sections[name].uns["genot"]["y_axis"] = "up"  # as in the measured sections
    return sections


def _hypothalamus_shape(
    block_rng: np.random.Generator, section_rngs: list, *, n_cells: int, gap_um: float
) -> list[Shape]:
    """Cut sections of one block; ``gradient`` runs from ventral to dorsal, and so does y."""
    bend = [smooth_field(block_rng, 0.6, 3) for _ in range(2)]
    shapes = []
    for i, rng in enumerate(section_rngs):
        common = scatter_beads(
            rng, n_cells, lambda p: np.abs(p).max(axis=1) < _HALF_WIDTH_UM, _HALF_WIDTH_UM
        )
        unit = common / _HALF_WIDTH_UM
        depth = np.full(len(unit), i * gap_um / 500)
        points = unit + 0.045 * np.column_stack([f(np.c_[unit, depth]) for f in bend])
        spatial = rotate(common, rng.uniform(-3, 3))
        spatial -= spatial.min(axis=0)
        shapes.append(Shape(spatial, common, _nuclei(points), (unit[:, 1] + 1) / 2))
    return shapes


def _nuclei(points: np.ndarray) -> np.ndarray:
    """Return the code of the nucleus at points (n, 2) in a frame from -1 to 1, dorsal at y = 1."""
    side, height = np.abs(points[:, 0]), points[:, 1]

    def ellipse(x: float, y: float, width: float, tall: float) -> np.ndarray:
        return ((side - x) / width) ** 2 + ((height - y) / tall) ** 2 < 1

    code = np.zeros(len(points), dtype=int)
    code[(side > 0.30 + 0.15 * height) & (height > -0.12) & (height < 0.66)] = 2
    code[ellipse(0.32, -0.45, 0.28, 0.32)] = 1
    code[ellipse(0.17, 0.36, 0.27, 0.32)] = 3
    code[(side < 0.14) & (height < -0.05) & (height > -0.86)] = 4
    code[ellipse(0.0, 0.88, 0.36, 0.17)] = 5
    code[ellipse(0.56, 0.82, 0.20, 0.15)] = 6
    code[(side < 0.06 + 0.02 * (height > 0.3)) & (height > -0.62) & (height < 0.72)] = 7
    return code


HYPOTHALAMUS = Recipe(
    domains={
        **{"MPA": 1.0, "MPN": 1.1, "BST": 1.05, "PVH": 1.0, "PV": 1.0, "PVT": 1.0},
        **{"fx": 0.8, "V3": 0.9},
    },
    cell_types="""
    Inhibitory Gal | inhibitory | MPN 26, MPA 8.3, PV 13, BST 6.9, elsewhere 1.5 | Gal Esr1 Moxd1
    Inhibitory Sst | inhibitory | BST 30, MPA 12, PVH 9.8, elsewhere 2.1 | Sst Npy1r Pnoc
    Inhibitory Penk | inhibitory | BST 24, MPA 11, PVH 13, MPN 4.1, elsewhere 1.5 | Penk Synpr Cplx3
    Inhibitory Th | inhibitory | PV 41, MPN 10, MPA 3.8, PVH 5.1, elsewhere 0.88 | Th Slc18a2 Calcr
    Inhibitory Tac1 | inhibitory | MPN 14, PV 12, MPA 8.8, BST 7.4, elsewhere 1.6 | Tac1 Ar Greb1
    Excitatory Nts | excitatory | MPN 17, MPA 8.1, PV 6, elsewhere 1.8 | Nts Slc17a6 Brs3
    Excitatory Cck | excitatory | MPA 12, MPN 5.8, BST 5.4, elsewhere 2.6 | Cck Oxtr Tacr3
    Excitatory Crh | excitatory | PVH 26, MPA 3.5, elsewhere 1.1 | Crh Trh Oxt
    Excitatory Cbln1 | excitatory | PVT 66, PVH 3.6, fx 8.7, elsewhere 0.86 | Cbln1 Necab1 Slc17a7
    Astrocyte | astroglia | PVH 19, PVT 13, MPA 13, fx 12, V3 2.1, elsewhere 6.5 | Aqp4 Mlc1 Aldh1l1
    Mature oligodendrocyte | myelin | fx 52, MPA 5.1, elsewhere 0.95 | Mbp Opalin Ermn
    Immature oligodendrocyte | progenitor | elsewhere 3.1 | Pdgfra Traf4 Sox8
    Ependymal | ependyma | V3 82, elsewhere 0.1 | Cd24a Nnat Krt90
    Endothelial | vascular | elsewhere 5.4 | Fn1 Slco1a4 Cyr61
    Microglia | immune | elsewhere 2.3 | Selplg Slc15a3 Gda
    """,
    gradient="Irs4 Lepr Prlr Pgr Rxfp1 Htr2c",
    ramp={},
    strength={"myelin": 2.0, "ependyma": 2.0, "astroglia": 1.6, "excitatory": 1.3, "immune": 1.8},
    own=0.9,
)

_HALF_WIDTH_UM = 900.0
