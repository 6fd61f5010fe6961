"""Fused Gromov–Wasserstein: the ends of the trade-off, invariances, and what is refused."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import cdist

from genot_helpers import SliceError, fused_gromov_wasserstein_barycenter, sparse_coupling
from genot_helpers.transport import (
    NotConvergedError,
    fused_gromov_wasserstein_coupling,
    partial_fused_gromov_wasserstein_coupling,
)

seeds = st.integers(0, 2**32 - 1)


def tissue(n_spots, seed=0):
    """Spots of an L-shaped tissue, which no rotation maps to itself, and an embedding of places."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 10, (4 * n_spots, 2))
    points = points[(points[:, 0] < 4) | (points[:, 1] < 3)][:n_spots]
    embedding = np.column_stack([np.sin(points), points[:, 0] * points[:, 1] / 20])
    return points, embedding + rng.normal(0, 0.05, embedding.shape)


def turned(points, angle=2.0):
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ turn + [50.0, -20.0]


@given(seeds, st.floats(0.1, 0.9), st.floats(0.3, 1.0))
@settings(deadline=None, max_examples=10)
def test_masses_add_up(seed, alpha, share):
    rng = np.random.default_rng(seed)
    (left, e), (right, f) = tissue(30, seed), tissue(25, seed + 1)
    left_mass, right_mass = rng.uniform(0.5, 1.5, 30), rng.uniform(0.5, 1.5, 25)
    part = partial_fused_gromov_wasserstein_coupling(
        left, right, e, f, matched_share=share, alpha=alpha,
        left_mass=left_mass, right_mass=right_mass,
    )  # fmt: skip
    assert part.mass == pytest.approx(share * min(left_mass.sum(), right_mass.sum()), rel=1e-6)
    right_mass *= left_mass.sum() / right_mass.sum()
    whole = fused_gromov_wasserstein_coupling(
        left, right, e, f, alpha=alpha, left_mass=left_mass, right_mass=right_mass
    )
    assert whole.unmatched_fraction < 1e-9
    for coupling in (part, whole):
        assert coupling.support == "dense"
        assert (coupling.plan.data > 0).all()
        rows = np.asarray(coupling.plan.sum(axis=1)).ravel()
        assert np.allclose(rows + coupling.left_unmatched, left_mass)
        assert coupling.marginal_error < 1e-8


def test_alpha_0_is_expression_only():
    (left, e), (right, f) = tissue(40), tissue(35, 1)
    coupling = fused_gromov_wasserstein_coupling(left, right, e, f, alpha=0.0)
    costs = cdist(e, f, "sqeuclidean")
    assert coupling.cost == pytest.approx(ot.emd2([], [], costs / costs.mean()), rel=1e-6)
    moved = fused_gromov_wasserstein_coupling(3 * left[::-1], right, e, f, alpha=0.0)
    assert abs(coupling.plan - moved.plan).max() < 1e-12


def test_alpha_1_is_structure_only():
    (left, e), (right, f) = tissue(40), tissue(40, 1)
    coupling = fused_gromov_wasserstein_coupling(left, right, alpha=1.0)
    same = fused_gromov_wasserstein_coupling(left, right, e, f[::-1], alpha=1.0)
    assert abs(coupling.plan - same.plan).max() == 0
    c, d = cdist(left, left), cdist(right, right)
    scale = ((c[:, :, None, None] - d[None, None]) ** 2).mean()
    value = ot.gromov.gromov_wasserstein2(c, d) / scale
    assert coupling.cost == pytest.approx(value, rel=1e-3)


def test_cost_is_1_at_random():
    """Both terms have the same say: a plan that knows nothing costs 1, whatever alpha."""
    (left, e), (right, f) = tissue(30), tissue(30, 1)
    c, d, m = cdist(left, left), cdist(right, right), cdist(e, f, "sqeuclidean")
    scale = ((c[:, :, None, None] - d[None, None]) ** 2).mean()
    for alpha in (0.2, 0.8):
        coupling = fused_gromov_wasserstein_coupling(left, right, e, f, alpha=alpha)
        plan = coupling.plan.toarray()
        structure = np.einsum(
            "ikjl,ij,kl->", (c[:, :, None, None] - d[None, None]) ** 2, plan, plan
        )
        by_hand = (1 - alpha) * (plan * m).sum() / m.mean() + alpha * structure / scale
        assert coupling.cost == pytest.approx(by_hand, rel=1e-6)
        assert coupling.cost < 1


def test_a_turned_copy_is_recognised():
    points, embedding = tissue(60)
    order = np.random.default_rng(0).permutation(60)
    coupling = fused_gromov_wasserstein_coupling(
        points, turned(points)[order], embedding, embedding[order]
    )
    assert coupling.cost == pytest.approx(0, abs=1e-6)
    partner = np.asarray(coupling.plan.argmax(axis=1)).ravel()
    assert np.array_equal(order[partner], np.arange(60))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
