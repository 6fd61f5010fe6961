"""Counts become components: depth, logarithm, genes that vary in space, who touches whom."""

from .batches import (
    Stripes,
    anchor_slices,
    centre_slices,
    correct_stripes,
    slice_mixing,
    slice_share,
)
from .genes import select_by_gaussian_process, select_by_moran, select_highly_variable
from .graph import (
    grid_graph,
    nearest_neighbour_graph,
    neighbourhood_enrichment,
    row_normalised,
    smooth,
    spatial_graph,
    spots_averaged,
)
from .preprocessing import (
    joint_components,
    middle_square,
    normalise,
    pool_spots,
    preprocess,
    smooth_components,
)

__all__ = [
    "Stripes",
    "anchor_slices",
    "centre_slices",
    "correct_stripes",
    "grid_graph",
    "joint_components",
    "middle_square",
    "nearest_neighbour_graph",
    "neighbourhood_enrichment",
    "normalise",
    "pool_spots",
    "preprocess",
    "row_normalised",
    "select_by_gaussian_process",
    "select_by_moran",
    "select_highly_variable",
    "slice_mixing",
    "slice_share",
    "smooth",
    "smooth_components",
    "spatial_graph",
    "spots_averaged",
]
