"""Warp, local means, shared components: planted displacements, dense oracles, symmetry."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.spatial.distance import cdist

from genot_helpers import SliceError, normalise
from genot_helpers.comparable import expression_states, shared_space
from genot_helpers.interpolation import fit_warp, warp as splines
from genot_helpers.interpolation.places import (
    BANDWIDTHS,
    choose_bandwidth,
    compare_errors,
    expected_expression,
    local_mean,
    local_weights,
)
from genot_helpers.interpolation.warp import STIFFNESS, make_frame

pytestmark = pytest.mark.filterwarnings("error")

WIDTH = 1000.0
N_SPOTS = 800


def pattern(points):
    """Components that vary smoothly over the tissue, several ways."""
    x, y = points.T / WIDTH * 2 * np.pi
    waves = [np.sin(x), np.cos(y), np.sin(x + 2 * y), np.cos(2 * x - y), np.sin(2 * y)]
    return np.column_stack(waves)


def planted_shift(points, size=120.0):
    """Displacement from left to right at places halfway: smooth, 0 at the border."""
    x, y = points.T / WIDTH * np.pi
    inside = np.clip(np.sin(x), 0, None) * np.clip(np.sin(y), 0, None)
    return size * np.column_stack([inside, -0.6 * inside * np.cos(x)])


def planted_pair(seed=0, noise=0.3, size=120.0, n=N_SPOTS):
    """Two samples of one tissue, each moved half of the planted way: points and components."""
    rng = np.random.default_rng(seed)
    points, values = [], []
    for half in (-0.5, 0.5):
        middle = rng.uniform(0, WIDTH, (n, 2))
        points.append(middle + half * planted_shift(middle, size))
        values.append(pattern(middle) + noise * rng.normal(size=(n, 5)))
    return *points, *(v - v.mean(axis=0) for v in values)


@pytest.fixture(scope="module")
def pair():
    return planted_pair()


@pytest.fixture(scope="module")
def warp(pair):
    return fit_warp(*pair)


def inner_places(margin=0.15, n=25):
    line = np.linspace(margin * WIDTH, (1 - margin) * WIDTH, n)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def length(vectors):
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))


# --- warp ----------------------------------------------------------------------------------------


def test_a_planted_displacement_is_found(warp):
    places = inner_places()
    truth = planted_shift(places)
    assert length(warp.displacement(places) - truth) < 0.4 * length(truth)
    assert np.isfinite(warp.stiffness)
    assert set(warp.trials) == set(STIFFNESS)
    assert warp.trials[warp.stiffness] == min(warp.trials.values()) < warp.trials[np.inf]


def test_warped_spots_of_one_place_meet(warp):
    """A place of the tissue that left shows at x and right at z is one place halfway."""
    middle = inner_places()
    half = planted_shift(middle) / 2
    apart = warp.move_left(middle - half, 0.5) - warp.move_right(middle + half, 0.5)
    assert length(apart) < 0.4 * length(2 * half)
    across = warp.move_left(middle - half, 1.0) - (middle + half)
    assert length(across) < 0.4 * length(2 * half)


def test_no_stiffness_no_warp(pair):
    warp = fit_warp(*pair, stiffness=np.inf)
    assert warp.is_identity
    assert warp.trials == {}
    for t in (0.0, 0.3, 1.0):
        assert np.array_equal(warp.move_left(pair[0], t), pair[0])
        assert np.array_equal(warp.move_right(pair[1], t), pair[1])
    assert not warp.displacement(pair[0]).any()
    assert warp.smallest_jacobian(pair[0]) == pytest.approx(1.0)


def test_a_stiffer_warp_bends_less(pair):
    places = inner_places()
    sizes = [length(fit_warp(*pair, stiffness=s).displacement(places)) for s in (100.0, 1.0, 0.01)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_warped(seed):
    left, right, a, b = planted_pair(seed, size=0.0)
    rng = np.random.default_rng(seed)
    warp = fit_warp(left, right, rng.normal(size=a.shape), rng.normal(size=b.shape))
    assert warp.is_identity
    assert warp.stiffness == np.inf


@pytest.mark.parametrize("stiffness", [0.01, "auto"])
def test_identical_slices_stay_where_they_are(pair, stiffness):
    left, _, values, _ = pair
    warp = fit_warp(left, left, values, values, stiffness=stiffness)
    assert length(warp.displacement(inner_places())) < (1e-6 if stiffness == 0.01 else 10.0)


def test_it_never_folds():
    """Hardly any stiffness, hardly any signal: the area of no place shrinks to nothing."""
    left, right, *values = planted_pair(3, noise=3.0, n=250)
    values = [10 * v for v in values]
    warp = fit_warp(left, right, *values, stiffness=1e-6)
    assert warp.stiffness >= 1e-6
    both = np.vstack([left, right])
    assert warp.smallest_jacobian(both) > 0.1
    step = 1e-3
    for move in (lambda p: warp.move_left(p, 1.0), lambda p: warp.move_right(p, 0.0)):
        slopes = [(move(both + d) - move(both - d)) / (2 * step) for d in step * np.eye(2)]
        assert (np.linalg.det(np.stack(slopes, axis=2)) > 0).all()


def test_neither_slice_is_the_template(pair):
    left, right, a, b = pair
    there = fit_warp(left, right, a, b, stiffness=0.1)
    back = fit_warp(right, left, b, a, stiffness=0.1)
    np.testing.assert_allclose(back.coefficients, -there.coefficients, atol=1e-6 * WIDTH)
    for t in (0.2, 0.5):
        np.testing.assert_allclose(
            there.move_left(left, t), back.move_right(left, 1 - t), atol=1e-6 * WIDTH
        )


@given(st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None, max_examples=15)
def test_ways_there_and_back_are_one_way(warp, pair, s, t):
    """Points move on straight lines, and meet whichever side they come from."""
    left, right = pair[:2]
    end = warp.move_left(left, 1.0)
    np.testing.assert_allclose(warp.move_right(end, 0.0), left, atol=1e-4)
    np.testing.assert_allclose(warp.move_right(end, t), warp.move_left(left, t), atol=1e-4)
    np.testing.assert_allclose(warp.move_left(left, t), (1 - t) * left + t * end, atol=1e-9)
    np.testing.assert_allclose(warp.move_left(left, 0.0), left, atol=0)
    np.testing.assert_allclose(warp.move_right(right, 1.0), right, atol=0)
    between = warp.move_left(left, s) - left
    np.testing.assert_allclose(between * t, (warp.move_left(left, t) - left) * s, atol=1e-6)


def test_displacement_at_the_middle_is_the_way(warp, pair):
    left = pair[0]
    middle = warp.move_left(left, 0.5)
    way = warp.move_left(left, 1.0) - left
    np.testing.assert_allclose(warp.displacement(middle), way, atol=1e-4)


def test_same_seed_same_warp(pair, warp):
    again = fit_warp(*pair)
    assert np.array_equal(again.coefficients, warp.coefficients)
    assert again.trials == warp.trials
    assert fit_warp(*pair, seed=1).trials != warp.trials


def test_unit_and_place_do_not_matter(pair):
    left, right, a, b = pair
    plain = fit_warp(left, right, a, b, stiffness=0.1)
    moved = fit_warp(left / 1e3 + 7, right / 1e3 + 7, a, b, stiffness=0.1)
    np.testing.assert_allclose(moved.coefficients * 1e3, plain.coefficients, atol=1e-6 * WIDTH)


def test_slices_apart_have_no_warp(pair):
    left, right, a, b = pair
    warp = fit_warp(left, right + 1e5, a, b)
    assert warp.is_identity


def test_splines_are_those_of_scipy():
    knots = np.concatenate([np.zeros(3), np.linspace(0, 1, splines.N_CONTROL - 2), np.ones(3)])
    rng = np.random.default_rng(0)
    places = np.vstack([rng.uniform(-0.1, 1.1, (200, 2)), [[0, 0], [1, 1], [2 / 7, 3 / 7]]])
    inside = np.clip(places, 0, 1 - 1e-12)
    across, along = (BSpline.design_matrix(inside[:, axis], knots, 3).toarray() for axis in (0, 1))
    np.testing.assert_allclose(splines.basis(places[:, 0]), across, atol=1e-9)
    coefficients = rng.normal(size=(splines.N_CONTROL, splines.N_CONTROL, 2))
    expected = np.einsum("ni,nj,ijd->nd", across, along, coefficients)
    np.testing.assert_allclose(splines.evaluate(coefficients, places), expected, atol=1e-9)


def test_sums_over_bins_are_those_of_the_whole_basis():
    """The product form against the matrix with a row for each bin and a column for each point."""
    rng = np.random.default_rng(0)
    frame = make_frame(rng.uniform(0, 30, (200, 2)), rng.uniform(0, 40, (200, 2)))
    whole = np.kron(frame.across, frame.along)
    values, coefficients = rng.normal(size=len(whole)), rng.normal(size=(whole.shape[1], 2))
    np.testing.assert_allclose(frame.field(coefficients), whole @ coefficients, atol=1e-9)
    np.testing.assert_allclose(frame.gather(values), whole.T @ values, atol=1e-9)
    pairs = whole.T @ (values[:, None] * whole)
    np.testing.assert_allclose(frame.gather_pairs(values), pairs, atol=1e-9)


# --- local means ---------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 8.0), st.booleans())
@settings(deadline=None, max_examples=25)
def test_weights_are_gaussian_and_sum_to_one(seed, bandwidth, leave_out):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 10, (80, 2))
    places = points[:30] if leave_out else rng.uniform(-5, 15, (30, 2))
    weights = local_weights(points, places, bandwidth, 1.1, leave_out_nearest=leave_out)
    assert weights.shape == (30, 80)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    distance = cdist(places, points)
    if leave_out:
        assert not weights.diagonal().any()
        distance[np.arange(30), np.arange(30)] = np.inf
    k = int(np.diff(weights.indptr)[0])
    assert (np.diff(weights.indptr) == k).all()
    assert k >= min(np.pi * (2 * bandwidth / 1.1) ** 2, 79 if leave_out else 80)
    dense = np.exp(-0.5 * (distance**2 - distance.min(axis=1, keepdims=True) ** 2) / bandwidth**2)
    dense[distance > np.sort(distance, axis=1)[:, [k - 1]]] = 0.0
    np.testing.assert_allclose(
        weights.toarray(), dense / dense.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_a_place_far_from_all_spots_takes_the_nearest():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    mean = local_mean(points, np.eye(3), np.array([[-1e6, 0.0]]), 0.5, 1.0)
    np.testing.assert_allclose(mean, [[1.0, 0.0, 0.0]], atol=1e-9)


def test_means_of_a_constant_and_memory():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (2000, 2))
    weights = local_weights(points, points, 50.0, 1.0)
    assert weights.nnz <= 150 * 2000  # however wide
    np.testing.assert_allclose(weights @ np.full((2000, 1), 3.0), 3.0, rtol=1e-6)


def wave_pair(wave, noise, seed=0, n=500):
    """Two slices of one wave, of a length in spot spacings."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(n)
    points = [rng.uniform(0, side, (n, 2)) for _ in range(2)]
    values = [np.sin(2 * np.pi * p[:, :1] / wave) + noise * rng.normal(size=(n, 1)) for p in points]
    return *points, *values


