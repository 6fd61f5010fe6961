"""squidpy without the messages that nobody can act on: `from .quiet import sq`."""

from __future__ import annotations

import logging
import warnings

with warnings.catch_warnings():
    # A docstring of squidpy 1.8.2, the last release for Python 3.11, names keys it does not have.
    warnings.filterwarnings("ignore", ".* is not a valid key!", SyntaxWarning)
    import squidpy as sq

# spatialdata tells at every graph that it uses no transform, which nobody asked for.
logging.getLogger("spatialdata._logging").setLevel(logging.WARNING)

__all__ = ["sq"]
