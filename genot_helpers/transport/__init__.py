"""Couplings between two slices: sparse and exact, in tiles, entropic, fused Gromov-Wasserstein."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "transport": [
            "Coupling",
            "NotConvergedError",
            "barycentric_targets",
            "coupling_pairs",
            "entropic_coupling",
            "sparse_coupling",
        ],
        "gromov": [
            "fused_gromov_wasserstein_barycenter",
            "fused_gromov_wasserstein_coupling",
            "partial_fused_gromov_wasserstein_coupling",
        ],
    },
)
