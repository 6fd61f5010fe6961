"""A name becomes a slice: simulated, from a local folder, downloaded, or the reader's own file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "datasets": [
            "list_slices",
            "load_slice",
            "load_slices",
            "own_slices",
        ],
    },
)
