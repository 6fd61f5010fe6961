"""Simulated tissues with known truth: cortex, embryo, hippocampus, olfactory bulb, brain."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cortex": [
            "simulate_cortex",
        ],
        "embryo": [
            "simulate_embryo",
            "simulate_embryo_cells",
        ],
        "brain_regions": [
            "simulate_hippocampus",
            "simulate_olfactory_bulb",
        ],
        "sagittal": [
            "simulate_sagittal_brain",
        ],
    },
)
