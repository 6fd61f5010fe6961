"""A name becomes a slice: simulated, from a local folder, downloaded, or the reader's own file."""

from .datasets import list_slices, load_slice, load_slices, own_slices
from .downloads import DownloadError
from .readers import add_table

__all__ = ["DownloadError", "add_table", "list_slices", "load_slice", "load_slices", "own_slices"]
