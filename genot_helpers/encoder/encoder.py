"""The GenOT encoder: its configuration, its network, and the sparse products it needs.

The method is that of GenOT (https://github.com/wrab12/GenOT), which combines the multi-hop
propagation of simplified graph convolution (Wu et al., arXiv:1902.07153), the graph convolution of
Kipf and Welling (arXiv:1609.02907) and the contrast of deep graph infomax (Velickovic et al.,
arXiv:1809.10341) as used for tissue by GraphST (Long et al., Nature Communications 2023,
doi:10.1038/s41467-023-36796-3). The loss and the training loop are in :mod:`.training`.

With features X (n, p), a normalised adjacency matrix P (n, n) and weights W_k (p, d)::

    hidden           Z = leaky_relu(P X W_0 + P^2 X W_1 + ... + P^(K+1) X W_K + b)
    reconstruction   H = P Z W_out + c
    neighbourhood    G = sigmoid(R Z / |R Z|)         R = mean over a spot and its neighbours
    agreement        s(g, z) = z' W_s g + e

The published network concatenates the K + 1 propagated copies of X and applies one graph
convolution to the result. Because propagation is linear, that is the sum above, and Horner's
scheme, P (X W_0 + P (X W_1 + P (...))), never holds more than d columns.
"""

from __future__ import annotations

import difflib
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class EncoderConfiguration:
    """Every setting of the encoder and its training, with the letters used above.

    It is immutable: vary it by ``dataclasses.replace(DEFAULT, n_hops=2)``. Raises a ValueError
    that lists all settings that are out of range.
    """

    # The graph. "spatial": obsp["spatial_connectivities"], made by spatial_graph where it is
    # missing; "nearest": the n_neighbors nearest spots, whatever that slot holds. The operator P:
    # "mean", "symmetric" or "symmetric_twice" (published), see preprocessing.graph.
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


