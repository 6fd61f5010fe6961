"""Couplings: what any plan must keep, and agreement with dense textbook solutions."""

from __future__ import annotations

import anndata as ad
import numpy as np
import ot
import pytest
from hypothesis import given, settings, strategies as st

from genot_helpers import SliceError, entropic_coupling, sparse_coupling
from genot_helpers.slices import spot_side
from genot_helpers.transport import NotConvergedError, barycentric_targets, coupling_pairs

seeds = st.integers(0, 2**32 - 1)
repeat = settings(deadline=None, max_examples=25)


def scattered(n_left, n_right, seed=0):
    """Spots of two slices of one tissue, one spot per unit of area."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(n_left)
    return rng.uniform(0, side, (n_left, 2)), rng.uniform(0, side, (n_right, 2))


def grid(n_rows, n_columns):
    return np.stack(np.mgrid[:n_rows, :n_columns], axis=-1).reshape(-1, 2).astype(float)


def embeddings(n_left, n_right, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_left, 5)), rng.normal(size=(n_right, 5)) + 0.3


def dense_costs(left, right, left_embedding=None, right_embedding=None, weight=0.0):
    """Follow the formula literally."""
    spacing = np.sqrt(spot_side(left) * spot_side(right))
    costs = ((left[:, None] - right[None]) ** 2).sum(axis=-1) / spacing**2
    if weight:
        distances = ((left_embedding[:, None] - right_embedding[None]) ** 2).sum(axis=-1)
        costs += weight * distances / distances.mean()
    return costs


def assert_masses_add_up(coupling, left_mass, right_mass, tolerance=1e-8):
    assert coupling.plan.dtype == np.float64
    assert coupling.plan.format == "csr"
    assert (coupling.plan.data > 0).all()
    assert min(coupling.left_unmatched.min(), coupling.right_unmatched.min()) >= 0
    rows = np.asarray(coupling.plan.sum(axis=1)).ravel()
    columns = np.asarray(coupling.plan.sum(axis=0)).ravel()
    mean = left_mass.mean()
    assert np.abs(rows + coupling.left_unmatched - left_mass).max() <= tolerance * mean
    assert np.abs(columns + coupling.right_unmatched - right_mass).max() <= tolerance * mean


@given(seeds, st.integers(2, 40), st.integers(2, 40), st.booleans(), st.sampled_from([1, 3, 40]))
@repeat
def test_masses_add_up(seed, n_left, n_right, equal_totals, n_neighbors):
    rng = np.random.default_rng(seed)
    left, right = scattered(n_left, n_right, seed)
    left_mass, right_mass = rng.exponential(size=n_left), rng.exponential(size=n_right)
    left_mass[0] = right_mass[-1] = 0.0
    if equal_totals:
        right_mass *= left_mass.sum() / right_mass.sum()
    for price in ("auto", 1.0, None):
        try:
            coupling = sparse_coupling(
                left,
                right,
                n_neighbors=n_neighbors,
                unmatched_cost=price,
                left_mass=left_mass,
                right_mass=right_mass,
            )
        except SliceError:  # few spots can well lie out of reach
            continue
        assert_masses_add_up(coupling, left_mass, right_mass)
        assert coupling.marginal_error < 1e-8
        assert 0 <= coupling.unmatched_fraction <= 1
        surplus = abs(left_mass.sum() - right_mass.sum())
        unmatched = coupling.left_unmatched.sum() + coupling.right_unmatched.sum()
        assert unmatched >= surplus - 1e-8


@given(seeds, st.sampled_from([0.0, 0.7]))
@repeat
def test_all_neighbours_are_the_dense_solution(seed, weight):
    left, right = scattered(18, 23, seed)
    inside = embeddings(18, 23, seed)
    coupling = sparse_coupling(
        left, right, *inside, embedding_weight=weight, n_neighbors=23, unmatched_cost=None
    )
    costs = dense_costs(left, right, *inside, weight)
    assert coupling.cost == pytest.approx(ot.emd2([], [], costs), rel=1e-6)
    assert coupling.unmatched_fraction < 1e-9
    assert coupling.mass == pytest.approx(1.0)
    assert (coupling.plan.toarray() * costs).sum() == pytest.approx(coupling.cost, rel=1e-6)


@given(seeds, st.floats(0.1, 3.0))
@repeat
def test_partial_mass_is_the_dense_solution(seed, price):
    left, right = scattered(20, 17, seed)
    coupling = sparse_coupling(left, right, n_neighbors=20, unmatched_cost=price)
    costs = dense_costs(left, right)
    a, b = np.full(20, 1 / 20), np.full(17, 1 / 17)
    dense = ot.partial.partial_wasserstein(a, b, costs, m=coupling.mass * (1 - 1e-9))
    assert coupling.cost == pytest.approx((dense * costs).sum(), rel=1e-5, abs=1e-9)
    for other in (0.9, 1.1):  # no other amount of mass is better
        mass = min(coupling.mass * other, 1.0 - 1e-9)
        dense = ot.partial.partial_wasserstein(a, b, costs, m=mass)
        assert (dense * costs).sum() + price * (1 - mass) >= coupling.objective - 1e-6
    assert costs[coupling.plan.nonzero()].max(initial=0) <= price + 1e-9


def test_few_neighbours_reach_the_dense_cost():
    left, right = scattered(200, 200)
    coupling = sparse_coupling(left, right, n_neighbors=40)
    assert coupling.support == "exact"
    assert coupling.cost == pytest.approx(ot.emd2([], [], dense_costs(left, right)), rel=1e-6)


@pytest.mark.parametrize("points", [grid(9, 11), scattered(99, 2)[0]])
def test_order_of_spots_does_not_matter(points):
    rng = np.random.default_rng(1)
    moved = points + 0.5  # on the grid every spot has four equally near partners
    first, second = rng.permutation(99), rng.permutation(99)
    for couple in (sparse_coupling, entropic_coupling):
        plain = couple(points, moved, n_neighbors=12)
        shuffled = couple(points[first], moved[second], n_neighbors=12)
        assert abs(plain.plan[first][:, second] - shuffled.plan).max() == 0
        assert np.array_equal(plain.left_unmatched[first], shuffled.left_unmatched)
        assert np.array_equal(plain.right_unmatched[second], shuffled.right_unmatched)


@given(seeds, st.floats(0, 2 * np.pi), st.floats(1e-3, 1e3), st.booleans())
@repeat
def test_common_motion_and_unit_do_not_matter(seed, angle, unit, mirrored):
    left, right = scattered(40, 50, seed)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turn[0] *= -1 if mirrored else 1
    plain, moved = (
        sparse_coupling(a, b, *embeddings(40, 50), embedding_weight=0.5, unmatched_cost=2.0)
        for a, b in ((left, right), (unit * (left @ turn) + 7.0, unit * (right @ turn) + 7.0))
    )
    assert abs(plain.plan - moved.plan).max() < 1e-9
    assert moved.cost == pytest.approx(plain.cost, rel=1e-6)
    assert moved.spacing == pytest.approx(unit * plain.spacing, rel=1e-6)


def test_a_slice_is_coupled_to_itself_one_to_one():
    points = grid(10, 12)
    coupling = sparse_coupling(points, points)
    assert coupling.cost == 0
    left, right, mass = coupling_pairs(coupling)
    assert np.array_equal(left, right)
    assert np.allclose(mass, 1 / 120)
    assert np.allclose(barycentric_targets(coupling, points), points)


def test_cut_off_tissue_stays_unmatched():
    tissue = grid(20, 40)
    left, right = tissue[tissue[:, 1] < 28], tissue[tissue[:, 1] >= 12]
    coupling = sparse_coupling(left, right, unmatched_cost=2.0)
    assert np.allclose(coupling.left_unmatched[left[:, 1] < 12] * len(left), 1)
    assert coupling.left_unmatched[left[:, 1] > 13].max() == 0
    assert coupling.unmatched_fraction == pytest.approx(12 / 28, abs=0.02)
    assert np.isnan(barycentric_targets(coupling, right)[left[:, 1] < 12]).all()


def test_grown_tissue_leaves_its_surplus():
    left, right = scattered(100, 150)
    coupling = sparse_coupling(left, right, left_mass=np.ones(100), right_mass=np.ones(150))
    assert coupling.mass == pytest.approx(100, rel=1e-6)
    assert coupling.right_unmatched.sum() == pytest.approx(50, rel=1e-6)
    one_sided = sparse_coupling(left, right, left_mass=np.ones(100))
    assert one_sided.mass == pytest.approx(100, rel=1e-6)
    assert one_sided.unmatched_fraction < 1e-9


def test_infeasible_neighbours_never_give_a_broken_plan():
    """More mass sits on the left island than its only neighbours can take."""
    left, right = (
        np.vstack([grid(6, 5), grid(3, 5) + 100]),
        np.vstack([grid(3, 5), grid(6, 5) + 100]),
    )
    for price in ("auto", None, 5.0):
        coupling = sparse_coupling(left, right, n_neighbors=3, unmatched_cost=price)
        assert_masses_add_up(coupling, np.full(45, 1 / 45), np.full(45, 1 / 45))
        assert coupling.mass == pytest.approx(30 / 45, rel=1e-6)
        assert coupling.unmatched_fraction == pytest.approx(15 / 45, rel=1e-6)


@pytest.mark.parametrize(("weight", "more"), [(0.0, 1.005), (1.0, 1.01)])
def test_tiles_cost_hardly_more(weight, more):
    left, right = scattered(2500, 2300, 3)
    inside = embeddings(2500, 2300)
    exact, tiled = (
        sparse_coupling(
            left, right, *inside, embedding_weight=weight, max_exact=limit, tile_spots=500
        )
        for limit in (10_000, 1_000)
    )
    assert (exact.support, tiled.support) == ("exact", "tiled")
    assert_masses_add_up(tiled, np.full(2500, 1 / 2500), np.full(2300, 1 / 2300))
    assert exact.objective <= tiled.objective * (1 + 1e-9)
    assert tiled.objective < more * exact.objective


def test_entropic_tends_to_exact():
    left, right = scattered(300, 280)
    exact = sparse_coupling(left, right)
    costs, entries = [], []
    for epsilon in (3.0, 0.3, 0.03):
        coupling = entropic_coupling(left, right, epsilon=epsilon, tolerance=1e-6)
        assert_masses_add_up(coupling, np.full(300, 1 / 300), np.full(280, 1 / 280))
        assert coupling.marginal_error <= 1e-6
        costs.append(coupling.objective)
        entries.append(coupling.plan.nnz)
    assert costs == sorted(costs, reverse=True)
    assert entries == sorted(entries, reverse=True)
    assert exact.objective * (1 - 1e-9) <= costs[-1] < 1.02 * exact.objective


def test_entropic_leaves_unmatched_what_the_exact_one_does():
    tissue = grid(10, 20)
    left, right = tissue[tissue[:, 1] < 14], tissue[tissue[:, 1] >= 6]
    masses = np.linspace(0.0, 2.0, len(left)), np.linspace(2.0, 0.5, len(right))
    keywords = {"unmatched_cost": 3.0, "left_mass": masses[0], "right_mass": masses[1]}
    exact = sparse_coupling(left, right, **keywords)
    blurred = entropic_coupling(left, right, epsilon=0.01, tolerance=1e-6, **keywords)
    assert_masses_add_up(blurred, *masses)
    assert blurred.unmatched_fraction == pytest.approx(exact.unmatched_fraction, abs=0.01)
    assert blurred.objective == pytest.approx(exact.objective, rel=0.02)


def test_entropic_that_did_not_converge_is_an_error():
    left, right = scattered(200, 200)
    with pytest.raises(NotConvergedError, match=r"After 5 iterations .* Raise epsilon \(now 0.001"):
        entropic_coupling(left, right, epsilon=1e-3, max_iterations=5, tolerance=1e-9)


def test_pairs_are_sorted_and_complete():
    left, right = scattered(60, 50)
    coupling = sparse_coupling(left, right)
    rows, columns, mass = coupling_pairs(coupling)
    assert np.array_equal(np.lexsort((columns, rows)), np.arange(rows.size))
    assert mass.sum() == pytest.approx(coupling.mass)
    assert np.allclose(coupling.plan[rows, columns], mass)


def spoiled(points, value):
    points = points.copy()
    points[3, 1] = value
    return points


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left_points": spoiled(grid(5, 5), np.nan)}, "left_points has 1 of 25 .* row 3"),
        ({"right_points": spoiled(grid(5, 5), np.inf)}, "right_points has 1 of 25"),
        ({"left_points": np.empty((0, 2))}, r"shape \(0, 2\); give at least two spots"),
        ({"right_points": np.zeros((25, 3))}, r"shape \(25, 3\)"),
        ({"right_points": np.zeros((25, 2))}, "share their position"),
        ({"left_points": grid(5, 5) + 100}, "at least 108.. spot spacings apart, .* centres 112"),
        ({"left_points": grid(5, 5) + 100, "unmatched_cost": None}, "centres 112"),
        ({"left_mass": -np.ones(25)}, "left_mass must not be negative"),
        ({"right_mass": np.zeros(25)}, "right_mass must not be negative"),
        ({"left_mass": np.ones(7)}, r"left_mass has shape \(7,\)"),
        ({"left_embedding": np.ones((25, 3))}, "right_embedding is missing"),
        (
            {"left_embedding": np.ones((25, 3)), "right_embedding": np.ones((25, 4))},
            "left_embedding has 3 dimensions and right_embedding 4",
        ),
        (
            {"left_embedding": np.ones((25, 3)), "right_embedding": np.ones((24, 3))},
            "right_embedding has shape",
        ),
        (
            {"left_embedding": np.ones((25, 3)), "right_embedding": np.full((25, 3), np.nan)},
            "right_embedding has 25 of 25 rows with NaN",
        ),
    ],
)
@pytest.mark.parametrize("couple", [sparse_coupling, entropic_coupling])
def test_bad_arrays_are_named(couple, change, message):
    with pytest.raises(ValueError, match=message):
        couple(**{"left_points": grid(5, 5), "right_points": grid(5, 5) + 0.2} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_weight": 1.0}, "no embedding is given"),
        ({"embedding_weight": -1.0}, "embedding_weight is -1"),
        ({"n_neighbors": 0}, "n_neighbors is 0"),
        ({"unmatched_cost": 0.0}, "unmatched_cost is 0.0; give 'auto'"),
        ({"unmatched_cost": "all"}, "unmatched_cost is 'all'"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        entropic_coupling(grid(5, 5), grid(5, 5), **change)


def test_targets_need_one_row_per_right_spot():
    coupling = sparse_coupling(grid(5, 5), grid(5, 5))
    with pytest.raises(ValueError, match="25 right spots"):
        barycentric_targets(coupling, grid(4, 5))


@pytest.mark.real_data
def test_neighbouring_real_sections_are_matched_almost_completely(real_data_dir):
    folder = real_data_dir / "merfish_hypothalamus"
    left, right = (
        ad.read_h5ad(folder / f"merfish_{n}_paste.h5ad").obsm["spatial"] for n in (4, 14)
    )
    coupling = sparse_coupling(left, right)
    assert coupling.unmatched_fraction < 0.01
    assert np.sqrt(coupling.cost / coupling.mass) < 3  # spot spacings
