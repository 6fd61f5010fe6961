"""From components and graph to an embedding: the contrastive encoder, trained or in closed form."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "encoder": [
            "EncoderConfiguration",
            "GenOTEncoder",
        ],
        "training": [
            "embed",
            "load_encoder",
            "save_encoder",
            "train_encoder",
        ],
        "closed_form": [
            "spectral_embedding",
        ],
    },
)
