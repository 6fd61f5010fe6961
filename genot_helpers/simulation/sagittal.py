"""A simulated mouse brain, cut lengthwise and then in two: four slices of one tissue.

A sagittal section of the mouse brain is longer than the capture area of a Visium slide. The public
sections of 10x Genomics therefore come as an anterior and a posterior half, each on its own slide,
two sections of each. Here such a brain is simulated; the layout follows, schematically, the
sagittal plates of the Allen mouse brain atlas (Wang et al. 2020,
https://doi.org/10.1016/j.cell.2020.04.007). No measured value is copied. Top to bottom:
:func:`simulate_sagittal_brain`, the shapes, the anatomy, what the brain is made of.
"""

from __future__ import annotations

import anndata as ad
import numpy as np

from ..arguments import checked
from .simulation import (
    Assay,
    Recipe,
    Shape,
    check_not_negative,
    check_whole,
    draw_fields,
    draw_genes,
    generator,
    label,
    measure,
    smooth_field,
    visium_grid,
)

__all__ = ["SAGITTAL", "simulate_sagittal_brain"]


@checked
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

    Some domains lie in one half only (olfactory bulb, striatum; cerebellum, hindbrain), others
    cross the cut (cortex, fibre tracts, hippocampus, thalamus, hypothalamus). Each slice has its
    own batch effect: a factor per gene, the same in all spots.

    Parameters
    ----------
    n_sections
        Number of sections; each gives an anterior and a posterior slice.
    n_spots
        Approximate spots under tissue of a whole section, at least 600; fewer: a smaller brain.
    n_genes
        Number of genes; the named ones come first.
    section_gap_um
        Distance between consecutive sections, µm.
    batch
        Standard deviation of the logarithm of these factors.
    seed
        The same seed gives bit-identical slices.

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
    Unlike the cortex, this brain was not calibrated on measured sections, and the differences
    between its domains were set after looking at results: scores here say nothing about real ones.
    The batch effect is stronger than that between real neighbouring sections on one slide.

    Examples
    --------
    >>> list(simulate_sagittal_brain(1, n_spots=600))
    ['anterior_1', 'posterior_1']
    """
    check_whole(n_sections=(n_sections, 1), n_spots=(n_spots, 600), seed=(seed, 0))
    check_whole(n_genes=(n_genes, 1))
    check_not_negative(section_gap_um=section_gap_um, batch=batch)
    assay = Assay(depth=1500, cells=8, dropout=0.05, batch=float(batch))
    genes = draw_genes(generator(seed, 1), SAGITTAL, n_genes, 0.4 * n_spots * assay.depth)
    fields = draw_fields(generator(seed, 2))
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
"""What the simulated brain is made of; the codes of its shapes follow its order."""

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
