"""A trained encoder on disk: numbers and settings in a safetensors file, no code to be executed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files import atomic_path
from .configuration import EncoderConfiguration
from .encoder import GenOTEncoder

__all__ = ["load_encoder", "save_encoder"]


def save_encoder(encoder: GenOTEncoder, path: str | Path) -> None:
    """Write an encoder to a file, completely or not at all."""
    settings = {"n_features": encoder.n_features, "configuration": asdict(encoder.configuration)}
    tensors = {name: value.cpu().contiguous() for name, value in encoder.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"genot_encoder": json.dumps(settings)})


def load_encoder(path: str | Path) -> GenOTEncoder:
    """Read an encoder that :func:`save_encoder` wrote.

    Raises FileNotFoundError, or ValueError where the file is damaged or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})["genot_encoder"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        configuration = EncoderConfiguration(**settings["configuration"])
        encoder = GenOTEncoder(settings["n_features"], configuration)
        encoder.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not an encoder that this version can read ({error}); train it again"
        ) from error
    return encoder.eval()