def test_width_follows_structure_and_noise():
    sharp = choose_bandwidth(*wave_pair(6.0, 0.05), 1.0)
    smooth = choose_bandwidth(*wave_pair(40.0, 0.6), 1.0)
    noise = choose_bandwidth(*wave_pair(40.0, 50.0), 1.0)
    assert sharp <= 1.0 < smooth <= noise == BANDWIDTHS[-1]
    assert choose_bandwidth(*wave_pair(6.0, 0.05), 1.0, seed=5) == sharp  # all spots are tried


def test_width_is_in_the_unit_of_the_points():
    left, right, a, b = wave_pair(20.0, 0.5)
    width = choose_bandwidth(left, right, a, b, 1.0)
    assert choose_bandwidth(50 * left, 50 * right, a, b, 50.0) == pytest.approx(50 * width)
    assert choose_bandwidth(right, left, b, a, 1.0) == width


def test_width_is_narrower_with_details_of_ones_own_slice():
    """Fine structure that the slices do not share: the other alone says nothing about it."""
    rng = np.random.default_rng(0)
    side = np.sqrt(500)
    points = [rng.uniform(0, side, (500, 2)) for _ in range(2)]
    shared, fine = (
        [
            np.sin(2 * np.pi * p[:, :1] / wave + phase)
            for p, phase in zip(points, phases, strict=True)
        ]
        for wave, phases in ((60.0, (0, 0)), (9.0, (0, 2.5)))
    )
    values = [
        a + 0.7 * b + 0.2 * rng.normal(size=a.shape) for a, b in zip(shared, fine, strict=True)
    ]
    other, both = (
        choose_bandwidth(*points, *values, 1.0, from_both=from_both) for from_both in (False, True)
    )
    assert both < other
    assert choose_bandwidth(*points[::-1], *values[::-1], 1.0, from_both=True) == both


