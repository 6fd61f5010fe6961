"""What a slice is: the AnnData slots that are needed, checked once, with errors that help."""

from .geometry import micrometres_per_unit, spot_side, spot_spacing
from .inspection import inspect_slice, set_positions
from .sections import check_genes, join_results, match_genes, split_sections
from .slices import SliceError, check_slice, check_structure, find_labels
from .values import holds_counts, holds_logarithms, undo_logarithm

__all__ = [
    "SliceError",
    "check_genes",
    "check_slice",
    "check_structure",
    "find_labels",
    "holds_counts",
    "holds_logarithms",
    "inspect_slice",
    "join_results",
    "match_genes",
    "micrometres_per_unit",
    "set_positions",
    "split_sections",
    "spot_side",
    "spot_spacing",
    "undo_logarithm",
]
