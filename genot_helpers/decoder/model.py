"""The decoder: a small network from embedding to expression, and what it predicts.

The generated slice takes unchanged expression from real spots (``X``) and, beside it, the denoised
expectation (``layers["mean"]``), which this decoder gives for any embedding, also for one between
those of two slices. The idea is the decoder of scVI (Lopez et al., Nature Methods 2018,
doi:10.1038/s41592-018-0229-2): a likelihood that fits the kind of values (second half of this
file), and the library size as a factor outside the network. With a standardised embedding z (d,)::

    hidden   h = silu(z W + b)
    output   eta = [h, z] V + a + sum_s w_s (u_s - mean u)       one number per gene

The direct connection from z to the output makes linear decoding (the inverse of principal
components) the easy part. u_s is the intercept of slice s, a batch effect: the weights w_s pick the
slice in training and blend the slices when generating; equal weights leave it out. V starts at zero
and a at the mean, so the untrained decoder is the mean-only model: every gain over it is learned.
:func:`genot_helpers.decoder.train_decoder` trains it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from ..arguments import checked

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BLOCK_SPOTS = 2048  # predicted in one go


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: the same bits on machines with the same instructions."""
    # The matrices of a minibatch are too small to share; on a busy machine threads that wait for
    # each other take 20 times as long. (Other libraries change the number of threads meanwhile.)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class DecoderNetwork(torch.nn.Module):
    """The equations at the top of this file, with dispersion and calibration of each gene."""

    def __init__(
        self, n_features: int, n_hidden: int, n_genes: int, n_slices: int, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.sizes = (n_features, n_hidden, n_genes, n_slices)
        bound = math.sqrt(6 / (n_features + n_hidden))  # Glorot's uniform distribution
        weight = torch.rand(
            (n_features, n_hidden), generator=torch.Generator().manual_seed(seed)
        ).mul_(2 * bound)
        self.hidden_weight = torch.nn.Parameter(weight - bound)
        self.hidden_bias = torch.nn.Parameter(torch.zeros(n_hidden))
        self.output_weight = torch.nn.Parameter(torch.zeros(n_hidden + n_features, n_genes))
        self.output_bias = torch.nn.Parameter(torch.zeros(n_genes))
        self.slice_intercepts = torch.nn.Parameter(torch.zeros(n_slices, n_genes))
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("dispersion", torch.ones(n_genes))
        self.register_buffer("calibration", torch.ones(n_genes))

    def forward(self, embedding: Tensor, slice_weights: Tensor) -> Tensor:
        """Eta (n, genes) from the embedding (n, d) and the weights w (n, slices)."""
        standardised = (embedding - self.centre) / self.scale
        hidden = functional.silu(standardised @ self.hidden_weight + self.hidden_bias)
        deviations = self.slice_intercepts - self.slice_intercepts.mean(dim=0)
        output = torch.cat([hidden, standardised], dim=1) @ self.output_weight
        return output + self.output_bias + slice_weights @ deviations


@dataclass(eq=False)
class Decoder:
    """A trained decoder, made by :func:`genot_helpers.decoder.train_decoder`.

    Attributes
    ----------
    network
        :class:`DecoderNetwork`, on the CPU.
    likelihood
        "negative_binomial", "poisson" or "gaussian".
    genes
        Names of the columns of :meth:`predict`.
    slices
        Names of the slices it was trained on, in the order of ``slice_weights``.
    use_rep
        Slot of ``obsm`` with the embedding it was trained on.
    library_size
        Median library size (total over ``genes``) of the training spots.
    history
        Mean negative log-likelihood per value, "train" (a sample of the training spots as large as
        the held-out part) and "held_out". Number 0 is the untrained, mean-only model, number k
        after epoch k. Counts: without the term log(x!).
    best_epoch
        Epoch with the lowest held-out loss, whose weights are kept. 0: the embedding did not help.
    held_out_losses
        (3, genes), summed loss of the held-out spots under the mean-only model, the decoder, and a
        model that predicts every value exactly; all with the dispersions of the decoder.
    stopped_early, interrupted, seed, seconds
        Whether the held-out loss stopped falling; whether training was interrupted; seed and time.
    """

    network: DecoderNetwork
    likelihood: str
    genes: pd.Index
    slices: tuple[str, ...]
    use_rep: str
    library_size: float
    seed: int
    history: dict[str, NDArray[np.float64]]
    best_epoch: int
    held_out_losses: NDArray[np.float64]
    stopped_early: bool
    interrupted: bool
    seconds: float

    @property
    def held_out_gain(self) -> float:
        """Share of the deviance of the held-out spots that the decoder explains.

        0: no better than the mean of each gene; 1: every value predicted exactly, which noise
        prevents (.1 is high for sparse counts). R² for the Gaussian (genes in units of their
        spread). The embedding of a held-out spot may have been computed from its expression: the
        score detects overfitting of the decoder, not failure on unseen tissue.
        """
        mean_only, decoder, saturated = self.held_out_losses.sum(axis=1)
        return float((mean_only - decoder) / (mean_only - saturated))

    @property
    def gene_gain(self) -> pd.Series:
        """:attr:`held_out_gain` of each gene; NaN where the held-out spots hold no information."""
        mean_only, decoder, saturated = self.held_out_losses
        room = mean_only - saturated
        room = np.where(room > 0, room, np.nan)
        return pd.Series((mean_only - decoder) / room, index=self.genes, name="held_out_gain")

    @property
    def message(self) -> str:
        """How the training ended."""
        n_epochs = len(self.history["held_out"]) - 1
        ending = f"best held-out loss after epoch {self.best_epoch} of {n_epochs}"
        if self.interrupted:
            return f"interrupted; {ending}"
        return ending if self.stopped_early else f"{ending}, the most allowed"

    @one_thread()
    @checked
    def predict(
        self,
        embedding: ArrayLike,
        *,
        library_size: float | ArrayLike | None = None,
        slice_weights: Sequence[float] | None = None,
        genes: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """Denoised expectation of the expression, in the units of the slices' ``X``.

        Parameters
        ----------
        embedding
            (n, d), of the kind the decoder was trained on.
        library_size
            Total of each spot over the genes, one number or (n,). None: the median of the training
            spots, so that spots differ in composition only.
        slice_weights
            Whose intercept to use, one weight per slice (sum 1): ``(1 - t, t)`` at position t.
            None: the average slice.
        genes
            Return these only, in this order. None: all.

        Returns
        -------
        (n, genes) float32: the expected composition times the library size; values are not negative
        and sum, over all genes, to the library size. The Gaussian likelihood predicts logarithms,
        whose mean lies too low, so each gene is first multiplied by a factor that corrects it.

        Raises
        ------
        ValueError
            Anything has the wrong shape or is not finite; library size negative; unknown gene.
        """
        embedding = self._checked_embedding(embedding)
        library = self._checked_library(library_size, len(embedding))
        weights = torch.from_numpy(self._checked_weights(slice_weights))
        columns = self._columns(genes)
        likelihood = LIKELIHOODS[self.likelihood]
        predicted = np.empty((len(embedding), len(columns)), dtype=np.float32)
        for start in range(0, len(embedding), _BLOCK_SPOTS):
            block = slice(start, start + _BLOCK_SPOTS)
            part, size = torch.from_numpy(embedding[block]), torch.from_numpy(library[block])
            with torch.no_grad():
                shares = likelihood.shares(self.network(part, weights)) * self.network.calibration
                values = shares * (size / shares.sum(dim=1, keepdim=True).clamp(min=1e-30))
            predicted[block] = values.numpy()[:, columns]
        return predicted

    def _checked_embedding(self, embedding: ArrayLike) -> NDArray[np.float32]:
        embedding = np.ascontiguousarray(embedding, dtype=np.float32)
        width = self.network.sizes[0]
        if embedding.ndim != 2 or embedding.shape[1] != width:
            raise ValueError(
                f"the embedding has shape {embedding.shape}, but the decoder was trained on "
                f"obsm[{self.use_rep!r}] with {width} columns; give (n, {width}) of the same kind"
            )
        return embedding

    def _checked_library(
        self, library_size: float | ArrayLike | None, n_spots: int
    ) -> NDArray[np.float32]:
        """Library sizes as a column (n, 1)."""
        library = self.library_size if library_size is None else library_size
        library = np.asarray(library, dtype=np.float32)
        if library.shape not in ((), (n_spots,)):
            raise ValueError(
                f"library_size has shape {library.shape}; give one number or one per spot, "
                f"({n_spots},)"
            )
        if not (np.isfinite(library) & (library >= 0)).all():
            raise ValueError("library_size holds negative or missing values; give totals of spots")
        return np.array(np.broadcast_to(library, n_spots))[:, None]

    def _checked_weights(self, slice_weights: Sequence[float] | None) -> NDArray[np.float32]:
        """Slice weights as a row (1, slices)."""
        n_slices = len(self.slices)
        if slice_weights is None:
            return np.full((1, n_slices), 1 / n_slices, dtype=np.float32)
        weights = np.asarray(slice_weights, dtype=np.float32)
        if weights.shape != (n_slices,) or not abs(float(weights.sum()) - 1) < 1e-4:
            raise ValueError(
                f"slice_weights is {slice_weights}; give {n_slices} numbers that sum to 1, for "
                f"the slices {', '.join(self.slices)}"
            )
        return weights[None]

    def _columns(self, genes: Sequence[str] | None) -> NDArray[np.intp]:
        if genes is None:
            return np.arange(len(self.genes))
        unknown = pd.Index(genes).difference(self.genes)
        if len(unknown):
            raise ValueError(
                f"the decoder does not know {len(unknown)} of the genes (first: {unknown[0]!r}); "
                "decoder.genes lists those it was trained on"
            )
        return self.genes.get_indexer_for(genes)


# -------------------------------------------------------------------------------------------------
# How expression scatters about its expectation, with eta one number per gene, library size L (total
# of the spot over the genes) and one dispersion per gene:
#
#     poisson             x ~ Poisson(m)                   m = L softmax(eta)
#     negative_binomial   variance m + m^2 / theta         m = L softmax(eta)
#     gaussian            log(1 + x D / L) ~ N(eta, s^2)   D = median library size
#
# The prediction is always a composition times L, so expected values add up to the library size.
# Dispersions are estimated by moments (theta = sum m^2 / sum ((x - m)^2 - m); s^2 the mean square)
# instead of by gradient: no derivative of the gamma function, and no divergence. All functions take
# float32 tensors, (spots, genes) or what broadcasts to it.


class Poisson:
    """Counts whose variance is their expectation."""

    counts = True

    def target(self, values: Tensor, library: Tensor, depth: float) -> Tensor:
        """Return what is modelled: the counts themselves; ``library`` is (spots, 1)."""
        return values

    def initial_output(self, sums: Tensor, n_spots: int) -> Tensor:
        """Compute eta (genes,) of the mean-only model from the target summed over the spots."""
        return torch.log((sums + 0.5) / (sums + 0.5).sum())  # half a count: no gene is impossible

    def location(self, output: Tensor, library: Tensor) -> Tensor:
        """Return the centre of the distribution: the logarithm of m."""
        return torch.log_softmax(output, dim=1) + torch.log(library)

    def loss(self, target: Tensor, location: Tensor, dispersion: Tensor) -> Tensor:
        """Compute the negative log-likelihood of each value, but for :meth:`constant`."""
        return torch.exp(location) - target * location

    def constant(self, target: Tensor, dispersion: Tensor) -> Tensor:
        """Compute what :meth:`loss` leaves out, except log(x!), the same for every model."""
        return torch.zeros_like(target)

    def saturated(self, target: Tensor, dispersion: Tensor) -> Tensor:
        """Compute the lowest possible :meth:`loss`, that of a model that predicts every value."""
        return target - torch.xlogy(target, target)

    def moments(self, target: Tensor, location: Tensor) -> Tensor:
        """Sum over the spots (2, genes) what :meth:`dispersion` needs."""
        mean = torch.exp(location)
        excess = torch.square(target - mean) - mean
        return torch.stack([torch.square(mean).sum(dim=0), excess.sum(dim=0)])

    def dispersion(self, moments: Tensor) -> Tensor:
        """Return infinity for each gene (genes,): no dispersion beyond Poisson's."""
        return torch.full_like(moments[0], math.inf)

    def shares(self, output: Tensor) -> Tensor:
        """Compute what is proportional to the expected values of each spot (n, genes)."""
        return torch.softmax(output, dim=1)


class NegativeBinomial(Poisson):
    """Counts that scatter more than Poisson's, with a dispersion for each gene."""

    def loss(self, target: Tensor, location: Tensor, dispersion: Tensor) -> Tensor:
        """Compute the negative log-likelihood of each value, but for :meth:`constant`."""
        # log(1 + m / theta) as a softplus: exact for rare genes and for theta near infinity.
        scatter = functional.softplus(location - torch.log(dispersion))
        return (target + dispersion) * scatter - target * location

    def constant(self, target: Tensor, dispersion: Tensor) -> Tensor:
        """Compute what :meth:`loss` leaves out, except log(x!), the same for every model."""
        # In float64: the difference of two large numbers.
        target, dispersion = target.double(), dispersion.double()
        gammas = torch.lgamma(dispersion) - torch.lgamma(target + dispersion)
        return gammas + target * torch.log(dispersion)

    def saturated(self, target: Tensor, dispersion: Tensor) -> Tensor:
        """Compute the lowest possible :meth:`loss`, that of a model that predicts every value."""
        scatter = torch.log1p(target / dispersion)
        return (target + dispersion) * scatter - torch.xlogy(target, target)

    def dispersion(self, moments: Tensor) -> Tensor:
        """Estimate theta of each gene (genes,), in [0.01, 10,000]; large is nearly Poisson."""
        squares, excess = moments
        theta = squares / excess.clamp(min=1e-12)
        return theta.clamp(1e-2, 1e4).float()


class Gaussian:
    """Continuous values: normal after normalisation to one depth and log(1 + x)."""

    counts = False

    def target(self, values: Tensor, library: Tensor, depth: float) -> Tensor:
        """Return what is modelled: log(1 + x D / L), as ``preprocessing.normalise`` does."""
        return torch.log1p(values * (depth / library))

    def initial_output(self, sums: Tensor, n_spots: int) -> Tensor:
        """Compute eta (genes,) of the mean-only model from the target summed over the spots."""
        return sums / n_spots

    def location(self, output: Tensor, library: Tensor) -> Tensor:
        """Return the centre of the distribution: eta itself."""
        return output

    def loss(self, target: Tensor, location: Tensor, dispersion: Tensor) -> Tensor:
        """Compute the negative log-likelihood of each value, but for :meth:`constant`."""
        return torch.square(target - location) / (2 * dispersion)

    def constant(self, target: Tensor, dispersion: Tensor) -> Tensor:
        """Compute what :meth:`loss` leaves out: it depends on the dispersion only."""
        return torch.log(2 * math.pi * dispersion).expand_as(target) / 2

    def saturated(self, target: Tensor, dispersion: Tensor) -> Tensor:
        """Compute the lowest possible :meth:`loss`, that of a model that predicts every value."""
        return torch.zeros_like(target)

    def moments(self, target: Tensor, location: Tensor) -> Tensor:
        """Sum over the spots (2, genes) what :meth:`dispersion` needs."""
        squares = torch.square(target - location).sum(dim=0)
        return torch.stack([squares, torch.full_like(squares, len(target))])

    def dispersion(self, moments: Tensor) -> Tensor:
        """Estimate the variance of each gene (genes,), at least 1/10,000 of the mean one."""
        variance = moments[0] / moments[1]
        return variance.clamp(min=max(1e-4 * float(variance.mean()), 1e-12)).float()

    def shares(self, output: Tensor) -> Tensor:
        """Compute what is proportional to the expected values of each spot (n, genes)."""
        # Gene by gene only after calibration: exp(mean of logarithms) is not the mean.
        return torch.expm1(output.clamp(min=0))


LIKELIHOODS = {
    "negative_binomial": NegativeBinomial(),
    "poisson": Poisson(),
    "gaussian": Gaussian(),
}