def test_partial_finds_the_shared_part(alpha):
    """A perfect match to start from, by expression alone, is kept; and a loss of 0 is an end."""
    points, embedding = tissue(80)
    left, right = points[:, 1] < 7, points[:, 1] > 1.5
    slices = points[left], turned(points[right]), embedding[left], embedding[right]
    keywords = {
        "matched_share": (left & right).sum() / right.sum(),
        "left_mass": np.ones(left.sum()),
        "right_mass": np.ones(right.sum()),
    }
    start = partial_fused_gromov_wasserstein_coupling(*slices, alpha=0.0, **keywords)
    coupling = partial_fused_gromov_wasserstein_coupling(
        *slices, alpha=alpha, initial_plan=start.plan, **keywords
    )
    pairs = coupling.plan.tocoo()
    assert np.array_equal(np.flatnonzero(left)[pairs.row], np.flatnonzero(right)[pairs.col])
    assert pairs.data.sum() == pytest.approx((left & right).sum())
    assert coupling.cost == pytest.approx(0, abs=1e-6)


def test_start_from_another_plan():
    (left, e), (right, f) = tissue(50), tissue(50, 1)
    start = sparse_coupling(left, right, unmatched_cost=None).plan
    cold = fused_gromov_wasserstein_coupling(left, right, e, f)
    for plan in (start, start.toarray()):
        warm = fused_gromov_wasserstein_coupling(left, right, e, f, initial_plan=plan)
        assert warm.cost < 1.5 * cold.cost
    for share in (0.4, 1.0):  # cut, and filled up
        part = partial_fused_gromov_wasserstein_coupling(
            left, right, e, f, matched_share=share, initial_plan=0.7 * start
        )
        assert part.mass == pytest.approx(share, rel=1e-6)
    with pytest.raises(ValueError, match="does not have the masses"):
        fused_gromov_wasserstein_coupling(left, right, e, f, initial_plan=start / 2)
    with pytest.raises(ValueError, match=r"initial_plan must be \(50, 50\)"):
        fused_gromov_wasserstein_coupling(left, right, e, f, initial_plan=start[:, :3])


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_barycenter_lies_between(t):
    (left, e), (right, f) = tissue(60), tissue(60, 1)
    right = right + np.array([2.0, 0.0])
    between = fused_gromov_wasserstein_barycenter(left, right, e, f, t)
    assert between.points.shape == (60, 2)
    assert between.embedding.shape == (60, e.shape[1])
    expected = (1 - t) * left.mean(axis=0) + t * right.mean(axis=0)
    assert np.allclose(between.points.mean(axis=0), expected, atol=1e-6)
    if t in (0.0, 1.0):  # the ends come back
        end = left if t == 0 else right
        assert np.median(cdist(between.points, end).min(axis=1)) < 1e-6
    averaged = 60 * ((1 - t) * between.left_plan @ left + t * between.right_plan @ right)
    assert np.allclose(averaged, between.points)
    again = fused_gromov_wasserstein_barycenter(left, right, e, f, t)
    assert np.array_equal(between.points, again.points)
    assert np.array_equal(between.embedding, again.embedding)


def test_barycenter_has_as_many_spots_as_asked():
    (left, e), (right, f) = tissue(30), tissue(40, 1)
    assert len(fused_gromov_wasserstein_barycenter(left, right, e, f, 0.5).points) == 35
    assert len(fused_gromov_wasserstein_barycenter(left, right, e, f, n_spots=20).points) == 20


def test_what_cannot_be_done_is_refused():
    (left, e), (right, f) = tissue(30), tissue(30, 1)
    couple = fused_gromov_wasserstein_coupling
    with pytest.raises(SliceError, match=r"30 spots are more than max_spots=20 .* sparse_coupling"):
        couple(left, right, e, f, max_spots=20)
    with pytest.raises(SliceError, match="2,001 spots are more than max_spots=2,000"):
        fused_gromov_wasserstein_barycenter(left, right, e, f, n_spots=2001)
    with pytest.raises(ValueError, match=r"alpha is 0.5, but no embedding"):
        couple(left, right)
    with pytest.raises(ValueError, match=r"alpha is 2; give a number from 0 to 1"):
        couple(left, right, e, f, alpha=2)
    with pytest.raises(ValueError, match="left masses sum to 30 and the right ones to 1"):
        couple(left, right, e, f, left_mass=np.ones(30), right_mass=np.full(30, 1 / 30))
    with pytest.raises(ValueError, match="left_points has 1 of 30"):
        couple(np.vstack([left[:-1], [[np.nan, 0]]]), right, e, f)
    with pytest.raises(SliceError, match="right_embedding is missing"):
        couple(left, right, e)
    with pytest.raises(ValueError, match="matched_share is 0"):
        partial_fused_gromov_wasserstein_coupling(left, right, e, f, matched_share=0)
    with pytest.raises(ValueError, match=r"t is 1.5"):
        fused_gromov_wasserstein_barycenter(left, right, e, f, 1.5)
    with pytest.raises(TypeError, match="left_embedding is None; needed: an array"):
        fused_gromov_wasserstein_barycenter(left, right, None, None)
    with pytest.raises(NotConvergedError, match="after 1 iterations"):
        couple(left, right, e, f, max_iterations=1)
    with pytest.raises(NotConvergedError, match="after 1 iterations"):
        fused_gromov_wasserstein_barycenter(left, right, e, f, max_iterations=1)
