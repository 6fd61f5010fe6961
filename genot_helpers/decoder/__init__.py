"""From an embedding back to expected expression."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "decoder": [
            "train_decoder",
        ],
    },
)
