"""From components and graph to an embedding: the contrastive encoder, trained or in closed form."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration": ["EncoderConfiguration"],
        "encoder": ["GenOTEncoder"],
        "training": ["embed", "train_encoder"],
        "checkpoints": ["load_encoder", "save_encoder"],
        "spectral": ["spectral_embedding"],
    },
)
