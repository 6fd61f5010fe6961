"""Two slices in one coordinate frame, with a verdict on how well they fit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "alignment": [
            "Alignment",
            "AlignmentError",
            "align",
            "apply_alignment",
        ],
        "published": [
            "align_icp",
            "align_partial_gromov",
        ],
        "transforms": [
            "SimilarityTransform",
            "weighted_procrustes",
        ],
    },
)
