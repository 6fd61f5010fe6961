r"""A Gaussian mixture whose domains hang together: neighbours are likely to share one.

The domains have one covariance in common, the model that mclust calls EEE (Scrucca et al. 2016,
doi 10.32614/RJ-2016-021). In a plain mixture spot :math:`i` belongs to domain :math:`k` with prior
probability :math:`\pi_k`, wherever it lies. Here its neighbours have a say (a hidden Markov random
field; Zhang, Brady and Smith 2001, doi 10.1109/42.906424; on spots: BayesSpace, Zhao et al. 2021,
doi 10.1038/s41587-021-00935-2):

.. math:: p_{ik} \propto \pi_k \exp(\beta q_{ik}), \qquad q_{ik} = \sum_j W_{ij} r_{jk},

where :math:`r_{jk}` is the probability that neighbour :math:`j` belongs to :math:`k`, and the rows
of :math:`W` average over neighbours. It is fitted by expectation-maximisation, :math:`q` being kept
from one step to the next (mean field; Celeux, Forbes and Peyrard 2003, doi
10.1016/S0031-3203(02)00027-4). With :math:`\beta = 0` it is the plain mixture.

A shared covariance makes both steps cheap: the part of the exponent that is quadratic in a spot is
the same for all domains, so only :math:`x^\top \Sigma^{-1} \mu_k` is needed, and the covariance
within domains is that of all spots less that of the means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse
from scipy.special import logsumexp

__all__ = ["Mixture", "View", "climb", "seen_by", "view_of"]

_RIDGE = 1e-6  # of the mean variance within domains, added to the covariance
_TOLERANCE = 1e-5  # of the mean log-likelihood: smaller steps have arrived


class View(NamedTuple):
    r"""Spots as a mixture sees them.

    Attributes
    ----------
    points
        (n_spots, n_dimensions) float.
    scatter
        (n_dimensions, n_dimensions), mean of x x' over all spots.
    neighbours
        (n_spots, n_spots), :math:`\beta W`; None for a plain mixture.
    """

    points: np.ndarray
    scatter: np.ndarray
    neighbours: sparse.csr_matrix | None = None


class Mixture(NamedTuple):
    """What a fit has found.

    Attributes
    ----------
    weights, means, covariance
        Of shapes (n_domains,), (n_domains, n_dimensions) and (n_dimensions, n_dimensions).
    membership
        (n_spots, n_domains), probability that a spot belongs to a domain.
    likelihood
        Mean log-likelihood of a spot, given the memberships of its neighbours.
    """

    weights: np.ndarray
    means: np.ndarray
    covariance: np.ndarray
    membership: np.ndarray
    likelihood: float

    @property
    def labels(self) -> np.ndarray:
        """Likeliest domain of each spot, shape (n_spots,) int."""
        return self.membership.argmax(axis=1)


def view_of(points: np.ndarray, neighbours: sparse.spmatrix | None = None) -> View:
    """Prepare an embedding, shape (n_spots, n_dimensions), for any number of fits."""
    points = np.ascontiguousarray(points, dtype=np.float64)
    return View(points, points.T @ points / len(points), neighbours)


def _mixture_of(view: View, membership: np.ndarray) -> Mixture:
    """Describe memberships as a mixture; its likelihood is not known yet (the M step)."""
    n_spots, n_dimensions = view.points.shape
    # A domain may run empty on the way; it then keeps a trace of weight and stays where all are.
    size = membership.sum(axis=0) + 1e-10
    weights, means = size / n_spots, (membership.T @ view.points) / size[:, None]
    within = view.scatter - (means * weights[:, None]).T @ means
    ridge = _RIDGE * np.trace(within) / n_dimensions
    # As many domains as distinct spots leave nothing within: fall back on the total variance.
    least = 1e-12 * np.trace(view.scatter) / n_dimensions
    ridge = max(ridge, least, np.finfo(float).tiny ** 0.5)
    within = within + ridge * np.eye(n_dimensions)
    return Mixture(weights, means, within, membership, -np.inf)


def seen_by(view: View, mixture: Mixture) -> Mixture:
    """Membership of every spot under the parameters of a mixture, and the likelihood (the E step).

    The mean of x' inv(Sigma) x over spots is trace(inv(Sigma) scatter), which saves the spots.
    """
    factor = linalg.cho_factor(mixture.covariance, lower=True)
    slopes = linalg.cho_solve(factor, mixture.means.T)
    prior = np.log(mixture.weights)
    logits = view.points @ slopes - 0.5 * (mixture.means.T * slopes).sum(axis=0)
    if view.neighbours is not None:
        prior = prior + view.neighbours @ mixture.membership
        prior -= logsumexp(prior, axis=1, keepdims=True)
    logits += prior
    height = logits.max(axis=1, keepdims=True)
    membership = np.exp(logits - height)
    total = membership.sum(axis=1, keepdims=True)
    membership /= total
    shared = np.trace(linalg.cho_solve(factor, view.scatter))
    volume = 2.0 * np.log(np.diag(factor[0])).sum() + len(slopes) * np.log(2.0 * np.pi)
    likelihood = (np.log(total) + height).mean() - 0.5 * (shared + volume)
    return mixture._replace(membership=membership, likelihood=float(likelihood))


def climb(view: View, membership: np.ndarray, n_steps: int) -> Mixture:
    """Run expectation-maximisation from memberships, for at most ``n_steps`` steps.

    Parameters
    ----------
    view
        The spots.
    membership
        (n_spots, n_domains), of a partition or of another mixture.
    n_steps
        At most so many, and at least one.

    Returns
    -------
    Mixture
        Parameters, with memberships and likelihood under them.
    """
    before = -np.inf
    for _ in range(n_steps):
        mixture = seen_by(view, _mixture_of(view, membership))
        if abs(mixture.likelihood - before) < _TOLERANCE:
            break
        before, membership = mixture.likelihood, mixture.membership
    return mixture
