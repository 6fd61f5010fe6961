"""Mixtures and their vote: against the textbook, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from genot_helpers.domains.mixture import (
    best_partitions,
    climb,
    consensus_of,
    mixture_consensus,
    view_of,
)


def gaussians(n_domains=4, n_per_domain=60, *, distance=8.0, n_dimensions=5, seed=0):
    """Gaussians of unit spread with means about `distance` apart; returns points and labels."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(n_domains, n_dimensions))
    means *= distance / np.linalg.norm(means, axis=1, keepdims=True)
    labels = np.repeat(np.arange(n_domains), n_per_domain)
    return means[labels] + rng.normal(size=(len(labels), n_dimensions)), labels


def ring(n_spots, weight):
    """Spots on a ring, each with two neighbours that have a say of this weight."""
    rows, columns = np.arange(n_spots), (np.arange(n_spots) + 1) % n_spots
    edges = sparse.csr_matrix((np.full(n_spots, 0.5), (rows, columns)), shape=(n_spots, n_spots))
    return weight * (edges + edges.T)


def textbook_em(points, labels, neighbours=None, *, tolerance=1e-5, n_steps=300):
    """Expectation-maximisation with one shared covariance, densities written out by scipy.

    Same start (a partition), same ridge and same stopping rule as the module describes. Neighbours
    change the prior of each spot. Returns the mean log-likelihood and the probabilities (spots x
    domains) of the last step.
    """
    n, d = points.shape
    responsibility, before = np.eye(labels.max() + 1)[labels], -np.inf
    for _ in range(n_steps):
        size = responsibility.sum(axis=0)
        means = (responsibility.T @ points) / size[:, None]
        deviations = points[:, None, :] - means[None]
        covariance = np.einsum("nk,nki,nkj->ij", responsibility, deviations, deviations) / n
        covariance = covariance + 1e-6 * np.trace(covariance) / d * np.eye(d)
        prior = np.tile(size / n, (n, 1))
        if neighbours is not None:
            prior = prior * np.exp(neighbours.toarray() @ responsibility)
            prior = prior / prior.sum(axis=1, keepdims=True)
        columns = [multivariate_normal(mean, covariance).pdf(points) for mean in means]
        joint = prior * np.column_stack(columns)
        likelihood = np.log(joint.sum(axis=1)).mean()
        responsibility = joint / joint.sum(axis=1, keepdims=True)
        if abs(likelihood - before) < tolerance:
            break
        before = likelihood
    return likelihood, responsibility


# --- consensus ---------------------------------------------------------------------------------


def test_vote_of_a_hand_made_example():
    partitions = [
        np.array([0, 0, 0, 1, 1, 1]),
        np.array([1, 1, 1, 0, 0, 0]),  # the same, numbered the other way round
        np.array([0, 0, 1, 1, 1, 1]),  # the third spot goes over
    ]
    vote = consensus_of(partitions, 2)
    assert adjusted_rand_score(vote.labels, [0, 0, 0, 1, 1, 1]) == 1.0
    np.testing.assert_allclose(vote.confidence, [1, 1, 2 / 3, 1, 1, 1])
    pairs = [1.0, *[adjusted_rand_score(partitions[0], partitions[2])] * 2]
    assert vote.agreement == pytest.approx(np.mean(pairs))
    assert vote.n_partitions == 3


def test_one_partition_is_its_own_consensus():
    labels = np.array([2, 0, 1, 1, 0])
    vote = consensus_of([labels], 3)
    np.testing.assert_array_equal(vote.labels, labels)
    assert (vote.confidence == 1.0).all()
    assert vote.agreement == 1.0


def test_a_heavy_vote_counts_as_so_many_light_ones():
    one, other = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])
    weighted = consensus_of([one, other], 2, np.array([3.0, 1.0]))
    counted = consensus_of([one, one, one, other], 2)
    np.testing.assert_array_equal(weighted.labels, counted.labels)
    np.testing.assert_allclose(weighted.confidence, counted.confidence)
    np.testing.assert_allclose(weighted.confidence, [1, 1, 0.75, 1, 1, 1])
    scaled = consensus_of([one, other], 2, np.array([0.3, 0.1]))
    np.testing.assert_allclose(scaled.confidence, weighted.confidence)


