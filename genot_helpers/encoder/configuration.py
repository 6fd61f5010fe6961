"""Settings of the encoder and of its training: the published ones (PAPER) and our own (DEFAULT)."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

__all__ = ["DEFAULT", "PAPER", "EncoderConfiguration", "configuration_named"]


@dataclass(frozen=True)
class EncoderConfiguration:
    """Every setting of the encoder and its training, with the letters of encoder.py.

    It cannot be changed once made: vary it by ``dataclasses.replace(DEFAULT, n_hops=2)``. Raises
    a ValueError that lists all settings that make no sense.
    """

    # The graph. "spatial": obsp["spatial_connectivities"], made by graph.spatial_graph where it is
    # missing; "nearest": the n_neighbors nearest spots, whatever that slot holds. The operator P:
    # "mean", "symmetric" or "symmetric_twice" (published), see preprocessing/graph.py.
    graph: str = "spatial"
    n_neighbors: int = 6
    normalisation: str = "mean"
    # The features: at most so many leading components, divided by one number that makes their mean
    # square 1 (so that the weights of the loss mean the same on every slice; undone in the output).
    n_components: int = 50
    unit_scale: bool = True
    # The network: K and d. Dropout acts on the "features" before they are propagated (published),
    # or on the "hops" after it; then the propagation is done once instead of in every epoch.
    n_hops: int = 4
    n_hidden: int = 64
    dropout: float = 0.3
    dropout_on: str = "hops"
    # The objective. Spots that disagree come from "permuted_features", dealt out to other spots and
    # then encoded (published), or are "permuted_spots": hidden vectors of other spots, no 2nd pass.
    negatives: str = "permuted_spots"
    reconstruction_weight: float = 10.0
    contrastive_weight: float = 1.0
    # The training: Adam, one step on all spots per epoch. It has converged when the mean loss of
    # the last `window` epochs is less than the share `tolerance` below that of the `window` epochs
    # before; tolerance 0 never stops early.
    learning_rate: float = 3e-3
    max_epochs: int = 300
    window: int = 10
    tolerance: float = 1e-2
    # The embedding: "reconstruction" (H, clusters better) or "hidden" (Z).
    output: str = "reconstruction"

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)!r}; choose {' or '.join(choices)}"
            for name, choices in _CHOICES.items()
            if getattr(self, name) not in choices
        ]
        problems += [
            f"{name} is {getattr(self, name)}; give a number in [{low}, {high})"
            for name, (low, high) in _RANGES.items()
            if not low <= getattr(self, name) < high
        ]
        if problems:
            raise ValueError("configuration of the encoder: " + "; ".join(problems))


_CHOICES = {
    "graph": ("spatial", "nearest"),
    "normalisation": ("symmetric", "mean", "symmetric_twice"),
    "dropout_on": ("features", "hops"),
    "negatives": ("permuted_features", "permuted_spots"),
    "output": ("reconstruction", "hidden"),
}
_RANGES = {
    **dict.fromkeys(("n_neighbors", "n_components", "n_hidden", "window"), (1, math.inf)),
    **dict.fromkeys(("n_hops", "max_epochs", "tolerance"), (0, math.inf)),
    **dict.fromkeys(("reconstruction_weight", "contrastive_weight"), (0, math.inf)),
    "dropout": (0, 1),
    "learning_rate": (1e-12, math.inf),
}

DEFAULT = EncoderConfiguration()
"""What the notebooks use: trains in seconds and stops when it has converged."""

PAPER = EncoderConfiguration(
    graph="nearest",
    n_neighbors=3,
    normalisation="symmetric_twice",
    n_components=200,
    unit_scale=False,
    n_hops=12,
    dropout_on="features",
    negatives="permuted_features",
    learning_rate=1e-3,
    max_epochs=700,
    tolerance=0.0,
)
"""The published settings, for comparison."""

CONFIGURATIONS = {"default": DEFAULT, "paper": PAPER}


def configuration_named(name: str | EncoderConfiguration) -> EncoderConfiguration:
    """Look up "default" or "paper" (ValueError for other names); pass a configuration through."""
    if isinstance(name, EncoderConfiguration):
        return name
    if name in CONFIGURATIONS:
        return CONFIGURATIONS[name]
    near = difflib.get_close_matches(str(name), CONFIGURATIONS, cutoff=0.4) or CONFIGURATIONS
    raise ValueError(
        f"no encoder configuration is called {name!r}; did you mean {' or '.join(near)}? "
        "An EncoderConfiguration of your own works too"
    )
