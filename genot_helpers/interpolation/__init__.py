"""Two slices and t become the slice in between."""

from .carry import carry_by_expression, carry_expression
from .interpolation import Interpolation, interpolate, interpolate_many, prepare_interpolation
from .positions import position_between
from .warp import SmoothWarp, fit_warp

__all__ = [
    "Interpolation",
    "SmoothWarp",
    "carry_by_expression",
    "carry_expression",
    "fit_warp",
    "interpolate",
    "interpolate_many",
    "position_between",
    "prepare_interpolation",
]
