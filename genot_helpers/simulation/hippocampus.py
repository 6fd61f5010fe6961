"""A simulated mouse hippocampus on beads of Slide-seqV2: thin, curved cell layers."""

from __future__ import annotations

import anndata as ad
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from .genes import Recipe, draw_genes
from .places import Shape, scatter_beads, smooth_field
from .simulation import Assay, check_whole, draw_fields, generator, label, measure

__all__ = ["hippocampus_shape", "simulate_hippocampus"]

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


def hippocampus_shape(rng: np.random.Generator, *, n_beads: int) -> Shape:
    """Scatter beads over a disc of 3 mm through the hippocampus.

    Parameters
    ----------
    rng
        Draws bead positions and small deformations.
    n_beads
        Number of beads; no two are closer than 10 µm.

    Returns
    -------
    Shape
        Codes: 0 cortex, 1 corpus callosum, 2 CA1, 3 CA3, 4 dentate gyrus, 5 hippocampal neuropil,
        6 thalamus, 7 third ventricle. ``gradient`` runs from left to right.
    """
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
    shape = hippocampus_shape(generator(seed, 3), n_beads=n_beads)
    fields = draw_fields(generator(seed, 2))
    adata = measure(generator(seed, 5), shape, HIPPOCAMPUS, genes, fields, assay)
    parameters = {"n_beads": n_beads, "n_genes": n_genes}
    return {"hippocampus": label(adata, "hippocampus", seed, parameters)}