def test_own_and_other_error():
    left, right, a, b = wave_pair(30.0, 0.3)
    own, other = compare_errors(left, right, a, b, 1.5, 1.0)
    assert own == pytest.approx(0.3**2, rel=0.3)  # noise, and a little of the mean
    assert own <= other < 1.3 * own
    own, other = compare_errors(left, right, a, b + 1.0, 1.5, 1.0)
    assert other == pytest.approx(own + 1.0, rel=0.2)


def counts_slice(seed, n=150, depth=1.0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 10, (n, 2))
    rate = np.column_stack([1 + points, np.full(n, 4.0), np.zeros(n)]) * depth
    rate *= rng.lognormal(0, 0.4, (n, 1))
    return ad.AnnData(
        sparse.csr_matrix(rng.poisson(rate).astype(np.float32)), obsm={"spatial": points}
    )


def test_expected_expression_is_in_the_unit_of_the_counts():
    slices = [counts_slice(0), counts_slice(1, depth=3.0)]
    places = slices[0].obsm["spatial"]
    weights = [local_weights(a.obsm["spatial"], places, 1.5, 0.8) for a in slices]
    mean = expected_expression(slices, weights, (0.25, 0.75))
    assert mean.dtype == np.float32
    assert mean.shape == (150, 4)
    assert (mean >= 0).all()
    assert not mean[:, 3].any()
    depth = np.median(np.concatenate([np.asarray(a.X.sum(axis=1)).ravel() for a in slices]))
    assert mean.sum(axis=1).mean() == pytest.approx(depth, rel=0.15)
    normalise(slices)  # for the check only: the mean of each gene is that of the spots
    wanted = sum(
        share * np.expm1(a.layers["log1p"].toarray()).mean(axis=0)
        for share, a in zip((0.25, 0.75), slices, strict=True)
    )
    np.testing.assert_allclose(mean.mean(axis=0), wanted, rtol=1e-4)
    assert np.corrcoef(mean[:, 0], places[:, 0])[0, 1] > 0.8


