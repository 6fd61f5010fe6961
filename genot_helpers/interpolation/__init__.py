"""Two slices and t become the slice in between."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "warp": [
            "SmoothWarp",
            "fit_warp",
        ],
        "interpolation": [
            "interpolate",
            "interpolate_many",
            "position_between",
            "prepare_interpolation",
        ],
        "carry": [
            "carry_by_expression",
            "carry_expression",
        ],
    },
)
