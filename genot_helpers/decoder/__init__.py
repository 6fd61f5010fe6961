"""From an embedding back to expected expression."""

from .decoder import train_decoder
from .model import Decoder

__all__ = ["Decoder", "train_decoder"]