@pytest.mark.parametrize("convert", [sparse.csr_matrix, lambda X: X.toarray()])
def test_expected_logarithms_are_plain_means(convert):
    slices = [counts_slice(0), counts_slice(1)]
    for adata in slices:
        adata.X = convert(adata.X.log1p())
    places = slices[0].obsm["spatial"][:20]
    weights = [local_weights(a.obsm["spatial"], places, 1.0, 0.8) for a in slices]
    values = [sparse.csr_matrix(a.X).toarray() for a in slices]
    before = [value.copy() for value in values]
    expected = 0.4 * (weights[0] @ values[0]) + 0.6 * (weights[1] @ values[1])
    mean = expected_expression(slices, weights, (0.4, 0.6))
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
    for adata, value in zip(slices, before, strict=True):
        assert np.array_equal(sparse.csr_matrix(adata.X).toarray(), value)
        assert "log1p" not in adata.layers


# --- shared components ---------------------------------------------------------------------------


@pytest.fixture
def sections(make_slice):
    return make_slice(seed=1), make_slice(seed=2, n_rows=12)


def test_components_are_centred_and_of_unit_size(sections):
    space = shared_space(*sections)
    assert space.left.shape == (300, 60)
    assert space.right.shape == (240, 60)
    assert space.left.dtype == space.right.dtype == np.float32
    for values in (space.left, space.right):
        np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-5)
    both = np.vstack([space.left, space.right])
    assert (both**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-3)
    sizes = both.var(axis=0)
    assert (np.diff(sizes) < 1e-6).all()
    off = np.corrcoef(both[:, :10].T) - np.eye(10)
    assert np.abs(off).max() < 1e-3


