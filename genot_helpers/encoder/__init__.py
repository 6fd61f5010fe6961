"""From components and graph to an embedding: the contrastive encoder, trained or in closed form."""

from .closed_form import spectral_embedding
from .encoder import EncoderConfiguration, GenOTEncoder
from .training import EncoderTraining, embed, load_encoder, save_encoder, train_encoder

__all__ = [
    "EncoderConfiguration",
    "EncoderTraining",
    "GenOTEncoder",
    "embed",
    "load_encoder",
    "save_encoder",
    "spectral_embedding",
    "train_encoder",
]