def test_partitions_may_use_fewer_domains_than_asked_for():
    vote = consensus_of([np.array([0, 0, 1, 1]), np.array([2, 2, 0, 0])], 3)
    assert adjusted_rand_score(vote.labels, [0, 0, 1, 1]) == 1.0
    assert (vote.confidence == 1.0).all()


@st.composite
def partitions_and_renumberings(draw):
    n_domains, n_spots = draw(st.integers(2, 5)), draw(st.integers(5, 40))
    n_partitions = draw(st.integers(1, 5))
    labels = st.lists(st.integers(0, n_domains - 1), min_size=n_spots, max_size=n_spots)
    partitions = [np.array(draw(labels)) for _ in range(n_partitions)]
    orders = [np.array(draw(st.permutations(range(n_domains)))) for _ in range(n_partitions)]
    return n_domains, partitions, orders


@settings(max_examples=50, deadline=None)
@given(partitions_and_renumberings())
def test_identical_partitions_agree_whatever_their_numbers(drawn):
    n_domains, (labels, *_), orders = drawn
    vote = consensus_of([order[labels] for order in orders], n_domains)
    assert adjusted_rand_score(vote.labels, labels) == 1.0
    assert (vote.confidence == 1.0).all()
    assert vote.agreement == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(partitions_and_renumberings())
