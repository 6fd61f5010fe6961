"""Cells pooled into squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from genot_helpers import SliceError, pool_spots


@settings(max_examples=25, deadline=None)
@given(side=st.floats(40.0, 5000.0))
def test_nothing_is_lost_and_every_spot_lies_in_its_square(side):
    from conftest import plant_slice

    adata = plant_slice()
    pooled = pool_spots(adata, side)
    assert pooled.obs["n_spots"].sum() == adata.n_obs
    np.testing.assert_allclose(pooled.X.sum(axis=0), adata.X.sum(axis=0), rtol=1e-5)
    middle = pooled.obsm["spatial"][adata.obs["genot_pool"]]
    assert (np.abs(adata.obsm["spatial"] - middle) <= side / 2 * (1 + 1e-9)).all()
    assert len(np.unique(pooled.obsm["spatial"], axis=0)) == pooled.n_obs
    total = adata.X[(adata.obs["genot_pool"] == 0).to_numpy()].sum(axis=0)
    np.testing.assert_allclose(pooled.X[0].toarray(), total)


def test_labels_by_majority_and_missing_columns_are_skipped(planted):
    labels = planted.obs["domain_truth"].astype(object)
    labels.iloc[:7] = np.nan
    planted.obs["domain_truth"] = labels
    pooled = pool_spots(planted, 1e6, label_keys=("domain_truth", "no such"))
    assert pooled.n_obs == 1
    assert pooled.obs["domain_truth"].iloc[0] == labels.value_counts().sort_index().idxmax()
    assert "no such" not in pooled.obs
    fine = pool_spots(planted, 60.0)
    assert fine.n_obs == planted.n_obs
    assert fine.obs["domain_truth"].isna().sum() == 7
    assert set(fine.obs["domain_truth"].dropna()) == set(labels.dropna())


def test_what_cannot_be_pooled(planted):
    for side in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="positive length"):
            pool_spots(planted, side)
    with pytest.raises(ValueError, match="side is nan: give a positive length"):
        pool_spots(planted, np.nan)
    del planted.obsm["spatial"]
    with pytest.raises(SliceError, match="there are no coordinates"):
        pool_spots(planted, 10.0)
