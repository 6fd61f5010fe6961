"""The slice in between: ends, mass, real spots, order and motion, labels, bad input."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import OUR_WARNINGS_ARE_ERRORS
from hypothesis import given, settings, strategies as st
from scipy import sparse
from scipy.spatial import cKDTree

from genot_helpers import (
    SliceError,
    check_slice,
    interpolate,
    interpolate_many,
    position_between,
    prepare_interpolation,
    spot_spacing,
    write_slice,
)
from genot_helpers.interpolation.places import (
    CarriedLabels,
    expected_expression,
    keep_composition,
    local_weights,
    prepare_labels,
)

pytestmark = OUR_WARNINGS_ARE_ERRORS

N_GENES = 24
WIDTH = 1000.0
QUICK = {"mean": False, "label_key": None, "stiffness": np.inf, "progress": False}


def rates(points, shift=0.0):
    """Compute expected counts at places of the tissue: waves along x and y."""
    x, y = points[:, :1] + shift, points[:, 1:]
    phase = np.linspace(0, 3 * np.pi, N_GENES)
    return np.exp(1 + np.sin(x / 200 + phase) + 0.5 * np.cos(y / 300 - 2 * phase))


def make_section(seed, n=260, shift=0.0):
    """Make a section of one tissue: cells of three kinds anywhere in a square, four bands."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, WIDTH, (n, 2))
    kind = rng.integers(0, 3, n)
    of_kind = np.where(np.arange(N_GENES) % 3 == kind[:, None], 2.0, 0.8)
    band = np.clip((points[:, 0] + shift) // 250, 0, 3).astype(int)
    obs = {
        "domain_truth": pd.Categorical([f"band {b}" for b in band]),
        "kind": pd.Categorical([f"kind {k}" for k in kind]),
        "area": rng.random(n),
    }
    return ad.AnnData(
        sparse.csr_matrix(rng.poisson(rates(points, shift) * of_kind).astype(np.float32)),
        obs=pd.DataFrame(obs, index=[f"cell{seed}_{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]),
        obsm={"spatial": points},
    )


def make_pair():
    """Two sections with genes in different order, some without annotation, at known depths."""
    left, right = make_section(1, shift=-40), make_section(2, n=220, shift=40)
    left = left[:, np.random.default_rng(0).permutation(N_GENES)].copy()
    left.var_names = ["gene_of_left" if gene == "gene3" else gene for gene in left.var_names]
    left.obs.loc[left.obs_names[:15], "domain_truth"] = np.nan
    for adata, depth in ((left, 100.0), (right, 200.0)):
        adata.uns["genot"] = {"position_um": depth, "y_axis": "up"}
    return left, right


LEFT, RIGHT = make_pair()
BEFORE = LEFT.copy(), RIGHT.copy()
GENES = LEFT.var_names[LEFT.var_names != "gene_of_left"]


@pytest.fixture(scope="module")
def prepared():
    return prepare_interpolation(LEFT, RIGHT, progress=False)


@pytest.fixture(scope="module")
def halfway(prepared):
    return prepared.at(0.5)


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def sources(generated):
    return list(zip(generated.obs["genot_source"], generated.obs["genot_source_spot"], strict=True))


def source_rows(generated, left, right):
    """Expression of the real spots that the generated ones claim to be, gene by gene."""
    both = {"left": left[:, generated.var_names], "right": right[:, generated.var_names]}
    frames = {side: a.to_df() for side, a in both.items()}
    return np.vstack([frames[side].loc[spot] for side, spot in sources(generated)])


def check_generated(generated, left, right, t):
    """Check what holds for every generated slice."""
    n = round((1 - t) * left.n_obs + t * right.n_obs)
    assert generated.n_obs == n
    assert len(set(sources(generated))) == n  # no real spot twice
    assert np.array_equal(dense(generated.X), source_rows(generated, left, right))
    check_slice(generated)  # finite, distinct positions among other things
    from_left = (generated.obs["genot_source"] == "left").mean()
    assert abs(from_left - (1 - t)) < 4 * np.sqrt(t * (1 - t) / n) + 1 / n
    everything = np.vstack([left.obsm["spatial"], right.obsm["spatial"]])
    reach = 3 * spot_spacing(everything)
    assert (generated.obsm["spatial"] > everything.min(axis=0) - reach).all()
    assert (generated.obsm["spatial"] < everything.max(axis=0) + reach).all()


def assert_equal(one, other):
    """Compare two slices slot by slot, dtypes included."""
    assert type(one.X) is type(other.X)
    assert one.X.dtype == other.X.dtype
    assert np.array_equal(dense(one.X), dense(other.X))
    for slot in ("obs", "var"):
        pd.testing.assert_frame_equal(getattr(one, slot), getattr(other, slot))
    for slot in ("obsm", "layers", "obsp", "varm"):
        assert set(getattr(one, slot)) == set(getattr(other, slot))
        for key, values in getattr(one, slot).items():
            assert values.dtype == getattr(other, slot)[key].dtype
            assert np.array_equal(dense(values), dense(getattr(other, slot)[key]))
    np.testing.assert_equal(dict(one.uns), dict(other.uns))


def turned(adata, angle, shift):
    adata = adata.copy()
    adata.obsm["spatial"] = adata.obsm["spatial"] @ turn(angle).T + shift
    return adata


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


# --- ends, number, real spots --------------------------------------------------------------------


@pytest.mark.parametrize("t, end", [(0, LEFT), (0.0, LEFT), (1.0, RIGHT)])
def test_the_ends_are_given_back(prepared, t, end):
    generated = prepared.at(t)
    assert list(generated.var_names) == list(GENES)
    assert np.array_equal(dense(generated.X), dense(end[:, GENES].X))
    assert np.array_equal(generated.obsm["spatial"], end.obsm["spatial"])
    assert list(generated.obs["genot_source_spot"]) == list(end.obs_names)
    assert set(generated.obs["genot_source"]) == {"left" if t == 0 else "right"}
    assert list(generated.obs["kind"]) == list(end.obs["kind"])
    known = end.obs["domain_truth"].notna().to_numpy()
    label, own = (
        a.obs[k].astype(object) for a, k in ((generated, "genot_domain"), (end, "domain_truth"))
    )
    assert (label.to_numpy() == own.to_numpy())[known].all()
    assert (generated.obs["genot_confidence"][known] == 1).all()


@pytest.mark.parametrize("t", [0.01, 0.3, 0.5, 0.9])
def test_spots_between_are_real_ones(prepared, t):
    generated = prepared.at(t)
    check_generated(generated, LEFT, RIGHT, t)
    assert list(generated.var_names) == list(GENES)
    assert generated.uns["genot"]["t"] == t
    assert generated.uns["genot"]["position_um"] == pytest.approx(100 + 100 * t)
    assert generated.uns["genot"]["y_axis"] == "up"
    both = pd.concat([LEFT.obs, RIGHT.obs]).loc[generated.obs["genot_source_spot"].astype(object)]
    for column in ("kind", "area"):  # what is known of a real spot goes with it
        assert (generated.obs[column].astype(object).to_numpy() == both[column].to_numpy()).all()
    assert isinstance(generated.obs["kind"].dtype, pd.CategoricalDtype)


@pytest.mark.parametrize("t", [0.0, 0.2, 1.0])
def test_expectation_is_that_of_the_nearer_slice_above_all(prepared, t):
    """Against the definition: local means in both slices, by 1 - t and t."""
    generated = prepared.at(t)
    points = (
        prepared.warp.move_left(prepared.left_points, t),
        prepared.warp.move_right(prepared.right_points, t),
    )
    weights, narrower = (
        [local_weights(p, generated.obsm["spatial"], width, prepared.spacing) for p in points]
        for width in (prepared.bandwidth, prepared.mean_bandwidth)
    )
    embeddings = prepared.left_embedding, prepared.right_embedding
    expected = sum(
        share * (w @ e) for share, w, e in zip((1 - t, t), weights, embeddings, strict=True)
    )
    np.testing.assert_allclose(generated.obsm["X_genot"], expected, atol=1e-5)
    slices = [adata[:, GENES].copy() for adata in (LEFT, RIGHT)]
    mean = expected_expression(slices, narrower, (1 - t, t))
    np.testing.assert_allclose(generated.layers["mean"], mean, rtol=1e-5)


def test_population_and_autocorrelation_are_kept(halfway):
    record = halfway.uns["genot"]
    assert record["autocorrelation"][-1] == pytest.approx(
        record["autocorrelation_target"], abs=0.03
    )
    both = np.vstack([dense(a[:, GENES].X) for a in (LEFT, RIGHT)])
    ours = dense(halfway.X)
    assert np.mean(ours.var(axis=0) / both.var(axis=0)) == pytest.approx(1.0, abs=0.08)
    assert np.mean(ours == 0) == pytest.approx(np.mean(both == 0), abs=0.02)


@pytest.mark.parametrize("n_left, n_right", [(120, 360), (360, 120)])
@pytest.mark.parametrize("t", [0.3, 0.6])
def test_tissue_that_grows(n_left, n_right, t):
    left, right = make_section(3, n_left), make_section(4, n_right)
    check_generated(interpolate(left, right, t, **QUICK), left, right, t)


def test_a_slice_with_itself_keeps_its_places():
    left = LEFT.copy()
    generated = interpolate(left, left, 0.4, mean=False, progress=False)
    assert generated.n_obs == left.n_obs
    nearest, row = cKDTree(left.obsm["spatial"]).query(generated.obsm["spatial"])
    assert nearest.max() < 0.2 * spot_spacing(left.obsm["spatial"])
    assert len(set(row)) == left.n_obs


def test_grids_stay_grids(make_slice):
    left, right = make_slice(seed=1), make_slice(seed=2)
    right.obsm["spatial"] += 20.0
    generated = interpolate(left, right, 0.25, **QUICK)
    distance = cKDTree(left.obsm["spatial"] + 5.0).query(generated.obsm["spatial"])[0]
    assert distance.max() < 1e-9


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_fewer_spots(prepared, t):
    generated = prepared.at(t, n_spots=70)
    assert generated.n_obs == len(set(sources(generated))) == 70
    rows = source_rows(generated, LEFT, RIGHT)
    assert np.array_equal(dense(generated.X), rows)
    end = {0.0: LEFT, 1.0: RIGHT}.get(t)
    if end is not None:  # in the order of the slice, where they are there
        order = end.obs_names.get_indexer(generated.obs["genot_source_spot"].astype(object))
        assert (np.diff(order) > 0).all()
        assert np.array_equal(generated.obsm["spatial"], end.obsm["spatial"][order])


def as_logarithms(matrix):
    return sparse.csr_matrix(matrix).log1p()


@pytest.mark.parametrize(
    "convert",
    [
        sparse.csr_matrix,
        sparse.csc_matrix,
        lambda X: X.toarray(),
        lambda X: X.toarray().astype(np.int64),
        lambda X: as_logarithms(X).astype(np.float64),
    ],
    ids=["csr", "csc", "dense", "integers", "logarithms"],
)
def test_values_keep_their_kind(convert):
    left, right = LEFT.copy(), RIGHT.copy()
    for adata in (left, right):
        adata.X = convert(sparse.csr_matrix(adata.X))
    generated = interpolate(left, right, 0.5, **QUICK)
    assert sparse.issparse(generated.X) == sparse.issparse(left.X)
    assert generated.X.dtype == left.X.dtype
    assert np.array_equal(dense(generated.X), source_rows(generated, left, right))


def test_slices_stay_as_they_were(prepared, halfway):
    for adata, before in zip((LEFT, RIGHT), BEFORE, strict=True):
        assert_equal(adata, before)


def test_file_keeps_everything(halfway, tmp_path):
    write_slice(halfway, tmp_path / "generated.h5ad")
    again = ad.read_h5ad(tmp_path / "generated.h5ad")
    assert_equal(again, halfway)


def test_the_same_slice_is_the_same_file(prepared, halfway, tmp_path):
    """Wall times stay with what was prepared; they would make every file another."""
    again = prepared.at(0.5)
    paths = [write_slice(one, tmp_path / f"{n}.h5ad") for n, one in enumerate((halfway, again))]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert "seconds" not in again.uns["genot"]
    assert prepared.seconds["place"] > 0


# --- seed, order, motion -------------------------------------------------------------------------


def assert_same(one, other):
    assert np.array_equal(one.obsm["spatial"], other.obsm["spatial"])
    assert np.array_equal(one.obsm["X_genot"], other.obsm["X_genot"])
    assert np.array_equal(dense(one.X), dense(other.X))
    pd.testing.assert_frame_equal(one.obs, other.obs)


def test_same_seed_same_result(prepared, halfway):
    """Bit for bit: again, after other positions, in a stack, from new slices, read-only ones."""
    assert_same(prepared.at(0.5), halfway)
    left, right = LEFT.copy(), RIGHT.copy()
    for adata in (left, right):
        adata.obsm["spatial"].flags.writeable = False
        adata.X.data.flags.writeable = False
    stack = interpolate_many(left, right, iter([0.2, 0.5]), progress=False)
    assert_same(stack[1], halfway)
    assert np.array_equal(stack[1].layers["mean"], halfway.layers["mean"])
    assert_same(stack[0], prepared.at(0.2))


def test_other_seed_other_result():
    one, other = (interpolate(LEFT, RIGHT, 0.5, seed=seed, **QUICK) for seed in (0, 1))
    assert set(sources(one)) != set(sources(other))
    assert not np.array_equal(one.obsm["spatial"], other.obsm["spatial"])


SMALL = make_section(5, n=70), make_section(6, n=80)


@pytest.fixture(scope="module")
def small():
    """Prepare all of it for a small pair, warp and labels too, and generate at some t."""
    prepared = prepare_interpolation(*SMALL, progress=False)
    return prepared, {t: prepared.at(t) for t in (0.0, 0.4, 1.0)}


@given(st.permutations(range(70)), st.permutations(range(80)))
@settings(deadline=None, max_examples=6)
def test_order_of_spots_does_not_matter(small, left_order, right_order):
    """Names go with the spots: the generated slice is the same, bit for bit."""
    prepared, before = small
    pair = SMALL[0][left_order].copy(), SMALL[1][right_order].copy()
    other = prepare_interpolation(*pair, progress=False)
    generated = other.at(0.4)
    assert_same(generated, before[0.4])
    assert np.array_equal(generated.layers["mean"], before[0.4].layers["mean"])
    assert other.bandwidth == prepared.bandwidth
    assert other.mean_bandwidth == prepared.mean_bandwidth
    assert np.array_equal(other.warp.coefficients, prepared.warp.coefficients)
    for t, end in zip((0.0, 1.0), pair, strict=True):  # an end stays in the order it was given in
        generated = other.at(t)
        assert list(generated.obs["genot_source_spot"]) == list(end.obs_names)
        rows = before[t].obs["genot_source_spot"].to_numpy()
        rows = pd.Index(rows).get_indexer(generated.obs["genot_source_spot"])
        assert np.array_equal(generated.layers["mean"], before[t].layers["mean"][rows])
    # What is prepared has the rows of the slices that were given.
    assert other.left is pair[0]
    assert other.right is pair[1]
    assert np.array_equal(other.left_points, pair[0].obsm["spatial"])
    plan = prepared.coupling.plan.toarray()[np.ix_(left_order, right_order)]
    assert np.array_equal(other.coupling.plan.toarray(), plan)
    unmatched = prepared.coupling.right_unmatched[right_order]
    assert np.array_equal(other.coupling.right_unmatched, unmatched)
    assert np.array_equal(other.left_embedding, prepared.left_embedding[left_order])
    assert np.array_equal(other.labels.votes[1], prepared.labels.votes[1][right_order])


@pytest.mark.parametrize("angle, stiffness", [(0.3, np.inf), (np.pi / 2, np.inf), (0.0, 0.1)])
def test_motion_of_both_slices_moves_the_result(angle, stiffness):
    """Exactly without a warp, and with one where nothing is turned."""
    shift = np.array([5000.0, -300.0])
    moved = [turned(adata, angle, shift) for adata in (LEFT, RIGHT)]
    options = QUICK | {"label_key": "auto", "stiffness": stiffness}
    before, after = (interpolate(*pair, 0.4, **options) for pair in ((LEFT, RIGHT), moved))
    expected = before.obsm["spatial"] @ turn(angle).T + shift
    np.testing.assert_allclose(after.obsm["spatial"], expected, atol=1e-6)
    np.testing.assert_allclose(after.obsm["X_genot"], before.obsm["X_genot"], atol=1e-4)
    same = np.mean([a == b for a, b in zip(sources(before), sources(after), strict=True)])
    assert same > 0.95  # a rounding error may turn a choice
    agree = before.obs["genot_domain"].to_numpy() == after.obs["genot_domain"].to_numpy()
    assert agree.mean() > 0.99


def test_motion_of_both_slices_moves_the_warp():
    """The warp lives on a grid along the axes, so it turns along only nearly."""
    angle, options = 0.7, QUICK | {"stiffness": 0.1}
    moved = [turned(adata, angle, 0.0) for adata in (LEFT, RIGHT)]
    before, after = (prepare_interpolation(*pair, **options) for pair in ((LEFT, RIGHT), moved))
    size = before.warp.move_left(before.left_points, 0.5) - before.left_points
    here = before.warp.move_left(before.left_points, 0.5) @ turn(angle).T
    there = after.warp.move_left(after.left_points, 0.5)
    off = np.linalg.norm(here - there, axis=1)
    assert np.median(np.linalg.norm(size, axis=1)) > 3 * np.median(off)
    assert np.median(off) < 0.1 * before.spacing


# --- the denoised product ------------------------------------------------------------------------


def map_correlation(values, truth):
    """Mean over genes of the correlation with the expectation of the tissue."""
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(values.T, truth.T, strict=True)])


def test_mean_is_a_better_map_in_the_unit_of_the_counts(halfway):
    mean = halfway.layers["mean"]
    assert mean.dtype == np.float32
    assert (mean >= 0).all()
    column = [int(gene.removeprefix("gene")) for gene in GENES]
    truth = rates(halfway.obsm["spatial"])[:, column]
    scores = [map_correlation(values, truth) for values in (mean, dense(halfway.X))]
    assert scores[0] > 0.8
    assert scores[0] > scores[1] + 0.2
    ratio = mean.mean(axis=0) / dense(halfway.X).mean(axis=0)
    assert np.abs(ratio - 1).max() < 0.35
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    assert mean.var() < dense(halfway.X).var()


def test_mean_of_logarithms_is_a_mean_of_logarithms():
    logged = [adata.copy() for adata in (LEFT, RIGHT)]
    for adata in logged:
        adata.X = as_logarithms(adata.X)
    generated = interpolate(*logged, 0.5, **QUICK | {"mean": True})
    mean = generated.layers["mean"]
    assert mean.max() <= max(adata.X.max() for adata in logged)
    np.testing.assert_allclose(mean.mean(axis=0), dense(generated.X).mean(axis=0), rtol=0.2)


def test_mean_from_a_decoder():
    left, right = make_section(5, 150, -40), make_section(6, 150, 40)
    options = QUICK | {"mean": True}
    decoded, local = (
        interpolate(left, right, 0.5, decode=decode, **options) for decode in (True, False)
    )
    assert_same(decoded, local)  # only the layer differs
    truth = rates(decoded.obsm["spatial"])
    mean = decoded.layers["mean"]
    assert (mean >= 0).all()
    assert mean.dtype == np.float32
    assert map_correlation(mean, truth) > map_correlation(dense(decoded.X), truth) + 0.2
    assert mean.mean() == pytest.approx(dense(decoded.X).mean(), rel=0.3)


def test_mean_can_be_left_out():
    assert "mean" not in interpolate(LEFT, RIGHT, 0.5, **QUICK).layers


# --- labels --------------------------------------------------------------------------------------


def test_labels_are_carried(halfway):
    """Unannotated spots have no vote; most places get the band they are in."""
    confidence = halfway.obs["genot_confidence"]
    assert confidence.between(0, 1).all()
    assert confidence.max() > confidence.min()
    band = np.clip(halfway.obsm["spatial"][:, 0] // 250, 0, 3).astype(int)
    right = halfway.obs["genot_domain"].astype(object) == [f"band {b}" for b in band]
    assert right.mean() > 0.8
    assert right[confidence > 0.9].mean() > right[confidence < 0.7].mean()
    assert "domain_truth" not in halfway.obs  # a carried label is no truth


def test_labels_do_not_touch_spots():
    rng = np.random.default_rng(0)
    shuffled = [adata.copy() for adata in (LEFT, RIGHT)]
    for adata in shuffled:
        adata.obs["domain_truth"] = rng.permutation(adata.obs["domain_truth"].astype(object))
        adata.obs["domain_truth"] = adata.obs["domain_truth"].astype("category")
    results = [
        interpolate(LEFT, RIGHT, 0.5, **QUICK),
        interpolate(*shuffled, 0.5, **QUICK | {"label_key": "domain_truth"}),
    ]
    assert "genot_domain" not in results[0].obs
    assert "genot_confidence" not in results[0].obs
    assert np.array_equal(results[0].obsm["spatial"], results[1].obsm["spatial"])
    assert sources(results[0]) == sources(results[1])


@pytest.mark.parametrize("label_key", ["auto", "domain_truth"])
def test_labels_in_one_slice_only(label_key):
    right = RIGHT.copy()
    del right.obs["domain_truth"]
    options = QUICK | {"label_key": label_key}
    if label_key == "auto":
        assert "genot_domain" not in interpolate(LEFT, right, 0.5, **options).obs
        return
    with pytest.raises(SliceError, match="in the left slice only"):
        interpolate(LEFT, right, 0.5, **options)


def test_unusable_labels():
    left, right = LEFT.copy(), RIGHT.copy()
    with pytest.raises(SliceError, match="kinds"):
        interpolate(left, right, 0.5, **QUICK | {"label_key": "kinds"})
    for adata in (left, right):
        adata.obs["empty"] = pd.Categorical([None] * adata.n_obs)
    with pytest.raises(SliceError, match="names no spot in either slice"):
        interpolate(left, right, 0.5, **QUICK | {"label_key": "empty"})


def test_a_slice_without_annotation_takes_the_labels_of_the_other():
    right = RIGHT.copy()
    right.obs["domain_truth"] = pd.Categorical([np.nan] * right.n_obs)
    generated = interpolate(LEFT, right, 0.5, **QUICK | {"label_key": "domain_truth"})
    assert generated.obs["genot_domain"].notna().all()
    assert set(generated.obs["genot_domain"]) <= set(LEFT.obs["domain_truth"].dropna())


def test_weights_of_the_slices_follow_their_distance():
    labels = CarriedLabels("domain", ["a"], (np.ones((1, 1)),) * 2, 1.0, 0.2, 0.5)
    weights = np.array([labels.weights(t) for t in (0.0, 0.25, 0.5, 1.0)])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights[2], 0.5)
    np.testing.assert_allclose(weights[0], weights[3][::-1])
    assert (np.diff(weights[:, 0]) < 0).all()
    assert weights[0, 0] == pytest.approx(0.5 / 0.7)  # 1 / .2 against 1 / .5


def vote_weights(labels, moved, places):
    return [local_weights(points, places, labels.bandwidth, 1.0) for points in moved]


def test_the_vote_is_a_weighted_share():
    """Against the definition: one label left of x = 5, another right of it, two unknown."""
    points = np.stack(np.mgrid[:10, :10], axis=-1).reshape(-1, 2).astype(float)
    names = np.where(points[:, 0] < 5, "west", "east").astype(object)
    slices = [
        ad.AnnData(obs=pd.DataFrame({"side": names.copy()}, index=map(str, range(100))))
        for _ in "ab"
    ]
    slices[0].obs.loc[["0", "99"], "side"] = np.nan
    labels = prepare_labels(*slices, "side", (points, points), 1.0)
    assert sorted(labels.names) == ["east", "west"]
    assert 0 <= labels.own_error <= labels.other_error
    votes = [v.sum(axis=1) for v in labels.votes]
    assert votes[0].sum() == 98
    assert votes[1].sum() == 100
    places = np.array([[0.0, 4.0], [9.0, 4.0], [4.4, 4.0], [4.6, 4.0]])
    winner, share = labels.carry(0.5, vote_weights(labels, (points, points), places))
    assert list(winner) == ["west", "east", "west", "east"]
    assert share[2] == pytest.approx(share[3])  # mirror images
    assert 0.5 < share[2] < share[0] <= 1.0
    far = np.exp(-0.5 * ((points - places[2]) ** 2).sum(axis=1) / labels.bandwidth**2)
    assert share[2] == pytest.approx(far[names == "west"].sum() / far.sum(), abs=0.05)


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_labels_keep_their_share_of_the_places(seed, n_labels):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(n_labels, 1.0), size=2000)
    shares[rng.random(shares.shape) < 0.1] = 0.0
    shares = shares[shares.sum(axis=1) > 0]
    wanted = 0.5 / n_labels + 0.5 * rng.dirichlet(np.full(n_labels, 3.0))
    winner = keep_composition(shares, wanted)
    assert (shares[np.arange(len(shares)), winner] > 0).all()
    plain = np.bincount(shares.argmax(axis=1), minlength=n_labels) / len(shares)
    found = np.bincount(winner, minlength=n_labels) / len(shares)
    assert np.abs(found - wanted).sum() < max(0.05, 0.6 * np.abs(plain - wanted).sum())


