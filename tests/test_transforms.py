"""Transforms behave like motions of the plane, and Procrustes finds them again."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from genot_helpers import weighted_procrustes
from genot_helpers.alignment import SimilarityTransform

coordinate = st.floats(-1e4, 1e4)
transforms = st.builds(
    SimilarityTransform.from_angle,
    st.floats(-180, 180),
    translation=st.tuples(coordinate, coordinate),
    scale=st.floats(0.05, 20),
    reflect=st.booleans(),
    center=st.tuples(coordinate, coordinate),
)


def some_points(n=30, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2)) * [300.0, 100.0] + [50.0, -70.0]


def distances(points):
    return np.linalg.norm(points[:, None] - points, axis=2)


@given(transforms)
def test_inverse_undoes_on_either_side(transform):
    points = some_points()
    size = 1 + np.abs(transform.apply(points)).max()
    back = transform.inverse().apply(transform.apply(points))
    assert np.allclose(back, points, atol=1e-9 * size / transform.scale + 1e-9 * size)
    for product in (transform @ transform.inverse(), transform.inverse() @ transform):
        assert product.is_close(SimilarityTransform.identity(), tolerance=1e-5)


@given(transforms, transforms, transforms)
def test_composition_is_one_after_the_other_and_associative(one, two, three):
    points = some_points()
    expected = one.apply(two.apply(points))
    assert np.allclose((one @ two).apply(points), expected, atol=1e-8 * np.abs(expected).max())
    assert (one @ two).reflected == (one.reflected != two.reflected)
    assert ((one @ two) @ three).is_close(one @ (two @ three))


@given(transforms)
def test_distances_change_by_the_scale_only(transform):
    points = some_points()
    moved = transform.apply(points)
    size = np.abs(moved).max() + 1
    assert np.allclose(distances(moved), transform.scale * distances(points), atol=1e-9 * size)


@given(st.floats(-179.9, 180), st.booleans())
def test_angle_is_told_as_it_was_given(angle, reflect):
    transform = SimilarityTransform.from_angle(angle, reflect=reflect, center=(3, 4))
    assert transform.angle_degrees == pytest.approx(angle, abs=1e-9)
    assert transform.reflected == reflect
    assert np.allclose(transform.apply([[3.0, 4.0]]), [[3.0, 4.0]])


def test_a_quarter_turn_takes_x_to_y_and_half_a_turn_is_positive():
    assert np.allclose(SimilarityTransform.from_angle(90).apply([[1.0, 0.0]]), [[0.0, 1.0]])
    assert np.allclose(
        SimilarityTransform.from_angle(0, reflect=True).apply([[1.0, 2.0]]), [[-1.0, 2.0]]
    )
    assert SimilarityTransform(-np.eye(2)).angle_degrees == 180.0
    assert SimilarityTransform(np.array([[-1.0, -0.0], [0.0, -1.0]])).angle_degrees == 180.0


@settings(deadline=None)
@given(transforms)
def test_dictionary_round_trip(transform):
    assert SimilarityTransform.from_dict(transform.to_dict()).is_close(transform, tolerance=0)


def test_dictionary_survives_h5ad(tmp_path):
    transform = SimilarityTransform.from_angle(33, translation=(5, 6), scale=2, reflect=True)
    ad.AnnData(np.ones((2, 2)), uns={"t": transform.to_dict()}).write_h5ad(tmp_path / "a.h5ad")
    stored = ad.read_h5ad(tmp_path / "a.h5ad").uns["t"]
    assert SimilarityTransform.from_dict(stored).is_close(transform, tolerance=0)


def test_it_says_what_it_is_and_cannot_be_changed():
    transform = SimilarityTransform.from_angle(45, scale=2, reflect=True, translation=(1, 2))
    text = repr(transform)
    assert all(part in text for part in ("45.00°", "mirrored", "scale 2", "(1, 2)"))
    assert "mirrored" not in repr(SimilarityTransform.identity())
    with pytest.raises(ValueError, match="read-only"):
        transform.translation[0] = 7
    with pytest.raises(AttributeError):
        transform.scale = 3


def test_what_is_given_is_not_kept_by_reference():
    shift = np.zeros(2)
    transform = SimilarityTransform(translation=shift)
    shift[0] = 5
    assert transform.translation[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rotation": np.ones((2, 2))}, "not orthogonal"),
        ({"rotation": np.eye(3)}, r"shape \(3, 3\)"),
        ({"translation": [np.nan, 0]}, "finite"),
        ({"scale": 0}, "positive"),
        ({"scale": -1}, "positive"),
        ({"scale": np.inf}, "positive"),
    ],
)
def test_what_is_no_similarity_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimilarityTransform(**arguments)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        SimilarityTransform.identity().apply([1.0, 2.0])
    with pytest.raises(ValueError, match="translation missing"):
        SimilarityTransform.from_dict({"rotation": np.eye(2), "scale": 1})
    with pytest.raises(TypeError):
        SimilarityTransform.identity() @ "left"


@given(transforms, st.integers(0, 100))
def test_procrustes_finds_an_exact_transform_again(transform, seed):
    rng = np.random.default_rng(seed)
    points, weights = some_points(12, seed), rng.random(12) + 0.01
    moved = transform.apply(points)
    found = weighted_procrustes(moved, points, weights, allow_scale=True, allow_reflection=True)
    assert np.allclose(found.apply(points), moved, atol=1e-8 * (1 + np.abs(moved).max()))
    assert found.scale == pytest.approx(transform.scale)
    assert found.reflected == transform.reflected


def loss(transform, left, right, weights):
    return weights @ ((left - transform.apply(right)) ** 2).sum(axis=1)


@settings(max_examples=30)
@given(
    st.integers(0, 1000), st.booleans(), st.floats(-20, 20), st.floats(-5, 5), st.floats(0.9, 1.1)
)
def test_no_other_transform_fits_better(seed, allow_scale, angle, shift, scale):
    rng = np.random.default_rng(seed)
    left, right, weights = rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), rng.random(9)
    found = weighted_procrustes(left, right, weights, allow_scale=allow_scale)
    assert not found.reflected
    scale = scale if allow_scale else 1.0
    nudge = SimilarityTransform.from_angle(angle, translation=(shift, -shift), scale=scale)
    assert loss(found, left, right, weights) <= loss(nudge @ found, left, right, weights) + 1e-9


def test_without_reflection_the_best_rotation_of_a_mirror_image_is_found():
    right = some_points()
    left = SimilarityTransform.from_angle(20, reflect=True).apply(right)
    weights = np.full(len(left), 1 / len(left))
    found = weighted_procrustes(left, right)
    shift = left.mean(axis=0)
    turned = [
        SimilarityTransform.from_angle(a, center=right.mean(axis=0)) for a in np.arange(0, 360, 0.5)
    ]
    moved = [SimilarityTransform(translation=shift - right.mean(axis=0)) @ turn for turn in turned]
    best = min(loss(one, left, right, weights) for one in moved)
    assert loss(found, left, right, weights) <= best + 1e-9


def test_pairs_without_weight_do_not_count():
    right = some_points()
    left = SimilarityTransform.from_angle(70, translation=(9, 9)).apply(right)
    left[:5] += 1000
    weights = np.r_[np.zeros(5), np.ones(25)]
    assert weighted_procrustes(left, right, weights).angle_degrees == pytest.approx(70)
    assert weighted_procrustes(left, right).angle_degrees != pytest.approx(70, abs=0.1)


@pytest.mark.parametrize(
    ("left", "right", "weights", "message"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), None, "one pair a row"),
        (np.zeros((0, 2)), np.zeros((0, 2)), None, "one pair a row"),
        (np.ones((3, 2)), np.ones((3, 2)), None, "do not determine"),
        (some_points(3), some_points(3), [1, -1, 1], "negative"),
        (some_points(3), some_points(3), [0, 0, 0], "positive"),
        (some_points(3), some_points(3), [1, 1], r"give \(3,\)"),
        (some_points(3), np.full((3, 2), np.nan), None, "finite"),
        (some_points(3), some_points(3), [1, 0, 0], "do not determine"),
    ],
)
def test_pairs_that_cannot_be_fitted_are_refused(left, right, weights, message):
    with pytest.raises(ValueError, match=message):
        weighted_procrustes(left, right, weights)