class GenOTEncoder(torch.nn.Module):
    """The network; its methods are the equations at the top of this file.

    ``n_features`` is p, the number of components. The initial weights come from ``seed`` alone;
    the global random state is not touched.
    """

    def __init__(
        self, n_features: int, configuration: EncoderConfiguration = DEFAULT, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_features = n_features
        self.configuration = configuration
        hops, hidden = configuration.n_hops + 1, configuration.n_hidden
        self.hop_weights = torch.nn.Parameter(torch.empty(hops, n_features, hidden))
        self.hidden_bias = torch.nn.Parameter(torch.zeros(hidden))
        self.output_weight = torch.nn.Parameter(torch.empty(hidden, n_features))
        self.output_bias = torch.nn.Parameter(torch.zeros(n_features))
        self.agreement_weight = torch.nn.Parameter(torch.empty(hidden, hidden))
        self.agreement_bias = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("feature_scale", torch.ones(1))
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        """Glorot's uniform distribution, with the fan-in and fan-out of the published layers."""
        hops, features, hidden = self.hop_weights.shape
        for weight, fan in (
            (self.hop_weights, hops * features + hidden),
            (self.output_weight, hidden + features),
            (self.agreement_weight, hidden * hidden + hidden),  # that of torch.nn.Bilinear
        ):
            bound = math.sqrt(6 / fan)
            torch.nn.init.uniform_(weight, -bound, bound, generator=generator)

    def inputs(self, features: torch.Tensor, operator: SparseOperator) -> torch.Tensor:
        """Bring features (n, p) into the form that :meth:`hidden` takes.

        With dropout on the hops these are ``[P X, P^2 X, ..., P^(K+1) X]``, (n, (K + 1) p),
        computed once; with dropout on the features they are X itself.
        """
        if self.configuration.dropout_on == "features":
            return features
        hops = [propagate(operator, features)]
        for _ in range(self.configuration.n_hops):
            hops.append(propagate(operator, hops[-1]))
        return torch.cat(hops, dim=1)

    def hidden(
        self,
        inputs: torch.Tensor,
        operator: SparseOperator,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Z (n, d) from :meth:`inputs`; with a generator, dropout is applied (training)."""
        inputs = drop(inputs, self.configuration.dropout, generator)
        if self.configuration.dropout_on == "hops":
            mixed = inputs @ self.hop_weights.flatten(0, 1)
        else:
            mixed = self._horner(inputs, operator)
        return functional.leaky_relu(mixed + self.hidden_bias)

    def _horner(self, features: torch.Tensor, operator: SparseOperator) -> torch.Tensor:
        """P (X W_0 + P (X W_1 + ... + P X W_K)), from the inside out."""
        mixed = propagate(operator, features @ self.hop_weights[-1])
        for weight in self.hop_weights[:-1].flip(0):
            mixed = propagate(operator, torch.addmm(mixed, features, weight))
        return mixed

    def reconstruction(self, hidden: torch.Tensor, operator: SparseOperator) -> torch.Tensor:
        """H (n, p): the features predicted from the hidden vectors of the neighbourhood."""
        return propagate(operator, hidden) @ self.output_weight + self.output_bias

    def neighbourhood(self, hidden: torch.Tensor, readout: SparseOperator) -> torch.Tensor:
        """G (n, d): summary of the surroundings of each spot."""
        return torch.sigmoid(functional.normalize(propagate(readout, hidden), dim=1))

    def agreement(self, neighbourhood: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Score each pair of rows, (n,): how well the spot fits the neighbourhood.

        The bilinear form as a matrix product, four times faster than ``torch.nn.Bilinear``.
        """
        return ((hidden @ self.agreement_weight) * neighbourhood).sum(dim=1) + self.agreement_bias

    def forward(self, features: torch.Tensor, operator: SparseOperator) -> torch.Tensor:
        """Embed features (n, p) with the trained network: H, or Z if so configured."""
        scaled = features / self.feature_scale
        hidden = self.hidden(self.inputs(scaled, operator), operator)
        if self.configuration.output == "hidden":
            return hidden
        return self.reconstruction(hidden, operator) * self.feature_scale


# -------------------------------------------------------------------------------------------------
# Sparse products on the graph, and dropout.


class SparseOperator(NamedTuple):
    """A sparse (n, n) matrix and its transpose, both torch CSR; made by :func:`sparse_operator`."""

    matrix: torch.Tensor
    transposed: torch.Tensor


def sparse_operator(
    matrix: sparse.csr_matrix,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SparseOperator:
    """Move a SciPy matrix (n, n) to torch, together with its transpose for the gradient."""
    return SparseOperator(_csr(matrix, device, dtype), _csr(matrix.T, device, dtype))


def _csr(matrix: sparse.spmatrix, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
    matrix = matrix.tocsr()
    matrix.sort_indices()
    index = np.int32 if matrix.nnz < 2**31 else np.int64  # 32 bits: the product is twice as fast
    with warnings.catch_warnings():
        # torch calls its CSR layout "beta" once per process; the product used here is tested.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(index)),
            torch.from_numpy(matrix.indices.astype(index)),
            torch.from_numpy(matrix.data).to(dtype),
            size=matrix.shape,
            device=device,
            check_invariants=True,
        )


class _Propagate(torch.autograd.Function):
    """Sparse times dense. The built-in gradient transposes the matrix anew in every step."""

    @staticmethod
    def forward(ctx, operator: SparseOperator, dense: torch.Tensor) -> torch.Tensor:
        ctx.operator = operator
        return operator.matrix @ dense

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.operator.transposed @ gradient.contiguous()


def propagate(operator: SparseOperator, dense: torch.Tensor) -> torch.Tensor:
    """One hop along the graph: ``operator @ dense``, (n, m) to (n, m), with a gradient."""
    return _Propagate.apply(operator, dense)


def drop(features: torch.Tensor, rate: float, generator: torch.Generator | None) -> torch.Tensor:
    """Dropout from a generator of its own; unchanged without one (after training) or at rate 0."""
    # ``torch.nn.functional.dropout`` draws from the global state, which belongs to the reader.
    if generator is None or rate == 0:
        return features
    kept = torch.rand(features.shape, generator=generator, device=features.device) >= rate
    return (features * kept).div_(1 - rate)
