"""From one embedding to one partition: Gaussian mixtures from many starts, then a consensus.

The mixture has one covariance shared by all domains, the model that mclust calls EEE
(Scrucca et al. 2016, doi 10.32614/RJ-2016-021). Its likelihood has many local maxima, and
which one a run ends in depends on the start. So there are many starts, of which the poor ones
are dropped early; this is done for several views (embeddings, and numbers of their leading
dimensions), each view then tries what the others found, and a consensus of all partitions, weighted
by likelihood, is the result (consensus.py). No label is looked at anywhere.

The fits themselves are scikit-learn's.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from .consensus import Consensus, consensus_of

__all__ = ["Consensus", "best_partitions", "consensus_of", "mixture_consensus"]

SCREENING_SPOTS = 5_000  # starts are compared on at most this many spots
ROUNDS = ((6, 0.25), (15, 0.5))  # (steps of expectation-maximisation, share of starts that go on)
SAME_LIKELIHOOD = 2e-4  # mean log-likelihoods closer than this are one and the same solution


def _start(embedding: np.ndarray, n_domains: int, index: int, rng: np.random.Generator):
    """One k-means partition to start from.

    Every second start sees dimensions drawn towards equal spread: k-means alone follows the
    widest dimensions and would never visit solutions that the mixture, which does not care
    about scale, likes better.
    """
    if index % 2:
        spread = embedding.std(axis=0)
        # Dimensions without spread stay as they are; nothing but rounding error is in them.
        spread[spread <= 1e-9 * spread.max()] = 1.0
        embedding = embedding / spread ** rng.uniform(0.5, 1.0)
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        # Fewer distinct points than domains: the caller looks for that itself.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(n_domains, n_init=1, max_iter=30, random_state=seed).fit_predict(embedding)


def _initial_mixture(embedding: np.ndarray, labels: np.ndarray) -> GaussianMixture:
    """Describe a partition as a mixture: its weights, means and covariance within domains."""
    n_spots, n_dimensions = embedding.shape
    weights = np.bincount(labels) / n_spots
    means = np.stack([embedding[labels == domain].mean(axis=0) for domain in range(len(weights))])
    within = np.cov((embedding - means[labels]).T, bias=True).reshape(n_dimensions, n_dimensions)
    mixture = GaussianMixture(len(weights), covariance_type="tied", tol=1e-5)
    ridge = 1e-6 * np.trace(within) / n_dimensions
    # As many domains as distinct spots leave nothing within: fall back on the total variance.
    ridge = max(ridge, 1e-12 * embedding.var(axis=0).mean(), np.finfo(float).tiny ** 0.5)
    mixture.reg_covar = ridge
    mixture.weights_, mixture.means_ = weights, means
    mixture.precisions_ = np.linalg.inv(within + mixture.reg_covar * np.eye(n_dimensions))
    return mixture


def _climb(mixture: GaussianMixture, embedding: np.ndarray, n_steps: int) -> GaussianMixture:
    """Run expectation-maximisation on from a mixture, for at most ``n_steps`` steps."""
    higher = GaussianMixture(
        mixture.n_components,
        covariance_type="tied",
        weights_init=mixture.weights_ / mixture.weights_.sum(),
        means_init=mixture.means_,
        precisions_init=mixture.precisions_,
        reg_covar=mixture.reg_covar,
        tol=mixture.tol,
        max_iter=n_steps,
    )
    with warnings.catch_warnings():
        # Screening stops before convergence on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return higher.fit(embedding)


def _has_all_domains(labels: np.ndarray, n_domains: int) -> bool:
    return np.bincount(labels, minlength=n_domains).min() > 0


def _distinct(mixtures: list[GaussianMixture], n_kept: int) -> list[GaussianMixture]:
    """Sort by likelihood, best first, and drop repetitions of the same solution."""
    kept: list[GaussianMixture] = []
    for mixture in sorted(mixtures, key=lambda one: -one.lower_bound_):
        if not kept or kept[-1].lower_bound_ - mixture.lower_bound_ > SAME_LIKELIHOOD:
            kept.append(mixture)
    return kept[:n_kept]


# One thread: these matrices are too small to share, several threads on a busy machine wait for
# each other (seen: 25 times slower), and they add up sums in any order, not bit for bit the same.
@threadpool_limits.wrap(limits=1)
def best_partitions(
    embedding: np.ndarray,
    n_domains: int,
    *,
    n_starts: int = 80,
    n_kept: int = 6,
    seed: int = 0,
) -> list[GaussianMixture]:
    r"""Fit tied-covariance Gaussian mixtures from many starts and keep the likeliest.

    Each fit maximises over weights :math:`\pi_k`, means :math:`\mu_k` and one covariance
    :math:`\Sigma`

    .. math:: \sum_i \log \sum_k \pi_k \, \mathcal{N}(x_i \mid \mu_k, \Sigma).

    All starts run a few steps, on at most 5,000 spots; the likelier part goes on, twice; the
    best ``n_kept`` run to convergence on all spots.

    Parameters
    ----------
    embedding
        (n_spots, n_dimensions) float.
    n_domains
        Number of domains, at most the number of spots.
    n_starts, n_kept
        How many starts are tried, and how many of them are finished.
    seed
        Same seed and machine: the same domains.

    Returns
    -------
    list of sklearn.mixture.GaussianMixture
        Distinct solutions, likeliest first, at most ``n_kept``.
    """
    rng = np.random.default_rng(seed)
    embedding = np.asarray(embedding, dtype=np.float64)
    shown = embedding
    if len(embedding) > SCREENING_SPOTS:
        shown = embedding[np.sort(rng.choice(len(embedding), SCREENING_SPOTS, replace=False))]
    starts = [_start(shown, n_domains, index, rng) for index in range(n_starts)]
    running = [
        _initial_mixture(shown, labels) for labels in starts if _has_all_domains(labels, n_domains)
    ]
    for n_steps, share in ROUNDS:
        running = [_climb(mixture, shown, n_steps) for mixture in running]
        running = _distinct(running, max(n_kept, round(share * len(running))))
    return _distinct([_climb(mixture, embedding, 300) for mixture in running[:n_kept]], n_kept)


def _exchange(
    views: list[np.ndarray], found: list[list[GaussianMixture]], n_kept: int
) -> list[list[GaussianMixture]]:
    """Let every view climb from the two best partitions of every other view."""
    n_domains = found[0][0].n_components
    offers = [
        (number, mixture.predict(view))
        for number, (view, mixtures) in enumerate(zip(views, found, strict=True))
        for mixture in mixtures[:2]
    ]
    richer = []
    for number, (view, mixtures) in enumerate(zip(views, found, strict=True)):
        climbed = [
            _climb(_initial_mixture(view, labels), view, 300)
            for origin, labels in offers
            if origin != number and _has_all_domains(labels, n_domains)
        ]
        richer.append(_distinct(mixtures + climbed, n_kept))
    return richer


def _weights(mixtures: list[GaussianMixture], n_independent: float) -> np.ndarray:
    """Weigh the solutions of one view by likelihood, as if ``n_independent`` spots had been seen.

    Neighbouring spots share information, so the likelihood over all spots would overstate by
    far how much better the best solution is.
    """
    likelihood = np.array([mixture.lower_bound_ for mixture in mixtures])
    weights = np.exp(n_independent * (likelihood - likelihood.max()))
    return weights / weights.sum()


@threadpool_limits.wrap(limits=1)
def mixture_consensus(
    embeddings: list[np.ndarray],
    n_domains: int,
    *,
    dimensions: tuple[int, ...] = (12, 14, 16, 20),
    n_starts: int = 80,
    n_kept: int = 6,
    spots_per_independent: float = 100.0,
    seed: int = 0,
    progress: bool | None = None,
) -> Consensus:
    """Vote of the likeliest mixtures over embeddings and numbers of leading dimensions.

    Parameters
    ----------
    embeddings
        (n_spots, n_dimensions) float each. Columns ordered by importance: the leading ones are what
        is clustered.
    n_domains
        Number of domains, at most the number of spots.
    dimensions
        Numbers of leading columns; those above ``n_dimensions`` count as all columns.
    n_starts, n_kept
        Starts tried and solutions kept in each view, see :func:`best_partitions`.
    spots_per_independent
        How many neighbouring spots count as one independent observation when solutions are
        weighted by likelihood; about the size of the smoothed neighbourhood. Large values let
        all kept solutions vote alike, 1 lets the likeliest alone decide.
    seed
        Same seed and machine: the same domains.
    progress
        Show a progress bar; None shows one in a terminal or notebook only.

    Returns
    -------
    Consensus

    Raises
    ------
    ValueError
        If no mixture can be fitted: the embedding has too few distinct rows.
    """
    views = [
        np.ascontiguousarray(embedding[:, :width])
        for embedding in embeddings
        for width in sorted({min(width, embedding.shape[1]) for width in dimensions})
    ]
    disable = None if progress is None else not progress
    bar = tqdm(views, desc="mixtures", unit="view", disable=disable, leave=False)
    found = [
        best_partitions(
            view, n_domains, n_starts=n_starts, n_kept=n_kept, seed=1000 * seed + number
        )
        for number, view in enumerate(bar)
    ]
    if not all(found):
        raise ValueError(
            f"No mixture of {n_domains} domains could be fitted: the embedding has too few "
            "distinct rows. Ask for fewer domains."
        )
    found = _exchange(views, found, n_kept)
    n_independent = len(views[0]) / spots_per_independent
    partitions, weights = [], []
    for view, mixtures in zip(views, found, strict=True):
        partitions += [mixture.predict(view) for mixture in mixtures]
        weights += list(_weights(mixtures, n_independent))
    return consensus_of(partitions, n_domains, np.asarray(weights))
