"""Small or noisy sections: what is chosen from left and right alone, said, and done."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import genot_helpers as gh
from genot_helpers.interpolation.placement import Filling, weigh_by_signal

QUICK = {"mean": False, "stiffness": np.inf, "progress": False}


def section(seed, n=200, signal=1.0, depth=3.0, n_genes=40):
    """Make a section with waves of expression; with no signal, spots differ by noise alone."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 100, (n, 2))
    phase = np.linspace(0, 3 * np.pi, n_genes)
    rate = depth * np.exp(signal * np.sin(points[:, :1] / 15 + phase))
    obs = {"domain_truth": pd.Categorical(np.where(points[:, 0] < 50, "one", "other"))}
    return ad.AnnData(
        sparse.csr_matrix(rng.poisson(rate).astype(np.float32)),
        obs=pd.DataFrame(obs, index=[f"s{seed}_{i}" for i in range(n)]),
        obsm={"spatial": points},
    )


def test_of_a_good_and_a_poor_small_section_the_good_one_is_copied():
    good, poor = section(0), section(1, depth=0.05)
    for pair, side in (((good, poor), "left"), ((poor, good), "right")):
        generated = gh.interpolate(*pair, 0.5, **QUICK)
        facts = generated.uns["genot"]
        assert facts["filling"] == "copy"
        assert f"The {side} section is copied" in facts["filling_reason"]
        assert (generated.obs["genot_source"] == side).all()
        own = good.obs["domain_truth"].astype(str)[generated.obs["genot_source_spot"].astype(str)]
        assert (generated.obs["genot_domain"].astype(str).to_numpy() == own.to_numpy()).all()
        np.testing.assert_array_equal(
            generated.X.toarray(), good[own.index].X.toarray()
        )  # spots are real and unchanged


def test_a_vote_that_one_label_wins_gives_way_to_the_labels_of_the_spots():
    rng, slices = np.random.default_rng(1), [section(number, 120) for number in (10, 11)]
    for adata in slices:  # labels that do not depend on the place: the commonest wins every vote
        names = rng.permutation(np.repeat(["most", "some", "few"], [66, 30, 24]))
        adata.obs["domain_truth"] = pd.Categorical(names)
    generated = gh.interpolate(*slices, 0.5, **QUICK)
    own = pd.concat([a.obs["domain_truth"].astype(str) for a in slices])
    own = own[generated.obs["genot_source_spot"].astype(str)].to_numpy()
    assert (generated.obs["genot_domain"].astype(str).to_numpy() == own).all()


def test_the_side_that_is_copied_depends_on_the_position():
    filling = Filling("copy", "", signal=(0.3, 0.15))
    assert [filling.copied_side(t) for t in (0.1, 0.5, 0.6, 0.9)] == [0, 0, 0, 1]


def test_sections_with_signal_are_filled_with_placed_spots():
    generated = gh.interpolate(section(2), section(3), 0.5, **QUICK)
    assert generated.uns["genot"]["filling"] == "placed"
    assert "autocorrelation" in generated.uns["genot"]


@pytest.mark.parametrize("n", [30, 91])
def test_noise_alone_breaks_nothing(n):
    left, right = section(4, n, signal=0.0), section(5, n, signal=0.0)
    facts = gh.interpolate(left, right, 0.5, **QUICK).uns["genot"]
    assert facts["filling"] in ("placed", "mixture", "copy")
    assert facts["filling_reason"].endswith(".")


@pytest.mark.parametrize("way", ["placed", "mixture", "copy"])
def test_what_is_asked_for_is_done(way):
    left, right = section(6, 80), section(7, 70)
    generated = gh.interpolate(left, right, 0.4, filling=way, **QUICK)
    assert generated.uns["genot"]["filling"] == way
    assert not generated.obs["genot_source_spot"].duplicated().any()
    sides = generated.obs["genot_source"].value_counts()
    assert (sides.min() == 0) == (way == "copy")


def test_a_misspelt_filling_is_refused():
    with pytest.raises(ValueError, match="filling is 'copied'"):
        gh.prepare_interpolation(section(8, 40), section(9, 40), filling="copied")


def test_noise_components_lose_their_weight():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (300, 2))
    values = np.column_stack([np.sin(points[:, 0] / 15), rng.normal(size=300)]).astype(np.float32)
    one, other = weigh_by_signal((points, points), (values, values))
    ratio = one.std(axis=0) / values.std(axis=0)
    assert ratio[1] < 0.4 * ratio[0]
    assert (one**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_array_equal(one, other)
