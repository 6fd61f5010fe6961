"""Positions drawn from a coupling, and real spots placed on them: dense oracles, what must hold."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import OUR_WARNINGS_ARE_ERRORS
from hypothesis import given, settings, strategies as st
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from genot_helpers.interpolation import placement as room
from genot_helpers.interpolation.placement import Prices, autocorrelation, place_spots
from genot_helpers.interpolation.places import (
    Pairs,
    chain_neighbours,
    draw_pairs,
    find_nearest,
    first_choice,
    n_threads,
    place_between,
    roughen,
    spread,
)
from genot_helpers.slices.geometry import nearest_distance
from genot_helpers.transport.transport import Coupling

pytestmark = OUR_WARNINGS_ARE_ERRORS

seeds = st.integers(0, 2**32 - 1)
repeat = settings(deadline=None, max_examples=15)


def make_coupling(plan, left_mass=None, right_mass=None):
    """Make a coupling of a dense plan; draw_pairs reads the plan and the masses left over."""
    plan = np.asarray(plan, dtype=float)
    left = plan.sum(axis=1) if left_mass is None else np.asarray(left_mass, dtype=float)
    right = plan.sum(axis=0) if right_mass is None else np.asarray(right_mass, dtype=float)
    return Coupling(
        plan=sparse.csr_matrix(plan),
        left_unmatched=left - plan.sum(axis=1),
        right_unmatched=right - plan.sum(axis=0),
        cost=0.0, support="dense", n_neighbors=0, unmatched_cost=1.0, spacing=1.0,
        marginal_error=0.0, seconds=0.0,
    )  # fmt: skip


def matching(n_left, n_right, n_pairs, rng):
    """One-to-one coupling of unit masses: some pairs, the other spots alone."""
    plan = np.zeros((n_left, n_right))
    plan[rng.permutation(n_left)[:n_pairs], rng.permutation(n_right)[:n_pairs]] = 1.0
    return make_coupling(plan, np.ones(n_left), np.ones(n_right))


# --- positions -----------------------------------------------------------------------------------


@given(seeds, st.integers(1, 30), st.floats(0.01, 0.99))
@repeat
def test_pairs_of_unit_mass_are_drawn_once(seed, n, t):
    rng = np.random.default_rng(seed)
    partner = rng.permutation(n)
    coupling = make_coupling(np.eye(n)[partner])
    pairs = draw_pairs(coupling, t, n, np.random.default_rng(seed))
    assert np.array_equal(pairs.left, np.arange(n))
    assert np.array_equal(pairs.right, partner)


@given(seeds, st.integers(5, 40), st.integers(5, 40), st.floats(0.01, 0.99))
@repeat
def test_number_drawn_of_each_kind_follows_the_mass(seed, n_left, n_right, t):
    """Systematic sampling: of any stretch of the line, its share or one more or less."""
    rng = np.random.default_rng(seed)
    n_pairs = int(rng.integers(1, min(n_left, n_right) + 1))
    coupling = matching(n_left, n_right, n_pairs, rng)
    n_spots = round((1 - t) * n_left + t * n_right)
    left, right = draw_pairs(coupling, t, n_spots, rng)
    assert len(left) == len(right) == n_spots
    both, left_only, right_only = (
        np.sum((left >= 0) & (right >= 0)),
        np.sum(right < 0),
        np.sum(left < 0),
    )
    total = n_pairs + (1 - t) * (n_left - n_pairs) + t * (n_right - n_pairs)
    for found, mass in (
        (both, n_pairs),
        (left_only, (1 - t) * (n_left - n_pairs)),
        (right_only, t * (n_right - n_pairs)),
    ):
        assert abs(found - n_spots * mass / total) <= 1 + 1e-9
    paired = (left >= 0) & (right >= 0)
    assert (np.asarray(coupling.plan[left[paired], right[paired]]) == 1).all()
    assert not ((left < 0) & (right < 0)).any()


@given(seeds, st.integers(2, 12), st.integers(2, 12), st.integers(1, 200))
@repeat
def test_mass_is_drawn_in_proportion(seed, n_left, n_right, n_spots):
    rng = np.random.default_rng(seed)
    plan = rng.exponential(size=(n_left, n_right)) * (rng.random((n_left, n_right)) < 0.5)
    plan[0, 0] = 1.0
    left, right = draw_pairs(make_coupling(plan), 0.5, n_spots, rng)
    drawn = np.zeros_like(plan)
    np.add.at(drawn, (left, right), 1.0)
    assert np.abs(drawn - n_spots * plan / plan.sum()).max() <= 1 + 1e-9


def test_places_on_the_line_between():
    left = np.array([[0.0, 0.0], [10.0, 0.0]])
    right = np.array([[4.0, 8.0], [20.0, 0.0]])
    pairs = Pairs(np.array([0, 1, -1]), np.array([0, -1, 1]))
    places = place_between(pairs, left, right, 0.25)
    np.testing.assert_allclose(places, [[1.0, 2.0], [10.0, 0.0], [20.0, 0.0]])
    np.testing.assert_allclose(place_between(pairs, left, right, 0.0)[0], left[0])
    np.testing.assert_allclose(place_between(pairs, left, right, 1.0)[0], right[0])


@given(seeds, st.floats(0.8, 0.97))
@repeat
def test_roughening_reaches_the_spacing(seed, share):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.mgrid[:14, :14], axis=-1).reshape(-1, 2) * 50.0
    points = grid + rng.normal(size=grid.shape)
    wanted = share * nearest_distance(points)
    moved = roughen(points, wanted, rng)
    assert nearest_distance(moved) == pytest.approx(wanted, rel=0.02)
    assert np.abs((moved - points).mean(axis=0)).max() < 0.2 * wanted  # no drift


def test_roughening_leaves_alone_what_is_rough_enough():
    points = np.random.default_rng(0).uniform(0, 100, (200, 2))
    assert roughen(points, nearest_distance(points), np.random.default_rng(1)) is points


def test_roughening_turns_with_the_slice():
    grid = np.stack(np.mgrid[:12, :12], axis=-1).reshape(-1, 2) + 0.01
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    plain = roughen(grid, 0.7, np.random.default_rng(0))
    turned = roughen(grid @ turn.T + 30.0, 0.7, np.random.default_rng(0))
    np.testing.assert_allclose(turned, plain @ turn.T + 30.0, atol=1e-9)


def tufts(rng, gap=40.0):
    """Place groups of four that all but coincide, as of spots with four partners."""
    corners = np.stack(np.mgrid[:9, :9], axis=-1).reshape(-1, 2) * gap
    return np.repeat(corners, 4, axis=0) + rng.normal(size=(4 * len(corners), 2))


@given(seeds, st.booleans())
@repeat
def test_tufts_are_pushed_apart(seed, coincide):
    rng = np.random.default_rng(seed)
    points = np.round(tufts(rng), -1) if coincide else tufts(rng)
    wanted = 15.0  # four spots to a square of side 40 have 20 at most
    moved = spread(points, wanted, np.random.default_rng(0))
    assert nearest_distance(points) < 0.2 * wanted
    assert 0.7 * wanted < nearest_distance(moved) < 1.1 * wanted
    assert np.linalg.norm(moved - points, axis=1).max() < 40.0  # nobody leaves the neighbourhood
    assert np.abs((moved - points).mean(axis=0)).max() < 1.0


def test_spreading_turns_with_the_slice_and_leaves_alone_what_is_no_tuft():
    points, turn = tufts(np.random.default_rng(0)), np.array([[0.8, -0.6], [0.6, 0.8]])
    plain = spread(points, 15.0, np.random.default_rng(1))
    turned = spread(points @ turn.T + 30.0, 15.0, np.random.default_rng(1))
    np.testing.assert_allclose(turned, plain @ turn.T + 30.0, atol=1e-6)
    scattered = np.random.default_rng(2).uniform(0, 100, (200, 2))
    wanted = nearest_distance(scattered)
    assert spread(scattered, wanted, np.random.default_rng(1)) is scattered


@given(seeds, st.integers(20, 60), st.integers(20, 60), st.floats(0.05, 0.95))
@repeat
def test_first_choice_is_distinct_and_one_of_the_pair(seed, n_left, n_right, t):
    rng = np.random.default_rng(seed)
    coupling = matching(n_left, n_right, min(n_left, n_right) - 3, rng)
    points = rng.uniform(0, 10, (n_left + n_right, 2))
    n_spots = round((1 - t) * n_left + t * n_right)
    pairs = draw_pairs(coupling, t, n_spots, rng)
    positions = place_between(pairs, points[:n_left], points[n_left:], t)
    chosen = first_choice(pairs, positions, points, n_left, t, rng)
    assert len(set(chosen)) == n_spots
    of_pair = (chosen == pairs.left) | ((chosen == n_left + pairs.right) & (pairs.right >= 0))
    # Only where the steps do not fit the masses can a pair be drawn twice.
    assert of_pair.sum() >= n_spots - 2


@given(seeds, st.sampled_from([0.2, 0.5, 0.7]))
@repeat
def test_first_choice_keeps_the_share_where_spots_have_many_partners(seed, t):
    rng = np.random.default_rng(seed)
    n_left, n_right = 60, 240
    plan = np.zeros((n_left, n_right))
    plan[np.repeat(np.arange(n_left), 4), np.arange(n_right)] = 1.0
    n_spots = round((1 - t) * n_left + t * n_right)
    pairs = draw_pairs(make_coupling(plan), t, n_spots, rng)
    points = rng.uniform(0, 10, (n_left + n_right, 2))
    positions = place_between(pairs, points[:n_left], points[n_left:], t)
    chosen = first_choice(pairs, positions, points, n_left, t, rng)
    assert len(set(chosen)) == n_spots
    wanted = min((1 - t) * n_spots, n_left)  # there may not be as many left spots as that
    assert abs(np.sum(chosen < n_left) - wanted) < 4.5 * np.sqrt(n_spots * t * (1 - t))


# --- the energy, against its definition ----------------------------------------------------------


class Problem:
    """A small placement, with the sum that is minimised written out densely."""

    def __init__(self, seed=0, n=90, n_pool=160, d=3, weight=0.7, anchor=0.5):
        rng = np.random.default_rng(seed)
        self.positions = rng.uniform(0, 10, (n, 2))
        self.pool = rng.uniform(0, 10, (n_pool, 2))
        self.features = rng.normal(size=(n_pool, d)).astype(np.float32)
        self.wanted = rng.normal(size=(n, d)).astype(np.float32) * np.float32(0.3)
        self.lean = self.wanted - self.wanted.mean(axis=0)
        self.price = rng.normal(size=n_pool).astype(np.float32)
        self.pool_slice = (np.arange(n_pool) >= n_pool // 2).astype(np.int64)
        self.start = rng.permutation(n_pool)[:n]
        self.weight = weight
        unit = np.sqrt(anchor)
        self.places, self.homes = unit * self.positions, unit * self.pool
        self.candidates = cKDTree(self.pool).query(self.positions, 12)[1]
        self.averages = [dense_average(self.positions, k) for k in room.AVERAGES]

    def energy(self, chosen):
        x, off = self.features[chosen].astype(float), self.features[chosen] - self.wanted
        local = sum(
            weight * min(k, len(off)) * ((W @ off) ** 2).sum()
            for (k, weight), W in zip(room.AVERAGES.items(), self.averages, strict=True)
        )
        away = ((self.places - self.homes[chosen]) ** 2).sum()
        return local - 2 * self.weight * (x * self.lean).sum() + self.price[chosen].sum() + away

    def sweep(self, chosen, order):
        """Run the compiled search; return the choice and the changes."""
        surroundings = room.averaging_matrix(self.positions)
        chosen = chosen.copy()
        owner = np.full(len(self.pool), -1, dtype=np.int64)
        owner[chosen] = np.arange(len(chosen))
        slope = self.slope(surroundings, chosen)
        n_changes = room.sweep(
            np.asarray(order), chosen, owner, self.candidates, self.features, self.price,
            self.pool_slice, self.places, self.homes, surroundings, slope,
        )  # fmt: skip
        assert np.array_equal(np.flatnonzero(owner >= 0), np.sort(chosen))
        assert np.array_equal(owner[chosen], np.arange(len(chosen)))
        expected = self.slope(surroundings, chosen)
        np.testing.assert_allclose(slope, expected, atol=1e-4 * np.abs(expected).max())
        return chosen, n_changes

    def slope(self, surroundings, chosen):
        """Half the slope of the sum over features."""
        return surroundings @ (self.features[chosen] - self.wanted) - self.weight * self.lean

    def moves(self, chosen, i):
        """All choices one step away at position i: a free spot of its slice, or a swap."""
        for j in self.candidates[i]:
            other = np.flatnonzero(chosen == j)
            moved = chosen.copy()
            if len(other):
                moved[other[0]] = chosen[i]
            elif self.pool_slice[j] != self.pool_slice[chosen[i]]:
                continue
            moved[i] = j
            yield moved


def dense_average(points, k):
    """Gaussian mean over the nearest k points, of width 0.6 times the mean distance of the k-th."""
    distance = cdist(points, points)
    k = min(k, len(points))
    kth = np.sort(distance, axis=1)[:, k - 1]
    share = np.exp(-0.5 * (distance / (0.6 * kth.mean())) ** 2) * (distance <= kth[:, None])
    return share / share.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_averaging_is_the_dense_product(seed):
    problem = Problem(seed)
    n = len(problem.positions)
    surroundings = room.averaging_matrix(problem.positions)
    found = surroundings @ np.eye(n, dtype=np.float32)
    np.testing.assert_array_equal(surroundings.diagonal, np.diag(found))
    expected = sum(
        weight * min(k, n) * W.T @ W
        for (k, weight), W in zip(room.AVERAGES.items(), problem.averages, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed, anchor", [(0, 0.0), (1, 0.5), (2, 5.0)])
def test_each_step_is_the_best_one(seed, anchor):
    """One position at a time: of all permitted moves, the one with the lowest dense energy."""
    problem = Problem(seed, anchor=anchor)
    chosen, changed = problem.start, 0
    for i in range(0, len(chosen), 3):
        before = problem.energy(chosen)
        best = min([before, *map(problem.energy, problem.moves(chosen, i))])
        chosen, n_changes = problem.sweep(chosen, [i])
        assert problem.energy(chosen) == pytest.approx(best, abs=1e-3)
        assert n_changes == (problem.energy(chosen) < before - 1e-7)
        changed += n_changes
    assert changed > 5


@given(seeds, st.floats(0, 50), st.floats(0, 3))
@settings(deadline=None, max_examples=10)
def test_a_sweep_lowers_the_energy_and_keeps_the_shares(seed, weight, anchor):
    problem = Problem(seed, weight=weight, anchor=anchor)
    rng, chosen = np.random.default_rng(seed), problem.start
    energies = [problem.energy(chosen)]
    for _ in range(4):
        chosen, n_changes = problem.sweep(chosen, rng.permutation(len(chosen)))
        energies.append(problem.energy(chosen))
        assert (energies[-1] < energies[-2]) == (n_changes > 0)
    assert energies[-1] < energies[0]
    assert len(set(chosen)) == len(chosen)
    slices = problem.pool_slice
    assert slices[chosen].sum() == slices[problem.start].sum()


# --- placing -------------------------------------------------------------------------------------


def tissue(n=400, n_pool=800, seed=0, d=8):
    """Positions with expected components that vary in space, and a pool of noisy spots of it."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, d)

    def expectation(points):
        x, y = points[:, :1] / 3, points[:, 1:] / 4
        return 0.5 * np.sin(x + phase) * np.cos(y - phase)

    side = np.sqrt(n)
    positions, pool = rng.uniform(0, side, (n, 2)), rng.uniform(0, side, (n_pool, 2))
    embedding = (expectation(pool) + 0.5 * rng.normal(size=(n_pool, d))).astype(np.float32)
    states = np.zeros((n_pool, 1), dtype=np.float32)
    return SimpleNamespace(
        args=(positions, expectation(positions), pool, embedding, rng.permutation(n_pool)[:n]),
        options={
            "pool_slice": (np.arange(n_pool) >= n_pool // 2).astype(int),
            "states": states,
            "expected_states": np.zeros((n, 1)),
            "target": autocorrelation(pool, embedding),
            "progress": False,
        },
        rng=rng,
    )


@pytest.fixture(scope="module")
def case():
    return tissue()


@pytest.fixture(scope="module")
def placed(case):
    return place_spots(*case.args, **case.options)


def test_spots_are_distinct_and_shares_stay(case, placed):
    start, pool_slice = case.args[-1], case.options["pool_slice"]
    assert placed.chosen.dtype == np.int64
    assert len(set(placed.chosen)) == len(start)
    assert pool_slice[placed.chosen].sum() == pool_slice[start].sum()
    assert not np.array_equal(placed.chosen, start)


def test_autocorrelation_is_steered_to_the_target(case, placed):
    positions, *_, embedding, start = case.args
    found = autocorrelation(positions, embedding[placed.chosen])
    assert placed.autocorrelation[-1] == pytest.approx(found, rel=1e-4)
    assert found == pytest.approx(placed.target, abs=0.03)
    assert autocorrelation(positions, embedding[start]) < placed.target - 0.1
    assert len(placed.autocorrelation) == len(placed.n_changes)
    assert placed.alignment_weight > 0


def test_other_targets_are_reached_too(case):
    low, high = (
        place_spots(*case.args, **case.options | {"target": target}).autocorrelation[-1]
        for target in (0.25, 0.5)
    )
    assert low == pytest.approx(0.25, abs=0.05)
    assert high == pytest.approx(0.5, abs=0.08)


def test_local_means_follow_the_expectation(case, placed):
    positions, expected, _, embedding, start = case.args
    W = dense_average(positions, 30)
    error = {
        name: ((W @ (embedding[rows] - expected)) ** 2).sum()
        for name, rows in (("start", start), ("placed", placed.chosen))
    }
    assert error["placed"] < 0.35 * error["start"]


def test_population_stays_that_of_the_pool(case, placed):
    *_, embedding, _ = case.args
    ours = embedding[placed.chosen]
    np.testing.assert_allclose(ours.mean(axis=0), embedding.mean(axis=0), atol=0.08)
    np.testing.assert_allclose(ours.var(axis=0).mean(), embedding.var(axis=0).mean(), rtol=0.1)
    apart = np.corrcoef(ours.T) - np.corrcoef(embedding.T)
    assert np.sqrt((apart**2).mean()) < 0.06


def test_states_are_mixed_as_expected():
    """Two kinds of spots that components do not tell apart, one of them in the left half only."""
    case = tissue(n=300, n_pool=600, seed=1)
    positions, _, pool, *_ = case.args
    rng = np.random.default_rng(0)
    kind = rng.random(600) < np.where(pool[:, 0] < 9, 0.6, 0.1)
    states = np.column_stack([kind, ~kind]).astype(np.float32)
    states = 2 * (states - states.mean(axis=0))
    share = np.where(positions[:, 0] < 9, 0.6, 0.1)
    expected = 2 * (np.column_stack([share, 1 - share]) - [kind.mean(), 1 - kind.mean()])
    options = case.options | {"states": states, "expected_states": expected}
    chosen = place_spots(*case.args, **options).chosen
    for half in (positions[:, 0] < 7, positions[:, 0] > 11):
        assert kind[chosen[half]].mean() == pytest.approx(share[half].mean(), abs=0.05)


def test_anchored_spots_stay_in_their_place():
    """Close to an end: the more a spot away from home costs, the nearer spots stay."""
    case = tissue(n=300, n_pool=600, seed=2)
    positions, expected, pool, embedding, _ = case.args
    positions, start = pool[:300], np.arange(300)
    options = case.options | {"pool_slice": np.zeros(600, dtype=int)}
    away = []
    for anchor in (0.0, 10.0, 1e9):
        chosen = place_spots(
            positions, expected, pool, embedding, start, **options, anchor=anchor
        ).chosen
        away.append(np.linalg.norm(pool[chosen] - positions, axis=1).mean())
    assert away[0] > away[1] > away[2] == 0.0


def test_same_seed_same_spots(case, placed):
    again = place_spots(*case.args, **case.options)
    assert np.array_equal(again.chosen, placed.chosen)
    assert again.autocorrelation == placed.autocorrelation
    other = place_spots(*case.args, **case.options, seed=1)
    assert not np.array_equal(other.chosen, placed.chosen)


def test_what_is_given_stays_as_it_was(case):
    before = [np.array(array) for array in case.args]
    place_spots(*case.args, **case.options)
    for array, copy in zip(case.args, before, strict=True):
        assert np.array_equal(array, copy)


def test_fewer_spots_than_candidates():
    """Every spot of the pool is a candidate, and all of them are used: only swaps are left."""
    case = tissue(n=25, n_pool=25, seed=3)
    options = case.options | {"pool_slice": np.zeros(25, dtype=int)}
    chosen = place_spots(*case.args, **options).chosen
    assert np.array_equal(np.sort(chosen), np.arange(25))


def test_autocorrelation_is_morans_i():
    rng = np.random.default_rng(0)
    points, values = rng.uniform(0, 10, (120, 2)), rng.normal(size=(120, 3))
    values[:, 0] += points[:, 0]
    distance = cdist(points, points)
    nearest = (distance <= np.sort(distance, axis=1)[:, [8]]) & (distance > 0)
    W, centred = nearest / 8.0, values - values.mean(axis=0)
    each = [c @ W @ c / (c @ c) for c in centred.T]
    assert autocorrelation(points, values[:, :1]) == pytest.approx(each[0])
    weights = centred.var(axis=0)
    assert autocorrelation(points, values) == pytest.approx(np.average(each, weights=weights))
    assert autocorrelation(points, 7 * values + 3) == pytest.approx(autocorrelation(points, values))


# --- prices --------------------------------------------------------------------------------------


def kinds_of(embedding):
    """Components and their products, each group centred and of total variance one."""
    one, other = np.triu_indices(min(embedding.shape[1], 20))
    groups = embedding, embedding[:, one] * embedding[:, other]
    groups = [values - values.mean(axis=0) for values in groups]
    return np.hstack([values / np.sqrt((values**2).sum(axis=1).mean()) for values in groups])


@pytest.mark.parametrize("d", [3, 25])
def test_prices_are_those_of_the_definition(d):
    """Up to a constant: only differences of prices matter."""
    rng = np.random.default_rng(d)
    embedding = rng.normal(size=(300, d)) * np.linspace(2, 0.5, d) + 0.3
    pool_slice = (np.arange(300) >= 120).astype(int)
    start = np.concatenate([rng.permutation(120)[:40], 120 + rng.permutation(180)[:20]])
    kinds = kinds_of(embedding)
    fair = (40 * kinds[:120].mean(axis=0) + 20 * kinds[120:].mean(axis=0)) / 60
    prices, debt = Prices(embedding, pool_slice, start), 0.0
    for _ in range(3):
        chosen = rng.permutation(300)[:60]
        debt = debt + kinds[chosen].mean(axis=0) - fair
        found, expected = prices.after(chosen), 30.0 * kinds @ debt
        apart = found - found[0] - (expected - expected[0])
        assert np.abs(apart).max() < 1e-3 * np.ptp(expected)


def test_what_is_used_too_much_becomes_dearer():
    embedding = np.random.default_rng(0).normal(size=(200, 2))
    high = np.argsort(embedding[:, 0])[-50:]
    price = Prices(embedding, np.zeros(200, dtype=int), np.arange(50)).after(high)
    assert price[high].mean() > np.delete(price, high).mean() + 1


# --- order in memory, order of visits ------------------------------------------------------------


@given(seeds, st.integers(1, 40), st.integers(1, 40))
@repeat
def test_nearest_are_the_nearest(seed, n, k):
    rng = np.random.default_rng(seed)
    points, places, k = rng.normal(size=(n, 2)), rng.normal(size=(7, 2)), min(k, n)
    distance, nearest = find_nearest(points, places, k)
    everything = cdist(places, points)
    np.testing.assert_allclose(distance, np.sort(everything, axis=1)[:, :k])
    np.testing.assert_allclose(np.take_along_axis(everything, nearest, 1), distance)


@pytest.mark.parametrize("on_grid", [False, True])
def test_chain_of_neighbours_turns_with_the_slice(on_grid):
    points = np.stack(np.mgrid[:20, :15], axis=-1).reshape(-1, 2).astype(float)
    points[:, 0] += 0.5 * (points[:, 1] % 2)
    rng = np.random.default_rng(0)
    points = points[rng.permutation(300)] * (1, 0.75**0.5)
    if not on_grid:
        points += rng.normal(0, 0.2, points.shape)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert np.array_equal(chain_neighbours(points @ turn.T + 1e3), chain_neighbours(points))
    step = np.linalg.norm(np.diff(points[chain_neighbours(points)], axis=0), axis=1)
    assert np.median(step) < 3  # at random it is about 9


def test_number_of_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert n_threads() == 3
    for nothing in ("", "0", "2,4"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert 1 <= n_threads() <= os.cpu_count()


@given(seeds, st.integers(2, 60), st.integers(0, 60))
@repeat
def test_layout_and_visits_are_permutations(seed, n, n_more):
    rng = np.random.default_rng(seed)
    positions, pool = rng.uniform(0, 1, (n, 2)), rng.uniform(0, 1, (n + n_more, 2))
    rows, pool_rows = room.lay_out(positions, pool)
    assert np.array_equal(np.sort(rows), np.arange(n))
    assert np.array_equal(np.sort(pool_rows), np.arange(n + n_more))
    assert np.array_equal(np.sort(room.visiting_order(n, rng)), np.arange(n))


def test_neighbours_are_close_in_memory_and_visited_in_blocks():
    positions = np.random.default_rng(0).uniform(0, 1, (4000, 2))
    rows, pool_rows = room.lay_out(positions, positions)
    place = np.argsort(rows)
    nearest = cKDTree(positions).query(positions, 2)[1][:, 1]
    apart = np.abs(place[nearest] - place[np.arange(4000)])
    assert np.median(apart) < 200  # at random it would be more than 1,000
    assert np.array_equal(rows, pool_rows)
    order = room.visiting_order(4000, np.random.default_rng(0))
    blocks = order // room._BLOCK
    assert (np.diff(blocks) != 0).sum() == blocks.max()  # each block is finished once begun
    assert (np.diff(order) != 1).mean() > 0.9