def test_a_thin_layer_does_not_vanish():
    """One column in ten is a layer of its own; a wide vote would give it to its neighbours."""
    points = np.stack(np.mgrid[:40, :20], axis=-1).reshape(-1, 2).astype(float)
    layer = (points[:, 0] == 20).astype(float)
    votes = np.column_stack([1 - layer, layer])
    labels = CarriedLabels("layer", ["bulk", "thin"], (votes, votes), 0.8, 0.1, 0.2)
    rng = np.random.default_rng(0)
    jittered = [points + rng.normal(0, 0.6, points.shape) for _ in "ab"]
    np.testing.assert_allclose(labels.composition(0.3), votes.mean(axis=0))
    winner, _ = labels.carry(0.5, vote_weights(labels, jittered, points))
    thin = np.asarray(winner == "thin")
    assert thin.mean() == pytest.approx(layer.mean(), abs=0.01)
    assert (np.abs(points[thin, 0] - 20) <= 1).mean() > 0.8


def test_places_without_labelled_surroundings_have_none():
    points = np.stack(np.mgrid[:30, :30], axis=-1).reshape(-1, 2).astype(float)
    votes = (points[:, :1] < 10).astype(float)
    labels = CarriedLabels("side", ["west"], (votes, votes), 0.75, 0.1, 0.2)
    weights = vote_weights(labels, (points, points), np.array([[2.0, 2.0], [28.0, 2.0]]))
    winner, share = labels.carry(0.5, weights)
    assert winner[0] == "west"
    assert pd.isna(winner[1])
    np.testing.assert_allclose(share, [1.0, 0.0], rtol=1e-6)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [-0.1, 1.0001, np.nan, np.inf, -np.inf])
