"""Two slices and t become the slice in between."""

from .carry import carry_by_expression, carry_by_label, carry_expression
from .interpolation import Interpolation, interpolate, interpolate_many, prepare_interpolation
from .saved import load_alignment, load_interpolation, save_interpolation
from .stack import interpolate_stack, position_between, slice_positions
from .warp import SmoothWarp, fit_warp

__all__ = [
    "Interpolation",
    "SmoothWarp",
    "carry_by_expression",
    "carry_by_label",
    "carry_expression",
    "fit_warp",
    "interpolate",
    "interpolate_many",
    "interpolate_stack",
    "load_alignment",
    "load_interpolation",
    "position_between",
    "prepare_interpolation",
    "save_interpolation",
    "slice_positions",
]
