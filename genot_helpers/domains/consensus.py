"""Several partitions of the same spots agree on one: labels, and how sure they are.

Consensus clustering (Monti et al. 2003, doi 10.1023/A:1023949509487) by the bipartite graph of
spots and domains (Fern and Brodley 2004, doi 10.1145/1015330.1015414). Each domain of each
partition is a vertex, tied to the spots in it; spots that are often together lie close in the
leading eigenvectors of that graph, and k-means finds the consensus there. A plain vote needs one
domain of every partition to stand for one domain of every other; when partitions disagree about
which two domains are one, that has no answer, and the vote jumps with the seed (measured).
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

__all__ = ["Consensus", "consensus_of"]


class Consensus(NamedTuple):
    """What several partitions agree on.

    Attributes
    ----------
    labels
        (n_spots,) int, domain 0 … n_domains − 1.
    confidence
        (n_spots,) float, share of the (weighted) partitions that put the spot there, from 0 to 1,
        after the domains of each partition are paired with those of the consensus (overlap).
    agreement
        Mean adjusted Rand index between pairs of partitions: 1 if all say the same.
    n_partitions
        How many partitions took part.
    """

    labels: np.ndarray
    confidence: np.ndarray
    agreement: float
    n_partitions: int


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
    """Place spots by the leading ``n_domains`` eigenvectors of the graph of spots and domains.

    ``profiles`` (n_partitions, n_profiles) holds what the partitions say about each kind of spot,
    ``n_spots`` how many spots are of that kind. Normalised by the degrees of both sides, the edge
    from a spot to a domain of size m in a partition of weight w is sqrt(w / m).
    """
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


def _paired_with(reference: np.ndarray, labels: np.ndarray, n_domains: int) -> np.ndarray:
    """Renumber ``labels`` so that their domains overlap most with those of ``reference``."""
    overlap = np.zeros((n_domains, n_domains))
    np.add.at(overlap, (labels, reference), 1.0)
    _, renumbered = linear_sum_assignment(-overlap)
    return renumbered[labels]


@threadpool_limits.wrap(limits=1)
def consensus_of(
    partitions: list[np.ndarray],
    n_domains: int,
    weights: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Consensus:
    """Find the partition that several partitions of the same spots agree on.

    Domain numbers mean nothing across partitions and are not compared: what counts is which
    spots are together. The result carries the numbers of the partition that agrees best with
    all others.

    Parameters
    ----------
    partitions
        (n_spots,) int each. Domains 0 … n_domains − 1.
    n_domains
        Number of domains, at most the number of spots.
    weights
        Weight of each partition; equal by default.
    seed
        Of the k-means that ends it.

    Returns
    -------
    Consensus
    """
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
    labels = _paired_with(partitions[int((agreement @ weights).argmax())], labels, n_domains)
    votes = np.zeros(len(labels))
    for partition, weight in zip(partitions, weights, strict=True):
        votes += weight * (_paired_with(labels, partition, n_domains) == labels)
    pairs = np.triu_indices(len(partitions), 1)
    pair_weights = np.outer(weights, weights)[pairs]
    mean = np.average(agreement[pairs], weights=pair_weights) if pair_weights.sum() > 0 else 1.0
    return Consensus(
        labels=labels,
        confidence=np.minimum(votes / weights.sum(), 1.0),
        agreement=float(mean),
        n_partitions=len(partitions),
    )
