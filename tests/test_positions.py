"""Positions of slices, and of spots between two: tissue that has grown makes no tufts."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import genot_helpers as gh
from genot_helpers.interpolation.places import spread
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


def _named(*names: str, **obs: list) -> dict[str, ad.AnnData]:
    """Slices of two spots; each keyword is a column of obs, with one value a slice."""
    slices = {name: ad.AnnData(np.ones((2, 1))) for name in names}
    for key, values in obs.items():
        for adata, value in zip(slices.values(), values, strict=True):
            adata.obs[key] = value
    return slices


FLY = ("fly_E14-16h_S01", "fly_E14-16h_S02", "fly_E14-16h_S03")


def test_where_slices_lie_is_read_from_obs_then_uns_then_what_is_given_then_the_names() -> None:
    slices = _named(*FLY)
    assert list(gh.interpolation.slice_positions(slices).values()) == [1, 2, 3]
    given = dict(zip(FLY, (0, 10, 25), strict=True))
    assert gh.interpolation.slice_positions(slices, given=given) == given
    for adata, day in zip(slices.values(), (9.5, 10.5, 12), strict=True):
        adata.uns["genot"] = {"parameters": {"embryonic_day": day}}
    assert list(gh.interpolation.slice_positions(slices, given=given).values()) == [9.5, 10.5, 12]
    for adata, z in zip(slices.values(), (0.0, 7.0, 14.0), strict=True):
        adata.obs["z"] = z
    assert list(gh.interpolation.slice_positions(slices, given=given).values()) == [0, 7, 14]


def test_a_text_with_one_number_is_read_and_columns_that_are_alike_or_vary_are_passed_over() -> (
    None
):
    stages = _named("a", "b", "c", z=[0, 0, 0], Stage=["E9.5", "E10.5", "E11.5"])
    stages["a"].obs["depth"] = [1.0, 2.0]
    assert gh.interpolation.slice_positions(stages) == {"a": 9.5, "b": 10.5, "c": 11.5}
    own = _named("a", "b", weeks=[6, 8])
    assert gh.interpolation.slice_positions(own, key="weeks") == {"a": 6, "b": 8}


@pytest.mark.parametrize("names", [("left", "right"), ("a1_b2", "a2_b3"), ("s1", "s1_2")])
def test_slices_that_do_not_say_where_they_lie_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(gh.SliceError, match=r"adata\.obs"):
        gh.interpolation.slice_positions(_named(*names))


def test_positions_given_must_be_numbers_for_all_slices() -> None:
    for given in ({"a": 1.0}, {"a": 1.0, "b": np.nan}, {"a": 1.0, "b": "late"}):
        with pytest.raises(ValueError, match=r"given\['b'\]"):
            gh.interpolation.slice_positions(_named("a", "b"), given=given)
    with pytest.raises(ValueError, match="two or more"):
        gh.interpolation.slice_positions(_named("a"))