def test_positions_lie_between_0_and_1(prepared, t):
    for call in (
        lambda: interpolate(LEFT, RIGHT, t),
        lambda: interpolate_many(LEFT, RIGHT, [0.5, t]),
        lambda: prepared.at(t),
    ):
        with pytest.raises(SliceError, match="position_between"):
            call()


@pytest.mark.parametrize("t", ["0.5", None, [0.5]])
def test_positions_are_numbers(prepared, t):
    for call, name in (
        (lambda: interpolate(LEFT, RIGHT, t), "interpolate"),
        (lambda: prepared.at(t), "Interpolation.at"),
    ):
        with pytest.raises(TypeError, match=f"^{name}: argument t is .*; needed: a number"):
            call()
    with pytest.raises(SliceError, match="position_between"):  # one of several
        interpolate_many(LEFT, RIGHT, [0.5, t])


@pytest.mark.parametrize("n_spots", [-1, 0, 19, 241])
def test_number_of_spots_out_of_range(prepared, n_spots):
    for call in (
        lambda: interpolate(LEFT, RIGHT, 0.5, n_spots=n_spots),
        lambda: interpolate_many(LEFT, RIGHT, [0.5], n_spots=n_spots),
        lambda: prepared.at(0.5, n_spots=n_spots),
    ):
        with pytest.raises(SliceError, match="20 to 240"):
            call()


