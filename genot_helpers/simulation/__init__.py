"""Simulated tissues with known truth: cortex, embryo, hippocampus, olfactory bulb, brain."""

from .brain_regions import (
    simulate_hippocampus,
    simulate_hypothalamus,
    simulate_olfactory_bulb,
)
from .embryo import simulate_embryo, simulate_embryo_cells
from .high_resolution import simulate_high_resolution
from .visium_sections import simulate_cortex, simulate_sagittal_brain

__all__ = [
    "simulate_cortex",
    "simulate_embryo",
    "simulate_embryo_cells",
    "simulate_high_resolution",
    "simulate_hippocampus",
    "simulate_hypothalamus",
    "simulate_olfactory_bulb",
    "simulate_sagittal_brain",
]
