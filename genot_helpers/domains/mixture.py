r"""From embeddings to one partition: mixtures from many starts, then a consensus.

- :func:`cluster_mixture`, from slices to slots. For several views (embeddings, and numbers of their
  leading dimensions) :func:`best_partitions` fits mixtures from many starts and drops the poor ones
  early, because the likelihood has many local maxima; each view then tries what the others found,
  and a consensus of all partitions, weighted by likelihood, is the result. No label is used.
- :class:`Mixture`: Gaussian domains with one covariance (EEE in mclust; Scrucca et al. 2016, doi
  10.32614/RJ-2016-021) in which neighbours are likely to share a domain, a hidden Markov random
  field (Zhang, Brady and Smith 2001, doi 10.1109/42.906424; on spots: BayesSpace, Zhao et al. 2021,
  doi 10.1038/s41587-021-00935-2). The prior of spot :math:`i` for domain :math:`k` is

  .. math:: p_{ik} \propto \pi_k \exp(\beta q_{ik}), \qquad q_{ik} = \sum_j W_{ij} r_{jk},

  with :math:`r_{jk}` the membership of neighbour :math:`j` and rows of :math:`W` that average over
  neighbours; :math:`\beta = 0` is the plain mixture. Expectation-maximisation keeps :math:`q` from
  one step to the next (mean field; Celeux et al. 2003, doi 10.1016/S0031-3203(02)00027-4).
- :class:`Consensus` (Monti et al. 2003, doi 10.1023/A:1023949509487) by the bipartite graph of
  spots and domains (Fern and Brodley 2004, doi 10.1145/1015330.1015414): spots that are often
  together lie close in its leading eigenvectors, where k-means finds the consensus.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import linalg, sparse
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..arguments import checked, progress_off
from ..preprocessing.graph import connectivities, row_normalised
from ..slices.sections import Slices, by_section, joint_embeddings, named_slices, rows_of_each
from ..slices.slices import record

SCREENING_SPOTS = 10_000  # starts are compared on at most this many spots
ROUNDS = ((6, 0.25), (15, 0.5))  # (steps of expectation-maximisation, share of starts that go on)
EXCHANGES = 3  # rounds in which views try what others have found
SAME_LIKELIHOOD = 2e-4  # mean log-likelihoods closer than this are one and the same solution


@by_section
@checked(neighbour_weight=(0, 1e100), n_deviations=(1e-9, 1e100))
def cluster_mixture(
    slices: Slices,
    n_domains: int,
    *,
    use_rep: str | Sequence[str] = "X_genot",
    key_added: str = "genot_domain",
    neighbour_weight: float = 2.0,
    dimensions: tuple[int, ...] = (12, 14, 16, 20),
    n_starts: int = 80,
    n_kept: int = 6,
    n_deviations: float | None = 2.5,
    seed: int = 0,
    progress: bool | None = None,
    section_key: str | None = None,
) -> Consensus:
    """Find domains as a consensus of Gaussian mixtures, in which neighbours have a say.

    Parameters
    ----------
    slices
        Slices with an embedding in ``obsm[use_rep]``, (n_spots, n_dimensions), and the graph of
        neighbours in ``obsp["spatial_connectivities"]``.
    n_domains
        Number of domains, at most the number of spots. :func:`choose_n_domains` suggests one.
    use_rep
        Slot of the embedding; of several, each is clustered alone and all partitions enter one
        consensus.
    key_added
        Writes ``obs[key_added]`` (categorical "1", "2", … by size), the share of votes in
        ``obs["genot_confidence"]`` (float32; ``<key>_confidence`` for another key), and the
        parameters in ``uns["genot"][key_added]``.
    neighbour_weight
        β of :mod:`genot_helpers.domains.mixture`: a domain to which all neighbours of a spot belong
        is exp(β) times as likely for it, before its own embedding is looked at, as one to which
        none belongs. 0: neighbours have no say, and no graph is needed.
    dimensions, n_starts, n_kept
        Leading dimensions, each of which is a view; starts, and solutions that vote, of a view.
    n_deviations
        Values further than this many standard deviations from the mean of their dimension are
        drawn in to that limit (winsorised), so that a few extreme spots cannot claim a domain
        of their own; None leaves them. Chosen on one section of cortex and one of hypothalamus.
    seed
        Same seed and machine: the same domains, bit for bit.
    progress
        None shows a progress bar in a terminal or notebook only.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    Consensus
        Labels and confidences of all spots, slices one after the other, as found (before
        domains are numbered by size), the agreement between partitions and their number.

    Raises
    ------
    SliceError
        If the embedding is missing, not finite, or of another width in one of the slices; or if
        neighbours should have a say and a slice has no graph.
    ValueError
        If a number is out of range, or ``n_domains`` does not fit the number of spots.
    """
    named = named_slices(slices)
    slots = [use_rep] if isinstance(use_rep, str) else list(use_rep)
    embeddings = [
        _without_extremes(stacked_embedding(named, slot, n_domains), n_deviations) for slot in slots
    ]
    neighbours = _neighbours(named, neighbour_weight)
    search = {"n_starts": n_starts, "n_kept": n_kept, "seed": seed}
    result = mixture_consensus(
        embeddings,
        n_domains,
        neighbours=neighbours,
        dimensions=dimensions,
        progress=progress,
        **search,
    )
    facts = {
        "method": "consensus of spatial Gaussian mixtures",
        "use_rep": np.asarray(slots),
        "neighbour_weight": neighbour_weight,
        "dimensions": np.asarray(dimensions),
        "n_deviations": np.inf if n_deviations is None else n_deviations,
        **search,
        "agreement": result.agreement,
        "n_partitions": result.n_partitions,
    }
    write_domains(named, result.labels, key_added, result.confidence, **facts)
    return result


def stacked_embedding(
    named: Mapping[str, AnnData], use_rep: str, n_domains: int | None
) -> np.ndarray:
    """Stack the embeddings of all slices, ordered by variance; complain early and clearly."""
    stacked = np.concatenate(joint_embeddings(named, use_rep))
    if n_domains is not None and not 1 <= n_domains <= len(stacked):
        raise ValueError(
            f"n_domains is {n_domains}, but there are {len(stacked)} spots. "
            f"Choose a number from 1 to {len(stacked)}."
        )
    # Rotate to principal axes, so that "the leading dimensions" is well defined.
    n_axes = min(stacked.shape)
    return PCA(n_axes, svd_solver="covariance_eigh").fit_transform(stacked)


def _without_extremes(embedding: np.ndarray, n_deviations: float | None) -> np.ndarray:
    """Draw values in to ``n_deviations`` standard deviations; the columns have mean zero."""
    if n_deviations is None:
        return embedding
    limit = n_deviations * embedding.std(axis=0)
    return np.clip(embedding, -limit, limit)


def _neighbours(named: Mapping[str, AnnData], weight: float) -> sparse.csr_matrix | None:
    """Averages over the neighbours of each spot, in its own slice, times the weight."""
    if weight == 0:
        return None
    otherwise = ", or give neighbour_weight=0 for domains that ignore neighbours"
    graphs = [connectivities(one, name, otherwise=otherwise) for name, one in named.items()]
    means = sparse.block_diag([row_normalised(graph, self_loops=0.0) for graph in graphs], "csr")
    # A spot without neighbours was given itself; it must not bear itself out.
    return (means - sparse.diags(means.diagonal())) * weight


def write_domains(
    named: Mapping[str, AnnData],
    labels: np.ndarray,
    key_added: str,
    confidence: np.ndarray | None = None,
    **facts,
) -> None:
    """Split labels back onto the slices, number domains by size, and note how they were made."""
    by_size = pd.Series(labels).value_counts(sort=True).index  # largest first
    rank = pd.Series(np.arange(1, len(by_size) + 1), index=by_size)
    names = rank.loc[labels].to_numpy()
    categories = [str(number) for number in range(1, len(by_size) + 1)]
    for adata, rows in rows_of_each(named.values(), np.arange(len(labels))):
        adata.obs[key_added] = pd.Categorical(names[rows].astype(str), categories=categories)
        if confidence is not None:
            adata.obs[confidence_key(key_added)] = confidence[rows].astype(np.float32)
        made_by = {"n_domains": len(categories), "n_slices": len(named), **facts}
        record(adata, **{key_added: made_by})


def confidence_key(key_added: str) -> str:
    """Name of the confidence column that goes with a domain column."""
    return key_added.removesuffix("_domain") + "_confidence"


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
    """Vote of the likeliest mixtures over embeddings and numbers of leading dimensions."""
    # Columns of an embedding are ordered by importance. Solutions are weighted by likelihood, with
    # ``spots_per_independent`` spots as one observation (about the size of a smoothed
    # neighbourhood).
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
    """Fit mixtures from many starts: distinct solutions, likeliest first, at most ``n_kept``."""
    # All starts run a few steps, the likelier part goes on, twice, and the best run to convergence.
    # Of more than 10,000 spots a sample is used until the last part, without its neighbours.
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


def _start(embedding: np.ndarray, n_domains: int, index: int, rng: np.random.Generator):
    """Draw one partition to start from, by a few steps of k-means."""
    # Every second start draws dimensions towards equal spread: k-means follows the widest
    # dimensions, while the mixture, which does not depend on scale, may have likelier solutions
    # elsewhere.
    if index % 2:
        spread = embedding.std(axis=0)
        # Dimensions without spread stay as they are; nothing but rounding error is in them.
        spread[spread <= 1e-9 * spread.max()] = 1.0
        embedding = embedding / spread ** rng.uniform(0.5, 1.0)
    seed = int(rng.integers(2**31))
    # Half of the starts use k-means++ with trials, half without, and k-means runs a few steps only:
    # otherwise many starts reach the same few solutions (on a cortex section, every second seed
    # missed the likeliest one).
    trials = None if index % 4 < 2 else 1
    centres, _ = kmeans_plusplus(embedding, n_domains, random_state=seed, n_local_trials=trials)
    with warnings.catch_warnings():
        # It stops early on purpose; the caller checks for empty domains.
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


def _exchange(views: list[View], found: list[list[Mixture]], n_kept: int) -> list[list[Mixture]]:
    """Fit every view from the two best partitions of the others, until nothing is new."""
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
    """Weigh the solutions of one view by their likelihood over ``n_independent`` spots."""
    # Neighbouring spots share information: the likelihood over all spots overstates differences.
    likelihood = np.array([mixture.likelihood for mixture in mixtures])
    weights = np.exp(n_independent * (likelihood - likelihood.max()))
    return weights / weights.sum()


# -------------------------------------------------------------------------------------------------
# The mixture. A shared covariance makes both steps cheap: the part of the exponent that is
# quadratic in a spot is the same for all domains, so only :math:`x^\top \Sigma^{-1} \mu_k` is
# needed, and the covariance within domains is that of all spots less that of the means.

_RIDGE = 1e-6  # of the mean variance within domains, added to the covariance
_TOLERANCE = 1e-5  # of the mean log-likelihood: smaller steps have arrived


class View(NamedTuple):
    """Spots as a mixture sees them."""

    points: np.ndarray  # (n_spots, n_dimensions) float
    scatter: np.ndarray  # (n_dimensions, n_dimensions), mean of x x' over all spots
    neighbours: sparse.csr_matrix | None = None  # (n_spots, n_spots), β W


class Mixture(NamedTuple):
    """The result of a fit."""

    weights: np.ndarray  # (n_domains,)
    means: np.ndarray  # (n_domains, n_dimensions)
    covariance: np.ndarray  # (n_dimensions, n_dimensions)
    membership: np.ndarray  # (n_spots, n_domains), probability that a spot belongs to a domain
    likelihood: float  # mean log-likelihood of a spot, given the memberships of its neighbours

    @property
    def labels(self) -> np.ndarray:
        """Likeliest domain of each spot, shape (n_spots,) int."""
        return self.membership.argmax(axis=1)


def view_of(points: np.ndarray, neighbours: sparse.spmatrix | None = None) -> View:
    """Prepare an embedding, shape (n_spots, n_dimensions), for any number of fits."""
    points = np.ascontiguousarray(points, dtype=np.float64)
    return View(points, points.T @ points / len(points), neighbours)


def _maximisation(view: View, membership: np.ndarray) -> Mixture:
    """Describe memberships as a mixture; its likelihood is not known yet (the M step)."""
    n_spots, n_dimensions = view.points.shape
    # A domain may become empty; it then keeps a trace of weight and the mean of all spots.
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
    """Memberships and likelihood under the parameters of a mixture (the E step)."""
    # The mean of x' inv(Sigma) x over spots is trace(inv(Sigma) scatter): no loop over spots.
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
    """Run expectation-maximisation from memberships, for 1 to ``n_steps`` steps."""
    before = -np.inf
    for _ in range(n_steps):
        mixture = seen_by(view, _maximisation(view, membership))
        if abs(mixture.likelihood - before) < _TOLERANCE:
            break
        before, membership = mixture.likelihood, mixture.membership
    return mixture


# -------------------------------------------------------------------------------------------------
# The consensus. A plain vote would need to pair the domains of every two partitions; when
# partitions disagree about which two domains are one, no pairing is right, and a vote depends on
# the seed.


class Consensus(NamedTuple):
    """What several partitions agree on.

    Attributes
    ----------
    labels
        (n_spots,) int, domain 0 … n_domains − 1.
    confidence
        (n_spots,) float, share of the (weighted) partitions that put the spot there, from 0 to 1:
        how far solutions agree, not whether they are right.
    agreement
        Mean adjusted Rand index between two partitions: 1 if all say the same.
    n_partitions
        How many partitions took part.
    """

    labels: np.ndarray
    confidence: np.ndarray
    agreement: float
    n_partitions: int


@threadpool_limits.wrap(limits=1)
def consensus_of(
    partitions: list[np.ndarray],
    n_domains: int,
    weights: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Consensus:
    """Find the partition that several partitions (n_spots,) of the same spots agree on."""
    # Domain numbers are not compared across partitions, only which spots are together; the result
    # carries the numbers of the partition that agrees best with all others.
    weights = np.ones(len(partitions)) if weights is None else np.asarray(weights, dtype=float)
    agreement = _pairwise_agreement(partitions)
    # Spots that all partitions treat alike are one point: there are few kinds of them.
    profiles, kind, n_spots = np.unique(
        np.stack(partitions), axis=1, return_inverse=True, return_counts=True
    )
    embedding = _bipartite_embedding(profiles, n_spots, n_domains, weights)
    k_means = KMeans(min(n_domains, len(n_spots)), n_init=20, random_state=seed)
    with warnings.catch_warnings():
        # Partitions that use fewer domains than asked for leave fewer distinct points.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = k_means.fit(embedding, sample_weight=n_spots).labels_[kind.ravel()]
    labels = paired_with(partitions[int((agreement @ weights).argmax())], labels, n_domains)
    votes = np.zeros(len(labels))
    for partition, weight in zip(partitions, weights, strict=True):
        votes += weight * (paired_with(labels, partition, n_domains) == labels)
    pairs = np.triu_indices(len(partitions), 1)
    pair_weights = np.outer(weights, weights)[pairs]
    mean = np.average(agreement[pairs], weights=pair_weights) if pair_weights.sum() > 0 else 1.0
    return Consensus(
        labels=labels,
        confidence=np.minimum(votes / weights.sum(), 1.0),
        agreement=float(mean),
        n_partitions=len(partitions),
    )


def _pairwise_agreement(partitions: list[np.ndarray]) -> np.ndarray:
    """Compute the adjusted Rand index of every two partitions, on at most 2,000 spots."""
    step = max(1, len(partitions[0]) // 2_000)
    agreement = np.eye(len(partitions))
    for i, one in enumerate(partitions):
        for j in range(i):
            agreement[i, j] = agreement[j, i] = adjusted_rand_score(
                one[::step], partitions[j][::step]
            )
    return agreement


def _bipartite_embedding(
    profiles: np.ndarray, n_spots: np.ndarray, n_domains: int, weights: np.ndarray
) -> np.ndarray:
    """Place spots by the leading eigenvectors of the graph of spots and domains."""
    # ``profiles`` (n_partitions, n_profiles) are the kinds of spots, ``n_spots`` their numbers. The
    # edge from a spot to a domain of size m in a partition of weight w is sqrt(w / m).
    blocks = []
    for partition, weight in zip(profiles, weights, strict=True):
        member = np.eye(n_domains)[partition]
        size = np.maximum(n_spots @ member, 1.0)
        blocks.append(member * np.sqrt(weight / size))
    edges = np.concatenate(blocks, axis=1)
    # The small matrix (domains x domains) has the same eigenvectors, seen from the other side.
    _, vectors = np.linalg.eigh((edges * n_spots[:, None]).T @ edges)
    # Scaled by singular values: directions that do not exist stay at zero.
    embedding = edges @ vectors[:, ::-1][:, :n_domains]
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    return embedding / np.maximum(length, np.finfo(float).tiny)


def paired_with(reference: np.ndarray, labels: np.ndarray, n_domains: int) -> np.ndarray:
    """Renumber ``labels`` so that their domains overlap most with those of ``reference``."""
    overlap = np.zeros((n_domains, n_domains))
    np.add.at(overlap, (labels, reference), 1.0)
    _, renumbered = linear_sum_assignment(-overlap)
    return renumbered[labels]
