"""Slices in a stack: between the right two, on a bent way where the tissue bends, bad input."""

from __future__ import annotations

from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import genot_helpers as gh
from genot_helpers.interpolation.stack import BentWarp
from genot_helpers.interpolation.warp import SmoothWarp

QUICK = {"mean": False, "label_key": None, "progress": False}


def section(depth, drift, n=500):
    """Make a section of tissue whose patterns lie at x - drift(depth); spots fill one window."""
    rng = np.random.default_rng(int(depth))
    points = rng.uniform(0, 1000, (n, 2))
    x, y = points[:, :1] - drift(depth), points[:, 1:]
    phase = np.linspace(0, 3 * np.pi, 30)
    rate = np.exp(1.5 + np.sin(x / 110 + phase) + 0.7 * np.cos(y / 150 - 2 * phase))
    adata = ad.AnnData(
        sparse.csr_matrix(rng.poisson(rate).astype(np.float32)),
        obs=pd.DataFrame(index=[f"s{depth}_{i}" for i in range(n)]),
        obsm={"spatial": points},
    )
    adata.uns["genot"] = {"position_um": float(depth)}
    return adata


def shifting(by):
    """Make a warp that moves everything along x."""
    coefficients = np.zeros((10, 10, 2))
    coefficients[..., 0] = by
    return SmoothWarp(np.zeros(2), np.full(2, 1000.0), coefficients, 1.0, {})


@pytest.mark.parametrize("depths", [(0.0, 1.0, 2.0, 3.0), (0.0, 0.5, 2.0, 5.0)])
def test_a_parabola_is_followed_exactly(depths):
    """Places 7 z² of the sections: the cubic through four of them is the parabola itself."""
    way = [7.0 * z**2 for z in depths]
    before, here, after = (shifting(b - a) for a, b in pairwise(way))
    warp = BentWarp(**vars(here), before=before, after=after, gaps=tuple(np.diff(depths)))
    points = np.array([[400.0, 300.0], [500.0, 800.0]])
    for t in (0.0, 0.25, 0.7, 1.0):
        z = depths[1] + t * (depths[2] - depths[1])
        found = warp.move_left(points, t) - points
        np.testing.assert_allclose(found, [[7.0 * z**2 - way[1], 0.0]] * 2, atol=1e-9)
        back = warp.move_right(points + np.array([way[2] - way[1], 0.0]), t)
        np.testing.assert_allclose(back, found + points, atol=1e-9)


def test_a_steady_motion_has_no_bend():
    warp = shifting(9.0)
    bent = BentWarp(**vars(warp), before=shifting(18.0), after=None, gaps=(2.0, 1.0, 1.0))
    points = np.array([[400.0, 300.0]])
    np.testing.assert_allclose(bent.move_left(points, 0.4), warp.move_left(points, 0.4))


def test_each_slice_lies_between_the_right_two():
    stack = [section(depth, lambda z: 0.0, n=120) for depth in (30, 10, 20)]
    found = gh.interpolate_stack(stack, [25.0, 12.0, 20.0], stiffness=np.inf, **QUICK)
    assert [a.uns["genot"]["between"].tolist() for a in found] == [[2, 0], [1, 2], [2, 0]]
    assert [a.uns["genot"]["t"] for a in found] == pytest.approx([0.5, 0.2, 0.0])
    assert [a.uns["genot"]["position_um"] for a in found] == pytest.approx([25, 12, 20])
    plain = gh.interpolate(stack[1], stack[2], 0.2, stiffness=np.inf, **QUICK)
    np.testing.assert_array_equal(found[1].obsm["spatial"], plain.obsm["spatial"])
    assert found[1].obs["genot_source_spot"].equals(plain.obs["genot_source_spot"])


def test_leaving_out_tells_a_bent_stack_from_a_straight_one():
    """With four neighbours the bend of the tissue is followed; with two it is cut short."""
    bent = [section(z, lambda z: 90.0 * (z / 10) ** 2 / 4) for z in (10, 20, 30, 40, 50)]
    scores = gh.score_stack(bent, stiffness=0.01, n_repeats=2, **QUICK)
    assert scores.index.get_level_values("left_out").unique().tolist() == [1, 2, 3]
    maps = scores["map"].unstack()
    assert maps.loc[2, "cubic"] > maps.loc[2, "linear"]
    assert (maps["ceiling"] > maps["copy"]).all()
    assert scores.attrs["spread"]["map"] >= 0


def test_bad_input():
    stack = [section(depth, lambda z: 0.0, n=40) for depth in (10, 20)]
    with pytest.raises(gh.SliceError, match="reach from 10 to 20"):
        gh.interpolate_stack(stack, [25.0])
    with pytest.raises(ValueError, match="path is 'quadratic'"):
        gh.interpolate_stack(stack, [15.0], path="quadratic")
    with pytest.raises(gh.SliceError, match="one finite number"):
        gh.interpolate_stack(stack, [15.0], depths=[1.0])
    with pytest.raises(gh.SliceError, match="one depth"):
        gh.interpolate_stack(stack, [1.0], depths=[1.0, 1.0])
    with pytest.raises(gh.SliceError, match="three are needed"):
        gh.score_stack(stack)
    del stack[1].uns["genot"]["position_um"]
    with pytest.raises(gh.SliceError, match="Section 1"):
        gh.interpolate_stack(stack, [15.0])
