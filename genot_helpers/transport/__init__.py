"""Couplings between two slices: sparse and exact, in tiles, entropic, fused Gromov-Wasserstein."""

from .gromov import (
    GromovBarycenter,
    fused_gromov_wasserstein_barycenter,
    fused_gromov_wasserstein_coupling,
    partial_fused_gromov_wasserstein_coupling,
)
from .solvers import NotConvergedError
from .transport import (
    Coupling,
    barycentric_targets,
    coupling_pairs,
    entropic_coupling,
    sparse_coupling,
)

__all__ = [
    "Coupling",
    "GromovBarycenter",
    "NotConvergedError",
    "barycentric_targets",
    "coupling_pairs",
    "entropic_coupling",
    "fused_gromov_wasserstein_barycenter",
    "fused_gromov_wasserstein_coupling",
    "partial_fused_gromov_wasserstein_coupling",
    "sparse_coupling",
]