def test_number_of_spots_is_whole(prepared):
    for call in (interpolate, lambda _, __, t, **options: prepared.at(t, **options)):
        with pytest.raises((SliceError, TypeError), match="n_spots is nan"):
            call(LEFT, RIGHT, 0.5, n_spots=np.nan)
    with pytest.raises(TypeError, match=r"argument n_spots is 70\.5 .*needed: a whole number"):
        prepared.at(0.5, n_spots=70.5)


def spoil(adata, slot):
    adata = adata.copy()
    points = adata.obsm["spatial"]
    if slot == "genes":
        adata.var_names = [f"other {gene}" for gene in adata.var_names]
    elif slot == "spots":
        adata = adata[:0].copy()
    elif slot == "nan":
        points[3, 1] = np.nan
    elif slot == "infinite":
        points[3, 1] = np.inf
    elif slot == "disjoint":
        points += 1e5
    elif slot == "logarithms":
        adata.X = as_logarithms(adata.X)
    elif slot == "constant":
        adata.X = np.ones(adata.shape, dtype=np.float32)
    return adata


@pytest.mark.parametrize(
    "slot, message",
    [
        ("genes", "no gene in common"),
        ("spots", r"(left|right), obs: no spots"),
        ("nan", "NaN or infinite coordinates"),
        ("infinite", "NaN or infinite coordinates"),
        ("disjoint", "No spot has a partner within reach"),
        ("logarithms", "different normalisation"),
    ],
)
def test_slices_that_do_not_fit(slot, message):
    for pair in ((LEFT, spoil(RIGHT, slot)), (spoil(LEFT, slot), RIGHT)):
        with pytest.raises(SliceError, match=message):
            interpolate(*pair, 0.5, progress=False)


