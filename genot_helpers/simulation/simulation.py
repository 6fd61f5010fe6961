"""Simulated tissues with known domains: for demonstrations and tests, never evidence.

Every slice is drawn from a seed in seconds and needs no file. What is simulated: positions and
domains (:mod:`genot_helpers.simulation.tissues`), a mixture of cell types per spot, marker genes,
programmes that run smoothly through the tissue and are *not* domains (a gradient, blood vessels,
patches of stress, a drift of mitochondrial RNA), a depth that varies with the domain and in space,
a batch effect per slice, dropout. Counts are negative binomial, the usual model for unique
molecular identifiers (UMIs; Svensson 2020, https://doi.org/10.1038/s41587-019-0379-5).

Real gene names say where such a gene is expressed, roughly; genes called ``SIM0001`` and so on have
no counterpart. No measured value is copied. The cortex was calibrated on summary figures of real
sections (table in :func:`simulate_cortex`) with the encoder of this package out of sight. How
shapes become counts is in :mod:`genot_helpers.simulation.measurement`; one more tissue, a brain
cut in two, in :mod:`genot_helpers.simulation.sagittal`; the embryo under a second instrument, in
:mod:`genot_helpers.simulation.embryo_platforms`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import anndata as ad
import numpy as np

from .measurement import Assay, check_whole, draw_fields, draw_genes, generator, label, measure
from .recipes import BULB, CORTEX, EMBRYO, HIPPOCAMPUS
from .tissues import bulb_shape, cortex_shape, embryo_shape, hippocampus_shape

__all__ = [
    "simulate_cortex",
    "simulate_embryo",
    "simulate_hippocampus",
    "simulate_olfactory_bulb",
]


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
    check_whole(n_sections=(n_sections, 1), n_spots=(n_spots, 150), seed=(seed, 0))
    check_whole(n_genes=(n_genes, 1))
    if not isinstance(section_gap_um, Real) or not 0 <= section_gap_um < math.inf:
        raise ValueError(f"section_gap_um is {section_gap_um!r}: give a distance in µm, 0 or more.")
    assay = Assay(depth=1000, cells=11)
    genes = draw_genes(generator(seed, 1), CORTEX, n_genes, n_spots * assay.depth)
    fields = draw_fields(generator(seed, 2))
    placing = [generator(seed, 3, i) for i in range(n_sections)]
    shapes = cortex_shape(generator(seed, 4), placing, n_spots=n_spots, gap_um=section_gap_um)
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
    check_whole(n_bins=(n_bins, 500), n_genes=(n_genes, 1), seed=(seed, 0))
    stages = [stages] if isinstance(stages, str) else list(stages)
    ages = {stage: _age(stage) for stage in stages}
    if len(ages) < max(len(stages), 1):
        raise ValueError(f"stages is {stages!r}: give one stage or more, each once.")
    assay = Assay(depth=1100, cells=4, spread=0.35, dropout=0.1)
    genes = draw_genes(generator(seed, 1), EMBRYO, n_genes, n_bins * assay.depth)
    embryos = {}
    for stage, age in ages.items():
        key, grown = round(100 * age), round(n_bins * 1.45 ** (age - 9.5))
        shape = embryo_shape(generator(seed, 3, key), age, n_bins=grown)
        fields = draw_fields(generator(seed, 2, key))
        adata = measure(generator(seed, 5, key), shape, EMBRYO, genes, fields, assay)
        parameters = {"n_bins": n_bins, "n_genes": n_genes, "embryonic_day": age}
        embryos[stage] = label(adata, stage, seed, parameters)
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
    check_whole(n_beads=(n_beads, 500), n_genes=(n_genes, 1), seed=(seed, 0))
    if n_beads > 30000:
        raise ValueError(f"n_beads is {n_beads}: the disc has room for at most 30000.")
    assay = Assay(depth=300, cells=1.5, spread=0.5, dropout=0.2)
    genes = draw_genes(generator(seed, 1), HIPPOCAMPUS, n_genes, n_beads * assay.depth)
    shape = hippocampus_shape(generator(seed, 3), n_beads=n_beads)
    fields = draw_fields(generator(seed, 2))
    adata = measure(generator(seed, 5), shape, HIPPOCAMPUS, genes, fields, assay)
    parameters = {"n_beads": n_beads, "n_genes": n_genes}
    return {"hippocampus": label(adata, "hippocampus", seed, parameters)}


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