def test_confidence_is_a_share_of_the_votes(drawn):
    n_domains, partitions, _ = drawn
    vote = consensus_of(partitions, n_domains)
    votes = vote.confidence * len(partitions)
    np.testing.assert_allclose(votes, votes.round(), atol=1e-9)
    assert vote.confidence.min() >= 0.0
    assert vote.confidence.max() <= 1.0
    assert set(vote.labels) <= set(range(n_domains))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_renumbering_a_partition_changes_nothing(seed, data):
    """Noisy copies of one partition, as in use; ties between domains are not the point here."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(3), 30)
    partitions = [np.where(rng.random(90) < 0.15, rng.integers(0, 3, 90), truth) for _ in range(5)]
    orders = [np.array(data.draw(st.permutations(range(3)))) for _ in partitions]
    plain = consensus_of(partitions, 3)
    renumbered = consensus_of([o[p] for o, p in zip(orders, partitions, strict=True)], 3)
    sure = plain.confidence > 0.5
    assert adjusted_rand_score(plain.labels[sure], renumbered.labels[sure]) == 1.0
    np.testing.assert_allclose(plain.confidence, renumbered.confidence)
    assert plain.agreement == pytest.approx(renumbered.agreement)


def two_opinions(n_each: tuple[int, int]):
    """Partitions of six bands of 40 spots into five domains, so that two bands are one.

    Of the partitions, `n_each[0]` merge the first two bands and `n_each[1]` the last two.
    """
    bands = np.repeat(np.arange(6), 40)
    first, last = np.array([0, 0, 1, 2, 3, 4])[bands], np.array([0, 1, 2, 3, 4, 4])[bands]
    return bands, [first] * n_each[0] + [last] * n_each[1]


@pytest.mark.parametrize("n_each", [(3, 2), (2, 3)])
def test_two_opinions_are_not_mixed(n_each):
    """The consensus is one of the two partitions, no chimera, and unsure where they differ."""
    bands, partitions = two_opinions(n_each)
    vote = consensus_of(partitions, 5)
    majority = partitions[0] if n_each[0] > n_each[1] else partitions[-1]
    assert adjusted_rand_score(vote.labels, majority) == 1.0
    middle = np.isin(bands, [2, 3])
    assert vote.confidence[~middle].mean() < vote.confidence[middle].mean() == 1.0


@pytest.mark.parametrize("n_each", [(3, 2), (2, 3)])
def test_the_order_of_partitions_and_the_seed_do_not_matter(n_each):
    _, partitions = two_opinions(n_each)
    rng = np.random.default_rng(0)
    noisy = [np.where(rng.random(240) < 0.1, rng.integers(0, 5, 240), one) for one in partitions]
    plain = consensus_of(noisy, 5)
    for seed in range(1, 4):
        other = consensus_of([noisy[i] for i in rng.permutation(5)], 5, seed=seed)
        assert adjusted_rand_score(plain.labels, other.labels) == 1.0


def test_many_spots_cost_little():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 8, 100_000)  # all pairs would be 80 GB
    noisy = [np.where(rng.random(len(truth)) < 0.05, 0, truth) for _ in range(6)]
    assert adjusted_rand_score(consensus_of(noisy, 8).labels, truth) > 0.95


# --- mixtures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weight", [0.0, 1.5, 4.0])
def test_mixture_follows_the_textbook_from_the_same_start(seed, weight):
    points, labels = gaussians(3, 50, distance=2.0, n_dimensions=3, seed=seed)
    wrong = np.random.default_rng(seed).random(len(labels)) < 0.3
    start = np.where(wrong, (labels + 1) % 3, labels)
    neighbours = ring(len(points), weight) if weight else None
    view = view_of(points, neighbours)
    mixture = climb(view, np.eye(3)[start], 300)
    likelihood, probability = textbook_em(points, start, neighbours)
    assert mixture.likelihood == pytest.approx(likelihood, abs=1e-7)
    np.testing.assert_allclose(mixture.membership, probability, atol=1e-6)


def test_without_neighbours_it_is_the_mixture_of_scikit_learn():
    points, labels = gaussians(4, 50, distance=3.0, seed=5)
    view = view_of(points)
    ours = climb(view, np.eye(4)[labels], 300)
    theirs = GaussianMixture(4, covariance_type="tied", tol=1e-9, reg_covar=1e-9, max_iter=1000)
    theirs.means_init, theirs.weights_init = ours.means, ours.weights
    theirs.precisions_init = np.linalg.inv(ours.covariance)
    theirs.fit(points)
    assert ours.likelihood == pytest.approx(theirs.score(points), abs=1e-3)
    np.testing.assert_allclose(ours.means, theirs.means_, atol=0.05)
    np.testing.assert_array_equal(ours.labels, theirs.predict(points))


def test_neighbours_settle_what_the_embedding_leaves_open():
    """Two domains side by side whose embeddings overlap."""
    points, labels = gaussians(2, 150, distance=1.0, n_dimensions=2, seed=1)
    grid = ring(300, 1.0) + ring(300, 1.0) @ ring(300, 1.0)
    plain = best_partitions(points, 2, n_starts=8)[0]
    together = best_partitions(points, 2, neighbours=2.0 * grid, n_starts=8)[0]
    scores = [adjusted_rand_score(labels, one.labels) for one in (plain, together)]
    assert scores[1] > scores[0] + 0.15
    assert scores[1] > 0.85


def test_likelihood_is_that_of_the_reported_parameters():
    points, _ = gaussians(3, 40, distance=3.0, n_dimensions=3)
    mixture = best_partitions(points, 3, n_starts=4, n_kept=1)[0]
    densities = [
        weight * multivariate_normal(mean, mixture.covariance).pdf(points)
        for weight, mean in zip(mixture.weights, mixture.means, strict=True)
    ]
    assert mixture.likelihood == pytest.approx(np.log(np.sum(densities, axis=0)).mean())
    assert mixture.covariance.shape == (3, 3)  # one for all domains


def test_likeliest_mixture_comes_first_and_none_is_repeated():
    points, _ = gaussians(5, 40, distance=2.0, seed=3)
    mixtures = best_partitions(points, 5, n_starts=20, n_kept=5)
    bounds = [mixture.likelihood for mixture in mixtures]
    assert 1 < len(bounds) <= 5
    assert bounds == sorted(bounds, reverse=True)
    assert (np.diff(bounds) < -1e-4).all()
    partitions = [mixture.labels for mixture in mixtures]
    for number, one in enumerate(partitions):
        for other in partitions[:number]:
            assert adjusted_rand_score(one, other) < 1.0


def test_more_starts_are_never_less_likely():
    points, _ = gaussians(6, 30, distance=2.0, n_dimensions=4, seed=1)
    few = best_partitions(points, 6, n_starts=2, n_kept=2)[0].likelihood
    many = best_partitions(points, 6, n_starts=30, n_kept=30)[0].likelihood
    assert many >= few - 1e-3  # the first two starts are the same


def test_planted_gaussians_are_recovered():
    points, labels = gaussians(6, 50)
    vote = mixture_consensus([points], 6, dimensions=(3, 5), n_starts=10, n_kept=2)
    assert adjusted_rand_score(vote.labels, labels) > 0.99
    assert vote.agreement > 0.85
    assert 2 <= vote.n_partitions <= 4  # of two views, two each at most


def test_elongated_domains_need_the_covariance():
    """Two sheets: k-means cuts across them, the shared covariance does not."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 150)
    points = np.column_stack(
        [rng.normal(scale=20.0, size=300), labels + 0.1 * rng.normal(size=300)]
    )
    mixture = best_partitions(points, 2, n_starts=10)[0]
    assert adjusted_rand_score(mixture.labels, labels) == 1.0


