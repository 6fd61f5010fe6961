"""From embeddings to one partition: mixtures from many starts, then a consensus.

The likelihood of a mixture (spatial_mixture.py) has many local maxima, and which one a run ends
in depends on the start. So there are many starts, of which the poor ones are dropped early; this
is done for several views (embeddings, and numbers of their leading dimensions), each view then
tries what the others found, and a consensus of all partitions, weighted by likelihood, is the
result (consensus.py). No label is looked at anywhere.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..progress import progress_off
from .consensus import Consensus, consensus_of
from .spatial_mixture import Mixture, View, climb, seen_by, view_of

__all__ = ["Consensus", "best_partitions", "consensus_of", "mixture_consensus"]

SCREENING_SPOTS = 10_000  # starts are compared on at most this many spots
ROUNDS = ((6, 0.25), (15, 0.5))  # (steps of expectation-maximisation, share of starts that go on)
EXCHANGES = 3  # rounds in which views try what others have found
SAME_LIKELIHOOD = 2e-4  # mean log-likelihoods closer than this are one and the same solution


def _start(embedding: np.ndarray, n_domains: int, index: int, rng: np.random.Generator):
    """One partition to start from, by a few steps of k-means.

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
    # Half of them are seeded with care and half without, and k-means goes a few steps only: else
    # many starts come to the same few solutions (measured on a cortex section: its by far likeliest
    # solution was then missed by every second seed).
    trials = None if index % 4 < 2 else 1
    centres, _ = kmeans_plusplus(embedding, n_domains, random_state=seed, n_local_trials=trials)
    with warnings.catch_warnings():
        # It stops early on purpose; fewer distinct points than domains the caller looks for itself.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(n_domains, init=centres, n_init=1, max_iter=4).fit_predict(embedding)


def _membership(labels: np.ndarray, n_domains: int) -> np.ndarray:
    return np.eye(n_domains)[labels]


def _has_all_domains(labels: np.ndarray, n_domains: int) -> bool:
    return np.bincount(labels, minlength=n_domains).min() > 0


def _distinct(mixtures: list[Mixture], n_kept: int) -> list[Mixture]:
    """Sort by likelihood, best first, and drop repetitions of the same solution."""
    kept: list[Mixture] = []
    for mixture in sorted(mixtures, key=lambda one: -one.likelihood):
        if not kept or kept[-1].likelihood - mixture.likelihood > SAME_LIKELIHOOD:
            kept.append(mixture)
    return kept[:n_kept]


# One thread: these matrices are too small to share, several threads on a busy machine wait for
# each other (seen: 25 times slower), and they add up sums in any order, not bit for bit the same.
@threadpool_limits.wrap(limits=1)
def best_partitions(
    embedding: np.ndarray,
    n_domains: int,
    *,
    neighbours: sparse.spmatrix | None = None,
    n_starts: int = 80,
    n_kept: int = 6,
    seed: int = 0,
) -> list[Mixture]:
    """Fit mixtures from many starts and keep the likeliest.

    All starts run a few steps; the likelier part goes on, twice; the best ``n_kept`` run to
    convergence. Of more than 10,000 spots, so many are drawn for all but the last part; they have
    lost their neighbours, so that neighbours have their say in the last part only.

    Parameters
    ----------
    embedding
        (n_spots, n_dimensions) float.
    n_domains
        Number of domains, at most the number of spots.
    neighbours
        (n_spots, n_spots), averages over neighbours, times the weight of their say
        (:mod:`genot_helpers.domains.spatial_mixture`); None for a plain mixture.
    n_starts, n_kept
        How many starts are tried, and how many of them are finished.
    seed
        Same seed and machine: the same domains.

    Returns
    -------
    list of Mixture
        Distinct solutions, likeliest first, at most ``n_kept``.
    """
    rng = np.random.default_rng(seed)
    view = shown = view_of(embedding, neighbours)
    n_spots = len(view.points)
    if n_spots > SCREENING_SPOTS:
        shown = view_of(view.points[np.sort(rng.choice(n_spots, SCREENING_SPOTS, replace=False))])
    starts = [_start(shown.points, n_domains, index, rng) for index in range(n_starts)]
    going = [_membership(one, n_domains) for one in starts if _has_all_domains(one, n_domains)]
    for n_steps, share in ROUNDS:
        n_going = max(n_kept, round(share * len(going)))
        running = _distinct([climb(shown, one, n_steps) for one in going], n_going)
        going = [mixture.membership for mixture in running]
    if shown is not view:
        everyone = view._replace(neighbours=None)
        going = [seen_by(everyone, mixture).membership for mixture in running[:n_kept]]
    return _distinct([climb(view, one, 300) for one in going[:n_kept]], n_kept)


def _exchange(views: list[View], found: list[list[Mixture]], n_kept: int) -> list[list[Mixture]]:
    """Let every view climb from the two best partitions of the others, until nothing is new."""
    offered: list[Mixture] = []
    for _ in range(EXCHANGES):
        offers = [
            (number, mixture)
            for number, best in enumerate(found)
            for mixture in best[:2]
            if not any(mixture is one for one in offered)
        ]
        offered += [mixture for _, mixture in offers]
        found = [
            _distinct(mixtures + _climb_from(offers, number, view), n_kept)
            for number, (view, mixtures) in enumerate(zip(views, found, strict=True))
        ]
    return found


def _climb_from(offers: list[tuple[int, Mixture]], number: int, view: View) -> list[Mixture]:
    """Fit a view from the partitions that other views offer."""
    return [
        climb(view, _membership(offer.labels, len(offer.weights)), 300)
        for origin, offer in offers
        if origin != number and _has_all_domains(offer.labels, len(offer.weights))
    ]


def _vote_weights(mixtures: list[Mixture], n_independent: float) -> np.ndarray:
    """Weigh the solutions of one view by likelihood, as if ``n_independent`` spots had been seen.

    Neighbouring spots share information, so the likelihood over all spots would overstate by
    far how much better the best solution is.
    """
    likelihood = np.array([mixture.likelihood for mixture in mixtures])
    weights = np.exp(n_independent * (likelihood - likelihood.max()))
    return weights / weights.sum()


@threadpool_limits.wrap(limits=1)
def mixture_consensus(
    embeddings: list[np.ndarray],
    n_domains: int,
    *,
    neighbours: sparse.spmatrix | None = None,
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
    neighbours
        See :func:`best_partitions`.
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
        view_of(embedding[:, :width], neighbours)
        for embedding in embeddings
        for width in sorted({min(width, embedding.shape[1]) for width in dimensions})
    ]
    hidden = progress_off(progress)
    bar = tqdm(views, desc="mixtures", unit="view", disable=hidden, leave=False)
    search = {"neighbours": neighbours, "n_starts": n_starts, "n_kept": n_kept}
    found = [
        best_partitions(view.points, n_domains, **search, seed=1000 * seed + number)
        for number, view in enumerate(bar)
    ]
    if not all(found):
        raise ValueError(
            f"No mixture of {n_domains} domains could be fitted: the embedding has too few "
            "distinct rows. Ask for fewer domains."
        )
    found = _exchange(views, found, n_kept)
    n_independent = len(views[0].points) / spots_per_independent
    partitions = [mixture.labels for mixtures in found for mixture in mixtures]
    weights = [_vote_weights(mixtures, n_independent) for mixtures in found]
    return consensus_of(partitions, n_domains, np.concatenate(weights))
