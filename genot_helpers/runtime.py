"""Where tensors live: on the GPU if there is one."""

from __future__ import annotations

import logging
import warnings

import torch

__all__ = [
    "choose_device",
    "progress_off",
    "sq",
]


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


# -------------------------------------------------------------------------------------------------
# Progress bars: shown where somebody can see them.


def progress_off(progress: bool | None) -> bool | None:
    """Translate ``progress`` into what tqdm calls ``disable``.

    Parameters
    ----------
    progress
        True: always show a bar; False: never; None: in a terminal or notebook only.
    """
    return None if progress is None else not progress


# -------------------------------------------------------------------------------------------------
# squidpy without the messages that nobody can act on: `from .quiet import sq`.

with warnings.catch_warnings():
    # A docstring of squidpy 1.8.2, the last release for Python 3.11, names keys it does not have.
    warnings.filterwarnings("ignore", ".* is not a valid key!", SyntaxWarning)
    import squidpy as sq

# spatialdata tells at every graph that it uses no transform, which nobody asked for.
logging.getLogger("spatialdata._logging").setLevel(logging.WARNING)
