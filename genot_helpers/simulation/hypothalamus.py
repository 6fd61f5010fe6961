"""A simulated preoptic hypothalamus in single cells: nuclei that are mixtures of cell types.

In a cortex most cells of a layer are of the layer's own types. In the hypothalamus the same
inhibitory and excitatory neurons lie nearly everywhere, and nuclei differ by their
*proportions*. This tissue tests models of composition, and slices in between made of single cells.
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
    rotate,
    scatter_beads,
    smooth_field,
)

__all__ = ["simulate_hypothalamus"]

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
"""What the tissue is made of; the codes of its shape follow the order of its domains."""

_HALF_WIDTH_UM = 900.0


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


@checked
def simulate_hypothalamus(
    n_sections: int = 3,
    *,
    n_cells: int = 5500,
    n_genes: int = 155,
    section_gap_um: float = 50.0,
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate consecutive sections of a mouse hypothalamus, measured cell by cell (MERFISH).

    Eight regions stand in for those annotated by Moffitt et al. 2018 [1]_: nuclei, the fornix
    (fx) and the third ventricle (V3). Fifteen cell types lie in them in different proportions;
    in most regions no type has a share above a third.

    Parameters
    ----------
    n_sections
        Number of sections. Section k is the same however many there are.
    n_cells
        Cells in a section, 300 to 12,000.
    n_genes
        Number of genes; the named ones come first.
    section_gap_um
        Distance between consecutive sections, µm.
    seed
        The same seed gives bit-identical slices.

    Returns
    -------
    dict of str to AnnData
        ``"hypothalamus_1"``, …; slots as in
        :func:`genot_helpers.simulation.simulate_cortex`, without array positions. Counts. y
        grows from ventral to dorsal, and ``uns["genot"]["y_axis"]`` says so ("up").

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] Moffitt et al. (2018), Molecular, spatial, and functional single-cell profiling of the
       hypothalamic preoptic region. https://doi.org/10.1126/science.aau5324

    Examples
    --------
    >>> simulate_hypothalamus(n_sections=1, n_cells=400)["hypothalamus_1"].n_obs
    400
    """
    check_whole(n_sections=(n_sections, 1), n_cells=(n_cells, 300), n_genes=(n_genes, 1))
    check_whole(seed=(seed, 0))
    check_not_negative(section_gap_um=section_gap_um)
    if n_cells > 12_000:
        raise ValueError(f"n_cells is {n_cells}: a section has room for at most 12,000 cells.")
    # A cell is one cell, not a mixture: .35 leaves a little of the neighbours' transcripts in it.
    assay = Assay(depth=350, cells=0.35, spread=0.45, patches=0.15, dropout=0.1)
    genes = draw_genes(generator(seed, 1), HYPOTHALAMUS, n_genes, n_cells * assay.depth)
    fields = draw_fields(generator(seed, 2))
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