def test_slices_in_which_nothing_varies():
    with pytest.raises(SliceError, match="no shared gene varies"):
        interpolate(spoil(LEFT, "constant"), spoil(RIGHT, "constant"), 0.5, progress=False)


@pytest.mark.parametrize(
    "stiffness, error",
    [
        (0, ValueError), (-1.0, ValueError), (np.nan, ValueError), ("soft", ValueError),
        (None, TypeError),
    ],
)  # fmt: skip
def test_stiffness_out_of_range(stiffness, error):
    with pytest.raises(error, match="stiffness is"):
        prepare_interpolation(LEFT, RIGHT, stiffness=stiffness)


# --- position from depth -------------------------------------------------------------------------


@given(st.floats(-1e4, 1e4), st.floats(1.0, 1e4), st.floats(0, 1), st.booleans())
@settings(deadline=None, max_examples=30)
def test_position_from_depth(begin, gap, share, reverse):
    depths = [begin, begin + gap]
    slices = [ad.AnnData(shape=(0, 0)) for _ in range(3)]
    for adata, depth in zip(slices, [*depths, begin + share * gap], strict=True):
        adata.uns["genot"] = {"position_um": depth}
    left, right = slices[1::-1] if reverse else slices[:2]
    expected = 1 - share if reverse else share
    at = min(max(slices[2].uns["genot"]["position_um"], depths[0]), depths[1])
    slices[2].uns["genot"]["position_um"] = at
    assert position_between(left, right, slices[2]) == pytest.approx(expected, abs=1e-7)
    assert position_between(left, right, at) == pytest.approx(expected, abs=1e-7)


def test_depths_that_give_no_position():
    unknown = LEFT.copy()
    unknown.uns = {}
    for args, message in (
        ((unknown, RIGHT, 150.0), "left slice has no"),
        ((LEFT, unknown, 150.0), "right slice has no"),
        ((LEFT, RIGHT, unknown), "third slice has no"),
        ((LEFT, LEFT, 100.0), "nothing lies between"),
        ((LEFT, RIGHT, 99.0), "does not lie between"),
        ((LEFT, RIGHT, np.nan), "does not lie between"),
    ):
        with pytest.raises(SliceError, match=message):
            position_between(*args)
    assert "position_um" not in interpolate(unknown, RIGHT, 0.5, **QUICK).uns["genot"]
