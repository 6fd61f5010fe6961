"""Simulated stand-ins under the names of real slices.

A notebook in demo mode asks for section ``151673`` and gets a section of a simulated cortex with
the same slots, so that nothing but ``data_source`` changes when the real one is there. What is
simulated and how is said in :mod:`genot_helpers.simulation`; the names are those of Maynard et al.
2021 (https://doi.org/10.1038/s41593-020-00787-0) and the other sets in ``data/README.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from anndata import AnnData

from ..simulation.cortex import simulate_cortex
from ..simulation.embryo import simulate_embryo
from ..simulation.embryo_platforms import simulate_embryo_cells
from ..simulation.hippocampus import simulate_hippocampus
from ..simulation.olfactory_bulb import simulate_olfactory_bulb
from ..simulation.sagittal import simulate_sagittal_brain

__all__ = ["DEMO_SLICES", "DLPFC_DONORS", "demo_slice"]

DLPFC_DONORS = (
    ("151507", "151508", "151509", "151510"),
    ("151669", "151670", "151671", "151672"),
    ("151673", "151674", "151675", "151676"),
)
"""Sections of each donor of the human cortex."""


class Demo(NamedTuple):
    """How a slice is simulated.

    Section k of a block is the same however many follow it, so those up to it are enough.
    """

    simulator: Callable[..., dict[str, AnnData]]
    key: str
    options: tuple[tuple[str, object], ...] = ()
    seed_shift: int = 0


DEMO_SLICES: dict[tuple[str, str], Demo] = {
    ("dlpfc", section): Demo(
        simulate_cortex, f"cortex_{k}", (("n_sections", k),), 1000 * (len(DLPFC_DONORS) - donor)
    )
    for donor, sections in enumerate(DLPFC_DONORS, 1)
    for k, section in enumerate(sections, 1)
}
DEMO_SLICES |= {  # no hypothalamus is simulated: sections of a cortex, as far apart, stand in
    ("merfish_hypothalamus", f"merfish_{5 * k - 1}"): Demo(
        simulate_cortex, f"cortex_{k}", (("n_sections", k), ("section_gap_um", 50.0)), 3000
    )
    for k in range(1, 7)
}
DEMO_SLICES |= {
    ("mosta", stage): Demo(simulate_embryo, stage, (("stages", (stage,)),))
    for stage in ("E9.5", "E10.5", "E11.5", "E12.5")
}
DEMO_SLICES[("seqfish_embryo", "seqfish")] = Demo(simulate_embryo_cells, "seqfish")
DEMO_SLICES |= {
    ("slideseqv2_hippocampus", "slideseqv2"): Demo(simulate_hippocampus, "hippocampus"),
    ("olfactory_bulb", "stereoseq_mob"): Demo(simulate_olfactory_bulb, "stereoseq"),
    ("olfactory_bulb", "slideseqv2_mob"): Demo(simulate_olfactory_bulb, "slideseqv2"),
}
DEMO_SLICES |= {
    ("mouse_brain_sagittal", f"V1_Mouse_Brain_Sagittal_{half}{section}"): Demo(
        simulate_sagittal_brain, f"{half.lower()}_{k}", (("n_sections", 2),)
    )
    for half in ("Anterior", "Posterior")
    for k, section in enumerate(("", "_Section_2"), 1)
}
"""(dataset, name) → how it is simulated."""


def demo_slice(dataset: str, name: str, seed: int = 0) -> AnnData:
    """Simulate the stand-in for a slice.

    Parameters
    ----------
    dataset, name
        A key of :data:`DEMO_SLICES`.
    seed
        The same seed gives the same slice; sections of one donor come from one simulated block,
        other donors from other blocks.

    Returns
    -------
    AnnData
        As the simulation makes it. ``uns["genot"]["source"]`` says what it stands in for.
    """
    demo = DEMO_SLICES[dataset, name]
    adata = _simulate(demo.simulator, demo.options, seed + demo.seed_shift)[demo.key].copy()
    facts = adata.uns["genot"]
    other = dataset == "merfish_hypothalamus"
    what = "A simulated cortex stands in for" if other else "Simulated stand-in for"
    facts["source"] = f"{what} {name} ({dataset}). {facts['source']}"
    if facts["spatial_unit"] == "µm":
        facts["micrometres_per_unit"] = 1.0
    if "position_um" in facts.get("parameters", {}):
        facts["position_um"] = float(facts["parameters"]["position_um"])
    return adata


@lru_cache(maxsize=4)
def _simulate(simulator: Callable, options: tuple, seed: int) -> dict[str, AnnData]:
    """Simulate once what is asked for again and again. The caller copies what is kept here."""
    return simulator(seed=seed, **dict(options))
