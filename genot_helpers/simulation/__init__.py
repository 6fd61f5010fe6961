"""Simulated tissues with known truth: cortex, embryo, hippocampus, olfactory bulb, brain."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "simulation": [
            "simulate_cortex",
            "simulate_embryo",
            "simulate_hippocampus",
            "simulate_olfactory_bulb",
        ],
        "embryo_platforms": ["simulate_embryo_cells"],
        "sagittal": ["simulate_sagittal_brain"],
    },
)
