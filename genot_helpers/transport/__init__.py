"""Couplings between two slices: sparse and exact, in tiles, entropic, fused Gromov-Wasserstein."""

from .entropic import entropic_coupling
from .gromov import (
    GromovBarycenter,
    fused_gromov_wasserstein_barycenter,
    fused_gromov_wasserstein_coupling,
    partial_fused_gromov_wasserstein_coupling,
)
from .transport import (
    Coupling,
    NotConvergedError,
    barycentric_targets,
    coupling_pairs,
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
