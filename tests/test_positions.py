"""Positions between slices: tissue that has grown makes no tufts."""

from __future__ import annotations

import numpy as np

from genot_helpers.interpolation.positions import spread
from genot_helpers.slices.geometry import nearest_distance


def _grid(side: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * 1.0


def test_tufts_are_pushed_apart_and_stay_where_they_are() -> None:
    rng = np.random.default_rng(0)
    tufts = np.repeat(_grid(20), 3, axis=0) + rng.normal(scale=0.05, size=(1200, 2))
    wanted = 1 / np.sqrt(3)
    apart = spread(tufts, wanted, np.random.default_rng(0))
    assert nearest_distance(tufts) < 0.2 * wanted
    assert nearest_distance(apart) > 0.8 * wanted
    assert np.linalg.norm(apart - tufts, axis=1).mean() < wanted
    np.testing.assert_array_equal(apart, spread(tufts, wanted, np.random.default_rng(0)))


def test_positions_that_coincide_part() -> None:
    twice = np.repeat(_grid(12), 2, axis=0)
    apart = spread(twice, 0.7, np.random.default_rng(1))
    assert nearest_distance(apart) > 0.5
    assert np.isfinite(apart).all()


def test_positions_without_tufts_are_left_alone() -> None:
    grid = _grid(10)
    rng = np.random.default_rng(2)
    assert spread(grid, 1.0, rng) is grid
    assert rng.normal() == np.random.default_rng(2).normal()  # nothing drawn either
