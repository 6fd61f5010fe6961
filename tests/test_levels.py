"""Between places and within them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from genot_helpers import SliceError, pool_spots
from genot_helpers.evaluation import score_levels


def test_a_slice_against_itself_is_right_at_every_level(planted):
    scores = score_levels(planted, planted, 250.0)
    assert list(scores.index) == list(planted.var_names)
    np.testing.assert_allclose(scores[["spots", "between", "within"]], 1.0, atol=1e-9)
    assert scores["share_within"].between(0, 1).all()


def test_means_of_squares_know_nothing_of_what_lies_within(planted):
    planted.X = sparse.csr_matrix(planted.X.toarray() * 20)  # so that depth hardly changes it
    pooled = pool_spots(planted, 250.0)
    square = planted.obs["genot_pool"].to_numpy()
    means = planted.copy()
    means.X = sparse.csr_matrix(
        pooled.X.toarray()[square] / pooled.obs["n_spots"].to_numpy()[square, None]
    )
    scores = score_levels(means, planted, 250.0)
    assert scores["between"].median() > 0.95
    np.testing.assert_allclose(scores["within"], 0.0, atol=1e-9)
    assert scores["spots"].between(0, scores["between"]).all()


def test_spots_that_change_places_within_their_square_are_wrong_there_only(planted):
    side = 250.0
    pool_spots(planted, side)
    square = planted.obs["genot_pool"].to_numpy()
    shuffled = planted.copy()
    order = np.arange(planted.n_obs)
    rng = np.random.default_rng(0)
    for number in np.unique(square):  # spots change places within their square
        here = np.flatnonzero(square == number)
        order[here] = rng.permutation(here)
    shuffled.X = planted.X[order]
    scores = score_levels(shuffled, planted, side)
    assert scores["between"].min() > 0.999
    assert abs(scores["within"].mean()) < 0.3
    assert (scores["spots"] < 1).all()


def test_uncovered_spots_are_left_out_and_constants_are_no_success(planted):
    carried = planted.copy()
    values = carried.X.toarray()
    values[:50] = 0
    values[:, 3] = 0
    carried.X = sparse.csr_matrix(values)
    carried.obs["genot_covered"] = np.arange(planted.n_obs) >= 50
    scores = score_levels(carried, planted, 250.0)
    assert scores.drop(index="gene3")["spots"].min() > 0.9
    assert scores.loc["gene3", "spots"] == 0
    planted.X = sparse.csr_matrix(planted.X.toarray() * (np.arange(60) != 5))
    assert score_levels(carried, planted, 250.0).loc["gene5"].isna().all()


def test_what_cannot_be_compared(planted, make_slice):
    with pytest.raises(SliceError, match="differ in their spots"):
        score_levels(planted[::-1].copy(), planted, 100.0)
    with pytest.raises(ValueError, match="positive length"):
        score_levels(planted, planted, 0.0)
    other = planted.copy()
    other.var_names = [f"x{k}" for k in range(other.n_vars)]
    with pytest.raises(SliceError, match="no gene in common"):
        score_levels(other, planted, 100.0)
