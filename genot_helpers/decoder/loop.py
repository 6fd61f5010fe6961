"""The training of the decoder: passes over the data, until the held-out spots gain no more.

Minibatches of spots (the only expression that is ever dense), Adam (Kingma and Ba,
arXiv:1412.6980), and early stopping (Prechelt 1998, doi:10.1007/3-540-49430-8_3): a part of the
spots of every slice is held out, and the weights with the lowest loss on it are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tqdm.auto import tqdm

    from .data import DecoderData
    from .likelihoods import Gaussian, Poisson
    from .model import DecoderNetwork

__all__ = ["TrainingLoop"]

_EVALUATION_SPOTS = 1024  # looked at in one go where nothing is learned
_RAKING_STEPS = 5  # settles the calibration to about a thousandth
_WORTHWHILE = 0.002  # share of the gain so far that keeps the training going


class TrainingLoop:
    """The network, the data, and the passes over them."""

    def __init__(
        self,
        network: DecoderNetwork,
        likelihood: Poisson | Gaussian,
        data: DecoderData,
        rng: np.random.Generator,
    ) -> None:
        self.network, self.likelihood, self.data, self.rng = network, likelihood, data, rng
        sample = rng.permutation(data.training)[: len(data.held_out)]
        self.watched = {"train": np.sort(sample), "held_out": data.held_out}

    def batches(
        self, spots: NDArray[np.intp], size: int = _EVALUATION_SPOTS
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield target, output of the network (n, genes) and library size (n, 1), in parts."""
        for begin in range(0, len(spots), size):
            part = self.data.part(spots[begin : begin + size])
            target = self.likelihood.target(part.values, part.library, self.data.depth)
            yield target, self.network(part.embedding, part.slice_weights), part.library

    @torch.no_grad()
    def start_at_mean(self) -> torch.Tensor:
        """Make the network the mean-only model; returns its output (genes,)."""
        network, embedding = self.network, self.data.embedding
        network.centre.copy_(embedding.mean(dim=0))
        scale = embedding.std(dim=0)
        network.scale.copy_(torch.where(scale > 1e-5 * network.centre.abs(), scale, 1.0))
        sums = sum(target.sum(dim=0).double() for target, _, _ in self.batches(self.data.training))
        network.output_bias.copy_(self.likelihood.initial_output(sums, len(self.data.training)))
        moments = 0
        for target, output, library in self.batches(self.data.training):
            location = self.likelihood.location(output, library)
            moments = moments + self.likelihood.moments(target, location).double()
        network.dispersion.copy_(self.likelihood.dispersion(moments))
        return network.output_bias.detach().clone()

    def fit(self, bar: tqdm, patience: int, batch_size: int, learning_rate: float) -> dict:
        """Train with early stopping, end with the best weights; returns fields of Decoder."""
        parameters = [one for one in self.network.parameters() if one.requires_grad]
        optimiser = torch.optim.Adam(parameters, lr=learning_rate)
        curves = {name: [self._loss(spots)] for name, spots in self.watched.items()}
        losses = curves["held_out"]
        best, best_epoch, interrupted, idle, reference = self._state(), 0, False, 0, losses[0]
        try:
            for epoch in bar:
                self.epoch(optimiser, batch_size)
                # Both before either is kept: an interruption must not leave one curve longer.
                new = {name: self._loss(spots) for name, spots in self.watched.items()}
                for name, loss in new.items():
                    curves[name].append(loss)
                _require_finite(losses)
                if losses[-1] < losses[best_epoch]:
                    best, best_epoch = self._state(), epoch + 1
                worthwhile = _WORTHWHILE * (losses[0] - losses[best_epoch])
                idle = 0 if reference - losses[-1] > worthwhile else idle + 1
                if idle == 0:
                    reference = losses[-1]
                if idle >= patience:
                    break
                bar.set_postfix(held_out=f"{losses[-1]:.4f}", refresh=False)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            bar.close()
        self.network.load_state_dict(best)
        return {
            "history": {name: np.array(curve) for name, curve in curves.items()},
            "best_epoch": best_epoch,
            "stopped_early": idle >= patience,
            "interrupted": interrupted,
        }

    def epoch(self, optimiser: torch.optim.Optimizer, batch_size: int) -> None:
        """One step per minibatch; afterwards the dispersions, from the same passes."""
        moments = 0
        order = self.rng.permutation(self.data.training)
        for target, output, library in self.batches(order, batch_size):
            optimiser.zero_grad()
            location = self.likelihood.location(output, library)
            self.likelihood.loss(target, location, self.network.dispersion).mean().backward()
            optimiser.step()
            with torch.no_grad():
                moments = moments + self.likelihood.moments(target, location).double()
        self.network.dispersion.copy_(self.likelihood.dispersion(moments))

    @torch.no_grad()
    def _loss(self, spots: NDArray[np.intp]) -> float:
        """Mean negative log-likelihood per value."""
        likelihood, dispersion, total = self.likelihood, self.network.dispersion, 0.0
        for target, output, library in self.batches(spots):
            losses = likelihood.loss(target, likelihood.location(output, library), dispersion)
            total += float((losses.double() + likelihood.constant(target, dispersion)).sum())
        return total / (len(spots) * self.data.values.shape[1])

    @torch.no_grad()
    def compare(self, mean_only: torch.Tensor) -> NDArray[np.float64]:
        """Losses (3, genes) of the held-out spots: mean-only, decoder, every value known."""
        likelihood, dispersion, sums = self.likelihood, self.network.dispersion, 0
        for target, output, library in self.batches(self.data.held_out):
            locations = [
                likelihood.location(one, library) for one in (mean_only.expand_as(output), output)
            ]
            losses = [likelihood.loss(target, location, dispersion) for location in locations]
            losses.append(likelihood.saturated(target, dispersion))
            sums = sums + torch.stack([loss.double().sum(dim=0) for loss in losses])
        return sums.cpu().numpy()

    @torch.no_grad()
    def calibrate(self) -> None:
        """Make the mean of each gene right, which the logarithm has shifted (see predict).

        Compositions add up to one for every spot and to the observed mean for every gene: raking.
        """
        if self.likelihood.counts:
            return
        factors = self.network.calibration
        for _ in range(_RAKING_STEPS):
            observed = expected = 0
            for target, output, _ in self.batches(self.data.training):
                shares = self.likelihood.shares(output) * factors
                composition = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-30)
                observed = observed + torch.expm1(target).double().sum(dim=0) / self.data.depth
                expected = expected + composition.double().sum(dim=0)
            factors.mul_(torch.where(expected > 0, observed / expected, 1.0))

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.network.state_dict().items()}


def _require_finite(losses: list[float]) -> None:
    if not np.isfinite(losses[-1]):
        raise FloatingPointError(
            f"the loss is {losses[-1]} in epoch {len(losses) - 1}; use a smaller learning_rate"
        )
