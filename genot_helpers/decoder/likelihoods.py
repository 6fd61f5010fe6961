"""How expression scatters about its expectation: negative binomial, Poisson, Gaussian.

The decoder gives one number per gene, eta (genes,). With library size L (total of the spot over the
genes) and one dispersion per gene:

    poisson             x ~ Poisson(m)                   m = L softmax(eta)
    negative_binomial   variance m + m^2 / theta         m = L softmax(eta)
    gaussian            log(1 + x D / L) ~ N(eta, s^2)   D = median library size

Whatever the likelihood, what is predicted in the end is a composition times L, so expected values
add up to the library size. The negative binomial with a theta per gene is that of scVI (Lopez et
al., Nature Methods 2018, doi:10.1038/s41592-018-0229-2). Dispersions are not learned by gradient
but estimated by moments (theta = sum m^2 / sum ((x - m)^2 - m); s^2 the mean square), which needs
no derivative of the gamma function and cannot run away.

All functions take float32 tensors, (spots, genes) or what broadcasts to it.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

__all__ = ["LIKELIHOODS", "Gaussian", "NegativeBinomial", "Poisson"]


class Poisson:
    """Counts whose variance is their expectation."""

    counts = True

    def target(self, values: torch.Tensor, library: torch.Tensor, depth: float) -> torch.Tensor:
        """Return what is modelled: the counts themselves; ``library`` is (spots, 1)."""
        return values

    def initial_output(self, sums: torch.Tensor, n_spots: int) -> torch.Tensor:
        """Compute eta (genes,) of the mean-only model from the target summed over the spots."""
        return torch.log((sums + 0.5) / (sums + 0.5).sum())  # half a count: no gene is impossible

    def location(self, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Say where the distribution is centred: the logarithm of m."""
        return torch.log_softmax(output, dim=1) + torch.log(library)

    def loss(
        self, target: torch.Tensor, location: torch.Tensor, dispersion: torch.Tensor
    ) -> torch.Tensor:
        """Compute the negative log-likelihood of each value, but for :meth:`constant`."""
        return torch.exp(location) - target * location

    def constant(self, target: torch.Tensor, dispersion: torch.Tensor) -> torch.Tensor:
        """Compute what :meth:`loss` leaves out, except log(x!), the same for every model."""
        return torch.zeros_like(target)

    def saturated(self, target: torch.Tensor, dispersion: torch.Tensor) -> torch.Tensor:
        """Compute the :meth:`loss` of a model that knew every value: the lowest possible."""
        return target - torch.xlogy(target, target)

    def moments(self, target: torch.Tensor, location: torch.Tensor) -> torch.Tensor:
        """Sum over the spots (2, genes) what :meth:`dispersion` needs."""
        mean = torch.exp(location)
        excess = torch.square(target - mean) - mean
        return torch.stack([torch.square(mean).sum(dim=0), excess.sum(dim=0)])

    def dispersion(self, moments: torch.Tensor) -> torch.Tensor:
        """Return infinity for each gene (genes,): no dispersion beyond Poisson's."""
        return torch.full_like(moments[0], math.inf)

    def shares(self, output: torch.Tensor) -> torch.Tensor:
        """Compute what is proportional to the expected values of each spot (n, genes)."""
        return torch.softmax(output, dim=1)


class NegativeBinomial(Poisson):
    """Counts that scatter more than Poisson's, each gene in its own measure."""

    def loss(
        self, target: torch.Tensor, location: torch.Tensor, dispersion: torch.Tensor
    ) -> torch.Tensor:
        """Compute the negative log-likelihood of each value, but for :meth:`constant`."""
        # log(1 + m / theta) as a softplus: exact for rare genes and for theta near infinity.
        scatter = functional.softplus(location - torch.log(dispersion))
        return (target + dispersion) * scatter - target * location

    def constant(self, target: torch.Tensor, dispersion: torch.Tensor) -> torch.Tensor:
        """Compute what :meth:`loss` leaves out, except log(x!), the same for every model."""
        # In float64: the difference of two large numbers.
        target, dispersion = target.double(), dispersion.double()
        gammas = torch.lgamma(dispersion) - torch.lgamma(target + dispersion)
        return gammas + target * torch.log(dispersion)

    def saturated(self, target: torch.Tensor, dispersion: torch.Tensor) -> torch.Tensor:
        """Compute the :meth:`loss` of a model that knew every value: the lowest possible."""
        scatter = torch.log1p(target / dispersion)
        return (target + dispersion) * scatter - torch.xlogy(target, target)

    def dispersion(self, moments: torch.Tensor) -> torch.Tensor:
        """Estimate theta of each gene (genes,), in [0.01, 10,000]; large is nearly Poisson."""
        squares, excess = moments
        theta = squares / excess.clamp(min=1e-12)
        return theta.clamp(1e-2, 1e4).float()


class Gaussian:
    """Continuous values: normal after normalisation to one depth and log(1 + x)."""

    counts = False

    def target(self, values: torch.Tensor, library: torch.Tensor, depth: float) -> torch.Tensor:
        """Return what is modelled: log(1 + x D / L), as ``preprocessing.normalise`` does."""
        return torch.log1p(values * (depth / library))

    def initial_output(self, sums: torch.Tensor, n_spots: int) -> torch.Tensor:
        """Compute eta (genes,) of the mean-only model from the target summed over the spots."""
        return sums / n_spots

    def location(self, output: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
        """Say where the distribution is centred: eta itself."""
        return output

    def loss(
        self, target: torch.Tensor, location: torch.Tensor, dispersion: torch.Tensor
    ) -> torch.Tensor:
        """Compute the negative log-likelihood of each value, but for :meth:`constant`."""
        return torch.square(target - location) / (2 * dispersion)

    def constant(self, target: torch.Tensor, dispersion: torch.Tensor) -> torch.Tensor:
        """Compute what :meth:`loss` leaves out: it depends on the dispersion only."""
        return torch.log(2 * math.pi * dispersion).expand_as(target) / 2

    def saturated(self, target: torch.Tensor, dispersion: torch.Tensor) -> torch.Tensor:
        """Compute the :meth:`loss` of a model that knew every value: the lowest possible."""
        return torch.zeros_like(target)

    def moments(self, target: torch.Tensor, location: torch.Tensor) -> torch.Tensor:
        """Sum over the spots (2, genes) what :meth:`dispersion` needs."""
        squares = torch.square(target - location).sum(dim=0)
        return torch.stack([squares, torch.full_like(squares, len(target))])

    def dispersion(self, moments: torch.Tensor) -> torch.Tensor:
        """Estimate the variance of each gene (genes,), at least 1/10,000 of the mean one."""
        variance = moments[0] / moments[1]
        return variance.clamp(min=max(1e-4 * float(variance.mean()), 1e-12)).float()

    def shares(self, output: torch.Tensor) -> torch.Tensor:
        """Compute what is proportional to the expected values of each spot (n, genes).

        Gene by gene that holds after calibration only: exp(mean of logarithms) is not the mean.
        """
        return torch.expm1(output.clamp(min=0))


LIKELIHOODS = {
    "negative_binomial": NegativeBinomial(),
    "poisson": Poisson(),
    "gaussian": Gaussian(),
}
