"""What every computation runs with: a device, a progress bar, and squidpy without idle messages."""

from __future__ import annotations

import logging
import warnings

import torch

__all__ = [
    "choose_device",
    "progress_off",
    "sq",
]

with warnings.catch_warnings():
    # A docstring of squidpy 1.8.2, the last release for Python 3.11, names keys it does not have.
    warnings.filterwarnings("ignore", ".* is not a valid key!", SyntaxWarning)
    import squidpy as sq

# spatialdata logs for every graph that it uses no transform, which no reader can act on.
logging.getLogger("spatialdata._logging").setLevel(logging.WARNING)


def choose_device(name: str) -> torch.device:
    """Return the device of a name that torch knows; "auto" is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here ({error}); give 'auto' or 'cpu'"
        ) from error


def progress_off(progress: bool | None) -> bool | None:
    """Translate ``progress`` into tqdm's ``disable``; None: a bar in terminals and notebooks."""
    return None if progress is None else not progress
