"""Simulated sections on Visium slides: a folded human cortex, and a mouse brain cut lengthwise.

:func:`simulate_cortex` lists the slots that all simulated slices have, and compares the result with
real sections. For each tissue: the function that simulates it, its shape, what it is made of.
"""

from __future__ import annotations

import anndata as ad
import numpy as np

from ..arguments import checked
from .simulation import (
    VISIUM_PITCH_UM,
    Assay,
    Recipe,
    Shape,
    draw_tissue,
    generator,
    label,
    measure,
    rotate,
    smooth_field,
    visium_grid,
)


@checked(n_spots=(150, 10**7), n_genes=(1, 10**6), section_gap_um=(0, 10**9))
def simulate_cortex(
    n_sections: int = 3,
    *,
    n_spots: int = 3600,
    n_genes: int = 1200,
    section_gap_um: float = 100.0,
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate consecutive sections of one block of human cortex, measured with 10x Visium.

    Six layers and white matter are folded around a gyrus. L4 is thin, and neighbouring layers share
    most of their expression. Sections are deformed smoothly from one to the next and lie rotated
    and shifted on their slides, so a middle one can be held out.

    Parameters
    ----------
    n_sections
        Number of sections. Section k is the same however many there are.
    n_spots
        Approximate spots under tissue, at least 150; 3,700 fill a slide. Spots stay 100 µm apart:
        fewer mean less tissue.
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
          ``obs["cell_type"]``: the most abundant one. ``obs["in_tissue"]``, ``obs["array_row"]``,
          ``obs["array_col"]``: as Space Ranger writes them.
        - ``obsm["spatial"]``: (spots, 2) float64, µm on the slide, y down.
          ``obsm["spatial_common"]``: the same in the frame of the block, deformation undone: the
          truth for alignment, which no instrument measures.
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
    the 1,200 most expressed variable genes): range over the sections. Simulated: mean (range) over
    the first section of seeds 0 to 7:

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
    these averaged four times over a spot and its 6 nearest. Mixture: Gaussian with one shared
    covariance, likeliest of 30 starts. Supervised: logistic regression on the true labels, in
    cross-validation, a ceiling. Not reached: highly expressed genes vary more than real ones, more
    of the smooth variation is nuisance, and the ceiling is lower.

    References
    ----------
    .. [1] Maynard et al. (2021), Transcriptome-scale spatial gene expression in the human
       dorsolateral prefrontal cortex. https://doi.org/10.1038/s41593-020-00787-0

    Examples
    --------
    >>> list(simulate_cortex(n_spots=300, seed=1))
    ['cortex_1', 'cortex_2', 'cortex_3']
    """
    assay = Assay(depth=1000, cells=11)
    genes, fields = draw_tissue(seed, CORTEX, n_genes, n_spots * assay.depth)
    placing = [generator(seed, 3, i) for i in range(n_sections)]
    shapes = _cortex_shape(generator(seed, 4), placing, n_spots=n_spots, gap_um=section_gap_um)
    size = np.ptp(shapes[0].common)
    given = {"n_sections": n_sections, "n_spots": n_spots, "n_genes": n_genes}
    sections = {}
    for i, shape in enumerate(shapes):
        rng, name, position = generator(seed, 5, i), f"cortex_{i + 1}", i * float(section_gap_um)
        adata = measure(rng, shape, CORTEX, genes, fields, assay, size=size, z=position / 2000)
        adata.obs.loc[rng.random(adata.n_obs) < 0.01, "domain_truth"] = np.nan
        adata.obs["in_tissue"] = 1
        parameters = given | {"section_gap_um": float(section_gap_um), "position_um": position}
        sections[name] = label(adata, name, seed, parameters)
    return sections


def _cortex_shape(
    block_rng: np.random.Generator, section_rngs: list, *, n_spots: int, gap_um: float
) -> list[Shape]:
    """Cut consecutive sections of one block and lay them on slides, rotated and shifted."""
    # Borders, outline and a smooth deformation are functions of (x, y, z): neighbouring sections
    # resemble each other. Codes 0 (L1) to 6 (WM); ``gradient`` is 0 at the pia and 1 deep in the
    # white matter.
    gyrus, scale = _Gyrus(block_rng), np.sqrt(n_spots / 3700)
    n_rows, n_columns = max(round(78 * scale), 8), max(round(64 * scale), 7)
    size = VISIUM_PITCH_UM * np.array([n_columns, n_rows * np.sqrt(3) / 2])
    grid, spatial = visium_grid(n_rows, n_columns)
    shapes = []
    for i, rng in enumerate(section_rngs):
        tilt, slide = rng.uniform(-4, 4), rng.uniform(-0.02, 0.02, 2)
        points = rotate(spatial / size.max() - 0.5, tilt) * size.max() / size
        points = points - points.mean(axis=0) + 0.5 + slide
        points = np.column_stack([points, np.full(len(points), i * gap_um / 2000)])
        points[:, :2] += 0.02 * np.column_stack([field(points) for field in gyrus.shift])
        keep = gyrus.inside(points)
        common = points[keep, :2] * size
        shapes.append(Shape(spatial[keep], common, *gyrus.layers(points[keep]), grid[keep]))
    return shapes


class _Gyrus:
    """A block of cortex, its places from 0 to 1 in x and y: white matter under six layers."""

    def __init__(self, rng: np.random.Generator):
        self.wobble, self.edge = smooth_field(rng, 0.3, 3), smooth_field(rng, 0.08, 3)
        self.borders = [smooth_field(rng, 0.18, 3) for _ in _SHARES[1:]]
        self.shift = [smooth_field(rng, 0.4, 3) for _ in range(2)]
        fine = np.linspace(0, 1, 120)
        block = np.stack([*np.meshgrid(fine, fine), np.zeros((120, 120))], axis=-1).reshape(-1, 3)
        heights = self.height(block[self.inside(block)])
        self.cuts = np.quantile(heights, 1 - np.cumsum(_SHARES)[:-1])
        self.pia, self.floor = heights.max(), heights.min()

    def height(self, points: np.ndarray) -> np.ndarray:
        """Return the height (n,) above the white matter: two walls, the corner rounded off."""
        top = -0.54 * (points[:, 0] - 0.08) - 0.84 * (points[:, 1] - 0.78)
        right = 0.72 * (points[:, 0] - 0.34) + 0.10 * (points[:, 1] - 0.90)
        return np.logaddexp(9 * top, 9 * right) / 9 + 0.03 * self.wobble(points)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Say which points (n, 3) lie in the tissue."""
        rough = 0.010 * self.edge(points)
        x, y = points[:, 0], points[:, 1]
        return (
            (self.height(points) + rough < 0.43)
            & (np.minimum(x - 0.07, 0.94 - x) + rough > 0)
            & (np.minimum(y - 0.03, 0.925 - y) + rough > 0)
        )

    def layers(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the layer, 0 to 6, and the gradient, 0 to 1, at points inside."""
        height, pairs = self.height(points), zip(self.cuts, self.borders, strict=True)
        edges = np.column_stack([cut - 0.014 * border(points) for cut, border in pairs])
        gap = 0.012 * np.arange(6)  # no layer vanishes
        edges = np.minimum.accumulate(edges + gap, axis=1) - gap
        domain = (height[:, None] < edges).sum(axis=1)
        return domain, np.clip((self.pia - height) / (self.pia - self.floor), 0, 1)


CORTEX = Recipe(
    domains=dict(L1=0.32, L2=1.15, L3=1.35, L4=1.22, L5=1.2, L6=0.8, WM=0.9),
    cell_types="""
    Excitatory L2 | neuron | L1 4, L2 45, L3 12, L4 3 | HPCAL1 CUX1 LAMP5 CARTPT CCDC68 C1QL2 PDGFD
    Excitatory L3 | neuron | L2 15, L3 45, L4 18, L5 4 | FREM3 CUX2 ADCYAP1 COL5A2 LINC00507 CBLN2
    Excitatory L4 | neuron | L2 2, L3 8, L4 38, L5 11, L6 1 | RORB NEFH SCN1B VAMP1 TRABD2A GABRA1
    Excitatory L5 | neuron | L3 3, L4 12, L5 45, L6 10 | PCP4 TMSB10 FEZF2 BCL11B HTR2C TRIB2 ETV1
    Excitatory L6 | neuron | L4 2, L5 9, L6 42, WM 4 | KRT17 NR4A2 THEMIS SYT6 TLE4 DIRAS2 NTNG2
    Inhibitory | neuron | L6 9, WM 4, elsewhere 12 | GAD1 GAD2 SLC32A1 SST VIP PVALB NPY CCK CALB2
    Astrocyte | astroglia | L1 58, L2 14, L6 13, WM 20, elsewhere 9 | AQP4 RELN GFAP GJA1 SLC1A3 MT3
    Oligodendrocyte | myelin | L4 7, L5 12, L6 35, WM 50, elsewhere 5 | MBP MOBP PLP1 MAG MOG MAL
    Microglia | immune | L1 10, elsewhere 7 | C3 CSF1R C1QA C1QB CX3CR1 P2RY12 TYROBP
    Endothelial | vascular | L1 9, elsewhere 6 | CLDN5 FLT1 PECAM1 ITM2A SLC2A1
    """,
    gradient="HOPX CAMK2N1 ENC1 NEFL NEFM SNAP25 NRGN VSNL1 THY1 STMN2 UCHL1 SYT1",
    ramp={"Oligodendrocyte": (14.0, 0.68)},
    strength={"myelin": 3.0},
    own=0.25,
    human=True,
)

# Share of the tissue in L1, L2, ..., L6, WM: the mean of three annotated sections of Maynard 2021.
_SHARES = (0.09, 0.07, 0.25, 0.068, 0.185, 0.17, 0.167)


# -------------------------------------------------------------------------------------------------
# The whole brain, cut lengthwise and then in two.


@checked(n_spots=(600, 10**7), section_gap_um=(0, 10**9), batch=(0, 100))
def simulate_sagittal_brain(
    n_sections: int = 2,
    *,
    n_spots: int = 5600,
    n_genes: int = 800,
    section_gap_um: float = 20.0,
    batch: float = 0.15,
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate sagittal sections of one mouse brain, each cut into two halves, on Visium slides.

    As in the public sections of 10x Genomics, a section is longer than a slide. Some domains lie in
    one half only (olfactory bulb, striatum; cerebellum, hindbrain), others cross the cut. Each
    slice has its own batch effect: a factor per gene, the same in all spots. The layout follows,
    schematically, the Allen mouse brain atlas (Wang et al. 2020,
    https://doi.org/10.1016/j.cell.2020.04.007).

    Parameters
    ----------
    n_sections
        Number of sections; each gives an anterior and a posterior slice.
    n_spots
        Approximate spots under tissue of a whole section, at least 600; fewer: a smaller brain.
    n_genes, section_gap_um, seed
        As in :func:`genot_helpers.simulation.simulate_cortex`.
    batch
        Standard deviation of the logarithm of these factors.

    Returns
    -------
    dict of str to AnnData
        ``"anterior_1"``, ``"posterior_1"``, ``"anterior_2"``, …; slots as in
        :func:`genot_helpers.simulation.simulate_cortex`. ``obsm["spatial_common"]`` is the frame of
        the whole brain, µm, in which the halves join: the truth that no instrument knows.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range.

    Notes
    -----
    Not calibrated on measured sections, and the differences between its domains were set after
    looking at results: scores here say nothing about real ones. The batch effect is stronger than
    that between real neighbouring sections on one slide.

    Examples
    --------
    >>> list(simulate_sagittal_brain(1, n_spots=600))
    ['anterior_1', 'posterior_1']
    """
    assay = Assay(depth=1500, cells=8, dropout=0.05, batch=float(batch))
    genes, fields = draw_tissue(seed, SAGITTAL, n_genes, 0.4 * n_spots * assay.depth)
    placing = [generator(seed, 3, i) for i in range(2 * n_sections)]
    shapes = _sagittal_shapes(generator(seed, 4), placing, n_spots=n_spots, gap_um=section_gap_um)
    size = SLIDE_UM * np.sqrt(n_spots / 5600)  # patches as large as those of the cortex
    given = {"n_sections": n_sections, "n_spots": n_spots, "n_genes": n_genes}
    given |= {"section_gap_um": float(section_gap_um), "batch": float(batch)}
    slices = {}
    for i, shape in enumerate(shapes):
        name, position = f"{HALVES[i % 2]}_{i // 2 + 1}", i // 2 * float(section_gap_um)
        z = position / 2000
        adata = measure(
            generator(seed, 5, i), shape, SAGITTAL, genes, fields, assay, size=size, z=z
        )
        adata.obs["in_tissue"] = 1
        slices[name] = label(adata, name, seed, given | {"position_um": position})
    return slices


def _sagittal_shapes(
    brain_rng: np.random.Generator, slice_rngs: list, *, n_spots: int, gap_um: float
) -> list[Shape]:
    """Cut sections of one brain lengthwise, halve them, lay each half on a slide."""
    # Outline and domains are deformed by smooth functions of (x, y, z). ``gradient`` runs from nose
    # to tail; ``common`` is the frame of the whole brain.
    scale = np.sqrt(n_spots / 5600)
    slide = SLIDE_UM * scale
    grid, spatial = visium_grid(round(78 * scale), round(64 * scale))
    shift = [smooth_field(brain_rng, 0.35, 3) for _ in range(2)]
    fine = [smooth_field(brain_rng, 0.10, 3) for _ in range(2)]
    tilt = brain_rng.uniform(-0.04, 0.04)  # of the cut
    shapes = []
    for i, rng in enumerate(slice_rngs):
        section, posterior = divmod(i, 2)
        angle, moved = np.deg2rad(rng.uniform(-3, 3)), rng.uniform(-0.015, 0.015, 2)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = (spatial - spatial.mean(axis=0)) / slide @ turn + 0.5 + moved
        points[:, 0] += 0.98 if posterior else 0.02  # the slide reaches a little over the cut
        deep = np.column_stack([points, np.full(len(points), section * gap_um / 1000)])
        seen = points + 0.02 * np.column_stack([field(deep) for field in shift])
        seen = seen + 0.006 * np.column_stack([field(deep) for field in fine])
        domain = _anatomy(seen)
        to_cut = (points[:, 0] - 1 - tilt * (points[:, 1] - 0.5)) * (1 if posterior else -1)
        keep = (domain >= 0) & (to_cut > 0.5 * LOST_UM / slide)
        common = points[keep] * slide
        gradient = np.clip(points[keep, 0] / 2, 0, 1)
        shapes.append(Shape(spatial[keep], common, domain[keep], gradient, grid[keep]))
    return shapes


def _anatomy(points: np.ndarray) -> np.ndarray:
    """Return the domain at each point (n, 2), in units of a slide; -1 outside the brain."""
    x, y = points.T
    domain = np.full(len(points), -1)
    domain[_radius(points, _HINDBRAIN) < 1] = 8
    domain[_radius(points, _BULB) < 1] = 11
    # The cerebellum: a leaf-shaped surface, granule cells under it, white matter inside.
    folds = 1 + 0.10 * np.cos(11 * np.arctan2(y - _CEREBELLUM[1], x - _CEREBELLUM[0]))
    leaf = _radius(points, _CEREBELLUM)
    for limit, code in ((1.0, 9), (0.76, 10), (0.36, 3)):
        domain[(leaf < 1) & (leaf * np.where(code == 9, 1, folds) < limit)] = code
    # The cerebrum: cortex over white matter over the hippocampus, nuclei below.
    depth = _radius(points, _CEREBRUM)
    inside = depth < 1
    dorsal = y < 0.62 - 0.10 * x  # ventrally there is no cortex
    domain[inside] = np.select([x < 0.74, x > 1.17], [4, 7], 0)[inside]
    domain[(_radius(points, _STRIATUM) < 1) & inside] = 4
    domain[(depth < 0.62) & dorsal & (x > 0.74)] = 5
    domain[(_radius(points, _THALAMUS) < 1) & inside] = 6
    for limit, code in ((0.62, 3), (0.70, 2), (0.86, 1)):
        domain[(depth >= limit) & inside & dorsal] = code
    return domain


def _radius(points: np.ndarray, ellipse: tuple[float, ...]) -> np.ndarray:
    """Return how far out points (n, 2) lie: 0 in the middle of the ellipse, 1 on its border."""
    x, y, a, b = ellipse
    return np.hypot((points[:, 0] - x) / a, (points[:, 1] - y) / b)


SAGITTAL = Recipe(
    domains={
        **{"Hypothalamus": 1.0, "Upper cortex": 1.15, "Deep cortex": 1.2, "Fibre tracts": 0.7},
        **{"Striatum": 1.0, "Hippocampus": 1.15, "Thalamus": 1.05, "Midbrain": 0.95},
        **{"Hindbrain": 0.85, "Cerebellar molecular layer": 0.75},
        **{"Cerebellar granular layer": 1.3, "Olfactory bulb": 1.2},
    },
    cell_types="""
    Upper layer neuron | pallial | Upper cortex 48, Deep cortex 9, Hippocampus 3 |\
    Cux2 Rasgrf2 Lamp5 Calb1 Stard8
    Deep layer neuron | pallial | Deep cortex 46, Upper cortex 7, Hippocampus 3 |\
    Fezf2 Foxp2 Tle4 Rprm Etv1
    Hippocampal neuron | pallial | Hippocampus 52 | Wfs1 Prox1 Fibcd1 C1ql2 Spink8
    Medium spiny neuron | inhibitory | Striatum 52 | Drd1 Drd2 Adora2a Ppp1r1b Rgs9
    Interneuron | inhibitory | Upper cortex 10, Deep cortex 10, elsewhere 5 |\
    Gad1 Gad2 Sst Pvalb Vip
    Molecular layer neuron | inhibitory | Cerebellar molecular layer 46,\
    Cerebellar granular layer 6 | Pcp2 Car8 Ppp1r17 Itpr1 Calb2
    Cerebellar granule neuron | granule | Cerebellar granular layer 64,\
    Cerebellar molecular layer 14 | Gabra6 Cbln1 Cbln3 Zic2 Neurod1
    Bulb granule neuron | granule | Olfactory bulb 58 | Meis2 Synpr Tshz1 Eomes Doc2g
    Thalamic neuron | subcortical | Thalamus 48, Midbrain 5 | Tcf7l2 Prkcd Lef1 Rora Slc17a6
    Hypothalamic neuron | subcortical | Hypothalamus 46, Striatum 3 | Hcrt Pmch Avp Pomc Baiap3
    Midbrain neuron | subcortical | Midbrain 42, Hindbrain 8 | Th Slc6a3 Pou4f1 Tfap2d Gata3
    Hindbrain neuron | subcortical | Hindbrain 40, Midbrain 6 | Slc6a5 Phox2b Slc6a2 Hoxb5 Spx
    Astrocyte | astroglia | Hypothalamus 20, Cerebellar molecular layer 24, elsewhere 13 |\
    Gfap Aqp4 Slc1a3 Gja1 Aldoc
    Oligodendrocyte | myelin | Fibre tracts 62, Hindbrain 30, Midbrain 20, Thalamus 16,\
    Deep cortex 11, elsewhere 7 | Mbp Plp1 Mobp Mag Mog
    Microglia | immune | elsewhere 5 | C1qa C1qb Csf1r Cx3cr1 P2ry12
    Endothelial | vascular | elsewhere 7 | Cldn5 Flt1 Pecam1 Itm2a
    """,
    gradient="Nrgn Camk2n1 Snap25 Syt1 Thy1 Atp1b1 Chn1 Ncdn",
    ramp={},
    strength={"granule": 2.0, "myelin": 2.0, "pallial": 1.5, "astroglia": 1.5},
    own=0.6,
)

HALVES = ("anterior", "posterior")
SLIDE_UM = 6400.0  # width of a capture area; the brain is two of them long, one high
LOST_UM = 100.0  # of tissue, at the cut

# Ellipses in units of a slide, nose to the left, y down: middle and half-widths.
_CEREBRUM = (0.92, 0.45, 0.72, 0.37)
_BULB = (0.21, 0.60, 0.17, 0.14)
_CEREBELLUM = (1.58, 0.40, 0.29, 0.29)
_HINDBRAIN = (1.50, 0.74, 0.46, 0.15)
_THALAMUS = (1.02, 0.52, 0.26, 0.14)
_STRIATUM = (0.62, 0.53, 0.27, 0.23)
