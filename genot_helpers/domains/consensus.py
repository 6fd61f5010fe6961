"""Several partitions of the same spots vote on one: labels, and how sure they are.

Consensus clustering, Monti et al. 2003, doi 10.1023/A:1023949509487. The share of votes of a
spot is its confidence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

__all__ = ["Consensus", "consensus_of"]


class Consensus(NamedTuple):
    """What the vote of several partitions says.

    Attributes
    ----------
    labels : numpy.ndarray of int, shape (n_spots,)
        Domain 0 … n_domains − 1 with the most votes.
    confidence : numpy.ndarray of float, shape (n_spots,)
        Share of the (weighted) votes for it, in (0, 1].
    agreement : float
        Mean adjusted Rand index between pairs of partitions: 1 if all say the same.
    n_partitions : int
        How many partitions voted.
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


def consensus_of(
    partitions: list[np.ndarray], n_domains: int, weights: np.ndarray | None = None
) -> Consensus:
    """Let several partitions of the same spots vote.

    Domain numbers mean nothing across partitions, so each partition is first renumbered to
    overlap most with the votes so far (Hungarian algorithm), beginning with the partition
    that agrees best with all others. Renumbering and voting repeat until nothing changes.

    Parameters
    ----------
    partitions : list of numpy.ndarray of int, each of shape (n_spots,)
        Domains 0 … n_domains − 1.
    n_domains : int
    weights : numpy.ndarray of float, optional
        Weight of each partition's vote; equal by default.

    Returns
    -------
    Consensus
    """
    weights = np.ones(len(partitions)) if weights is None else np.asarray(weights, dtype=float)
    agreement = _pairwise_agreement(partitions)
    spots = np.arange(len(partitions[0]))
    votes = np.zeros((len(spots), n_domains))
    votes[spots, partitions[int((agreement @ weights).argmax())]] = 1.0
    for _ in range(20):
        counted = np.zeros_like(votes)
        for partition, weight in zip(partitions, weights, strict=True):
            overlap = np.stack(
                [votes[partition == domain].sum(axis=0) for domain in range(n_domains)]
            )
            _, renumbered = linear_sum_assignment(-overlap)
            counted[spots, renumbered[partition]] += weight
        settled = np.array_equal(counted, votes)
        votes = counted
        if settled:
            break
    pairs = np.triu_indices(len(partitions), 1)
    pair_weights = np.outer(weights, weights)[pairs]
    mean = np.average(agreement[pairs], weights=pair_weights) if pair_weights.sum() > 0 else 1.0
    return Consensus(
        labels=votes.argmax(axis=1),
        confidence=np.minimum(votes.max(axis=1) / weights.sum(), 1.0),
        agreement=float(mean),
        n_partitions=len(partitions),
    )
