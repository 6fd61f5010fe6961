"""Two slices in one coordinate frame, with a verdict on how well they fit."""

from .alignment import (
    Alignment,
    AlignmentError,
    align,
    align_icp,
    align_partial_gromov,
    apply_alignment,
)
from .fit import refine_by_coupling
from .transforms import SimilarityTransform, tissue_area, weighted_procrustes

__all__ = [
    "Alignment",
    "AlignmentError",
    "SimilarityTransform",
    "align",
    "align_icp",
    "align_partial_gromov",
    "apply_alignment",
    "refine_by_coupling",
    "tissue_area",
    "weighted_procrustes",
]
