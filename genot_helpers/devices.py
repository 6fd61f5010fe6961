"""Where tensors live: on the GPU if there is one."""

from __future__ import annotations

import torch

__all__ = ["choose_device"]


def choose_device(name: str) -> torch.device:
    """Return the device of a name that torch knows; "auto" is a GPU if there is one.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here ({error}); give 'auto' or 'cpu'"
        ) from error
