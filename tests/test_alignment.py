"""Alignment: found from any start, judged honestly, and nothing changed on the way."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st
from scipy import sparse
from scipy.spatial import cKDTree

import genot_helpers as gh
from genot_helpers import (
    Alignment,
    AlignmentError,
    SliceError,
    align,
    apply_alignment,
    joint_components,
    load_slices,
    normalise,
    simulate_cortex,
    spot_spacing,
    weighted_procrustes,
)
from genot_helpers.alignment import (
    SimilarityTransform,
    align_icp,
    align_partial_gromov,
    refine_by_coupling,
    tissue_area,
)
from genot_helpers.alignment.fit import (
    measure_fit,
    refine_by_maps,
    refine_by_outline,
    residual_shift,
    search_placements,
)
from genot_helpers.alignment.transforms import choose_scale
from genot_helpers.comparable import ExpressionMap, check_pair, expression_maps
from genot_helpers.simulation import simulate_embryo, simulate_olfactory_bulb
from genot_helpers.slices import holds_logarithms

PITCH = 100.0  # µm between Visium spots


@pytest.fixture(scope="module")
def sections():
    """Two sections of a simulated block, each a little rotated and shifted on its slide."""
    return list(simulate_cortex(2, n_spots=400, n_genes=300, seed=3).values())


def turned(adata, degrees, *, shift=(5000.0, -300.0), **options):
    """Return a slice that was put down elsewhere on the slide, and how it was moved."""
    motion = SimilarityTransform.from_angle(degrees, translation=shift, **options)
    moved = adata.copy()
    moved.obsm["spatial"] = motion.apply(moved.obsm["spatial"])
    return moved, motion


def best_rigid(left, right):
    """Fit spots that lie together in the frame of the block, which only a simulation knows."""
    distance, partner = cKDTree(left.obsm["spatial_common"]).query(right.obsm["spatial_common"])
    near = distance < 0.6 * PITCH
    return weighted_procrustes(left.obsm["spatial"][partner[near]], right.obsm["spatial"][near])


def error(left, right, transform, motion=None):
    """Root mean square distance from where the spots belong, in spot pitches."""
    start = right.obsm["spatial"]
    original = start if motion is None else motion.inverse().apply(start)
    target = best_rigid(left, _at(right, original)).apply(original)
    return np.sqrt(((transform.apply(start) - target) ** 2).sum(axis=1).mean()) / PITCH


def _at(adata, points):
    moved = adata.copy()
    moved.obsm["spatial"] = points
    return moved


def part(adata, low, high):
    """Cut out the spots between two quantiles of x."""
    x = adata.obsm["spatial"][:, 0]
    return adata[(x >= np.quantile(x, low)) & (x <= np.quantile(x, high))].copy()


# --- it finds the way -----------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 10, 90, 137, 180, 275])
def test_found_from_any_angle(sections, degrees):
    left, right = sections
    moved, motion = turned(right, degrees)
    alignment = align(left, moved)
    assert alignment.ok
    assert error(left, moved, alignment.transform, motion) < 0.7
    assert min(alignment.overlap) > 0.9
    assert alignment.residual <= 1
    assert alignment.agreement > 0.85
    assert alignment.transform.scale == 1


@pytest.mark.parametrize("degrees", [0, 180, 60])
def test_found_when_the_slices_share_only_a_part(sections, degrees):
    left, right = part(sections[0], 0, 0.7), part(sections[1], 0.25, 1)
    moved, motion = turned(right, degrees)
    alignment = align(left, moved)
    assert alignment.ok
    assert error(left, moved, alignment.transform, motion) < 1.5
    assert 0.4 < alignment.overlap[0] < 0.8


def test_a_small_window_is_found_in_a_large_slice(sections):
    left, right = simulate_cortex(2, n_spots=900, n_genes=300, seed=4).values()
    centre = np.abs(right.obsm["spatial"] - right.obsm["spatial"].mean(axis=0)).max(axis=1)
    window, motion = turned(right[centre < 900].copy(), 123)
    alignment = align(left, window)
    assert error(left, window, alignment.transform, motion) < 1
    assert alignment.overlap[1] > 0.9 > 0.6 > alignment.overlap[0]


def test_a_section_that_was_turned_over(sections):
    left, right = sections
    moved, motion = turned(right, 50, reflect=True)
    with pytest.raises(AlignmentError, match="better mirrored"):
        align(left, moved)
    alignment = align(left, moved, allow_reflection=True)
    assert alignment.transform.reflected
    assert error(left, moved, alignment.transform, motion) < 0.7
    assert not align(left, right, allow_reflection=True).transform.reflected


def test_two_technologies():
    bulb = simulate_olfactory_bulb(n_bins=500, n_beads=700, n_genes=300)
    left, right = bulb["stereoseq"], bulb["slideseqv2"]
    alignment = align(left, right)
    wanted = best_rigid(left, right)
    turn = (alignment.transform @ wanted.inverse()).angle_degrees
    assert abs(turn) < 3
    assert alignment.overlap[1] > 0.9


def test_refinement_by_coupling_uses_the_outline(sections):
    left, right = sections
    moved, motion = turned(right, 200)
    alignment = align(left, moved, refine="coupling")
    assert error(left, moved, alignment.transform, motion) < 0.5


@given(st.floats(-25, 25), st.floats(0, 360), st.floats(0.8, 1.2), st.integers(0, 100))
@settings(deadline=None, max_examples=4, phases=(Phase.generate,))
def test_an_outline_is_laid_over_its_like_whatever_is_expressed(off, degrees, scale, seed):
    """A body with a head, twice; its expression is noise."""
    rng = np.random.default_rng(seed)
    trunk, head = np.mgrid[:30, :12].reshape(2, -1).T, np.mgrid[22:30, 12:20].reshape(2, -1).T
    body = np.vstack([trunk, head])
    bodies = [body + rng.uniform(-0.4, 0.4, body.shape) for _ in range(2)]
    motion = SimilarityTransform.from_angle(degrees, scale=scale, translation=(300, -40))
    points = bodies[0], motion.apply(bodies[1])
    maps = [ExpressionMap(p, rng.normal(size=(len(p), 3)), spot_spacing(p)) for p in points]
    start = SimilarityTransform.from_angle(off, center=bodies[1].mean(axis=0)) @ motion.inverse()
    found = refine_by_outline(*maps, start, allow_scale=True)
    left_over = found @ motion
    assert abs(left_over.angle_degrees) < 5
    assert left_over.scale == pytest.approx(1, abs=0.1)
    assert np.abs(left_over.apply(bodies[1]) - bodies[1]).max() < 4


def test_embryos_are_laid_over_each_other_by_their_outline():
    """Organs that have moved turn the fit by expression; the true angle is known."""
    embryos = simulate_embryo(["E9.5", "E11.5"], n_bins=900, n_genes=200, seed=0)
    left, right = embryos.values()
    true = [weighted_procrustes(a.obsm["spatial_common"], a.obsm["spatial"]) for a in (left, right)]
    off, overlap = {}, {}
    for refine in ("maps", "outline"):
        found = align(left, right, scale="area", refine=refine, on_poor="return", max_spots=700)
        off[refine] = abs((found.transform @ true[1].inverse() @ true[0]).angle_degrees)
        overlap[refine] = min(found.overlap)
    assert off["outline"] < min(8, off["maps"] / 2)
    assert overlap["outline"] > max(0.9, overlap["maps"])


# --- what it must not depend on -------------------------------------------------------------------


def test_slices_are_not_changed_and_the_result_repeats(sections):
    before = [adata.copy() for adata in sections]
    first, second = align(*sections), align(*sections)
    assert np.array_equal(first.transform.rotation, second.transform.rotation)
    assert np.array_equal(first.transform.translation, second.transform.translation)
    for adata, copy in zip(sections, before, strict=True):
        assert list(adata.obsm) == list(copy.obsm)
        assert np.array_equal(adata.obsm["spatial"], copy.obsm["spatial"])
        assert not list(adata.layers)
        assert list(adata.var.columns) == list(copy.var.columns)
        assert set(adata.uns["genot"]) == set(copy.uns["genot"])
        assert (adata.X != copy.X).nnz == 0


def test_it_moves_with_the_slices_and_ignores_the_order_of_spots(sections):
    left, right = sections
    found = align(left, right).transform
    shuffled = right[np.random.default_rng(0).permutation(right.n_obs)].copy()
    assert found.is_close(align(left, shuffled).transform)
    moved, motion = turned(right, 20)
    back = align(left, moved).transform @ motion
    difference = back.apply(right.obsm["spatial"]) - found.apply(right.obsm["spatial"])
    assert np.abs(difference).max() < 0.1 * PITCH


def test_large_slices_are_pooled(sections):
    left, right = sections
    moved, motion = turned(right, 180)
    alignment = align(left, moved, max_spots=150)
    assert error(left, moved, alignment.transform, motion) < 1
    maps = expression_maps(left, moved, max_spots=150)
    assert 100 < len(maps[0].points) < 200
    assert maps[0].spacing > 1.3 * PITCH


def test_joint_components_are_used_only_where_they_are_joint(sections):
    slices = [adata.copy() for adata in sections]
    normalise(slices)
    for adata in slices:  # one by one: the same name, but they cannot be compared
        joint_components(adata, genes=None, n_components=20)
    separate = expression_maps(*slices)[0].features
    assert np.allclose(separate, expression_maps(*slices, use_rep=None)[0].features)
    joint_components(slices, genes=None, n_components=9)
    assert expression_maps(*slices)[0].features.shape[1] == 9
    assert align(*slices).ok


# --- scale ----------------------------------------------------------------------------------------


def without_units(adata, *, grid=False):
    adata = adata.copy()
    adata.uns = {}
    if not grid:
        adata.obs = adata.obs.drop(columns=["array_row", "array_col"])
    return adata


def test_scale_comes_from_what_is_known(sections):
    left, right = (without_units(adata) for adata in sections)
    big, _ = turned(right, 0, scale=4.0)
    assert choose_scale(left, right, "auto")[:2] == (1.0, False)
    ratio, fitted, source = choose_scale(left, big, "auto")
    assert (ratio, fitted) == (pytest.approx(0.25, rel=0.1), True)
    assert "areas" in source
    left.uns["genot"], big.uns["genot"] = {"spatial_unit": "µm"}, {"micrometres_per_unit": 0.25}
    assert choose_scale(left, big, "auto")[:2] == (0.25, False)
    left = without_units(sections[0], grid=True)
    big, _ = turned(without_units(sections[1], grid=True), 0, scale=4.0)
    ratio, fitted, source = choose_scale(left, big, "auto")
    assert (ratio, fitted) == (pytest.approx(0.25), False)
    assert "Visium" in source
    assert choose_scale(left, big, 3)[:2] == (3.0, False)
    assert choose_scale(left, big, None)[:2] == (1.0, False)


def test_unknown_units_are_fitted(sections):
    left, right = (without_units(adata) for adata in sections)
    big, motion = turned(right, 180, scale=7.0)
    alignment = align(left, big)
    assert alignment.transform.scale * 7 == pytest.approx(1, abs=0.06)
    assert error(left, big, alignment.transform, motion) < 1
    cropped, motion = turned(part(right, 0.25, 1), 180, scale=7.0)
    assert align(left, cropped).transform.scale * 7 == pytest.approx(1, abs=0.1)


def test_area_leaves_out_holes_and_bays():
    x, y = (grid.ravel() for grid in np.mgrid[:60.0, :60.0])
    square = np.column_stack([x, y])
    assert tissue_area(square) == pytest.approx(59**2)
    ring = square[(np.abs(square - 29.5) > 10).any(axis=1)]
    assert tissue_area(ring) == pytest.approx(59**2 - 21**2, rel=0.01)
    corner = square[(square < 30).any(axis=1)]
    assert tissue_area(corner) == pytest.approx(59**2 - 30**2, rel=0.02)
    assert tissue_area(corner * 3) == pytest.approx(9 * tissue_area(corner))
    with pytest.raises(SliceError, match="one line"):
        tissue_area(np.column_stack([x, x]))


# --- it says when it is poor ----------------------------------------------------------------------


def test_slices_that_have_nothing_in_common_are_told(sections):
    left, right = sections[0], sections[1].copy()
    right.X = right.X[np.random.default_rng(0).permutation(right.n_obs)]
    with pytest.raises(
        AlignmentError, match=r"overlap \d+%.*residual.*agrees too little"
    ) as caught:
        align(left, right)
    alignment = caught.value.alignment
    assert isinstance(alignment, Alignment)
    assert not alignment.ok
    assert alignment.strength < 0.3
    with pytest.warns(UserWarning, match="poor alignment"):
        assert not align(left, right, on_poor="warn").ok
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert align(left, right, on_poor="return").problems


def test_parts_that_do_not_overlap_are_told():
    left, right = simulate_cortex(2, n_spots=900, n_genes=300, seed=5).values()
    with pytest.raises(AlignmentError):
        align(part(left, 0, 0.4), part(right, 0.6, 1))


def test_a_symmetric_tissue_is_told():
    rng = np.random.default_rng(0)
    x, y = (grid.ravel() - 12.0 for grid in np.mgrid[:25, :25])
    angle = np.arctan2(y, x)
    patterns = np.column_stack([np.cos(2 * angle), np.sin(2 * angle), np.cos(4 * angle)])
    rates = np.exp(1.5 + patterns @ rng.normal(0, 0.5, (3, 60)))
    slices = []
    for _ in range(2):
        slices.append(ad.AnnData(sparse.csr_matrix(rng.poisson(rates).astype("float32"))))
        slices[-1].obsm["spatial"] = np.column_stack([x, y])
    with pytest.raises(AlignmentError, match="turned by 30° or more, fits as well"):
        align(*slices)


def test_the_residual_tells_how_far_off_a_placement_is(sections):
    maps = expression_maps(*sections)
    fit = refine_by_maps(*maps, search_placements(*maps)[0].transform)
    centre = fit.apply(maps[1].points).mean(axis=0)
    right, off, upside_down = (
        residual_shift(*maps, SimilarityTransform.from_angle(angle, center=centre) @ fit)
        for angle in (0, 25, 180)
    )
    assert right <= 1 < off < upside_down
    away = SimilarityTransform(translation=(1e6, 0))
    assert np.isnan(residual_shift(*maps, away))
    assert np.isnan(measure_fit(*maps, away).agreement)
    assert measure_fit(*maps, away).overlap == (0, 0)
    assert measure_fit(*maps, away).score == 0


@pytest.mark.parametrize("refine", [refine_by_maps, refine_by_coupling, refine_by_outline])
def test_a_fine_fit_without_overlap_stays_where_it_is(sections, refine):
    away = SimilarityTransform(translation=(1e6, 0))
    assert refine(*expression_maps(*sections), away).is_close(away)


def test_no_placement_covers_enough(sections):
    left, right = sections
    strip, _ = turned(right[right.obsm["spatial"][:, 1] < 500].copy(), 0)
    column = left[left.obsm["spatial"][:, 0] < 500].copy()
    with pytest.raises(AlignmentError):
        align(column, strip, min_overlap=1.0)


# --- bad input ------------------------------------------------------------------------------------


def test_bad_slices_are_refused_with_a_reason(sections):
    left, right = sections
    other = right.copy()
    other.var_names = [f"other{number}" for number in range(other.n_vars)]
    with pytest.raises(SliceError, match="no gene in common"):
        align(left, other)
    with pytest.raises(SliceError, match=r"align: right, obs: no spots"):
        align(left, right[:0].copy())
    broken = right.copy()
    broken.obsm["spatial"][3, 0] = np.nan
    with pytest.raises(SliceError, match=r'right, obsm\["spatial"\]: 1 of .* NaN'):
        align(left, broken)
    logged = right.copy()
    logged.X = logged.X.log1p()
    assert holds_logarithms(logged)
    assert not holds_logarithms(right)
    with pytest.raises(SliceError, match=r"different normalisation: left counts.*logarithms"):
        align(left, logged)
    with pytest.raises(TypeError, match=r"align: argument right is .*needed: an AnnData"):
        align(left, right.X)


def test_several_problems_are_told_at_once(sections):
    left, right = (adata.copy() for adata in sections)
    left.obsm["spatial"][0] = np.inf
    del right.obsm["spatial"]
    with pytest.raises(SliceError) as caught:
        check_pair(left, right)
    assert len(caught.value.problems) == 2


def test_genes_and_spots_without_counts_are_no_obstacle(sections):
    left, right = (adata.copy() for adata in sections)
    values = right.X.tolil()
    values[:, 5] = 0
    values[7] = 0
    right.X = values.tocsr()
    assert align(left, right).ok


def test_logarithms_in_both_are_fine(sections):
    logged = [adata.copy() for adata in sections]
    for adata in logged:
        adata.X = adata.X.log1p()
    assert align(*logged).ok


def test_embeddings_that_do_not_fit_are_refused(sections):
    left, right = (adata.copy() for adata in sections)
    left.obsm["X_genot"] = np.ones((left.n_obs, 4))
    with pytest.raises(SliceError, match=r"'X_genot'\] is missing in right"):
        align(left, right, use_rep="X_genot")
    right.obsm["X_genot"] = np.ones((right.n_obs, 5))
    with pytest.raises(SliceError, match="differ in the number of components"):
        align(left, right, use_rep="X_genot")
    right.obsm["X_genot"] = np.ones((right.n_obs, 4))
    with pytest.raises(SliceError, match="no expression varies"):
        align(left, right, use_rep="X_genot")
    right.obsm["X_genot"] = np.full((right.n_obs, 4), np.nan)
    with pytest.raises(SliceError, match="not finite"):
        align(left, right, use_rep="X_genot")


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "large"},
        {"scale": -1.0},
        {"scale": np.nan},
        {"refine": "magic"},
        {"on_poor": "ignore"},
        {"min_overlap": 0},
        {"min_overlap": 1.5},
        {"max_residual": 0},
        {"max_spots": 5},
    ],
)
def test_parameters_out_of_range(sections, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        align(*sections, **options)


# --- applying it ----------------------------------------------------------------------------------


def test_applying_writes_coordinates_and_how_they_came_about(sections, tmp_path):
    left, right = sections[0], sections[1].copy()
    alignment = align(left, right)
    start = right.obsm["spatial"].copy()
    apply_alignment(right, alignment)
    assert np.array_equal(right.obsm["spatial"], start)
    assert np.allclose(right.obsm["spatial_aligned"], alignment.transform.apply(start))
    right.write_h5ad(tmp_path / "right.h5ad")
    record = ad.read_h5ad(tmp_path / "right.h5ad").uns["genot"]["alignment"]
    assert SimilarityTransform.from_dict(record).is_close(alignment.transform, tolerance=0)
    assert record["key_added"] == "spatial_aligned"
    assert record["residual"] == alignment.residual
    assert bool(record["ok"])
    assert right.uns["genot"]["simulated"]


def test_coordinates_are_replaced_once_and_only_on_request(sections):
    right = sections[1].copy()
    shift = SimilarityTransform(translation=(100.0, 0.0))
    start = right.obsm["spatial"].copy()
    apply_alignment(right, shift, key_added="spatial")
    assert np.allclose(right.obsm["spatial"], start + np.array([100.0, 0.0]))
    with pytest.raises(SliceError, match="aligned coordinates already"):
        apply_alignment(right, shift, key_added="spatial")
    with pytest.raises(SliceError, match=r"no slice has obsm\['elsewhere'\].*There: spatial"):
        apply_alignment(right, shift, spatial_key="elsewhere")


def test_an_alignment_says_what_it_is(sections):
    alignment = align(*sections)
    assert "overlap" in repr(alignment)
    assert "residual" in alignment.summary()
    assert repr(alignment).endswith("ok)")
    assert alignment.spacing == pytest.approx(PITCH, rel=0.01)
    assert alignment.runner_up < alignment.strength > alignment.turned_over


# --- the published ways ---------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "reflect"), [(180, False), (17, True)])
def test_closest_points_fit_an_outline(degrees, reflect):
    rng = np.random.default_rng(1)
    slices = []
    for _ in range(2):
        points = rng.random((500, 2)) * [300, 200]
        points = points[(points < [150, 80]).any(axis=1)]  # an L
        rates = np.exp(
            2 + points @ rng.permutation([[0.01, -0.01], [-0.01, 0.0]]).repeat(5, axis=1)
        )
        slices.append(ad.AnnData(sparse.csr_matrix(rng.poisson(rates).astype("float32"))))
        slices[-1].obsm["spatial"] = points
    left, right = slices
    moved, motion = turned(right, degrees, reflect=reflect)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the verdict of a made-up expression
        transform = align_icp(left, moved, allow_reflection=True).transform
    assert transform.reflected == reflect
    assert abs((transform @ motion).angle_degrees) < 5


def test_partial_gromov_finds_the_way_without_a_start(sections):
    left, right = sections
    moved, motion = turned(right, 180)
    alignment = align_partial_gromov(left, moved, n_spots=150, overlap=0.95, alpha=0.5)
    assert error(left, moved, alignment.transform, motion) < 4


# --- measured sections ----------------------------------------------------------------------------


def label_agreement(left, right, transform):
    """Share of spots with the same annotation as the nearest spot of left, within 1.5 spacings."""
    points = left.obsm["spatial"]
    distance, nearest = cKDTree(points).query(transform.apply(right.obsm["spatial"]))
    near = distance < 1.5 * spot_spacing(points)
    ours = right.obs["domain_truth"].astype(object).to_numpy()
    theirs = left.obs["domain_truth"].astype(object).to_numpy()[nearest]
    annotated = near & right.obs["domain_truth"].notna().to_numpy()
    return (ours == theirs)[annotated].mean()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("left", "right", "least", "gain"),
    [("151673", "151674", 0.86, 0.07), ("151673", "151675", 0.80, 0.2)],
)
def test_measured_cortex(real_data_dir, left, right, least, gain):
    slices = load_slices([left, right], data_source="local", data_dir=real_data_dir)
    left, right = slices.values()
    before = label_agreement(left, right, SimilarityTransform.identity())
    moved, _ = turned(right, 180)
    transform = align(left, moved).transform
    assert label_agreement(left, moved, transform) > max(least, before + gain)
    half_left, half_moved = part(left, 0, 0.65), part(moved, 0, 0.65)
    cropped = align(half_left, half_moved)
    assert abs((cropped.transform @ transform.inverse()).angle_degrees) < 4
    assert label_agreement(half_left, half_moved, cropped.transform) > least - 0.02


@pytest.mark.real_data
def test_measured_hypothalamus(real_data_dir):
    names = ["merfish_4", "merfish_9", "merfish_14"]
    four, nine, fourteen = load_slices(names, data_source="local", data_dir=real_data_dir).values()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = align(four, nine).transform @ align(nine, fourteen).transform
        moved, motion = turned(fourteen, 137)
        direct = align(four, moved).transform @ motion
    difference = steps @ direct.inverse()  # two ways from 14 to 4
    assert abs(difference.angle_degrees) < 3
    assert abs(direct.angle_degrees) < 3  # they were aligned, roughly, when published
    off = steps.apply(fourteen.obsm["spatial"]) - direct.apply(fourteen.obsm["spatial"])
    assert np.linalg.norm(off, axis=1).max() < 60  # µm, over 1.8 mm


def test_a_mirrored_section_is_named_where_the_other_side_hardly_overlaps():
    """A good agreement on a small overlap is no reason to keep silent about the mirror image."""
    slices = gh.load_slices(["151673", "151675"], data_source="demo")
    left, right = slices.values()
    right.obsm["spatial"] = right.obsm["spatial"] * [-1.0, 1.0]
    alignment = align(left, right, on_poor="return")
    assert any("better mirrored" in problem for problem in alignment.problems)
    assert "nan" not in alignment.summary()
    assert not any("nan" in problem for problem in alignment.problems)