def test_affine_maps_do_not_matter():
    points, _ = gaussians(4, 50, distance=5.0, n_dimensions=4, seed=2)
    transform = np.random.default_rng(0).normal(size=(4, 4)) + 2 * np.eye(4)
    mapped = points @ transform + 100.0
    plain = best_partitions(points, 4, n_starts=20, n_kept=2)[0]
    moved = best_partitions(mapped, 4, n_starts=20, n_kept=2)[0]
    assert adjusted_rand_score(plain.labels, moved.labels) == 1.0
    _, log_volume = np.linalg.slogdet(transform)
    assert plain.likelihood - moved.likelihood == pytest.approx(log_volume, abs=1e-3)


def test_same_seed_is_bit_identical_and_another_seed_starts_elsewhere():
    points, _ = gaussians(5, 30, distance=2.0)
    options = {"dimensions": (3, 5), "n_starts": 6, "n_kept": 2}
    first = mixture_consensus([points], 5, **options, seed=7)
    again = mixture_consensus([points], 5, **options, seed=7)
    other = mixture_consensus([points], 5, **options, seed=8)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.confidence, again.confidence)
    assert first.agreement == again.agreement
    assert not np.array_equal(first.confidence, other.confidence)


def test_many_spots_are_screened_on_a_sample():
    points, labels = gaussians(3, 4_000, n_dimensions=3)  # more than SCREENING_SPOTS
    neighbours = ring(len(points), 1.0)
    mixture = best_partitions(points, 3, neighbours=neighbours, n_starts=3, n_kept=1)[0]
    assert adjusted_rand_score(mixture.labels, labels) > 0.99


def test_columns_that_say_nothing_do_no_harm(recwarn):
    points, labels = gaussians(3, 40)
    padded = np.column_stack([points, np.zeros(len(points)), np.full(len(points), 3.0)])
    mixture = best_partitions(padded, 3, n_starts=6)[0]
    assert adjusted_rand_score(mixture.labels, labels) == 1.0
    assert not recwarn.list


def test_as_many_domains_as_spots(recwarn):
    points = np.random.default_rng(0).normal(size=(6, 2))
    vote = mixture_consensus([points], 6, n_starts=2)
    assert len(set(vote.labels)) == 6
    assert not recwarn.list


def test_too_few_distinct_rows_is_an_error(recwarn):
    with pytest.raises(ValueError, match="too few distinct rows"):
        mixture_consensus([np.repeat(np.eye(2), 20, axis=0)], 3, n_starts=3)
    assert not recwarn.list
