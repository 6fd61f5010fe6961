"""Expression carried from one slice onto the places of another."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from genot_helpers import SliceError, carry_by_expression, carry_expression
from genot_helpers.simulation import simulate_olfactory_bulb


def test_onto_itself_nothing_changes(planted):
    carried = carry_expression(planted, planted)
    assert carried.obs["genot_covered"].all()
    np.testing.assert_allclose(carried.X.toarray(), planted.X.toarray(), atol=1e-5)


def test_a_mean_of_the_source_in_the_place_of_the_target(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    keep = np.random.default_rng(0).permutation(source.n_obs)[:150]
    carried = carry_expression(source[np.sort(keep)].copy(), target)
    assert carried.shape == (target.n_obs, source.n_vars)
    assert list(carried.obs_names) == list(target.obs_names)
    marker = carried[:, "gene0"].X.toarray().ravel()
    band = (target.obs["domain_truth"] == "band 1").to_numpy()
    assert marker[band].mean() > 1.5 * marker[~band].mean()
    totals = np.asarray(carried.X.sum(axis=1)).ravel()[carried.obs["genot_covered"].to_numpy()]
    assert 0.8 < np.median(totals) / np.median(np.asarray(source.X.sum(axis=1)).ravel()) < 1.2


def test_threshold_gives_the_zeros_back(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    target.obsm["spatial"] = target.obsm["spatial"] + 30.0  # between the spots of the source
    source.X = source.X.multiply(source.X > 1).tocsr()
    target = target[: 2 * target.n_obs // 3].copy()
    mean, cut = (carry_expression(source, target, threshold=on) for on in (False, True))
    zeros = [1 - (a.X > 0).mean(axis=0) for a in (source, mean, cut)]
    assert np.mean(zeros[1]) < np.mean(zeros[0]) - 0.02
    covered = cut.obs["genot_covered"].to_numpy()
    at_least = 1 - (cut.X[covered] > 0).mean(axis=0)
    assert (np.asarray(at_least) >= np.asarray(zeros[0]) - 0.01).all()
    kept = cut.X.toarray() > 0
    np.testing.assert_array_equal(cut.X.toarray()[kept], mean.X.toarray()[kept])


def test_genes_of_one_technology_show_their_pattern_in_the_other():
    bulb = simulate_olfactory_bulb(seed=0)
    source, target = bulb["stereoseq"], bulb["slideseqv2"]
    for adata in bulb.values():
        adata.obsm["spatial"] = np.asarray(adata.obsm["spatial_common"])
    target = target[np.sort(np.random.default_rng(0).permutation(target.n_obs)[:2000])].copy()
    source = source[np.sort(np.random.default_rng(1).permutation(source.n_obs)[:3000])].copy()
    carried = carry_expression(source, target)
    shared = [g for g in target.var_names if g in source.var_names]
    depth = np.asarray(target[:, shared].X.mean(axis=0)).ravel()
    genes = [shared[k] for k in np.argsort(-depth)[:30]]
    covered = carried.obs["genot_covered"].to_numpy()
    shuffled = np.random.default_rng(2).permutation(covered.sum())
    seen, ours = (np.log1p(a[covered, genes].X.toarray()) for a in (target, carried))
    right, wrong = (
        np.nanmean([np.corrcoef(seen[:, k], other[:, k])[0, 1] for k in range(len(genes))])
        for other in (ours, ours[shuffled])
    )
    assert right > wrong + 0.05


def test_slices_are_left_alone_and_bad_input_is_refused(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    before = source.X.copy(), target.obs.copy()
    carry_expression(source, target, threshold=True, embedding_weight=0.5)
    assert (abs(source.X - before[0]) > 0).nnz == 0
    assert target.obs.equals(before[1])
    far = target.copy()
    far.obsm["spatial"] = far.obsm["spatial"] + 1e6
    with pytest.raises(SliceError):
        carry_expression(source, far)
    other = target.copy()
    other.var_names = [f"other{k}" for k in range(other.n_vars)]
    with pytest.raises(SliceError, match="gene"):
        carry_expression(source, other)
    logged = target.copy()
    logged.X = sparse.csr_matrix(np.log1p(target.X.toarray()))
    with pytest.raises(SliceError, match="normalisation"):
        carry_expression(source, logged)


def test_labels_ride_along_with_their_share(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    source.obs["domain_truth"] = source.obs["domain_truth"].astype(object)
    source.obs.iloc[:5, source.obs.columns.get_loc("domain_truth")] = np.nan
    for carried in (
        carry_expression(source, target, label_key="domain_truth"),
        carry_expression(source, target, epsilon=2.0, label_key="domain_truth"),
        carry_by_expression(source, target, n_neighbors=15, label_key="domain_truth"),
    ):
        shares = carried.obsm["genot_shares"]
        known = carried.obs["genot_domain"].notna().to_numpy()
        assert known.mean() > 0.95
        np.testing.assert_allclose(shares[known].sum(axis=1), 1.0)
        np.testing.assert_allclose(carried.obs["genot_confidence"], shares.max(axis=1))
        assert (
            shares.idxmax(axis=1)[known] == carried.obs["genot_domain"].astype(str)[known]
        ).all()
        right = carried.obs["genot_domain"].astype(str) == target.obs["domain_truth"].astype(str)
        assert right[known].mean() > 0.75
        assert carried.obs["domain_truth"].equals(target.obs["domain_truth"])  # its own stay


def test_a_blurred_coupling_averages_more(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    rough, smooth = carry_expression(source, target), carry_expression(source, target, epsilon=4.0)
    assert np.mean(smooth.X.toarray().var(axis=0)) < 0.7 * np.mean(rough.X.toarray().var(axis=0))
    np.testing.assert_allclose(smooth.X.mean(), source.X.mean(), rtol=0.05)
    assert smooth.uns["genot"]["epsilon"] == 4.0
    assert "epsilon" not in rough.uns["genot"]


def test_likeness_needs_no_frame_and_knows_the_band(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    hidden = ["gene0", "gene1", "gene5"]
    seen = target[:, [gene for gene in target.var_names if gene not in hidden]].copy()
    carried = carry_by_expression(source, seen, n_neighbors=20)
    assert list(carried.var_names) == list(source.var_names)
    assert carried.obs["genot_covered"].all()
    far = seen.copy()
    far.obsm["spatial"] = far.obsm["spatial"] @ [[0.0, 2.0], [-2.0, 0.0]] + 1e6
    assert (carry_by_expression(source, far, n_neighbors=20).X != carried.X).nnz == 0
    for gene, band in (("gene0", "band 1"), ("gene1", "band 2"), ("gene5", "band 1")):
        value, inside = carried[:, gene].X.toarray().ravel(), target.obs["domain_truth"] == band
        assert value[inside].mean() > 1.5 * value[~inside].mean()
    whole = carry_by_expression(source, target, n_neighbors=10**6)
    np.testing.assert_allclose(
        whole.X.toarray(), np.tile(source.X.mean(axis=0), (300, 1)), rtol=1e-4
    )


def test_bad_input_of_both_ways_is_refused_before_any_work(make_slice):
    source, target = make_slice(seed=1), make_slice(seed=2)
    for carry in (carry_expression, carry_by_expression):
        with pytest.raises(SliceError, match="'organ'"):
            carry(source, target, label_key="organ")
        source.obs["nothing"] = np.nan
        with pytest.raises(SliceError, match="names no spot"):
            carry(source, target, label_key="nothing")
    for name in ("n_neighbors", "n_components"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            carry_by_expression(source, target, **{name: 0})
    with pytest.raises(ValueError, match="epsilon"):
        carry_expression(source, target, epsilon=-1.0)
