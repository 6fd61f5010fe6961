"""What a slice is: the AnnData slots that are needed, checked once, with errors that help."""

from .geometry import micrometres_per_unit, spot_side, spot_spacing
from .inspection import inspect_slice, set_positions
from .slices import SliceError, check_slice, find_labels
from .values import holds_counts, holds_logarithms, undo_logarithm

__all__ = [
    "SliceError",
    "check_slice",
    "find_labels",
    "holds_counts",
    "holds_logarithms",
    "inspect_slice",
    "micrometres_per_unit",
    "set_positions",
    "spot_side",
    "spot_spacing",
    "undo_logarithm",
]
