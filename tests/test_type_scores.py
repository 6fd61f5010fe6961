"""Scores of types in place: ideal values, what lowers each, an oracle, order of rows, ghosts."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import spearmanr

import genot_helpers as gh
from genot_helpers.evaluation.measures import compare_types, count_bands, soft_spearman
from genot_helpers.slices.geometry import spot_side


def place(seed, n=500):
    """Scatter spots over a square of side 100; types follow the place."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 100, (n, 2))
    return points, (points[:, 0] // 25).astype(int)


def test_a_slice_compared_with_itself_is_ideal():
    points, kinds = place(0)
    found = compare_types(points, points, kinds, kinds)
    assert found["soft_accuracy"] == pytest.approx(1.0)
    assert found["grid_l1"] == found["grid_kl"] == found["type_abundance"] == 0.0


def test_another_sample_of_one_tissue_is_better_than_shuffled_types():
    (p, truth), (q, kinds) = place(0), place(1)
    fresh = compare_types(p, q, truth, kinds)
    mixed = compare_types(p, q, truth, np.random.default_rng(0).permutation(kinds))
    assert fresh["soft_accuracy"] > mixed["soft_accuracy"] + 0.2
    assert fresh["grid_l1"] < mixed["grid_l1"] - 0.5
    assert fresh["grid_kl"] < mixed["grid_kl"] - 0.5
    assert fresh["type_abundance"] == pytest.approx(mixed["type_abundance"])  # place plays no part


def test_abundance_is_the_difference_of_the_shares():
    points, kinds = place(0)
    found = compare_types(points, points, np.zeros_like(kinds), np.arange(len(kinds)) % 4)
    assert found["type_abundance"] == pytest.approx(0.75 + 3 * 0.25)


def test_nothing_near_counts_as_nothing_right():
    points, kinds = place(0)
    half = points[:, 0] < 50
    found = compare_types(points, points[half], kinds, kinds[half])
    assert found["soft_accuracy"] < 0.65
    assert found["grid_l1"] > 0.8


def test_no_labels_no_score():
    points, kinds = place(0)
    assert np.isnan(list(compare_types(points, points, kinds, -np.ones_like(kinds)).values())).all()


def test_soft_spearman_agrees_with_the_plain_definition():
    rng = np.random.default_rng(3)
    (p, _), (q, _) = place(3, 60), place(4, 50)
    x, y = rng.gamma(2.0, 1.0, (60, 7)), rng.gamma(2.0, 1.0, (50, 7))
    reach, found = 2.5 * spot_side(p), []
    for point in p:
        near = [np.linalg.norm(points - point, axis=1) <= reach for points in (p, q)]
        if not near[1].any():
            found.append(0.0)
            continue
        means = [v[use].mean(axis=0) - x.mean(axis=0) for v, use in zip((x, y), near, strict=True)]
        found.append(spearmanr(*means).statistic)
    assert soft_spearman(p, q, x, y) == pytest.approx(np.mean(found))


def layered(edges, n=600, seed=0):
    """Make a section whose layer "thin" lies between each pair of heights; all else is "thick"."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 100, (n, 2))
    thin = np.any([(points[:, 1] > low) & (points[:, 1] < high) for low, high in edges], axis=0)
    labels = pd.Categorical(np.where(thin, "thin", "thick"))
    adata = ad.AnnData(
        sparse.csr_matrix(rng.poisson(3.0, (n, 5)).astype(np.float32)),
        obs=pd.DataFrame({"domain_truth": labels}, index=[f"s{seed}_{i}" for i in range(n)]),
        obsm={"spatial": points},
    )
    adata.obs["genot_domain"] = adata.obs["domain_truth"]
    return adata


def test_a_doubled_layer_is_a_ghost():
    left, right = layered([(20, 35)], seed=1), layered([(65, 80)], seed=2)
    bands = gh.evaluation.ghost_layers(layered([(20, 35), (65, 80)], seed=3), left, right)
    assert bands.loc["thin"].to_list() == [2, 1, 1, 1]
    moved = gh.evaluation.ghost_layers(layered([(42, 58)], seed=4), left, right)
    assert moved["ghosts"].sum() == 0


def test_stray_spots_make_no_band():
    points, _ = place(0)
    labels = np.where(points[:, 1] < 20, 1, 0)
    labels[points[:, 1].argmax()] = 1
    assert count_bands(points, labels).tolist() == [1, 1]


def test_ghosts_need_labels():
    left = layered([(20, 35)])
    with pytest.raises(gh.SliceError, match=r"generated_label_key is 'nothing'.*There: domain_tru"):
        gh.evaluation.ghost_layers(left[:, :], left, left, generated_label_key="nothing")
    bare = left.copy()
    bare.obs["nothing"] = np.nan
    with pytest.raises(gh.SliceError, match="generated slice names no spot"):
        gh.evaluation.ghost_layers(bare, left, left, generated_label_key="nothing")
    # The key is there in one slice of three only.
    with pytest.raises(gh.SliceError, match="left slice names no spot"):
        gh.evaluation.ghost_layers(
            bare, left, left, label_key="nothing", generated_label_key="domain_truth"
        )


@pytest.fixture(scope="module")
def stack():
    return [layered([(low, low + 15)], n=160, seed=low) for low in (30, 38, 34)]


def test_the_order_of_the_rows_plays_no_part(stack):
    left, right, held_out = stack
    generated = gh.interpolate(left, right, 0.5, progress=False, stiffness=np.inf)
    first = gh.score_table(generated, left, right, held_out, n_repeats=2)
    rng = np.random.default_rng(0)
    mixed = [a[rng.permutation(a.n_obs)].copy() for a in (generated, left, right, held_out)]
    pd.testing.assert_frame_equal(gh.score_table(*mixed, n_repeats=2), first, rtol=0, atol=0)


def test_the_ceiling_of_place_is_not_below_a_copy_of_the_same_grid():
    """Two halves of a grid avoid each other, which used to make a ceiling that copies beat."""
    grid = np.stack(np.meshgrid(np.arange(18.0), np.arange(18.0)), axis=-1).reshape(-1, 2)
    grid = grid[((grid - 8.5) ** 2).sum(axis=1) < 75]
    rng, slices = np.random.default_rng(0), []
    for number in range(3):
        rate = np.exp(1 + np.sin(grid[:, :1] / 4 + np.arange(6)))
        names = [f"{number}_{i}" for i in range(len(grid))]
        counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
        slices.append(ad.AnnData(counts, obs=pd.DataFrame(index=names), obsm={"spatial": grid}))
    table = gh.score_table(slices[0], *slices, n_repeats=8)
    copies = table.loc[["copy_left", "copy_right"], "density"]
    assert table.loc["ceiling", "density"] > copies.mean() - 0.05
