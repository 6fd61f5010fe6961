"""What a slice is: the AnnData slots that are needed, checked once, with errors that help."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "slices": [
            "SliceError",
            "check_slice",
            "find_labels",
        ],
        "values": [
            "holds_counts",
            "holds_logarithms",
            "undo_logarithm",
        ],
        "inspection": [
            "inspect_slice",
            "set_positions",
        ],
    },
)