def test_components_are_those_of_genes_of_equal_variance(sections):
    """All components together keep the distances of the standardised genes."""
    space = shared_space(*sections)
    copies = [ad.AnnData(adata.X.copy(), var=adata.var) for adata in sections]
    normalise(copies)
    values = [a.layers["log1p"].toarray().astype(float) for a in copies]
    values = np.vstack([v - v.mean(axis=0) for v in values])
    values /= values.std(axis=0) * np.sqrt(values.shape[1])
    both = np.vstack([space.left, space.right])
    np.testing.assert_allclose(cdist(both, both), cdist(values, values), atol=2e-3)


def test_a_shift_of_a_whole_slice_is_no_tissue(sections):
    logged = [adata.copy() for adata in sections]
    for adata in logged:
        adata.X = adata.X.toarray()
        adata.X = np.log1p(adata.X)
    plain = shared_space(*logged)
    logged[1].X += np.linspace(0, 2, 60, dtype=np.float32)
    shifted = shared_space(*logged)
    np.testing.assert_allclose(shifted.right, plain.right, atol=1e-3)
    np.testing.assert_allclose(shifted.left, plain.left, atol=1e-3)


def test_constant_genes_and_control_probes_do_not_count(sections):
    logged = []
    for adata in sections:
        adata = adata.copy()
        adata.X = np.log1p(adata.X.toarray())
        logged.append(adata)
    plain = shared_space(*(adata[:, 4:].copy() for adata in logged))
    for adata in logged:
        adata.X[:, 0] = 1.3
        adata.X[:, 1] = 0.0
        adata.X[:, 2] = 2 * np.pi
        adata.var_names = [*adata.var_names[:3], "Blank-1", *adata.var_names[4:]]
    space = shared_space(*logged)
    assert "Blank-1" not in space.genes
    np.testing.assert_allclose(space.left[:, :56], plain.left, atol=1e-3)
    assert np.abs(space.left[:, 56:]).max() < 1e-3


def test_order_of_spots_and_genes_does_not_matter(sections):
    left, right = sections
    rng = np.random.default_rng(0)
    spots, genes = rng.permutation(right.n_obs), rng.permutation(60)
    plain, other = shared_space(left, right), shared_space(left, right[spots, genes])
    assert list(plain.genes) == list(other.genes)
    np.testing.assert_allclose(other.right, plain.right[spots], atol=1e-3)


def test_only_variable_genes_of_many_are_used(sections):
    before = [(adata.X.copy(), set(adata.var)) for adata in sections]
    space = shared_space(*sections, n_genes=20, n_components=8)
    assert 20 <= len(space.genes) <= 40
    assert space.left.shape == (300, 8)
    for adata, (X, columns) in zip(sections, before, strict=True):
        assert abs(adata.X - X).max() == 0
        assert set(adata.var) == columns
        assert not adata.layers


def test_no_gene_in_common(sections):
    left, right = sections
    right.var_names = [f"other{i}" for i in range(60)]
    with pytest.raises(SliceError, match="no gene in common"):
        shared_space(left, right)


def test_states_are_centred_groups_of_alike_spots():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 400)
    embedding = 10 * np.eye(4)[group] + rng.normal(size=(400, 4))
    states = expression_states(embedding, 4)
    assert states.shape == (400, 4)
    assert states.dtype == np.float32
    np.testing.assert_allclose(states.mean(axis=0), 0.0, atol=1e-6)
    assert (states**2).sum(axis=1).mean() == pytest.approx(4.0, rel=1e-4)
    found = states.argmax(axis=1)
    assert len(pd.Series(group).groupby(found).nunique()) == 4
    assert (pd.Series(group).groupby(found).nunique() == 1).all()
    assert np.array_equal(states, expression_states(embedding, 4))
    assert expression_states(embedding[:30], 20).shape == (30, 4)  # ten spots a state at least
