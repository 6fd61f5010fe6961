"""Counts become components: depth, logarithm, genes that vary in space, who touches whom."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "preprocessing": [
            "joint_components",
            "normalise",
            "pool_spots",
            "preprocess",
            "smooth_components",
        ],
        "genes": [
            "select_by_gaussian_process",
            "select_by_moran",
            "select_highly_variable",
        ],
        "graph": [
            "grid_graph",
            "nearest_neighbour_graph",
            "spatial_graph",
            "spots_averaged",
        ],
    },
)
