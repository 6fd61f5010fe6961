"""Markers of domains, and domains matched by them: planted truth, invariances, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import plant_slice
from hypothesis import given, settings, strategies as st

import genot_helpers as gh
from genot_helpers import SliceError, colour_domains


def sections() -> list:
    """Two sections of one tissue, domains numbered differently in the second one."""
    one, other = plant_slice(seed=0), plant_slice(seed=1)
    other.obs["own"] = other.obs["domain_truth"].cat.rename_categories(
        {"band 1": "c", "band 2": "a", "band 3": "d", "band 4": "b"}
    )
    return [one, other]


def test_markers_are_those_planted(planted):
    gh.normalise(planted)
    table = gh.evaluation.domain_markers(planted, key="domain_truth", n_genes=12)
    assert list(table.index.names) == ["domain", "gene"]
    for number in range(4):
        rows = table.loc[f"band {number + 1}"]
        marking = {f"gene{gene}" for gene in range(number, 60, 5)}
        assert set(rows.index[:8]) <= marking
        assert rows["effect"].is_monotonic_decreasing
        assert (rows["mean_inside"] > rows["mean_outside"]).all()
        assert rows["share_inside"].between(0.1, 1).all()


def test_effect_size_is_cohens_d(planted):
    gh.normalise(planted)
    effect = gh.evaluation.domain_markers(planted, key="domain_truth", n_genes=1)["effect"]
    (domain, gene), value = effect.index[2], effect.iloc[2]
    x = planted[:, gene].layers["log1p"].toarray().ravel().astype(float)
    inside = (planted.obs["domain_truth"] == domain).to_numpy()
    within = (inside.sum() * x[inside].var() + (~inside).sum() * x[~inside].var()) / len(x)
    assert value == pytest.approx((x[inside].mean() - x[~inside].mean()) / np.sqrt(within))


def test_rare_genes_are_no_markers_and_spots_without_domain_do_not_count(planted):
    gh.normalise(planted)
    planted.obs["half"] = planted.obs["domain_truth"].where(np.arange(planted.n_obs) % 2 == 0)
    alone = planted[::2].copy()
    both = [gh.evaluation.domain_markers(one, key="half", n_genes=3) for one in (planted, alone)]
    pd.testing.assert_frame_equal(*both)
    assert gh.evaluation.domain_markers(planted, key="domain_truth", min_share=1.01).empty


def test_domains_are_matched_whatever_they_are_called():
    one, other = sections()
    found = gh.evaluation.match_domains_by_markers(one, other, key="domain_truth", other_key="own")
    assert found == {"a": "band 2", "b": "band 4", "c": "band 1", "d": "band 3"}
    table = gh.evaluation.marker_matches(one, other, key="domain_truth", other_key="own")
    assert (table["correlation"] > table["next_best"]).all()
    gh.rename_domains(other, found, like=one, key="own", like_key="domain_truth")
    assert (other.obs["own"].astype(str) == other.obs["domain_truth"].astype(str)).all()
    assert list(other.obs["own"].cat.categories) == list(one.obs["domain_truth"].cat.categories)
    first = colour_domains(one, key="domain_truth", truth=None)
    assert colour_domains(other, key="own", truth=None) == first


@settings(max_examples=10, deadline=None)
@given(
    order=st.permutations(range(300)),
    turn=st.floats(-3, 3),
    depth=st.integers(1, 5),
    seed=st.integers(0, 5),
)
def test_order_place_depth_and_batch_do_not_matter(order, turn, depth, seed):
    one, other = sections()
    expected = gh.evaluation.match_domains_by_markers(
        one, other, key="domain_truth", other_key="own"
    )
    moved = other[list(order)].copy()
    cos, sin = np.cos(turn), np.sin(turn)
    moved.obsm["spatial"] = moved.obsm["spatial"] @ [[cos, sin], [-sin, cos]] + 1e4
    caught = np.random.default_rng(seed).uniform(0.5, 2.0, moved.n_vars).astype("float32")
    moved.X = moved.X.multiply(depth * np.round(caught, 1)).tocsr()
    moved.X.data = np.ceil(moved.X.data)  # counts remain counts
    assert (
        gh.evaluation.match_domains_by_markers(one, moved, key="domain_truth", other_key="own")
        == expected
    )


def test_tissue_that_the_other_slice_lacks_stays_alone():
    one, other = sections()
    one = one[one.obs["domain_truth"] != "band 3"].copy()
    found = gh.evaluation.match_domains_by_markers(one, other, key="domain_truth", other_key="own")
    assert found == {"a": "band 2", "b": "band 4", "c": "band 1", "d": None}
    gh.rename_domains(other, found, like=one, key="own", like_key="domain_truth", key_added="new")
    assert list(other.obs["new"].cat.categories) == ["band 1", "band 2", "band 4", "new d"]
    assert set(other.obs["own"].cat.categories) == set("abcd")


def test_one_strong_pair_counts_more_than_two_middling_ones(monkeypatch):
    values = pd.DataFrame([[0.61, 0.42], [0.49, -0.31]], index=["x", "y"], columns=["p", "q"])
    monkeypatch.setattr(
        "genot_helpers.evaluation.matching.domain_similarity", lambda *_, **__: values
    )
    assert gh.evaluation.match_domains_by_markers(*sections()) == {"x": "p", "y": None}
    table = gh.evaluation.marker_matches(*sections())
    assert table.loc["x", "next_best"] == 0.42
    assert table.loc["y", "next_best"] == 0.49


def test_agreement_in_place():
    one, other = sections()
    same = gh.evaluation.agreement_in_place(one, other, key="domain_truth")
    assert same["share"] == 1
    assert same["by_chance"] == pytest.approx(0.25, abs=0.01)
    assert same["covered"] == 1
    other.obsm["spatial"] = other.obsm["spatial"] + 1e5
    assert gh.evaluation.agreement_in_place(one, other, key="domain_truth")["covered"] == 0


def test_bad_input_says_what_to_do(planted):
    with pytest.raises(SliceError, match=r"layers\['log1p'\] is missing: run normalise"):
        gh.evaluation.domain_markers(planted, key="domain_truth")
    gh.normalise(planted)
    with pytest.raises(SliceError, match="Find domains first"):
        gh.evaluation.domain_markers(planted)
    planted.obs["one"] = "all"
    with pytest.raises(SliceError, match="one domain only"):
        gh.evaluation.domain_markers(planted, key="one")
    with pytest.raises(SliceError, match="at least 2"):
        gh.evaluation.domain_similarity(planted, planted, key="one")
    stranger = planted.copy()
    stranger.var_names = [f"other{i}" for i in range(stranger.n_vars)]
    with pytest.raises(SliceError, match="no gene in common"):
        gh.evaluation.domain_similarity(planted, stranger, key="domain_truth")
    with pytest.raises(SliceError, match="no match is given"):
        gh.rename_domains(planted, {}, like=planted, key="domain_truth")
    twice = dict.fromkeys(planted.obs["domain_truth"].cat.categories, "band 1")
    with pytest.raises(SliceError, match="one to one"):
        gh.rename_domains(planted, twice, like=planted, key="domain_truth")


@pytest.mark.real_data
def test_regions_of_the_hypothalamus_are_matched_by_markers(real_data_dir):
    one, other = (
        gh.load_slice(f"merfish_{n}", data_source="local", data_dir=real_data_dir) for n in (4, 14)
    )
    found = gh.evaluation.match_domains_by_markers(one, other, key="domain_truth")
    right = sum(theirs == ours for ours, theirs in found.items())
    assert right >= 6  # of 8
