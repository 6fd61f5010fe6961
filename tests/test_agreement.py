"""Domains of two slices in one frame: agreement without labels, and names in common."""

from __future__ import annotations

import pandas as pd
import pytest

from genot_helpers import SliceError
from genot_helpers.evaluation import domain_agreement, name_domains_like


def named(adata, names):
    """Copy the annotated bands into the domain column, under other names."""
    out = adata.copy()
    bands = out.obs["domain_truth"].cat.categories
    out.obs["genot_domain"] = (
        out.obs["domain_truth"].map(dict(zip(bands, names, strict=True))).astype("category")
    )
    return out


@pytest.fixture
def pair(make_slice):
    """Return the same bands in two slices whose spots lie in other places."""
    one, other = named(make_slice(seed=1), "1234"), named(make_slice(seed=2), "4123")
    other.obsm["spatial"] = other.obsm["spatial"] + [20.0, 15.0]
    return one, other


def test_the_same_borders_agree_whatever_they_are_called(pair):
    one, other = pair
    assert domain_agreement(one, one) == 1
    before = domain_agreement(one, other)
    assert 0.7 < before < 1  # borders lie between spots
    assert domain_agreement(other, one) == pytest.approx(before)
    other.obs["genot_domain"] = other.obs["genot_domain"].cat.rename_categories(list("abcd"))
    assert domain_agreement(one, other) == pytest.approx(before)


def test_borders_that_cross_do_not_agree(pair):
    one, other = pair
    height = other.obsm["spatial"][:, 1]
    other.obs["genot_domain"] = pd.cut(height, 4, labels=list("1234"))
    assert abs(domain_agreement(one, other)) < 0.1


def test_names_follow_the_place(pair):
    one, other = pair
    partition = other.obs["genot_domain"].copy()
    names = name_domains_like(one, other)
    assert names == {"4": "1", "1": "2", "2": "3", "3": "4"}
    assert (other.obs["genot_domain"].astype(str) == partition.astype(str).map(names)).all()
    place = other.obs["domain_truth"].str[-1]
    assert (other.obs["genot_domain"].astype(str) == place).all()


def test_a_domain_without_partner_gets_a_name_of_its_own(pair):
    one, other = pair
    split = other.obs["genot_domain"].astype(object)
    split[other.obsm["spatial"][:, 1] < 200] = "top"
    other.obs["genot_domain"] = split.astype("category")
    names = name_domains_like(one, other)
    assert sorted(names.values()) == list("12345")
    assert names["top"] == "5"


def test_missing_domains_and_separate_frames_are_refused(pair, planted):
    one, other = pair
    with pytest.raises(SliceError, match="genot_domain"):
        domain_agreement(one, planted)
    other.obsm["spatial"] = other.obsm["spatial"] + 1e5
    with pytest.raises(SliceError, match="overlap"):
        name_domains_like(one, other)
